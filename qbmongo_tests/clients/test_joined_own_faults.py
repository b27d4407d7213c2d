"""A fault of ours, wherever it happens, leaves no caller waiting and no write unsent."""

from __future__ import annotations

from typing import Any

import pytest
from bson.int64 import Int64
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from pymongo.results import UpdateResult

from qbmongo.clients import batches, coalesced
from qbmongo.clients.known_calls import KnownCalls
from qbmongo.core.lanes import Lane
from qbmongo_tests.clients.callers import Callers
from qbmongo_tests.clients.joined import Joining, outcome_of
from qbmongo_tests.clients.sites import Site

IDS = range(6)


class Fault(Exception):
    """Of ours."""


def failing(*args: Any, **kwargs: Any) -> Any:
    raise Fault


@pytest.fixture
def documents(plain_client: MongoClient[dict[str, Any]], database_name: str) -> Any:
    """The collection "c" with a document for each of IDS, as the plain driver sees it."""
    collection = plain_client[database_name].c
    collection.insert_many([{"_id": identity, "n": 0} for identity in IDS])
    return collection


def counters(documents: Any) -> list[int]:
    return [documents.find_one({"_id": identity})["n"] for identity in IDS]


def increment(collection: Any, identity: int, by: Any = 1) -> Any:
    return collection.update_one({"_id": identity}, {"$inc": {"n": by}})


async def all_together(joining: Joining) -> list[Any]:
    return await joining.together([lambda c, n=n: increment(c, n) for n in IDS])


# What fails before a batch is sent: each write is sent all the same.
BEFORE: dict[str, tuple[Any, str]] = {
    "reading the arguments": (coalesced, "joinable"),
    "looking up what is known": (KnownCalls, "find"),
    "copying": (coalesced, "copied"),
    "encoding": (coalesced, "encoded"),
    "gathering": (Lane, "put"),
    "entering": (Lane, "enter"),
}
# What fails when the server has answered: then nobody can tell, which is what each is told.
AFTER: dict[str, tuple[Any, str]] = {
    "reading the outcome": (coalesced, "reply_of"),
    "settling": (coalesced, "settle"),
    "making answers": (batches, "UpdateResult"),
}


@pytest.mark.parametrize("where", BEFORE)
def test_a_fault_before_dispatch_sends_each_write_alone(
    site: Site, documents: Any, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    joining = Joining(site)
    monkeypatch.setattr(*BEFORE[where], failing)
    # Of this type nothing is sent that was not encoded before.
    by = Int64(1) if where == "encoding" else 1
    while_held = where in ("copying", "encoding", "gathering")

    async def one_by_one() -> list[Any]:
        outcomes = []
        for identity in IDS:
            callers = Callers(site)  # the main thread joins nobody
            callers.start(
                lambda n=identity: outcome_of(lambda c: increment(c, n, by), joining.collection)  # type: ignore[misc]
            )
            outcomes += await callers.results()
        return outcomes

    async def work() -> None:
        outcomes = await one_by_one()
        assert all(isinstance(outcome, UpdateResult) for outcome in outcomes), outcomes
        if while_held:
            held = await joining.begun()
            outcomes = await one_by_one()
            assert all(isinstance(outcome, UpdateResult) for outcome in outcomes)
            held.release()
            await held.callers.results()

    site.run(work())
    assert set(counters(documents)) == {2 if while_held else 1}
    assert joining.client.qb.stats().faults.get("coalesce")


@pytest.mark.parametrize("where", AFTER)
def test_a_fault_after_dispatch_leaves_nobody_waiting(
    site: Site, documents: Any, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    joining = Joining(site)
    monkeypatch.setattr(*AFTER[where], failing)

    async def work() -> None:
        outcomes = await all_together(joining)
        assert all(isinstance(outcome, PyMongoError) for outcome in outcomes), outcomes
        # From now on every write goes alone, and nothing waits for a place.
        for identity in IDS:
            outcome = await outcome_of(lambda c, n=identity: increment(c, n), joining.collection)  # type: ignore[misc]
            assert isinstance(outcome, UpdateResult), outcome
        stats = joining.stats
        assert (stats.pending, stats.in_flight, stats.held_bytes) == (0, 0, 0)
        assert stats.off == "fault"

    site.run(work())
    assert counters(documents) == [2] * 6
