"""A report in the form asked for."""

from __future__ import annotations

import json
from typing import Literal

from .report import Report

__all__ = ["FORMATS", "Format", "render"]

Format = Literal["table", "json", "markdown", "html"]

FORMATS: tuple[Format, ...] = ("table", "json", "markdown", "html")


def render(report: Report, form: Format, *, width: int = 120, color: bool = False) -> str:
    """A report as text.

    Args:
        form: table for a terminal, json (docs/advisor.md gives the schema), markdown for a pull
            request, html for one page that needs nothing else.
        width: of the table, in characters. color: with a terminal's control sequences.

    Raises:
        QbError: html without the extra that makes it.
    """
    if form == "json":
        return json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n"
    if form == "markdown":
        from . import render_markdown

        return render_markdown.render(report)
    if form == "html":
        from . import render_html

        return render_html.render(report)
    from . import render_table

    return render_table.render(report, width, color=color)
