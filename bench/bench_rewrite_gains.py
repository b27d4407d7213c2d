"""What each rule of rewriting gains on 200,000 documents with suitable indexes.

The plain driver sends the read as it was written; qbmongo, with rewriting alone, what the rule
makes of it. Keys and documents are what the server's explain says of both forms. What rewriting
costs is in bench_rewrite.py.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pymongo import MongoClient
from rich.console import Console

from bench.interleaved import Arm, Effort, Table, measure, number, ratios, show
from bench.subjects import Bench, opened
from qbmongo import Settings
from qbmongo.core.rewrite import rewrite
from qbmongo.records import ReadOp
from qbmongo_tests.rewrite.answers import command_of

DOCUMENTS = 200_000
QUICK_DOCUMENTS = 20_000
STATUSES = ("new", "paid", "sent", "back", "lost")
# A form that takes half a second is not measured more often than this.
MOST_ROUNDS = 9

_JOIN = {
    "$lookup": {"from": "customers", "localField": "customer", "foreignField": "_id", "as": "who"}
}
_UNWIND = {"$unwind": {"path": "$who", "preserveNullAndEmptyArrays": True}}
_PAID = {"$match": {"status": "paid"}}
_FEW = {"$match": {"customer": {"$lt": 50}}}
_PAGE = [{"$sort": {"created": -1}}, {"$limit": 20}]


@dataclass(frozen=True)
class Gain:
    """A rule and a read that it changes. filter, projection and limit are those of a find."""

    rule: str
    what: str
    pipeline: tuple[dict[str, Any], ...] | None = None
    filter: Any = None
    projection: Any = None
    limit: int = 0

    def op(self, namespace: str) -> ReadOp:
        if self.pipeline is not None:
            return ReadOp("aggregate", namespace, {}, pipeline=list(self.pipeline))
        return ReadOp("find", namespace, self.filter, self.projection, None, 0, self.limit)

    def call(self, orders: Any) -> Callable[[], Any]:
        if self.pipeline is not None:
            return lambda: orders.aggregate(list(self.pipeline or ())).to_list()
        return lambda: orders.find(self.filter, self.projection, limit=self.limit).to_list()


GAINS = (
    Gain(
        "in-duplicates",
        "$in of 1,000 integers, 50 of them different, 20 documents",
        filter={"customer": {"$in": [number % 50 for number in range(1_000)]}},
        limit=20,
    ),
    Gain(
        "implied-exists",
        "$exists and a range, 1% of the documents, one indexed field wanted",
        filter={"total": {"$exists": True, "$gte": 990}},
        projection={"_id": 0, "total": 1},
    ),
    Gain(
        "sort-before-fields",
        "a fifth of the documents, two fields added, the first 20 by an indexed order",
        (_PAID, {"$addFields": {"big": {"$gt": ["$total", 500]}, "kind": "order"}}, *_PAGE),
    ),
    Gain(
        "sort-before-fields",
        "1,000 documents joined, a field added, the first 20",
        (_FEW, _JOIN, {"$addFields": {"known": {"$size": "$who"}}}, *_PAGE),
    ),
    Gain(
        "page-before-unwind",
        "1,000 documents joined and unwound, the first 20",
        (_FEW, _JOIN, _UNWIND, *_PAGE),
    ),
    Gain(
        "sort-before-count",
        "a fifth of the documents, sorted by another indexed field and counted",
        (_PAID, {"$sort": {"total": -1}}, {"$count": "n"}),
    ),
    Gain("join-before-count", "1,000 documents joined and counted", (_FEW, _JOIN, {"$count": "n"})),
    Gain(
        "facet-common-match",
        "a page and a count of the same 20 documents",
        (
            {
                "$facet": {
                    "page": [{"$match": {"customer": 5}}, *_PAGE],
                    "total": [{"$match": {"customer": 5}}, {"$count": "n"}],
                }
            },
        ),
    ),
)


@contextmanager
def filled(uri: str, count: int) -> Iterator[str]:
    """A database with so many orders, 20 for each customer, and the customers; dropped later."""
    name = f"qbmongo_{uuid.uuid4().hex[:12]}"
    draw = random.Random(1)
    with MongoClient[dict[str, Any]](uri) as client:
        orders = client[name].orders
        # Before the documents: secantusd-rs takes very long to build an index of so many.
        for keys in (["customer"], ["total"], ["status", "created"], ["created"]):
            orders.create_index([(key, 1) for key in keys])
        for start in range(0, count, 10_000):
            orders.insert_many(
                [
                    {
                        "_id": at,
                        "customer": at // 20,
                        "status": STATUSES[at % 5],
                        "created": draw.randrange(10_000_000),
                        "total": draw.randrange(100_000) / 100,
                        "text": "x" * 60,
                    }
                    for at in range(start, min(start + 10_000, count))
                ]
            )
        people = [{"_id": at, "city": f"city {at % 100}"} for at in range(count // 20)]
        client[name].customers.insert_many(people)
        try:
            yield name
        finally:
            client.drop_database(name)


def tables(uri: str, effort: Effort) -> Iterator[Table]:
    """Every table of this module."""
    with filled(uri, DOCUMENTS) as database, opened("sync", uri, database) as bench:
        yield gains(bench, Effort(min(effort.rounds, MOST_ROUNDS), effort.slice_s), DOCUMENTS)


def gains(bench: Bench, effort: Effort, documents: int) -> Table:
    """Each rule's read, as it was written and rewritten."""
    plain = bench.plain().database.orders
    ours = bench.ours(Settings(profile=None, cache=None)).database.orders
    rows = []
    for gain in GAINS:
        op = gain.op(f"{bench.database}.orders")
        changed, steps = rewrite(op)
        if gain.rule not in [step.rule.name for step in steps]:
            raise RuntimeError(f"{gain.rule} does not fire on {gain.what}")
        if gain.call(plain)() != gain.call(ours)():
            raise RuntimeError(f"another answer by {gain.rule}: {gain.what}")
        arms = [
            Arm("plain", bench.repeat(gain.call(plain))),
            Arm("qbmongo", bench.repeat(gain.call(ours))),
        ]
        measured = measure(arms, effort, cpu_clock=bench.cpu_clock)
        before, after = (_examined(plain.database, form) for form in (op, changed))
        rows.append(
            (
                f"{gain.rule}: {gain.what}",
                f"{before[0]} / {after[0]}",
                f"{before[1]} / {after[1]}",
                number(measured["plain"].wall.median),
                number(measured["qbmongo"].wall.median),
                f"{number(ratios(measured['plain'], measured['qbmongo']).median)}x",
            )
        )
    columns = ("rule", "keys examined", "documents examined", "plain us", "qbmongo us", "faster")
    return Table(
        f"rewritten reads of {documents:,} documents",
        columns,
        rows,
        "Keys and documents: as written / rewritten, without those of a joined collection, which"
        " the server does not count.",
    )


def _examined(database: Any, op: ReadOp) -> tuple[str, str]:
    """Keys and documents that the server's explain counts for a read."""
    command = command_of(op)
    for name in ("singleBatch", "batchSize"):
        command.pop(name, None)
    reply = database.command({"explain": command, "verbosity": "executionStats"})
    stats = reply.get("executionStats")
    if stats is None:
        stats = reply["stages"][0]["$cursor"]["executionStats"]
    return f"{stats['totalKeysExamined']:,}", f"{stats['totalDocsExamined']:,}"


def test_gains(server_uri: str, capsys: Any) -> None:
    with (
        filled(server_uri, QUICK_DOCUMENTS) as database,
        opened("sync", server_uri, database) as bench,
    ):
        table = gains(bench, Effort.quick(), QUICK_DOCUMENTS)
    with capsys.disabled():
        show([table], Console())
