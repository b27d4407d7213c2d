"""Shapes with values -> the commands that are explained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bson
import pytest
from bson import Decimal128

from qbmongo.advisor.accesses import accesses_of
from qbmongo.advisor.queries import Questions, questions_of
from qbmongo.advisor.records import WorkloadShape
from qbmongo_tests.advisor.trial_cases import collection, orders, reading, writing

DOCUMENTS = orders(200)


def asked(shape: WorkloadShape, value_sets: int = 1) -> Questions:
    return questions_of(shape, collection(), DOCUMENTS, value_sets)


def command_of(shape: WorkloadShape) -> dict[str, Any]:
    (question,) = asked(shape).asked
    return dict(question.command)


def stages_of(*pipeline: dict[str, Any]) -> list[str]:
    """The stages asked of a pipeline, a $match with its paths."""
    stages = command_of(reading("aggregate", pipeline=list(pipeline)))["pipeline"]
    return [
        f"$match {' '.join(sorted(stage['$match']))}" if "$match" in stage else next(iter(stage))
        for stage in stages
    ]


MATCH = {"$match": {"customer": 1}}
LOOKUP = {"$lookup": {"from": "x", "localField": "a", "foreignField": "b", "as": "z"}}


@pytest.mark.parametrize(
    ("pipeline", "stages"),
    [
        ([MATCH], ["$match customer"]),
        ([MATCH, {"$match": {"total": 2}}], ["$match customer total"]),
        ([{"$sort": {"at": 1}}, MATCH, {"$limit": 3}], ["$sort", "$match customer", "$limit"]),
        ([MATCH, {"$sort": {"at": 1}}, {"$skip": 2}, {"$limit": 3}],
         ["$match customer", "$sort", "$skip", "$limit"]),
        ([{"$limit": 3}, MATCH], ["$limit"]),
        ([{"$addFields": {"x": 1}}, MATCH], ["$match customer"]),
        ([{"$addFields": {"customer": 1}}, MATCH], []),
        ([{"$addFields": {"customer.name": 1}}, MATCH], []),
        ([{"$addFields": {"x": 1}}, {"$sort": {"at": 1}}], []),
        ([{"$unwind": "$tags"}, MATCH], ["$match customer"]),
        ([{"$unwind": "$tags"}, {"$match": {"tags": "a"}}], []),
        ([{"$unwind": "$tags"}, {"$limit": 3}], []),
        ([{"$project": {"x": 0}}, MATCH], ["$match customer"]),
        ([{"$project": {"customer": 0}}, MATCH], []),
        ([{"$project": {"total": 1}}, MATCH], []),
        ([MATCH, LOOKUP, {"$match": {"z.a": 1}}], ["$match customer"]),
        ([MATCH, {"$group": {"_id": "$total"}}, {"$match": {"_id": 1}}], ["$match customer"]),
        ([{"$group": {"_id": "$total"}}], []),
    ],
)  # fmt: skip
def test_a_pipeline_is_asked_up_to_where_its_documents_are_others(
    pipeline: list[dict[str, Any]], stages: list[str]
) -> None:
    """Source: MongoDB manual, "Aggregation Pipeline Optimization"."""
    assert stages_of(*pipeline) == stages


def test_branches_of_an_or_are_about_different_documents() -> None:
    shape = reading("find", {"$or": [{"customer": 1}, {"total": 2}]})
    for question in asked(shape, 3).asked:
        values: dict[str, Any] = {}
        for branch in question.command["filter"]["$or"]:
            values |= branch
        assert not any(
            d["customer"] == values["customer"] and d["total"] == values["total"] for d in DOCUMENTS
        )


@pytest.mark.parametrize(
    ("shape", "limit"),
    [
        (reading("find_one", {"customer": 1}), 1),
        (reading("find", {"customer": 1}), None),
        (reading("find", {"customer": 1}, limit=9), 20),
        (replace(reading("find", {"customer": 1}, limit=9), documents=70), 7),
        (replace(reading("find", {"customer": 1}, limit=9), limits=(3, 4, 500)), 4),
    ],
)
def test_a_limit_is_that_which_was_seen_or_returned(
    shape: WorkloadShape, limit: int | None
) -> None:
    assert command_of(shape).get("limit") == limit


def test_options_of_a_find_are_asked() -> None:
    shape = reading(
        "find",
        {"customer": 1},
        sort=[("at", -1), ("total", 1)],
        skip=5,
        projection={"total": 1, "_id": 0},
        options={
            "collation": {"locale": "en", "strength": 2, "numericOrdering": True},
            "hint": [("customer", 1)],
        },
    )
    command = command_of(replace(shape, skips=(40,)))
    assert list(command["sort"].items()) == [("at", -1), ("total", 1)]
    assert command["skip"] == 40
    assert command["projection"] == {"total": 1, "_id": 0}
    assert command["collation"] == {"locale": "en", "strength": 2, "numericOrdering": True}
    assert command["hint"] == {"customer": 1}


def test_a_computed_projection_asks_for_whole_documents() -> None:
    shape = reading("find", {"customer": 1}, projection={"total": {"$add": ["$total", 1]}})
    assert "projection" not in command_of(shape)


@pytest.mark.parametrize(
    ("shape", "name", "statement"),
    [
        (writing("update_one", {"customer": 1}, {"$set": {"x": 1}}), "update", ("multi", False)),
        (writing("update_many", {"customer": 1}, {"$set": {"x": 1}}), "update", ("multi", True)),
        (writing("replace_one", {"customer": 1}, {}), "update", ("multi", False)),
        (writing("delete_one", {"customer": 1}), "delete", ("limit", 1)),
        (writing("delete_many", {"customer": 1}), "delete", ("limit", 0)),
    ],
)
def test_writes_are_asked_as_one_statement(
    shape: WorkloadShape, name: str, statement: tuple[str, Any]
) -> None:
    command = command_of(shape)
    assert next(iter(command)) == name
    (only,) = command[f"{name}s"]
    assert only[statement[0]] == statement[1]
    assert list(only["q"]) == ["customer"]


def test_each_request_of_a_bulk_write_is_asked() -> None:
    from pymongo import DeleteMany, InsertOne, UpdateOne

    requests = [
        UpdateOne({"customer": 1}, {"$set": {"x": 1}}),
        DeleteMany({"total": 3}),
        InsertOne({}),
    ]
    shape = writing("bulk_write", None, requests)
    names = sorted(next(iter(q.command)) for q in asked(shape).asked)
    assert names == ["delete", "update"]


@pytest.mark.parametrize(
    "shape",
    [
        writing("insert_one", None, {}),
        reading("estimated_document_count"),
    ],
)
def test_where_no_plan_is_chosen_nothing_is_asked(shape: WorkloadShape) -> None:
    assert asked(shape) == Questions(())


@pytest.mark.parametrize("operator", ["$near", "$nearSphere"])
def test_what_needs_its_own_kind_of_index_is_not_asked(operator: str) -> None:
    found = asked(reading("find", {"place": {operator: [1, 2]}, "customer": 1}))
    assert found.asked == ()
    assert operator in str(found.note)


@pytest.mark.parametrize(
    "filter",
    [
        {"customer": {"$in": 5}},
        {"customer": {"$nin": "a"}},
        {"customer": {"$all": {"a": 1}}},
        {"customer": {"$elemMatch": 5}},
        {"customer": {"$elemMatch": {"$in": 5}}},
        {"customer": {"$not": {"$in": 5}}},
        {"customer": {"$not": 5}},
        {"$or": 5},
        {"$or": [{"$or": {}}, {"$nor": "a"}, {"customer": {"$in": None}}]},
        {"customer": {"$size": "a", "$mod": 5, "$type": {}, "$regex": 5, "$options": 5}},
        {"$text": 5, "$where": 5, "$expr": 5, "": 5, ".": 5, "$": 5, "a..b": 5},
        5,
    ],
    ids=str,
)
def test_what_the_server_refuses_ends_no_advice(filter: Any) -> None:
    """A call that failed is in the profile as well."""
    for shape in (
        reading("find", filter),
        reading("aggregate", pipeline=[{"$match": filter}, {"$sort": {"at": Decimal128("NaN")}}]),
        reading("aggregate", pipeline=[{"$match": filter}]),
        writing("update_one", filter, {"$set": {"total": 1}}),
    ):
        assert isinstance(accesses_of(shape), (list, tuple))
        for question in asked(shape, 3).asked:
            bson.encode(question.command)


def test_documents_of_the_sample_stay_what_they_are() -> None:
    documents: list[dict[str, Any]] = [{"_id": i, "a": {}} for i in range(5)]
    shape = reading("find", {"$and": [{"a": {}}, {"a": {"$ne": 1}}, {"a": {"$gt": 1}}]})
    for question in questions_of(shape, collection(), documents, 3).asked:
        assert {"a": {}}.items() <= question.command["filter"].items()
    assert documents == [{"_id": i, "a": {}} for i in range(5)]
