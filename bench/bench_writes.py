"""Writes that many callers make at the same time: one by one, by hand in bulk, and joined.

Budgets (DESIGN section 9), for 1,000 callers: joined updates at 0.75 times the rate of a hand-
written unordered verbose bulk write or more, and 4 times the plain calls'; joined inserts at 0.35
times the rate of insert_many, and 10 times the plain calls'; no caller's p99 above the plain
calls'. Each arm has a server of its own; callers are tasks in every arm but insert_many's.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from pymongo import UpdateOne
from rich.console import Console

from bench.callers import Call, Latencies, first_cells, many_callers, threads
from bench.interleaved import (
    Arm,
    Budget,
    Effort,
    Measured,
    Table,
    measure,
    number,
    ratios,
    show,
)
from bench.subjects import KINDS, Bench, client_of, document, filled, opened
from qbmongo import Settings
from qbmongo.local_server import LocalServer

CALLERS = {"sync": (10, 100), "async": (10, 100, 1_000, 5_000), "motor": (10, 100, 1_000, 5_000)}
BUDGETED = 1_000
# What every arm updates.
KEPT = 5_000
WRITTEN = "qbmongo_bench_joined"
JOINED = replace(Settings(), cache=None)
PLAIN, BY_HAND, TASKS, OURS = "plain", "by hand", "by hand, tasks", "qbmongo"
CACHED = "qbmongo, cache on"
ARMS = (PLAIN, BY_HAND, TASKS, OURS, CACHED)
_SLOW_DOCUMENT = "slow"
_SLOW_ELEMENTS = 150_000


def tables(uri: str, effort: Effort) -> Iterator[Table]:
    """Every table of this module."""
    for kind in KINDS:
        for part in (updates, inserts):
            for callers in CALLERS[kind]:
                with servers(ARMS) as uris:
                    yield part(kind, uris, callers, effort)
    for kind in ("async", "motor"):
        with servers((PLAIN, OURS)) as uris:
            yield slow_among_fast(kind, uris, effort)


@contextmanager
def servers(arms: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """A server for each arm, with KEPT documents: its URI by the arm's name."""
    with ExitStack() as stack:
        uris = {arm: stack.enter_context(LocalServer()).uri for arm in arms}
        for uri in uris.values():
            stack.enter_context(filled(uri, KEPT, WRITTEN))
        yield uris


def updates(kind: str, uris: dict[str, str], callers: int, effort: Effort) -> Table:
    """update_one of different `_id`s."""
    steps = itertools.count(1)

    def call(things: Any, place: int) -> Any:
        return things.update_one({"_id": place}, {"$set": {"stock": next(steps)}})

    def by_hand(things: Any, count: int) -> Any:
        namespace = f"{WRITTEN}.things"
        requests = [
            UpdateOne({"_id": place}, {"$set": {"stock": next(steps)}}, namespace=namespace)
            for place in range(count)
        ]
        client = client_of(things)
        return client.bulk_write(requests, ordered=False, verbose_results=True)

    return _table(kind, uris, callers, effort, "update_one", call, by_hand)


def inserts(kind: str, uris: dict[str, str], callers: int, effort: Effort) -> Table:
    """insert_one of 150-byte documents."""
    ids = itertools.count(1_000_000)

    def call(things: Any, place: int) -> Any:
        return things.insert_one(document(next(ids)))

    def by_hand(things: Any, count: int) -> Any:
        return things.insert_many([document(next(ids)) for _ in range(count)], ordered=False)

    return _table(kind, uris, callers, effort, "insert_one", call, by_hand)


