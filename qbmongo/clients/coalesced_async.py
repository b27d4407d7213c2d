"""PyMongo Async: writes that travel together. A batch is sent by a task of its own."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import time
from collections.abc import Coroutine
from typing import Any

import pymongo.asynchronous.collection
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from ..core.lanes import Lane
from ..records import Batch, JoinedWrite, WriteKind
from .batches import Raised, Told, documents, models
from .coalesced import Go, Sender
from .joined_calls import JOINED_KINDS
from .listener import WIRE, Wire
from .parts import bound_async_session
from .writes import Write

__all__ = ["arm", "bring", "flush", "is_gone", "observed_write", "read_indexes", "send"]

_Driver = pymongo.asynchronous.collection.AsyncCollection


def is_gone(waiter: asyncio.Future[Any]) -> bool:
    """Whether nobody waits any more."""
    return waiter.done()


def observed_write(kind: WriteKind) -> Any:
    """A write method of the driver's that tells the engine before and after.

    One coroutine for all that may happen to a call: a second one would cost each of many callers.
    """
    driver_method = getattr(_Driver, kind)
    may_join = kind in JOINED_KINDS

    @functools.wraps(driver_method)
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        scope = self._qb
        if scope is None or not scope.active:
            return await driver_method(self, *args, **kwargs)
        write = None
        if may_join and scope.coalesce is not None:
            sender = self._database._client._qb.sender
            loop = asyncio.get_running_loop()
            session = bound_async_session()
            write = sender.join(scope, self, kind, args, kwargs, session, loop.create_future)
            if type(write) is JoinedWrite:
                # Copied; nothing that waits has to be walked through by the garbage collector.
                del args, kwargs
                if write.lane.timer is None:
                    arm(sender, write.lane, loop)
                try:
                    answer = await write.waiter
                except BaseException:
                    _given_up(sender, write)
                    raise
                if not isinstance(answer, Told):
                    return answer
                if type(answer) is Raised:
                    try:
                        raise answer.error
                    finally:
                        # The error's traceback holds this frame: nothing here may hold the error.
                        del answer, write
                write = sender.alone(write, answer)
                del answer
        if write is None:
            write = Write(scope, kind, args, kwargs)
        try:
            result = await driver_method(self, *write.args, **write.kwargs)
        except BaseException:
            write.failed()
            raise
        finally:
            if write.go is not None:
                write.go.landed()
        return write.finished(result)

    return method


def _given_up(sender: Sender, write: JoinedWrite) -> None:
    """The task was cancelled."""
    sender.given_up(write)
    # It may have been given a place in the same turn.
    waiter = write.waiter
    if waiter.done() and not waiter.cancelled() and type(waiter.result()) is Go:
        waiter.result().landed()


def arm(sender: Sender, lane: Lane, loop: asyncio.AbstractEventLoop) -> None:
    """Has a lane looked at when what gathers there is due."""
    due_s = sender.due_s(lane)
    if due_s is not None:
        contextvars.Context().run(loop.call_at, _on(loop, due_s), _due, sender, lane, loop)
        lane.timer = loop


def _on(loop: asyncio.AbstractEventLoop, due_s: float) -> float:
    """An instant of the monotonic clock on the loop's own."""
    return loop.time() + due_s - time.monotonic()


def _due(sender: Sender, lane: Lane, loop: asyncio.AbstractEventLoop) -> None:
    lane.timer = None
    if sender.overdue(lane) is not None:
        arm(sender, lane, loop)


def send(sender: Sender, lane: Lane, batch: Batch) -> None:
    """Sends a batch in a task of its own, in an empty context."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        # The loop has ended, and what is left of its tasks is being collected.
        _give_up(batch)
        sender.landed(lane, batch.sending)
        return
    _spawn(sender, _carry(sender, lane, batch))


def _give_up(batch: Batch) -> None:
    for write in batch.slots:
        with contextlib.suppress(RuntimeError):  # a closed loop: nobody waits any more
            write.waiter.cancel()


def _spawn(sender: Sender, work: Coroutine[Any, Any, None]) -> None:
    task = contextvars.Context().run(asyncio.get_running_loop().create_task, work)
    sender.tasks.add(task)
    task.add_done_callback(sender.tasks.discard)


async def _carry(sender: Sender, lane: Lane, batch: Batch) -> None:
    first: JoinedWrite = batch.slots[0]
    kind, namespace, collection = first.kind, first.scope.namespace, first.collection
    del first
    wire = Wire()
    WIRE.set(wire)
    result: Any = None
    error: BaseException | None = None
    try:
        if kind == "insert_one":
            result = await _Driver.insert_many(collection, documents(batch), ordered=False)
        else:
            result = await AsyncMongoClient.bulk_write(
                collection.database.client,
                models(batch, namespace),
                ordered=False,
                verbose_results=True,
                write_concern=collection.write_concern,
            )
    except (Exception, asyncio.CancelledError) as raised:
        # Cancelled is this task by who cancels every one that there is, as the loop's end does: who
        # was cancelled, too, waits no more, and who was not is told.
        error = raised
    except BaseException:
        # The loop is ending: so do those who wait.
        _give_up(batch)
        sender.landed(lane, batch.sending)
        raise
    try:
        sender.outcome(lane, batch, result, error, wire)
    finally:
        # An error's traceback holds this frame: nothing here may hold the error, or the batch.
        del error, result, batch


def bring(sender: Sender, writes: list[JoinedWrite], given: list[Any]) -> None:
    """Gives tasks their answers."""
    for write, answer in zip(writes, given, strict=True):
        waiter = write.waiter
        try:
            if not waiter.done():
                waiter.set_result(answer)
                continue
        except RuntimeError:  # a closed loop: nobody waits any more
            pass
        if type(answer) is Go:
            answer.landed()


def read_indexes(sender: Sender, namespace: str, collection: Any) -> None:
    """Reads the definitions of a collection's indexes in a task of its own."""
    _spawn(sender, _indexes(sender, namespace, collection))


async def _indexes(sender: Sender, namespace: str, collection: Any) -> None:
    indexes = None
    try:
        indexes = [index async for index in await _Driver.list_indexes(collection)]
    except PyMongoError:
        pass  # a view, or not allowed: nothing is known then
    finally:
        sender.indexes_read(namespace, indexes)


class _Flushed:
    """Whoever waits until what was pending is over."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def deliver(self, _: None) -> None:
        if not self.future.done():
            self.future.set_result(None)


async def flush(sender: Sender) -> None:
    """Returns when every write that could have joined others, and was begun before, is over."""
    flushed = _Flushed()
    sender.flush(flushed)
    await flushed.future
