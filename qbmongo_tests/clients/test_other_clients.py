"""Writes of other clients and processes: seen at last by itself, and at once when caught up.

Reference: the plain driver of the same kind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pymongo import UpdateOne

import qbmongo
from qbmongo_tests.clients.places import (
    Ask,
    Place,
    answer,
    cached,
    numbered,
    one,
    other,
    place_at,
    places,
    set_n,
)
from qbmongo_tests.clients.sites import Site, resolved
from qbmongo_tests.parity.drivers import DRIVERS

# Reads and writes through a cached client of its own, one JSON line each way.
PROGRAM = """
import json, sys
from qbmongo import CacheSettings, OptimizedMongoClient, Settings
with OptimizedMongoClient(sys.argv[1], qb=Settings(cache=CacheSettings(lease_s=60.0))) as client:
    for line in sys.stdin:
        do, database, collection, n = json.loads(line)
        c = client[database][collection]
        if do == "write":
            c.update_one({"_id": 1}, {"$set": {"n": n}})
        elif do == "catch up":
            client.qb.caught_up(120.0)
        hits = client.qb.stats().cache.hits
        n = c.find_one({"_id": 1})["n"]
        print(json.dumps([n, client.qb.stats().cache.hits - hits]), flush=True)
"""


class Process:
    """Another process with a cached client; each call returns what it reads then, and its hits."""

    def __init__(self, uri: str) -> None:
        root = Path(qbmongo.__file__).parents[1]
        path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, uri],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def __call__(self, do: str, place: Place, n: int = 0) -> list[int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([do, place.site.database, place.c.name, n]) + "\n")
        self._process.stdin.flush()
        answered: list[int] = json.loads(self._process.stdout.readline())
        return answered

    def end(self) -> None:
        self._process.communicate(timeout=120)


@pytest.fixture(scope="module")
def process(server_uri: str) -> Iterator[Process]:
    process = Process(server_uri)
    yield process
    process.end()


@pytest.fixture(scope="module", params=sorted(DRIVERS))
def make_place(request: pytest.FixtureRequest, server_uri: str) -> Iterator[Callable[[], Place]]:
    with places(request.param, server_uri) as make:
        yield make


@pytest.fixture
def place(make_place: Callable[[], Place]) -> Place:
    """Collections of this test's own, not filled yet."""
    return make_place()


def test_a_program_that_polls_what_is_kept_sees_another_clients_write(place: Place) -> None:
    async def changed() -> bool:
        return bool((await place.mine(one))["n"] == 1)

    async def work() -> None:
        await numbered(place)
        await answer(set_n(1), place.plain_c)
        await place.until(changed)

    place.run(work())


def test_two_cached_clients_see_each_others_writes_when_caught_up(site: Site) -> None:
    first = place_at(site)
    second = Place(site, site.ours(cached()), first.plain, first.c.name)

    async def work() -> None:
        await numbered(first)
        await second.trusted()
        for n in range(1, 6):
            await first.keep(one)
            await second.keep(one)
            writer, reader = (first, second) if n % 2 else (second, first)
            await answer(set_n(n), writer.c)
            assert (await writer.agree(one))["n"] == n
            await reader.caught_up()
            assert (await reader.agree(one))["n"] == n

    first.run(work())


def test_two_processes_see_each_others_writes_when_caught_up(
    place: Place, process: Process
) -> None:
    async def work() -> None:
        await numbered(place)
        await place.until(lambda: process("catch up", place)[1])
        for n in range(1, 6):
            assert (await place.keep(one))["n"] == 2 * n - 2
            assert process("write", place, 2 * n - 1)[0] == 2 * n - 1
            await place.caught_up()
            assert (await place.agree(one))["n"] == 2 * n - 1
            await answer(set_n(2 * n), place.c)
            assert process("catch up", place)[0] == 2 * n
            # Its own reads are kept as well.
            assert process("read", place) == [2 * n, 1]

    place.run(work())


def test_a_dropped_database_of_another_client_is_empty_when_caught_up(place: Place) -> None:
    name = place.site.database + "_2"
    there, plain_there = place.client[name].c, place.plain[name].c

    async def is_kept() -> bool:
        hits = place.cache.hits
        await answer(one, there)
        return bool(place.cache.hits > hits)

    async def work() -> None:
        for n in range(3):
            await resolved(plain_there.insert_one({"_id": 1, "n": n}))
            await place.until(is_kept)
            await place.caught_up()
            assert await answer(one, there) == {"_id": 1, "n": n}
            await resolved(place.plain.drop_database(name))
            await place.caught_up()
            assert await answer(one, there) is None

    place.run(work())


@pytest.mark.parametrize(
    "write",
    [
        lambda c: c.update_one({"b": 2}, {"$set": {"a": 1}}),
        lambda c: c.insert_one({"_id": 9, "a": 1}),
        lambda c: c.delete_one({"a": 1}),
        lambda c: c.replace_one({"b": 2}, {"a": 1}),
        lambda c: c.update_many({}, [{"$set": {"a": {"$subtract": ["$a", 1]}}}]),
        lambda c: c.bulk_write([UpdateOne({"_id": 2}, {"$rename": {"b": "c"}, "$set": {"a": 1}})]),
        lambda c: other(c).insert_one({"a": 1}),
        lambda c: c.drop(),
        lambda c: c.rename(c.name + "_new"),
        lambda c: c.aggregate([{"$match": {"a": 2}}, {"$out": c.name}]),
    ],
    ids=[
        "moved in",
        "insert",
        "delete",
        "replacement",
        "pipeline",
        "bulk",
        "foreign",
        "drop",
        "rename",
        "$out",
    ],
)
def test_another_clients_writes_are_seen_when_caught_up(place: Place, write: Ask) -> None:
    reads: list[Ask] = [
        lambda c: c.find({"a": 1}),
        lambda c: c.count_documents({"a": 1}),
        lambda c: c.find().sort("a", 1).skip(1).limit(1),
        lambda c: c.distinct("a"),
        lambda c: c.aggregate(
            [
                {
                    "$lookup": {
                        "from": other(c).name,
                        "localField": "a",
                        "foreignField": "a",
                        "as": "j",
                    }
                },
                {"$project": {"j": {"$size": "$j"}}},
                {"$sort": {"_id": 1}},
            ]
        ),
    ]

    async def work() -> None:
        await place.fill([{"_id": n, "a": n, "b": n} for n in (1, 2, 3)])
        await place.trusted()
        before = [await place.keep(ask) for ask in reads]
        await answer(write, place.plain_c)
        await place.caught_up()
        after = [await place.agree(ask) for ask in reads]
        assert after != before

    place.run(work())
