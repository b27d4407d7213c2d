"""PyMongo Async: writes that travel together. A batch is sent by a task of its own."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Coroutine
from typing import Any

import pymongo.asynchronous.collection
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from ..core.lanes import Lane
from ..records import Batch, JoinedWrite, Slot
from .batches import SEND_ALONE, Raised, documents, models, plain_arguments, plain_result
from .coalesced import Go, Sender
from .listener import WIRE, Wire
from .writes import Write

__all__ = ["arm", "bring", "flush", "read_indexes", "send", "write_joined"]

_Driver = pymongo.asynchronous.collection.AsyncCollection


class TaskSlot(asyncio.Future[Any]):
    """What a task waits for: its part of a batch. is_gone: nobody waits any more."""

    is_gone = property(asyncio.Future.done)


async def write_joined(
    sender: Sender,
    collection: Any,
    driver_method: Any,
    admitted: tuple[Lane, JoinedWrite],
    write: Write,
) -> Any:
    """A write that may travel with others: alone at once, or with those that gather."""
    lane, joined = admitted
    gathered: JoinedWrite | None = None
    go: Any = sender.enter(lane, write)
    if go is None:
        loop = asyncio.get_running_loop()
        waiter = TaskSlot(loop=loop)
        write.collection, write.client = collection, collection.database.client
        slot: Any = sender.gather(lane, joined, write, waiter)
        if type(slot) is Slot:
            if lane.timer is None:
                arm(sender, lane, loop)
            try:
                answer = await waiter
            except BaseException:
                _given_up(sender, lane, slot, waiter)
                write.failed()
                raise
            if type(answer) is Raised:
                write.joined(None)
                try:
                    raise answer.error
                finally:
                    # The error's traceback holds this frame: nothing here may hold the error.
                    del answer, slot, waiter
            if answer is not SEND_ALONE and type(answer) is not Go:
                write.joined(answer)
                return answer
            write.args, write.kwargs = plain_arguments(slot.item)
            go = answer if type(answer) is Go else None
            gathered = slot.item
            # As above: the driver's own errors hold their tracebacks for a while.
            del answer, slot, waiter
        else:
            go = slot
    try:
        result = await driver_method(collection, *write.args, **write.kwargs)
    except BaseException:
        write.failed()
        raise
    finally:
        if type(go) is Go:
            go.landed()
    if gathered is None:
        write.done(result)
        return result
    write.joined(result)
    return plain_result(gathered, result)


def _given_up(sender: Sender, lane: Lane, slot: Slot, waiter: TaskSlot) -> None:
    """The task was cancelled."""
    sender.leave(lane, slot)
    # It may have been given a place in the same turn.
    if waiter.done() and not waiter.cancelled() and type(waiter.result()) is Go:
        waiter.result().landed()


def arm(sender: Sender, lane: Lane, loop: asyncio.AbstractEventLoop) -> None:
    """Has a lane looked at when what gathers there is due."""
    due_s = lane.due_s()
    if due_s is not None:
        lane.timer = contextvars.Context().run(
            loop.call_at, _on(loop, due_s), _due, sender, lane, loop
        )


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
    for slot in batch.slots:
        with contextlib.suppress(RuntimeError):  # a closed loop: nobody waits any more
            slot.waiter.cancel()


def _spawn(sender: Sender, work: Coroutine[Any, Any, None]) -> None:
    task = contextvars.Context().run(asyncio.get_running_loop().create_task, work)
    sender.tasks.add(task)
    task.add_done_callback(sender.tasks.discard)


async def _carry(sender: Sender, lane: Lane, batch: Batch) -> None:
    call: Write = batch.slots[0].item.call
    collection = call.collection
    wire = Wire()
    WIRE.set(wire)
    result: Any = None
    error: BaseException | None = None
    try:
        if batch.slots[0].item.kind == "insert_one":
            result = await _Driver.insert_many(collection, documents(batch), ordered=False)
        else:
            result = await AsyncMongoClient.bulk_write(
                call.client,
                models(batch, call.scope.namespace),
                ordered=False,
                verbose_results=True,
                write_concern=collection.write_concern,
            )
    except Exception as raised:
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
        del error, result, batch, call


def bring(sender: Sender, answers: list[tuple[Slot, Any]]) -> None:
    """Gives tasks their answers."""
    for slot, answer in answers:
        future = slot.waiter
        try:
            if not future.done():
                future.set_result(answer)
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
