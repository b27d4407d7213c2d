"""Whether the planner may use an index for a query: whether it holds every document asked for.

Sources: MongoDB manual, "Sparse Indexes", "Partial Indexes" ("Query Coverage"), "Hidden Indexes",
"Hashed Indexes", "Text Indexes", "Wildcard Indexes".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .accesses import Access
from .conjunctions import Bound, Conjunction
from .index_documents import name_of_index
from .records import IndexSpec, Keys

__all__ = ["implies", "is_hinted", "is_usable", "wildcard_holds"]

_ORDINARY = frozenset({"hashed", "2dsphere"})


def is_usable(
    spec: IndexSpec,
    where: Conjunction,
    access: Access,
    values: Mapping[str, tuple[Any, ...]],
) -> bool:
    """Whether an index is complete for a query.

    Args:
        spec: the index.
        where: what the query asks for.
        access: whose query it is.
        values: values of its equalities by path, as far as known.
    """
    if spec.hidden or where.text:
        return False
    kinds = {direction for _, direction in spec.keys if isinstance(direction, str)}
    if not kinds <= _ORDINARY:
        return False
    places = {path for path, direction in spec.keys if direction == "2dsphere"}
    if places - {bound.path for bound in where.bounds if bound.kind == "geo"}:
        return False  # it holds only documents that have the place
    if spec.partial_filter is not None:
        return implies(where, spec.partial_filter, values)
    if spec.sparse:
        paths = {path for path, _ in spec.keys}
        return any(bound.path in paths and bound.excludes_missing for bound in where.bounds)
    return True


def is_hinted(spec: IndexSpec, hint: str | Keys) -> bool:
    """Whether a hint names this index; by name or key pattern."""
    return hint in (name_of_index(spec), spec.keys)


def wildcard_holds(spec: IndexSpec, path: str) -> bool:
    """Whether a wildcard index has keys for a path. True for every other index.

    Source: MongoDB manual, "Wildcard Indexes", wildcardProjection.
    """
    if spec.wildcard_projection is None:
        return True
    named = {str(p): bool(kept) for p, kept in spec.wildcard_projection.items() if p != "_id"}
    within = any(path == p or path.startswith(f"{p}.") for p in named)
    return within if any(named.values()) else not within


def implies(
    where: Conjunction, partial: Mapping[str, Any], values: Mapping[str, tuple[Any, ...]]
) -> bool:
    """Whether every document that a query selects is in a partial index.

    Certain cases only: `$exists: true` with a condition that no missing field meets, and a constant
    that the query was always seen with.
    """
    return all(_implied(where, path, condition, values) for path, condition in partial.items())


def _implied(
    where: Conjunction, path: str, condition: Any, values: Mapping[str, tuple[Any, ...]]
) -> bool:
    bounds = [bound for bound in where.bounds if bound.path == path]
    if not isinstance(condition, Mapping) or not any(str(op)[:1] == "$" for op in condition):
        return _always(bounds, condition, values.get(path, ()))
    for operator, argument in condition.items():
        if operator == "$exists" and argument is True:
            if not any(bound.excludes_missing for bound in bounds):
                return False
        elif operator == "$eq":
            if not _always(bounds, argument, values.get(path, ())):
                return False
        elif operator in ("$gt", "$gte", "$lt", "$lte"):
            if not _within(bounds, operator, argument, values.get(path, ())):
                return False
        else:
            return False
    return True


def _always(bounds: list[Bound], constant: Any, values: tuple[Any, ...]) -> bool:
    if not any(bound.is_point for bound in bounds) or not values:
        return False
    return all(type(value) is type(constant) and value == constant for value in values)


def _within(bounds: list[Bound], operator: str, end: Any, values: tuple[Any, ...]) -> bool:
    if not any(bound.kind == "point" for bound in bounds) or not values:
        return False
    try:
        return all(
            {"$gt": v > end, "$gte": v >= end, "$lt": v < end, "$lte": v <= end}[operator]
            for v in values
        )
    except TypeError:
        return False
