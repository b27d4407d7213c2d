from __future__ import annotations

from collections.abc import Hashable
from decimal import Decimal
from typing import Any
from uuid import UUID

import bson
import pytest
from bson import ObjectId, Regex
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
        ReadOp("find", NS, {"a": {"$in": []}, "b": 2**80}),
        ReadOp("find", NS, {"a": {"$in": []}, "b": "\ud800"}),
        ReadOp("find", NS, {"$or": [{"a": {"$in": []}, "b": 2**80}, {"c": 1}]}),
        ReadOp("find", NS, {"$and": [{"a": {"$in": []}, "b": "\ud800"}, {"c": {"$gt": 1}}]}),
        ReadOp("find", NS, {"a\0b": 1, "a": {"$in": []}}),
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


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"a": {"$eq": 1}}, {"a": 1}),
        ({"a": {"$in": ["x"]}}, {"a": "x"}),
        ({"a": {"$in": [2, 1, 2]}}, {"a": {"$in": [1, 2]}}),
        ({"a": {"$in": [1, 1]}}, {"a": 1}),
        ({"$or": [{"a": 2}, {"a": 1}]}, {"a": {"$in": [1, 2]}}),
        ({"$or": [{"a": 1}, {"a": {"$eq": 2}}]}, {"a": {"$in": [1, 2]}}),
        ({"b": 1, "$or": [{"a": "x"}, {"a": "y"}]}, {"b": 1, "a": {"$in": ["x", "y"]}}),
        ({"$and": [{"a": 1}, {"b": {"$gt": 2}}]}, {"a": 1, "b": {"$gt": 2}}),
        ({"$and": [{"$or": [{"$and": [{"a": 1}]}]}, {"b": 1}]}, {"a": 1, "b": 1}),
        ({"a": {"$in": []}, "b": 1}, {"_id": {"$in": []}}),
        ({"$and": [{"a": {"$in": []}}, {"b": "x"}]}, {"_id": {"$in": []}}),
        ({"$or": [{"a": {"$in": [2, 1]}}, {"b": 1}]}, {"$or": [{"a": {"$in": [1, 2]}}, {"b": 1}]}),
    ],
)
def test_ways_to_write_one_filter_have_one_key(left: Any, right: Any) -> None:
    before = bson.encode(left)
    assert key(left) == key(right)
    assert bson.encode(left) == before


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"a": {"$in": [None]}}, {"a": None}),
        ({"a": {"$in": [[1]]}}, {"a": [1]}),
        ({"a": {"$in": [Regex("^x")]}}, {"a": Regex("^x")}),
        ({"$or": [{"a": 1}, {"a": True}]}, {"a": {"$in": [1, True]}}),
        ({"$or": [{"a": 1}, {"b": 1}]}, {"$and": [{"a": 1}, {"b": 1}]}),
        ({"$and": [{"a": 1}, {"a": 2}]}, {"a": 2}),
        ({"$and": [{"a": 1}], "a": 2}, {"a": 2}),
        ({"a": {"$in": [2, 1], "$gt": 0}}, {"a": {"$in": [2, 1]}}),
        # Operands of an expression, and a value to be equal to, are no lists to choose from.
        ({"$expr": {"$in": ["$b", "$a"]}}, {"$expr": {"$in": ["$a", "$b"]}}),
        ({"a": {"x": 1, "$in": [2, 1]}}, {"a": {"x": 1, "$in": [1, 2]}}),
        ({"a": {"$nin": [1]}}, {"a": {"$ne": 1}}),
        # What is not surely valid may be an error, which is an answer too.
        ({"a": {"$in": []}, "b": {"$gt": 1}}, {"_id": {"$in": []}}),
        ({"a": {"$in": []}, "$where": "x"}, {"_id": {"$in": []}}),
        ({"a": {"$in": []}, "b.$c": 1}, {"_id": {"$in": []}}),
        ({"a": {"$in": []}, "": 1}, {"_id": {"$in": []}}),
    ],
)
def test_filters_that_may_differ_have_different_keys(left: Any, right: Any) -> None:
    assert key(left) != key(right)


def test_a_positional_projection_depends_on_how_the_filter_is_written() -> None:
    """Document {a: [2, 1]}: the first branch that matches says which element is meant."""
    more = {"projection": {"a.$": 1}}
    assert key({"$or": [{"a": 1}, {"a": 2}]}, **more) != key({"a": {"$in": [1, 2]}}, **more)


@given(filters, filters, documents())
def test_filters_of_one_key_have_one_answer(
    left: dict[str, Any], right: dict[str, Any], content: list[dict[str, Any]]
) -> None:
    """Reference: a naive collection. Most pairs differ, so each is also written otherwise."""
    collection = NaiveCollection(content)
    for other in (right, {"$or": [left]}, {"$and": [left]}, _reversed(left), _apart(left)):
        if key(left) == key(other):
            answers = [collection.answer(ReadOp("find", NS, f)) for f in (left, other)]
            assert answers[0] == answers[1]


def _apart(filter: dict[str, Any]) -> dict[str, Any]:
    """The same filter as a conjunction of its fields, each `$in` of values as a disjunction."""
    parts: list[dict[str, Any]] = [
        {"$or": [{name: item} for item in value["$in"]]}
        if isinstance(value, dict) and list(value) == ["$in"] and value["$in"]
        else {name: value}
        for name, value in filter.items()
    ]
    return {"$and": parts} if parts else {}


def _reversed(filter: dict[str, Any]) -> dict[str, Any]:
    """The same filter with each `$in` the other way round."""
    return {
        name: {"$in": value["$in"][::-1]} if isinstance(value, dict) and "$in" in value else value
        for name, value in filter.items()
    }
