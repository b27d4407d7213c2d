"""Random point reads in groups, as the plain driver answers them one by one.

Keys of every type, present and absent, by `_id` and by a unique index (of arrays, too), with and
without a projection, while others insert and delete documents that nobody of the group asks for.
QBMONGO_JOINED_READS sets how many reads a client makes (120; 20,000 in the long run).
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId

from qbmongo import BatchSettings
from qbmongo_tests.clients.callers import Callers
from qbmongo_tests.clients.joined_reads import JoinedReads, batched
from qbmongo_tests.clients.sites import Site, resolved

READS = int(os.environ.get("QBMONGO_JOINED_READS", "120"))
GROUP = 40
_PROJECTIONS: list[Any] = [(), (), (), ({"n": 1},), (["k"],), ({"n": 0},), ({"_id": 0},)]


def _number(draw: random.Random, value: int) -> Any:
    """A number in any of its types."""
    return draw.choice((value, Int64(value), float(value), Decimal128(str(value))))


def _key(draw: random.Random, value: int) -> Any:
    """A value of some type; equal for the server for equal numbers, in whatever type."""
    kind = value % 6
    if kind < 2:
        return _number(draw, value)
    if kind == 2:
        return f"{draw.choice('aA')}{value}"
    if kind == 3:
        return ObjectId(value.to_bytes(12, "big"))
    if kind == 4:
        return {"x": _number(draw, value), "s": "aB"[value % 2]}
    return value.to_bytes(2, "big")


def _documents(draw: random.Random) -> list[dict[str, Any]]:
    documents = []
    for value in range(0, 120, 2):
        key: Any = _key(draw, 1_000 + value)
        if value % 10 == 0:
            key = [key, _key(draw, 5_000 + value)]
        documents.append({"_id": _key(draw, value), "k": key, "n": value})
    return documents


def _asked(draw: random.Random) -> tuple[dict[str, Any], tuple[Any, ...]]:
    value = draw.randrange(0, 124)
    if draw.random() < 0.4:
        base = 5_000 if draw.random() < 0.3 else 1_000
        return {"k": _key(draw, base + value)}, draw.choice(_PROJECTIONS)
    return {"_id": _key(draw, value)}, draw.choice(_PROJECTIONS)


COLLATED = {"locale": "en", "strength": 2}


@pytest.mark.parametrize(
    ("cached", "collation"),
    [(False, None), (True, None), (False, COLLATED)],
    ids=["uncached", "cached", "collated"],
)
def test_random_groups_are_answered_as_one_by_one(site: Site, cached: bool, collation: Any) -> None:
    draw = random.Random(f"{site.name} {cached} {collation}")
    database = site.plain()[site.database]

    async def create() -> None:
        options = {} if collation is None else {"collation": collation}
        await resolved(database.create_collection("c", **options))
        await resolved(database.c.create_index("k", unique=True))

    site.run(create())
    part = BatchSettings(max_in_flight=1, max_batch_ids=15)
    settings = batched(part, cached=cached)
    reads = JoinedReads(site, _documents(draw), settings=settings, cached=cached)
    collection = reads.collection

    async def group(number: int) -> None:
        asked = [_asked(draw) for _ in range(GROUP)]
        expected = [await resolved(reads.plain.find_one(filter, *args)) for filter, args in asked]
        if cached and number % 2:
            reads.client.qb.clear()
        callers = Callers(site)
        for filter, args in asked:
            callers.start(lambda f=filter, a=args: collection.find_one(f, *a))
        other = {"_id": f"other {number}", "k": f"other {number}"}
        callers.start(lambda: collection.insert_one(other))
        callers.start(lambda: collection.delete_one({"_id": f"other {number - 1}"}))
        results = (await callers.results())[:GROUP]
        for (filter, args), result, wanted in zip(asked, results, expected, strict=True):
            assert result == wanted, (filter, args)

    for number in range(READS // GROUP):
        site.run(group(number))
    assert reads.stats.joined > 0
    assert reads.client.qb.stats().faults == {}
