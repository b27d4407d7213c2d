"""The report for a terminal."""

from __future__ import annotations

import io
from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from ..core.shape_forms import printable
from ..number_text import count_text, duration_text, share_text
from .report import Finding, Recommendation, Rejected, Report, ServedShape
from .wording import (
    heading,
    index_text,
    inputs_lines,
    plan_text,
    sample_note,
    state_text,
    summary,
    verified_text,
    write_cost_text,
)

__all__ = ["render"]

_COLOURS = {"high": "red", "medium": "yellow", "low": "cyan"}
_MAX_SHAPES = 5
_MAX_REJECTED = 10


def render(report: Report, width: int = 120, *, color: bool = False) -> str:
    """The report as text.

    Args:
        report: the advice.
        width: columns of the terminal.
        color: with the control sequences of a colour terminal.
    """
    console = Console(
        file=io.StringIO(), width=width, force_terminal=color, no_color=not color, highlight=False
    )
    with console.capture() as captured:
        console.print(Group(*_parts(report)))
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def _parts(report: Report) -> Iterable[RenderableType]:
    yield f"[bold]Index advice[/bold]  {_shown(summary(report))}"
    if report.recommendations:
        yield ""
        yield _overview(report.recommendations)
        note = sample_note(report)
        if note is not None:
            yield f"[dim]{note}[/dim]"
        for number, item in enumerate(report.recommendations, 1):
            yield ""
            yield from _recommendation(number, item)
    if report.findings:
        yield ""
        yield "[bold]What no index will save[/bold]"
        for finding in report.findings:
            yield from _finding(finding)
    if report.tried_and_rejected:
        yield ""
        yield "[bold]Tried or considered, and not recommended[/bold]"
        for rejected in report.tried_and_rejected[:_MAX_REJECTED]:
            yield _indented(_rejected(rejected))
        rest = len(report.tried_and_rejected) - _MAX_REJECTED
        if rest > 0:
            yield _indented(f"and {rest} more (--format json lists all)")
    yield ""
    yield "[bold]What was read[/bold]"
    for line in inputs_lines(report.inputs):
        yield _indented(_shown(line))


def _overview(items: Iterable[Recommendation]) -> Table:
    table = Table(show_lines=False, title_justify="left")
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("severity", no_wrap=True)
    table.add_column("what", overflow="fold", ratio=1)
    table.add_column("saves", justify="right", no_wrap=True)
    table.add_column("documents examined a call", justify="right")
    table.add_column("tried", no_wrap=True)
    for number, item in enumerate(items, 1):
        colour = _COLOURS[item.severity]
        examined = ""
        if item.before is not None and item.after is not None:
            before, after = item.before.documents_examined, item.after.documents_examined
            examined = f"{count_text(before)} to {count_text(after)}"
        table.add_row(
            str(number),
            f"[{colour}]{item.severity}[/{colour}]",
            _shown(heading(item)),
            duration_text(item.saved_s) if item.saved_s > 0 else "",
            examined,
            verified_text(item),
        )
    return table


def _recommendation(number: int, item: Recommendation) -> Iterable[RenderableType]:
    yield f"[bold]{number}. {_shown(heading(item))}[/bold]"
    yield _indented(_shown(item.why))
    if item.before is not None and item.after is not None:
        yield _indented(
            f"a call: {_shown(state_text(item.before))} -> {_shown(state_text(item.after))}"
        )
        if item.before.stages or item.after.stages:
            yield _indented(
                f"plan: {_shown(plan_text(item.before.stages))}"
                f" -> {_shown(plan_text(item.after.stages))}"
            )
    cost = write_cost_text(item)
    if cost is not None:
        yield _indented(f"costs: {_shown(cost)}")
    yield from _shapes(item.shapes)
    if item.places:
        yield _indented("called at " + _shown(", ".join(place for place, _ in item.places)))
    for step in item.steps:
        yield _indented(f"- {_shown(step)}")
    if item.mongosh:
        yield _indented(f"mongosh: {_shown(item.mongosh)}")
    if item.pymongo:
        yield _indented(f"PyMongo: {_shown(item.pymongo)}")
    if item.rollback_mongosh:
        yield _indented(f"undo:    {_shown(item.rollback_mongosh)}")


def _shapes(shapes: tuple[ServedShape, ...]) -> Iterable[RenderableType]:
    for shape in shapes[:_MAX_SHAPES]:
        yield _indented(
            f"{share_text(shape.share)} of the time, {shape.calls:,} calls: {_shown(shape.text)}"
        )
    if len(shapes) > _MAX_SHAPES:
        yield _indented(f"and {len(shapes) - _MAX_SHAPES} more shapes")


def _finding(finding: Finding) -> Iterable[RenderableType]:
    colour = _COLOURS[finding.severity]
    yield _indented(f"[{colour}]{finding.severity}[/{colour}] {_shown(finding.text)}")
    yield Padding(f"-> {_shown(finding.remedy)}", (0, 0, 0, 4))
    for shape in finding.shapes[:_MAX_SHAPES]:
        yield Padding(_shown(shape.text), (0, 0, 0, 4))
    if finding.places:
        places = ", ".join(place for place, _ in finding.places)
        yield Padding(f"called at {_shown(places)}", (0, 0, 0, 4))


def _rejected(rejected: Rejected) -> str:
    spec = rejected.candidate.spec
    return f"{_shown(index_text(spec))} on {_shown(spec.namespace)}: {_shown(rejected.reason)}"


def _indented(text: str) -> Padding:
    return Padding(text, (0, 0, 0, 2))


def _shown(text: str) -> str:
    """A text as it is, whatever names it holds: no markup, and nothing that steers a terminal."""
    return escape("\n".join(map(printable, text.split("\n"))))
