"""Reads that may be kept, and what happens to documents so that each of the answers changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import Decimal128, ObjectId
from pymongo.collation import Collation
from pymongo.errors import BulkWriteError

from qbmongo_tests.clients.places import Ask, Documents, one, other

__all__ = [
    "AB",
    "MEMBERSHIP",
    "MOVED",
    "NONE_YET",
    "OF_OTHER",
    "THERE",
    "Moves",
    "a_is_1",
    "by_a",
    "count",
    "count_a_1",
    "distinct_a",
    "first_by_a",
    "ids_of_a_1",
    "joined",
    "second_by_a",
    "sums",
    "two_by_a",
]

AB = ({"_id": 1, "a": 1, "b": 1}, {"_id": 2, "a": 2, "b": 2}, {"_id": 3, "a": 3, "b": 3})
ITEMS = (
    {"_id": 1, "items": [{"k": 1, "n": 1}, {"k": 2, "n": 2}]},
    {"_id": 2, "items": [{"k": 1, "n": 1}]},
)
NAMES = ({"_id": 1, "name": "Anna"}, {"_id": 2, "name": "bert"})
ANY_CASE = Collation("en", strength=2)


@dataclass(frozen=True)
class Moves:
    """A write that changes each of these answers. fails: what it raises after a part was done."""

    name: str
    documents: Documents
    reads: Sequence[Ask]
    write: Ask
    others: Documents = ()
    fails: type[Exception] | None = None


def a_is_1(c: Any) -> Any:
    return c.find({"a": 1})


def count_a_1(c: Any) -> Any:
    return c.count_documents({"a": 1})


def count(c: Any) -> Any:
    return c.count_documents({})


def distinct_a(c: Any) -> Any:
    return c.distinct("a")


def ids_of_a_1(c: Any) -> Any:
    return c.distinct("_id", {"a": 1})


def sums(c: Any) -> Any:
    return c.aggregate([{"$match": {"a": 1}}, {"$group": {"_id": None, "n": {"$sum": "$_id"}}}])


def by_a(c: Any) -> Any:
    return c.find().sort("a", 1)


def first_by_a(c: Any) -> Any:
    return c.find({}, sort=[("a", 1)], limit=1)


def two_by_a(c: Any) -> Any:
    return c.find().sort("a", 1).limit(2)


def second_by_a(c: Any) -> Any:
    return c.find().sort("a", 1).skip(1).limit(1)


def joined(c: Any) -> Any:
    return c.aggregate(
        [
            {"$sort": {"_id": 1}},
            {
                "$lookup": {
                    "from": other(c).name,
                    "localField": "a",
                    "foreignField": "a",
                    "as": "found",
                }
            },
        ]
    )


def united(c: Any) -> Any:
    return c.aggregate([{"$unionWith": other(c).name}, {"$sort": {"_id": 1, "a": 1}}])


def reached(c: Any) -> Any:
    return c.aggregate(
        [
            {"$match": {"_id": 1}},
            {
                "$graphLookup": {
                    "from": other(c).name,
                    "startWith": "$a",
                    "connectFromField": "next",
                    "connectToField": "a",
                    "as": "path",
                }
            },
            {"$project": {"n": {"$size": "$path"}}},
        ]
    )


def updating(update: Mapping[str, Any]) -> Ask:
    return lambda c: c.update_one({"_id": 1}, update)


MEMBERSHIP = (a_is_1, count_a_1, ids_of_a_1, sums, lambda c: c.find({"$or": [{"a": 1}, {"z": 1}]}))
NONE_YET = (
    lambda c: c.find_one({"_id": 9}),
    lambda c: c.find_one({"a": 9}),
    lambda c: c.find({"a": {"$gt": 8}}),
    lambda c: c.count_documents({"_id": 9}),
    lambda c: c.distinct("b", {"a": 9}),
)
OF_ITEMS = (
    one,
    lambda c: c.find({"items.n": 9}),
    lambda c: c.find({"items": {"$elemMatch": {"k": {"$gt": 0}, "n": 9}}}),
    lambda c: c.count_documents({"items.n": 9}),
    lambda c: c.aggregate(
        [
            {"$unwind": "$items"},
            {"$group": {"_id": "$items.n", "of": {"$sum": 1}}},
            {"$sort": {"_id": 1}},
        ]
    ),
    lambda c: c.find_one({"_id": 1}, {"items.n": 1}),
)
OF_OTHER = (joined, united, reached)
THERE = ({"_id": 11, "a": 1, "next": 5}, {"_id": 12, "a": 5})

MOVED = [
    # A document that was no part of the answer comes in.
    Moves("moved in", AB, MEMBERSHIP, lambda c: c.update_one({"b": 2}, {"$set": {"a": 1}})),
    Moves("moved out", AB, MEMBERSHIP, lambda c: c.update_one({"b": 1}, {"$set": {"a": 9}})),
    Moves(
        "moved in by a nested path",
        [{"_id": 1, "x": {"y": 0}}],
        [
            lambda c: c.find({"x.y": 1}),
            lambda c: c.find({"x": {"y": 1}}),
            lambda c: c.count_documents({"x": {"$eq": {"y": 1}}}),
        ],
        lambda c: c.update_one({"_id": 1}, {"$set": {"x.y": 1}}),
    ),
    Moves(
        "moved in by its parent",
        [{"_id": 1, "x": {"y": 0}}],
        [lambda c: c.find({"x.y": 1}), lambda c: c.distinct("x.y")],
        lambda c: c.update_one({"_id": 1}, {"$set": {"x": {"y": 1}}}),
    ),
    Moves(
        "moved in by an element",
        [{"_id": 1, "a": [2, 3]}],
        [a_is_1, count_a_1, lambda c: c.find({"a.0": 1}), lambda c: c.find({"a": {"$lt": 2}})],
        lambda c: c.update_one({"_id": 1}, {"$set": {"a.0": 1}}),
    ),
    Moves(
        "moved in by a missing field",
        AB,
        [
            lambda c: c.find({"a": None}),
            lambda c: c.find({"a": {"$exists": False}}),
            lambda c: c.find({"a": {"$ne": 2}}),
            lambda c: c.find({"$nor": [{"a": {"$exists": True}}]}),
        ],
        lambda c: c.update_one({"_id": 2}, {"$unset": {"a": ""}}),
    ),
    Moves("of many", AB, [one, a_is_1, by_a], lambda c: c.update_many({}, {"$inc": {"b": 1}})),
    Moves("replaced", AB, [one, *MEMBERSHIP], lambda c: c.replace_one({"b": 1}, {"c": 1})),
    Moves(
        "by an equal number of another type",
        AB,
        [lambda c: c.find_one({"_id": 2}), lambda c: c.find_one({"_id": 2.0}), a_is_1],
        lambda c: c.update_one({"_id": Decimal128("2.0")}, {"$set": {"a": 1.0}}),
    ),
    Moves(
        "of an _id that is shown in part, or as another value",
        [{"_id": {"a": 1, "b": 2}, "n": 1}],
        [
            lambda c: c.find({}, {"_id.a": 1, "n": 1}),
            lambda c: c.find({}, {"_id.b": 0}),
            lambda c: c.find({}, {"_id": ["$n"], "n": 1}),
            lambda c: c.find({}, {"_id": ObjectId("0" * 24), "n": 1}),
        ],
        lambda c: c.update_one({"_id": {"a": 1, "b": 2}}, {"$set": {"n": 2}}),
    ),
    Moves(
        "by an equal _id of another type",
        [{"_id": 5, "n": 1}],
        [
            lambda c: c.find_one({"_id": 5}, {"_id": 1}),
            lambda c: c.find({}, {"_id": 1}),
            lambda c: c.find({"_id": {"$type": "double"}}),
            lambda c: c.count_documents({"_id": {"$not": {"$type": "int"}}}),
            lambda c: c.distinct("_id"),
            lambda c: c.aggregate([{"$group": {"_id": "$_id"}}]),
        ],
        lambda c: c.replace_one({"_id": 5}, {"_id": 5.0, "n": 1}),
    ),
    Moves(
        "of an expression",
        AB,
        [
            lambda c: c.find({"$expr": {"$eq": ["$a", "$b"]}}),
            lambda c: c.aggregate([{"$project": {"n": {"$add": ["$a", "$b"]}}}]),
        ],
        lambda c: c.update_one({"_id": 2}, {"$set": {"b": 7}}),
    ),
    # Inserts after an answer without documents.
    Moves("insert_one", AB, NONE_YET, lambda c: c.insert_one({"_id": 9, "a": 9, "b": 9})),
    Moves("insert_many", AB, NONE_YET, lambda c: c.insert_many([{"_id": 9, "a": 9, "b": 9}])),
    Moves(
        "the first document of all",
        (),
        (*NONE_YET, count),
        lambda c: c.insert_one({"_id": 9, "a": 9, "b": 9}),
    ),
    Moves(
        "an insert in spite of an error",
        AB,
        NONE_YET,
        lambda c: c.insert_many([{"_id": 1}, {"_id": 9, "a": 9, "b": 9}], ordered=False),
        fails=BulkWriteError,
    ),
    # Windows.
    Moves(
        "a delete before a window",
        AB,
        [
            second_by_a,
            lambda c: c.find().sort("a", 1).skip(2),
            lambda c: c.count_documents({}, skip=1),
            lambda c: c.aggregate([{"$sort": {"a": 1}}, {"$skip": 1}, {"$limit": 1}]),
            lambda c: c.find_one({}, sort=[("a", 1)], skip=1),
        ],
        lambda c: c.delete_one({"_id": 1}),
    ),
    Moves(
        "a delete in a window",
        AB,
        [first_by_a, two_by_a, by_a, lambda c: c.find_one({}, sort=[("a", 1)])],
        lambda c: c.delete_one({"_id": 1}),
    ),
    Moves(
        "an insert before a window",
        AB,
        [first_by_a, two_by_a, second_by_a],
        lambda c: c.insert_one({"_id": 0, "a": 0}),
    ),
    Moves(
        "a document overtakes",
        AB,
        [first_by_a, two_by_a, second_by_a, lambda c: c.find({"_id": {"$lt": 9}}).sort("a", -1)],
        lambda c: c.update_one({"_id": 3}, {"$set": {"a": 0}}),
    ),
    Moves(
        "a tie at the limit goes",
        [{"_id": 1, "a": 1}, {"_id": 2, "a": 1}, {"_id": 3, "a": 0}],
        [two_by_a, second_by_a],
        lambda c: c.delete_one({"_id": 1}),
    ),
    Moves(
        "a tie at the limit falls behind",
        [{"_id": 1, "a": 1}, {"_id": 2, "a": 1}, {"_id": 3, "a": 0}],
        [two_by_a, second_by_a],
        lambda c: c.update_one({"_id": 1}, {"$inc": {"a": 1}}),
    ),
    Moves(
        "delete_many", AB, [count, by_a, *MEMBERSHIP], lambda c: c.delete_many({"b": {"$lt": 3}})
    ),
    # Upserts.
    Moves(
        "an upsert by _id",
        AB,
        NONE_YET,
        lambda c: c.update_one({"_id": 9}, {"$set": {"a": 9, "b": 9}}, upsert=True),
    ),
    Moves(
        "an upsert that takes its _id from the update",
        AB,
        NONE_YET,
        lambda c: c.update_one({"a": 9}, {"$setOnInsert": {"_id": 9, "b": 9}}, upsert=True),
    ),
    Moves(
        "an upsert by replacement",
        AB,
        NONE_YET,
        lambda c: c.replace_one({"x": 1}, {"_id": 9, "a": 9, "b": 9}, upsert=True),
    ),
    Moves(
        "an upsert of many",
        AB,
        NONE_YET,
        lambda c: c.update_many({"_id": 9, "a": 9}, {"$set": {"b": 9}}, upsert=True),
    ),
    Moves(
        "an upsert by pipeline",
        AB,
        NONE_YET,
        lambda c: c.update_one(
            {"_id": 9}, [{"$set": {"a": 9}}, {"$set": {"b": "$a"}}], upsert=True
        ),
    ),
    # Updates whose paths are known to the server alone, and every operator.
    Moves(
        "positional $",
        ITEMS,
        OF_ITEMS,
        lambda c: c.update_one({"_id": 1, "items.k": 2}, {"$set": {"items.$.n": 9}}),
    ),
    Moves(
        "positional $[]", ITEMS, OF_ITEMS, lambda c: c.update_many({}, {"$set": {"items.$[].n": 9}})
    ),
    Moves(
        "positional $[x]",
        ITEMS,
        OF_ITEMS,
        lambda c: c.update_one(
            {"_id": 1}, {"$set": {"items.$[x].n": 9}}, array_filters=[{"x.k": 2}]
        ),
    ),
    Moves(
        "a position",
        ITEMS,
        OF_ITEMS,
        lambda c: c.update_one({"_id": 1}, {"$set": {"items.1.n": 9}}),
    ),
    Moves(
        "a pushed element",
        ITEMS,
        OF_ITEMS,
        lambda c: c.update_one({"_id": 1}, {"$push": {"items": {"k": 3, "n": 9}}}),
    ),
    Moves(
        "a pipeline that sets",
        AB,
        [one, *MEMBERSHIP, first_by_a],
        lambda c: c.update_one({"_id": 1}, [{"$set": {"a": {"$add": ["$a", "$b", 7]}}}]),
    ),
    Moves(
        "a pipeline that replaces",
        AB,
        [one, *MEMBERSHIP],
        lambda c: c.update_many({}, [{"$replaceWith": {"_id": "$_id", "a": 1, "c": 1}}]),
    ),
    Moves(
        "$rename into a filter",
        [{"_id": 1, "b": 1}, {"_id": 2, "b": 2}],
        [one, *MEMBERSHIP, distinct_a],
        lambda c: c.update_many({}, {"$rename": {"b": "a"}}),
    ),
    Moves(
        "$rename out of a filter",
        AB,
        [one, *MEMBERSHIP, distinct_a],
        lambda c: c.update_one({"_id": 1}, {"$rename": {"a": "z"}}),
    ),
    *(
        Moves(
            f"operator {next(iter(update))}",
            [{"_id": 1, "a": 6, "list": [1, 2, 3]}, {"_id": 2, "a": 7}],
            [one, lambda c: c.find().sort("a", -1), lambda c: c.find({}, {"a": 1, "list": 1})],
            updating(update),
        )
        for update in (
            {"$inc": {"a": 2}},
            {"$mul": {"a": 2}},
            {"$min": {"a": 1}},
            {"$max": {"a": 8}},
            {"$bit": {"a": {"xor": 1}}},
            {"$unset": {"a": ""}},
            {"$currentDate": {"a": True}},
            {"$pop": {"list": 1}},
            {"$pull": {"list": 2}},
            {"$pullAll": {"list": [1]}},
            {"$addToSet": {"list": 4}},
        )
    ),
    # Sources other than the collection that is asked.
    Moves(
        "an insert into a foreign collection",
        AB,
        OF_OTHER,
        lambda c: other(c).insert_one({"_id": 13, "a": 1}),
        others=THERE,
    ),
    Moves(
        "an update of a foreign collection",
        AB,
        OF_OTHER,
        lambda c: other(c).update_one({"_id": 11}, {"$set": {"a": 2}}),
        others=THERE,
    ),
    Moves(
        "a delete in a foreign collection",
        AB,
        OF_OTHER,
        lambda c: other(c).delete_one({"_id": 11}),
        others=THERE,
    ),
    Moves("a foreign collection dropped", AB, OF_OTHER, lambda c: other(c).drop(), others=THERE),
    Moves(
        "a foreign collection that did not exist",
        AB,
        OF_OTHER,
        lambda c: other(c).insert_one({"_id": 11, "a": 1}),
    ),
    # Collation.
    Moves(
        "an insert that a collation lets in",
        NAMES,
        [
            lambda c: c.find({"name": "ANNA"}).collation(ANY_CASE),
            lambda c: c.count_documents({"name": "ANNA"}, collation=ANY_CASE),
            lambda c: c.find({"name": {"$gte": "BERT"}}, collation=ANY_CASE),
        ],
        lambda c: c.insert_many([{"_id": 3, "name": "anna"}, {"_id": 4, "name": "berT"}]),
    ),
    Moves(
        "an update by a collation",
        NAMES,
        [one, lambda c: c.find({"name": "Anna"}), lambda c: c.distinct("name", collation=ANY_CASE)],
        lambda c: c.update_one({"name": "ANNA"}, {"$set": {"name": "Eve"}}, collation=ANY_CASE),
    ),
    Moves(
        "an update by a collation on _id",
        [{"_id": "A", "n": 1}],
        [lambda c: c.find_one({"_id": "A"}), lambda c: c.find_one({"_id": "A"}, {"n": 1})],
        lambda c: c.update_one({"_id": "a"}, {"$set": {"n": 2}}, collation=ANY_CASE),
    ),
    Moves(
        "a delete by a collation on _id",
        [{"_id": "A", "n": 1}],
        [lambda c: c.find_one({"_id": "A"}), count],
        lambda c: c.delete_one({"_id": "a"}, collation=ANY_CASE),
    ),
]
