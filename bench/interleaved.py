"""Arms of a comparison, measured in turns of one run, and the tables that come of it.

An arm is measured in slices. In every round each arm has one slice, in an order that rotates, so
that whatever the machine does meanwhile meets all of them. Shown are the median over the rounds and
the quartiles; ratios are taken within a round and their median is shown, which a machine that is
slow for a while changes little. CPU time stands beside wall time: on a machine that others use,
it is the one to believe for work that does no IO.

What all arms have made until the measurement begins (modules, clients, documents that are kept) is
frozen for the garbage collector. One process holds the heaps of every arm: a full collection walks
through all of them, some 20 ms, and is paid by whichever arm allocates at that moment. A program
has one client, and its own heap. What an arm allocates while it is measured is collected as always.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table as RichTable

__all__ = ["Arm", "Budget", "Effort", "Measured", "Spread", "Table", "compared", "measure", "show"]

_TRIES = 10


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds, and the seconds of one arm's slice."""

    rounds: int = 25
    slice_s: float = 0.04

    @classmethod
    def quick(cls) -> Effort:
        """Enough to see that a benchmark works."""
        return cls(rounds=5, slice_s=0.015)


@dataclass(frozen=True)
class Arm:
    """One way to do the work.

    run: does so many calls; a coroutine function where the clients are asyncio's. counter: counts
    the calls that did what the arm's name says (hits, misses); a slice with others among them is
    measured again. calls: so many in each slice, instead of `slice_s`. prepare: called before each
    slice with its calls, outside the measurement.
    """

    name: str
    run: Callable[[int], Any]
    counter: Callable[[], int] | None = None
    calls: int | None = None
    prepare: Callable[[int], None] | None = None


@dataclass(frozen=True)
class Spread:
    """Quartiles of a figure over the rounds."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(low, median, high)

    def __str__(self) -> str:
        return f"{number(self.low)} - {number(self.high)}"


@dataclass(frozen=True)
class Measured:
    """One arm's figures, each in microseconds per call, a value per round.

    cpu_us: of the clock that was given; process_us: of the whole process, its threads included.
    """

    name: str
    wall_us: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    process_us: list[float] = field(default_factory=list)

    @property
    def wall(self) -> Spread:
        return Spread.of(self.wall_us)

    @property
    def cpu(self) -> Spread:
        return Spread.of(self.cpu_us)

    @property
    def process(self) -> Spread:
        return Spread.of(self.process_us)

    def add(self, calls: int, taken: _Taken) -> None:
        """A slice of so many calls was measured."""
        self.wall_us.append(taken.wall_s / calls * 1e6)
        self.cpu_us.append(taken.cpu_s / calls * 1e6)
        self.process_us.append(taken.process_s / calls * 1e6)


class _Taken(NamedTuple):
    """What a slice took, in seconds."""

    wall_s: float
    cpu_s: float
    process_s: float


@dataclass(frozen=True)
class Budget:
    """One limit of the design and what was measured; at_most False means "at least"."""

    what: str
    limit: float
    measured: float
    unit: str
    at_most: bool = True

    @property
    def held(self) -> bool:
        return self.measured <= self.limit if self.at_most else self.measured >= self.limit

    def cells(self) -> tuple[str, str, str, str]:
        side = "at most" if self.at_most else "at least"
        unit = f" {self.unit}" if self.unit not in ("", "x") else self.unit
        return (
            self.what,
            f"{side} {number(self.limit)}{unit}",
            f"{number(self.measured)}{unit}",
            "yes" if self.held else "NO",
        )


@dataclass(frozen=True)
class Table:
    """What a benchmark shows: rows of text under columns, and the budgets they are held to."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""
    budgets: tuple[Budget, ...] = ()

    def markdown(self) -> str:
        """The table as Markdown, without budgets."""
        lines = [f"**{self.title}**", ""]
        lines += _markdown_rows(self.columns, self.rows)
        if self.note:
            lines += ["", self.note]
        return "\n".join(lines) + "\n"


_BUDGET_COLUMNS = ("budget", "limit", "measured", "held")


def budgets_markdown(tables: Iterable[Table]) -> str:
    """The budgets of all tables as one Markdown table."""
    rows = [budget.cells() for table in tables for budget in table.budgets]
    return "\n".join(_markdown_rows(_BUDGET_COLUMNS, rows)) + "\n"


