"""Cold reads by `_id` that many callers make at the same time: one by one, by hand, and joined.

Budget (DESIGN section 9): 1,000 concurrent find_one of different `_id`s, cold, at 8 times the rate
of plain calls or more; no caller's p99 above the plain calls'. Callers are tasks (or threads) in
every arm but the hand-written `$in`'s. "qbmongo, cache on" keeps every answer, and forgets all of
them before each round.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiodataloader import DataLoader
from rich.console import Console

from bench.callers import Latencies, first_cells, many_callers, threads
from bench.interleaved import Arm, Budget, Effort, Measured, Table, measure, number, ratios, show
from bench.subjects import KINDS, Bench, client_of, filled, opened
from qbmongo import CacheSettings, Settings

CALLERS = {"sync": (10, 100), "async": (10, 100, 1_000, 5_000), "motor": (10, 100, 1_000, 5_000)}
BUDGETED = 1_000
REST_S = 0.02
DOCUMENTS = 5_000
JOINED = replace(Settings(), cache=None, coalesce=None)
ROOMY = replace(Settings(), cache=CacheSettings(max_bytes=1 << 30), coalesce=None)
PLAIN, BY_HAND, LOADER, OURS = "plain", "by hand", "aiodataloader", "qbmongo"
CACHED = "qbmongo, cache on"


def tables(uri: str, effort: Effort) -> Iterator[Table]:
    """Every table of this module."""
    for kind in KINDS:
        with filled(uri, DOCUMENTS) as database:
            for callers in CALLERS[kind]:
                yield cold_reads(kind, uri, database, callers, effort)
            yield steady_readers(kind, uri, database, effort)


def cold_reads(kind: str, uri: str, database: str, callers: int, effort: Effort) -> Table:
    """find_one of different `_id`s."""

    def call(things: Any, place: int) -> Any:
        return things.find_one({"_id": place})

    with opened(kind, uri, database) as bench, threads(kind, callers) as pool:
        things = {
            PLAIN: bench.plain(),
            BY_HAND: bench.plain(),
            OURS: bench.ours(JOINED),
            CACHED: bench.ours(ROOMY),
        }
        if bench.loop is not None:
            things[LOADER] = bench.plain()
        warm = things[CACHED]
        bench.warm(warm, lambda: warm.find_one({"_id": -1}))
        latencies = {arm: Latencies() for arm in things}
        arms = []
        for arm, collection in things.items():
            if arm == BY_HAND:
                run = _one_find(bench, collection, latencies[arm])
            elif arm == LOADER:
                run = _loaded(collection, latencies[arm])
            else:
                run = many_callers(bench, collection, call, latencies[arm], pool)
            prepare = forgotten(bench, collection) if arm == CACHED else rested(bench)
            arms.append(Arm(arm, run, calls=callers, prepare=prepare))
        for each in arms:
            bench.result(each.run(callers))
            latencies[each.name].ms = array("d")
        rounds = max(3, min(effort.rounds, 25_000 // callers))
        measured = measure(
            arms, replace(effort, rounds=rounds), loop=bench.loop, cpu_clock=bench.cpu_clock
        )
        stats = client_of(things[OURS]).qb.stats().batch
    title = f"{callers:,} callers of find_one, cold ({kind})"
    return _shown(title, callers, measured, latencies, stats)


def steady_readers(kind: str, uri: str, database: str, effort: Effort) -> Table:
    """16 callers, each with one read after another: what a lightly loaded service sees."""
    readers, reads = 16, 20
    counter = itertools.count()

    with opened(kind, uri, database) as bench, threads(kind, readers) as pool:
        things = {PLAIN: bench.plain(), OURS: bench.ours(JOINED)}
        latencies = {arm: Latencies() for arm in things}

        def run(arm: str) -> Callable[[int], Any]:
            collection, waits = things[arm], latencies[arm]
            clock = time.perf_counter
            if bench.loop is None:

                def read_all(_: int) -> None:
                    for _ in range(reads):
                        started_s = clock()
                        collection.find_one({"_id": next(counter) % DOCUMENTS})
                        waits.ms.append((clock() - started_s) * 1e3)

                return lambda _: list(pool.map(read_all, range(readers))) and None  # type: ignore[union-attr]

            async def reader() -> None:
                for _ in range(reads):
                    started_s = clock()
                    await collection.find_one({"_id": next(counter) % DOCUMENTS})
                    waits.ms.append((clock() - started_s) * 1e3)

            async def run_all(_: int) -> None:
                await asyncio.gather(*[reader() for _ in range(readers)])

            return run_all

        arms = [Arm(arm, run(arm), calls=readers * reads) for arm in things]
        for each in arms:
            bench.result(each.run(1))
            latencies[each.name].ms = array("d")
        measured = measure(arms, effort, loop=bench.loop, cpu_clock=bench.cpu_clock)
        stats = client_of(things[OURS]).qb.stats().batch
    title = f"{readers} readers, one find_one after another ({kind})"
    return _shown(title, readers * reads, measured, latencies, stats)


def _shown(
    title: str,
    calls: int,
    measured: dict[str, Measured],
    latencies: dict[str, Latencies],
    stats: Any,
) -> Table:
    rows = []
    for arm, figures in measured.items():
        rows.append(
            (
                arm,
                *first_cells(figures, calls, latencies[arm]),
                number(min(figures.cpu_us)),
                f"{number(ratios(measured[PLAIN], figures).median)}x",
            )
        )
    columns = ("arm", "ms", "a second", "p50 ms", "p99 ms", "CPU us", "least", "of plain")
    budgets: tuple[Budget, ...] = ()
    if calls == BUDGETED:
        times = ratios(measured[PLAIN], measured[OURS]).median
        kept = ratios(measured[PLAIN], measured[CACHED]).median
        wait = latencies[OURS].quantile(99) / latencies[PLAIN].quantile(99)
        budgets = (
            Budget(f"{title}, rate of plain calls", 8, times, "x", at_most=False),
            Budget(f"{title}, rate of plain calls, cache on", 8, kept, "x", at_most=False),
            Budget(f"{title}, p99 of a caller, of plain calls'", 1, wait, "x"),
        )
    joined = f"{stats.joined:,} of {stats.joined + stats.direct:,} joined"
    note = (
        "ms: until all are done; p50, p99: of a caller; CPU: of each read."
        f" qbmongo: {joined}, in {stats.batches:,} finds."
    )
    return Table(title, columns, rows, note, budgets)


def _one_find(bench: Bench, things: Any, latencies: Latencies) -> Callable[[int], Any]:
    """One hand-written find for all."""
    clock = time.perf_counter

    def run(calls: int) -> None:
        started_s = clock()
        found = things.find({"_id": {"$in": list(range(calls))}}).to_list()
        latencies.ms.append((clock() - started_s) * 1e3)
        assert len(found) == calls

    async def run_async(calls: int) -> None:
        started_s = clock()
        found = await things.find({"_id": {"$in": list(range(calls))}}).to_list(None)
        latencies.ms.append((clock() - started_s) * 1e3)
        assert len(found) == calls

    return run if bench.loop is None else run_async


def _loaded(things: Any, latencies: Latencies) -> Callable[[int], Any]:
    """Callers of a data loader, which a program would have to be written for."""
    clock = time.perf_counter

    async def load(ids: list[int]) -> list[Any]:
        found = {d["_id"]: d async for d in things.find({"_id": {"$in": ids}})}
        return [found.get(identity) for identity in ids]

    async def run(calls: int) -> None:
        loader: DataLoader[int, Any] = DataLoader(load)

        async def caller(place: int) -> None:
            started_s = clock()
            await loader.load(place)
            latencies.ms.append((clock() - started_s) * 1e3)

        await asyncio.gather(*[caller(place) for place in range(calls)])

    return run


def forgotten(bench: Bench, things: Any) -> Callable[[int], None]:
    """Makes a client forget every answer, and waits until it may keep new ones."""
    rest = rested(bench)

    def prepare(calls: int) -> None:
        client_of(things).qb.clear()
        bench.warm(things, lambda: things.find_one({"_id": -1}))
        rest(calls)

    return prepare


def rested(bench: Bench) -> Callable[[int], None]:
    """A pause before each round, in which watchers come to rest. Every arm has one: after a pause
    the first calls of any client take longer."""

    def rest(_: int) -> None:
        if bench.loop is None:
            time.sleep(REST_S)
        else:
            bench.loop.run_until_complete(asyncio.sleep(REST_S))

    return rest


@pytest.mark.parametrize("kind", KINDS)
def test_cold_reads(kind: str, server_uri: str, capsys: Any) -> None:
    with filled(server_uri, DOCUMENTS) as database:
        shown = [
            cold_reads(kind, server_uri, database, 100, Effort.quick()),
            steady_readers(kind, server_uri, database, Effort.quick()),
        ]
    with capsys.disabled():
        show(shown, Console(width=130))
