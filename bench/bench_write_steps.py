"""Where the client's time goes while 1,000 callers write: tasks, qbmongo, the driver.

CPU of the calling thread in the asyncio client; the server is another process. "tasks" are as many
tasks that make the arguments of one call and wait for one Future each. qbmongo's own part is what
is left of a joined write when the driver's bulk call answers at once, less the tasks; the driver's
part is what the same bulk write by hand takes, its own arguments included. What the parts do not
explain is caches, and answers that arrive while others wait.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from pymongo import AsyncMongoClient, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.results import UpdateResult
from rich.console import Console

from bench.bench_writes import BUDGETED, JOINED, WRITTEN, servers
from bench.interleaved import Arm, Effort, Measured, Table, measure, number, show
from bench.subjects import client_of, document, opened

TASKS, BY_HAND, OURS, WITHOUT = "tasks", "by hand", "qbmongo", "qbmongo, the driver left out"
ARMS = (BY_HAND, OURS, WITHOUT)
_ANSWER = {"n": 1, "nModified": 1, "ok": 1.0}


def tables(uri: str, effort: Effort) -> Iterator[Table]:
    """Every table of this module."""
    for name in ("update_one", "insert_one"):
        with servers(ARMS) as uris:
            yield steps(name, uris, effort)


def steps(name: str, uris: dict[str, str], effort: Effort) -> Table:
    """One kind of write."""
    numbers = itertools.count(1_000_000)
    update = name == "update_one"

    def call(things: Any, place: int) -> Any:
        if update:
            return things.update_one({"_id": place}, {"$set": {"stock": next(numbers)}})
        return things.insert_one(document(next(numbers)))

    def by_hand(things: Any, count: int) -> Any:
        if not update:
            return things.insert_many([document(next(numbers)) for _ in range(count)], False)
        requests = [
            UpdateOne(
                {"_id": place},
                {"$set": {"stock": next(numbers)}},
                namespace=f"{WRITTEN}.things",
            )
            for place in range(count)
        ]
        return client_of(things).bulk_write(requests, ordered=False, verbose_results=True)

    with opened("async", uris[BY_HAND], WRITTEN) as bench:
        plain = bench.plain()
        ours, alone = (bench.ours(JOINED, uri=uris[arm]) for arm in (OURS, WITHOUT))

        async def bulk(calls: int) -> None:
            await by_hand(plain, calls)

        runs: dict[str, Callable[[int], Any]] = {
            TASKS: waiting(call),
            BY_HAND: bulk,
            OURS: calling(ours, call),
            WITHOUT: _without_driver(calling(alone, call)),
        }
        arms = [Arm(arm, run, calls=BUDGETED) for arm, run in runs.items()]
        for arm in arms:
            bench.result(arm.run(BUDGETED))
        rounds = max(3, min(effort.rounds, 25))
        measured = measure(arms, replace(effort, rounds=rounds), loop=bench.loop)
    return _shown(name, measured)


def _shown(name: str, measured: dict[str, Measured]) -> Table:
    least = {arm: min(figures.cpu_us) for arm, figures in measured.items()}
    medians = {arm: figures.cpu.median for arm, figures in measured.items()}
    rows = [
        (
            what,
            *(number(of[more] - (of[less] if less else 0)) for of in (medians, least)),
        )
        for what, more, less in (
            ("tasks, their Futures and arguments", TASKS, None),
            ("qbmongo", WITHOUT, TASKS),
            ("the driver's bulk write", BY_HAND, None),
            ("all together, measured", OURS, None),
        )
    ]
    return Table(
        f"where the CPU of a joined {name} goes, {BUDGETED:,} callers (async)",
        ("us per write", "median", "least"),
        rows,
    )


class _Nobody:
    """A collection whose calls do nothing."""

    def find_one(self, *args: Any) -> None:
        pass

    def update_one(self, *args: Any) -> None:
        pass

    def insert_one(self, *args: Any) -> None:
        pass


def waiting(call: Callable[[Any, int], Any]) -> Callable[[int], Any]:
    nobody = _Nobody()

    async def caller(place: int, future: asyncio.Future[None]) -> None:
        call(nobody, place)
        await future

    async def run(calls: int) -> None:
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(calls)]

        async def answer() -> None:
            for future in futures:
                future.set_result(None)

        callers = [caller(place, future) for place, future in enumerate(futures)]
        await asyncio.gather(*callers, answer())

    return run


def calling(things: Any, call: Callable[[Any, int], Any]) -> Callable[[int], Any]:
    async def caller(place: int) -> None:
        await call(things, place)

    async def run(calls: int) -> None:
        await asyncio.gather(*[caller(place) for place in range(calls)])

    return run


def _without_driver(run: Callable[[int], Any]) -> Callable[[int], Any]:
    async def run_without(calls: int) -> None:
        with _instant():
            await run(calls)

    return run_without


@contextmanager
def _instant() -> Iterator[None]:
    """The driver's bulk calls answer at once, without sending anything."""

    async def bulk_write(client: Any, requests: list[Any], **options: Any) -> Any:
        results = {place: UpdateResult(_ANSWER, True) for place in range(len(requests))}
        details = {
            "updateResults": results,
            "deleteResults": {},
            "writeErrors": [],
            "writeConcernErrors": [],
        }
        return SimpleNamespace(bulk_api_result=details)

    async def insert_many(collection: Any, documents: list[Any], **options: Any) -> Any:
        return SimpleNamespace(inserted_ids=[])

    with (
        patch.object(AsyncMongoClient, "bulk_write", bulk_write),
        patch.object(AsyncCollection, "insert_many", insert_many),
    ):
        yield


@pytest.mark.parametrize("name", ["update_one", "insert_one"])
def test_steps_of_a_joined_write(name: str, capsys: Any) -> None:
    with servers(ARMS) as uris:
        table = steps(name, uris, Effort.quick())
    with capsys.disabled():
        show([table], Console())
