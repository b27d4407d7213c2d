"""Filter -> filter key: paths and operators, each value replaced by its type class.

The grammar of a key is in `core.shapes`. Type classes are as fine as an index cares: "regex_prefix"
is a pattern that gives an index bounds, "null" may miss a sparse or partial index, and arrays and
documents compare as a whole.
"""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from operator import itemgetter
from typing import Any

from bson import (
    Binary,
    Code,
    DatetimeMS,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
)

MAX_NODES = 300  # parts read of one operation
MAX_DEPTH = 8
MAX_NAME = 200  # characters of a path or name
MAX_BRANCHES = 100  # branches read of one $or, $nor, $and
MAX_LISTED = 1_000  # values of one $in, $nin, $all whose types are read

#: What a document may be; dict first, because the test of an abstract class costs ten times more.
DOCUMENT = (dict, Mapping)

MORE = "$more"
INVALID = "$invalid"

#: Exact types whose class needs no look at the value.
CLASSES: dict[type, str] = {
    str: "string",
    int: "number",
    float: "number",
    Int64: "number",
    Decimal128: "number",
    bool: "bool",
    type(None): "null",
    ObjectId: "id",
    datetime.datetime: "date",
    DatetimeMS: "date",
    bytes: "binary",
    Binary: "binary",
    uuid.UUID: "binary",
    Timestamp: "timestamp",
    MinKey: "minkey",
    MaxKey: "maxkey",
    Code: "code",
    DBRef: "document",
    list: "array",
    tuple: "array",
}

#: Those of them whose values are no containers.
SCALARS: dict[type, str] = {
    kind: name for kind, name in CLASSES.items() if name not in ("array", "document")
}

_SUBCLASSES: tuple[tuple[type, str], ...] = (
    (Code, "code"),  # before str, which it is
    (str, "string"),
    (bool, "bool"),
    (int, "number"),
    (float, "number"),
    (Binary, "binary"),
    (bytes, "binary"),
    (datetime.datetime, "date"),
    (ObjectId, "id"),
    (list, "array"),
    (tuple, "array"),
    (Mapping, "document"),
)

_LOGICAL = frozenset({"$or", "$nor", "$and"})
_LISTS = frozenset({"$in", "$nin", "$all"})
_TRUTH = frozenset({"$exists"})

