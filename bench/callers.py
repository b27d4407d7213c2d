"""Many callers at the same time, and how long each of them waits."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench.interleaved import Measured, number
from bench.subjects import Bench

__all__ = ["Call", "Latencies", "first_cells", "many_callers", "threads"]

Call = Callable[[Any, int], Any]


@dataclass
class Latencies:
    """Milliseconds of each caller's wait, over all rounds."""

    ms: array[float] = field(default_factory=lambda: array("d"))

    def quantile(self, percent: int) -> float:
        return _quantile(self.ms, percent)

    def of_rounds(self, percent: int, callers: int) -> list[float]:
        """The quantile of each round of so many callers."""
        return [
            _quantile(self.ms[start : start + callers], percent)
            for start in range(0, len(self.ms), callers)
        ]


def _quantile(values: Sequence[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def first_cells(figures: Measured, calls: int, waits: Latencies) -> tuple[str, ...]:
    """What tables of many callers begin with: ms of all, a second, p50, p99 ms, CPU us of one.

    calls: how many callers make a round.
    """
    return (
        number(figures.wall.median * calls / 1e3),
        number(1e6 / figures.wall.median),
        number(waits.quantile(50)),
        number(waits.quantile(99)),
        number(figures.cpu.median),
    )


@contextmanager
def threads(kind: str, callers: int) -> Iterator[ThreadPoolExecutor | None]:
    """Threads for the callers of the sync client; None for the others, whose callers are tasks."""
    if kind != "sync":
        yield None
        return
    with ThreadPoolExecutor(callers) as pool:
        yield pool


def many_callers(
    bench: Bench, things: Any, call: Call, latencies: Latencies, pool: ThreadPoolExecutor | None
) -> Callable[[int], Any]:
    """So many callers at the same time, each with a task or a thread of its own."""
    clock = time.perf_counter

    if pool is not None:

        def timed(place: int) -> None:
            started_s = clock()
            call(things, place)
            latencies.ms.append((clock() - started_s) * 1e3)

        def run(calls: int) -> None:
            for _ in pool.map(timed, range(calls)):
                pass

        return run

    async def caller(place: int) -> None:
        started_s = clock()
        await call(things, place)
        latencies.ms.append((clock() - started_s) * 1e3)

    async def run_async(calls: int) -> None:
        await asyncio.gather(*[caller(place) for place in range(calls)])

    return run_async
