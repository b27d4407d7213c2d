"""Every way to write, with reads whose answers it changes, and writes that leave answers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError

from qbmongo_tests.clients.places import Ask, Documents, one, other
from qbmongo_tests.clients.read_write_cases import (
    AB,
    MEMBERSHIP,
    NONE_YET,
    OF_OTHER,
    THERE,
    Moves,
    a_is_1,
    by_a,
    count,
    count_a_1,
    distinct_a,
    first_by_a,
    ids_of_a_1,
    joined,
    second_by_a,
    sums,
    two_by_a,
)

__all__ = ["LEAVES", "WAYS", "Leaves"]


@dataclass(frozen=True)
class Leaves:
    """A write that changes none of these answers.

    by_event: its event leaves them as well; of an insert it tells the `_id` alone.
    """

    name: str
    reads: Sequence[Ask]
    write: Ask
    documents: Documents = AB
    by_event: bool = True
    others: Documents = ({"_id": 1, "a": 1},)


def command(c: Any, *given: Any, **fields: Any) -> Any:
    return c.database.command(*given, **fields)


WAYS = [
    Moves(
        "find_one_and_update",
        AB,
        [one, *MEMBERSHIP],
        lambda c: c.find_one_and_update({"a": 1}, {"$inc": {"a": 8}}, sort=[("b", 1)]),
    ),
    Moves(
        "find_one_and_update that upserts",
        AB,
        NONE_YET,
        lambda c: c.find_one_and_update({"_id": 9}, {"$set": {"a": 9, "b": 9}}, upsert=True),
    ),
    Moves(
        "find_one_and_replace",
        AB,
        [one, *MEMBERSHIP],
        lambda c: c.find_one_and_replace({"a": 1}, {"b": 1}, projection={"_id": 1}),
    ),
    Moves(
        "find_one_and_delete",
        AB,
        [one, *MEMBERSHIP, count],
        lambda c: c.find_one_and_delete({"a": 1}),
    ),
    Moves(
        "bulk_write",
        AB,
        [one, count, *NONE_YET],
        lambda c: c.bulk_write(
            [
                UpdateMany({"a": {"$lt": 2}}, {"$set": {"b": 7}}),
                DeleteOne({"_id": 2}),
                DeleteOne({"_id": 3}),
                ReplaceOne({"x": 1}, {"_id": 9, "a": 9, "b": 9}, upsert=True),
            ],
            ordered=False,
        ),
    ),
    Moves(
        "bulk_write that ends half way",
        AB,
        [one, a_is_1],
        lambda c: c.bulk_write(
            [UpdateOne({"_id": 1}, {"$set": {"b": 7}}), InsertOne({"_id": 1}), DeleteOne({})]
        ),
        fails=BulkWriteError,
    ),
    Moves(
        "bulk_write of the client",
        AB,
        [one, count, *NONE_YET, *OF_OTHER],
        lambda c: c.database.client.bulk_write(
            [
                UpdateOne({"_id": 1}, {"$set": {"b": 7}}, namespace=c.full_name),
                InsertOne({"_id": 9, "a": 9, "b": 9}, namespace=c.full_name),
                DeleteOne({"_id": 11}, namespace=other(c).full_name),
            ]
        ),
        others=THERE,
    ),
    Moves(
        "$out",
        AB,
        [count, by_a, a_is_1],
        lambda c: other(c).aggregate([{"$match": {"a": 5}}, {"$out": c.name}]),
        others=THERE,
    ),
    Moves(
        "$merge",
        AB,
        [one, *NONE_YET],
        lambda c: other(c).aggregate([{"$merge": {"into": c.name, "whenMatched": "replace"}}]),
        others=[{"_id": 1, "z": 1}, {"_id": 9, "a": 9, "b": 9}],
    ),
    Moves(
        "$merge into its own source",
        AB,
        [one, *MEMBERSHIP],
        lambda c: c.aggregate([{"$set": {"a": 1, "z": 1}}, {"$merge": {"into": c.name}}]),
    ),
    Moves(
        "the update command",
        AB,
        [one, *MEMBERSHIP],
        lambda c: command(
            c, "update", c.name, updates=[{"q": {"_id": 1}, "u": {"$set": {"a": 9}}}]
        ),
    ),
    Moves(
        "the insert command",
        AB,
        NONE_YET,
        lambda c: command(c, {"insert": c.name, "documents": [{"_id": 9, "a": 9, "b": 9}]}),
    ),
    Moves(
        "the delete command",
        AB,
        [one, count, *MEMBERSHIP],
        lambda c: command(c, {"delete": c.name, "deletes": [{"q": {"_id": 1}, "limit": 1}]}),
    ),
    Moves(
        "the findAndModify command",
        AB,
        [one, *MEMBERSHIP],
        lambda c: command(c, "findAndModify", c.name, query={"_id": 1}, update={"$inc": {"a": 8}}),
    ),
    Moves("the drop command", AB, [one, count, *MEMBERSHIP], lambda c: command(c, "drop", c.name)),
    Moves("drop", AB, [one, count, *MEMBERSHIP], lambda c: c.drop()),
    Moves("drop_collection", AB, [one, count], lambda c: c.database.drop_collection(c.name)),
    Moves("renamed away", AB, [one, count], lambda c: c.rename(other(c).name + "_new")),
    Moves(
        "renamed over",
        AB,
        [one, count, by_a, joined],
        lambda c: other(c).rename(c.name, dropTarget=True),
        others=THERE,
    ),
    Moves(
        "the renameCollection command",
        AB,
        [one, count],
        lambda c: c.database.client.admin.command(
            "renameCollection", c.full_name, to=other(c).full_name
        ),
    ),
]


LEAVES = [
    Leaves(
        "another field of another document",
        [one, a_is_1, count_a_1, distinct_a, ids_of_a_1, sums, two_by_a],
        lambda c: c.update_one({"_id": 3}, {"$set": {"b": 7}}),
    ),
    Leaves(
        "a field that is not shown",
        [
            lambda c: c.find({"a": 1}, {"a": 1}),
            lambda c: c.find_one({"_id": 1}, {"a": 1}),
            count_a_1,
            distinct_a,
        ],
        lambda c: c.update_one({"_id": 1}, {"$set": {"b": 7}}),
    ),
    Leaves(
        "a replacement of another document",
        [one, lambda c: c.find_one({"_id": 2}), lambda c: c.find({"_id": {"$in": [1, 2]}})],
        lambda c: c.replace_one({"_id": 3}, {"z": 1}),
    ),
    Leaves(
        "a document outside the answer goes",
        [one, a_is_1, first_by_a, two_by_a],
        lambda c: c.delete_one({"_id": 3}),
    ),
    Leaves(
        "nothing goes",
        [one, a_is_1, lambda c: c.find_one({"_id": 8})],
        lambda c: c.delete_one({"_id": 9}),
    ),
    Leaves(
        "an insert that no filter lets in",
        [one, a_is_1, count_a_1, ids_of_a_1, sums, lambda c: c.find({"a": {"$lt": 3}, "b": 1})],
        lambda c: c.insert_one({"_id": 9, "a": 9, "b": 9}),
        by_event=False,
    ),
    Leaves(
        "true is not one",
        [a_is_1, count_a_1, lambda c: c.find_one({"_id": 1})],
        lambda c: c.insert_one({"_id": 9, "a": True}),
        by_event=False,
    ),
    Leaves(
        "find_one_and_update of another document",
        [one, a_is_1, count_a_1],
        lambda c: c.find_one_and_update({"_id": 3}, {"$set": {"b": 7}}),
    ),
    Leaves(
        "another collection",
        [one, count, distinct_a, by_a, second_by_a],
        lambda c: other(c).update_many({}, {"$set": {"a": 7}}),
    ),
    Leaves("another collection dropped", [one, count, by_a], lambda c: other(c).drop()),
]
