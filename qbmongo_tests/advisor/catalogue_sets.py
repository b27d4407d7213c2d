"""One set for a whole workload, existing indexes, what may replace what, unused and hidden ones."""

from __future__ import annotations

from .workloads import Case, ages, asked, find, listed, one_of, wanted

_PREFIX = "MongoDB manual, Compound Indexes, Index Prefixes"
_REMOVE = "MongoDB manual, Remove Unnecessary Indexes"
_STATS = "MongoDB manual, $indexStats"
_HIDDEN = "MongoDB manual, Hidden Indexes"

_RECORDED = "index statistics of this age cannot be made"
_MISSING = "this server has no such index"

_TEXT = listed(
    "name_text",
    key={"_fts": "text", "_ftsx": 1},
    weights={"name": 1},
    default_language="english",
    language_override="language",
    textIndexVersion=3,
)

CASES = (
    Case(
        "a prefix serves the shorter query",
        _PREFIX,
        (find(lambda i: {"region": i % 5}), find(lambda i: {"region": i % 5, "kind": i})),
        (wanted("region", "kind"),),
    ),
    Case(
        "the order of equalities is that of the shorter query",
        _PREFIX,
        (find(lambda i: {"kind": i}), find(lambda i: {"region": i % 5, "kind": i})),
        (wanted("kind", "region"),),
    ),
    Case(
        "equality and equality with sort",
        _PREFIX,
        (
            find(lambda i: {"kind": i}),
            find(lambda i: {"kind": i}, sort={"at": 1}, limit=10),
        ),
        (wanted("kind", "at"),),
    ),
    Case(
        "three queries, one index",
        _PREFIX,
        (
            find(lambda i: {"region": i % 5}),
            find(lambda i: {"region": i % 5, "kind": i}),
            find(lambda i: {"kind": i, "region": i % 5}, sort={"at": -1}, limit=5),
        ),
        (wanted("region", "kind", ("at", -1)),),
    ),
    Case(
        "two queries that share nothing",
        _PREFIX,
        (find(lambda i: {"customer": i}), find(lambda i: {"rank": i})),
        (wanted("customer"), wanted("rank")),
    ),
    Case(
        "no prefix of each other",
        _PREFIX,
        (
            find(lambda i: {"kind": i}, sort={"at": 1}, limit=10),
            find(lambda i: {"kind": i}, sort={"rank": 1}, limit=10),
        ),
        (wanted("kind", "at"), wanted("kind", "rank")),
    ),
    Case(
        "a rare query beside a frequent one",
        "MongoDB manual, Operational Factors and Data Models, Indexes",
        (
            find(lambda i: {"customer": i}, calls=1_000_000),
            find(lambda i: {"rank": i}, calls=1),
        ),
        (wanted("customer"),),
    ),
    Case(
        "the index is there",
        _PREFIX,
        (find(lambda i: {"customer": i}),),
        existing=(listed("customer_1_kind_1"),),
    ),
    Case(
        "the index is being built",
        "MongoDB manual, Index Builds on Populated Collections",
        (find(lambda i: {"customer": i}),),
        existing=(listed("customer_1", buildUUID="4"),),
        unshown="an index that is being built",
    ),
    Case(
        "an index that another one begins with is replaced",
        _REMOVE,
        (
            find(lambda i: {"kind": i}),
            find(lambda i: {"kind": i}, sort={"at": 1}, limit=10),
        ),
        (wanted("kind", "at"),),
        (("hide", "kind_1"),),
        existing=(listed("kind_1"),),
    ),
    Case(
        "a prefix",
        _REMOVE,
        (find(lambda i: {"customer": i}),),
        removals=(("hide", "customer_1"),),
        existing=(listed("customer_1"), listed("customer_1_at_1")),
    ),
    Case(
        "the same index backwards",
        "MongoDB manual, Single Field Indexes, Sort Order",
        (find(lambda i: {"total": i}),),
        removals=(("hide", "total_-1"),),
        existing=(listed("total_1"), listed("total_-1")),
    ),
    Case(
        "directions that differ",
        "MongoDB manual, Compound Indexes, Sort Order",
        (),
        existing=(listed("rank_1_at_-1"), listed("rank_1_at_1_kind_1")),
    ),
    Case(
        "a unique prefix",
        "MongoDB manual, Unique Indexes",
        (),
        existing=(listed("email_1", unique=True), listed("email_1_at_1")),
    ),
    Case(
        "a prefix that expires documents",
        "MongoDB manual, TTL Indexes",
        (),
        existing=(listed("at_1", expireAfterSeconds=10**9), listed("at_1_kind_1")),
    ),
    Case(
        "a sparse prefix",
        "MongoDB manual, Sparse Indexes",
        (),
        existing=(listed("note_1", sparse=True), listed("note_1_kind_1")),
    ),
    Case(
        "the longer one is sparse",
        "MongoDB manual, Sparse Indexes",
        (),
        existing=(listed("note_1"), listed("note_1_kind_1", sparse=True)),
    ),
    Case(
        "a partial prefix",
        "MongoDB manual, Partial Indexes",
        (),
        existing=(
            listed("customer_1", partialFilterExpression={"status": "open"}),
            listed("customer_1_at_1"),
        ),
    ),
    Case(
        "the longer one is partial",
        "MongoDB manual, Partial Indexes",
        (),
        existing=(
            listed("customer_1"),
            listed("customer_1_at_1", partialFilterExpression={"status": "open"}),
        ),
    ),
    Case(
        "collations that differ",
        "MongoDB manual, Collation, Index Use",
        (),
        existing=(
            listed("city_1", collation={"locale": "en", "strength": 2}),
            listed("city_1_at_1"),
        ),
    ),
    Case(
        "a hashed index beside a plain one",
        "MongoDB manual, Hashed Indexes",
        (),
        existing=(listed("customer_hashed"), listed("customer_1")),
        unshown=_MISSING,
    ),
    Case(
        "a text index",
        "MongoDB manual, Text Indexes",
        (),
        existing=(_TEXT, listed("name_1")),
        unshown=_MISSING,
    ),
    Case(
        "a place index",
        "MongoDB manual, 2dsphere Indexes",
        (),
        existing=(listed("place_2dsphere"), listed("place_1")),
    ),
    Case(
        "a wildcard index",
        "MongoDB manual, Wildcard Indexes",
        (find(lambda i: {"address.city": f"town{i}"}),),
        existing=(listed("address.$**_1", key={"address.$**": 1}),),
    ),
    Case(
        "a hashed index serves an equality",
        "MongoDB manual, Hashed Indexes",
        (find(lambda i: {"customer": i}),),
        existing=(listed("customer_hashed"),),
        unshown=_MISSING,
    ),
    Case(
        "a hashed index serves no range",
        "MongoDB manual, Hashed Indexes",
        (find(lambda i: {"total": {"$gte": 100 * i, "$lt": 100 * i + 50}}),),
        (wanted("total"),),
        existing=(listed("total_hashed"),),
        unshown=_MISSING,
    ),
    Case(
        "a longer index with a key for every element",
        "MongoDB manual, Multikey Indexes",
        (find(lambda i: {"customer": i}),),
        existing=(listed("customer_1"), listed("customer_1_tags_1")),
    ),
    Case(
        "a partial index that the query does not imply",
        "MongoDB manual, Partial Indexes, Query Coverage",
        (find(lambda i: {"customer": i}),),
        (wanted("customer"),),
        existing=(listed("customer_1", partialFilterExpression={"status": "open"}),),
    ),
    Case(
        "a partial index that the query implies",
        "MongoDB manual, Partial Indexes, Query Coverage",
        (find(lambda i: {"customer": i, "status": "open"}),),
        existing=(listed("customer_1", partialFilterExpression={"status": "open"}),),
    ),
    Case(
        "a hidden index is what is missing",
        _HIDDEN,
        (find(lambda i: {"customer": i}),),
        (wanted("customer", hidden=True),),
        existing=(listed("customer_1", hidden=True),),
    ),
    Case(
        "a hinted index stays",
        "MongoDB manual, cursor.hint()",
        (find(lambda i: {"customer": i}, hint="customer_1"),),
        existing=(listed("customer_1"), listed("customer_1_at_1")),
    ),
    Case(
        "a hint to another index leaves no choice",
        "MongoDB manual, cursor.hint()",
        (find(lambda i: {"customer": i}, hint="kind_1"),),
        existing=(listed("kind_1"),),
    ),
    Case(
        "a wildcard index without the path",
        "MongoDB manual, Wildcard Indexes",
        (find(lambda i: {"customer": i}),),
        (wanted("customer"),),
        existing=(listed("all", key={"$**": 1}, wildcardProjection={"address": 1}),),
    ),
    Case(
        "a compound place index holds only documents with a place",
        "MongoDB manual, 2dsphere Indexes, Compound 2dsphere Indexes",
        (find(lambda i: {"customer": i}),),
        (wanted("customer"),),
        existing=(listed("customer_1_place_2dsphere"),),
    ),
    Case(
        "a hidden index that is missing is not dropped, though hidden for long",
        _HIDDEN,
        (find(lambda i: {"customer": i}),),
        (wanted("customer", hidden=True),),
        existing=(listed("customer_1", hidden=True),),
        stats={"a:1": [ages("customer_1", 40)]},
        unshown=_RECORDED,
    ),
    Case(
        "unused for long",
        _STATS,
        (),
        removals=(("hide", "rank_1"),),
        existing=(listed("rank_1"),),
        stats={"a:1": [ages("rank_1", 40)]},
        unshown=_RECORDED,
    ),
    Case(
        "unused for three days",
        _STATS,
        (),
        existing=(listed("rank_1"),),
        stats={"a:1": [ages("rank_1", 3)]},
        unshown=_RECORDED,
    ),
    Case(
        "used on one member of three",
        _STATS,
        (),
        existing=(listed("rank_1"),),
        stats={
            "a:1": [ages("rank_1", 40)],
            "b:1": [ages("rank_1", 40, operations=9)],
            "c:1": [ages("rank_1", 40)],
        },
        members=3,
        unshown=_RECORDED,
    ),
    Case(
        "a member that could not be asked",
        _STATS,
        (),
        existing=(listed("rank_1"),),
        stats={"a:1": [ages("rank_1", 40)], "b:1": [ages("rank_1", 40)]},
        members=3,
        unshown=_RECORDED,
    ),
    Case(
        "unused but unique, or expiring",
        _STATS,
        (),
        existing=(listed("email_1", unique=True), listed("at_1", expireAfterSeconds=10**9)),
        stats={"a:1": [ages("_id_", 40), ages("email_1", 40), ages("at_1", 40)]},
        unshown=_RECORDED,
    ),
    Case(
        "hidden for long",
        _HIDDEN,
        (),
        removals=(("drop", "rank_1"),),
        existing=(listed("rank_1", hidden=True),),
        stats={"a:1": [ages("rank_1", 40)]},
        unshown=_RECORDED,
    ),
    Case(
        "hidden yesterday",
        _HIDDEN,
        (),
        existing=(listed("rank_1", hidden=True),),
        stats={"a:1": [ages("rank_1", 1)]},
        unshown=_RECORDED,
    ),
    Case(
        "a clustered collection",
        "MongoDB manual, Clustered Collections",
        (find(lambda i: {"_id": {"$gt": i, "$lt": i + 20}}),),
        options={"clusteredIndex": {"v": 2, "key": {"_id": 1}, "name": "_id_", "unique": True}},
        unshown="facts that this server may not have",
    ),
    Case(
        "a view",
        "MongoDB manual, Views, Index Use",
        (find(lambda i: {"customer": i}),),
        kind="view",
        unshown="a view has no indexes to read",
    ),
    Case(
        "a time-series collection",
        "MongoDB manual, Time Series Collections, Secondary Indexes",
        (find(lambda i: {"customer": i}),),
        kind="timeseries",
        unshown="facts that this server may not have",
    ),
    Case(
        "a sort that one of two indexes could give",
        "MongoDB manual, Use Indexes to Sort Query Results",
        (
            find(lambda i: {"region": i % 5}, sort={"at": -1}, limit=10),
            find(lambda i: {"region": i % 5, "kind": i}),
        ),
        (wanted("region", ("at", -1)), one_of(("region", "kind"), ("kind", "region"))),
    ),
    Case(
        "an aggregation and an update share an index",
        _PREFIX,
        (
            asked(
                lambda i: {
                    "aggregate": "orders",
                    "pipeline": [{"$match": {"customer": i}}, {"$group": {"_id": "$kind"}}],
                    "cursor": {},
                }
            ),
            asked(
                lambda i: {"q": {"customer": i}, "u": {"$set": {"total": 0}}, "multi": True},
                returned=10,
            ),
        ),
        (wanted("customer"),),
    ),
)
