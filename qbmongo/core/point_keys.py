"""Point reads: which filters ask for one document by a value that the answer shows again.

Reads by different values of one field travel as one `$in` only where each answer can be given to
whoever asked for it. So a value must be one that the server compares as `core.values.canonical`
does, and a document must show the field as it is stored.

Source: https://www.mongodb.com/docs/manual/reference/operator/query/in/
"""

from __future__ import annotations

import math
import struct
from collections.abc import Hashable, Mapping
from typing import Any

import bson
from bson.binary import Binary
from bson.codec_options import CodecOptions
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.errors import BSONError
from bson.int64 import Int64
from bson.objectid import ObjectId
from bson.timestamp import Timestamp

from ..records import ReadOp
from .frozen import EXACT_CODEC, Frozen, frozen
from .values import canonical

__all__ = [
    "ID_KEY",
    "MAX_KEY_BYTES",
    "PLAIN_KEYS",
    "PointKey",
    "form_at",
    "id_filter",
    "plain_id",
    "point_key",
    "shows",
]

MAX_KEY_BYTES = 1024

_ID = "_id"
_LEAST_INT32, _GREATEST_INT32 = -(2**31), 2**31 - 1
_INT32, _INT64 = struct.Struct("<i").pack, struct.Struct("<q").pack
# What a document with one field of so many bytes begins with: its length.
_HEADS = {size: struct.pack("<i", 4 + size + 1) for size in (9, 13, 17)}

_MISSING = object()
_PLAIN = frozenset({bool, bytes, int, Binary, DatetimeMS, Int64, ObjectId, Timestamp})
_STRINGLESS = _PLAIN | {float, Decimal128, type(None)}
_OWN_FORM = frozenset({int, str, ObjectId})
# Nobody can change their values, no codec their encoding, and equal ones are encoded alike.
PLAIN_KEYS = frozenset({int, ObjectId})
# Of fewer characters, in at most four times as many bytes, are the texts of `plain_id`.
_MAX_TEXT = MAX_KEY_BYTES // 4
_SWITCHES = frozenset({bool, int, float, Int64})


class PointKey:
    """What one point read asks for.

    form: the canonical form of the value; has_string: whether a string is in it, which a collation
    may compare otherwise. value: the value to send. element: the encoded field, name and value: a
    document that holds the same bytes holds the same value. projection: the one to send, or None;
    shown: its encoding.
    """

    __slots__ = ("element", "form", "has_string", "path", "projection", "shown", "value")

    def __init__(self, path: str, value: Any, element: bytes, *, has_string: bool) -> None:
        self.path = path
        self.value = value
        # Most values are their own form; see core.values.
        self.form: Hashable = value if type(value) in _OWN_FORM else canonical(value)
        self.element = element
        self.has_string = has_string
        self.projection: Any = None
        self.shown: bytes | None = None


# What reads by `_id` share: all but the value.
ID_KEY = PointKey("_id", 0, b"", has_string=False)


class _NotExact(Exception):
    """A value whose equality is not that of its canonical form; args: why."""


def point_key(
    send: Frozen | ReadOp,
    codec: CodecOptions[Any],
    *,
    simple: bool | None,
    encoded: bytes | None = None,
) -> PointKey | str:
    """What a read by one value asks for, or why it cannot be joined with others.

    Args:
        send: the private copy of a find_one whose filter has one field; or the operation itself,
            to be copied here. No sort, skip or option but the read concern.
        codec: the collection's codec options, by which the driver would encode the filter.
        simple: strings compare by simple binary comparison; None if that is not known.
        encoded: the filter as BSON, as it stands in the read's exact key, where that was made.

    Returns:
        The key, of private values; or a reason: "inexact" (a type that decoding would change),
        "nan", "null", "array", "pattern", "operators", "type", "collation", "large", "projection",
        "unencodable" (the driver says why).
    """
    try:
        if send.projection is None:
            plain = _plain_key(send.filter, encoded)
            if plain is not None:
                return plain
        if type(send) is ReadOp:
            send = frozen(send, codec)
        assert type(send) is Frozen
        filter = send.filter
        if type(filter) is not dict:
            return "inexact"
        ((path, value),) = filter.items()
        has_string = _has_string(value, top=True)
        if has_string and simple is False:
            return "collation"
        # Without length and end: the one element.
        if encoded is None or type(value) is dict:  # which a key may write another way
            encoded = bson.encode(filter, codec_options=EXACT_CODEC)
        element = encoded[4:-1]
        if len(element) > MAX_KEY_BYTES:
            return "large"
        key = PointKey(path, value, element, has_string=has_string)
        projection = send.projection
        if projection is not None:
            if type(projection) is not dict or not shows(projection, path):
                return "projection"
            key.projection = projection
            key.shown = bson.encode(projection, codec_options=EXACT_CODEC)
        return key
    except _NotExact as reason:
        return str(reason)
    except (BSONError, OverflowError, TypeError, ValueError):
        return "unencodable"


