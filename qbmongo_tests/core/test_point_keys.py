"""Which reads ask for one document by a value that its answer shows again."""

from __future__ import annotations

import re
import uuid
from datetime import datetime, timezone
from typing import Any

import bson
import pytest
from bson import SON, Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex
from bson.codec_options import DEFAULT_CODEC_OPTIONS, CodecOptions, TypeEncoder, TypeRegistry
from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp

from qbmongo.core.frozen import frozen
from qbmongo.core.point_keys import MAX_KEY_BYTES, PointKey, form_at, point_key, shows
from qbmongo.core.values import canonical
from qbmongo.records import ReadOp

NAN = float("nan")


def key_of(
    value: Any, *, simple: bool | None = True, codec: Any = DEFAULT_CODEC_OPTIONS, path: str = "_id"
) -> PointKey | str:
    op = ReadOp("find_one", "d.c", {path: value}, None, None, 0, -1)
    of_copy = point_key(frozen(op, codec), codec, simple=simple)
    of_op = point_key(op, codec, simple=simple)
    assert type(of_copy) is type(of_op)
    if isinstance(of_copy, str):
        assert of_copy == of_op
    return of_op


EXACT = [
    5,
    Int64(5),
    2**62,
    5.0,
    -0.0,
    float("inf"),
    Decimal128("5.0"),
    True,
    False,
    b"x",
    Binary(b"x", 128),
    ObjectId(),
    datetime(2024, 5, 1, tzinfo=timezone.utc),
    Timestamp(1, 2),
    "a",
    "",
    {},
    {"a": 1, "b": [1, None, {"c": "x"}]},
]


@pytest.mark.parametrize("value", EXACT, ids=repr)
def test_exact_values_can_be_told_apart(value: Any) -> None:
    key = key_of(value)
    assert isinstance(key, PointKey)
    document = bson.encode({"_id": value, "rest": [1, 2]})
    assert document[4 : 4 + len(key.element)] == key.element
    found = form_at(document, "_id")
    assert found is not None
    assert found[0] == key.form == canonical(bson.decode(bson.encode({"v": value}))["v"])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (NAN, "nan"),
        (Decimal128("NaN"), "nan"),
        ({"a": [NAN]}, "nan"),
        ({"a": ["x", NAN]}, "nan"),
        (None, "null"),
        ([1, 2], "array"),
        ([], "array"),
        (Regex("^a"), "pattern"),
        (re.compile("^a"), "pattern"),
        ({"a": Regex("b")}, "pattern"),
        ({"$gt": 5}, "operators"),
        ({"$in": [5]}, "operators"),
        ({"a": 1, "$b": 2}, "operators"),
        ({"a": {"$b": 2}}, "operators"),
        (DBRef("c", 5), "type"),
        (MinKey(), "type"),
        (MaxKey(), "type"),
        (Code("x"), "type"),
        ("x" * MAX_KEY_BYTES, "large"),
        (2**64, "unencodable"),
        (object(), "unencodable"),
        ("\ud800", "unencodable"),
    ],
    ids=repr,
)
def test_values_whose_equality_means_something_else_are_refused(value: Any, reason: str) -> None:
    op = ReadOp("find_one", "d.c", {"_id": value}, None, None, 0, -1)
    assert point_key(op, DEFAULT_CODEC_OPTIONS, simple=True) == reason


def test_numbers_of_one_value_are_one() -> None:
    keys = [key_of(v) for v in (5, Int64(5), 5.0, Decimal128("5"), Decimal128("5.00"))]
    assert len({k.form for k in keys if isinstance(k, PointKey)}) == 1
    assert len({k.element for k in keys if isinstance(k, PointKey)}) == 5
    others = [key_of(v) for v in (True, 1, "1", ObjectId(b"1" * 12), b"1")]
    assert len({k.form for k in others if isinstance(k, PointKey)}) == 5


def test_a_collation_makes_strings_inexact() -> None:
    for value in ("a", {"x": "a"}, {"x": [1, "a"]}):
        assert key_of(value, simple=False) == "collation"
        for simple in (True, None):
            key = key_of(value, simple=simple)
            assert isinstance(key, PointKey)
            assert key.has_string
    for value in (5, b"a", {"a": 1}, ObjectId()):
        key = key_of(value, simple=False)
        assert isinstance(key, PointKey)
        assert not key.has_string


