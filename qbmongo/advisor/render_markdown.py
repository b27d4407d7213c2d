"""The report as Markdown, for a pull request or an issue."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..number_text import count_text, duration_text, share_text
from .report import Finding, Recommendation, Report, ServedShape
from .wording import (
    heading,
    index_text,
    inputs_lines,
    plan_text,
    sample_note,
    summary,
    verified_text,
    write_cost_text,
)

__all__ = ["render"]


def render(report: Report) -> str:
    """The report as GitHub-flavoured Markdown."""
    return "\n".join(_lines(report)).rstrip() + "\n"


def _lines(report: Report) -> Iterable[str]:
    yield "# Index advice"
    yield ""
    yield _plain(summary(report))
    if report.recommendations:
        yield ""
        yield "| # | severity | what | saves | documents examined a call | tried |"
        yield "|---:|---|---|---:|---:|---|"
        for number, item in enumerate(report.recommendations, 1):
            yield _overview_row(number, item)
        note = sample_note(report)
        if note is not None:
            yield ""
            yield note
        for number, item in enumerate(report.recommendations, 1):
            yield ""
            yield from _recommendation(number, item)
    if report.findings:
        yield ""
        yield "## What no index will save"
        for finding in report.findings:
            yield ""
            yield from _finding(finding)
    if report.tried_and_rejected:
        yield ""
        yield "## Tried or considered, and not recommended"
        yield ""
        for rejected in report.tried_and_rejected:
            spec = rejected.candidate.spec
            yield (
                f"- {_code(index_text(spec))} on {_code(spec.namespace)}: {_plain(rejected.reason)}"
            )
    yield ""
    yield "## What was read"
    yield ""
    for line in inputs_lines(report.inputs):
        yield f"- {_plain(line)}"


def _overview_row(number: int, item: Recommendation) -> str:
    examined = ""
    if item.before is not None and item.after is not None:
        before, after = item.before.documents_examined, item.after.documents_examined
        examined = f"{count_text(before)} to {count_text(after)}"
    saves = duration_text(item.saved_s) if item.saved_s > 0 else ""
    cells = (
        str(number),
        item.severity,
        _cell(_code(heading(item))),
        saves,
        examined,
        verified_text(item),
    )
    return f"| {' | '.join(cells)} |"


def _recommendation(number: int, item: Recommendation) -> Iterable[str]:
    yield f"## {number}. {_code(heading(item))}"
    yield ""
    yield f"{_plain(item.why)} ({item.severity}, {verified_text(item)})"
    if item.before is not None and item.after is not None:
        before, after = item.before, item.after
        yield ""
        yield "| a call | before | after |"
        yield "|---|---:|---:|"
        for name, old, new in (
            (
                "documents examined",
                count_text(before.documents_examined),
                count_text(after.documents_examined),
            ),
            ("keys examined", count_text(before.keys_examined), count_text(after.keys_examined)),
            ("sorted in memory", _yes(before.sorted_in_memory), _yes(after.sorted_in_memory)),
            ("plan", plan_text(before.stages), plan_text(after.stages)),
            (
                "estimated time of all calls",
                duration_text(before.estimated_s),
                duration_text(after.estimated_s),
            ),
        ):
            yield f"| {name} | {_cell(old)} | {_cell(new)} |"
    cost = write_cost_text(item)
    if cost is not None:
        yield ""
        yield f"Costs: {_plain(cost)}."
    yield from _shapes(item.shapes)
    yield from _places(item.places)
    if item.steps:
        yield ""
        for position, step in enumerate(item.steps, 1):
            yield f"{position}. {_plain(step)}"
    for title, language, text in (
        ("mongosh", "js", item.mongosh),
        ("PyMongo", "python", item.pymongo),
        ("To undo it", "js", item.rollback_mongosh),
    ):
        if text:
            yield ""
            yield f"{title}:"
            yield ""
            yield from _block(language, text)


def _finding(finding: Finding) -> Iterable[str]:
    yield f"- **{finding.severity}**: {_plain(finding.text)} {_plain(finding.remedy)}"
    for shape in finding.shapes:
        yield f"  - {_code(shape.text)}"
    if finding.places:
        yield "  - called at " + ", ".join(_code(place) for place, _ in finding.places)


def _shapes(shapes: Sequence[ServedShape]) -> Iterable[str]:
    if not shapes:
        return
    yield ""
    yield "| shape | calls | share of the time | documents examined, in all value sets |"
    yield "|---|---:|---:|---:|"
    for shape in shapes:
        examined = ""
        if shape.before is not None and shape.after is not None:
            before, after = shape.before.documents_examined, shape.after.documents_examined
            examined = f"{before:,} to {after:,}"
        cells = (_cell(_code(shape.text)), f"{shape.calls:,}", share_text(shape.share), examined)
        yield f"| {' | '.join(cells)} |"


def _places(places: Sequence[tuple[str, int]]) -> Iterable[str]:
    if places:
        yield ""
        yield "Called at " + ", ".join(_code(place) for place, _ in places) + "."


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _code(text: str) -> str:
    """A code span that holds any text on one line.

    Source: CommonMark, "Code spans": the fence is longer than every run of backticks inside.
    """
    text = " ".join(text.split())
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if text[:1] == "`" or text[-1:] == "`" else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _block(language: str, text: str) -> Iterable[str]:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    yield fence + language
    yield text
    yield fence


def _cell(text: str) -> str:
    """Text inside a table's row, where a bar ends the cell even in a code span."""
    return text.replace("|", "\\|").replace("\n", " ")


def _plain(text: str) -> str:
    """Running text that says what it says: nothing in it is markup."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split()))
