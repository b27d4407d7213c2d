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
from ..records import Batch, JoinedWrite, Slot
from .batches import SEND_ALONE, Raised, documents, models, plain_arguments, plain_result
from .coalesced import Go, Sender
from .listener import WIRE, Wire
from .writes import Write

__all__ = ["bring", "carry", "flush", "list_indexes", "read_indexes", "send", "write_joined"]

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


def write_joined(
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
        waiter = ThreadSlot()
        write.collection, write.client = collection, collection.database.client
        slot: Any = sender.gather(lane, joined, write, waiter)
        if type(slot) is Slot:
            answer = _answer(sender, lane, slot, waiter, write)
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
            write.freeze(collection.codec_options)
    else:
        write.freeze(collection.codec_options)
    try:
        result = driver_method(collection, *write.args, **write.kwargs)
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


def _answer(sender: Sender, lane: Lane, slot: Slot, waiter: ThreadSlot, write: Write) -> Any:
    try:
        while slot.batch is None:
            # Every thread that waits looks itself when it is held up; none has to for others.
            due_s = sender.due_s(lane)
            if waiter.wait(_LONGEST_S if due_s is None else max(0.0, due_s - time.monotonic())):
                return waiter.answer
            sender.overdue(lane)
        waiter.wait(-1)
    except BaseException:
        sender.leave(lane, slot)
        waiter.give_up()
        write.failed()
        raise
    return waiter.answer


# Nothing gathers there, so our slot is being dispatched.
_LONGEST_S = 1.0


def send(sender: Sender, lane: Lane, batch: Batch) -> None:
    """Sends a batch in a thread of its own, in an empty context."""
    sender.threads.run(functools.partial(carry, sender, lane, batch))


def carry(sender: Sender, lane: Lane, batch: Batch) -> None:
    """Sends a batch and gives everyone in it what it brought; blocks."""
    call: Write = batch.slots[0].item.call
    collection = call.collection
    wire = Wire()
    token = WIRE.set(wire)
    result: Any = None
    error: BaseException | None = None
    try:
        if batch.slots[0].item.kind == "insert_one":
            result = _Driver.insert_many(collection, documents(batch), ordered=False)
        else:
            result = MongoClient.bulk_write(
                call.client,
                models(batch, call.scope.namespace),
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
        del error, result, batch, call


def bring(sender: Sender, answers: list[tuple[Slot, Any]]) -> None:
    """Gives threads their answers."""
    for slot, answer in answers:
        slot.waiter.deliver(answer)


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
    sender.flush(flushed)
    flushed.ready.wait(timeout_s)
