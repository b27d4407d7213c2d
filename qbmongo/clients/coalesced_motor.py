"""Motor: writes that travel together. They run even if nobody awaits them.

A call's Future exists from the beginning. Everything that is sent is sent from executor threads,
so that a loop that has ended, or a Future that was dropped, leaves no write unsent.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable
from typing import Any

import motor.frameworks.asyncio as executor

from ..core.lanes import Lane
from ..records import Batch, JoinedWrite, Slot
from .batches import SEND_ALONE, Raised, plain_arguments, plain_result
from .coalesced import Go, Sender
from .coalesced_async import arm
from .coalesced_sync import carry, list_indexes
from .writes import Write

__all__ = ["bring", "flush", "read_indexes", "send", "write_joined"]


class FutureSlot:
    """A Future of the program's that a batch will resolve."""

    __slots__ = ("context", "future", "loop", "method")

    def __init__(self, loop: Any, method: Callable[..., Any]) -> None:
        self.loop = loop
        self.future = loop.create_future()
        # For the plain call, if that is what follows.
        self.method = method
        self.context = contextvars.copy_context()

    @property
    def is_gone(self) -> bool:
        """The program cancelled it."""
        return bool(self.future.cancelled())


def write_joined(
    sender: Sender,
    collection: Any,
    loop: Any,
    sync_method: Callable[..., Any],
    admitted: tuple[Lane, JoinedWrite],
    write: Write,
) -> Any:
    """A write that may travel with others, as a Future. collection: the driver's own."""
    lane, joined = admitted
    go: Any = sender.enter(lane, write)
    if go is None:
        waiter = FutureSlot(loop, sync_method)
        write.collection, write.client = collection, collection.database.client
        slot: Any = sender.gather(lane, joined, write, waiter)
        if type(slot) is Slot:
            if lane.timer is None:
                with contextlib.suppress(RuntimeError):  # a closed loop
                    arm(sender, lane, loop)
            return waiter.future
        go = slot
    write.freeze(collection.codec_options)
    begun: list[bool] = []

    def job() -> Any:
        begun.append(True)
        result = _plain(sync_method, collection, write, go)
        write.done(result)
        return result

    try:
        future = executor.run_on_executor(loop, job)
    except BaseException:  # a closed loop
        if type(go) is Go:
            go.landed()
        raise
    if type(go) is Go:

        def ended(done: Any) -> None:
            # Cancelled before a thread took it: then nobody else tells.
            if done.cancelled() and not begun:
                go.landed()

        future.add_done_callback(ended)
    return future


def _plain(method: Callable[..., Any], collection: Any, write: Write, go: Any) -> Any:
    """The plain call, in an executor thread."""
    try:
        return method(collection, *write.args, **write.kwargs)
    except BaseException:
        write.failed()
        raise
    finally:
        if type(go) is Go:
            go.landed()


def _run(job: Callable[[], Any], context: contextvars.Context) -> None:
    """Runs a job in an executor thread; in this one if the interpreter is ending."""
    try:
        executor._EXECUTOR.submit(context.run, job)
    except RuntimeError:
        context.run(job)


def send(sender: Sender, lane: Lane, batch: Batch) -> None:
    """Sends a batch from an executor thread, in an empty context."""
    _run(functools.partial(carry, sender, lane, batch), contextvars.Context())


def bring(sender: Sender, answers: list[tuple[Slot, Any]]) -> None:
    """Resolves the Futures; plain calls that have to follow are sent whoever waits for them."""
    ready: dict[Any, list[tuple[Any, Any]]] = {}
    for slot, answer in answers:
        waiter = slot.waiter
        if answer is SEND_ALONE or type(answer) is Go:
            go = answer if type(answer) is Go else None
            _run(functools.partial(_alone, slot, go), waiter.context)
            continue
        slot.item.call.joined(None if type(answer) is Raised else answer)
        ready.setdefault(waiter.loop, []).append((waiter.future, answer))
    for loop, pairs in ready.items():
        with contextlib.suppress(RuntimeError):  # a closed loop: nobody waits any more
            loop.call_soon_threadsafe(_resolve, pairs, context=contextvars.Context())


def _alone(slot: Slot, go: Go | None) -> None:
    """A gathered write's plain call, in an executor thread."""
    waiter = slot.waiter
    call: Write = slot.item.call
    if waiter.is_gone:
        if go is not None:
            go.landed()
        return
    answer: Any
    try:
        call.args, call.kwargs = plain_arguments(slot.item)
        result = _plain(waiter.method, call.collection, call, go)
        call.joined(result)
        answer = plain_result(slot.item, result)
    except BaseException as error:
        answer = Raised(error)
    with contextlib.suppress(RuntimeError):
        waiter.loop.call_soon_threadsafe(
            _resolve, [(waiter.future, answer)], context=contextvars.Context()
        )
    # An error's traceback holds this frame: nothing here may hold the error.
    del answer, slot, waiter


def _resolve(pairs: list[tuple[Any, Any]]) -> None:
    for future, answer in pairs:
        if future.done():
            continue
        if type(answer) is Raised:
            future.set_exception(answer.error)
        else:
            future.set_result(answer)


def read_indexes(sender: Sender, namespace: str, collection: Any) -> None:
    """Reads the definitions of a collection's indexes in an executor thread."""
    _run(functools.partial(list_indexes, sender, namespace, collection), contextvars.Context())


class _Flushed:
    """Whoever waits in a loop until what was pending is over; told from any thread."""

    __slots__ = ("_loop", "future")

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self.future = loop.create_future()

    def deliver(self, _: None) -> None:
        with contextlib.suppress(RuntimeError):  # a closed loop: nobody waits any more
            self._loop.call_soon_threadsafe(_resolve, [(self.future, None)])


async def flush(sender: Sender, loop: Any) -> None:
    """Returns when every write that could have joined others, and was begun before, is over."""
    flushed = _Flushed(loop)
    sender.flush(flushed)
    await flushed.future
