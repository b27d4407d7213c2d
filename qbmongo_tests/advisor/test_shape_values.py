"""Filters drawn for a shape have the shape, and match documents."""

from __future__ import annotations

import datetime
import random
from typing import Any

import bson
import pytest
from bson import Decimal128, ObjectId, Regex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qbmongo.advisor.shape_values import DrawnFilter, draw_filters
from qbmongo.core.match import matches
from qbmongo.core.shape_filters import Room, filter_key
from qbmongo.core.shape_forms import shape_form
from qbmongo_tests.core.random_operations import documents, plain_filters

DAY = datetime.datetime(2024, 1, 1)


patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def collection(count: int = 200) -> list[dict[str, Any]]:
    draw = random.Random(5)
    return [
        {
            "_id": i,
            "a": draw.randrange(20),
            "s": draw.choice(["alpha", "alpha", "beta", "gamma delta"]),
            "t": [draw.randrange(5) for _ in range(draw.randrange(4))],
            "at": DAY + datetime.timedelta(hours=draw.randrange(5_000)),
            "o": {"x": draw.random(), "y": None},
            "l": [{"k": draw.randrange(4), "v": draw.choice("abc")} for _ in range(i % 3)],
            "id": ObjectId(),
            "d": Decimal128(f"{i}.5"),
            **({"m": True} if i % 2 else {}),
        }
        for i in range(count)
    ]


SAMPLE = collection()

FILTERS: list[dict[str, Any]] = [
    {},
    {"a": 3},
    {"a": {"$gt": 3}},
    {"a": {"$lt": 3}},
    {"a": {"$gte": 3, "$lt": 5}, "s": "x"},
    {"a": {"$gt": 3, "$lte": 5}, "at": {"$gt": DAY}},
    {"a": {"$in": [1, 2, 3]}},
    {"a": {"$in": list(range(150))}},
    {"a": {"$in": [7]}},
    {"a": {"$in": []}},
    {"a": {"$nin": [1, 2]}},
    {"a": {"$ne": 3}, "s": "x"},
    {"t": 3},
    {"t": {"$size": 2}},
    {"t": {"$elemMatch": {"$gte": 2, "$lt": 4}}},
    {"l": {"$elemMatch": {"k": 1, "v": "a"}}},
    {"l": {"$elemMatch": {"k": {"$gte": 1}}}},
    {"l.k": 2},
    {"l.0.k": 2},
    {"l": {"$all": [{"$elemMatch": {"k": 1}}]}},
    {"s": Regex("^al")},
    {"s": Regex("mm")},
    {"s": {"$regex": "^al"}},
    {"m": {"$exists": False}},
    {"m": {"$exists": True}, "a": {"$ne": 3}},
    {"m": True},
    {"o.y": None},
    {"nope": None},
    {"o": {"x": 1}},
    {"t": [1, 2]},
    {"id": ObjectId()},
    {"d": {"$gt": Decimal128("3")}},
    {"at": {"$lt": DAY}},
    {"$or": [{"a": 3}, {"s": "x", "at": {"$gt": DAY}}]},
    {"$nor": [{"a": 3}, {"s": "x"}]},
    {"a": {"$not": {"$gt": 5}}},
    {"a": {"$mod": [2, 0]}},
    {"a": {"$type": "int"}},
    {"$and": [{"a": {"$gt": 1}}, {"a": {"$gt": 2}}]},
]


def form_of(filter: dict[str, Any]) -> Any:
    return shape_form(("", "find", filter_key(filter, Room()), None))["filter"]


def drawn(filter: dict[str, Any], sample: Any = SAMPLE, **options: Any) -> list[DrawnFilter]:
    return draw_filters(form_of(filter), sample, 3, **options)


@pytest.mark.parametrize("filter", FILTERS, ids=str)
def test_a_drawn_filter_has_the_shape_it_was_drawn_for(filter: dict[str, Any]) -> None:
    found = drawn(filter)
    assert found
    for each in found:
        assert each.left_out == ()
        assert form_of(each.filter) == form_of(filter)


@pytest.mark.parametrize(
    "filter", [f for f in FILTERS if f not in ({"a": {"$in": []}}, {"nope": 3})], ids=str
)
def test_a_drawn_filter_matches_documents(filter: dict[str, Any]) -> None:
    for each in drawn(filter):
        assert any(matches(each.filter, document) is not False for document in SAMPLE)


