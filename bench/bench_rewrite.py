"""What rewriting costs: looking at a read that no rule touches, and writing one another way.

Budget: 1.5 us for a repeated shape that no rule touches, aim 1. Run: pytest bench/bench_rewrite.py
--benchmark-columns=min,median,stddev,rounds

Each round asks CALLS times, so microseconds per call are milliseconds per round here. CPU time is
measured, because there is no IO. What the rules gain is in bench_rewrite_gains.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from qbmongo.core.rewrite import Rewriter
from qbmongo.records import ReadOp

CALLS = 1_000
ROUNDS = 50
NS = "shop.orders"
LOOKUP = {"$lookup": {"from": "users", "localField": "user", "foreignField": "_id", "as": "u"}}
UNWIND = {"$unwind": {"path": "$u", "preserveNullAndEmptyArrays": True}}


def aggregate(*stages: Any) -> ReadOp:
    return ReadOp("aggregate", NS, {}, pipeline=list(stages))


UNTOUCHED = {
    "by _id": ReadOp("find_one", NS, {"_id": 5}),
    "two fields": ReadOp("find", NS, {"status": "open", "customer": 5}),
    "range": ReadOp("find", NS, {"at": {"$gte": 5, "$lt": 9}}, sort={"at": 1}),
    "$in of three": ReadOp("find", NS, {"a": {"$in": [1, 2, 3]}}),
    "$or": ReadOp("find", NS, {"$or": [{"a": 1}, {"b": 2}]}),
    "match and group": aggregate({"$match": {"a": 1}}, {"$group": {"_id": "$b"}}),
    "join sorted by what it joins": aggregate(
        {"$match": {"a": 1}}, LOOKUP, UNWIND, {"$sort": {"u.name": 1}}, {"$limit": 10}
    ),
}
TOUCHED = {
    "$in of 100, 10 of them different": ReadOp("find", NS, {"a": {"$in": list(range(10)) * 10}}),
    "$exists": ReadOp("find", NS, {"a": {"$exists": True, "$gt": 5}}),
    "sort and count": aggregate({"$match": {"a": 1}}, {"$sort": {"at": -1}}, {"$count": "n"}),
    "join and page": aggregate(
        {"$match": {"a": 1}}, LOOKUP, UNWIND, {"$sort": {"at": -1}}, {"$limit": 10}
    ),
}


def rewrite_each(rewriter: Rewriter, op: ReadOp) -> None:
    rewrite = rewriter.rewrite
    for _ in range(CALLS):
        rewrite(op, None)


@pytest.mark.parametrize("name", UNTOUCHED)
def test_untouched(benchmark: Any, name: str) -> None:
    benchmark.group = "no rule fires, a known shape, 1,000 reads (budget 1.5 ms)"
    rewriter = Rewriter()
    op = UNTOUCHED[name]
    assert rewriter.rewrite(op, None) == (op, ())
    benchmark.pedantic(rewrite_each, (rewriter, op), rounds=ROUNDS, warmup_rounds=3)


@pytest.mark.parametrize("name", TOUCHED)
def test_touched(benchmark: Any, name: str) -> None:
    benchmark.group = "a rule fires, 1,000 reads"
    rewriter = Rewriter()
    assert rewriter.rewrite(TOUCHED[name], None)[1]
    benchmark.pedantic(rewrite_each, (rewriter, TOUCHED[name]), rounds=ROUNDS, warmup_rounds=3)
