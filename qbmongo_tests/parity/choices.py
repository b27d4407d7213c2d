"""Random choices read from one byte string.

A step of the harness is drawn from hypothesis as one byte string rather than as dozens of small
integers: drawing it costs one choice (about 0.1 ms) and hypothesis still shrinks it, byte by byte
towards zero. So every list of alternatives starts with the simplest one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

CHOICES_PER_STEP = 72


class Choices:
    """Reads one decision after the other; when the bytes are used up, each is the simplest."""

    __slots__ = ("_at", "_source")

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._at = 0

    def index(self, count: int) -> int:
        """An integer from 0 to count - 1; count is at most 256."""
        at = self._at
        if at >= len(self._source):
            return 0
        self._at = at + 1
        return self._source[at] % count

    def one(self, alternatives: Sequence[T]) -> T:
        return alternatives[self.index(len(alternatives))]

    def chance(self, percent: int) -> bool:
        return self.index(100) >= 100 - percent

    def some(self, build: Build, most: int, least: int = 0) -> list[Any]:
        return [build(self) for _ in range(least + self.index(most - least + 1))]

    def options(self, known: Mapping[str, Build], most: int = 3) -> dict[str, Any]:
        """Up to `most` keyword arguments out of the known ones."""
        if not known:
            return {}
        names = tuple(known)
        chosen: dict[str, Any] = {}
        for _ in range(max(0, self.index(most + 2) - 1)):
            name = self.one(names)
            chosen[name] = known[name](self)
        return chosen


Build = Callable[[Choices], Any]


def constant(value: Any) -> Build:
    return lambda choices: value


def among(*alternatives: Any) -> Build:
    return lambda choices: choices.one(alternatives)


def built(*builds: Build) -> Build:
    return lambda choices: choices.one(builds)(choices)


def listed(build: Build, most: int, least: int = 0) -> Build:
    return lambda choices: choices.some(build, most, least)