def _markdown_rows(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    head = f"| {' | '.join(columns)} |"
    rule = f"|---|{'---:|' * (len(columns) - 1)}"
    return [head, rule, *(f"| {' | '.join(row)} |" for row in rows)]


def show(tables: Iterable[Table], console: Console) -> list[Table]:
    """Prints each table as soon as it is measured; returns all."""
    shown = []
    for table in tables:
        shown.append(table)
        console.print(_rich(table.title, table.columns, table.rows, table.note))
        if table.budgets:
            console.print(_rich("", _BUDGET_COLUMNS, [b.cells() for b in table.budgets]))
    return shown


def _rich(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], note: str = ""
) -> RichTable:
    table = RichTable(title=title or None, caption=note or None, title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left")
    for row in rows:
        table.add_row(*row)
    return table


def number(value: float) -> str:
    """A figure with about three significant digits."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def measure(
    arms: Sequence[Arm],
    effort: Effort,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    cpu_clock: Callable[[], float] = time.thread_time,
) -> dict[str, Measured]:
    """Measures arms in turns.

    Args:
        arms: the arms, told apart by name.
        effort: rounds and length of a slice.
        loop: where the arms' coroutines run; None for blocking arms.
        cpu_clock: time.thread_time, or time.process_time where other threads do the work.

    Returns:
        Each arm's figures by its name.

    Raises:
        RuntimeError: an arm kept on doing something else than its name says.
    """
    take = _taker(cpu_clock) if loop is None else _loop_taker(cpu_clock, loop)
    calls = {arm.name: arm.calls or _calibrated(arm, effort.slice_s, take) for arm in arms}
    measured = {arm.name: Measured(arm.name) for arm in arms}
    with _frozen():
        for round_ in range(effort.rounds):
            first = round_ % len(arms)
            for arm in (*arms[first:], *arms[:first]):
                measured[arm.name].add(calls[arm.name], _slice(arm, calls[arm.name], take))
    return measured


@contextmanager
def _frozen() -> Iterator[None]:
    """What is there at the beginning is no business of the garbage collector's."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


_Take = Callable[[Callable[[int], Any], int], _Taken]


def _taker(cpu_clock: Callable[[], float]) -> _Take:
    clock, process_clock = time.perf_counter, time.process_time

    def take(run: Callable[[int], Any], calls: int) -> _Taken:
        process_s, wall_s, cpu_s = process_clock(), clock(), cpu_clock()
        run(calls)
        cpu_end_s, wall_end_s = cpu_clock(), clock()
        return _Taken(wall_end_s - wall_s, cpu_end_s - cpu_s, process_clock() - process_s)

    return take


def _loop_taker(cpu_clock: Callable[[], float], loop: asyncio.AbstractEventLoop) -> _Take:
    clock, process_clock = time.perf_counter, time.process_time

    async def taken(run: Callable[[int], Any], calls: int) -> _Taken:
        process_s, wall_s, cpu_s = process_clock(), clock(), cpu_clock()
        await run(calls)
        cpu_end_s, wall_end_s = cpu_clock(), clock()
        return _Taken(wall_end_s - wall_s, cpu_end_s - cpu_s, process_clock() - process_s)

    return lambda run, calls: loop.run_until_complete(taken(run, calls))


def _calibrated(arm: Arm, slice_s: float, take: _Take) -> int:
    """Calls in a slice; what is measured on the way warms the arm up."""
    calls = 1
    while True:
        # The quickest of three: one disturbed slice must not decide.
        wall_s = min(_slice(arm, calls, take).wall_s for _ in range(3))
        if wall_s >= slice_s / 8:
            return max(1, round(calls * slice_s / wall_s))
        calls *= 4


def _slice(arm: Arm, calls: int, take: _Take) -> _Taken:
    for _ in range(_TRIES):
        if arm.prepare is not None:
            arm.prepare(calls)
        before = arm.counter() if arm.counter is not None else 0
        taken = take(arm.run, calls)
        if arm.counter is None or arm.counter() - before == calls:
            return taken
    raise RuntimeError(f"the arm {arm.name!r} does not do what it is called")


def ratios(of: Measured, to: Measured) -> Spread:
    """Wall time of one arm as multiples of another's, taken round by round."""
    return Spread.of([a / b for a, b in zip(of.wall_us, to.wall_us, strict=True)])


def differences(of: Measured, to: Measured) -> Spread:
    """CPU time of one arm less another's, round by round, in microseconds per call."""
    return Spread.of([a - b for a, b in zip(of.cpu_us, to.cpu_us, strict=True)])


def compared(
    title: str,
    measured: dict[str, Measured],
    reference: str,
    *,
    note: str = "",
    budgets: tuple[Budget, ...] = (),
) -> Table:
    """A table of arms beside the reference, which is the first of them.

    CPU us: of the calling thread (Motor: of the process), with its least; process us: of all
    threads. The last two: multiples of the reference's wall time, and how many times faster.
    """
    rows = []
    base = measured[reference]
    for arm in measured.values():
        ratio = ratios(arm, base).median
        faster = ratios(base, arm).median
        rows.append(
            (
                arm.name,
                number(arm.wall.median),
                str(arm.wall),
                number(arm.cpu.median),
                number(min(arm.cpu_us)),
                number(arm.process.median),
                f"{ratio:.3f}" if ratio < 10 else number(ratio),
                f"{number(faster)}x",
            )
        )
    columns = (
        "arm",
        "us",
        "quartiles",
        "CPU us",
        "least",
        "process us",
        f"/ {reference}",
        "faster",
    )
    return Table(title, columns, rows, note, budgets)
