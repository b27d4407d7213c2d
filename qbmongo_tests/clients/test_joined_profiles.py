"""What travelled with others is in the profile, once each, with what its caller waited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from pymongo import MongoClient

from qbmongo import ProfileSettings, Settings
from qbmongo_tests.clients.joined import ONE_AT_A_TIME, Joining, outcome_of
from qbmongo_tests.clients.sites import Site

PROFILE = ProfileSettings(slow_ms=60_000, place_every=1)
JOINED = Settings(profile=PROFILE, cache=None, coalesce=ONE_AT_A_TIME, batch=None)
ALONE = Settings(profile=PROFILE, cache=None, coalesce=None, batch=None)

CALLS: list[Callable[[Any], Any]] = [
    lambda c: c.update_one({"_id": 1}, {"$inc": {"n": 1}}),
    lambda c: c.update_one({"_id": 2}, {"$inc": {"n": 1}}),
    lambda c: c.update_one({"_id": "none"}, {"$inc": {"n": 1}}),
    lambda c: c.update_one({"_id": 3}, {"$set": {"n": 0}}),  # as it is
    lambda c: c.update_one({"_id": 101}, {"$set": {"n": 1}}, upsert=True),
    lambda c: c.update_one({"_id": 7}, {"$inc": {"text": 1}}),  # sent again alone, and fails
    lambda c: c.update_one({"_id": 4}, {"$set": {"u": 1}}),  # a duplicate
    lambda c: c.update_one({"_id": 4}, {"$set": {"n": [1]}, "$unset": {"text": 1}}),
    lambda c: c.replace_one({"_id": 5}, {"n": 5}),
    lambda c: c.delete_one({"_id": 6}),
    lambda c: c.delete_one({"_id": "none"}),
    lambda c: c.insert_one({"_id": 102}),
    lambda c: c.insert_one({"n": 1}),
    lambda c: c.insert_one({"_id": 1}),  # a duplicate
]


@pytest.fixture
def documents(plain_client: MongoClient[dict[str, Any]], database_name: str) -> Any:
    """The collections "c" and "d", equal, as the plain driver sees them."""
    database = plain_client[database_name]
    for collection in (database.c, database.d):
        collection.create_index("u", unique=True, sparse=True)
        made = [{"_id": number, "n": 0, "text": "text"} for number in range(8)]
        made[1]["u"] = 1
        collection.insert_many(made)
    return database


def _counts(client: Any, collection: str) -> dict[str, tuple[int, int, int, int]]:
    """Of each shape: calls, durations, errors, documents."""
    counts = {}
    for shape in client.qb.profile().shapes:
        form = {**shape.shape}
        if form.pop("namespace").endswith(f".{collection}"):
            counts[repr(sorted(form.items()))] = (
                *(shape.calls, shape.latency.count, shape.errors, shape.documents),
            )
    return counts


def test_documents_and_errors_are_those_of_each_call(site: Site, documents: Any) -> None:
    alone, joining = site.ours(ALONE), Joining(site, JOINED)

    async def work() -> None:
        await outcome_of(lambda c: c.delete_one({"_id": "nobody's"}), alone[site.database].d)
        await outcome_of(lambda c: c.insert_one({"_id": "held"}), alone[site.database].d)
        for call in CALLS:
            await outcome_of(call, alone[site.database].d)
        await joining.together(CALLS)
        assert joining.stats.alone > 0
        assert joining.client.qb.stats().faults == {}

    site.run(work())
    assert _counts(joining.client, "c") == _counts(alone, "d")


def test_what_is_recorded_is_what_the_caller_waited(site: Site, documents: Any) -> None:
    joining = Joining(site, JOINED)

    async def work() -> float:
        started_s = time.monotonic()
        await joining.together(CALLS[:3])
        return time.monotonic() - started_s

    took_s = site.run(work())
    shapes = [s for s in joining.client.qb.profile().shapes if s.shape["operation"] == "update_one"]
    [shape] = [s for s in shapes if s.calls > 1]
    places = [place for place, _ in shape.places]
    assert 0 < shape.latency.total_s <= 3 * took_s
    assert 0 < shape.latency.max_s <= took_s
    assert places, "the calling place is noted"
    assert all("/qbmongo_tests/" in place for place in places), places


@pytest.mark.parametrize("dispatched", [False, True])
def test_who_is_cancelled_is_recorded_once(
    server_uri: str, database_name: str, documents: Any, dispatched: bool
) -> None:
    site = Site("async", server_uri, database_name)
    joining = Joining(site, JOINED)

    async def work() -> None:
        held = await joining.begun()
        gate = site.proxy.hold_reply("bulkWrite")
        calls = [asyncio.ensure_future(_set(joining.collection, n)) for n in range(6)]
        await joining.pending(6)
        if dispatched:
            held.release()
            await gate.reached()
        for number in (0, 3):
            calls[number].cancel()
        await asyncio.wait({calls[0], calls[3]})
        held.release()
        gate.release()
        await asyncio.gather(*calls, return_exceptions=True)
        await held.callers.results()

    try:
        site.run(work())
    finally:
        site.close()
    [shape] = [
        s for s in joining.client.qb.profile().shapes if s.shape["operation"] == "update_one"
    ]
    assert (shape.calls, shape.errors, shape.documents) == (6, 2, 4)


async def _set(collection: Any, number: int) -> Any:
    return await collection.update_one({"_id": number}, {"$set": {"n": 7}})
