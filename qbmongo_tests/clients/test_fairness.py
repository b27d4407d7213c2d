"""Hits that never suspend must not starve the loop: a polling program must end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from qbmongo import CacheSettings, Settings
from qbmongo.clients.fairness import LoopTurn
from qbmongo_tests.clients.sites import Site, resolved

POLLS: dict[str, Any] = {
    "find_one": lambda c: c.find_one({"_id": 1}),
    "to_list": lambda c: c.find({"_id": 1}).to_list(None),
    "count_documents": lambda c: c.count_documents({"n": 1}),
    "distinct": lambda c: c.distinct("n"),
}


@pytest.mark.parametrize("name", POLLS)
def test_a_program_that_polls_a_kept_answer_until_another_client_changes_it_ends(
    site: Site, name: str
) -> None:
    plain = site.plain()

    async def prepare() -> None:
        await resolved(plain[site.database].c.insert_one({"_id": 1, "n": 0}))

    site.run(prepare())
    client, _ = site.cached("c")
    collection, other = client[site.database].c, plain[site.database].c
    poll = POLLS[name]

    async def change() -> None:
        await resolved(other.update_one({"_id": 1}, {"$set": {"n": 1}}))

    async def polling() -> int:
        before = await resolved(poll(collection))
        if site.is_async:
            # The change is made by a task of the same loop, which must get its turn.
            writer: Any = asyncio.ensure_future(change())
        else:
            writer = threading.Thread(target=lambda: site.run(change()))
            writer.start()
        polls = 0
        while await resolved(poll(collection)) == before:
            polls += 1
            assert polls < 5_000_000
        if site.is_async:
            await writer
        else:
            writer.join(120)
        return polls

    site.run(polling())


@pytest.fixture(params=["async", "motor"])
def looped(request: pytest.FixtureRequest, server_uri: str, database_name: str) -> Iterator[Site]:
    place = Site(request.param, server_uri, database_name)
    yield place
    place.close()


def test_other_tasks_get_a_turn_after_so_many_hits(looped: Site) -> None:
    limit = 16
    settings = Settings(cache=CacheSettings(lease_s=60.0, hits_per_turn=limit))
    client, wire = looped.cached("c", settings=settings)
    collection = client[looped.database].c

    async def run() -> None:
        await collection.find_one({"_id": 1})
        turns = 0
        stop = False

        async def count_turns() -> None:
            nonlocal turns
            while not stop:
                turns += 1
                await asyncio.sleep(0)

        counter = asyncio.ensure_future(count_turns())
        await asyncio.sleep(0)
        turns = 0
        wire.clear()
        for _ in range(limit * 10):
            await collection.find_one({"_id": 1})
        assert not wire.commands
        assert turns >= 9
        stop = True
        await counter

    looped.run(run())


def test_a_turn_is_over_after_so_many_hits_and_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("qbmongo.clients.fairness.monotonic", lambda: 100.0)

    async def run() -> None:
        turn = LoopTurn(3)
        assert [turn.over() for _ in range(4)] == [False, False, False, True]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [turn.over() for _ in range(3)] == [False, False, False]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not turn.over()

    asyncio.run(run())


def test_a_turn_is_over_after_a_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("qbmongo.clients.fairness.monotonic", lambda: now_s)

    async def run() -> None:
        nonlocal now_s
        turn = LoopTurn(1000)
        assert not turn.over()
        now_s += 0.0005
        assert not turn.over()
        now_s += 0.0006
        assert turn.over()

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
