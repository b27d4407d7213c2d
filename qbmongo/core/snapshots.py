"""Private copies of what a caller gave: content that nobody can change afterwards.

A copy is made only of types whose BSON form is certain. A subclass or a custom type may be encoded
by the collection's type registry into something else than it looks like, so it is refused.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from uuid import UUID

from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from bson.regex import Regex
from bson.son import SON
from bson.timestamp import Timestamp

from .values import decode_exactly

__all__ = ["SCALARS", "Private", "private", "readable", "snapshot"]

SCALARS: frozenset[type] = frozenset(
    {
        str,
        int,
        float,
        bool,
        bytes,
        type(None),
        datetime,
        ObjectId,
        Int64,
        UUID,
        Binary,
        Decimal128,
        DatetimeMS,
        Timestamp,
        MinKey,
        MaxKey,
        Regex,
        re.Pattern,
    }
)
"""Immutable types whose BSON form does not depend on a type registry."""


def snapshot(value: Any) -> Any:
    """Copy a document, array or scalar so that later changes by its owner do not show.

    Args:
        value: a value as a program gives it to the driver.

    Returns:
        An equal value of plain dicts, lists, raw documents and immutable scalars.

    Raises:
        TypeError: a type whose BSON form is not certain.
    """
    kind = type(value)
    if kind in SCALARS:
        return value
    if kind is dict or kind is SON:
        copy: dict[str, Any] = {}
        for name, item in value.items():
            if type(name) is not str:
                raise TypeError("a field name must be a str")
            copy[name] = item if type(item) in SCALARS else snapshot(item)
        return copy
    if kind is list or kind is tuple:
        return [snapshot(item) for item in value]
    if kind is RawBSONDocument:
        return value
    raise TypeError(f"the BSON form of {kind.__name__} is not certain")


class Private(dict[str, Any]):
    """A copy that nobody but us and the driver can reach, so that its content is what is sent."""

    __slots__ = ()


def private(document: dict[str, Any]) -> Private | None:
    """A private copy of a document; None where the BSON form of something in it is not certain."""
    copy = Private()
    try:
        for name, value in document.items():
            if type(name) is not str:
                return None
            copy[name] = value if type(value) in SCALARS else snapshot(value)
    except (TypeError, RuntimeError):  # RuntimeError: changed while it was copied
        return None
    return copy


def readable(value: Any) -> Any:
    """The value itself, or a raw document decoded from its bytes.

    What a raw document shows in Python can be changed through its nested lists; its bytes cannot.

    Raises:
        TypeError: the raw document has no exact Python form.
    """
    return decode_exactly(value) if isinstance(value, RawBSONDocument) else value
