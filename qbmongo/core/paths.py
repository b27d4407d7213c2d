"""Which dotted paths a filter, sort, projection, update or pipeline touches.

None stands for "any path". Invariant: whenever a write changes what a read computes from a
document, a path of the write and a path of the read overlap. Two things follow, easy to miss:

- Array positions are removed from what is read (`laps.0.time` reads `laps.time`), and a write to a
  position counts as a write to the whole array: `{$set: {"a.5.b": 1}}` adds elements to `a`, which
  `{"a.c": null}` may find.
- An inclusion projection reads the existence of each parent: `{$set: {"a.b": 1}}` on a document
  without `a` makes `{"a.c": 1}` return `{a: {}}`. So a projection reads top-level fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from .snapshots import readable

__all__ = [
    "filter_paths",
    "overlap",
    "overlaps",
    "projected_paths",
    "sort_paths",
    "strip_positions",
    "update_paths",
    "written_path",
]

Paths = frozenset[str]

NO_PATHS: Paths = frozenset()
_ID_PATHS: Paths = frozenset({"_id"})
# An `_id` stays equal to itself for ever, but a number may become one of another type.
_ID_TYPE = "_id.$type"

_LOGICAL = frozenset({"$and", "$or", "$nor"})

# Every one of these looks at the value of its own path, or below it, and at nothing else.
FIELD_OPERATORS = frozenset(
    {
        "$all",
        "$bitsAllClear",
        "$bitsAllSet",
        "$bitsAnyClear",
        "$bitsAnySet",
        "$elemMatch",
        "$eq",
        "$exists",
        "$geoIntersects",
        "$geoWithin",
        "$gt",
        "$gte",
        "$in",
        "$lt",
        "$lte",
        "$mod",
        "$ne",
        "$nin",
        "$not",
        "$options",
        "$regex",
        "$size",
        "$type",
    }
)

# Each changes the paths it names and nothing else. $rename is not among them.
_UPDATE_OPERATORS = frozenset(
    {
        "$addToSet",
        "$bit",
        "$currentDate",
        "$inc",
        "$max",
        "$min",
        "$mul",
        "$pop",
        "$pull",
        "$pullAll",
        "$push",
        "$set",
        "$unset",
    }
)


@lru_cache(maxsize=4096)
def strip_positions(path: str) -> str:
    """A path without its numeric components; "" (the whole document) where nothing is left."""
    if not any(map(str.isdigit, path)):
        return path
    return ".".join(part for part in path.split(".") if not part.isdigit())


@lru_cache(maxsize=4096)
def written_path(path: str) -> str:
    """The path that a write to this path may change: up to the first array position.

    A numeric component may extend an array; `$`, `$[]` and `$[x]` stand for positions.
    """
    kept: list[str] = []
    for part in path.split("."):
        if part.isdigit() or part.startswith("$"):
            break
        kept.append(part)
    return ".".join(kept)


def overlaps(left: str, right: str) -> bool:
    """Whether one path is a prefix of the other after numeric components are removed.

    Args:
        left, right: dotted paths; "" is the whole document.
    """
    return _is_prefix(strip_positions(left), strip_positions(right))


def overlap(left: Paths | None, right: Paths | None) -> bool:
    """Whether two sets of paths touch each other.

    Args:
        left, right: paths without numeric components; None is any path, an empty set none at all.
    """
    if left is None:
        return right is None or bool(right)
    if right is None:
        return bool(left)
    if not left.isdisjoint(right):
        return True
    return any(_is_prefix(ours, theirs) for ours in left for theirs in right)


def filter_paths(filter: Mapping[str, Any]) -> Paths | None:
    """Paths whose values decide whether a document matches a filter.

    Returns:
        The paths; None for `$expr`, `$where`, `$jsonSchema`, `$text` and whatever is unknown.
    """
    if len(filter) == 1 and "_id" in filter and not isinstance(filter["_id"], Mapping):
        return _ID_PATHS
    paths: set[str] = set()
    return frozenset(paths) if _collect_filter(filter, paths) else None


def sort_paths(sort: Mapping[str, Any] | None) -> Paths | None:
    """Paths that decide the order; None for a sort that is not by the values of named fields."""
    if not sort:
        return NO_PATHS
    for name, direction in sort.items():
        if name.startswith("$") or isinstance(direction, Mapping):
            return None
    return frozenset(map(strip_positions, sort))


def projected_paths(projection: Mapping[str, Any] | None) -> Paths | None:
    """Top-level fields that an inclusion projection returns, the `_id` among them unless left out.

    (It never becomes unequal to itself, but a number may become one of another type.)

    Returns:
        The fields; None (the whole document) for anything but a plain inclusion.
    """
    if not projection:
        return None
    paths: set[str] = set()
    for name, value in projection.items():
        if not isinstance(value, (bool, int, float)) or "$" in name:
            return None
        if value:
            paths.add(top_level(name))
        elif name != "_id":
            return None
    if paths and projection.get("_id", True):
        paths.add("_id")
    return frozenset(paths) or None


def update_paths(update: Any) -> Paths | None:
    """Paths that an update changes in a document that exists.

    Args:
        update: a mapping of update operators, a replacement, or a pipeline.

    Returns:
        The paths; None for a replacement, a pipeline, `$rename` and unknown operators.

    Source: https://www.mongodb.com/docs/manual/reference/operator/update/
    """
    if not isinstance(update, Mapping) or not update:
        return None
    paths: set[str] = set()
    for operator, changes in update.items():
        if operator == "$setOnInsert":
            continue
        changes = readable(changes)
        if operator not in _UPDATE_OPERATORS or not isinstance(changes, Mapping):
            return None
        paths.update(map(written_path, changes))
    return None if "" in paths else frozenset(paths)


def top_level(path: str) -> str:
    """The first component of a path."""
    return path.partition(".")[0]


def _is_prefix(left: str, right: str) -> bool:
    if len(left) > len(right):
        left, right = right, left
    return not left or left == right or right.startswith(left + ".")


def _collect_filter(filter: Any, paths: set[str]) -> bool:
    """Add the paths of a filter; False if it may read any."""
    filter = readable(filter)
    if not isinstance(filter, Mapping):
        return False
    for name, value in filter.items():
        if not name.startswith("$"):
            value = readable(value)
            if not _is_local(value):
                return False
            paths.add(strip_positions(name))
            if name == "_id" and _asks_type(value):
                paths.add(_ID_TYPE)
        elif name in _LOGICAL:
            if not isinstance(value, (list, tuple)) or not _collect_each(value, paths):
                return False
        elif name != "$comment":
            return False
    return True


def _collect_each(clauses: Sequence[Any], paths: set[str]) -> bool:
    return all(_collect_filter(clause, paths) for clause in clauses)


def _is_local(condition: Any) -> bool:
    """Whether a condition on a path reads that path alone."""
    if not isinstance(condition, Mapping):
        return True
    operators = _operators(condition)
    return all(
        operator in FIELD_OPERATORS
        and (operator != "$not" or _is_local(readable(condition["$not"])))
        for operator in operators
    )


def _asks_type(condition: Any) -> bool:
    """Whether a condition may tell values apart that are equal."""
    if not isinstance(condition, Mapping):
        return False
    return "$type" in condition or ("$not" in condition and _asks_type(readable(condition["$not"])))


def _operators(condition: Mapping[str, Any]) -> Iterable[str]:
    """The operators of a condition; none for a literal document and for a reference."""
    first = next(iter(condition), "")
    return () if not first.startswith("$") or first in ("$ref", "$id") else condition
