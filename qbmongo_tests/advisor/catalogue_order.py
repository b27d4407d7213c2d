"""Equality, sort and range; regular expressions; negations; sparse, null and collation."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from .workloads import Case, asked, find, listed, one_of, wanted

_ESR = "MongoDB manual, The ESR (Equality, Sort, Range) Guideline"
_SELECTIVE = "MongoDB manual, Create Queries that Ensure Selectivity"
_SORT = "MongoDB manual, Use Indexes to Sort Query Results"
_REGEX = "MongoDB manual, $regex, Index Use"
_DAY = datetime(2024, 1, 1)

CASES = (
    Case(
        "one equality",
        "MongoDB manual, Single Field Indexes",
        (find(lambda i: {"customer": i}),),
        (wanted("customer"),),
    ),
    Case(
        "a unique value",
        "MongoDB manual, Single Field Indexes",
        (
            asked(
                lambda i: {
                    "find": "orders",
                    "filter": {"email": f"user{i}@example.org"},
                    "limit": 1,
                    "singleBatch": True,
                }
            ),
        ),
        (wanted("email"),),
    ),
    Case(
        "two equalities",
        _ESR,
        (find(lambda i: {"region": i % 5, "kind": i}),),
        (one_of(("region", "kind"), ("kind", "region")),),
    ),
    Case(
        "an equality that leaves nothing for a second key",
        _SELECTIVE,
        (find(lambda i: {"flag": i % 2 == 0, "email": f"user{i}@example.org"}),),
        (wanted("email"),),
    ),
    Case(
        "a selective range",
        "MongoDB manual, Single Field Indexes",
        (find(lambda i: {"total": {"$gte": 100 * i, "$lt": 100 * i + 50}}),),
        (wanted("total"),),
    ),
    Case("half of all documents", _SELECTIVE, (find(lambda i: {"flag": i % 2 == 0}),)),
    Case("a status that most have", _SELECTIVE, (find(lambda i: {"status": "sent"}),)),
    Case(
        "a range that holds nearly all", _SELECTIVE, (find(lambda i: {"total": {"$gt": 50 + i}}),)
    ),
    Case(
        "equality, sort, range",
        _ESR,
        (find(lambda i: {"kind": i, "total": {"$gt": 2_000 + i}}, sort={"at": 1}, limit=10),),
        (one_of(("kind", "at"), ("kind", "at", "total")),),
    ),
    Case(
        "equality, sort, range, whatever order the query has",
        _ESR,
        (find(lambda i: {"total": {"$gt": 2_000 + i}, "kind": i}, sort={"rank": 1}, limit=5),),
        (one_of(("kind", "rank"), ("kind", "rank", "total")),),
    ),
    Case(
        "a very selective range goes before the sort",
        f"{_ESR}, Additional Considerations",
        (
            find(
                lambda i: {"region": i % 5, "total": {"$gte": 90 * i, "$lt": 90 * i + 60}},
                sort={"at": 1},
            ),
        ),
        (one_of(("region", "total"), ("total",), ("total", "region")),),
    ),
    Case("only a sort", _SORT, (find(lambda i: {}, sort={"at": 1}, limit=20),), (wanted("at"),)),
    Case(
        "a descending sort reads an ascending index backwards",
        f"{_SORT}, Sort with a Single Field Index",
        (find(lambda i: {}, sort={"at": -1}, limit=20),),
        (wanted("at"),),
    ),
    Case(
        "two sorts, each the other backwards",
        f"{_SORT}, Sort Order",
        (
            find(lambda i: {}, sort={"at": -1}, limit=20),
            find(lambda i: {}, sort={"at": 1}, limit=20),
        ),
        (wanted("at"),),
    ),
    Case(
        "a sort in both directions",
        "MongoDB manual, Compound Indexes, Sort Order",
        (find(lambda i: {}, sort={"rank": -1, "at": 1}, limit=20),),
        (wanted(("rank", -1), "at"),),
    ),
    Case(
        "a mixed sort and its reverse",
        "MongoDB manual, Compound Indexes, Sort Order",
        (
            find(lambda i: {}, sort={"rank": -1, "at": 1}, limit=20),
            find(lambda i: {}, sort={"rank": 1, "at": -1}, limit=20),
        ),
        (wanted(("rank", -1), "at"),),
    ),
    Case(
        "an index of the wrong directions does not sort",
        "MongoDB manual, Compound Indexes, Sort Order",
        (find(lambda i: {}, sort={"rank": -1, "at": 1}, limit=20),),
        (wanted(("rank", -1), "at"),),
        existing=(listed("rank_1_at_1"),),
    ),
    Case(
        "equality and a descending sort",
        _ESR,
        (find(lambda i: {"kind": i}, sort={"at": -1}, limit=10),),
        (wanted("kind", ("at", -1)),),
    ),
    Case(
        "a sort by the path of an equality",
        f"{_SORT}, Sort and Non-prefix Subset of an Index",
        (find(lambda i: {"kind": i}, sort={"kind": 1, "at": 1}, limit=10),),
        (wanted("kind", "at"),),
    ),
    Case(
        "a range on the path that is sorted by",
        _ESR,
        (
            find(
                lambda i: {"kind": i, "at": {"$gt": _DAY + timedelta(minutes=i)}},
                sort={"at": 1},
                limit=10,
            ),
        ),
        (wanted("kind", "at"),),
    ),
    Case(
        "a few values and a sort are merged",
        f"{_ESR}, Equality ($in)",
        (find(lambda i: {"customer": {"$in": [i, i + 9, i + 50]}}, sort={"at": 1}, limit=10),),
        (wanted("customer", "at"),),
    ),
    Case(
        "500 values before a sort are a range",
        f"{_ESR}, Equality ($in): 201 values and more",
        (
            find(
                lambda i: {"rank": {"$in": list(range(i, i + 1_000, 2))}},
                sort={"at": 1},
                limit=10,
            ),
        ),
        (one_of(("at",), ("at", "rank")),),
    ),
    Case(
        "a few values",
        "MongoDB manual, $in",
        (find(lambda i: {"customer": {"$in": [i, i + 20]}}),),
        (wanted("customer"),),
    ),
    Case(
        "a list of one value is an equality",
        _ESR,
        (find(lambda i: {"kind": {"$in": [i]}}, sort={"at": 1}, limit=10),),
        (wanted("kind", "at"),),
    ),
    Case(
        "a fixed beginning",
        _REGEX,
        (find(lambda i: {"name": {"$regex": f"^amber {i + 10}"}}),),
        (wanted("name"),),
    ),
    Case(
        "no fixed beginning",
        _REGEX,
        (find(lambda i: {"name": re.compile(f"{i}$")}),),
        findings=("unanchored_regex",),
    ),
    Case(
        "case ignored",
        _REGEX,
        (find(lambda i: {"name": re.compile(f"^amber {i}", re.IGNORECASE)}),),
        findings=("unanchored_regex",),
    ),
    Case(
        "a pattern beside an equality",
        _REGEX,
        (find(lambda i: {"customer": i, "name": re.compile("1")}),),
        (wanted("customer"),),
    ),
    Case(
        "not equal",
        "MongoDB manual, $ne",
        (find(lambda i: {"status": {"$ne": ("open", "paid")[i % 2]}}),),
        findings=("negation",),
    ),
    Case(
        "none of a list",
        "MongoDB manual, $nin",
        (find(lambda i: {"kind": {"$nin": [i, i + 1]}}),),
        findings=("negation",),
    ),
    Case(
        "not equal beside an equality",
        "MongoDB manual, $ne",
        (find(lambda i: {"customer": i, "status": {"$ne": "sent"}}),),
        (wanted("customer"),),
    ),
    Case(
        "a rare path exists",
        "MongoDB manual, $exists, Use a Sparse Index to Improve $exists Performance",
        (find(lambda i: {"note": {"$exists": True}}),),
        (wanted("note", sparse=True),),
    ),
    Case(
        "a path is missing nearly everywhere",
        _SELECTIVE,
        (find(lambda i: {"note": {"$exists": False}}),),
    ),
    Case(
        "null needs an index that is not sparse",
        "MongoDB manual, Sparse Indexes, Sparse Indexes and Incomplete Results",
        (find(lambda i: {"closed": None}),),
        (wanted("closed"),),
        existing=(listed("closed_1", sparse=True),),
    ),
    Case(
        "a sparse index serves an equality",
        "MongoDB manual, Sparse Indexes",
        (find(lambda i: {"note": f"n{i}"}),),
        existing=(listed("note_1", sparse=True),),
    ),
    Case(
        "a sparse index gives no order",
        "MongoDB manual, Sparse Indexes, Sparse Indexes and Incomplete Results",
        (find(lambda i: {}, sort={"rank": 1}, limit=10),),
        (wanted("rank"),),
        existing=(listed("rank_1", sparse=True),),
    ),
    Case(
        "another collation than the index's",
        "MongoDB manual, Collation, Index Use",
        (find(lambda i: {"city": f"CITY{i}"}, collation={"locale": "en", "strength": 2}),),
        (wanted("city", collation={"locale": "en", "strength": 2}),),
        existing=(listed("city_1"),),
    ),
    Case(
        "numbers compare alike under every collation",
        "MongoDB manual, Collation, Index Use",
        (find(lambda i: {"customer": i}, collation={"locale": "en", "strength": 2}),),
        existing=(listed("customer_1"),),
    ),
    Case(
        "the collection's collation is the query's",
        "MongoDB manual, Collation, Default Collation",
        (find(lambda i: {"city": f"city{i}"}),),
        (wanted("city", collation={"locale": "fr"}),),
        options={"collation": {"locale": "fr"}},
    ),
    Case(
        "a sort under a collation",
        "MongoDB manual, Collation, Index Use",
        (find(lambda i: {}, sort={"city": 1}, limit=10, collation={"locale": "de"}),),
        (wanted("city", collation={"locale": "de"}),),
        existing=(listed("city_1"),),
    ),
)
