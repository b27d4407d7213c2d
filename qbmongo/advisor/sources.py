"""Where a workload comes from: running profiles, their files, logs of servers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import AdvisorInputError
from ..profiles import ProfileSnapshot
from .inputs import from_snapshot
from .records import WorkloadShape

__all__ = ["Source", "log_source", "profile_source", "seen_between", "snapshot_source"]

FilePath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Source:
    """A part of the workload. name: one line for the report. Times: wall clock, None: unknown."""

    name: str
    shapes: Sequence[WorkloadShape]
    started_s: float | None = None
    ended_s: float | None = None


def snapshot_source(snapshot: ProfileSnapshot, name: str) -> Source:
    """A profile that is at hand."""
    named = f"{name}, {snapshot.calls:,} calls"
    return Source(named, from_snapshot(snapshot), snapshot.started_s, snapshot.taken_s)


def profile_source(path: FilePath) -> Source:
    """A saved profile.

    Raises:
        ProfileFileError: it cannot be read.
    """
    return snapshot_source(ProfileSnapshot.load(path), f"profile {os.fspath(path)}")


def log_source(path: FilePath) -> Source:
    """A mongod's JSON log.

    Raises:
        AdvisorInputError: it cannot be read, or is no such log.
    """
    from .server_log import from_log

    shown = os.fspath(path)
    try:
        with Path(path).open("rb") as lines:
            read = from_log(lines)
    except OSError as error:
        raise AdvisorInputError(f"{shown}: cannot be read: {error.strerror or error}") from error
    if read.lines and read.skipped == read.lines:
        raise AdvisorInputError(f"{shown}: is no JSON log of a mongod")
    name = f"log {shown}, {read.slow:,} slow queries in {read.lines:,} lines"
    return Source(name, read.shapes, *seen_between(read.shapes))


def seen_between(shapes: Iterable[WorkloadShape]) -> tuple[float | None, float | None]:
    """When shapes were seen first and last, wall clock; None where nobody knows."""
    times = [t for shape in shapes for t in (shape.first_seen_s, shape.last_seen_s) if t]
    return min(times, default=None), max(times, default=None)
