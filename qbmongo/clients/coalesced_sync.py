"""The synchronous client: writes of several threads that travel together.

A batch is sent by a thread of its own, so that no caller's interruption disturbs the others.
"""

from __future__ import annotations

import functools
import threading
import time
from typing import Any

import pymongo.collection
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from ..core.lanes import Lane
from ..records import Batch, JoinedWrite, WriteKind
from .batches import Raised, Told, documents, models
from .coalesced import Go, Sender
from .joined_calls import JOINED_KINDS
from .listener import WIRE, Wire
from .parts import bound_sync_session, may_share
from .writes import Write

__all__ = [
    "bring",
    "carry",
    "flush",
    "is_gone",
    "list_indexes",
    "observed_write",
    "read_indexes",
    "send",
]

_Driver = pymongo.collection.Collection


class ThreadSlot:
    """A thread that waits for its part of a batch."""

    __slots__ = ("_answer", "_ready", "is_gone")

    def __init__(self) -> None:
        self._ready = threading.Lock()
        self._ready.acquire()
        self._answer: Any = None
        self.is_gone = False

    def deliver(self, answer: Any) -> None:
        self._answer = answer
        self._ready.release()
        if self.is_gone and type(answer) is Go:
            answer.landed()

    def wait(self, timeout_s: float) -> bool:
        """Whether there is an answer, after so many seconds at most."""
        return self._ready.acquire(timeout=timeout_s)

    @property
    def answer(self) -> Any:
        return self._answer

    def give_up(self) -> None:
        """The thread was interrupted."""
        self.is_gone = True
        if type(self._answer) is Go:
            self._answer.landed()


def is_gone(waiter: ThreadSlot) -> bool:
    """Whether nobody waits any more."""
    return waiter.is_gone


def observed_write(kind: WriteKind) -> Any:
    """A write method of the driver's that tells the engine before and after."""
    driver_method = getattr(_Driver, kind)
    may_join = kind in JOINED_KINDS

    @functools.wraps(driver_method)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        scope = self._qb
        if scope is None or not scope.active:
            return driver_method(self, *args, **kwargs)
        write = None
        if may_join and scope.coalesce is not None:
            sender = self._database._client._qb.sender
            session = bound_sync_session()
            new_waiter = ThreadSlot if may_share() else None
            write = sender.join(scope, self, kind, args, kwargs, session, new_waiter)
            if type(write) is JoinedWrite:
                answer = _answer(sender, write)
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
            write = Write(scope, kind, args, kwargs, self.codec_options)
        try:
            result = driver_method(self, *write.args, **write.kwargs)
        except BaseException:
            write.failed()
            raise
        finally:
            if write.go is not None:
                write.go.landed()
        return write.finished(result)

    return method


def _answer(sender: Sender, write: JoinedWrite) -> Any:
    waiter: ThreadSlot = write.waiter
    lane = write.lane
    try:
        while write.batch is None:
            # Every thread that waits looks itself when it is held up; none has to for others.
            due_s = sender.due_s(lane)
            if waiter.wait(_LONGEST_S if due_s is None else max(0.0, due_s - time.monotonic())):
                return waiter.answer
            sender.overdue(lane)
        waiter.wait(-1)
    except BaseException:
        waiter.give_up()
        sender.given_up(write)
        raise
    return waiter.answer


# Nothing gathers there, so our slot is being dispatched.
_LONGEST_S = 1.0


def send(sender: Sender, lane: Lane, batch: Batch) -> None:
    """Sends a batch in a thread of its own, in an empty context."""
    sender.threads.run(functools.partial(carry, sender, lane, batch))


def carry(sender: Sender, lane: Lane, batch: Batch) -> None:
    """Sends a batch and gives everyone in it what it brought; blocks."""
    first: JoinedWrite = batch.slots[0]
    kind, namespace, collection = first.kind, first.scope.namespace, first.collection
    del first
    wire = Wire()
    token = WIRE.set(wire)
    result: Any = None
    error: BaseException | None = None
    try:
        if kind == "insert_one":
            result = _Driver.insert_many(collection, documents(batch), ordered=False)
        else:
            result = MongoClient.bulk_write(
                collection.database.client,
                models(batch, namespace),
                ordered=False,
                verbose_results=True,
                write_concern=collection.write_concern,
            )
    except BaseException as raised:
        error = raised
    finally:
        WIRE.reset(token)
    try:
        sender.outcome(lane, batch, result, error, wire)
    finally:
        # An error's traceback holds this frame: nothing here may hold the error, or the batch.
        del error, result, batch


def bring(sender: Sender, writes: list[JoinedWrite], given: list[Any]) -> None:
    """Gives threads their answers."""
    for write, answer in zip(writes, given, strict=True):
        write.waiter.deliver(answer)


def read_indexes(sender: Sender, namespace: str, collection: Any) -> None:
    """Reads the definitions of a collection's indexes in a thread of its own."""
    sender.threads.run(functools.partial(list_indexes, sender, namespace, collection))


def list_indexes(sender: Sender, namespace: str, collection: Any) -> None:
    """Reads the definitions of a collection's indexes; blocks."""
    indexes = None
    try:
        indexes = list(_Driver.list_indexes(collection))
    except PyMongoError:
        pass  # a view, or not allowed: nothing is known then
    finally:
        sender.indexes_read(namespace, indexes)


class _Flushed:
    """Whoever waits until what was pending is over."""

    __slots__ = ("ready",)

    def __init__(self) -> None:
        self.ready = threading.Event()

    def deliver(self, _: None) -> None:
        self.ready.set()


def flush(sender: Sender, timeout_s: float | None = None) -> None:
    """Returns when every write that could have joined others, and was begun before, is over; or
    after so many seconds."""
    flushed = _Flushed()
    if sender.threads is None or may_share() or not sender.is_gathering:
        sender.flush(flushed)
    else:
        # What a signal interrupts here, others would wait for in vain.
        sender.threads.run(functools.partial(sender.flush, flushed))
    flushed.ready.wait(timeout_s)
