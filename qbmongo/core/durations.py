"""Durations of one shape's calls, counted in logarithmic bins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    # Imported with the first snapshot: making these classes takes as long as the rest.
    from .shape_profiles import Latency

__all__ = ["RANKS", "Durations", "Scale"]

RANKS = (0.5, 0.95, 0.99)

_SHORTEST_S = 1e-9
_LONGEST_S = 1e6


class Scale(Protocol):
    """How durations are counted in bins, and quantiles read from them."""

    def bins_of(self, durations_s: Sequence[float]) -> list[int]:
        """Durations in seconds, each above 0 -> their bin numbers."""

    def quantiles(self, bins: Mapping[int, int], ranks: Sequence[float]) -> tuple[float, ...]:
        """Bins with their counts, ranks from 0 to 1 -> durations in seconds."""


class Durations:
    """Durations counted in bins. The number of bins is bounded by the range of durations."""

    __slots__ = ("bins", "count", "max_s", "total_s")

    def __init__(self) -> None:
        self.count = 0
        self.total_s = 0.0
        self.max_s = 0.0
        self.bins: Counter[int] = Counter()

    def add(self, durations: list[float], scale: Scale) -> None:
        """Counts durations, in seconds."""
        self.count += len(durations)
        self.total_s += sum(durations)
        longest = max(durations)
        if longest > self.max_s:
            self.max_s = longest
        if longest > _LONGEST_S or min(durations) < _SHORTEST_S:
            durations = [min(max(d, _SHORTEST_S), _LONGEST_S) for d in durations]
        self.bins.update(scale.bins_of(durations))

    def freeze(self, scale: Scale) -> Latency:
        """What was counted so far."""
        from .shape_profiles import Latency

        bins = tuple(sorted(self.bins.items()))
        p50, p95, p99 = scale.quantiles(self.bins, RANKS)
        return Latency(self.count, self.total_s, self.max_s, p50, p95, p99, bins)
