"""Filter of a shape -> what an index could do for it: bounds on paths, branches, and the rest.

A bound is one path with what is asked of it; `kind` says what it gives an index:

    point    equality with one value; of `$all` with its first; of `$in` with one value
    null     equality with null, or `$exists: false`: also matches documents without the path
    in       one of several values
    range    $gt, $gte, $lt, $lte; two_sided: both ends
    prefix   an anchored regular expression
    exists   `$exists: true`: a whole index is read, unless it is sparse
    type     $type: one stretch of an index for each type
    scan     $ne, $nin, $not, other regular expressions: nearly a whole index is read
    geo      a query on a place
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["SIZES", "Bound", "Conjunction", "conjunction", "index_path"]

#: What a size class of `$in` stands for: about its middle.
SIZES = {"0": 0, "1": 1, "2-10": 5, "11-200": 60, "201-1000": 500, "1001-": 2_000}

_RANGES = frozenset({"$gt", "$gte", "$lt", "$lte"})
_GEO = frozenset({"$near", "$nearSphere", "$geoWithin", "$geoIntersects", "$within"})
_STRINGS = frozenset({"string", "regex", "regex_prefix", "array", "document", "other"})


@dataclass(frozen=True, slots=True)
class Bound:
    """What is asked of one path.

    types: type classes of the values (docs/profile.md). size: number of values. within: the path of
    the `$elemMatch` it stands in, so that it may be combined with others in the same one.
    """

    path: str
    kind: str
    types: frozenset[str] = frozenset()
    size: int = 1
    two_sided: bool = False
    within: str | None = None

    @property
    def is_point(self) -> bool:
        return self.kind in ("point", "null")

    @property
    def excludes_missing(self) -> bool:
        """Whether no document without the path can match, so that a sparse index is complete."""
        return self.kind in ("point", "in", "range", "prefix", "exists", "geo") and (
            "null" not in self.types
        )

    @property
    def may_hold_strings(self) -> bool:
        """Whether the comparison depends on the collation. Source: MongoDB manual, Collation."""
        return self.kind in ("prefix", "scan") or not self.types.isdisjoint(_STRINGS)


@dataclass(frozen=True, slots=True)
class Conjunction:
    """Bounds that all hold, sets of branches of which one of each holds, and whether more is asked.

    residual: there are conditions that no index of this kind serves ($expr, $where, $size, ...).
    """

    bounds: tuple[Bound, ...] = ()
    alternatives: tuple[tuple[Conjunction, ...], ...] = ()
    residual: bool = False
    text: bool = False

    def joined(self, other: Conjunction) -> Conjunction:
        """Both hold."""
        return Conjunction(
            _merged([*self.bounds, *other.bounds]),
            (*self.alternatives, *other.alternatives),
            self.residual or other.residual,
            self.text or other.text,
        )

    def bound(self, path: str) -> Bound | None:
        """The bound of a path that an index would use: the one that leaves least."""
        found = [bound for bound in self.bounds if bound.path == path]
        return min(found, key=lambda bound: _ORDER[bound.kind]) if found else None


_ORDER = {
    kind: rank
    for rank, kind in enumerate(
        ("point", "null", "in", "geo", "prefix", "range", "type", "exists", "scan")
    )
}


def conjunction(nodes: Sequence[Mapping[str, Any]] | None) -> Conjunction:
    """The conjunction of a shape's filter.

    Args:
        nodes: the list of nodes of docs/profile.md; None: no filter.
    """
    bounds: list[Bound] = []
    alternatives: list[tuple[Conjunction, ...]] = []
    residual = text = False
    for node in nodes or ():
        op = node["op"]
        if "path" not in node:
            if op == "$or" and "branches" in node:
                alternatives.append(tuple(conjunction(branch) for branch in node["branches"]))
            else:
                residual = True
                text = text or op == "$text"
            continue
        found = _bounds(node)
        if not found or op in ("$elemMatch", "$all", "$not"):
            residual = True
        bounds.extend(found)
    return Conjunction(_merged(bounds), tuple(alternatives), residual, text)


def index_path(path: str) -> bool:
    """Whether a path may be a key of an ordinary index that is proposed.

    A position in an array ("laps.0") is a path of its own, which an index on the array does not
    serve; names with "$" or an empty part cannot be keys.
    """
    parts = path.split(".")
    return all(part and part[0] != "$" and not part.isdigit() for part in parts)


def _bounds(node: Mapping[str, Any]) -> list[Bound]:
    path, op = node["path"], node["op"]
    if not index_path(path):
        return []
    if op == "$elemMatch":
        return _element_bounds(node)
    if op == "$all" and "branches" in node:
        first = node["branches"][0] if node["branches"] else []
        return _element_bounds({"path": path, "filter": first})
    bound = _bound(path, node)
    return [] if bound is None else [bound]


def _element_bounds(node: Mapping[str, Any]) -> list[Bound]:
    """Bounds in one `$elemMatch`; they may be combined even where the path is an array."""
    path = node["path"]
    if "operators" in node:
        found = [_bound(path, inner) for inner in node["operators"]]
    else:
        found = [
            _bound(f"{path}.{inner['path']}", inner)
            for inner in node.get("filter", ())
            if "path" in inner and inner["op"] != "$elemMatch" and index_path(inner["path"])
        ]
    return [replace(bound, within=path) for bound in found if bound is not None]


def _bound(path: str, node: Mapping[str, Any]) -> Bound | None:
    op = node["op"]
    if op == "$eq":
        return _equality(path, node["type"])
    if op == "$in":
        if "types" not in node:
            return None  # not even a list: the server refuses it
        types = frozenset(node["types"])
        size = SIZES.get(node["size"], 1)
        if types & {"regex"}:
            return Bound(path, "scan", types, size)
        if types & {"regex_prefix"}:
            return Bound(path, "prefix", types, size)
        if size <= 1:
            return Bound(path, "null" if types == {"null"} else "point", types, size)
        return Bound(path, "in", types, size)
    if op == "$all" and "types" in node:
        return Bound(path, "point", frozenset(node["types"]))
    if op in _RANGES:
        kind = "null" if node["type"] == "null" else "range"
        return Bound(path, kind, frozenset({node["type"]}))
    if op == "$exists":
        missing = node["type"] == "false"
        return Bound(path, "null" if missing else "exists", frozenset({"null"} if missing else ()))
    if op == "$regex":
        kind = "prefix" if node["type"] == "regex_prefix" else "scan"
        return Bound(path, kind, frozenset({"string"}))
    if op == "$type":
        return Bound(path, "type")
    if op in ("$ne", "$nin", "$not"):
        return Bound(path, "scan", frozenset(node.get("types", [node.get("type", "other")])))
    if op in _GEO:
        return Bound(path, "geo")
    return None


def _equality(path: str, type_class: str) -> Bound:
    if type_class == "null":
        return Bound(path, "null", frozenset({"null"}))
    if type_class in ("regex", "regex_prefix"):
        kind = "prefix" if type_class == "regex_prefix" else "scan"
        return Bound(path, kind, frozenset({"string"}))
    return Bound(path, "point", frozenset({type_class}))


def _merged(bounds: list[Bound]) -> tuple[Bound, ...]:
    """Two ends of one range become one bound, if they are of the same `$elemMatch` or of none."""
    merged: list[Bound] = []
    for bound in bounds:
        if bound.kind == "range":
            for i, other in enumerate(merged):
                if (other.path, other.kind, other.within) == (bound.path, "range", bound.within):
                    merged[i] = replace(other, two_sided=True, types=other.types | bound.types)
                    break
            else:
                merged.append(bound)
        elif bound not in merged:
            merged.append(bound)
    return tuple(merged)
