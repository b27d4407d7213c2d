"""Which shapes of writes are too slow to travel with others.

A batch that takes far longer than usual is suspicious: the next call of each of its shapes goes
alone and is looked at. It is compared with what batches take at the same time, as a busy program or
machine makes every call slow. A shape whose calls were found slow several times running goes alone
for a while; then it is looked at again. Calls that all go alone are not judged: many at once slow
down each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = ["Pace", "Paces"]

_STRIKES = 3
_REMEMBERED_S = 10.0
_OPERATION_S = 0.0005
_RISE, _FALL = 0.1, 0.5
_TIMES = 4  # what batches usually take, before something is slow


class Pace:
    """Of one shape. wanted: its next call shall go alone, to be looked at."""

    __slots__ = ("_slow_until_s", "_strikes", "wanted")

    def __init__(self) -> None:
        self.wanted = False
        self._strikes = 0
        self._slow_until_s = -math.inf

    def is_slow(self, now_s: float) -> bool:
        """Whether calls of the shape hold up others."""
        return now_s < self._slow_until_s

    def looked_at(self, took_s: float, limit_s: float, now_s: float) -> None:
        """A call that was looked at is over. limit_s: what is slow at present."""
        if took_s <= limit_s:
            self._strikes = 0
            return
        self._strikes += 1
        self.wanted = True
        if self._strikes >= _STRIKES:
            # The next look decides anew.
            self._strikes = _STRIKES - 1
            self._slow_until_s = now_s + _REMEMBERED_S


class Paces:
    """What is usual for one client. way_s: to the server and back, as the driver knows it."""

    __slots__ = ("_batch_s", "way_s")

    def __init__(self) -> None:
        self.way_s = 0.0
        self._batch_s: float | None = None

    def limit_s(self, patience_s: float) -> float:
        """How long a quick call may take at most now; patience_s: what others may be held up."""
        usual_s = self._batch_s
        return math.inf if usual_s is None else patience_s + max(self.way_s, _TIMES * usual_s)

    def batch(self, took_s: float, paces: Iterable[Pace], patience_s: float, size: int) -> None:
        """A batch of so many operations, with shapes of these paces, came back."""
        usual_s = self._batch_s
        if usual_s is None:
            self._batch_s = took_s
            return
        if took_s > self.limit_s(patience_s) + size * _OPERATION_S:
            for pace in paces:
                pace.wanted = True
        self._batch_s = usual_s + (took_s - usual_s) * (_RISE if took_s > usual_s else _FALL)
