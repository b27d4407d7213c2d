"""Collations: which comparisons an index of another collation still serves.

Source: MongoDB manual, "Collation", "Index Use": an index with a collation serves string
comparisons of the same collation only; other types compare alike under all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .accesses import Access
from .conjunctions import Bound
from .records import CollectionInfo, IndexSpec

__all__ = ["collation_fits", "effective_collation", "normal_collation", "same_collation"]

_DEFAULTS: dict[str, Any] = {
    "strength": 3,
    "caseLevel": False,
    "caseFirst": "off",
    "numericOrdering": False,
    "alternate": "non-ignorable",
    "maxVariable": "punct",
    "normalization": False,
    "backwards": False,
}


def normal_collation(collation: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """All fields of a collation, without its version; None: simple comparison."""
    if collation is None or collation.get("locale") in (None, "simple"):
        return None
    known = {name: value for name, value in collation.items() if name in _DEFAULTS}
    return {**_DEFAULTS, **known, "locale": collation["locale"]}


def same_collation(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    return normal_collation(one) == normal_collation(other)


def effective_collation(access: Access, info: CollectionInfo) -> Mapping[str, Any] | None:
    """The collation a query is compared with: its own, else the collection's default."""
    if access.collation is not None:
        return _stated(access.collation)
    return _stated(info.options.get("collation"))


def _stated(collation: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The fields that differ from their defaults, as createIndexes takes them."""
    normal = normal_collation(collation)
    if normal is None:
        return None
    return {
        name: bool(value) if isinstance(_DEFAULTS.get(name), bool) else value
        for name, value in sorted(normal.items())
        if _DEFAULTS.get(name) != value
    }


def collation_fits(
    what: Bound | str, access: Access, spec: IndexSpec, info: CollectionInfo
) -> bool:
    """Whether an index can serve a bound, or (given a path) an order, under a query's collation."""
    if isinstance(what, Bound) and not what.may_hold_strings:
        return True
    return same_collation(effective_collation(access, info), spec.collation)