# Operators whose argument's type class says all; each maps to itself, the exact string.
_COMPARISONS = {name: name for name in ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")}

# A prefix that an index can seek to: an anchor, then at least one literal character.
_PREFIX = re.compile(r"(?:\^|\\A)(?:[^\\^$.|?*+()\[\]{}\s#]|\\[^A-Za-z0-9])(?![?*{])")

FilterKey = tuple[Any, ...]


class Room:
    """How many more parts of one operation may be read."""

    __slots__ = ("left",)

    def __init__(self, left: int = MAX_NODES) -> None:
        self.left = left


def name_of(value: Any) -> str:
    """A path, collection or operator name as an exact, bounded `str`; never the caller's object."""
    if type(value) is str:
        return value if len(value) <= MAX_NAME else value[:MAX_NAME]
    if isinstance(value, str):
        return str.__str__(value)[:MAX_NAME]
    return INVALID


def type_class(value: Any) -> str:
    """The type class of a value used for equality or as an operator's argument."""
    known = CLASSES.get(type(value))
    if known is not None:
        return known
    if isinstance(value, Regex):
        return _regex_class(value.pattern, value.flags)
    if isinstance(value, re.Pattern):
        return _regex_class(value.pattern, value.flags)
    for kind, name in _SUBCLASSES:
        if isinstance(value, kind):
            return name
    return "other"


def _regex_class(pattern: Any, flags: Any) -> str:
    """ "regex_prefix" where the server can turn the pattern into index bounds, else "regex".

    Conservative: an alternative, an ignored case or a multi-line `^` gives no bounds.

    Source: MongoDB manual, $regex, "Index Use".
    """
    if isinstance(pattern, bytes):
        pattern = pattern.decode("utf-8", "replace")
    if not isinstance(pattern, str) or "|" in pattern or not _PREFIX.match(pattern):
        return "regex"
    if isinstance(flags, str):
        ignores_case, multiline, verbose = "i" in flags, "m" in flags, "x" in flags
    elif isinstance(flags, int):
        ignores_case = bool(flags & re.IGNORECASE)
        multiline, verbose = bool(flags & re.MULTILINE), bool(flags & re.VERBOSE)
    else:
        return "regex"
    if ignores_case or verbose or (multiline and pattern[0] == "^"):
        return "regex"
    return "regex_prefix"


def size_class(count: int) -> str:
    """The size class of a list. Source: up to 200 `$in` values keep a merge sort possible."""
    if count <= 1:
        return "1" if count else "0"
    if count <= 10:
        return "2-10"
    if count <= 200:
        return "11-200"
    return "201-1000" if count <= 1_000 else "1001-"


def filter_key(filter: Any, room: Room, depth: int = 0) -> FilterKey:
    """The key of a filter; of whatever else the caller gave, that it is invalid."""
    if filter is None:
        return ()
    if not isinstance(filter, DOCUMENT):
        return (INVALID, type_class(filter))
    if depth > MAX_DEPTH:
        return (MORE, "document")
    pairs: list[tuple[str, Any]] = []
    _collect(filter, pairs, room, depth)
    if len(pairs) > 1:
        pairs.sort(key=itemgetter(0))
    return tuple(part for pair in pairs for part in pair)


def _collect(
    filter: Mapping[Any, Any], pairs: list[tuple[str, Any]], room: Room, depth: int
) -> None:
    for path, value in filter.items():
        if room.left <= 0:
            pairs.append((MORE, "document"))
            return
        room.left -= 1
        if type(path) is str and path[:1] != "$":
            known = CLASSES.get(type(value))
            pairs.append((name_of(path), known or _predicate(value, room, depth)))
            continue
        name = name_of(path)
        if name[:1] != "$" or name == INVALID:
            pairs.append((name, _predicate(value, room, depth)))
        elif name in _LOGICAL:
            _collect_logical(name, value, pairs, room, depth)
        elif name == "$expr":
            pairs.append((name, ("expression", _expression(value, room))))
        elif name != "$comment":
            pairs.append((name, type_class(value)))


def _collect_logical(
    name: str, branches: Any, pairs: list[tuple[str, Any]], room: Room, depth: int
) -> None:
    if not isinstance(branches, (list, tuple)):
        pairs.append((name, type_class(branches)))
    elif name == "$and" and depth < MAX_DEPTH:
        # A conjunction of conjunctions is one conjunction.
        for branch in branches[:MAX_BRANCHES]:
            if isinstance(branch, DOCUMENT):
                _collect(branch, pairs, room, depth + 1)
            else:
                pairs.append((INVALID, type_class(branch)))
    else:
        keys = frozenset(filter_key(b, room, depth + 1) for b in branches[:MAX_BRANCHES])
        pairs.append((name, ("branches", keys)))


def _is_operators(value: Any) -> bool:
    """Whether the server reads a document as operators, not as a value to be equal to."""
    if not isinstance(value, DOCUMENT):
        return False
    for first in value:
        return isinstance(first, str) and first[:1] == "$" and first not in ("$ref", "$id", "$db")
    return False


def _predicate(value: Any, room: Room, depth: int) -> Any:
    if type(value) is dict:
        comparisons = _comparisons(value)
        if comparisons is not None:
            return comparisons
    if not _is_operators(value):
        return type_class(value)
    operators = _operators(value, room, depth)
    if len(operators) == 1 and operators[0][0] == "$eq":
        return operators[0][1]
    return operators


def _comparisons(value: dict[Any, Any]) -> Any:
    """What `_operators` gives for comparisons with plain values; None for everything else."""
    found = []
    for operator, argument in value.items():
        name = _COMPARISONS.get(operator)
        known = CLASSES.get(type(argument))
        if name is None or known is None:
            return None
        found.append((name, known))
    if len(found) > 1:
        found.sort()
    elif not found or found[0][0] == "$eq":
        return found[0][1] if found else None
    return tuple(found)


def _operators(value: Mapping[Any, Any], room: Room, depth: int) -> tuple[tuple[str, Any], ...]:
    found: list[tuple[str, Any]] = []
    for operator, argument in value.items():
        if room.left <= 0 or depth > MAX_DEPTH:
            found.append((MORE, "document"))
            break
        room.left -= 1
        name = name_of(operator)
        if name == "$options" and "$regex" in value:
            continue
        if name == "$regex":
            options = value.get("$options")
            pattern = getattr(argument, "pattern", argument)
            flags = getattr(argument, "flags", "") if options is None else options
            found.append((name, _regex_class(pattern, flags)))
        else:
            found.append((name, _argument(name, argument, room, depth)))
    if len(found) > 1:
        found.sort(key=itemgetter(0))
    return tuple(found)


def _argument(operator: str, argument: Any, room: Room, depth: int) -> Any:
    known = CLASSES.get(type(argument))
    if operator in _TRUTH:
        return "true" if argument else "false"
    if operator in _LISTS and isinstance(argument, (list, tuple)):
        if operator == "$all" and argument and all(_is_elem_match(item) for item in argument[:10]):
            inner = (item["$elemMatch"] for item in argument[:10])
            return ("branches", frozenset(filter_key(f, room, depth + 1) for f in inner))
        return ("list", size_class(len(argument)), list_classes(argument))
    if known is not None:
        return known
    if operator == "$elemMatch" and isinstance(argument, DOCUMENT):
        if _is_operators(argument) and not any(name in _LOGICAL for name in argument):
            return ("operators", _operators(argument, room, depth + 1))
        return ("filter", filter_key(argument, room, depth + 1))
    if operator == "$not" and _is_operators(argument):
        return ("operators", _operators(argument, room, depth + 1))
    return type_class(argument)


def _is_elem_match(item: Any) -> bool:
    return isinstance(item, DOCUMENT) and len(item) == 1 and "$elemMatch" in item


def list_classes(values: Sequence[Any]) -> frozenset[str]:
    """The type classes of the first MAX_LISTED values of a list."""
    known: set[str] = set()
    listed: Iterable[Any] = values if len(values) <= MAX_LISTED else islice(values, MAX_LISTED)
    kinds = set(map(type, listed))
    if all(kind in CLASSES for kind in kinds):
        return frozenset(CLASSES[kind] for kind in kinds)
    for value in islice(values, MAX_LISTED):
        known.add(type_class(value))
    return frozenset(known)


def _expression(value: Any, room: Room) -> frozenset[str]:
    """Operators and "$field" paths of an aggregation expression; literals are left out."""
    found: set[str] = set()
    stack: list[Any] = [value]
    while stack and room.left > 0:
        room.left -= 1
        part = stack.pop()
        if isinstance(part, str):
            if part[:1] == "$":
                found.add(name_of(part))
        elif isinstance(part, DOCUMENT):
            for name, argument in islice(part.items(), room.left + 1):
                if isinstance(name, str) and name[:1] == "$":
                    found.add(name_of(name))
                if name != "$literal":
                    stack.append(argument)
        elif isinstance(part, (list, tuple)):
            stack.extend(part[: room.left + 1])
    return frozenset(found)


def sort_key(sort: Any) -> tuple[tuple[str, Any], ...]:
    """The key of a sort, hint or key pattern: paths in order with their directions."""
    return tuple([(name_of(path), _direction(value)) for path, value in _items(sort)])


def _direction(value: Any) -> Any:
    if type(value) is int:
        return 1 if value >= 0 else -1
    if isinstance(value, Decimal128):
        value = value.to_decimal()
    if isinstance(value, (int, float, Decimal)):
        return 1 if value >= 0 else -1
    if isinstance(value, str) and value in ("2d", "2dsphere", "hashed", "text"):
        return name_of(value)
    return "meta" if isinstance(value, DOCUMENT) else "other"


def projection_key(projection: Any) -> tuple[tuple[str, Any], ...]:
    """The key of a projection: paths, kept (1), left out (0) or computed."""
    if isinstance(projection, (list, tuple, set, frozenset)):
        return tuple(sorted((name_of(path), 1) for path in islice(projection, MAX_NODES)))
    kept: list[tuple[str, Any]] = []
    for path, value in _items(projection):
        if isinstance(value, (bool, int, float)):
            kept.append((name_of(path), 1 if value else 0))
        else:
            kept.append((name_of(path), "computed"))
    return tuple(sorted(kept, key=itemgetter(0)))


def _items(pairs: Any) -> Iterable[tuple[Any, Any]]:
    if type(pairs) is dict and len(pairs) <= MAX_NODES:
        return pairs.items()
    if isinstance(pairs, str):
        return [(pairs, 1)]
    if isinstance(pairs, DOCUMENT):
        return list(islice(pairs.items(), MAX_NODES))
    return [
        (pair[0], pair[1]) if isinstance(pair, (list, tuple)) and len(pair) == 2 else (pair, 1)
        for pair in islice(pairs, MAX_NODES)
    ]
