"""The watcher in a daemon thread with a synchronous client: for the sync and Motor clients."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pymongo import MongoClient, ReadPreference
from pymongo.client_session import ClientSession

from qbmongo.coherence.commands import (
    CODEC,
    FAILURES,
    AddressListener,
    client_options,
    failure_of,
)
from qbmongo.coherence.inbox import CaughtUp, Inbox
from qbmongo.coherence.plan import Plan
from qbmongo.coherence.records import Limits, Reply, Request, Sink, Sleep, WatcherStats
from qbmongo.coherence.stream import EffectsOf
from qbmongo.coherence.weak_sink import WeakSink

_LOGGER = logging.getLogger("qbmongo.coherence")
_NAME = "qbmongo-watcher"

ClientFactory = Callable[[Mapping[str, Any]], "MongoClient[dict[str, Any]]"]
Clock = Callable[[], float]


class ThreadWatcher:
    """Watches the databases it is asked to, from a thread that starts with the first of them.

    Args:
        sink: told of events and leases, from the watcher's thread; held weakly, and when it goes
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
        client_factory: ClientFactory,
        effects_of: EffectsOf,
        limits: Limits | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._client_factory = client_factory
        self._effects_of = effects_of
        self._limits = limits or Limits()
        self._clock = clock
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._work = self._new_work(sink)

    def watch(self, database: str) -> None:
        """Watch a database. Any thread; cheap, harmless to repeat, returns at once.

        To be called for each read that finds no lease: what is not used for long is forgotten.
        """
        self._work.inbox.watch(database)
        if self._thread is None:
            self._start()

    def when_caught_up(self, callback: CaughtUp) -> None:
        """Call back once, when everything that the server had applied at this call was told.

        Args:
            callback: called from the watcher's thread with True, or with False when the watcher
                ends before. Where nothing was ever watched: at once, from this thread.
        """
        if self._thread is None:
            callback(not self._is_closed)
        else:
            self._work.inbox.catch_up(callback)

    def caught_up(self, timeout_s: float) -> bool:
        """Block until everything that the server had applied at this call was told to the sink.

        Args:
            timeout_s: seconds to wait at most.

        Returns:
            False if it took longer or the watcher ended.
        """
        done = threading.Event()
        outcome: list[bool] = []

        def finish(is_caught_up: bool) -> None:
            outcome.append(is_caught_up)
            done.set()

        self.when_caught_up(finish)
        return done.wait(timeout_s) and outcome[0]

    def close(self, wait_s: float = 1.0) -> None:
        """Stop: the sink hears nothing more. Twice is harmless.

        Args:
            wait_s: seconds to wait for the thread; it ends by itself after the command in flight
                and then closes its client. 0 does not block.
        """
        with self._lock:
            self._is_closed = True
            thread = self._thread
        self._work.sink.mute()
        self._work.inbox.close()
        if thread is not None and wait_s > 0 and thread is not threading.current_thread():
            thread.join(wait_s)

    def after_fork(self) -> None:
        """In the child of a fork: the thread stayed with the parent; begin as if never started."""
        self._lock = threading.Lock()
        self._thread = None
        sink = self._work.sink.target()
        if sink is None or self._is_closed:
            self._is_closed = True
        else:
            self._work = self._new_work(sink)

    def stats(self) -> WatcherStats:
        """What the watcher is doing and has done."""
        stats = self._work.plan.snapshot(self._clock())
        if self._is_closed and stats.state != "fault":
            # What is still to be done after close() is nobody's business any more.
            return replace(stats, state="closed", reason="")
        return stats

    def _new_work(self, sink: Sink) -> _Work:
        return _Work(sink, self._client_factory, self._effects_of, self._limits, self._clock)

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None or self._is_closed:
                return
            # An empty context: no bound session and no pymongo.timeout of whoever read first.
            context = contextvars.Context()
            self._thread = threading.Thread(
                target=context.run, args=(self._work.run,), name=_NAME, daemon=True
            )
            self._thread.start()


class _Work:
    """What the thread holds on to: neither the ThreadWatcher nor, strongly, the sink."""

    def __init__(
        self,
        sink: Sink,
        client_factory: ClientFactory,
        effects_of: EffectsOf,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._wake = threading.Event()
        self._client_factory = client_factory
        self._limits = limits
        self._clock = clock
        self._listener = AddressListener()
        self.inbox = Inbox(self._wake.set)
        self.sink = WeakSink(sink, self._wake.set)
        self.plan = Plan(self.sink, effects_of, limits)

    def run(self) -> None:
        try:
            client = self._client_factory(client_options(self._limits, self._listener))
            try:
                session = client.start_session(causal_consistency=False)
                self._watch(client, session)
                if self._took_leave(client, session):
                    # Otherwise it times out on the server: closing must not wait for one to come.
                    session.end_session()
            finally:
                client.close()
            self.plan.ended("closed", "")
        except Exception as error:
            _LOGGER.exception("the watcher stopped; cached reads go to the server from now on")
            with contextlib.suppress(Exception):
                self.plan.ended("fault", repr(error))
        finally:
            self.inbox.end()

    def _watch(self, client: MongoClient[dict[str, Any]], session: ClientSession) -> None:
        while not (self.inbox.is_closing or self.sink.is_gone):
            now_s = self._clock()
            self.inbox.deliver(self.plan, now_s)
            self.inbox.settle(self.plan)
            action = self.plan.step(now_s)
            if isinstance(action, Sleep):
                is_endless = action.until_s == math.inf
                self._wake.wait(None if is_endless else max(0.0, action.until_s - now_s))
                self._wake.clear()
                continue
            try:
                reply = self._send(client, session, action)
            except FAILURES as error:
                self.plan.failed(self._clock(), failure_of(error))
            else:
                primary = self._listener.primary(client.topology_description)
                self.plan.reply(self._clock(), reply, primary)

    def _took_leave(self, client: MongoClient[dict[str, Any]], session: ClientSession) -> bool:
        """Kill the open cursors; whether the server was there to be told."""
        try:
            for request in self.plan.farewell():
                self._send(client, session, request)
        except FAILURES:
            return False
        return self.plan.is_connected

    def _send(
        self, client: MongoClient[dict[str, Any]], session: ClientSession, request: Request
    ) -> Reply:
        return client[request.database].command(
            request.command,
            read_preference=ReadPreference.PRIMARY,
            codec_options=CODEC,
            session=session,
        )