def _plain_key(filter: Any, encoded: bytes | None) -> PointKey | None:
    """The key of a lone value that nobody can change, whose encoding no codec changes."""
    if type(filter) is not dict or len(filter) != 1:
        return None
    for path, value in filter.items():
        if type(value) in PLAIN_KEYS:
            element = (encoded or bson.encode({path: value}))[4:-1]
            if len(element) <= MAX_KEY_BYTES:
                return PointKey(path, value, element, has_string=False)
    return None


def plain_id(filter: dict[Any, Any]) -> tuple[Any, bytes] | None:
    """What a filter asks for that is an `_id` and a plain value, and nothing else; None for others.

    Args:
        filter: the caller's own; it is read once.

    Returns:
        The value, an int, an ObjectId or a str of moderate length, and the field, encoded as
        bson.encode does.

    Source: https://bsonspec.org/spec.html
    """
    if len(filter) != 1:
        return None
    try:
        for path, value in filter.items():
            if path is not _ID and (type(path) is not str or path != _ID):
                return None
            kind = type(value)
            if kind is int:
                if _LEAST_INT32 <= value <= _GREATEST_INT32:
                    return value, b"\x10_id\x00" + _INT32(value)
                if -(2**63) <= value < 2**63:
                    return value, b"\x12_id\x00" + _INT64(value)
            elif kind is ObjectId:
                return value, b"\x07_id\x00" + value.binary
            elif kind is str and len(value) < _MAX_TEXT:
                text = value.encode()
                return value, b"\x02_id\x00" + _INT32(len(text) + 1) + text + b"\x00"
            return None
    except (RuntimeError, UnicodeEncodeError):
        pass  # another thread has added something meanwhile; or the driver says what is wrong
    return None


def id_filter(element: bytes) -> bytes:
    """The filter, encoded. element: of `plain_id`."""
    size = len(element)
    return (_HEADS.get(size) or _INT32(size + 5)) + element + b"\x00"


def _has_string(value: Any, *, top: bool) -> bool:
    """Whether a string is in a value; raises _NotExact where equality means something else.

    - NaN: refused in any depth, because drivers and servers had different minds about it.
    - null also equals a missing field; an array also equals its elements and is equalled through
      them; a pattern matches; a document that begins with an operator is a condition. All of them
      at the top only: inside a document equality is literal. (Patterns and operators are refused
      in any depth all the same.)

    Source: https://www.mongodb.com/docs/manual/tutorial/query-for-null-fields/ and
        https://www.mongodb.com/docs/manual/tutorial/query-arrays/
    """
    kind = type(value)
    if kind is str:
        return True
    if kind in _PLAIN:
        return False
    if kind is float:
        if math.isnan(value):
            raise _NotExact("nan")
        return False
    if kind is Decimal128:
        if value.to_decimal().is_nan():
            raise _NotExact("nan")
        return False
    found = False
    if kind is dict:
        for name, item in value.items():
            if name.startswith("$"):
                raise _NotExact("operators")
            found |= _has_string(item, top=False)
        return found
    if value is None:
        if top:
            raise _NotExact("null")
        return False
    if kind is list:
        if top:
            raise _NotExact("array")
        for item in value:  # each of them is looked at
            found |= _has_string(item, top=False)
        return found
    raise _NotExact("pattern" if kind.__name__ == "Regex" else "type")


def shows(projection: Mapping[str, Any], path: str) -> bool:
    """Whether documents under a projection show a field as it is stored.

    Only projections that keep or leave out whole fields are judged; all others count as "no".

    Source: https://www.mongodb.com/docs/manual/reference/method/db.collection.find/#projection
    """
    keeps: bool | None = None
    for name, switch in projection.items():
        if type(switch) not in _SWITCHES or switch != switch or "$" in name:
            return False
        if name.startswith(path + "."):
            return False
        if name != "_id":
            if keeps is not None and keeps is not bool(switch):
                return False  # a mixture: the server says why not
            keeps = bool(switch)
    if path == "_id":
        return bool(projection.get("_id", True))
    prefixes = path.split(".")
    named = any(".".join(prefixes[: length + 1]) in projection for length in range(len(prefixes)))
    if keeps is None:  # {_id: 0} shows all others, {_id: 1} none of them
        return bool(projection) and not projection["_id"]
    return named if keeps else not named


def form_at(document: bytes, path: str) -> tuple[Hashable, bool] | None:
    """The canonical form of a document's value at a path, and whether a string may be in it.

    None where it cannot be told: nothing there, an array on the way or as the value, bytes that
    are no UTF-8.
    """
    try:
        value: Any = bson.decode(document, codec_options=EXACT_CODEC)
        for name in path.split("."):
            if type(value) is not dict:
                return None
            value = value.get(name, _MISSING)
        if value is _MISSING or type(value) is list:
            return None
        return canonical(value), type(value) not in _STRINGLESS
    except (BSONError, OverflowError, TypeError, ValueError):
        return None
