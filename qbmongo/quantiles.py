"""Latency quantiles with DDSketch's logarithmic bins.

`core.profile` counts durations by bin number; this module says which bin a duration belongs to and
what the quantiles of counted bins are. Bins and store are the library's, so that a quantile is
within RELATIVE_ERROR of the exact one, and counts of several processes merge by addition.

Source: Masson, Rim, Lee: DDSketch, VLDB 2019.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ddsketch.mapping import LogarithmicMapping
from ddsketch.store import DenseStore

__all__ = ["RELATIVE_ERROR", "DDSketchScale"]

RELATIVE_ERROR = 0.01


class DDSketchScale:
    """The bins in which durations are counted; holds no counts itself."""

    __slots__ = ("_bins_per_octave", "_mapping")

    def __init__(self) -> None:
        self._mapping = LogarithmicMapping(RELATIVE_ERROR)
        self._bins_per_octave = math.log(2) / math.log(self._mapping.gamma)

    def bins_of(self, durations_s: Sequence[float]) -> list[int]:
        """Durations in seconds, each above 0 -> their bin numbers.

        The same as the library's `LogarithmicMapping.key`, at a third of its price.
        """
        ceil, log2, bins_per_octave = math.ceil, math.log2, self._bins_per_octave
        return [ceil(log2(duration) * bins_per_octave) for duration in durations_s]

    def quantiles(self, bins: Mapping[int, int], ranks: Sequence[float]) -> tuple[float, ...]:
        """The durations in seconds at the given ranks (0 to 1); all 0.0 if nothing was counted."""
        if not bins:
            return (0.0,) * len(ranks)
        store = DenseStore()
        for number in sorted(bins):
            store.add(number, bins[number])
        last = store.count - 1
        return tuple(self._mapping.value(store.key_at_rank(rank * last)) for rank in ranks)
