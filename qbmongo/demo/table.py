"""What the demo prints: both arms side by side, losses as plainly as gains."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .arms import ClientKind
from .operations import KINDS
from .replay import Outcome, Tally

_EQUAL_WITHIN = 0.05
_HOTTEST_SHAPES = 6
_QUANTILES = (50, 95, 99)
DRIVERS: dict[ClientKind, str] = {"motor": "Motor", "async": "PyMongo Async", "sync": "PyMongo"}


@dataclass(frozen=True, slots=True)
class Result:
    """A run's outcome and figures; see replay.Outcome and replay.Tally.

    indexes: which the collections had, in words.
    profile, stats: what our client's `qb.profile()` and `qb.stats()` gave, None without them.
    """

    server: str
    client: ClientKind
    flights: int
    indexes: str
    outcome: Outcome
    plain: Tally
    ours: Tally
    plain_commands: int
    our_commands: int
    counted_by_server: bool
    profile: Any
    stats: Any


def show(result: Result, console: Console) -> None:
    """Print the tables of a run."""
    console.print(side_by_side(result))
    lines = (
        *_cache_lines(result.stats, result.outcome.exposed),
        *_travelling_lines(result.stats),
        *_notes(result),
    )
    for line in lines:
        console.print(f"- {line}", highlight=False, markup=False)
    if result.profile is not None:
        from ..profile_table import profile_table

        console.print()
        # Every call of the demo comes from one line of its own: the place says nothing.
        shapes = tuple(replace(shape, places=(), repeats=()) for shape in result.profile.shapes)
        profile = replace(result.profile, shapes=shapes)
        console.print(profile_table(profile, _HOTTEST_SHAPES))


def show_verdict(outcomes: Sequence[Outcome], console: Console) -> bool:
    """Print whether every answer of these runs was equal; returns it."""
    console.print()
    for outcome in outcomes:
        if outcome.difference is not None:
            console.print(f"[bold red]NOT EQUAL[/]: {escape(outcome.difference)}", highlight=False)
            return False
    compared_answers = sum(outcome.compared for outcome in outcomes)
    digests = " ".join(outcome.digest for outcome in outcomes)
    console.print(
        f"[bold green]equal[/]: {compared_answers:,} answers compared, and what was written; "
        f"digest {digests}",
        highlight=False,
    )
    return True


def side_by_side(result: Result) -> Table:
    """Operations per second, commands on the wire and latencies per kind of operation."""
    driver = DRIVERS[result.client]
    table = Table(
        title=f"The airport on {driver}: {result.flights:,} flights, {result.indexes}",
        title_justify="left",
    )
    table.add_column("")
    table.add_column("plain", justify="right")
    table.add_column("qbmongo", justify="right")
    table.add_column("ratio", justify="right")
    table.add_column("qbmongo is")
    plain, ours = result.plain, result.ours
    table.add_row(
        "operations per second",
        *compared(rate(plain), rate(ours), "{:,.0f}", "faster", "slower", more_is_better=True),
    )
    table.add_row(
        "... in the median slice",
        *compared(
            median(plain.slice_rates),
            median(ours.slice_rates),
            "{:,.0f}",
            "faster",
            "slower",
            more_is_better=True,
        ),
    )
    table.add_row(
        "commands on the wire",
        *compared(result.plain_commands, result.our_commands, "{:,.0f}", "fewer", "more"),
        end_section=True,
    )
    for kind in KINDS:
        count = len(plain.latencies_ns[kind])
        for percent in _QUANTILES:
            values = [quantile(tally.latencies_ns[kind], percent) / 1000 for tally in (plain, ours)]
            last = percent == _QUANTILES[-1]
            name = f"{kind} ({count:,})" if percent == _QUANTILES[0] else ""
            table.add_row(
                f"{name:<28} p{percent}",
                *compared(values[0], values[1], "{:,.0f} us", "faster", "slower"),
                end_section=last,
            )
    return table


def quantile(values: array[int], percent: int) -> int:
    """The smallest value that `percent` % of the values do not exceed; 0 if there is none."""
    if not values:
        return 0
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def rate(tally: Tally) -> float:
    return tally.operations / (tally.elapsed_ns / 1e9) if tally.elapsed_ns else 0.0


def compared(
    plain: float, ours: float, form: str, better: str, worse: str, *, more_is_better: bool = False
) -> Iterator[str]:
    """The cells of a row: both figures, ours as a multiple of plain, and what that means."""
    yield form.format(plain)
    yield form.format(ours)
    if not plain or not ours:
        yield ""
        yield ""
        return
    yield f"{ours / plain:.2f}"
    gain = ours / plain if more_is_better else plain / ours
    if abs(gain - 1) <= _EQUAL_WITHIN:
        yield "about equal"
    elif gain > 1:
        yield f"[green]{gain:.2f} x {better}[/]"
    else:
        yield f"[red]{1 / gain:.2f} x {worse}[/]"


def _cache_lines(stats: Any, exposed: int) -> Iterator[str]:
    """What the cache and the watcher did, and faults of qbmongo itself."""
    if stats is None:
        return
    cache = stats.cache
    if cache is not None:
        yield (
            f"cache: hit ratio {cache.hit_ratio:.1%} ({cache.hits:,} hits, "
            f"{cache.misses:,} misses, {cache.joins:,} joins); "
            f"{cache.entries:,} entries, {cache.bytes / 2**20:.1f} MiB"
        )
        for what, counts in (
            ("reads that went past it", cache.bypassed),
            ("entries dropped", cache.invalidated),
            ("answers not kept", cache.refused),
        ):
            if counts:
                named = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
                yield f"{what}: {named}"
        if exposed:
            dropped = sum(cache.invalidated.get(cause, 0) for cause in ("own", "event"))
            yield f"kept share: a write left {1 - dropped / exposed:.2%} of the entries in place"
        if cache.off:
            yield f"the cache is off: {cache.off}"
        if cache.differences:
            yield f"WRONG HITS: {cache.differences:,} of {cache.verified:,} that were verified"
    if stats.faults:
        named = ", ".join(f"{name} {count:,}" for name, count in sorted(stats.faults.items()))
        yield f"FAULTS of qbmongo (each call went to the driver): {named}"


def _travelling_lines(stats: Any) -> Iterator[str]:
    """Which operations travelled together."""
    for what, part in (
        ("writes", getattr(stats, "coalesce", None)),
        ("point reads", getattr(stats, "batch", None)),
    ):
        if part is None or not part.gathered:
            continue
        yield (
            f"{what}: {part.gathered:,} of {part.direct + part.gathered:,} gathered, "
            f"and travelled in {part.batches:,} commands"
        )
        if part.refused:
            named = ", ".join(f"{name} {count:,}" for name, count in sorted(part.refused.items()))
            yield f"{what} that went straight to the driver: {named}"


def _notes(result: Result) -> Iterator[str]:
    outcome = result.outcome
    yield f"server: {result.server}; the arms played in turn, {outcome.slices:,} slices each"
    if result.counted_by_server:
        yield "commands: requests the server served, qbmongo's background traffic included"
    else:
        yield (
            "commands: counted by a command listener, which costs both arms the same; "
            "qbmongo's background traffic is not included"
        )
    waited_s = outcome.caught_up_ns / 1e9
    yield (
        f"{outcome.foreign:,} writes came from another program; qbmongo was waited for "
        f"{waited_s:.2f} s in all until it knew of them (not part of the figures above)"
    )
