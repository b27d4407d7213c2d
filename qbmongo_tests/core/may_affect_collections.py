"""Pairs of reads and writes across collections, of aggregations, and of change-stream events."""

from __future__ import annotations

from qbmongo.records import ReadOp
from qbmongo_tests.core.may_affect_pairs import (
    ANY,
    BY_STATUS,
    NS,
    ORDERS,
    SET_BALANCE,
    Pair,
    aggregate,
    command,
    event,
    find,
    find_one,
    insert,
)

COLLECTIONS = [
    # Aggregations.
    Pair(
        "sum of the path",
        aggregate(
            {"$match": {"status": "open"}}, {"$group": {"_id": None, "n": {"$sum": "$balance"}}}
        ),
        ANY,
        SET_BALANCE,
        "drop",
    ),
    Pair(
        "sum of another path",
        aggregate(
            {"$match": {"status": "open"}}, {"$group": {"_id": "$name", "n": {"$sum": "$n"}}}
        ),
        ANY,
        SET_BALANCE,
        "keep",
    ),
    Pair(
        "group of whole documents",
        aggregate({"$group": {"_id": 1, "all": {"$push": "$$ROOT"}}}),
        ANY,
        SET_BALANCE,
        "drop",
    ),
    Pair(
        "a pipeline that passes documents on",
        aggregate({"$match": {"status": "open"}}),
        ANY,
        SET_BALANCE,
        "drop",
    ),
    Pair(
        "a new document outside $match",
        aggregate({"$match": {"status": "open"}}, {"$count": "n"}),
        ANY,
        insert({"_id": 7, "status": "x"}),
        "keep",
    ),
    Pair(
        "a $lookup's source",
        aggregate({"$lookup": ORDERS}),
        ANY,
        command({"insert": "orders", "documents": [{"_id": 1}]}),
        "drop",
    ),
    Pair(
        "a $lookup's source is renamed",
        aggregate({"$lookup": ORDERS}),
        ANY,
        command({"renameCollection": "bank.orders", "to": "bank.old"}, "admin"),
        "drop",
    ),
    Pair(
        "a $lookup's inner source",
        aggregate({"$lookup": {**ORDERS, "pipeline": [{"$unionWith": "more"}]}}),
        ANY,
        command({"delete": "more", "deletes": [{"q": {"_id": 1}, "limit": 1}]}),
        "drop",
    ),
    Pair(
        "a $facet's $unionWith",
        aggregate({"$facet": {"x": [{"$unionWith": {"coll": "more"}}]}}),
        ANY,
        command({"delete": "more", "deletes": [{"q": {"_id": 1}, "limit": 1}]}),
        "drop",
    ),
    Pair(
        "a collection joined with itself",
        aggregate({"$match": {"_id": 8}}, {"$lookup": {**ORDERS, "from": "accounts"}}),
        ANY,
        SET_BALANCE,
        "drop",
    ),
    # Whole collections and more.
    Pair("drop", find_one({"_id": 7}), [], command({"drop": "accounts"}), "drop"),
    Pair("drop of another", find_one({"_id": 7}), [], command({"drop": "accounts2"}), "keep"),
    Pair(
        "rename from",
        find_one({"_id": 7}),
        [7],
        command({"renameCollection": NS, "to": "bank.b"}, "admin"),
        "drop",
    ),
    Pair(
        "rename to",
        find_one({"_id": 7}),
        [],
        command({"renameCollection": "bank.b", "to": NS}, "admin"),
        "drop",
    ),
    Pair("dropDatabase", find_one({"_id": 7}), [], command({"dropDatabase": 1}), "drop"),
    Pair(
        "dropDatabase of one whose name begins alike",
        find_one({"_id": 7}),
        [],
        command({"dropDatabase": 1}, "ban"),
        "keep",
    ),
    Pair("create", find_one({"_id": 7}), [], command({"create": "accounts"}), "drop"),
    Pair("collMod", find_one({"_id": 7}), [], command({"collMod": "accounts"}), "drop"),
    Pair(
        "createIndexes",
        find_one({"_id": 7}),
        [],
        command({"createIndexes": "accounts", "indexes": []}),
        "drop",
    ),
    Pair(
        "$out",
        find_one({"_id": 7}),
        [],
        command({"aggregate": "b", "pipeline": [{"$out": "accounts"}]}),
        "drop",
    ),
    Pair(
        "$out elsewhere",
        find_one({"_id": 7}),
        [7],
        command({"aggregate": "accounts", "pipeline": [{"$out": "b"}]}),
        "keep",
    ),
    Pair(
        "$merge",
        find_one({"_id": 7}),
        [],
        command(
            {
                "aggregate": "b",
                "pipeline": [{"$merge": {"into": {"db": "bank", "coll": "accounts"}}}],
            },
            "x",
        ),
        "drop",
    ),
    Pair(
        "aggregate without a target",
        find_one({"_id": 7}),
        [7],
        command({"aggregate": "accounts", "pipeline": []}),
        "keep",
    ),
    Pair("a find", find_one({"_id": 7}), [7], command({"find": "accounts", "filter": {}}), "keep"),
    Pair("an unknown command", find_one({"_id": 7}), [7], command({"reticulate": 1}), "drop"),
    Pair(
        "client bulk, its collection",
        find_one({"_id": 7}),
        [7],
        command(
            {
                "bulkWrite": 1,
                "ops": [{"delete": 0, "filter": {"_id": 7}, "multi": False}],
                "nsInfo": [{"ns": NS}],
            },
            "admin",
        ),
        "drop",
    ),
    Pair(
        "client bulk, another collection",
        find_one({"_id": 7}),
        [7],
        command(
            {
                "bulkWrite": 1,
                "ops": [{"delete": 1, "filter": {"_id": 7}, "multi": False}],
                "nsInfo": [{"ns": NS}, {"ns": "bank.b"}],
            },
            "admin",
        ),
        "keep",
    ),
    # Other writers, by change stream.
    Pair(
        "event: update of the field shown",
        BY_STATUS,
        [7],
        event(
            "update", 7, updateDescription={"updatedFields": {"balance": 1}, "removedFields": []}
        ),
        "drop",
    ),
    Pair(
        "event: moves in by a removed field",
        find({"closed": None}),
        [8],
        event("update", 7, updateDescription={"updatedFields": {}, "removedFields": ["closed"]}),
        "drop",
    ),
    Pair(
        "event: update elsewhere",
        BY_STATUS,
        [8],
        event(
            "update", 7, updateDescription={"updatedFields": {"balance": 1}, "removedFields": []}
        ),
        "keep",
    ),
    Pair("event: insert", BY_STATUS, [8], event("insert", 7), "drop"),
    Pair(
        "event: insert, point read of another", find_one({"_id": 8}), [], event("insert", 7), "keep"
    ),
    Pair("event: delete (also by TTL)", BY_STATUS, [7], event("delete", 7), "drop"),
    Pair("event: delete elsewhere", BY_STATUS, [8], event("delete", 7), "keep"),
    Pair("event: replace", find({"b": 1}), [8], event("replace", 7), "drop"),
    Pair("event: drop", BY_STATUS, [8], event("drop"), "drop"),
    Pair("event: invalidate", ReadOp("find", "x.y", {}), [8], event("invalidate"), "drop"),
]
