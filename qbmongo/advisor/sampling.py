"""A sample of documents -> what it says of fields: distinct values, arrays, types, ranges."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from ..core.paths import strip_positions
from ..core.shape_filters import type_class
from .field_values import MISSING, array_prefixes, identity_of, keys_at
from .records import CollectionStatistics, FieldStatistics

__all__ = ["FieldCounts", "SampleCounts", "estimate_distinct"]

COMMON_VALUES = 20
RANKS = 100
_ORDERED = frozenset({"number", "string", "date", "id", "timestamp", "binary"})
_LONGEST_KEPT = 200  # characters or bytes of a value that is kept in the statistics


class SampleCounts:
    """Counts the documents of one collection's sample, one after the other.

    Args:
        namespace: "database.collection".
        paths: dotted paths to count; numeric parts are removed.
    """

    def __init__(self, namespace: str, paths: Iterable[str]) -> None:
        self._namespace = namespace
        self._fields = {path: FieldCounts() for path in map(strip_positions, paths)}
        self._arrays: set[str] = set()
        self._documents = 0
        self._bytes = 0

    def add(self, document: dict[str, Any], size_bytes: int) -> None:
        """Counts one document. size_bytes: of its BSON."""
        self._documents += 1
        self._bytes += size_bytes
        for path, counts in self._fields.items():
            arrays = array_prefixes(document, path)
            if arrays:
                self._arrays |= arrays
            counts.add(keys_at(document, path), bool(arrays))

    def statistics(self, count: int | None) -> CollectionStatistics:
        """What the documents say.

        Args:
            count: documents of the whole collection; None: unknown, the sample is taken for it.
        """
        whole = max(count or 0, self._documents)
        return CollectionStatistics(
            namespace=self._namespace,
            sampled=self._documents,
            fields={
                path: counts.statistics(path, self._documents, whole)
                for path, counts in self._fields.items()
            },
            array_paths=frozenset(self._arrays),
            average_document_bytes=self._bytes / self._documents if self._documents else None,
        )


class FieldCounts:
    """What the documents so far had at one path."""

    __slots__ = ("_arrays", "_keys", "_nulls", "_present", "_seen", "_types", "_values")

    def __init__(self) -> None:
        self._present = 0
        self._nulls = 0
        self._arrays = 0
        self._keys = 0
        self._types: Counter[str] = Counter()
        self._seen: Counter[Hashable] = Counter()  # documents with a value, by its identity
        self._values: dict[Hashable, Any] = {}

    def add(self, keys: Sequence[Any], through_array: bool) -> None:
        """One document: its keys as `field_values.keys_at` gives them."""
        self._arrays += through_array
        if len(keys) == 1 and keys[0] is MISSING:
            return
        self._present += 1
        self._keys += len(keys)
        types, seen, values = self._types, self._seen, self._values
        for name in {type_class(key) for key in keys}:
            types[name] += 1
            self._nulls += name == "null"
        # An identity may be large: that of a document holds its bytes.
        for identity, key in {identity_of(key): key for key in keys}.items():
            seen[identity] += 1
            if identity not in values and _is_kept(key):
                values[identity] = key

    def statistics(self, path: str, documents: int, whole: int) -> FieldStatistics:
        """documents: those of the sample. whole: those of the collection."""
        if not documents:
            return FieldStatistics(path)
        once = sum(1 for times in self._seen.values() if times == 1)
        total = sum(self._seen.values())
        return FieldStatistics(
            path=path,
            present=self._present / documents,
            null=self._nulls / documents,
            array=self._arrays / documents,
            elements=self._keys / self._present if self._present else 1.0,
            distinct=estimate_distinct(len(self._seen), once, total, documents / whole),
            types={name: times / documents for name, times in sorted(self._types.items())},
            common=tuple(
                (self._values[identity], times / documents)
                for identity, times in self._seen.most_common(COMMON_VALUES)
                if identity in self._values
            ),
            ascending=self._ascending(),
        )

    def _ascending(self) -> tuple[Any, ...]:
        classes = set(self._types) - {"null"}
        if len(classes) != 1 or not classes <= _ORDERED:
            return ()
        known = [
            (self._values[identity], times)
            for identity, times in self._seen.items()
            if self._values.get(identity) is not None
        ]
        try:
            known.sort(key=itemgetter(0))
        except TypeError:  # Decimal128 beside other numbers, dates with and without a time zone
            return ()
        return tuple(_at_equal_ranks(known, RANKS))


def _at_equal_ranks(known: Sequence[tuple[Any, int]], ranks: int) -> Iterator[Any]:
    """Values, ascending with how often each was seen -> at most so many, at equal ranks."""
    total = sum(times for _, times in known)
    wanted = min(ranks, total)
    passed = given = 0
    for value, times in known:
        passed += times
        while given < wanted and given * (total - 1) // max(wanted - 1, 1) < passed:
            yield value
            given += 1


def _is_kept(value: Any) -> bool:
    if isinstance(value, (list, Mapping)):
        return False
    return not isinstance(value, (str, bytes)) or len(value) <= _LONGEST_KEPT


def estimate_distinct(distinct: int, once: int, total: int, share: float) -> float:
    """Distinct values of a whole collection, from those of a random sample.

    Args:
        distinct: distinct values in the sample.
        once: how many of them were seen once.
        total: values in the sample.
        share: the sample's share of the collection, above 0 to 1.

    The larger of two estimators: the first is exact for a unique field and for one with few values,
    but low where some values are far more frequent than the rest; the second is never wrong by
    more than the square root of the sample's share, whatever the frequencies.

    Source: P. J. Haas, L. Stokes, "Estimating the Number of Classes in a Finite Population",
        Journal of the American Statistical Association 93 (1998), estimator Duj1;
        M. Charikar and others, "Towards Estimation Error Guarantees for Distinct Values",
        PODS 2000, estimator GEE.
    """
    if not total:
        return 0.0
    share = min(share, 1.0)
    smooth = distinct / (1.0 - (1.0 - share) * once / total)
    guaranteed = once / math.sqrt(share) + (distinct - once)
    return max(smooth, guaranteed)
