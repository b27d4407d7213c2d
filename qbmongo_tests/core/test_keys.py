from __future__ import annotations

from collections.abc import Hashable
from decimal import Decimal
from typing import Any
from uuid import UUID

import bson
import pytest
from bson import ObjectId
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, TypeEncoder, TypeRegistry
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument
from hypothesis import given

from qbmongo.core.keys import key_of
from qbmongo.records import ReadKind, ReadOp
from qbmongo_tests.core.naive_collection import NaiveCollection
from qbmongo_tests.core.random_operations import documents, filters

CODEC: CodecOptions[Any] = CodecOptions()
NS = "db.c"


def key(filter: Any, kind: ReadKind = "find", **more: Any) -> Hashable | None:
    return key_of(ReadOp(kind, NS, filter, **more), CODEC)


OTHERS = [
    key({}),
    key({"_id": 1}),
    key({"_id": True}),
    key({"_id": 1.0}),
    key({"_id": Int64(1)}),
    key({"_id": None}),
    key({"_id": "1"}),
    key({"a": {"x": 1, "y": 2}}),
    key({"a": {"y": 2, "x": 1}}),
    key({"a": [1, 2]}),
    key({"a": [2, 1]}),
    key({"a": {"$in": [1, 2]}}),
    key({"a": {"$nin": [1, 2]}}),
    key({"$or": [{"a": 1}, {"b": 1}]}),
    key({"$nor": [{"a": 1}]}),
    key({}, limit=1),
    key({}, limit=2),
    key({}, limit=-2),
    key({}, skip=1),
    key({}, sort={"a": 1}),
    key({}, sort={"a": 1, "b": 1}),
    key({}, sort={"b": 1, "a": 1}),
    key({}, sort={}),
    key({}, projection={"a": 1}),
    key({}, projection={"a": True}),
    key({}, projection={"a": 1, "b": 1}),
    key({}, projection={"b": 1, "a": 1}),
    key({}, projection={}),
    key({}, options={"hint": {"a": 1}}),
    key({}, options={"hint": "a_1"}),
    key({}, options={"collation": {"locale": "en"}}),
    key({}, options={"maxTimeMS": 5}),
    key({}, "count_documents"),
    key({}, "count_documents", limit=1),
    key({}, "distinct", key="a"),
    key({}, "distinct", key="b"),
    key({}, "aggregate", pipeline=[]),
    key({}, "aggregate", pipeline=[{"$limit": 1}]),
    key({}, "aggregate", pipeline=[{"$limit": 1}], options={"let": {"x": 1}}),
    key_of(ReadOp("find", "db.d", {}), CODEC),
]


def test_reads_that_may_differ_have_different_keys() -> None:
    assert None not in OTHERS
    assert len(set(OTHERS)) == len(OTHERS)


@pytest.mark.parametrize(
    "more",
    [{}, {"sort": {"a": 1}}, {"skip": 1}, {"projection": {"a": 1}}, {"options": {"hint": "a_1"}}],
)
def test_find_one_is_a_find_of_one(more: dict[str, Any]) -> None:
    same = {
        key({"a": 1}, "find_one", **more),
        key({"a": 1}, "find_one", limit=-1, **more),
        key({"a": 1}, limit=-1, **more),
        key({"a": 1}, limit=1, **more),
    }
    assert len(same) == 1
    assert key({"a": 1}, **more) not in same


def test_what_is_encoded_alike_has_one_key() -> None:
    raw = RawBSONDocument(bson.encode({"a": 1}))
    assert key(raw) == key({"a": 1}) == key(bson.SON([("a", 1)]))
    options = {"hint": "a_1", "comment": "x"}
    assert key({}, options=options) == key({}, options=dict(reversed(options.items())))
    assert key({}, options={}) == key({})


def test_values_are_those_that_the_codec_options_make() -> None:
    class Money(TypeEncoder):
        python_type = Decimal

        def transform_python(self, value: Any) -> Any:
            return Decimal128(value)

    codec: CodecOptions[Any] = CodecOptions(type_registry=TypeRegistry([Money()]))
    op = ReadOp("find", NS, {"a": Decimal("1.50")})
    assert key_of(op, codec) == key({"a": Decimal128("1.50")})
    assert key_of(op, CODEC) is None
    uuid = ReadOp("find", NS, {"a": UUID(int=5)})
    keys = {
        key_of(uuid, CodecOptions(uuid_representation=representation))
        for representation in (UuidRepresentation.STANDARD, UuidRepresentation.JAVA_LEGACY)
    }
    assert len(keys) == 2
    assert key_of(uuid, CODEC) is None


@pytest.mark.parametrize(
    "op",
    [
        ReadOp("find", NS, {"a": object()}),
        ReadOp("find", NS, {5: 1}),  # type: ignore[dict-item]
        ReadOp("find", NS, {"a": 2**80}),
        ReadOp("find", NS, None),  # type: ignore[arg-type]
        ReadOp("find", NS, {}, projection={"a": object()}),
        ReadOp("aggregate", NS, {}, pipeline=[object()]),  # type: ignore[list-item]
    ],
)
def test_what_cannot_be_encoded_has_no_key(op: ReadOp) -> None:
    assert key_of(op, CODEC) is None


@pytest.mark.parametrize("values", [[3, 1, 2], ["c", "a"], [ObjectId(), ObjectId("0" * 24)]])
def test_the_order_of_in_makes_no_difference(values: list[Any]) -> None:
    listed = list(values)
    assert key({"a": {"$in": values}}) == key({"a": {"$in": values[::-1]}})
    assert values == listed


@pytest.mark.parametrize("values", [[1, True], [2, 1.0], ["a", 1], [None, 1], [[1], [0]]])
def test_mixed_lists_are_left_as_they_are(values: list[Any]) -> None:
    assert key({"a": {"$in": values}}) != key({"a": {"$in": values[::-1]}})


def test_a_condition_of_one_is_that_condition() -> None:
    plain = key({"a": 1})
    assert key({"$or": [{"a": 1}]}) == plain
    assert key({"$and": [{"a": 1}]}) == plain
    assert key({"b": {"$in": [1]}, "$or": [{"a": 1}]}) == key({"b": {"$in": [1]}, "a": 1})
    assert key({"a": 2, "$or": [{"a": 1}]}) != key({"a": 1})
    assert key({"a": 2, "$or": [{"a": 1}]}) != key({"a": 2})
    assert key({"$nor": [{"a": 1}]}) != plain
    assert key({"$or": [{"a": {"$in": [2, 1]}}]}) == key({"a": {"$in": [1, 2]}})


@given(filters, filters, documents())
def test_filters_of_one_key_have_one_answer(
    left: dict[str, Any], right: dict[str, Any], content: list[dict[str, Any]]
) -> None:
    """Reference: a naive collection. Most pairs differ, so each is also written otherwise."""
    collection = NaiveCollection(content)
    for other in (right, {"$or": [left]}, {"$and": [left]}, _reversed(left)):
        if key(left) == key(other):
            answers = [collection.answer(ReadOp("find", NS, f)) for f in (left, other)]
            assert answers[0] == answers[1]


def _reversed(filter: dict[str, Any]) -> dict[str, Any]:
    """The same filter with each `$in` the other way round."""
    return {
        name: {"$in": value["$in"][::-1]} if isinstance(value, dict) and "$in" in value else value
        for name, value in filter.items()
    }
