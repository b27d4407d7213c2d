"""Canonical values and the BSON order."""

from __future__ import annotations

import enum
import itertools
import math
import re
import uuid
from collections import OrderedDict
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import bson
import pytest
from bson import SON, Int64, ObjectId, Regex, Timestamp
from bson.binary import Binary, UuidRepresentation
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.raw_bson import RawBSONDocument
from hypothesis import given, settings
from hypothesis import strategies as st

from qbmongo.core.values import canonical, canonical_ids, compare, decode_exactly, type_order

OBJECT_ID = ObjectId("65f000000000000000000001")
NOON = datetime(2024, 2, 29, 12, 0, 0, 123456)


OWNER = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")


class Unknown:
    def __repr__(self) -> str:
        return "Unknown()"


class Colour(str, enum.Enum):
    RED = "red"


class Script(Code):
    """A subclass, which the driver encodes as its base."""


class Level(enum.IntEnum):
    FIVE = 5


# Values that the server calls equal stand in one row; values of different rows are different.
CLASSES: list[list[Any]] = [
    [5, 5.0, Int64(5), Decimal128("5.0"), Decimal128("0.5E+1"), Level.FIVE],
    [0, 0.0, -0.0, Decimal128("-0"), Decimal128("0E+3")],
    [1, Decimal128("1")],
    [True],
    [False],
    [math.nan, -math.nan, Decimal128("NaN"), Decimal128("-NaN"), Decimal128("sNaN")],
    [math.inf, Decimal128("Infinity")],
    [-math.inf, Decimal128("-Infinity")],
    [0.1, Decimal128("0.1000000000000000055511151231257827")],
    [Decimal128("0.1")],
    [Decimal128("0.1000000000000000055511151231257826")],
    [2**53, float(2**53), Decimal128(str(2**53))],
    [2**53 + 1],
    [1e300, Decimal128("1.000000000000000052504760255204420E+300")],
    [Decimal128("1E+400")],
    [Decimal128("1E-400")],
    [""],
    ["5"],
    ["red", Colour.RED],
    [b"red", Binary(b"red", 0)],
    [Binary(b"red", 5)],
    [Code("red"), Script("red")],
    [Code("red", {})],
    [Code("red", {"a": 1}), Code("red", {"a": 1.0})],
    [
        NOON,
        NOON.replace(microsecond=123000),
        NOON.replace(tzinfo=timezone.utc),
        (NOON + timedelta(hours=2)).replace(tzinfo=timezone(timedelta(hours=2))),
        DatetimeMS(NOON),
        DatetimeMS(1709208000123),
    ],
    [DatetimeMS(1709208000124)],
    [1709208000123],
    [OBJECT_ID, ObjectId(OBJECT_ID.binary)],
    [OBJECT_ID.binary],
    [str(OBJECT_ID)],
    [Timestamp(1, 2)],
    [Timestamp(2, 1)],
    [None],
    [MinKey()],
    [MaxKey()],
    [Regex("^a", "iu"), re.compile("^a", re.IGNORECASE), Regex(b"^a", "ui")],
    [Regex("^a", "i")],
    [Regex("^a"), re.compile(b"^a")],
    [{}, RawBSONDocument(bson.encode({})), SON(), OrderedDict()],
    [[], ()],
    [[None]],
    [{"a": 1, "b": 2}, {"a": 1.0, "b": Int64(2)}, SON([("a", 1), ("b", 2)])],
    [{"b": 2, "a": 1}],
    [{"a": {"b": [1, {"c": None}]}}, RawBSONDocument(bson.encode({"a": {"b": (1, {"c": None})}}))],
    [{"a": True}],
    [["a", 1]],
    [["document", []]],
    [{"$ref": "c", "$id": 1}, DBRef("c", 1), SON([("$ref", "c"), ("$id", 1.0)])],
    [DBRef("c", 1, "d"), {"$ref": "c", "$id": 1, "$db": "d"}],
    [DBRef("c", 1, "d", x=2), {"$ref": "c", "$id": 1, "$db": "d", "x": 2}],
]


@pytest.mark.parametrize("row", CLASSES, ids=lambda row: repr(row[0]))
def test_values_that_the_server_calls_equal_share_one_form(row: list[Any]) -> None:
    assert len({canonical(value) for value in row}) == 1


def test_values_that_the_server_tells_apart_have_different_forms() -> None:
    for (_, ours), (_, theirs) in itertools.combinations(enumerate(CLASSES), 2):
        assert canonical(ours[0]) != canonical(theirs[0]), (ours[0], theirs[0])


