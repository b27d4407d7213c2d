"""Where every decision of a run comes from: a seed, or a tape that can be shortened."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

__all__ = ["Choices", "shorten"]


class Choices:
    """A stream of decisions. 0 is always the plainest one.

    Args:
        seed: of the random decisions; None where a tape is given.
        tape: decisions to take, each reduced to its range; 0 after its end.
        record: keep what was decided, so that the run can be repeated from a tape.
    """

    __slots__ = ("_position", "_random", "_tape", "below", "taken")

    def __init__(
        self, seed: int | None = None, tape: Sequence[int] | None = None, *, record: bool = False
    ) -> None:
        self._tape = tape
        self._position = 0
        self._random = random.Random(seed).random
        self.taken: list[int] = []
        self.below: Callable[[int], int] = self._from_seed
        if tape is not None:
            self.below = self._from_tape
        elif record:
            self.below = self._recorded

    @property
    def is_spent(self) -> bool:
        """The tape has ended."""
        return self._tape is not None and self._position >= len(self._tape)

    def _from_seed(self, count: int) -> int:
        return int(self._random() * count)

    def _recorded(self, count: int) -> int:
        value = int(self._random() * count)
        self.taken.append(value)
        return value

    def _from_tape(self, count: int) -> int:
        assert self._tape is not None
        position = self._position
        self._position = position + 1
        return self._tape[position] % count if position < len(self._tape) else 0


def shorten(
    tape: list[int], fails: Callable[[list[int]], bool], *, attempts: int = 2_000
) -> list[int]:
    """A shorter tape that still fails: parts are left out, then decisions made plain.

    Args:
        tape: a tape on which `fails` is true.
        fails: repeats the run.
        attempts: how many repetitions it may cost.
    """
    size = max(1, len(tape) // 2)
    while size and attempts > 0:
        position, changed = 0, False
        while position < len(tape) and attempts > 0:
            attempts -= 1
            shorter = tape[:position] + tape[position + size :]
            if fails(shorter):
                tape, changed = shorter, True
            else:
                position += size
        if not changed or size > 1:
            size //= 2
    for position, value in enumerate(tape):
        if value and attempts > 0:
            attempts -= 1
            plainer = [*tape[:position], 0, *tape[position + 1 :]]
            if fails(plainer):
                tape = plainer
    return tape
