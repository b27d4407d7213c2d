"""Threads that send batches for the synchronous client, beside the threads that wait.

They are daemons, as nobody must wait for them: whoever waits for a batch is the program's own
thread. An idle one ends after some seconds. A thread holds no client while it is idle.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["BatchThreads"]

_IDLE_S = 5.0
_Job = Callable[[], Any]


class BatchThreads:
    """As many threads as there are batches on the wire."""

    __slots__ = ("_idle", "_jobs", "_lock")

    def __init__(self) -> None:
        self.after_fork()

    def after_fork(self) -> None:
        """In the child there are no threads."""
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0

    def run(self, job: _Job) -> None:
        """Runs a job in a thread of its own, in an empty context; here, if there can be none."""
        with self._lock:
            is_waited_for = self._idle > 0
            if is_waited_for:
                self._idle -= 1
        if is_waited_for:
            self._jobs.put(job)
            return
        thread = threading.Thread(
            target=self._serve, args=([job],), name="qbmongo batches", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is ending
            contextvars.Context().run(job)

    def close(self) -> None:
        """Idle threads end now."""
        with self._lock:
            idle, self._idle = self._idle, 0
        for _ in range(idle):
            self._jobs.put(None)

    def _serve(self, first: list[_Job]) -> None:
        # Taken out, as the thread keeps its arguments as long as it lives.
        job: _Job | None = first.pop()
        while job is not None:
            contextvars.Context().run(job)
            job = None
            with self._lock:
                self._idle += 1
            try:
                job = self._jobs.get(timeout=_IDLE_S)
            except queue.Empty:
                with self._lock:
                    if self._idle > 0:
                        self._idle -= 1
                        return
                # It was counted on in the same moment.
                job = self._jobs.get()