@pytest.mark.parametrize(
    "value",
    [OWNER, Unknown(), Decimal(1), {1, 2}, {1: 2}, bytearray(b"a"), [{"a": OWNER}]],
    ids=repr,
)
def test_a_value_whose_encoding_is_not_known_has_no_form(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical(value)


def _raw(kind: bytes, content: bytes = b"") -> RawBSONDocument:
    fields = kind + b"a\x00" + content
    return RawBSONDocument((len(fields) + 5).to_bytes(4, "little") + fields + b"\x00")


def test_a_raw_document_that_python_cannot_express_has_no_form() -> None:
    undefined = _raw(b"\x06")
    symbol = _raw(b"\x0e", b"\x02\x00\x00\x00x\x00")
    twice = RawBSONDocument(b"\x13\0\0\0" + b"\x10a\0\x01\0\0\0" + b"\x10a\0\x02\0\0\0" + b"\0")
    reordered = RawBSONDocument(bson.encode({"d": {"x": 1, "$ref": "c", "$id": 2}}))
    for raw in (undefined, symbol, twice, reordered):
        with pytest.raises(TypeError):
            canonical(raw)


def test_a_raw_document_decodes_to_what_encodes_to_the_same_bytes() -> None:
    document = {"a": [1, 2.5, Int64(3)], "d": NOON, "u": Binary(b"0" * 16, 3), "r": Regex("x", "i")}
    raw = bson.encode(document)
    assert bson.encode(decode_exactly(RawBSONDocument(raw))) == raw


def test_a_uuid_stands_for_each_of_its_representations() -> None:
    forms = canonical_ids(OWNER)
    assert forms is not None
    assert len(forms) == 4
    for representation in (
        UuidRepresentation.STANDARD,
        UuidRepresentation.PYTHON_LEGACY,
        UuidRepresentation.JAVA_LEGACY,
        UuidRepresentation.CSHARP_LEGACY,
    ):
        assert canonical(Binary.from_uuid(OWNER, representation)) in forms


def test_the_forms_of_an_id_are_one_for_a_plain_value_and_any_for_an_unknown_one() -> None:
    assert canonical_ids(5) == frozenset({canonical(5.0)})
    assert canonical_ids(Unknown()) is None
    assert canonical_ids({"a": OWNER}) is None
    assert canonical_ids(datetime.min.replace(tzinfo=timezone(timedelta(hours=2)))) is None
    endless: list[Any] = []
    endless.append(endless)
    assert canonical_ids(endless) is None


# https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/
ASCENDING: list[Any] = [
    MinKey(), None, math.nan, -math.inf, -(2**63), -1, Decimal128("-0.5"), 0, Decimal128("1E-400"),
    Decimal128("0.1"), 0.1, Decimal128("0.1000000000000000055511151231257828"), 1, 2**53, 2**53 + 1,
    2**63 - 1, 1e300, Decimal128("1E+400"), math.inf, "", "A", "a", "a\0", "ab", "é", "\uffff", "𝄞",
    {}, {"a": 1}, {"a": 1, "b": 1}, {"a": 2}, {"b": 1}, {"a": "x"}, [], [None], [1], [1, 2], [2],
    [[]], b"", b"b", b"ab", Binary(b"ab", 5), Binary(b"aa", 128), b"abcde", Binary(b"ab", 2),
    ObjectId(b"0" * 12), ObjectId(b"1" * 12), False, True, DatetimeMS(-1), NOON, Timestamp(1, 2),
    Timestamp(2, 1), Regex("a"), Regex("a", "i"), Regex("b"), Code("a"), Code("b"), Code("a", {}),
    Code("a", {"x": 1}), MaxKey(),
]  # fmt: skip


def test_values_compare_in_the_bson_order() -> None:
    for (low, lesser), (high, greater) in itertools.product(enumerate(ASCENDING), repeat=2):
        sign = (low > high) - (low < high)
        difference = compare(lesser, greater)
        assert (difference > 0) - (difference < 0) == sign, (lesser, greater)


def test_values_of_unknown_types_have_no_order() -> None:
    with pytest.raises(TypeError):
        type_order(Unknown())
    with pytest.raises(TypeError):
        compare([OWNER], [OWNER])


NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-5, 5),
    st.floats(allow_nan=False),
    st.decimals(allow_nan=False, places=3, min_value=-(10**6), max_value=10**6).map(Decimal128),
    st.integers(-(10**34) + 1, 10**34 - 1).map(lambda whole: Decimal128(Decimal(whole))),
    st.floats(-1e6, 1e6).map(lambda near: Decimal128(f"{near:.33e}")),
)
SCALARS = st.one_of(
    NUMBERS, st.booleans(), st.none(), st.text(max_size=3), st.binary(max_size=3), st.just(math.nan)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(deadline=None)
@given(VALUES, VALUES)
def test_forms_are_equal_iff_values_compare_as_equal(left: Any, right: Any) -> None:
    equal = canonical(left) == canonical(right)
    assert equal == (compare(left, right) == 0)
    if equal:
        assert hash(canonical(left)) == hash(canonical(right))


@settings(deadline=None)
@given(NUMBERS, NUMBERS, NUMBERS)
def test_mixed_numbers_have_one_order(first: Any, second: Any, third: Any) -> None:
    assert compare(first, second) == -compare(second, first)
    if compare(first, second) <= 0 and compare(second, third) <= 0:
        assert compare(first, third) <= 0


@settings(deadline=None)
@given(VALUES)
def test_a_value_keeps_its_form_through_encoding(value: Any) -> None:
    decoded = bson.decode(bson.encode({"v": value}))["v"]
    assert canonical(decoded) == canonical(value)
