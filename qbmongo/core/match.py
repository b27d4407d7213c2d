"""A three-valued matcher: does a filter match a document? Yes, no, or cannot tell.

A wrong "no" would leave a stale answer in the cache, so everything that is not certain, on any
server version, is "cannot tell" (None). Truth values combine by Kleene's strong logic.

Source: https://www.mongodb.com/docs/manual/reference/operator/query/
        https://www.mongodb.com/docs/manual/tutorial/query-arrays/
        https://www.mongodb.com/docs/manual/tutorial/query-for-null-fields/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .predicates import (
    InvalidFilter,
    Predicate,
    exists,
    has_remainder,
    has_size,
    has_type,
    is_dbref,
    is_regex,
    one_of,
    ordered,
    regex,
    regex_operator,
)
from .traversal import UNSURE, Perhaps, as_stored, is_scalar, items, plain, walk
from .truth import Truth, all_of, any_of, negate

_MAX_PATH_PARTS = 100
_DBREF_NAMES = frozenset(("$ref", "$id", "$db"))
# Operators that stand beside fields; as the first of an $elemMatch they make it one over documents.
_BESIDE_FIELDS = frozenset(
    ("$and", "$or", "$nor", "$comment", "$expr", "$where", "$jsonSchema", "$text", "$sampleRate")
)


class Matcher:
    """A filter made ready to be matched against many documents."""

    __slots__ = ("_root",)

    def __init__(self, filter: Mapping[str, Any], *, simple: bool = True) -> None:
        """Read a filter. Never raises.

        Args:
            filter: the filter as sent.
            simple: strings compare by simple binary comparison; False when a collation applies.
        """
        try:
            self._root: _Node = _Reader(simple).filter(_document(filter))
        except Exception:  # an invalid filter, or one that holds what is not known here
            self._root = _CANNOT_TELL

    def matches(self, document: Mapping[str, Any]) -> Truth:
        """Whether the server's query would match this document. Never raises.

        Args:
            document: a document as it is sent to be inserted. (One that was decoded may have lost
                what Python cannot express, such as undefined.)

        Returns:
            True, False, or None for "cannot tell".
        """
        if self._root is _CANNOT_TELL:
            return None
        try:
            return self._root.on_document(as_stored(document))
        except Exception:  # a document that is not known here
            return None


def matches(
    filter: Mapping[str, Any], document: Mapping[str, Any], *, simple: bool = True
) -> Truth:
    """Whether the server would match a document, in three values. Never raises.

    Args:
        filter: the filter as sent.
        document: a document as it is sent to be inserted.
        simple: strings compare by simple binary comparison; False when a collation applies.

    Returns:
        True, False, or None for "cannot tell", also for a filter that the server would refuse.
    """
    return Matcher(filter, simple=simple).matches(document)


class _Node:
    """A part of a filter that cannot be told. Other parts say more."""

    __slots__ = ()

    def on_document(self, document: Mapping[str, Any]) -> Truth:
        return None

    def on_element(self, element: Any) -> Truth:
        """How it reads inside an $elemMatch over values: of the element, whatever the path."""
        return None


_CANNOT_TELL = _Node()


class _Leaf(_Node):
    __slots__ = ("_into_arrays", "_parts", "_predicate")

    def __init__(
        self, parts: Sequence[str], predicate: Predicate, *, into_arrays: bool = True
    ) -> None:
        self._parts = parts
        self._predicate = predicate
        self._into_arrays = into_arrays

    def on_document(self, document: Mapping[str, Any]) -> Truth:
        return any_of(map(self.on_element, walk(document, self._parts, 0, self._into_arrays)))

    def on_element(self, element: Any) -> Truth:
        if isinstance(element, Perhaps):
            return False if self.on_element(element.element) is False else None
        if element is UNSURE:
            return None
        try:
            return self._predicate(element)
        except Exception:  # a value that is not known here, or that cannot be encoded
            return None


class _All(_Node):
    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[_Node]) -> None:
        self._parts = parts

    def on_document(self, document: Mapping[str, Any]) -> Truth:
        return all_of(part.on_document(document) for part in self._parts)

    def on_element(self, element: Any) -> Truth:
        return all_of(part.on_element(element) for part in self._parts)


class _Any(_Node):
    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[_Node]) -> None:
        self._parts = parts

    def on_document(self, document: Mapping[str, Any]) -> Truth:
        return any_of(part.on_document(document) for part in self._parts)

    def on_element(self, element: Any) -> Truth:
        return any_of(part.on_element(element) for part in self._parts)


class _Not(_Node):
    __slots__ = ("_part",)

    def __init__(self, part: _Node) -> None:
        self._part = part

    def on_document(self, document: Mapping[str, Any]) -> Truth:
        return negate(self._part.on_document(document))

    def on_element(self, element: Any) -> Truth:
        return negate(self._part.on_element(element))


class _Reader:
    """Reads a filter into nodes, as the server's parser does; InvalidFilter where it refuses."""

    __slots__ = ("_simple",)

    def __init__(self, simple: bool) -> None:
        self._simple = simple

    def filter(self, filter: Mapping[str, Any]) -> _Node:
        nodes: list[_Node] = []
        for name, operand in filter.items():
            if name in ("$and", "$or", "$nor"):
                branches = [self.filter(_document(branch)) for branch in _array(operand)]
                if not branches:
                    raise InvalidFilter("a list of branches must not be empty")
                node = _All(branches) if name == "$and" else _Any(branches)
                nodes.append(_Not(node) if name == "$nor" else node)
            elif not name.startswith("$"):
                nodes.append(self._field(_path_parts(name), plain(operand)))
            elif name != "$comment":
                nodes.append(_CANNOT_TELL)
        return _All(nodes)

    def _field(self, parts: Sequence[str], operand: Any) -> _Node:
        if isinstance(operand, Mapping) and not is_dbref(operand):
            if next(iter(operand), "").startswith("$"):
                return self._operators(parts, operand)
        elif is_regex(operand):
            return _Leaf(parts, regex(operand, simple=self._simple))
        return self._equal(parts, operand)

    def _operators(self, parts: Sequence[str], operators: Mapping[str, Any]) -> _Node:
        if not operators:
            raise InvalidFilter("no operator")
        return _All([self._operator(parts, name, operators) for name in operators])

    def _operator(self, parts: Sequence[str], name: str, siblings: Mapping[str, Any]) -> _Node:
        operand = plain(siblings[name])
        match name:
            case "$eq":
                return self._equal(parts, operand)
            case "$ne":
                if is_regex(operand):
                    raise InvalidFilter("$ne takes no regex")
                return _Not(self._equal(parts, operand))
            case "$gt" | "$gte" | "$lt" | "$lte":
                return _Leaf(parts, ordered(name, operand, simple=self._simple))
            case "$in":
                return self._in(parts, operand)
            case "$nin":
                return _Not(self._in(parts, operand))
            case "$not":
                return _Not(self._negated(parts, operand))
            case "$exists":
                if not isinstance(operand, bool | int):
                    return _CANNOT_TELL
                return _Leaf(parts, exists) if operand else _Not(_Leaf(parts, exists))
            case "$all":
                return self._all(parts, operand)
            case "$elemMatch":
                return self._elem_match(parts, operand)
            case "$size":
                return _Leaf(parts, has_size(operand), into_arrays=False)
            case "$type":
                return _Leaf(parts, has_type(operand))
            case "$mod":
                return _Leaf(parts, has_remainder(operand))
            case "$regex":
                return _Leaf(parts, regex_operator(siblings, simple=self._simple))
            case "$options":
                if "$regex" not in siblings:
                    raise InvalidFilter("$options without $regex")
                return _All(())
        if name in _BESIDE_FIELDS or not name.startswith("$"):
            raise InvalidFilter("a field, or what stands beside fields, among operators")
        return _CANNOT_TELL

    def _equal(self, parts: Sequence[str], operand: Any) -> _Node:
        return _Leaf(parts, one_of([operand], (), simple=self._simple))

    def _in(self, parts: Sequence[str], operand: Any) -> _Node:
        operands = [plain(item) for item in _array(operand)]
        values = [item for item in operands if not is_regex(item)]
        regexes = [regex(item, simple=self._simple) for item in operands if is_regex(item)]
        return _Leaf(parts, one_of(values, regexes, simple=self._simple))

    def _all(self, parts: Sequence[str], operand: Any) -> _Node:
        operands = [plain(item) for item in _array(operand)]
        if any(isinstance(item, Mapping) and "$elemMatch" in item for item in operands):
            for item in operands:
                if not isinstance(item, Mapping) or list(item) != ["$elemMatch"]:
                    raise InvalidFilter("$all takes $elemMatch everywhere or nowhere")
            return _All([self._operators(parts, item) for item in operands])
        nodes = [
            _Leaf(parts, regex(item, simple=self._simple))
            if is_regex(item)
            else self._equal(parts, item)
            for item in operands
        ]
        return _All(nodes) if nodes else _Any(())

    def _negated(self, parts: Sequence[str], operand: Any) -> _Node:
        if is_regex(operand):
            return _Leaf(parts, regex(operand, simple=self._simple))
        return self._operators(parts, _document(operand))

    def _elem_match(self, parts: Sequence[str], operand: Any) -> _Node:
        condition = _document(operand)
        first = next(iter(condition), "")
        if first.startswith("$") and first not in _BESIDE_FIELDS:
            over_values = self._operators((), condition)

            def has_value(element: Any) -> Truth:
                return any_of(map(over_values.on_element, items(element)))

            return _Leaf(parts, has_value, into_arrays=False)
        over_documents = self.filter(condition)

        def has_document(element: Any) -> Truth:
            return any_of(_on_item(over_documents, item) for item in items(element))

        return _Leaf(parts, has_document, into_arrays=False)


def _on_item(condition: _Node, item: Any) -> Truth:
    if isinstance(item, Mapping):
        return condition.on_document(item)
    if isinstance(item, list | tuple):
        # Servers read an array inside an array as a document of its indexes here, undocumented.
        by_index = {str(index): value for index, value in enumerate(item)}
        return False if condition.on_document(by_index) is False else None
    return False if is_scalar(item) else None


def _document(value: Any) -> Mapping[str, Any]:
    value = plain(value)
    if not isinstance(value, Mapping):
        raise InvalidFilter("a document is needed")
    return value


def _array(value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise InvalidFilter("an array is needed")
    return value


def _path_parts(path: str) -> Sequence[str]:
    parts = path.split(".")
    if len(parts) > _MAX_PATH_PARTS:
        raise InvalidFilter("a path of that length may be refused")
    for part in parts:
        if not part or (part.startswith("$") and part not in _DBREF_NAMES):
            raise InvalidFilter("an empty or reserved name in a path")
    return parts
