"""Share of the documents that a bound or a filter selects, from statistics and seen values."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .conjunctions import Bound, Conjunction
from .records import CollectionStatistics, FieldStatistics

__all__ = ["Selectivity"]

# Where nothing is known.
_DISTINCT = 100.0
_ONE_SIDED = 0.33
_TWO_SIDED = 0.1
_PREFIX = 0.02
_PATTERN = 0.1
_GEO = 0.01
_RESIDUAL = 0.5


class Selectivity:
    """Shares for one collection.

    Args:
        statistics: of a sample, or None.
        count: documents of the collection.
    """

    def __init__(self, statistics: CollectionStatistics | None, count: float) -> None:
        self._fields: Mapping[str, FieldStatistics] = statistics.fields if statistics else {}
        self._least = 1 / max(1.0, count)
        self._values: dict[str, Mapping[str, tuple[Any, ...]]] = {}
        self._shares: dict[tuple[Bound, str, bool], float] = {}

    def learn(self, shape: str, values: Mapping[str, tuple[Any, ...]]) -> None:
        """Values of equalities that a shape was seen with, by path."""
        self._values[shape] = values

    def values(self, shape: str) -> Mapping[str, tuple[Any, ...]]:
        return self._values.get(shape, {})

    def present(self, path: str) -> float:
        field = self._fields.get(path)
        return field.present if field is not None else 1.0

    def elements(self, path: str) -> float:
        field = self._fields.get(path)
        return max(1.0, field.elements) if field is not None else 1.0

    def distinct(self, path: str) -> float:
        field = self._fields.get(path)
        if field is None:
            return 1 / self._least if path == "_id" else _DISTINCT
        return max(1.0, field.distinct)

    def of(self, where: Conjunction, shape: str) -> float:
        """Share of the documents that all of a filter selects, its parts taken as independent."""
        share = _RESIDUAL if where.residual and not where.bounds else 1.0
        for bound in where.bounds:
            share *= self.of_bound(bound, shape)
        for branches in where.alternatives:
            missed = 1.0
            for branch in branches:
                missed *= 1 - self.of(branch, shape)
            share *= 1 - missed
        return max(share, 0.0)

    def of_bound(self, bound: Bound, shape: str, one_sided: bool = False) -> float:
        """Share of the documents in one bound.

        one_sided: only one end of a two-sided range can be used.
        """
        key = (bound, shape, one_sided)
        found = self._shares.get(key)
        if found is None:
            found = min(1.0, max(self._of_bound(bound, shape, one_sided), self._least / 10))
            self._shares[key] = found
        return found

    def _of_bound(self, bound: Bound, shape: str, one_sided: bool) -> float:
        path, kind = bound.path, bound.kind
        field = self._fields.get(path)
        present = self.present(path)
        if kind == "null":
            return 1 - present + field.null if field is not None else _PATTERN
        if kind == "exists":
            return present
        if kind == "point":
            return 0.0 if bound.size == 0 else self._point(bound, shape, field)
        if kind == "in":
            return min(present, bound.size * self._point(bound, shape, field))
        if kind == "range":
            return present * self._range(bound, shape, field, one_sided)
        if kind == "prefix":
            return present * _PREFIX * bound.size
        if kind == "geo":
            return present * _GEO
        if kind == "type":
            return 0.5
        if "string" in bound.types and bound.size == 1:
            return present * _PATTERN if bound.within is None else present
        return 1 - min(0.5, bound.size * self._point(bound, shape, field))

    def _point(self, bound: Bound, shape: str, field: FieldStatistics | None) -> float:
        if bound.path == "_id":
            return self._least
        if field is None:
            return 0.5 if bound.types == {"bool"} else 1 / _DISTINCT
        usual = field.present * min(1.0, field.elements / max(1.0, field.distinct))
        values = self.values(shape).get(bound.path, ())
        if not values or not field.common:
            return usual
        return sum(self._share_of(value, field, usual) for value in values) / len(values)

    def _share_of(self, value: Any, field: FieldStatistics, usual: float) -> float:
        for common, share in field.common:
            if _same(common, value):
                return share
        rest = max(0.0, 1 - sum(share for _, share in field.common))
        others = max(1.0, field.distinct - len(field.common))
        return min(usual, rest / others) if rest else self._least

    def _range(
        self, bound: Bound, shape: str, field: FieldStatistics | None, one_sided: bool
    ) -> float:
        usual = _TWO_SIDED if bound.two_sided and not one_sided else _ONE_SIDED
        ends = self.values(shape).get(f"{bound.path} range", ())
        if field is None or len(field.ascending) < 2 or not ends:
            return usual
        shares = [_rank_share(field.ascending, end, one_sided) for end in ends]
        known = [share for share in shares if share is not None]
        return sum(known) / len(known) if known else usual

    def of_partial_filter(self, partial: Mapping[str, Any]) -> float:
        """Share of the documents that a partial index holds."""
        share = 1.0
        for path, condition in partial.items():
            field = self._fields.get(path)
            if isinstance(condition, Mapping) and condition.get("$exists") is True:
                share *= self.present(path)
            elif isinstance(condition, Mapping):
                share *= _ONE_SIDED
            elif field is not None:
                usual = field.present * min(1.0, 1 / max(1.0, field.distinct))
                share *= self._share_of(condition, field, usual) if field.common else usual
            else:
                share *= _PATTERN
        return max(share, self._least)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    try:
        return bool(one == other)
    except Exception:
        return False


def _rank_share(
    ascending: Sequence[Any], ends: Iterable[tuple[str, Any]], one_sided: bool
) -> float | None:
    """Share of the values between two ends, by their ranks among values at equal distances."""
    low, high = 0.0, 1.0
    try:
        for operator, value in ends:
            at = bisect.bisect_left(ascending, value) / len(ascending)
            if operator in ("$gt", "$gte"):
                low = max(low, at)
            else:
                high = min(high, at)
    except TypeError:
        return None
    if one_sided and low > 0 and high < 1:
        return min(1 - low, high)
    return max(high - low, 0.5 / len(ascending))
