"""How a report is put into words: the same in the table, in Markdown and in HTML."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..core.shape_forms import printable
from ..number_text import bytes_text, count_text, duration_text, moment_text, share_text
from .index_documents import index_options, keys_text, readable_value
from .records import IndexSpec
from .report import Figures, Inputs, Recommendation, Report

__all__ = [
    "ACTIONS",
    "change_text",
    "heading",
    "index_text",
    "inputs_lines",
    "plan_text",
    "sample_note",
    "state_text",
    "summary",
    "verified_text",
    "write_cost_text",
]

ACTIONS = {"create": "Create", "unhide": "Unhide", "hide": "Hide", "drop": "Drop"}


def index_text(spec: IndexSpec) -> str:
    """An index as one line: `{a: 1, b: -1} unique, partialFilterExpression {...}`."""
    options = []
    for name, value in index_options(spec).items():
        if value is True:
            options.append(name)
        else:
            options.append(f"{name} {json.dumps(readable_value(value))}")
    return printable(" ".join([keys_text(spec.keys), ", ".join(options)]).rstrip())


def heading(item: Recommendation) -> str:
    """What is to be done, as one line."""
    name = f" ({item.spec.name})" if item.spec.name and item.action != "create" else ""
    what = f"{index_text(item.spec)}{name} on {item.spec.namespace}"
    return f"{ACTIONS[item.action]} index {printable(what)}"


def verified_text(item: Recommendation) -> str:
    """Whether it was tried."""
    return "verified" if item.verified else "not verified"


def plan_text(stages: Sequence[str]) -> str:
    """A plan's stages from the data up: `IXSCAN > FETCH > SORT`."""
    return " > ".join(reversed(stages)) if stages else "unknown"


def change_text(before: float, after: float) -> str:
    """Two figures and what became of the first: `12,000 to 20`."""
    return f"{count_text(before)} to {count_text(after)}"


def state_text(figures: Figures) -> str:
    """What a call examines, as one line."""
    parts = [
        f"{count_text(figures.documents_examined)} documents",
        f"{count_text(figures.keys_examined)} keys",
    ]
    if figures.sorted_in_memory:
        parts.append("sorted in memory")
    return ", ".join(parts)


def write_cost_text(item: Recommendation) -> str | None:
    """Size and price of the index for writes; None where nothing is known."""
    parts = []
    if item.size_bytes is not None:
        parts.append(f"about {bytes_text(item.size_bytes)}")
    before, after = item.insert_us_before, item.insert_us_after
    if before is not None and after is not None:
        parts.append(f"an insert takes {before:,.0f} us without it and {after:,.0f} us with it")
    return ", ".join(parts) or None


def summary(report: Report) -> str:
    """The report in one sentence."""
    recommendations = report.recommendations
    if not recommendations and not report.findings:
        return "Nothing to do: no index to create or to drop, and no other finding."
    counts = [
        (sum(item.action == action for item in recommendations), noun)
        for action, noun in (
            ("create", "to create"),
            ("unhide", "to unhide"),
            ("hide", "to hide"),
            ("drop", "to drop"),
        )
    ]
    parts = [f"{count} {noun}" for count, noun in counts if count]
    text = f"Indexes: {', '.join(parts)}." if parts else "No index to create or to drop."
    saved_s = sum(item.saved_s for item in recommendations if item.action in ("create", "unhide"))
    if saved_s > 0 and report.inputs.total_s > 0:
        share = share_text(min(saved_s / report.inputs.total_s, 1.0))
        text += (
            f" Estimated to save {duration_text(saved_s)} of {duration_text(report.inputs.total_s)}"
            f" waited for the server ({share})."
        )
    if report.findings:
        count = len(report.findings)
        text += f" {count} other finding{'' if count == 1 else 's'}."
    return text


def sample_note(report: Report) -> str | None:
    """What the figures of trials are figures of; None where nothing was tried."""
    if not any(item.before is not None for item in report.recommendations):
        return None
    return (
        "Documents and keys examined are those on the sample that was tried; a plan that reads the"
        " whole collection examines as many more there as the collection is larger."
    )


def inputs_lines(inputs: Inputs) -> list[str]:
    """What was read, and on what it was verified, one line each."""
    lines = list(inputs.sources)
    if inputs.shapes:
        lines.append(
            f"{inputs.shapes:,} query shapes, {inputs.calls:,} calls,"
            f" {duration_text(inputs.total_s)} in all"
        )
    if inputs.ended_s:
        lines.append(f"{moment_text(inputs.started_s)} to {moment_text(inputs.ended_s)} UTC")
    if inputs.sampled_documents:
        lines.append(f"{inputs.sampled_documents:,} documents sampled")
    if inputs.members:
        lines.append("index use as counted by " + ", ".join(inputs.members))
    if inputs.where is not None:
        lines.append(f"verified on {inputs.where}")
    elif inputs.why_not is not None:
        lines.append(f"not verified: {inputs.why_not}")
    lines += inputs.notes
    if inputs.elapsed_s:
        lines.append(f"took {duration_text(inputs.elapsed_s)}")
    return lines
