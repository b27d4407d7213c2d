"""Filters of a shape with values again, drawn from documents of the collection.

A shape knows paths, operators and type classes; what was asked for is gone. A filter is made to
match one document, its *anchor*: equality asks for the anchor's values, ranges contain them.
Several anchors are taken, with frequent and with rare values: an index is judged by both.
"""

from __future__ import annotations

import datetime
import random
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import Binary, Code, MaxKey, MinKey, ObjectId, Regex, Timestamp

from ..core.match import Matcher
from ..core.shape_filters import type_class
from .field_values import arrays_at, identity_of, values_at
from .value_order import next_to, rank_of, rankable, sorted_values

__all__ = ["DrawnFilter", "draw_filters", "list_length"]

Node = Mapping[str, Any]

_LENGTHS = {"0": 0, "1": 1, "2-10": 5, "11-200": 50, "201-1000": 500, "1001-": 1_200}
_BELOW = ("$lt", "$lte")
_ABOVE = ("$gt", "$gte")
_RANGES = frozenset((*_BELOW, *_ABOVE))
_PREFIX_CHARACTERS = 3
# Share of the documents with the same equal values that a range takes in, by the filter's number.
_RANGE_SHARES = (0.05, 0.3, 0.01, 0.1)
_MAX_ANCHORS = 5_000
# Server-wide names of the type classes, for $type.
_TYPE_NAMES = {
    "number": "number",
    "string": "string",
    "id": "objectId",
    "bool": "bool",
    "null": "null",
    "date": "date",
    "binary": "binData",
    "timestamp": "timestamp",
    "array": "array",
    "document": "object",
}

_NOTHING: Any = object()


@dataclass(frozen=True, slots=True)
class DrawnFilter:
    """A filter with values. left_out: operators of the shape that it does not have."""

    filter: dict[str, Any]
    left_out: tuple[str, ...] = ()


def draw_filters(
    nodes: Sequence[Node],
    documents: Sequence[Mapping[str, Any]],
    count: int,
    *,
    returned_share: float | None = None,
    seed: int = 0,
) -> list[DrawnFilter]:
    """Filters that have a shape's paths and operators, different from each other.

    Args:
        nodes: the shape's filter (docs/profile.md), a conjunction.
        documents: decoded documents of the collection; none give filters with made-up values.
        count: how many filters at most.
        returned_share: share of the collection that a call returns, where known; ranges are made
            about so wide.
        seed: the same seed gives the same filters.
    """
    drawn: list[DrawnFilter] = []
    known: set[Hashable] = set()
    rng = random.Random(seed)
    for number, anchor in enumerate(_anchors(nodes, documents, count)):
        share = _RANGE_SHARES[number % len(_RANGE_SHARES)]
        if returned_share is not None:
            share = returned_share
        draw = _Draw(documents, anchor, share, returned_share is not None, rng)
        filter = draw.conjunction(nodes, anchor)
        identity = identity_of(filter)
        if identity not in known:
            known.add(identity)
            drawn.append(DrawnFilter(filter, tuple(dict.fromkeys(draw.left_out))))
    return drawn


def list_length(size: str, *, at_most: int = 2_000) -> int:
    """How many values stand for a size class of `$in`."""
    return min(_LENGTHS.get(size, 5), at_most)


