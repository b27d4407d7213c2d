"""The clock of a run: stands still unless it is moved, and never goes back."""

from __future__ import annotations

__all__ = ["STEP_S", "Clock"]

# Every step takes some time, so that "before" is certain.
STEP_S = 0.001


class Clock:
    """now_s: the present instant, in seconds.

    What must happen by some instant (a server event that a driver publishes late) bounds how far
    the clock can be moved while it is outstanding.
    """

    __slots__ = ("deadlines", "now_s")

    def __init__(self) -> None:
        self.now_s = 100.0
        self.deadlines: list[float] = []

    def move(self, seconds: float) -> None:
        """As far as asked for, or up to the first deadline."""
        now_s = self.now_s + seconds
        if self.deadlines:
            now_s = max(self.now_s, min(now_s, min(self.deadlines)))
        self.now_s = now_s
