"""Motor: writes that travel together. They run even if nobody awaits them.

A call's Future exists from the beginning. Everything that is sent is sent from executor threads,
so that a loop that has ended, or a Future that was dropped, leaves no write unsent.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import motor.frameworks.asyncio as executor
import motor.motor_asyncio as driver
import pymongo.collection
from motor.metaprogramming import unwrap_args_session, unwrap_kwargs_session

from ..core.lanes import Lane
from ..records import Batch, JoinedWrite, WriteKind
from .batches import Raised
from .coalesced import Go, Sender
from .coalesced_async import arm
from .coalesced_sync import carry, list_indexes
from .joined_calls import JOINED_KINDS
from .parts import bound_sync_session
from .writes import Write

__all__ = ["bring", "flush", "is_gone", "observed_write", "read_indexes", "send"]


class FutureSlot:
    """A Future of the program's that a batch will resolve."""

    __slots__ = ("context", "future", "loop", "method")

    def __init__(self, loop: Any, method: Callable[..., Any]) -> None:
        self.loop = loop
        self.future = loop.create_future()
        # For the plain call, if that is what follows.
        self.method = method
        self.context = contextvars.copy_context()


def is_gone(waiter: FutureSlot) -> bool:
    """Whether the program cancelled it."""
    return bool(waiter.future.cancelled())


def observed_write(kind: WriteKind) -> Any:
    """A write method of the driver's that tells the engine before and after."""
    driver_method = getattr(driver.AsyncIOMotorCollection, kind)
    sync_method = getattr(pymongo.collection.Collection, kind)
    may_join = kind in JOINED_KINDS

    @functools.wraps(driver_method)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        scope = self._qb
        if scope is None or not scope.active:
            return driver_method(self, *args, **kwargs)
        delegate, loop = self.delegate, self.get_io_loop()
        if may_join and scope.coalesce is not None:
            sender = self.database.client._qb.sender
            session = bound_sync_session()
            write = sender.join(
                scope,
                delegate,
                kind,
                args,
                kwargs,
                session,
                functools.partial(FutureSlot, loop, sync_method),
            )
            if type(write) is JoinedWrite:
                timer = write.lane.timer
                # One loop may follow another that was closed, and its timers with it.
                if timer is not loop and (timer is None or timer.is_closed()):
                    with contextlib.suppress(RuntimeError):  # a closed loop
                        arm(sender, write.lane, loop)
                return write.waiter.future
            if write is not None:
                return _alone_at_once(loop, sync_method, delegate, write)
        write = Write(scope, kind, args, kwargs, delegate.codec_options)
        write.args = tuple(unwrap_args_session(write.args))
        write.kwargs = unwrap_kwargs_session(write.kwargs)
        return executor.run_on_executor(
            loop, functools.partial(_plain, sync_method, delegate, write)
        )

    return method


def _alone_at_once(loop: Any, method: Callable[..., Any], collection: Any, write: Write) -> Any:
    """A call that could have joined others, as its plain call in a place on the wire."""
    begun: list[bool] = []

    def job() -> Any:
        begun.append(True)
        return _plain(method, collection, write)

    go = write.go
    try:
        future = executor.run_on_executor(loop, job)
    except BaseException:  # a closed loop
        if go is not None:
            go.landed()
        raise
    if go is not None:

        def ended(done: Any) -> None:
            # Cancelled before a thread took it: then nobody else tells.
            if done.cancelled() and not begun:
                go.landed()

        future.add_done_callback(ended)
    return future


def _plain(method: Callable[..., Any], collection: Any, write: Write) -> Any:
    """The plain call, in an executor thread."""
    try:
        result = method(collection, *write.args, **write.kwargs)
    except BaseException:
        write.failed()
        raise
    finally:
        if write.go is not None:
            write.go.landed()
    return write.finished(result)


_HERE = threading.local()


def _run(job: Callable[[], Any], context: contextvars.Context) -> None:
    """Runs a job in an executor thread; in this one if the interpreter is ending."""
    try:
        executor._EXECUTOR.submit(context.run, job)
    except RuntimeError:
        _run_here(functools.partial(context.run, job))


def _run_here(job: Callable[[], Any]) -> None:
    """Runs a job in this thread; after the one that asks for it, if that runs here, too.

    A batch that has landed sends the next one: inside each other they would be too deep.
    """
    jobs: deque[Callable[[], Any]] | None = getattr(_HERE, "jobs", None)
    if jobs is not None:
        jobs.append(job)
        return
    _HERE.jobs = jobs = deque([job])
    try:
        while jobs:
            # What it raises nobody would see from an executor thread either.
            with contextlib.suppress(Exception):
                jobs.popleft()()
    finally:
        del _HERE.jobs


def send(sender: Sender, lane: Lane, batch: Batch) -> None:
    """Sends a batch from an executor thread, in an empty context."""
    _run(functools.partial(carry, sender, lane, batch), contextvars.Context())


def bring(sender: Sender, writes: list[JoinedWrite], given: list[Any]) -> None:
    """Resolves the Futures; plain calls that have to follow are sent whoever waits for them."""
    ready: dict[Any, list[tuple[Any, Any]]] = {}
    for write, answer in zip(writes, given, strict=True):
        waiter = write.waiter
        if type(answer) is Go:
            _run(functools.partial(_alone, sender, write, answer), waiter.context)
            continue
        ready.setdefault(waiter.loop, []).append((waiter.future, answer))
    for loop, pairs in ready.items():
        with contextlib.suppress(RuntimeError):  # a closed loop: nobody waits any more
            loop.call_soon_threadsafe(_resolve, pairs, context=contextvars.Context())


def _alone(sender: Sender, joined: JoinedWrite, told: Go) -> None:
    """A gathered write's plain call, in an executor thread."""
    waiter: FutureSlot = joined.waiter
    if is_gone(waiter):
        told.landed()
        return
    answer: Any
    try:
        answer = _plain(waiter.method, joined.collection, sender.alone(joined, told))
    except BaseException as error:
        answer = Raised(error)
    with contextlib.suppress(RuntimeError):
        waiter.loop.call_soon_threadsafe(
            _resolve, [(waiter.future, answer)], context=contextvars.Context()
        )
    # An error's traceback holds this frame: nothing here may hold the error.
    del answer, joined, waiter


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
