"""Why the tempting rewrites of docs/rewrites.md are none: a document that tells the forms apart."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Regex
from pymongo.database import Database
from pymongo.errors import OperationFailure

# Documents, the form that tempts, what it tempts to: filters or pipelines.
WRONG: dict[str, tuple[list[Any], Any, Any]] = {
    "a stored regex equals the one that is asked for": (
        [{"a": Regex("^abc.*")}], {"a": Regex("^abc.*")}, {"a": Regex("^abc")},
    ),
    "two elements meet a range": (
        [{"a": ["abb", "zz"]}], {"a": Regex("^abc")}, {"a": {"$gte": "abc", "$lt": "abd"}},
    ),
    "$ before a final newline": ([{"a": "abc\n"}], {"a": Regex("^abc$")}, {"a": "abc"}),
    "two elements meet what contradicts itself": (
        [{"a": [1, 9]}], {"a": {"$gt": 5, "$lt": 3}}, {"a": {"$in": []}},
    ),
    "an empty array has nothing that is null": (
        [{"a": []}], {"a.b": {"$exists": True, "$ne": None}}, {"a.b": {"$ne": None}},
    ),
    "what is missing is not greater": ([{}], {"a": {"$not": {"$gt": 5}}}, {"a": {"$lte": 5}}),
    "an array in an array": ([{"a": [[]]}], {"a": {"$size": 0}}, {"a": []}),
    "what is no array has no element": ([{"a": 5}], {"a": {"$elemMatch": {"$eq": 5}}}, {"a": 5}),
    "an expression does not look into arrays": (
        [{"a": [5]}], {"$expr": {"$eq": ["$a", 5]}}, {"a": 5},
    ),
    "null is there": ([{"a": None}], {"a": {"$in": [None]}}, {"a": {"$exists": False}}),
    "numbers alike, and true": ([{"a": True}], {"a": {"$in": [1, True]}}, {"a": {"$in": [1]}}),
    "null beside $exists": (
        [{}], {"a": {"$exists": True, "$in": [None, 1]}}, {"a": {"$in": [None, 1]}},
    ),
    "the order of a sum": (
        [{"_id": 1, "a": 1e308}, {"_id": 2, "a": 1e308}, {"_id": 3, "a": -1e308}],
        [{"$sort": {"a": 1}}, {"$group": {"_id": None, "n": {"$sum": "$a"}}}],
        [{"$group": {"_id": None, "n": {"$sum": "$a"}}}],
    ),
    "the first of a group": (
        [{"_id": 1, "a": 1.0}, {"_id": 2, "a": 1}],
        [{"$sort": {"_id": -1}}, {"$group": {"_id": "$a", "n": {"$sum": 1}}}],
        [{"$group": {"_id": "$a", "n": {"$sum": 1}}}],
    ),
    "an unwound array in an array": (
        [{"a": [["x"]]}],
        [{"$unwind": "$a"}, {"$match": {"a": "x"}}, {"$count": "n"}],
        [{"$match": {"a": "x"}}, {"$unwind": "$a"}, {"$count": "n"}],
    ),
    "a limit before a match": (
        [{"_id": 1, "a": 1}, {"_id": 2, "a": 2}],
        [{"$sort": {"_id": 1}}, {"$limit": 1}, {"$match": {"a": 2}}],
        [{"$match": {"a": 2}}, {"$sort": {"_id": 1}}, {"$limit": 1}],
    ),
    "a limit before an $unwind that drops documents": (
        [{"_id": 1, "a": []}, {"_id": 2, "a": [1]}],
        [{"$sort": {"_id": 1}}, {"$unwind": "$a"}, {"$limit": 1}],
        [{"$sort": {"_id": 1}}, {"$limit": 1}, {"$unwind": "$a"}],
    ),
    "a limit before what fails": (
        [{"_id": 1, "a": 1}, {"_id": 2, "a": 0}],
        [{"$addFields": {"x": {"$divide": [1, "$a"]}}}, {"$sort": {"_id": 1}}, {"$limit": 1}],
        [{"$sort": {"_id": 1}}, {"$limit": 1}, {"$addFields": {"x": {"$divide": [1, "$a"]}}}],
    ),
    "the elements of a local array are joined": (
        [{"_id": 1, "a": [1, 2]}],
        [{"$lookup": {"from": "c", "let": {"v": "$a"}, "as": "j",
                      "pipeline": [{"$match": {"$expr": {"$eq": ["$_id", "$$v"]}}}]}}],
        [{"$lookup": {"from": "c", "localField": "a", "foreignField": "_id", "as": "j"}}],
    ),
    "equal is not sorted alike": (
        [{"_id": 1, "a": [1, 5]}, {"_id": 2, "a": 1}],
        [{"$match": {"a": 1}}, {"$sort": {"a": -1, "_id": -1}}],
        [{"$match": {"a": 1}}, {"$sort": {"_id": -1}}],
    ),
    "a sort by positions fails": (
        [{"a": [{"0": 1}, 2]}],
        [{"$sort": {"a.0": 1}}, {"$count": "n"}],
        [{"$count": "n"}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_two_forms_have_different_answers(database: Database[dict[str, Any]], name: str) -> None:
    documents, tempting, other = WRONG[name]
    collection = database.c
    collection.insert_many([dict(document) for document in documents])

    def answer(form: Any) -> Any:
        try:
            if isinstance(form, list):
                return [repr(document) for document in collection.aggregate(form)]
            return [repr(document) for document in collection.find(form)]
        except OperationFailure as error:
            return error.code

    assert answer(tempting) != answer(other)
