"""The values that documents have at a dotted path: as an index would hold them, and as elements.

A path may have numeric parts; they count as positions of an array where there is one, and as
field names where there is a document, as the server reads them.

Source: https://www.mongodb.com/docs/manual/core/indexes/index-types/index-multikey/
"""

from __future__ import annotations

import datetime
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import bson
from bson import Decimal128

from ..core.shape_filters import type_class

__all__ = ["MISSING", "array_prefixes", "arrays_at", "identity_of", "keys_at", "values_at"]

#: Stands for a value that is not there.
MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()

_NO_PATHS: frozenset[str] = frozenset()


# Documents are those that the driver decodes: dicts and lists, whose exact types are quick to tell.


def values_at(document: Any, path: str) -> Iterator[Any]:
    """Every value at a path; an array at its end as itself, then element by element.

    Args:
        document: decoded, as the driver gives it.
        path: dotted.
    """
    if "." not in path:
        if type(document) is dict and path in document:
            value = document[path]
            yield value
            if type(value) is list:
                yield from value
            return
        if type(document) is dict:
            return
    for value in _reach(document, path.split("."), 0):
        yield value
        if type(value) is list:
            yield from value


def keys_at(document: dict[str, Any], path: str) -> list[Any]:
    """What an index on a path would hold of a document: one key for each element of arrays.

    Returns:
        The keys, [MISSING] where the document does not have the path. An empty array is MISSING,
        as it gives the index a key of its own kind and no value.
    """
    if "." not in path:
        value = document.get(path, MISSING)
        return [value] if type(value) is not list else list(value) or [MISSING]
    keys: list[Any] = []
    for value in _reach(document, path.split("."), 0):
        if isinstance(value, list):
            keys.extend(value)
        else:
            keys.append(value)
    return keys or [MISSING]


def arrays_at(document: Any, path: str) -> Iterator[list[Any]]:
    """Every array that stands at a path."""
    for value in _reach(document, path.split("."), 0):
        if isinstance(value, list):
            yield value


def array_prefixes(document: dict[str, Any], path: str) -> frozenset[str]:
    """The parts of a path, from its start, at which a document has an array.

    `{"items": [{"price": 1}]}` and "items.price" give "items".
    """
    if "." not in path:
        return frozenset((path,)) if type(document.get(path)) is list else _NO_PATHS
    found: set[str] = set()
    parts = path.split(".")
    for end in range(1, len(parts) + 1):
        if any(isinstance(value, list) for value in _reach(document, parts[:end], 0)):
            found.add(".".join(parts[:end]))
    return frozenset(found)


def _reach(value: Any, parts: list[str], at: int) -> Iterator[Any]:
    if at == len(parts):
        yield value
        return
    part = parts[at]
    if type(value) is dict:
        if part in value:
            yield from _reach(value[part], parts, at + 1)
    elif type(value) is list:
        if part.isdigit() and int(part) < len(value):
            yield from _reach(value[int(part)], parts, at + 1)
        for element in value:
            if type(element) is dict and part in element:
                yield from _reach(element[part], parts, at + 1)


def identity_of(value: Any) -> Hashable:
    """Equal for values that the server takes as equal, else different; numbers by their value."""
    kind = type_class(value)
    if kind == "number":
        if isinstance(value, Decimal128):
            value = value.to_decimal()
        return (kind, str(value)) if value != value else (kind, value)
    if isinstance(value, datetime.datetime):
        return (kind, value.isoformat())
    if isinstance(value, (list, Mapping)):
        return (kind, bson.encode({"v": value}))
    try:
        hash(value)
    except TypeError:
        return (kind, repr(value))
    return (kind, value)