def test_filters_of_one_shape_ask_for_frequent_and_for_rare_values() -> None:
    sample = [{"s": "often"}] * 90 + [{"s": "rare"}] + [{"s": f"x{i % 5}"} for i in range(10)]
    asked = [each.filter["s"] for each in draw_filters(form_of({"s": "v"}), sample, 3)]
    assert asked[:2] == ["often", "rare"]
    assert len(set(asked)) == 3


def test_the_same_documents_give_the_same_filters() -> None:
    for filter in FILTERS:
        assert drawn(filter, seed=7) == drawn(filter, seed=7)


def test_a_range_takes_in_about_the_share_that_calls_return() -> None:
    for share in (0.02, 0.2, 0.7):
        for filter in ({"at": {"$gt": DAY}}, {"at": {"$gte": DAY, "$lt": DAY}}):
            (first, *_) = drawn(filter, returned_share=share)
            found = sum(matches(first.filter, document) is True for document in SAMPLE)
            assert share * len(SAMPLE) * 0.7 <= found <= share * len(SAMPLE) * 1.3 + 1


def test_values_that_do_not_occur_are_made_up() -> None:
    for filter in ({"zz": 3}, {"zz": {"$gt": "a"}}, {"zz": {"$in": [DAY, None]}}, {"zz": True}):
        for sample in (SAMPLE, []):
            (each, *_) = drawn(filter, sample)
            assert form_of(each.filter)[0]["path"] == "zz"


@pytest.mark.parametrize(
    ("value", "sample"),
    [
        (None, [{"a": None}]),
        (None, [{"a": None}, {"a": None}]),
        ({"x": 1}, [{"a": {"x": 1}}]),
        ([1], [{"a": [[1]]}, {"a": [["x"]]}]),
        (1, [{"a": 2**63 - 1}, {"a": -(2**63)}]),
        (1, [{"a": Decimal128("NaN")}, {"a": 1.5, "b": 1}]),
        (1, [{"a": float("nan")}, {"a": 1.5}, {"a": Decimal128("2")}]),
        (1, [{"a": v} for v in (Decimal128("1.5"), float("nan"), 1, Decimal128("sNaN")) * 60]),
    ],
    ids=str,
)
@pytest.mark.parametrize("operators", [("$gt",), ("$lt",), ("$gte", "$lte"), ("$gt", "$lt")])
def test_a_range_is_drawn_also_from_values_that_have_no_order_here(
    value: Any, sample: list[dict[str, Any]], operators: tuple[str, ...]
) -> None:
    for filter in (
        {"a": dict.fromkeys(operators, value)},
        {"a": dict.fromkeys(operators, value), "b": 1},
    ):
        for each in drawn(filter, sample):
            assert form_of(each.filter) == form_of(filter)
            bson.encode(each.filter)


@pytest.mark.parametrize(
    ("filter", "left_out"),
    [
        ({"$expr": {"$gt": ["$a", "$b"]}, "a": 3}, ("$expr",)),
        ({"$where": "true", "a": 3}, ("$where",)),
        ({"$text": {"$search": "x"}, "a": 3}, ("$text",)),
        ({"p": {"$near": [1, 2]}, "a": 3}, ("$near",)),
        ({"a": 3, "$or": [{"s": "x"}, {"$expr": {"$eq": ["$a", 1]}}]}, ("$expr", "$or")),
    ],
)
def test_what_cannot_be_drawn_is_left_out_and_said(
    filter: dict[str, Any], left_out: tuple[str, ...]
) -> None:
    (each, *_) = drawn(filter)
    assert each.left_out == left_out
    assert list(each.filter) == ["a"]


@patient
@given(plain_filters, documents(), st.integers(0, 3))
def test_any_filter_can_be_drawn_again(
    filter: dict[str, Any], sample: list[dict[str, Any]], seed: int
) -> None:
    for each in drawn(filter, sample, seed=seed):
        if not each.left_out:
            paths = {node.get("path") for node in form_of(filter)}
            assert {node.get("path") for node in form_of(each.filter)} == paths
