"""The report as one HTML page that needs nothing else: no network, no further file."""

from __future__ import annotations

from importlib import resources
from typing import Any

from ..errors import QbError
from ..number_text import bytes_text, count_text, duration_text, share_text
from . import charts, wording
from .report import Report

__all__ = ["render"]

_WASTEFUL = 10  # documents examined for each one returned


def render(report: Report) -> str:
    """The report as a page: light and dark, readable on a phone, tables that can be sorted.

    Raises:
        QbError: jinja2 is not installed; the message says how to install it.
    """
    try:
        import jinja2
    except ImportError as error:
        raise QbError("--format html needs jinja2: pip install 'qbmongo[advisor]'") from error
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(
        bytes=bytes_text, count=count_text, duration=duration_text, share=share_text
    )
    source = resources.files(__package__) / "templates" / "report.html.j2"
    template = environment.from_string(source.read_text(encoding="utf-8"))
    return template.render(_page(report)) + "\n"


def _page(report: Report) -> dict[str, Any]:
    spans, ticks = charts.examined_spans(report.workload)
    return {
        "report": report,
        "wording": wording,
        "summary": wording.summary(report),
        "inputs": wording.inputs_lines(report.inputs),
        "bars": charts.time_bars(report.workload),
        "spans": spans,
        "ticks": ticks,
        "latency": charts.latency(report.workload),
        "shape_latency": {shape.id: charts.latency([shape]) for shape in report.workload},
        "saved_s": sum(
            item.saved_s for item in report.recommendations if item.action in ("create", "unhide")
        ),
        "wasteful": _WASTEFUL,
    }
