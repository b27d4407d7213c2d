"""Pairs of a read and a write that makes, removes or returns documents."""

from __future__ import annotations

import bson
from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp

from qbmongo_tests.core.may_affect_pairs import (
    ANY,
    BY_STATUS,
    PAGE,
    TOP,
    Pair,
    count,
    delete,
    find,
    find_one,
    insert,
    modify,
    update,
)

DOCUMENTS = [
    # Upserts.
    Pair(
        "an upsert by _id",
        BY_STATUS,
        [8],
        update({"_id": 7}, {"$set": {"a": 1}}, upsert=True),
        "drop",
    ),
    Pair(
        "an upsert by another _id",
        find_one({"_id": 8}),
        [],
        update({"_id": 7}, {"$set": {"a": 1}}, upsert=True),
        "keep",
    ),
    Pair(
        "an upsert that sets its _id",
        find_one({"_id": 8}),
        [],
        update({"a": 1}, {"$setOnInsert": {"_id": 8}}, upsert=True),
        "drop",
    ),
    Pair(
        "an upsert by $in takes its _id from elsewhere",
        find_one({"_id": 8}),
        [],
        update({"_id": {"$in": [7]}}, {"$setOnInsert": {"_id": 8}}, upsert=True),
        "drop",
    ),
    Pair(
        "an upsert by a pipeline may make an _id",
        find_one({"_id": 8}),
        [],
        update({"_id": 7}, [{"$set": {"a": 1}}], upsert=True),
        "drop",
    ),
    Pair(
        "an upsert and a count",
        count({}),
        ANY,
        update({"a": 1}, {"$inc": {"n": 1}}, upsert=True),
        "drop",
    ),
    # Inserts.
    Pair("an insert after a cached None", find_one({"_id": 7}), [], insert({"_id": 7}), "drop"),
    Pair("an insert of another _id", find_one({"_id": 8}), [], insert({"_id": 7}), "keep"),
    Pair("an insert that matches", BY_STATUS, [8], insert({"_id": 7, "status": "open"}), "drop"),
    Pair(
        "an insert that does not match", BY_STATUS, [8], insert({"_id": 7, "status": "x"}), "keep"
    ),
    Pair(
        "one of two matches",
        BY_STATUS,
        [8],
        insert({"_id": 6}, {"_id": 7, "status": "open"}),
        "drop",
    ),
    Pair(
        "an insert into the top",
        TOP,
        [8],
        insert({"_id": 7, "status": "open", "balance": 9}),
        "drop",
    ),
    Pair("a tie at the limit", TOP, [8, 9, 10], insert({"_id": 7, "status": "open"}), "drop"),
    Pair(
        "a count that it does not enter", count({"status": "open"}), ANY, insert({"_id": 7}), "keep"
    ),
    Pair("a count that it enters", count({}), ANY, insert({"_id": 7}), "drop"),
    Pair(
        "an element of an array matches",
        find({"tags": "x"}),
        [],
        insert({"_id": 7, "tags": ["x"]}),
        "drop",
    ),
    Pair("a missing field is null", find({"tags": None}), [], insert({"_id": 7}), "drop"),
    Pair(
        "no _id: the server makes it",
        find({"_id": {"$exists": True}}),
        [],
        insert({"a": 1}),
        "drop",
    ),
    Pair(
        "an empty timestamp is filled in by the server",
        find({"t": {"$gt": Timestamp(5, 0)}}),
        [],
        insert({"_id": 7, "t": Timestamp(0, 0)}),
        "drop",
    ),
    Pair(
        "a raw document",
        BY_STATUS,
        [8],
        insert(RawBSONDocument(bson.encode({"_id": 7, "status": "x"}))),
        "keep",
    ),
    Pair(
        "under a collation the strings are equal",
        find({"status": "open"}, options={"collation": {"locale": "en", "strength": 2}}),
        [8],
        insert({"_id": 7, "status": "OPEN"}),
        "drop",
    ),
    # Deletes.
    Pair("a delete of the document", find_one({"_id": 7}), [7], delete({"_id": 7}), "drop"),
    Pair("a delete of another", find_one({"_id": 8}), [8], delete({"_id": 7}), "keep"),
    Pair("a delete outside a list", BY_STATUS, [8], delete({"_id": 7}), "keep"),
    Pair("a delete outside the first three", TOP, [8, 9, 10], delete({"_id": 7}), "keep"),
    Pair("a delete among the first three", TOP, [7, 8, 9], delete({"_id": 7}), "drop"),
    Pair("a delete shifts a page", PAGE, [8, 9], delete({"_id": 7}), "drop"),
    Pair("a delete and a count", count({"status": "open"}), ANY, delete({"_id": 7}), "drop"),
    Pair("delete_many", BY_STATUS, [8], delete({"status": "x"}, limit=0), "drop"),
    Pair("delete_many and nothing found", BY_STATUS, [], delete({"status": "x"}, limit=0), "drop"),
    Pair(
        "a delete by a string under a collation",
        find_one({"_id": "ada"}),
        ["ada"],
        delete({"_id": "ADA"}, collation={"locale": "en", "strength": 1}),
        "drop",
    ),
    # findAndModify.
    Pair(
        "find_one_and_update",
        find_one({"_id": 7}),
        [7],
        modify({"_id": 7}, update={"$set": {"a": 1}}),
        "drop",
    ),
    Pair(
        "find_one_and_update of another",
        find_one({"_id": 8}),
        [8],
        modify({"_id": 7}, update={"$set": {"a": 1}}),
        "keep",
    ),
    Pair(
        "find_one_and_update by sort",
        find_one({"_id": 8}),
        [8],
        modify({"a": 1}, sort={"b": 1}, update={"$set": {"a": 2}}),
        "drop",
    ),
    Pair("find_one_and_delete", find_one({"_id": 8}), [8], modify({"_id": 8}, remove=True), "drop"),
    Pair(
        "find_one_and_delete outside a list",
        BY_STATUS,
        [8],
        modify({"_id": 7}, remove=True),
        "keep",
    ),
    Pair(
        "find_one_and_replace as upsert",
        BY_STATUS,
        [8],
        modify({"_id": 7}, update={"a": 1}, upsert=True),
        "drop",
    ),
]
