"""Values that a shape was seen with, from whole commands and from slow samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .records import WorkloadShape

__all__ = ["MIN_SEEN", "constants", "filters_of", "observed_values"]

#: Calls that must have been seen with one value before it is taken for a constant.
MIN_SEEN = 5
_MAX_DEPTH = 8
_RANGES = frozenset({"$gt", "$gte", "$lt", "$lte"})


def filters_of(shape: WorkloadShape) -> list[Mapping[str, Any]]:
    """The filters a shape was seen with; of a pipeline its leading $match."""
    found: list[Mapping[str, Any]] = []
    for asked in (*(map(_asked, shape.commands)), *shape.filters):
        filter = asked
        if isinstance(asked, (list, tuple)):
            first = asked[0] if asked else None
            filter = first.get("$match") if isinstance(first, Mapping) else None
        if isinstance(filter, Mapping):
            found.append(filter)
    return found


def _asked(command: Mapping[str, Any]) -> Any:
    """The filter or pipeline of a command. Source: MongoDB manual, "Database Commands"."""
    for name in ("filter", "query", "q", "pipeline"):
        if name in command:
            return command[name]
    for name in ("updates", "deletes"):
        statements = command.get(name)
        if isinstance(statements, (list, tuple)) and statements:
            first = statements[0]
            return first.get("q") if isinstance(first, Mapping) else None
    return None


def observed_values(shape: WorkloadShape) -> dict[str, tuple[Any, ...]]:
    """Values of a shape's equalities by path, one for each filter seen.

    Under the path and " range": for each filter the (operator, value) pairs of that path.
    """
    found: dict[str, list[Any]] = {}
    for filter in filters_of(shape):
        ranges: dict[str, list[tuple[str, Any]]] = {}
        _collect(filter, found, ranges, 0)
        for path, ends in ranges.items():
            found.setdefault(f"{path} range", []).append(tuple(ends))
    return {path: tuple(values) for path, values in found.items()}


def _collect(
    filter: Mapping[str, Any],
    found: dict[str, list[Any]],
    ranges: dict[str, list[tuple[str, Any]]],
    depth: int,
) -> None:
    for path, value in filter.items():
        if path == "$and" and isinstance(value, (list, tuple)) and depth < _MAX_DEPTH:
            for part in value:
                if isinstance(part, Mapping):
                    _collect(part, found, ranges, depth + 1)
        elif path[:1] == "$":
            continue
        elif isinstance(value, Mapping) and any(str(name)[:1] == "$" for name in value):
            if "$eq" in value:
                found.setdefault(path, []).append(value["$eq"])
            ends = [(str(op), end) for op, end in value.items() if op in _RANGES]
            if ends:
                ranges.setdefault(path, []).extend(ends)
        else:
            found.setdefault(path, []).append(value)


def constants(
    values: Mapping[str, tuple[Any, ...]], filters: int, at_least: int = MIN_SEEN
) -> dict[str, Any]:
    """Equalities that always had one value of a type that a partial index may be made of.

    Args:
        values: of `observed_values`.
        filters: filters seen; each must have had the equality.
        at_least: filters that must have been seen.
    """
    if filters < at_least:
        return {}
    return {
        path: seen[0]
        for path, seen in values.items()
        if len(seen) == filters and _is_constant(seen)
    }


def _is_constant(seen: Iterable[Any]) -> bool:
    values = iter(seen)
    first = next(values)
    if not isinstance(first, (str, int, float, bool)):
        return False
    return all(type(value) is type(first) and value == first for value in values)
