"""Where the client's time goes while 1,000 callers read: tasks, qbmongo, the driver.

CPU of the calling thread in the asyncio client; the server is another process. "tasks" are as many
tasks that wait for one Future each. qbmongo's own part is what is left of a cold joined find_one
when the driver's find answers at once, less the tasks; the driver's part is what the same `$in` by
hand takes. What the parts do not explain is caches, and replies that arrive while others wait.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import bson
from pymongo.asynchronous.collection import AsyncCollection
from rich.console import Console

from bench.bench_reads import BUDGETED, JOINED, ROOMY, forgotten
from bench.bench_write_steps import calling, waiting
from bench.interleaved import Arm, Effort, Measured, Table, measure, number, show
from bench.subjects import Bench, client_of, document, filled, opened
from qbmongo.clients.listener import CURRENT

TASKS, BY_HAND = "tasks", "by hand"
OURS, WITHOUT = "cache off", "cache off, the driver left out"
KEPT, KEPT_WITHOUT = "cache on", "cache on, the driver left out"


def tables(uri: str, effort: Effort) -> Iterator[Table]:
    """Every table of this module."""
    with filled(uri, BUDGETED) as database:
        yield steps(uri, database, effort)


def steps(uri: str, database: str, effort: Effort) -> Table:
    """find_one of different `_id`s, cold."""

    def call(things: Any, place: int) -> Any:
        return things.find_one({"_id": place})

    with opened("async", uri, database) as bench:
        plain = bench.plain()
        things = {
            OURS: bench.ours(JOINED),
            WITHOUT: bench.ours(JOINED),
            KEPT: bench.ours(ROOMY),
            KEPT_WITHOUT: bench.ours(ROOMY),
        }

        async def one_find(calls: int) -> None:
            await plain.find({"_id": {"$in": list(range(calls))}}).to_list(None)

        arms = [Arm(TASKS, waiting(call), calls=BUDGETED), Arm(BY_HAND, one_find, calls=BUDGETED)]
        for name, collection in things.items():
            run = calling(collection, call)
            if name in (WITHOUT, KEPT_WITHOUT):
                run = _without_driver(bench, collection, run)
            prepare = forgotten(bench, collection) if name in (KEPT, KEPT_WITHOUT) else None
            arms.append(Arm(name, run, calls=BUDGETED, prepare=prepare))
        for arm in arms:
            if arm.prepare is not None:
                arm.prepare(BUDGETED)
            bench.result(arm.run(BUDGETED))
        rounds = max(3, min(effort.rounds, 25))
        measured = measure(arms, replace(effort, rounds=rounds), loop=bench.loop)
    return _shown(measured)


def _shown(measured: dict[str, Measured]) -> Table:
    least = {arm: min(figures.cpu_us) for arm, figures in measured.items()}
    medians = {arm: figures.cpu.median for arm, figures in measured.items()}
    rows = [
        (
            what,
            *(number(of[more] - (of[less] if less else 0)) for of in (medians, least)),
        )
        for what, more, less in (
            ("tasks and their Futures", TASKS, None),
            ("qbmongo, cache off", WITHOUT, TASKS),
            ("qbmongo, cache on and empty", KEPT_WITHOUT, TASKS),
            ("the driver's find", BY_HAND, None),
            ("all together, cache off, measured", OURS, None),
            ("all together, cache on and empty, measured", KEPT, None),
        )
    ]
    return Table(
        f"where the CPU of a joined find_one goes, {BUDGETED:,} callers (async)",
        ("us per read", "median", "least"),
        rows,
    )


def _without_driver(bench: Bench, things: Any, run: Callable[[int], Any]) -> Callable[[int], Any]:
    """The driver's find answers at once: what it would be sent, and by whom, is known before."""
    client = client_of(things)
    bench.result(client.admin.command("ping"))

    async def run_without(calls: int) -> None:
        with _instant(await client.address):
            await run(calls)

    return run_without


_DOCUMENTS = [bson.encode(document(place, place // 20)) for place in range(BUDGETED)]


@contextmanager
def _instant(address: Any) -> Iterator[None]:
    def find_raw_batches(
        collection: Any, filter: Any, projection: Any, *, batch_size: int
    ) -> AsyncIterator[bytes]:
        async def batches() -> AsyncIterator[bytes]:
            answerer: Any = CURRENT.get()
            answerer.address = address
            yield b"".join([_DOCUMENTS[place] for place in filter["_id"]["$in"]])

        return batches()

    with patch.object(AsyncCollection, "find_raw_batches", find_raw_batches):
        yield


def test_steps_of_a_joined_read(server_uri: str, capsys: Any) -> None:
    with filled(server_uri, BUDGETED) as database:
        table = steps(server_uri, database, Effort.quick())
    with capsys.disabled():
        show([table], Console())
