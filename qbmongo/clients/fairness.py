"""Hits answered without suspending must not starve the event loop."""

from __future__ import annotations

import asyncio
from time import monotonic

__all__ = ["LoopTurn"]

_LONGEST_S = 0.001


class LoopTurn:
    """Counts hits in one turn of an event loop.

    At most so many hits, or one millisecond of them, go by without suspending; the next one must
    yield once (DESIGN section 3, "Fairness").
    """

    __slots__ = ("_count", "_limit", "_start_s")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._start_s = 0.0

    def over(self, loop: asyncio.AbstractEventLoop | None = None) -> bool:
        """Counts a hit; True if it must yield, after which a new turn begins."""
        count = self._count
        if not count:
            self._count = 1
            self._start_s = monotonic()
            (loop or asyncio.get_running_loop()).call_soon(self._begin)
            return False
        if count >= self._limit or monotonic() - self._start_s > _LONGEST_S:
            self._count = 0
            return True
        self._count = count + 1
        return False

    def _begin(self) -> None:
        self._count = 0
