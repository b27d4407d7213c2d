"""`qbmongo profile FILE...`: profiles as a table or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .core.repeats import instead_of
from .core.shape_forms import printable, shape_details
from .core.shape_profiles import ShapeProfile
from .number_text import duration_text, moment_text
from .profiles import ProfileSnapshot, merge

__all__ = ["profile_table", "show"]


def show(paths: Sequence[str | PathLike[str]], as_json: bool, console: Console) -> None:
    """Print the profiles of one or several files as one, by total time.

    Args:
        paths: profile files, at least one.
        as_json: print the merged profile in the schema of its files instead of a table.
        console: where to print.

    Raises:
        ProfileFileError: a file cannot be read or is no profile; nothing was printed.
        ValueError: there is no path.
    """
    snapshot = merge([ProfileSnapshot.load(path) for path in paths])
    if as_json:
        text = snapshot.to_json()
        console.print(text, end="", markup=False, highlight=False, emoji=False, soft_wrap=True)
    else:
        console.print(profile_table(snapshot))
        for line in _notes(snapshot):
            console.print(escape(line))


def profile_table(snapshot: ProfileSnapshot, max_rows: int | None = None) -> Table:
    """The shapes of a snapshot as a table, longest total time first.

    Args:
        snapshot: as taken, loaded or merged.
        max_rows: shapes shown at most; None: all.
    """
    with_hits = any(row.hits.count for row in snapshot.shapes)
    with_errors = any(row.errors for row in snapshot.shapes)
    table = Table(title="Query shapes by total time", title_justify="left", show_lines=True)
    table.add_column("shape", overflow="fold", ratio=1)
    table.add_column("calls", justify="right", no_wrap=True)
    if with_errors:
        table.add_column("errors", justify="right", no_wrap=True)
    if with_hits:
        table.add_column("hits", justify="right", no_wrap=True)
    for name in ("docs", "total", "p50", "p95", "p99", "max", "slow"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = [*snapshot.shapes[:max_rows]]
    if snapshot.other is not None:
        rows.append(snapshot.other)
    for row in rows:
        latency = row.latency
        cells = [_shape_cell(row), f"{row.calls:,}"]
        if with_errors:
            cells.append(f"{row.errors:,}" if row.errors else "")
        if with_hits:
            cells.append(f"{row.hits.count:,}" if row.hits.count else "")
        cells.append(f"{row.documents:,}")
        cells += [
            duration_text(seconds) if row.calls else ""
            for seconds in (
                latency.total_s,
                latency.p50_s,
                latency.p95_s,
                latency.p99_s,
                latency.max_s,
            )
        ]
        cells.append(f"{row.slow_calls:,}" if row.slow_calls else "")
        table.add_row(*cells)
    return table


def _shape_cell(row: ShapeProfile) -> str:
    head = f"[bold]{escape(row.shape['operation'])}[/bold] {_shown(row.shape['namespace'])}"
    details = shape_details(row.shape)
    lines = [head, escape(details)] if details else [head]
    if row.rewritten:
        lines.append(f"[dim]{row.rewritten:,} rewritten[/dim]")
    if row.places:
        more = f" and {len(row.places) - 1} more" if len(row.places) > 1 else ""
        lines.append(f"[dim]{_shown(row.places[0][0])}{more}[/dim]")
    if row.repeats:
        lines.append(f"[yellow]again and again in one task[/yellow] at {_shown(row.repeats[0][0])}")
        instead = instead_of(row.shape)
        if instead is not None:
            lines.append(f"[yellow]instead:[/yellow] {_shown(instead)}")
    return "\n".join(lines)


def _shown(text: str) -> str:
    return escape(printable(text))


def _notes(snapshot: ProfileSnapshot) -> list[str]:
    span = f"{moment_text(snapshot.started_s)} to {moment_text(snapshot.taken_s)}"
    processes = "1 process" if snapshot.processes == 1 else f"{snapshot.processes} processes"
    counts = f"{len(snapshot.shapes):,} shapes, {snapshot.calls:,} calls"
    notes = [f"{counts}, {duration_text(snapshot.total_s)} in all; {processes}, {span} UTC"]
    if snapshot.other is not None:
        notes.append(
            f"{snapshot.other.calls:,} calls belong to shapes beyond max_shapes and are counted "
            "together"
        )
    return notes