def _table(
    kind: str,
    uris: dict[str, str],
    callers: int,
    effort: Effort,
    name: str,
    call: Call,
    by_hand: Callable[[Any, int], Any],
) -> Table:
    rounds = max(3, min(effort.rounds, 25_000 // callers))
    with opened(kind, uris[PLAIN], WRITTEN) as bench, threads(kind, callers) as pool:
        things = {
            PLAIN: bench.plain(),
            BY_HAND: bench.plain(uri=uris[BY_HAND]),
            TASKS: bench.plain(uri=uris[TASKS]),
            OURS: bench.ours(JOINED, uri=uris[OURS]),
            CACHED: bench.ours(Settings(), uri=uris[CACHED]),
        }
        warm = things[CACHED]
        bench.warm(warm, lambda: warm.find_one({"_id": 1}))
        latencies = {arm: Latencies() for arm in ARMS}
        runs = {
            arm: many_callers(bench, things[arm], call, latencies[arm], pool)
            for arm in (PLAIN, OURS, CACHED)
        }
        runs[BY_HAND] = _whole(bench, things[BY_HAND], by_hand, latencies[BY_HAND])
        runs[TASKS] = _tasks(bench, things[TASKS], by_hand, latencies[TASKS])
        arms = [Arm(arm, runs[arm], calls=callers) for arm in ARMS if arm != TASKS or bench.loop]
        for arm in arms:
            # Connections are made and code is warm before anything is measured.
            bench.result(arm.run(callers))
            latencies[arm.name].ms = array("d")
        measured = measure(
            arms, replace(effort, rounds=rounds), loop=bench.loop, cpu_clock=bench.cpu_clock
        )
        stats = client_of(things[OURS]).qb.stats().coalesce
    return _shown(kind, callers, name, measured, latencies, stats)


def _shown(
    kind: str,
    callers: int,
    name: str,
    measured: dict[str, Measured],
    latencies: dict[str, Latencies],
    stats: Any,
) -> Table:
    rows = []
    for arm, figures in measured.items():
        rows.append(
            (
                arm,
                *first_cells(figures, callers, latencies[arm]),
                number(figures.process.median),
                f"{number(ratios(measured[PLAIN], figures).median)}x",
                f"{number(ratios(measured[BY_HAND], figures).median)}x",
            )
        )
    columns = (
        *("arm", "ms", "a second", "p50 ms", "p99 ms", "CPU us", "process us"),
        *("of plain", "of by hand"),
    )
    budgets: tuple[Budget, ...] = ()
    if callers == BUDGETED:
        budgets = _budgets(kind, name, measured, latencies)
    joined = f"{stats.gathered:,} of {stats.gathered + stats.direct:,} joined"
    return Table(
        f"{callers:,} callers of {name} ({kind})",
        columns,
        rows,
        f"ms: until all are done; p50, p99: of a caller; CPU: of each write. qbmongo: {joined},"
        f" in {stats.batches:,} batches.",
        budgets,
    )


def _budgets(
    kind: str, name: str, measured: dict[str, Measured], latencies: dict[str, Latencies]
) -> tuple[Budget, ...]:
    ours = measured[OURS]
    update = name == "update_one"
    # Updates beside tasks, inserts beside insert_many alone: DESIGN section 9.
    reference, share, times = (TASKS, 0.75, 4) if update else (BY_HAND, 0.35, 10)
    what = f"{BUDGETED:,} {name} ({kind})"
    by_hand = ratios(measured[reference], ours).median
    plain = ratios(measured[PLAIN], ours).median
    wait = latencies[OURS].quantile(99) / latencies[PLAIN].quantile(99)
    return (
        Budget(f"{what}, rate of {reference}", share, by_hand, "x", at_most=False),
        Budget(f"{what}, rate of plain calls", times, plain, "x", at_most=False),
        Budget(f"{what}, p99 of a caller, of plain calls'", 1, wait, "x"),
    )


# How callers call


def _whole(
    bench: Bench, things: Any, by_hand: Callable[[Any, int], Any], latencies: Latencies
) -> Callable[[int], Any]:
    """One bulk call for all."""
    clock = time.perf_counter

    def run(calls: int) -> None:
        started_s = clock()
        by_hand(things, calls)
        latencies.ms.append((clock() - started_s) * 1e3)

    async def run_async(calls: int) -> None:
        started_s = clock()
        await by_hand(things, calls)
        latencies.ms.append((clock() - started_s) * 1e3)

    return run if bench.loop is None else run_async


def _tasks(
    bench: Bench, things: Any, by_hand: Callable[[Any, int], Any], latencies: Latencies
) -> Callable[[int], Any]:
    """One bulk call for all, for which as many tasks wait as there are callers."""
    clock = time.perf_counter

    async def caller(done: asyncio.Future[None]) -> None:
        started_s = clock()
        await done
        latencies.ms.append((clock() - started_s) * 1e3)

    async def run(calls: int) -> None:
        done = asyncio.get_running_loop().create_future()

        async def bulk() -> None:
            await by_hand(things, calls)
            done.set_result(None)

        await asyncio.gather(bulk(), *[caller(done) for _ in range(calls)])

    return run


# One slow update among fast ones


def slow_among_fast(kind: str, uris: dict[str, str], effort: Effort) -> Table:
    """1,000 fast updates, and one of a large array in their middle: what the fast ones wait."""
    latencies = {arm: Latencies() for arm in (PLAIN, OURS)}
    slow = {arm: Latencies() for arm in (PLAIN, OURS)}
    with opened(kind, uris[PLAIN], WRITTEN) as bench:
        things = {PLAIN: bench.plain(), OURS: bench.ours(JOINED, uri=uris[OURS])}
        for each in things.values():
            large = {"_id": _SLOW_DOCUMENT, "values": list(range(_SLOW_ELEMENTS))}
            bench.result(each.insert_one(large))
        steps = itertools.count(1)

        def run(arm: str) -> Callable[[int], Any]:
            return _with_a_slow_one(things[arm], latencies[arm], slow[arm], steps)

        arms = [Arm(arm, run(arm), calls=BUDGETED) for arm in (PLAIN, OURS)]
        for arm in arms:
            bench.result(arm.run(BUDGETED))
            latencies[arm.name].ms = array("d")
            slow[arm.name].ms = array("d")
        rounds = max(3, min(effort.rounds, 11))
        measured = measure(
            arms, replace(effort, rounds=rounds), loop=bench.loop, cpu_clock=bench.cpu_clock
        )
    of_rounds = {arm: waits.of_rounds(99, BUDGETED - 1) for arm, waits in latencies.items()}
    rows = [
        (
            arm,
            number(figures.wall.median * BUDGETED / 1e3),
            number(latencies[arm].quantile(50)),
            number(latencies[arm].quantile(99)),
            number(statistics.median(of_rounds[arm])),
            number(slow[arm].quantile(50)),
        )
        for arm, figures in measured.items()
    ]
    wait = latencies[OURS].quantile(99) / latencies[PLAIN].quantile(99)
    # As all ratios: within a round. Half of the callers share a batch, so that over all rounds p99
    # is what the worst round took, whatever disturbed it.
    in_a_round = statistics.median(
        ours / plain for ours, plain in zip(of_rounds[OURS], of_rounds[PLAIN], strict=True)
    )
    return Table(
        f"{BUDGETED:,} fast updates and a slow one ({kind})",
        (
            *("arm", "ms", "p50 of fast, ms", "p99 of fast, ms", "p99 of a round, ms"),
            "the slow one, ms",
        ),
        rows,
        f"The slow one sorts an array of {_SLOW_ELEMENTS:,} numbers. p99: over all rounds, and the"
        " median of each round's.",
        (
            Budget(f"p99 beside a slow update ({kind}), of plain calls'", 1, wait, "x"),
            Budget(f"... within a round ({kind})", 1, in_a_round, "x"),
        ),
    )


def _with_a_slow_one(
    things: Any, latencies: Latencies, slow: Latencies, steps: Iterator[int]
) -> Callable[[int], Any]:
    clock = time.perf_counter

    async def caller(place: int) -> None:
        update: dict[str, Any] = {"$set": {"stock": next(steps)}}
        started_s = clock()
        if place == BUDGETED // 2:
            pushed = {"$each": [next(steps)], "$sort": -1, "$slice": _SLOW_ELEMENTS}
            update = {"$push": {"values": pushed}}
            await things.update_one({"_id": _SLOW_DOCUMENT}, update)
            slow.ms.append((clock() - started_s) * 1e3)
            return
        await things.update_one({"_id": place}, update)
        latencies.ms.append((clock() - started_s) * 1e3)

    async def run(calls: int) -> None:
        await asyncio.gather(*[caller(place) for place in range(calls)])

    return run


@pytest.mark.parametrize("part", [updates, inserts], ids=lambda part: part.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_writes(kind: str, part: Any, capsys: Any) -> None:
    with servers(ARMS) as uris:
        table = part(kind, uris, 100, Effort.quick())
    with capsys.disabled():
        show([table], Console())


@pytest.mark.parametrize("kind", ["async", "motor"])
def test_a_slow_write_among_fast_ones(kind: str, capsys: Any) -> None:
    with servers((PLAIN, OURS)) as uris:
        table = slow_among_fast(kind, uris, Effort.quick())
    with capsys.disabled():
        show([table], Console())
