"""Futures of the Motor client: of calls in executor threads, of flights, and of kept answers."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import time
from collections.abc import Callable
from typing import Any

import motor.frameworks.asyncio as executor

from ..core.engine import Join, Lead, Scope
from .cursors import deliver, hand_on

__all__ = ["LoopWaiter", "copy_to", "done", "run", "start"]

monotonic = time.monotonic


class LoopWaiter:
    """A Future of the program's that a flight's answer will resolve; told from any thread."""

    __slots__ = ("_context", "_loop", "_resolve")

    def __init__(self, loop: asyncio.AbstractEventLoop, resolve: Callable[[Any], None]) -> None:
        self._loop = loop
        self._resolve = resolve
        # What follows is the waiting call's own, not that of whoever brings the answer.
        self._context = contextvars.copy_context()

    def deliver(self, answer: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(self._resolve, answer, context=self._context)
        except RuntimeError:  # a closed loop: nobody waits any more
            if type(answer) is Lead:
                hand_on(answer.scope, answer)


def run(loop: Any, job: Callable[[Any], Any], ticket: Any) -> asyncio.Future[Any]:
    """Runs a blocking call under its ticket in an executor thread."""
    future: asyncio.Future[Any] = executor.run_on_executor(loop, job, ticket)
    if type(ticket) is Lead:
        # The thread outlives its cancelled caller, or never starts: whoever waits sends again, and
        # what an older sending brings settles nothing.
        def given_up(done: asyncio.Future[Any]) -> None:
            if done.cancelled():
                heir = ticket.scope.cancel_read(ticket)
                if heir is not None:
                    deliver([heir])

        future.add_done_callback(given_up)
    return future


def copy_to(source: asyncio.Future[Any], target: asyncio.Future[Any]) -> None:
    """Makes one Future end as another does, and the other be cancelled with it."""

    def ended(done: asyncio.Future[Any]) -> None:
        if target.done():
            if not done.cancelled():
                done.exception()  # nobody else will ask
        elif done.cancelled():
            target.cancel()
        elif done.exception() is not None:
            target.set_exception(done.exception())  # type: ignore[arg-type]
        else:
            target.set_result(done.result())

    def cancelled(done: asyncio.Future[Any]) -> None:
        if done.cancelled():
            source.cancel()

    source.add_done_callback(ended)
    target.add_done_callback(cancelled)


def start(
    loop: Any,
    scope: Scope,
    begin: Callable[[], Any],
    decode: Callable[[bytes], tuple[Any, int] | None],
    job: Callable[[Any], Any],
    send: Callable[[Any], asyncio.Future[Any]] | None = None,
) -> asyncio.Future[Any]:
    """A read that no kept answer serves: waits for a flight, or runs `job` under the ticket.

    begin: what the engine says of the read. decode: a flight's answer as the program shall have it,
    and how many documents that is; None if it cannot be decoded. send: what takes the place of
    running the job, unless a flight has been waited for.
    """
    if send is None:
        send = functools.partial(run, loop, job)
    while True:
        decision = begin()
        if type(decision) is not Join:
            return send(decision)
        join = decision
        future: asyncio.Future[Any] = loop.create_future()

        def resolve(answer: Any, future: Any = future, join: Any = join) -> None:
            if future.done():
                hand_on(scope, answer)
                return
            ready = decode(answer) if type(answer) is bytes else None
            if ready is None:
                ticket = answer if type(answer) is Lead else join.ticket
                copy_to(run(loop, job, ticket), future)
                return
            scope.settle_read(join.ticket, monotonic(), documents=ready[1], size=len(answer))
            future.set_result(ready[0])

        waiter = LoopWaiter(loop, resolve)
        if not scope.join(join, waiter):
            continue

        def left(done: Any, join: Any = join, waiter: Any = waiter) -> None:
            if done.cancelled():
                scope.leave(join, waiter)

        future.add_done_callback(left)
        return future


def done(collection: Any, value: Any) -> asyncio.Future[Any]:
    """A Future that has its result; once a turn is over, one that gets it in the next."""
    loop = collection.get_io_loop()
    future: asyncio.Future[Any] = loop.create_future()
    if collection.database.client._qb.turn.over(loop):
        loop.call_soon(_set_result, future, value)
    else:
        future.set_result(value)
    return future


def _set_result(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)
