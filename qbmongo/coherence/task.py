"""The watcher in an asyncio task with its own AsyncMongoClient, for the PyMongo Async client."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pymongo import AsyncMongoClient, ReadPreference
from pymongo.asynchronous.client_session import AsyncClientSession

from qbmongo.coherence.commands import (
    CODEC,
    FAILURES,
    AddressListener,
    client_options,
    failure_of,
)
from qbmongo.coherence.inbox import Inbox
from qbmongo.coherence.plan import Plan
from qbmongo.coherence.records import Limits, Reply, Request, Sink, Sleep, WatcherStats
from qbmongo.coherence.stream import EffectsOf
from qbmongo.coherence.weak_sink import WeakSink

_LOGGER = logging.getLogger("qbmongo.coherence")
_NAME = "qbmongo-watcher"
_GRACE_S = 1.0
_CLOSE_LIMIT_S = 1.0

AsyncClientFactory = Callable[[Mapping[str, Any]], "AsyncMongoClient[dict[str, Any]]"]
Clock = Callable[[], float]


class TaskWatcher:
    """Watches the databases it is asked to, from a task that starts with the first of them.

    The same contract as ThreadWatcher; everything is called, and calls, on one event loop. When
    that loop has ended, the next watch() begins anew on the running one.

    Args:
        sink: told of events and leases, from the watcher's task; held weakly, and when it goes
            the watcher ends.
        client_factory: makes the watcher's own client from what differs from the user's options
            (coherence.commands.client_options). It must not keep the user's client alive.
        effects_of: a change event -> its effects.
        limits: durations and sizes.
        clock: monotonic seconds; the leases' start_s are of this clock.
    """

    def __init__(
        self,
        sink: Sink,
        client_factory: AsyncClientFactory,
        effects_of: EffectsOf,
        limits: Limits | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._client_factory = client_factory
        self._effects_of = effects_of
        self._limits = limits or Limits()
        self._clock = clock
        self._is_closed = False
        self._task: asyncio.Task[None] | None = None
        self._work = self._new_work(sink)

    def watch(self, database: str) -> None:
        """Watch a database, from within the event loop; cheap, harmless to repeat.

        To be called for each read that finds no lease: what is not used for long is forgotten.
        """
        if self._task is None or self._task.done():
            self._start()
        self._work.inbox.watch(database)

    async def caught_up(self, timeout_s: float) -> bool:
        """Wait until everything that the server had applied at this call was told to the sink.

        Args:
            timeout_s: seconds to wait at most.

        Returns:
            False if it took longer or the watcher ended.
        """
        if self._task is None:
            return not self._is_closed
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def finish(is_caught_up: bool) -> None:
            if not done.done():
                done.set_result(is_caught_up)

        self._work.inbox.catch_up(finish)
        await asyncio.wait((done,), timeout=timeout_s)
        return done.done() and done.result()

    async def close(self) -> None:
        """Stop: the sink hears nothing more. Twice is harmless.

        A command in flight is given a second, which is enough where the server answers; then it is
        cancelled.
        """
        self._is_closed = True
        self._work.sink.mute()
        self._work.inbox.close()
        task = self._task
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            return
        await asyncio.wait((task,), timeout=_GRACE_S)
        if not task.done():
            task.cancel()
            await asyncio.wait((task,), timeout=_CLOSE_LIMIT_S)

    def after_fork(self) -> None:
        """In the child of a fork: the task is the parent's loop's; begin as if never started."""
        self._task = None
        self._renew()

    def stats(self) -> WatcherStats:
        """What the watcher is doing and has done."""
        stats = self._work.plan.snapshot(self._clock())
        if self._is_closed and stats.state != "fault":
            # What is still to be done after close() is nobody's business any more.
            return replace(stats, state="closed", reason="")
        return stats

    def _new_work(self, sink: Sink) -> _Work:
        return _Work(sink, self._client_factory, self._effects_of, self._limits, self._clock)

    def _renew(self) -> None:
        sink = self._work.sink.target()
        if sink is None:
            self._is_closed = True
        if sink is not None and not self._is_closed:
            self._work = self._new_work(sink)

    def _start(self) -> None:
        if self._is_closed or self._work.is_faulty:
            return
        if self._task is not None:
            self._renew()
        loop = asyncio.get_running_loop()
        # An empty context: no bound session and no pymongo.timeout of whoever read first.
        self._task = contextvars.Context().run(self._work.start, loop)


class _Work:
    """What the task holds on to: neither the TaskWatcher nor, strongly, the sink."""

    def __init__(
        self,
        sink: Sink,
        client_factory: AsyncClientFactory,
        effects_of: EffectsOf,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._client_factory = client_factory
        self._limits = limits
        self._clock = clock
        self._listener = AddressListener()
        self._bell = _Bell()
        self.is_faulty = False
        self.inbox = Inbox(self._bell.ring)
        self.sink = WeakSink(sink, self._bell.ring)
        self.plan = Plan(self.sink, effects_of, limits)

    def start(self, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        self._bell.hang(loop)
        return loop.create_task(self._run(), name=_NAME)

    async def _run(self) -> None:
        try:
            client = self._client_factory(client_options(self._limits, self._listener))
            try:
                session = client.start_session(causal_consistency=False)
                await self._watch(client, session)
                if await self._took_leave(client, session):
                    # Otherwise it times out on the server: closing must not wait for one to come.
                    await session.end_session()
            finally:
                await _close(client)
            self.plan.ended("closed", "")
        except Exception as error:
            self.is_faulty = True
            _LOGGER.exception("the watcher stopped; cached reads go to the server from now on")
            with contextlib.suppress(Exception):
                self.plan.ended("fault", repr(error))
        finally:
            self.inbox.end()

    async def _watch(
        self, client: AsyncMongoClient[dict[str, Any]], session: AsyncClientSession
    ) -> None:
        while not (self.inbox.is_closing or self.sink.is_gone):
            now_s = self._clock()
            self.inbox.deliver(self.plan, now_s)
            self.inbox.settle(self.plan)
            action = self.plan.step(now_s)
            if isinstance(action, Sleep):
                await self._bell.wait(action.until_s - now_s)
                continue
            try:
                reply = await self._send(client, session, action)
            except FAILURES as error:
                self.plan.failed(self._clock(), failure_of(error))
            else:
                primary = self._listener.primary(client.topology_description)
                self.plan.reply(self._clock(), reply, primary)

    async def _took_leave(
        self, client: AsyncMongoClient[dict[str, Any]], session: AsyncClientSession
    ) -> bool:
        """Kill the open cursors; whether the server was there to be told."""
        try:
            for request in self.plan.farewell():
                await self._send(client, session, request)
        except FAILURES:
            return False
        return self.plan.is_connected

    async def _send(
        self,
        client: AsyncMongoClient[dict[str, Any]],
        session: AsyncClientSession,
        request: Request,
    ) -> Reply:
        return await client[request.database].command(
            request.command,
            read_preference=ReadPreference.PRIMARY,
            codec_options=CODEC,
            session=session,
        )


async def _close(client: AsyncMongoClient[dict[str, Any]]) -> None:
    """Close a client, with a goodbye to the server only if that is quick."""
    try:
        await asyncio.wait_for(client.close(), _CLOSE_LIMIT_S)
    except asyncio.TimeoutError:
        # The sessions it wanted to end are out of its hands: this one sends nothing.
        await client.close()
    except asyncio.CancelledError:
        await client.close()
        raise


class _Bell:
    """A sleep that any thread can end, and that a ring before it makes short."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event = asyncio.Event()

    def hang(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def ring(self) -> None:
        if self._loop is not None:
            # A loop that was closed has nobody left to wake.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, limit_s: float) -> None:
        timer: asyncio.TimerHandle | None = None
        if limit_s != math.inf:
            assert self._loop is not None
            timer = self._loop.call_later(max(0.0, limit_s), self._event.set)
        try:
            await self._event.wait()
        finally:
            if timer is not None:
                timer.cancel()
        self._event.clear()