def test_the_value_is_what_the_codec_makes_of_it() -> None:
    class Wrapped:
        pass

    class Encoder(TypeEncoder):
        python_type = Wrapped

        def transform_python(self, value: Any) -> Any:
            return {"a": 7}

    codec: CodecOptions[Any] = CodecOptions(
        type_registry=TypeRegistry([Encoder()]), uuid_representation=4
    )
    key = key_of(Wrapped(), codec=codec)
    assert isinstance(key, PointKey)
    assert key.form == canonical({"a": 7})
    identity = uuid.UUID(int=5)
    key = key_of(identity, codec=codec)
    assert isinstance(key, PointKey)
    assert key.form == canonical(Binary.from_uuid(identity))
    # Without a representation the driver says that it cannot be encoded.
    op = ReadOp("find_one", "d.c", {"_id": identity}, None, None, 0, -1)
    assert point_key(op, DEFAULT_CODEC_OPTIONS, simple=True) == "unencodable"


def test_raw_values_that_decoding_would_change_are_refused() -> None:
    key = key_of(RawBSONDocument(bson.encode({"s": 1})))
    assert isinstance(key, PointKey)
    undefined = b"\x08\x00\x00\x00\x06u\x00\x00"
    op = ReadOp("find_one", "d.c", {"_id": RawBSONDocument(undefined)}, None, None, 0, -1)
    assert point_key(op, DEFAULT_CODEC_OPTIONS, simple=True) == "inexact"


def test_a_private_value_is_sent() -> None:
    value = {"a": [1]}
    key = key_of(value)
    value["a"].append(2)
    assert isinstance(key, PointKey)
    assert key.value == {"a": [1]}


@pytest.mark.parametrize(
    ("projection", "path", "expected"),
    [
        ({"n": 1}, "_id", True),
        ({"n": True, "_id": 1}, "_id", True),
        ({"n": 0}, "_id", True),
        ({"_id": 0}, "_id", False),
        ({"n": 1, "_id": False}, "_id", False),
        ({"_id": 1}, "_id", True),
        ({"_id.a": 1}, "_id", False),
        ({"n": {"$slice": 1}}, "_id", False),
        ({"n": "$_id"}, "_id", False),
        ({"n.$": 1}, "_id", False),
        ({"n": NAN}, "_id", False),
        ({"n": 1, "m": 0}, "_id", False),
        ({"n": SON(a=1)}, "_id", False),
        ({"n": 1}, "n", True),
        ({"m": 1}, "n", False),
        ({"m": 0}, "n", True),
        ({"n": 0}, "n", False),
        ({"n.x": 1}, "n", False),
        ({"n.x": 0}, "n", False),
        ({"_id": 0}, "n", True),
        ({"_id": 1}, "n", False),
        ({"_id": 0, "n": 1}, "n", True),
        ({"a": 1}, "a.b", True),
        ({"a.b": 1}, "a.b", True),
        ({"a.c": 1}, "a.b", False),
        ({"a": 0}, "a.b", False),
        ({"a.c": 0}, "a.b", True),
        ({}, "_id", True),
        ({}, "n", False),
    ],
    ids=repr,
)
def test_projections_that_show_the_key(
    projection: dict[str, Any], path: str, expected: bool
) -> None:
    assert shows(projection, path) is expected


@pytest.mark.parametrize(
    "document",
    [{"x": 1}, {"a": [5]}, {"a": {"b": [5]}}, {"a": [{"b": 5}]}, {"a": 5}, {"a": {"c": 5}}],
    ids=repr,
)
def test_a_value_that_is_not_there_or_in_an_array_is_not_told(document: dict[str, Any]) -> None:
    assert form_at(bson.encode(document), "a.b") is None


def test_a_value_within_documents_is_told() -> None:
    assert form_at(bson.encode({"a": {"b": Int64(5)}}), "a.b") == (5, False)
    assert form_at(bson.encode({"a": {"b": "x"}}), "a.b") == ("x", True)
    broken = bson.encode({"a": "xy"}).replace(b"xy", b"\xff\xff")
    assert form_at(broken, "a") is None
