"""BSON values as the server compares them: one canonical form per value, and the BSON order.

Comparison here is the simple binary one; a collation changes which strings are equal, so whoever
works under one must not rely on forms that contain strings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any
from uuid import UUID

import bson
from bson.binary import Binary, UuidRepresentation
from bson.code import Code
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.errors import BSONError
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from bson.regex import Regex
from bson.timestamp import Timestamp

Number = int | float | Decimal

NAN: tuple[str] = ("nan",)
_NULL = ("null",)
_MIN_KEY = ("minkey",)
_MAX_KEY = ("maxkey",)
_TRUE = ("bool", True)
_FALSE = ("bool", False)

# The server turns a double into a 34-digit decimal before it compares it with a Decimal128.
_DECIMAL128 = Context(prec=34, rounding=ROUND_HALF_EVEN, Emin=-6143, Emax=6144, traps=[])
_REGEX_OPTIONS = (
    (re.IGNORECASE, "i"),
    (re.LOCALE, "l"),
    (re.MULTILINE, "m"),
    (re.DOTALL, "s"),
    (re.UNICODE, "u"),
    (re.VERBOSE, "x"),
)
_EXACT_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    document_class=dict,
    uuid_representation=UuidRepresentation.UNSPECIFIED,
    datetime_conversion=DatetimeConversion.DATETIME_MS,
)
_UUID_REPRESENTATIONS = (
    UuidRepresentation.STANDARD,
    UuidRepresentation.PYTHON_LEGACY,
    UuidRepresentation.JAVA_LEGACY,
    UuidRepresentation.CSHARP_LEGACY,
)


def canonical(value: Any) -> Hashable:
    """The canonical form of a BSON value: forms are equal iff the server calls the values equal.

    Args:
        value: any Python value that the driver encodes as BSON, as the program gave it or as it was
            decoded. A DBRef stands for the document it is encoded as.

    Returns:
        A hashable form; forms are to be compared with each other only, never decoded. Numbers
        compare by value whatever their type, NaN equals NaN, -0.0 equals 0.0, True is not 1, the
        order of a document's fields counts, dates compare by milliseconds.

    Raises:
        TypeError: the driver's encoding of this type is not known here (custom types, UUID objects)
            or is not exactly what Python shows (a raw document with deprecated types).

    Source: https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/
    """
    encode = _FORMS.get(type(value))
    if encode is None:
        encode = _form_by_base(value)
    return encode(value)


def canonical_ids(value: Any) -> frozenset[Hashable] | None:
    """Every canonical form that an `_id` given in Python may have on the server.

    Args:
        value: the `_id` as the program gave it or as the driver decoded it.

    Returns:
        One form for most values, one per representation for a UUID object (which of them is sent
        depends on the codec options), None ("any") where the form is not known.

    Source: https://pymongo.readthedocs.io/en/stable/examples/uuid.html
    """
    if isinstance(value, UUID):
        return frozenset(
            canonical(Binary.from_uuid(value, representation))
            for representation in _UUID_REPRESENTATIONS
        )
    try:
        return frozenset((canonical(value),))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def decode_exactly(raw: RawBSONDocument) -> dict[str, Any]:
    """Decode a raw document whose Python form says all that its bytes say.

    Args:
        raw: a raw document as it would be sent.

    Returns:
        The document as plain Python values (dates as DatetimeMS, UUIDs as Binary).

    Raises:
        TypeError: decoding would lose something (undefined, symbol, duplicate fields, ...).
    """
    try:
        document = bson.decode(raw.raw, _EXACT_CODEC)
        exact = bson.encode(document, codec_options=_EXACT_CODEC) == raw.raw
    except (BSONError, ValueError, OverflowError) as error:
        raise TypeError("raw document cannot be decoded") from error
    if not exact:
        raise TypeError("raw document has no exact Python form")
    return document


def type_order(value: Any) -> int:
    """The place of a value's type in the BSON order; values of one bracket share it.

    Returns:
        A number that is lower for types that sort first. All numbers share one bracket.

    Raises:
        TypeError: a type that is not known here.

    Source: https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/
    """
    order = _TYPE_ORDERS.get(type(value))
    if order is not None:
        return order
    if isinstance(value, Code):
        return 60 if value.scope is None else 65
    for base, order in _TYPE_ORDERS.items():
        if isinstance(value, base):
            return order
    if isinstance(value, Mapping):
        return _DOCUMENT_ORDER
    raise TypeError(f"no BSON order is known for {type(value).__name__}")


def compare(left: Any, right: Any) -> int:
    """Compare two values in the BSON order.

    Args:
        left, right: BSON values of any types, not necessarily of one bracket. NaN sorts below
            every other number here; query operators treat it apart.

    Returns:
        A negative number, 0 or a positive number.

    Raises:
        TypeError: a type that is not known here.

    Source: https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/
    """
    order = type_order(left)
    difference = order - type_order(right)
    if difference:
        return difference
    if order == _DOCUMENT_ORDER:
        return _compare_documents(left, right)
    if order == _ARRAY_ORDER:
        return _compare_arrays(left, right)
    if order == _CODE_WITH_SCOPE_ORDER:
        return _compare_keys(str.__str__(left), str.__str__(right)) or _compare_documents(
            left.scope, right.scope
        )
    key = _SORT_KEYS.get(order)
    return 0 if key is None else _compare_keys(key(left), key(right))


def number(value: Any) -> Number | None:
    """The exact number a numeric BSON value stands for; None for NaN.

    Args:
        value: an int, float or Decimal128 (or a subclass), not a bool.

    Returns:
        A number whose ==, < and hash agree with the server's comparison of mixed numeric types.
    """
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        plain = float.__float__(value)
        return None if math.isnan(plain) else plain
    exact: Decimal = value.to_decimal()
    if exact.is_nan():
        return None
    nearest = float(exact)
    if math.isinf(nearest):
        return nearest if exact.is_infinite() else exact
    # A double compares by its first 34 digits, so the decimal with these digits is that double.
    return nearest if _DECIMAL128.create_decimal_from_float(nearest) == exact else exact


def fields(document: Any) -> Iterator[tuple[str, Any]]:
    """The fields of a document in the order in which they are encoded.

    Raises:
        TypeError: a field name is not a str, or a raw document has no exact Python form.
    """
    if isinstance(document, RawBSONDocument):
        document = decode_exactly(document)
    elif isinstance(document, DBRef):
        document = document.as_doc()
    for name, value in document.items():
        if not isinstance(name, str):
            raise TypeError("a field name must be a str")
        yield str.__str__(name), value


def regex_parts(value: Any) -> tuple[bytes, str]:
    """The pattern and the option letters that a Regex or re.Pattern is encoded as."""
    pattern = value.pattern
    encoded = pattern if isinstance(pattern, bytes) else pattern.encode()
    return encoded, "".join(letter for flag, letter in _REGEX_OPTIONS if value.flags & flag)


def date_millis(value: Any) -> int:
    """Milliseconds since the epoch of a datetime (naive means UTC) or DatetimeMS."""
    return int(value) if isinstance(value, DatetimeMS) else int(DatetimeMS(value))


def _itself(value: Any) -> Hashable:
    return value  # type: ignore[no-any-return]


def _float_form(value: float) -> Hashable:
    return NAN if math.isnan(value) else value


def _number_form(value: Any) -> Hashable:
    exact = number(value)
    return NAN if exact is None else exact


def _bool_form(value: bool) -> Hashable:
    return _TRUE if value else _FALSE


def _binary_form(value: Any) -> Hashable:
    subtype = value.subtype if isinstance(value, Binary) else 0
    content = bytes(memoryview(value))
    return content if subtype == 0 else ("binary", subtype, content)


def _date_form(value: Any) -> Hashable:
    return ("date", date_millis(value))


def _timestamp_form(value: Timestamp) -> Hashable:
    return ("timestamp", value.time, value.inc)


def _regex_form(value: Any) -> Hashable:
    return ("regex", *regex_parts(value))


def _code_form(value: Code) -> Hashable:
    text = str.__str__(value)
    if value.scope is None:
        return ("code", text)
    return ("code", text, _document_form(value.scope))


def _document_form(value: Any) -> Hashable:
    return ("document", tuple((name, canonical(item)) for name, item in fields(value)))


def _array_form(value: Any) -> Hashable:
    return ("array", tuple(map(canonical, value)))


_FORMS: dict[type, Callable[[Any], Hashable]] = {
    ObjectId: _itself,
    str: _itself,
    int: _itself,
    float: _float_form,
    Int64: int.__int__,
    bool: _bool_form,
    type(None): lambda _: _NULL,
    bytes: _itself,
    datetime: _date_form,
    DatetimeMS: _date_form,
    dict: _document_form,
    list: _array_form,
    tuple: _array_form,
    Decimal128: _number_form,
    Binary: _binary_form,
    Timestamp: _timestamp_form,
    Regex: _regex_form,
    re.Pattern: _regex_form,
    Code: _code_form,
    DBRef: _document_form,
    MinKey: lambda _: _MIN_KEY,
    MaxKey: lambda _: _MAX_KEY,
}

# Bases in the order in which they must be asked: Code and Binary are a str and bytes, too.
_BASES: tuple[tuple[type, Callable[[Any], Hashable]], ...] = (
    (Code, _code_form),
    (Binary, _binary_form),
    (str, str.__str__),
    (int, int.__int__),
    (float, _number_form),
    (bytes, _binary_form),
    (ObjectId, _itself),
    (datetime, _date_form),
    (list, _array_form),
    (tuple, _array_form),
    (DatetimeMS, _date_form),
    (Decimal128, _number_form),
    (Timestamp, _timestamp_form),
    (Regex, _regex_form),
    (DBRef, _document_form),
    (Mapping, _document_form),
)


def _form_by_base(value: Any) -> Callable[[Any], Hashable]:
    for base, encode in _BASES:
        if isinstance(value, base):
            return encode
    raise TypeError(f"no canonical form is known for {type(value).__name__}")


def _compare_keys(left: Any, right: Any) -> int:
    return 1 if left > right else -1 if left < right else 0


def _compare_documents(left: Any, right: Any) -> int:
    ours, theirs = list(fields(left)), list(fields(right))
    for (our_name, our_value), (their_name, their_value) in zip(ours, theirs, strict=False):
        difference = (
            type_order(our_value) - type_order(their_value)
            or _compare_keys(our_name, their_name)
            or compare(our_value, their_value)
        )
        if difference:
            return difference
    return len(ours) - len(theirs)


def _compare_arrays(left: Any, right: Any) -> int:
    for our_value, their_value in zip(left, right, strict=False):
        difference = compare(our_value, their_value)
        if difference:
            return difference
    return len(left) - len(right)


def _number_key(value: Any) -> tuple[bool, Number]:
    exact = number(value)
    return (False, 0) if exact is None else (True, exact)


def _binary_key(value: Any) -> tuple[int, int, bytes]:
    subtype = value.subtype if isinstance(value, Binary) else 0
    content = bytes(memoryview(value))
    # Subtype 2 carries its length once more inside, which the driver hides.
    return len(content) + (4 if subtype == 2 else 0), subtype, content


_NUMBER_ORDER = 10
_DOCUMENT_ORDER = 20
_ARRAY_ORDER = 25
_CODE_WITH_SCOPE_ORDER = 65

_TYPE_ORDERS: dict[type, int] = {
    MinKey: -1,
    type(None): 5,
    bool: 40,
    int: _NUMBER_ORDER,
    float: _NUMBER_ORDER,
    Int64: _NUMBER_ORDER,
    Decimal128: _NUMBER_ORDER,
    str: 15,
    dict: _DOCUMENT_ORDER,
    DBRef: _DOCUMENT_ORDER,
    list: _ARRAY_ORDER,
    tuple: _ARRAY_ORDER,
    bytes: 30,
    Binary: 30,
    UUID: 30,
    ObjectId: 35,
    datetime: 45,
    DatetimeMS: 45,
    Timestamp: 47,
    Regex: 50,
    re.Pattern: 50,
    MaxKey: 127,
}

# Code points sort as their UTF-8 bytes do. Brackets without a key hold one value only.
_SORT_KEYS: dict[int, Callable[[Any], Any]] = {
    _NUMBER_ORDER: _number_key,
    15: str.__str__,
    30: _binary_key,
    35: _itself,
    40: _itself,
    45: date_millis,
    47: lambda value: (value.time, value.inc),
    50: regex_parts,
    60: str.__str__,
}
