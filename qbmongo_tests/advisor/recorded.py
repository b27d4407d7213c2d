"""Documents and log lines as the manual shows them, with values of our own.

Sources, each named beside what was written after it, are pages of the MongoDB manual (8.0).
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

# Log Messages, "Logging Slow Operations": a slow aggregation.
SLOW_AGGREGATE: dict[str, Any] = {
    "t": {"$date": "2024-05-20T20:10:08.731+00:00"},
    "s": "I",
    "c": "COMMAND",
    "id": 51803,
    "ctx": "conn281",
    "msg": "Slow query",
    "attr": {
        "type": "command",
        "ns": "stocks.trades",
        "appName": "prices",
        "command": {
            "aggregate": "trades",
            "pipeline": [
                {"$match": {"ticker": "ABC", "price": {"$gte": 110.0}}},
                {"$sort": {"price": -1.0}},
                {"$limit": 30},
            ],
            "cursor": {},
            "lsid": {"id": {"$uuid": "fa658f9e-9cd6-42d4-b1c8-c9160fabf2a2"}},
            "$clusterTime": {"clusterTime": {"$timestamp": {"t": 1590005405, "i": 1}}},
            "$db": "stocks",
        },
        "planSummary": "COLLSCAN",
        "cursorid": 1912190691485054730,
        "keysExamined": 0,
        "docsExamined": 1000001,
        "hasSortStage": True,
        "numYields": 1002,
        "nreturned": 30,
        "reslen": 17738,
        "locks": {"Global": {"acquireCount": {"r": 1010}}},
        "protocol": "op_msg",
        "durationMillis": 22427,
    },
}

# Log Messages, "Logging Slow Operations", and Database Profiler Output, `command`, for the
# statement of a single update.
SLOW_UPDATE: dict[str, Any] = {
    "t": {"$date": "2024-05-20T20:11:00.000Z"},
    "s": "I",
    "c": "WRITE",
    "id": 51803,
    "ctx": "conn9",
    "msg": "Slow query",
    "attr": {
        "type": "update",
        "ns": "shop.orders",
        "command": {
            "q": {"status": "open", "at": {"$lt": {"$date": "2024-01-01T00:00:00Z"}}},
            "u": {"$set": {"status": "late"}},
            "multi": True,
            "upsert": False,
        },
        "planSummary": "IXSCAN { status: 1 }",
        "keysExamined": 500,
        "docsExamined": 500,
        "nMatched": 40,
        "nModified": 38,
        "keysInserted": 38,
        "keysDeleted": 38,
        "durationMillis": 120,
    },
}

SLOW_REMOVE: dict[str, Any] = {
    **SLOW_UPDATE,
    "attr": {
        "type": "remove",
        "ns": "shop.orders",
        "command": {"q": {"at": {"$lt": {"$date": "2023-01-01T00:00:00Z"}}}, "limit": 0},
        "planSummary": "COLLSCAN",
        "keysExamined": 0,
        "docsExamined": 9000,
        "ndeleted": 12,
        "durationMillis": 300,
    },
}

# getMore, and Database Profiler Output, `originatingCommand`.
SLOW_FIND: dict[str, Any] = {
    **SLOW_AGGREGATE,
    "attr": {
        "type": "command",
        "ns": "shop.orders",
        "command": {
            "find": "orders",
            "filter": {"customer": {"$oid": "65a000000000000000000001"}},
            "sort": {"at": -1},
            "skip": 2000,
            "$db": "shop",
        },
        "planSummary": "IXSCAN { customer: 1 }",
        "keysExamined": 400,
        "docsExamined": 400,
        "hasSortStage": True,
        "nreturned": 101,
        "reslen": 4000,
        "durationMillis": 150,
    },
}

SLOW_GET_MORE: dict[str, Any] = {
    **SLOW_AGGREGATE,
    "attr": {
        "type": "command",
        "ns": "shop.orders",
        "command": {"getMore": 7, "collection": "orders", "$db": "shop"},
        "originatingCommand": SLOW_FIND["attr"]["command"],
        "planSummary": "IXSCAN { customer: 1 }",
        "keysExamined": 0,
        "docsExamined": 0,
        "nreturned": 299,
        "reslen": 9000,
        "durationMillis": 110,
    },
}

# Log Messages, "Log Redaction": with security.redactClientLogData.
REDACTED: dict[str, Any] = {
    **SLOW_FIND,
    "attr": {
        **SLOW_FIND["attr"],
        "command": {"find": "orders", "filter": {"customer": "###"}, "$db": "shop"},
    },
}

# Log Messages, "Truncation": `truncated` and `size`.
CUT: dict[str, Any] = {
    **SLOW_FIND,
    "truncated": {"command": {"truncated": {"filter": {"type": "object", "size": 90000}}}},
    "size": {"command": 90040},
}

# Log Messages, "Structured Logging": lines of other kinds.
OTHER_LINES = (
    {
        "t": {"$date": "2024-05-01T15:16:17.180+00:00"},
        "s": "I",
        "c": "NETWORK",
        "id": 12345,
        "ctx": "listener",
        "msg": "Listening on",
        "attr": {"address": "127.0.0.1"},
    },
    {
        "t": {"$date": "2024-05-01T15:16:17.180+00:00"},
        "s": "I",
        "c": "COMMAND",
        "id": 20436,
        "ctx": "conn1",
        "msg": "Checking authorization failed",
        "attr": {},
    },
)


def line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, separators=(",", ":")) + "\n"


# Database Profiler Output, "Example system.profile Document".
PROFILED_FIND: dict[str, Any] = {
    "op": "query",
    "ns": "test.report",
    "command": {
        "find": "report",
        "filter": {"a": {"$lte": 500}},
        "sort": {"b": 1},
        "limit": 20,
        "lsid": {"id": 1},
        "$db": "test",
    },
    "cursorid": 33629063128,
    "keysExamined": 101,
    "docsExamined": 101,
    "hasSortStage": True,
    "fromMultiPlanner": True,
    "numYield": 2,
    "nreturned": 20,
    "queryHash": "811451DD",
    "planCacheKey": "759981BA",
    "responseLength": 2000,
    "protocol": "op_msg",
    "millis": 5,
    "planSummary": "IXSCAN { a: 1 }",
    "execStats": {"stage": "FETCH"},
    "ts": datetime(2024, 5, 22, 20, 41, 46, 391000, tzinfo=timezone.utc),
    "client": "127.0.0.1",
    "user": "",
}

PROFILED_UPDATE: dict[str, Any] = {
    "op": "update",
    "ns": "test.report",
    "command": {"q": {"a": 1}, "u": {"$set": {"b": 2}}, "multi": False, "upsert": False},
    "keysExamined": 1,
    "docsExamined": 1,
    "nMatched": 1,
    "nModified": 1,
    "millis": 3,
    "planSummary": "IXSCAN { a: 1 }",
    "ts": datetime(2024, 5, 22, 20, 41, 47),
}

PROFILED_INSERT: dict[str, Any] = {
    "op": "insert",
    "ns": "test.report",
    "command": {"insert": "report", "ordered": True, "$db": "test"},
    "ninserted": 1,
    "millis": 2,
    "ts": datetime(2024, 5, 22, 20, 41, 48),
}

PROFILED_COMMAND: dict[str, Any] = {
    "op": "command",
    "ns": "test.$cmd",
    "command": {"profile": 2, "$db": "test"},
    "millis": 0,
    "ts": datetime(2024, 5, 22, 20, 41, 40),
}

# listCollections, "Output".
LISTED: dict[str, Any] = {
    "name": "orders",
    "type": "collection",
    "options": {"collation": {"locale": "fr", "strength": 3, "version": "57.1"}},
    "info": {"readOnly": False},
    "idIndex": {"v": 2, "key": {"_id": 1}, "name": "_id_"},
}

# listIndexes, "Output"; Text Indexes; 2dsphere Indexes; TTL Indexes; Partial Indexes; Wildcard
# Indexes; Hidden Indexes.
LISTED_INDEXES: tuple[dict[str, Any], ...] = (
    {"v": 2, "key": {"_id": 1}, "name": "_id_"},
    {"v": 2, "key": {"a": 1, "b": -1}, "name": "a_1_b_-1", "unique": True},
    {"v": 2, "key": {"at": 1}, "name": "at_1", "expireAfterSeconds": 3600},
    {
        "v": 2,
        "key": {"_fts": "text", "_ftsx": 1},
        "name": "body_text",
        "weights": {"body": 1, "title": 5},
        "default_language": "english",
        "language_override": "language",
        "textIndexVersion": 3,
    },
    {"v": 2, "key": {"place": "2dsphere"}, "name": "place_2dsphere", "2dsphereIndexVersion": 3},
    {
        "v": 2,
        "key": {"c": 1},
        "name": "c_1",
        "partialFilterExpression": {"c": {"$gt": 5}},
        "hidden": True,
    },
    {"v": 2, "key": {"$**": 1}, "name": "all", "wildcardProjection": {"a": 1}},
    {"v": 2, "key": {"d": "hashed"}, "name": "d_hashed"},
    {
        "v": 2,
        "key": {"city": 1},
        "name": "city_1",
        "sparse": True,
        "collation": {
            "locale": "en",
            "caseLevel": False,
            "caseFirst": "off",
            "strength": 2,
            "numericOrdering": False,
            "alternate": "non-ignorable",
            "maxVariable": "punct",
            "normalization": False,
            "backwards": False,
            "version": "57.1",
        },
    },
    # listIndexes, includeIndexBuildInfo; an index that is being built.
    {"spec": {"v": 2, "key": {"e": 1}, "name": "e_1"}, "indexBuildInfo": {"buildUUID": "u"}},
)

# $collStats, "storageStats Document".
COLL_STATS: dict[str, Any] = {
    "ns": "shop.orders",
    "localTime": datetime(2024, 5, 1),
    "storageStats": {
        "size": 640_000,
        "count": 1_000,
        "avgObjSize": 640,
        "storageSize": 200_000,
        "nindexes": 9,
        "totalIndexSize": 90_000,
        "indexSizes": {"_id_": 36_864, "a_1_b_-1": 20_480},
    },
}


def index_stats(name: str, operations: int, since: datetime, **more: Any) -> dict[str, Any]:
    """A document of $indexStats, "Output"."""
    return {
        "name": name,
        "key": {},
        "host": "example.org:27018",
        "accesses": {"ops": operations, "since": since},
        **more,
    }