def _anchors(
    nodes: Sequence[Node], documents: Sequence[Mapping[str, Any]], count: int
) -> list[Mapping[str, Any]]:
    """Documents to match, by turns with frequent, rare and middling values."""
    groups: dict[Hashable, list[Mapping[str, Any]]] = {}
    best = -1
    for document in documents[:_MAX_ANCHORS]:
        identities: list[Hashable] = []
        fitting = 0
        for node in nodes:
            value = _anchor_value(node, document)
            fits = value is not _NOTHING
            fitting += fits
            if fits and node.get("op") in ("$eq", "$in", "$all"):
                identities.append(identity_of(value))
        if fitting > best:
            groups, best = {}, fitting
        if fitting == best:
            groups.setdefault(tuple(identities), []).append(document)
    ranked = sorted(groups.values(), key=len, reverse=True)
    if not ranked:
        return [{}]
    if len(ranked) == 1:
        same = ranked[0]
        return [same[i * len(same) // count] for i in range(min(count, len(same)))]
    places = [i * (len(ranked) - 1) // max(count - 1, 1) for i in range(count)]
    # The most frequent values first, then the rarest, then those between.
    order = sorted(set(places), key=lambda place: (place not in (0, len(ranked) - 1), place))
    return [ranked[place][len(ranked[place]) // 2] for place in order][:count]


def _anchor_value(node: Node, document: Any) -> Any:
    """A value of the document that the node's condition could be about."""
    path, op = node.get("path"), node["op"]
    if path is None:
        if op == "$or" and "branches" in node:
            fits = any(
                all(_anchor_value(inner, document) is not _NOTHING for inner in branch)
                for branch in node["branches"]
            )
            return None if fits else _NOTHING
        return None
    if op == "$exists":
        there = next(values_at(document, path), _NOTHING) is not _NOTHING
        return None if there == (node.get("type") == "true") else _NOTHING
    if op == "$elemMatch" or "branches" in node:
        return next((a for a in arrays_at(document, path) if a), _NOTHING)
    if op in ("$ne", "$nin", "$not", "$type", "$mod"):
        return None
    if op == "$size":
        return next((len(array) for array in arrays_at(document, path)), _NOTHING)
    if "types" in node:
        classes = set(node["types"])
    elif op == "$regex" or str(node.get("type", "")).startswith("regex"):
        classes = {"string"}
    else:
        classes = {str(node.get("type", "other"))}
    if classes == {"other"}:  # a join's: any value that is there
        return next((v for v in values_at(document, path) if not _is_container(v)), _NOTHING)
    if "null" in classes and len(classes) == 1:
        value = next(values_at(document, path), None)
        return None if value is None else _NOTHING
    return next((v for v in values_at(document, path) if type_class(v) in classes), _NOTHING)


def _is_container(value: Any) -> bool:
    return value is None or isinstance(value, (list, Mapping))


class _Draw:
    """Makes one filter."""

    def __init__(
        self,
        documents: Sequence[Any],
        anchor: Any,
        range_share: float,
        is_share_of_all: bool,
        rng: random.Random,
    ) -> None:
        self._documents = documents
        self._range_share = range_share
        self._is_share_of_all = is_share_of_all
        self._rng = rng
        self.left_out: list[str] = []

    def conjunction(self, nodes: Sequence[Node], anchor: Any) -> dict[str, Any]:
        """The filter of some nodes that matches the anchor, where any does."""
        filter: dict[str, Any] = {}
        further: list[dict[str, Any]] = []
        ranges: dict[str, list[Node]] = {}
        for node in nodes:
            path, op = node.get("path"), str(node["op"])
            if path is None:
                self._logical(op, node, anchor, filter, further)
            elif op in _RANGES:
                ranges.setdefault(str(path), []).append(node)
            else:
                operand = self._operand(node, anchor)
                if operand is _NOTHING:
                    self.left_out.append(op)
                else:
                    _put(filter, further, str(path), op, operand)
        near = self._documents_near(filter) if ranges else ()
        for path, bounds in ranges.items():
            ends = self._bounds(path, bounds, anchor, near)
            for op, value in ends:
                _put(filter, further, path, op, value)
            if len(ranges) > 1:
                # The next range is chosen within this one: together they match something.
                matcher = Matcher({path: dict(ends)})
                near = [d for d in near if matcher.matches(d) is True]
        if further:
            filter["$and"] = further
        return filter

    def _logical(
        self, op: str, node: Node, anchor: Any, filter: dict[str, Any], further: list[Any]
    ) -> None:
        if op not in ("$or", "$nor") or "branches" not in node:
            self.left_out.append(op)
            return
        branches = []
        for number, branch in enumerate(node["branches"]):
            # Each branch is about other documents, or one of them would do for all.
            at = anchor
            if number or op == "$nor":
                at = self._fitting(branch) or anchor
            branches.append(self.conjunction(branch, at))
        branches = [branch for branch in branches if branch]
        if len(branches) < len(node["branches"]):
            # Without one of its conditions a branch matches everything: no likeness of the shape.
            self.left_out.append(op)
        elif op in filter:
            further.append({op: branches})
        else:
            filter[op] = branches

    def _fitting(self, nodes: Sequence[Node]) -> Any:
        if not self._documents:
            return None
        start = self._rng.randrange(len(self._documents))
        for i in range(min(len(self._documents), 200)):
            document = self._documents[(start + i) % len(self._documents)]
            if all(_anchor_value(node, document) is not _NOTHING for node in nodes):
                return document
        return None

    def _documents_near(self, filter: Mapping[str, Any]) -> Sequence[Any]:
        """The documents that the conditions so far match: within them a range is chosen."""
        if not filter:
            return self._documents
        matcher = Matcher(filter)
        return [d for d in self._documents if matcher.matches(d) is True]

    def _bounds(
        self, path: str, nodes: Sequence[Node], anchor: Any, near: Sequence[Any]
    ) -> list[tuple[str, Any]]:
        kind = str(nodes[0].get("type", "number"))
        values = sorted_values(near, path, kind) or sorted_values(self._documents, path, kind)
        if not values:
            made_up = _made_up(kind, 0)
            return [(str(node["op"]), made_up) for node in nodes]
        wanted = self._range_share * len(self._documents if self._is_share_of_all else values)
        width = max(1, min(round(wanted), len(values)))
        ranks = [rankable(value) for value in values]
        below = any(node["op"] in _BELOW for node in nodes)
        above = any(node["op"] in _ABOVE for node in nodes)
        low = 0
        if above:
            low = len(values) - width
        if above and below:
            own = next((v for v in values_at(anchor, path) if type_class(v) == kind), values[0])
            low = max(0, min(rank_of(ranks, own) - width // 2, low))
        high = low + width - 1
        before = bisect_left(ranks, ranks[low]) - 1
        after = bisect_right(ranks, ranks[high])
        ends = {
            "$gte": values[low],
            "$gt": values[before] if before >= 0 else next_to(values[low], -1),
            "$lte": values[high],
            "$lt": values[after] if after < len(values) else next_to(values[high], 1),
        }
        return [(str(node["op"]), ends[str(node["op"])]) for node in nodes]

    def _operand(self, node: Node, anchor: Any) -> Any:
        path, op = str(node["path"]), str(node["op"])
        make = _OPERANDS.get(op)
        if make is not None:
            return make(self, node, path, anchor)
        return _NOTHING

    def _equal(self, node: Node, path: str, anchor: Any) -> Any:
        kind = str(node.get("type", "other"))
        if kind.startswith("regex"):
            return self._regex(node, path, anchor)
        value = _anchor_value(node, anchor)
        return _made_up(kind, 0) if value is _NOTHING else value

    def _unequal(self, node: Node, path: str, anchor: Any) -> Any:
        kind = str(node.get("type", "other"))
        return self._some(path, {kind}, anchor, _made_up(kind, 0))

    def _regex(self, node: Node, path: str, anchor: Any) -> Any:
        text = next((v for v in values_at(anchor, path) if isinstance(v, str) and v), "qb")
        if node.get("type") == "regex_prefix":
            letters = re.match(r"[^\W\d_]{1,3}|\w{1,3}", text)
            found = letters[0] if letters else re.escape(text[:_PREFIX_CHARACTERS])
            return Regex("^" + found)
        return Regex(re.escape(text[1 : 1 + _PREFIX_CHARACTERS] or text))

    def _exists(self, node: Node, path: str, anchor: Any) -> Any:
        return node.get("type") == "true"

    def _size(self, node: Node, path: str, anchor: Any) -> Any:
        value = _anchor_value(node, anchor)
        return 1 if value is _NOTHING else value

    def _type(self, node: Node, path: str, anchor: Any) -> Any:
        value = next(values_at(anchor, path), None)
        return _TYPE_NAMES.get(type_class(value), "string")

    def _mod(self, node: Node, path: str, anchor: Any) -> Any:
        return [2, 0]

    def _among(self, node: Node, path: str, anchor: Any) -> Any:
        """A list of so many values: the anchor's, then others that occur, then made-up ones."""
        if "types" not in node:
            return _NOTHING  # not even a list: the server refuses it
        length = list_length(str(node["size"]))
        classes = set(node["types"])
        wants_patterns = any(kind.startswith("regex") for kind in classes)
        if wants_patterns:
            classes.add("string")
        values: dict[Hashable, Any] = {}
        own = _anchor_value({**node, "types": list(classes)}, anchor)
        if length and own is not _NOTHING and node["op"] != "$nin":
            values[identity_of(own)] = own
        counts: Counter[Hashable] = Counter()
        seen: dict[Hashable, Any] = {}
        for document in self._documents:
            for value in values_at(document, path):
                if type_class(value) in classes:
                    identity = identity_of(value)
                    counts[identity] += 1
                    seen.setdefault(identity, value)
        others = [identity for identity, _ in counts.most_common()]
        if len(others) > length:
            others = self._rng.sample(others, length)
        for identity in others:
            if len(values) >= length:
                break
            values[identity] = seen[identity]
        kinds = [kind for kind in sorted(classes) if not kind.startswith("regex")] or ["string"]
        number = 0
        while len(values) < length and number < 10 * length + 10:
            value = _made_up(kinds[number % len(kinds)], number)
            values.setdefault(identity_of(value), value)
            number += 1
        listed = list(values.values())
        if wants_patterns:
            listed = [Regex("^" + re.escape(v[:3])) if isinstance(v, str) else v for v in listed]
        return listed

    def _all(self, node: Node, path: str, anchor: Any) -> Any:
        if "branches" in node:
            elements = [e for array in arrays_at(anchor, path) for e in array]
            branches = [
                {"$elemMatch": self._inner(path).conjunction(branch, _first(elements, number))}
                for number, branch in enumerate(node["branches"])
            ]
            return branches or _NOTHING
        if "types" not in node:
            return _NOTHING
        length = list_length(str(node["size"]), at_most=10)
        kinds = set(node["types"])
        found = {identity_of(v): v for v in values_at(anchor, path) if type_class(v) in kinds}
        listed = list(found.values())[: max(length, 1)]
        return listed or [_made_up(next(iter(sorted(kinds)), "string"), 0)]

    def _elem_match(self, node: Node, path: str, anchor: Any) -> Any:
        elements = [e for array in arrays_at(anchor, path) for e in array]
        if "operators" in node:
            inner = [{**part, "path": "v"} for part in node["operators"]]
            universe = [{"v": e} for d in self._documents for a in arrays_at(d, path) for e in a]
            draw = self._like(universe)
            fitting = {"v": _first(elements, 0)} if elements else {}
            operators = draw.conjunction(inner, fitting).get("v", {})
            self.left_out += draw.left_out
            if not isinstance(operators, dict):
                operators = {"$eq": operators}
            return operators or _NOTHING
        if "filter" not in node:
            return _NOTHING
        draw = self._inner(path)
        mappings = [e for e in elements if isinstance(e, Mapping)]
        fit = [
            e
            for e in mappings
            if all(_anchor_value(part, e) is not _NOTHING for part in node["filter"])
        ]
        inner_filter = draw.conjunction(node["filter"], _first(fit or mappings, 0))
        self.left_out += draw.left_out
        return inner_filter or _NOTHING

    def _not(self, node: Node, path: str, anchor: Any) -> Any:
        if "operators" not in node:
            return self._regex(node, path, anchor)
        inner = [{**part, "path": path} for part in node["operators"]]
        operators = self.conjunction(inner, self._fitting(inner) or anchor).get(path)
        if isinstance(operators, dict) and operators:
            return operators
        return _NOTHING if operators is None else {"$eq": operators}

    def _inner(self, path: str) -> _Draw:
        return self._like(
            [
                element
                for document in self._documents
                for array in arrays_at(document, path)
                for element in array
                if isinstance(element, Mapping)
            ]
        )

    def _like(self, documents: Sequence[Any]) -> _Draw:
        return _Draw(documents, None, self._range_share, self._is_share_of_all, self._rng)

    def _some(self, path: str, classes: set[str], anchor: Any, otherwise: Any) -> Any:
        """A frequent value of the path that is not the anchor's."""
        own = {identity_of(value) for value in values_at(anchor, path)}
        counts: Counter[Hashable] = Counter()
        seen: dict[Hashable, Any] = {}
        for document in self._documents[:1_000]:
            for value in values_at(document, path):
                identity = identity_of(value)
                if type_class(value) in classes and identity not in own:
                    counts[identity] += 1
                    seen.setdefault(identity, value)
        return seen[counts.most_common(1)[0][0]] if counts else otherwise


_OPERANDS: dict[str, Callable[[_Draw, Node, str, Any], Any]] = {
    "$eq": _Draw._equal,
    "$ne": _Draw._unequal,
    "$in": _Draw._among,
    "$nin": _Draw._among,
    "$all": _Draw._all,
    "$exists": _Draw._exists,
    "$regex": _Draw._regex,
    "$size": _Draw._size,
    "$type": _Draw._type,
    "$mod": _Draw._mod,
    "$elemMatch": _Draw._elem_match,
    "$not": _Draw._not,
}


def _put(
    filter: dict[str, Any], further: list[dict[str, Any]], path: str, op: str, operand: Any
) -> None:
    if path not in filter:
        filter[path] = operand if op == "$eq" else {op: operand}
        return
    present = filter[path]
    operators = isinstance(present, dict) and all(str(k).startswith("$") for k in present)
    if operators and present and op not in present and op != "$eq":
        # Made anew: what is there may be a document of the sample's.
        filter[path] = {**present, op: operand}
    else:
        further.append({path: {op: operand}})


def _first(items: Sequence[Any], number: int) -> Any:
    return items[number % len(items)] if items else {}


def _made_up(kind: str, number: int) -> Any:
    """A value of a type class that is not likely to occur."""
    make = _MADE_UP.get(kind)
    return make(number) if make is not None else f"qbmongo-{number}"


_MADE_UP: dict[str, Callable[[int], Any]] = {
    "number": lambda n: 1_000_000_007 + n,
    "string": lambda n: f"qbmongo-{n}",
    "id": lambda n: ObjectId(f"{n + 1:024x}"),
    "bool": lambda n: n % 2 == 0,
    "null": lambda n: None,
    "date": lambda n: datetime.datetime(2000, 1, 1) + datetime.timedelta(seconds=n),
    "binary": lambda n: Binary(f"qbmongo-{n}".encode()),
    "timestamp": lambda n: Timestamp(1_000_000, n + 1),
    "array": lambda n: [f"qbmongo-{n}"],
    "document": lambda n: {"qbmongo": n},
    "code": lambda n: Code(f"qbmongo-{n}"),
    "minkey": lambda n: MinKey(),
    "maxkey": lambda n: MaxKey(),
}
