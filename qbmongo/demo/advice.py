"""The advisor's part in the demo: advice on what was just played, written, and carried out."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..advisor.index_commands import creation_options
from ..advisor.render import Format, render
from ..advisor.report import Report
from ..errors import QbError
from .arms import Arm
from .operations import KINDS
from .replay import Tally
from .table import compared, quantile, rate

__all__ = ["advice", "create_advised", "gains", "show_advice"]

FILE_NAME = "qbmongo-demo-advice"
_FORMS: tuple[tuple[Format, str], ...] = (("html", ".html"), ("json", ".json"))


async def advice(arm: Arm) -> Report | None:
    """What the advisor says of the arm's workload; None where no profile was kept."""
    try:
        if arm.handle is None or not arm.handle.profile().shapes:
            return None
    except QbError:  # Switched off by the environment.
        return None
    asked = arm.handle.advise([arm.database_name])
    report: Report = await asked if inspect.isawaitable(asked) else asked
    return report


def show_advice(report: Report, folder: Path, console: Console, status: Console) -> None:
    """Print the report, and write it as a page and as JSON into a folder."""
    console.print()
    text = render(report, "table", width=console.width, color=False)
    console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
    for form, ending in _FORMS:
        path = folder / (FILE_NAME + ending)
        try:
            path.write_text(render(report, form), encoding="utf-8")
        except OSError as error:
            status.print(f"{path} was not written: {error.strerror or error}", markup=False)
        else:
            status.print(f"the report was written to {path}", style="dim", markup=False)


def create_advised(report: Report, databases: Sequence[Any]) -> int:
    """Create in each database the indexes that are recommended. Returns how many.

    Args:
        report: of a database with the same collections.
        databases: of the synchronous driver.
    """
    specs = [item.spec for item in report.recommendations if item.action == "create"]
    for database in databases:
        for spec in specs:
            name = spec.namespace.partition(".")[2]
            database[name].create_index(list(spec.keys), **creation_options(spec, None))
    return len(specs)


def gains(before: tuple[Tally, Tally], after: tuple[Tally, Tally], names: Sequence[str]) -> Table:
    """What the advised indexes changed, for both arms: rates and medians before and after.

    Args:
        before, after: tallies of the plain arm and of ours.
        names: what to call the two arms.
    """
    table = Table(title="What the advised indexes changed", title_justify="left")
    table.add_column("")
    for text in ("no index", "advised", "ratio"):
        table.add_column(text, justify="right")
    table.add_column("with the indexes it is")
    for position, name in enumerate(names):
        old, new = before[position], after[position]
        table.add_row(
            f"{name}: operations per second",
            *compared(rate(old), rate(new), "{:,.0f}", "faster", "slower", more_is_better=True),
        )
        for kind in KINDS:
            values = [quantile(tally.latencies_ns[kind], 50) / 1000 for tally in (old, new)]
            table.add_row(
                f"{name}: {kind}, p50",
                *compared(values[0], values[1], "{:,.0f} us", "faster", "slower"),
                end_section=kind == KINDS[-1],
            )
    return table
