"""What the watcher costs its process and the server, while others write more or less.

A process of its own writes at a steady rate. In every round each arm watches for a while, alone:
counted are the CPU time of the watching process and of the server, the commands sent, and the age
of events when they arrive. The plain client beside them is connected and does nothing; the server's
figure with it is what the writes themselves cost.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
from pymongo import AsyncMongoClient, MongoClient, UpdateOne
from rich.console import Console

from bench.interleaved import Effort, Spread, Table, number, show
from qbmongo.coherence.records import Limits, WatcherStats
from qbmongo.coherence.task import TaskWatcher
from qbmongo.coherence.thread import ThreadWatcher
from qbmongo.core.events import effect_of_event
from qbmongo.local_server import LocalServer

RATES = (0, 100, 2_000)
DATABASE = "qbmongo_bench_watcher"
_BATCHES_PER_S = 100
_WAIT_S = 30.0


class Ear:
    """A sink that only listens; is_used is what it says of the cache."""

    def __init__(self, is_used: bool) -> None:
        self.is_used = is_used

    def event(self, *told: Any) -> None:
        pass

    lease = lost = unavailable = event

    def in_use(self, database: str) -> bool:
        return self.is_used

    def wanted_facts(self, database: str) -> Sequence[str]:
        return ()

    facts_stamp = facts = facts_failed = verified = event

    def verification(self, database: str) -> None:
        return None


@dataclass(frozen=True)
class Taken:
    """One arm's slice, each figure per second; lag_ms only where there were events."""

    client_cpu_ms: float
    server_cpu_ms: float
    commands: float
    events: float
    lag_ms: float | None


Watching = Callable[[str], AbstractContextManager[Callable[[], WatcherStats] | None]]


def tables(uri: str, effort: Effort) -> Iterator[Table]:
    """Every table of this module, on a server of its own (uri is not used)."""
    yield watcher_costs(effort)


def watcher_costs(effort: Effort, rates: Sequence[int] = RATES) -> Table:
    """Client CPU, server CPU and commands of each arm at each rate of writes by others."""
    rounds, slice_s = max(3, effort.rounds // 5), effort.slice_s * 50
    arms: dict[str, Watching] = {
        "plain client": _plain,
        "thread": lambda uri: _thread(uri, is_used=True),
        "thread, cache unused": lambda uri: _thread(uri, is_used=False),
        "task": _task,
    }
    rows = []
    with LocalServer() as server:
        assert server.pid is not None
        process = psutil.Process(server.pid)
        for rate in rates:
            taken: dict[str, list[Taken]] = {name: [] for name in arms}
            with _writes(server.uri, rate):
                for turn in range(rounds):
                    names = [*arms][turn % len(arms) :] + [*arms][: turn % len(arms)]
                    for name in names:
                        taken[name].append(_slice(arms[name], server.uri, process, slice_s))
            rows += [(f"{rate:,}", name, *_cells(slices)) for name, slices in taken.items()]
    columns = ("writes/s", "watcher", "client CPU ms/s", "quartiles", "server CPU ms/s")
    return Table(
        "what the watcher costs",
        (*columns, "quartiles", "commands/s", "events/s", "event age ms"),
        rows,
    )


def _cells(slices: Sequence[Taken]) -> tuple[str, ...]:
    client = Spread.of([taken.client_cpu_ms for taken in slices])
    server = Spread.of([taken.server_cpu_ms for taken in slices])
    commands = Spread.of([taken.commands for taken in slices])
    events = Spread.of([taken.events for taken in slices])
    lags = [taken.lag_ms for taken in slices if taken.lag_ms is not None]
    return (
        number(client.median),
        str(client),
        number(server.median),
        str(server),
        number(commands.median),
        number(events.median),
        number(Spread.of(lags).median) if lags else "",
    )


def _slice(arm: Watching, uri: str, server: psutil.Process, slice_s: float) -> Taken:
    with arm(uri) as stats_of:
        before = stats_of() if stats_of else None
        client_s, server_s, start_s = time.process_time(), _cpu_s(server), time.perf_counter()
        time.sleep(slice_s)
        taken_s = time.perf_counter() - start_s
        client_s, server_s = time.process_time() - client_s, _cpu_s(server) - server_s
        commands = events = 0
        lag_s = None
        if stats_of is not None and before is not None:
            after = stats_of()
            commands = after.commands - before.commands
            events = after.databases[0].events - before.databases[0].events
            lag_s = after.databases[0].lag_s
    return Taken(
        client_s / taken_s * 1000,
        server_s / taken_s * 1000,
        commands / taken_s,
        events / taken_s,
        lag_s * 1000 if lag_s is not None and events else None,
    )


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def _plain(uri: str) -> Iterator[None]:
    with MongoClient[dict[str, Any]](uri) as client:
        client.admin.command("ping")
        yield None


@contextmanager
def _thread(uri: str, *, is_used: bool) -> Iterator[Callable[[], WatcherStats]]:
    sink = Ear(is_used)
    limits = Limits() if is_used else Limits(idle_after_s=0.0)

    def factory(changed: Mapping[str, Any]) -> MongoClient[dict[str, Any]]:
        return MongoClient(uri, **changed)

    watcher = ThreadWatcher(sink, factory, effect_of_event, limits)
    watcher.watch(DATABASE)
    assert watcher.caught_up(_WAIT_S)
    yield watcher.stats
    watcher.close()


@contextmanager
def _task(uri: str) -> Iterator[Callable[[], WatcherStats]]:
    sink = Ear(is_used=True)

    def factory(changed: Mapping[str, Any]) -> AsyncMongoClient[dict[str, Any]]:
        return AsyncMongoClient(uri, **changed)

    watcher = TaskWatcher(sink, factory, effect_of_event)
    ready, done = threading.Event(), threading.Event()

    async def watch() -> None:
        watcher.watch(DATABASE)
        assert await watcher.caught_up(_WAIT_S)
        loop = asyncio.get_running_loop()
        ready.set()
        await loop.run_in_executor(None, done.wait)
        await watcher.close()

    thread = threading.Thread(target=asyncio.run, args=(watch(),))
    thread.start()
    assert ready.wait(_WAIT_S)
    yield watcher.stats
    done.set()
    thread.join()


@contextmanager
def _writes(uri: str, rate: int) -> Iterator[None]:
    """Updates by another process, so many in a second, in batches every hundredth of it."""
    context = multiprocessing.get_context("spawn")
    begun, stop = context.Event(), context.Event()
    writer = context.Process(target=_write, args=(uri, rate, begun, stop))
    writer.start()
    try:
        assert begun.wait(_WAIT_S)
        yield
    finally:
        stop.set()
        writer.join(_WAIT_S)


def _write(uri: str, rate: int, begun: Any, stop: Any) -> None:
    with MongoClient[dict[str, Any]](uri) as client:
        things = client[DATABASE].things
        things.drop()
        things.insert_many({"_id": i, "stock": 0} for i in range(1_000))
        begun.set()
        written, start_s = 0, time.perf_counter()
        while not stop.wait(1 / _BATCHES_PER_S):
            due = int((time.perf_counter() - start_s) * rate) - written
            if due > 0:
                ids = range(written, written + due)
                updates = [UpdateOne({"_id": i % 1_000}, {"$inc": {"stock": 1}}) for i in ids]
                things.bulk_write(updates, ordered=False)
                written += due


def test_watcher_costs(capsys: Any) -> None:
    table = watcher_costs(Effort(rounds=3, slice_s=0.02), (0, 500))
    with capsys.disabled():
        show([table], Console())


if __name__ == "__main__":
    show(tables("", Effort()), Console(width=150))
