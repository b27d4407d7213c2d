"""$or, arrays, pipelines, distinct, covered queries, writes, and what no index serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .workloads import Case, asked, few_orders, find, listed, one_of, wanted

_SELECTIVE = "MongoDB manual, Create Queries that Ensure Selectivity"
_OR = "MongoDB manual, $or, $or Clauses and Indexes"
_MULTIKEY = "MongoDB manual, Multikey Indexes"
_BOUNDS = "MongoDB manual, Multikey Index Bounds"
_PIPELINE = "MongoDB manual, Aggregation Pipeline Optimization"
_WRITES = "MongoDB manual, Operational Factors and Data Models, Indexes"

_ELEM_MATCH = "this explain shows no index for $elemMatch over documents"
_MERGE = "this explain shows no merge of sorted $or branches"
_FOREIGN = "this explain shows nothing of the foreign side"


def _pipeline(*stages: Mapping[str, Any]) -> dict[str, Any]:
    return {"aggregate": "orders", "pipeline": list(stages), "cursor": {}}


CASES = (
    Case(
        "an index for each branch",
        _OR,
        (find(lambda i: {"$or": [{"customer": i}, {"email": f"user{i}@example.org"}]}),),
        (wanted("customer"), wanted("email")),
    ),
    Case(
        "one branch has its index",
        _OR,
        (find(lambda i: {"$or": [{"customer": i}, {"email": f"user{i}@example.org"}]}),),
        (wanted("email"),),
        existing=(listed("customer_1"),),
    ),
    Case(
        "a branch that no index narrows",
        _OR,
        (find(lambda i: {"$or": [{"customer": i}, {"flag": True}]}),),
    ),
    Case(
        "sorted branches",
        _OR,
        (find(lambda i: {"$or": [{"customer": i}, {"kind": i}]}, sort={"at": 1}, limit=10),),
        (wanted("customer", "at"), wanted("kind", "at")),
        unshown=_MERGE,
    ),
    Case(
        "$or beside an equality that does the work",
        _OR,
        (
            find(
                lambda i: {"email": f"user{i}@example.org", "$or": [{"kind": i}, {"region": i % 5}]}
            ),
        ),
        (wanted("email"),),
    ),
    Case("a value in an array", _MULTIKEY, (find(lambda i: {"tags": f"t{i}"}),), (wanted("tags"),)),
    Case(
        "all of some values",
        "MongoDB manual, $all",
        (find(lambda i: {"tags": {"$all": [f"t{i}", f"t{i + 1}"]}}),),
        (wanted("tags"),),
    ),
    Case(
        "two arrays cannot stand in one index",
        f"{_MULTIKEY}, Limitations, Compound Multikey Indexes",
        (find(lambda i: {"tags": f"t{i}", "sizes": i}),),
        (one_of(("sizes",), ("tags",)),),
    ),
    Case(
        "an array and a scalar can",
        f"{_MULTIKEY}, Compound Multikey Indexes",
        (find(lambda i: {"tags": f"t{i}", "kind": i}),),
        (one_of(("tags", "kind"), ("kind", "tags")),),
    ),
    Case(
        "one element meets both conditions",
        f"{_BOUNDS}, Compound Bounds of Fields from the Same Array",
        (find(lambda i: {"items": {"$elemMatch": {"lot": i, "qty": {"$lt": 2}}}}),),
        (wanted("items.lot", "items.qty"),),
        unshown=_ELEM_MATCH,
    ),
    Case(
        "without $elemMatch only one path has bounds",
        f"{_BOUNDS}, Compound Bounds of Fields from the Same Array",
        (find(lambda i: {"items.lot": i, "items.qty": i}),),
        (one_of(("items.lot",), ("items.qty",)),),
    ),
    Case(
        "a sort by the array that is asked for",
        f"{_MULTIKEY}, Sort Operations",
        (find(lambda i: {"tags": f"t{i}"}, sort={"tags": 1}),),
        (wanted("tags"),),
    ),
    Case(
        "a nested path",
        "MongoDB manual, Create an Index on an Embedded Field",
        (find(lambda i: {"address.city": f"town{i}"}),),
        (wanted("address.city"),),
    ),
    Case(
        "size of an array",
        "MongoDB manual, $size",
        (find(lambda i: {"tags": {"$size": 2 + i}}),),
    ),
    Case("remainders", "MongoDB manual, $mod", (find(lambda i: {"total": {"$mod": [10, i]}}),)),
    Case(
        "JavaScript",
        "MongoDB manual, $where",
        (find(lambda i: {"$where": f"this.total > {i}"}),),
        findings=("where",),
        unshown="this server runs no JavaScript",
    ),
    Case(
        "two fields compared",
        "MongoDB manual, $expr",
        (find(lambda i: {"$expr": {"$gt": ["$total", "$rank"]}}),),
    ),
    Case(
        "words",
        "MongoDB manual, Text Indexes",
        (find(lambda i: {"$text": {"$search": f"w{i}"}}),),
        existing=(
            listed(
                "name_text",
                key={"_fts": "text", "_ftsx": 1},
                weights={"name": 1},
                default_language="english",
                language_override="language",
                textIndexVersion=3,
            ),
        ),
        unshown="this server has no text indexes",
    ),
    Case(
        "places without an index",
        "MongoDB manual, Geospatial Indexes",
        (find(lambda i: {"place": {"$geoWithin": {"$centerSphere": [[i, 5], 0.01]}}}),),
        findings=("geo_index",),
    ),
    Case(
        "both sides of a join",
        "MongoDB manual, $lookup, Performance Considerations",
        (
            asked(
                lambda i: _pipeline(
                    {"$match": {"customer": i}},
                    {
                        "$lookup": {
                            "from": "customers",
                            "localField": "customer",
                            "foreignField": "ref",
                            "as": "who",
                        }
                    },
                ),
                returned=10,
            ),
        ),
        (wanted("customer"), wanted("ref", collection="customers")),
        foreign=True,
    ),
    Case(
        "a join by _id needs nothing",
        "MongoDB manual, $lookup, Performance Considerations",
        (
            asked(
                lambda i: _pipeline(
                    {"$match": {"customer": i}},
                    {
                        "$lookup": {
                            "from": "customers",
                            "localField": "customer",
                            "foreignField": "_id",
                            "as": "who",
                        }
                    },
                ),
                returned=10,
            ),
        ),
        (wanted("customer"),),
        foreign=True,
    ),
    Case(
        "a correlated join",
        "MongoDB manual, $lookup, Correlated Subqueries",
        (
            asked(
                lambda i: _pipeline(
                    {"$match": {"customer": i}},
                    {
                        "$lookup": {
                            "from": "customers",
                            "let": {"c": "$customer"},
                            "pipeline": [{"$match": {"$expr": {"$eq": ["$ref", "$$c"]}}}],
                            "as": "who",
                        }
                    },
                ),
                returned=10,
            ),
        ),
        (wanted("customer"), wanted("ref", collection="customers")),
        foreign=True,
        unshown=_FOREIGN,
    ),
    Case(
        "a graph is followed by the path it connects to",
        "MongoDB manual, $graphLookup",
        (
            asked(
                lambda i: _pipeline(
                    {"$match": {"_id": i}},
                    {
                        "$graphLookup": {
                            "from": "orders",
                            "startWith": "$_id",
                            "connectFromField": "_id",
                            "connectToField": "parent",
                            "as": "below",
                        }
                    },
                ),
                returned=1,
            ),
        ),
        (wanted("parent"),),
        unshown=_FOREIGN,
    ),
    Case(
        "a union's own filter",
        "MongoDB manual, $unionWith",
        (
            asked(
                lambda i: _pipeline(
                    {"$match": {"customer": i}},
                    {
                        "$unionWith": {
                            "coll": "customers",
                            "pipeline": [{"$match": {"owner": i}}],
                        }
                    },
                ),
                returned=20,
            ),
        ),
        (wanted("customer"), wanted("owner", collection="customers")),
        foreign=True,
        unshown=_FOREIGN,
    ),
    Case(
        "the head of a pipeline",
        f"{_PIPELINE}, Pipeline Sequence",
        (
            asked(
                lambda i: _pipeline(
                    {"$match": {"kind": i}},
                    {"$sort": {"at": 1}},
                    {"$limit": 10},
                    {"$group": {"_id": "$region", "n": {"$sum": 1}}},
                )
            ),
        ),
        (wanted("kind", "at"),),
    ),
    Case(
        "a $match behind a $project moves to the front",
        f"{_PIPELINE}, $project or $addFields + $match",
        (
            asked(
                lambda i: _pipeline(
                    {"$project": {"customer": 1, "total": 1}}, {"$match": {"customer": i}}
                )
            ),
        ),
        (wanted("customer"),),
        unshown="this explain moves no $match to the front",
    ),
    Case(
        "a $match on what was computed does not",
        f"{_PIPELINE}, $project or $addFields + $match",
        (
            asked(
                lambda i: _pipeline(
                    {"$addFields": {"sum": {"$add": ["$total", "$rank"]}}}, {"$match": {"sum": i}}
                )
            ),
        ),
    ),
    Case(
        "a $match behind a $group does not",
        _PIPELINE,
        (
            asked(
                lambda i: _pipeline(
                    {"$group": {"_id": "$customer", "total": {"$sum": "$total"}}},
                    {"$match": {"total": {"$gt": 100_000 + i}}},
                )
            ),
        ),
    ),
    Case(
        "a $match behind a $limit does not",
        _PIPELINE,
        (asked(lambda i: _pipeline({"$limit": 1_000}, {"$match": {"customer": i}})),),
    ),
    Case(
        "distinct reads one key a value",
        "MongoDB manual, distinct, Index Use",
        (asked(lambda i: {"distinct": "orders", "key": "kind"}),),
        (wanted("kind"),),
    ),
    Case(
        "a count",
        "MongoDB manual, count",
        (asked(lambda i: {"count": "orders", "query": {"customer": i}}),),
        (wanted("customer"),),
    ),
    Case(
        "a covered query",
        "MongoDB manual, Query Optimization, Covered Query",
        (find(lambda i: {"kind": i}, projection={"_id": 0, "kind": 1, "total": 1}),),
        (wanted("kind", "total"),),
    ),
    Case(
        "an array cannot be covered",
        f"{_MULTIKEY}, Covered Queries",
        (find(lambda i: {"kind": i}, projection={"_id": 0, "kind": 1, "tags": 1}),),
        (wanted("kind"),),
    ),
    Case(
        "too few documents to be worth covering",
        "MongoDB manual, Query Optimization, Covered Query",
        (find(lambda i: {"customer": i}, projection={"_id": 0, "total": 1}),),
        (wanted("customer"),),
    ),
    Case(
        "the filter of an update",
        "MongoDB manual, Write Operation Performance",
        (
            asked(
                lambda i: {
                    "q": {"email": f"user{i}@example.org"},
                    "u": {"$set": {"total": 1}},
                    "multi": False,
                },
                returned=1,
            ),
        ),
        (wanted("email"),),
    ),
    Case(
        "the filter of a delete",
        "MongoDB manual, Write Operation Performance",
        (asked(lambda i: {"q": {"rank": i}, "limit": 0}, returned=2),),
        (wanted("rank"),),
    ),
    Case(
        "a queue",
        _WRITES,
        (
            asked(
                lambda i: {
                    "findAndModify": "orders",
                    "query": {"kind": i},
                    "sort": {"rank": 1},
                    "update": {"$set": {"total": 0}},
                },
                returned=1,
            ),
        ),
        (wanted("kind", "rank"),),
    ),
    Case(
        "several updates in one command",
        "MongoDB manual, Write Operation Performance",
        (
            asked(
                lambda i: {
                    "update": "orders",
                    "updates": [
                        {"q": {"email": f"user{i}@example.org"}, "u": {"$set": {"total": 1}}},
                        {"q": {"email": f"user{i + 1}@example.org"}, "u": {"$set": {"total": 2}}},
                    ],
                },
                returned=2,
            ),
        ),
        (wanted("email"),),
    ),
    Case(
        "one read among millions of writes",
        _WRITES,
        (
            find(lambda i: {"customer": i}, calls=10),
            asked(
                lambda i: {"insert": "orders", "documents": [{"customer": i}]},
                calls=10_000_000,
                returned=1,
            ),
        ),
    ),
    Case(
        "a key that is updated all the time",
        _WRITES,
        (
            find(lambda i: {"rank": i}, calls=4_000),
            asked(
                lambda i: {"q": {"_id": i}, "u": {"$set": {"rank": i}}, "multi": False},
                calls=1_000_000,
                returned=1,
            ),
        ),
    ),
    Case(
        "updates of other paths cost an index nothing",
        _WRITES,
        (
            find(lambda i: {"rank": i}, calls=4_000),
            asked(
                lambda i: {"q": {"_id": i}, "u": {"$set": {"total": i}}, "multi": False},
                calls=1_000_000,
                returned=1,
            ),
        ),
        (wanted("rank"),),
    ),
    Case(
        "a constant that few documents have, among many writes",
        "MongoDB manual, Partial Indexes",
        (
            find(lambda i: {"urgent": True}, sort={"at": 1}, limit=30, calls=20_000),
            asked(
                lambda i: {"insert": "orders", "documents": [{"customer": i}]},
                calls=1_000_000,
                returned=1,
            ),
        ),
        (wanted("at", partial_filter={"urgent": True}),),
    ),
    Case(
        "the first that is found needs no index",
        _WRITES,
        (
            asked(
                lambda i: {
                    "find": "orders",
                    "filter": {"flag": i % 2 == 0},
                    "limit": 1,
                    "singleBatch": True,
                }
            ),
        ),
    ),
    Case(
        "_id has its index",
        "MongoDB manual, Default _id Index",
        (
            find(lambda i: {"_id": i}),
            find(lambda i: {"_id": {"$in": [i, i + 1]}}),
            find(lambda i: {"_id": i, "customer": i}),
            find(lambda i: {"_id": {"$gt": i, "$lt": i + 20}}),
        ),
    ),
    Case(
        "pages by skipping",
        "MongoDB manual, cursor.skip(), Using Range Queries",
        (find(lambda i: {}, sort={"_id": 1}, skip=1_500, limit=20),),
        findings=("large_skip",),
    ),
    Case(
        "everything is asked for",
        "MongoDB manual, Optimize Query Performance",
        (asked(lambda i: {"find": "orders", "filter": {}}, returned=2_000),),
        findings=("unbounded",),
    ),
    Case(
        "a small collection",
        _SELECTIVE,
        (find(lambda i: {"customer": i}, sort={"at": 1}),),
        documents=few_orders,
    ),
)
