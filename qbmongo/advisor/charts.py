"""What the charts of a report show, as plain numbers: the page only places them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..number_text import count_text, duration_text, share_text
from .report import ServedShape

__all__ = ["Bar", "Column", "Histogram", "Span", "examined_spans", "latency", "time_bars"]

_MAX_BARS = 12
_COLUMNS_PER_DECADE = 4
# A profile's bins (docs/profile.md): a duration d is in bin ceil(log(d) / log(G)).
_G = 1.01 / 0.99


@dataclass(frozen=True, slots=True)
class Bar:
    """One shape's time. width: per cent of the longest."""

    label: str
    value: str
    width: float


@dataclass(frozen=True, slots=True)
class Span:
    """One shape: what a call returned and what it examined, on a logarithmic axis from 0 to 100.

    after: where the examined figure comes to lie with the recommended indexes; None: not tried.
    """

    label: str
    returned: float
    examined: float
    after: float | None
    text: str


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a histogram. height: per cent of the tallest; tick: label under it, or ""."""

    height: float
    title: str
    tick: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """Latencies of calls. text: its quantiles."""

    columns: tuple[Column, ...]
    text: str


def time_bars(shapes: Sequence[ServedShape]) -> list[Bar]:
    """The shapes that take most of the time, the rest as one bar."""
    ranked = sorted(shapes, key=lambda shape: -shape.total_s)
    ranked = [shape for shape in ranked if shape.total_s > 0]
    if not ranked:
        return []
    top, rest = ranked[:_MAX_BARS], ranked[_MAX_BARS:]
    rows = [(shape.text, shape.total_s, shape.share) for shape in top]
    if rest:
        rows.append(
            (f"{len(rest)} more shapes", sum(s.total_s for s in rest), sum(s.share for s in rest))
        )
    longest = max(total_s for _, total_s, _ in rows)
    return [
        Bar(text, f"{duration_text(total_s)}, {share_text(share)}", 100 * total_s / longest)
        for text, total_s, share in rows
    ]


def examined_spans(shapes: Iterable[ServedShape]) -> tuple[list[Span], list[tuple[float, str]]]:
    """What was examined for what was returned, for each shape that was explained; and the axis.

    Figures are per call. Zero lies at the left end; one step of the axis is a factor of ten.
    """
    rows: list[tuple[str, float, float, float | None]] = []
    for shape in shapes:
        before, after = shape.before, shape.after
        if before is None or not before.value_sets:
            continue
        rows.append(
            (
                shape.text,
                before.returned / before.value_sets,
                before.documents_examined / before.value_sets,
                None
                if after is None or not after.value_sets
                else after.documents_examined / after.value_sets,
            )
        )
    rows.sort(key=lambda row: row[1] - row[2])
    rows = rows[:_MAX_BARS]
    if not rows:
        return [], []
    largest = max(max(returned, examined, advised or 0) for _, returned, examined, advised in rows)
    decades = max(1, math.ceil(math.log10(max(largest, 10))))

    def place(value: float) -> float:
        return 0.0 if value < 1 else 100 * (math.log10(value) + 1) / (decades + 1)

    spans = []
    for label, returned, examined, advised in rows:
        text = f"{count_text(examined)} examined for {count_text(returned)} returned"
        if advised is not None and advised != examined:
            text += f", {count_text(advised)} with the advice"
        spans.append(
            Span(
                label,
                place(returned),
                place(examined),
                None if advised is None else place(advised),
                text,
            )
        )
    ticks = [(0.0, "0")]
    ticks += [(place(10.0**decade), _power(decade)) for decade in range(decades + 1)]
    return spans, ticks


def latency(shapes: Iterable[ServedShape]) -> Histogram | None:
    """The latencies of all calls of these shapes; None where none were counted."""
    counts: Counter[int] = Counter()
    for shape in shapes:
        for number, count in shape.bins:
            seconds = 2 * _G**number / (1 + _G)
            counts[math.floor(math.log10(seconds) * _COLUMNS_PER_DECADE)] += count
    if not counts:
        return None
    first, last = min(counts), max(counts)
    tallest = max(counts.values())
    total = counts.total()
    columns = []
    for number in range(first, last + 1):
        low, high = _edge(number), _edge(number + 1)
        count = counts[number]
        columns.append(
            Column(
                100 * count / tallest,
                f"{duration_text(low)} to {duration_text(high)}: {count:,} calls"
                f" ({share_text(count / total)})",
                _short(low) if number % _COLUMNS_PER_DECADE == 0 else "",
            )
        )
    quantiles = ", ".join(
        f"p{rank * 100:.0f} below {duration_text(_edge(_at_rank(counts, total, rank) + 1))}"
        for rank in (0.5, 0.95, 0.99)
    )
    return Histogram(tuple(columns), f"{total:,} calls: {quantiles}")


def _power(decade: int) -> str:
    """A power of ten, short enough for an axis."""
    thousands, rest = divmod(decade, 3)
    return f"{10**rest}{('', 'k', 'M', 'G')[thousands]}" if thousands < 4 else f"1e{decade}"


def _edge(number: int) -> float:
    return float(10 ** (number / _COLUMNS_PER_DECADE))


def _short(seconds: float) -> str:
    """A power of ten as `100 us`."""
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= unit * 0.999:
            return f"{seconds / unit:,.0f} {name}"
    return duration_text(seconds)


def _at_rank(counts: Counter[int], total: int, rank: float) -> int:
    passed = 0
    for number in sorted(counts):
        passed += counts[number]
        if passed >= rank * total:
            return number
    return max(counts)
