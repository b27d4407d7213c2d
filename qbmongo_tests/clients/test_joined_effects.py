"""A batch drops from memory what its writes may have touched, and nothing beside it."""

from __future__ import annotations

from typing import Any

import pytest
from bson.int64 import Int64
from pymongo import MongoClient

from qbmongo import CacheSettings, Settings
from qbmongo_tests.clients.joined import ONE_AT_A_TIME, Joining
from qbmongo_tests.clients.sites import Site, ready, resolved

SETTINGS = Settings(cache=CacheSettings(lease_s=30), coalesce=ONE_AT_A_TIME, batch=None)
KEPT = 20


@pytest.fixture
def documents(plain_client: MongoClient[dict[str, Any]], database_name: str) -> Any:
    """The collection "c", as the plain driver sees it."""
    collection = plain_client[database_name].c
    collection.insert_many([{"_id": n, "a": n, "n": 0} for n in range(KEPT)])
    return collection


async def _are_kept(joining: Joining, reads: dict[str, Any]) -> dict[str, bool]:
    """Which reads are answered from memory."""
    kept = {}
    for name, read in reads.items():
        before = joining.client.qb.stats().cache.hits
        await resolved(read(joining.collection))
        kept[name] = joining.client.qb.stats().cache.hits > before
    return kept


def _reads() -> dict[str, Any]:
    return {
        "touched": lambda c: c.find_one({"_id": 1}),
        "another": lambda c: c.find_one({"_id": 15}),
        "filtered by what is written": lambda c: c.count_documents({"n": {"$gte": 0}}),
    }


def test_joined_updates_leave_what_they_cannot_have_touched(site: Site, documents: Any) -> None:
    joining = Joining(site, SETTINGS)

    async def work() -> None:
        await ready(joining.client, site.database, "c")
        reads = _reads()
        await _are_kept(joining, reads)
        assert set((await _are_kept(joining, reads)).values()) == {True}
        update = {"$inc": {"n": 1}}
        calls = [lambda c, n=n: c.update_one({"_id": n}, update) for n in range(6)]
        outcomes = await joining.together(calls)
        assert [outcome.modified_count for outcome in outcomes] == [1] * 6
        assert len(joining.commands("bulkWrite")) == 1
        assert await _are_kept(joining, reads) == {
            "touched": False,
            "another": True,
            "filtered by what is written": False,
        }
        assert joining.client.qb.stats().faults == {}

    site.run(work())
    assert {d["n"] for d in documents.find({"_id": {"$lt": 6}})} == {1}


def test_updates_that_are_copied_and_encoded_travel_together(site: Site, documents: Any) -> None:
    """What is known of a call, and plain, is sent as a copy; everything else as bytes."""
    joining = Joining(site, SETTINGS)

    async def work() -> None:
        await ready(joining.client, site.database, "c")
        reads = _reads()
        for values in ([5, Int64(5)], [Int64(6), 6]):
            # Known by its names from the first time on.
            await resolved(joining.collection.update_one({"_id": 0}, {"$set": {"n": 1}}))
            await _are_kept(joining, reads)
            assert set((await _are_kept(joining, reads)).values()) == {True}
            calls = [
                lambda c, n=n, v=values[n % 2]: c.update_one({"_id": n}, {"$set": {"n": v}})
                for n in range(6)
            ]
            outcomes = await joining.together(calls)
            assert [outcome.modified_count for outcome in outcomes] == [1] * 6
            assert await _are_kept(joining, reads) == {
                "touched": False,
                "another": True,
                "filtered by what is written": False,
            }
        assert joining.client.qb.stats().faults == {}

    site.run(work())
    assert {d["n"] for d in documents.find({"_id": {"$lt": 6}})} == {6}


def test_joined_inserts_leave_documents_that_are_there(site: Site, documents: Any) -> None:
    joining = Joining(site, SETTINGS)

    async def work() -> None:
        await ready(joining.client, site.database, "c")
        reads = {
            "may match": lambda c: c.count_documents({"a": {"$gte": 19}}),
            "by _id": lambda c: c.find_one({"_id": 15}),
        }
        await _are_kept(joining, reads)
        assert set((await _are_kept(joining, reads)).values()) == {True}
        await joining.together(
            [lambda c, n=n: c.insert_one({"_id": 100 + n, "a": 100 + n, "n": 0}) for n in range(6)]
        )
        assert await _are_kept(joining, reads) == {
            "may match": False,
            "by _id": True,
        }
        assert joining.client.qb.stats().faults == {}

    site.run(work())
    assert documents.count_documents({"_id": {"$gte": 100}}) == 6


def test_joined_deletes_leave_what_did_not_contain_them(site: Site, documents: Any) -> None:
    joining = Joining(site, SETTINGS)

    async def work() -> None:
        await ready(joining.client, site.database, "c")
        reads = {
            "touched": lambda c: c.find_one({"_id": 1}),
            "another": lambda c: c.find_one({"_id": 15}),
        }
        await _are_kept(joining, reads)
        await joining.together([lambda c, n=n: c.delete_one({"_id": n}) for n in range(6)])
        assert await _are_kept(joining, reads) == {"touched": False, "another": True}

    site.run(work())
    assert documents.count_documents({"_id": {"$lt": KEPT}}) == KEPT - 6
