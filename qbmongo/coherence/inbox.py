"""What a watcher is asked for, by anybody, until its own thread or task takes it to the plan."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from qbmongo.coherence.plan import Plan

_LOGGER = logging.getLogger("qbmongo.coherence")

CaughtUp = Callable[[bool], None]


class Inbox:
    """Requests to one running watcher. Any thread may ask; only the runner delivers and settles.

    Args:
        wake: makes the runner look here soon; callable from any thread.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._databases: set[str] = set()
        self._asked: list[CaughtUp] = []
        self._waiting: list[tuple[int, CaughtUp]] = []
        self._is_ended = False
        self.is_closing = False

    def watch(self, database: str) -> None:
        if database not in self._databases:
            with self._lock:
                self._databases.add(database)
            self._wake()

    def catch_up(self, callback: CaughtUp) -> None:
        """The callback gets True once caught up, or False when the runner has ended before."""
        with self._lock:
            is_late = self._is_ended
            if not is_late:
                self._asked.append(callback)
        if is_late:
            callback(False)
        else:
            self._wake()

    def close(self) -> None:
        self.is_closing = True
        self._wake()

    def deliver(self, plan: Plan, now_s: float) -> None:
        """Take everything asked for to the plan."""
        if not self._databases and not self._asked:
            return
        with self._lock:
            databases, self._databases = self._databases, set()
            asked, self._asked = self._asked, []
        for database in databases:
            plan.watch(database, now_s)
        if asked:
            ticket = plan.catch_up()
            self._waiting.extend((ticket, callback) for callback in asked)

    def settle(self, plan: Plan) -> None:
        """Answer those whose wish has been fulfilled."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for ticket, callback in waiting:
            if plan.is_caught_up(ticket):
                _call(callback, True)
            else:
                self._waiting.append((ticket, callback))

    def end(self) -> None:
        """The runner has ended: whoever waits, now or later, gets False."""
        with self._lock:
            self._is_ended = True
            left = [*self._asked, *(callback for _, callback in self._waiting)]
            self._asked, self._waiting = [], []
        for callback in left:
            _call(callback, False)


def _call(callback: CaughtUp, is_caught_up: bool) -> None:
    try:
        callback(is_caught_up)
    except Exception:
        # Its own problem (an event loop that was closed meanwhile, say), never the watcher's.
        _LOGGER.debug("a caught-up callback failed", exc_info=True)
