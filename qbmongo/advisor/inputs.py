"""Profiles -> shapes of the workload, and workloads of several sources as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bson import json_util
from bson.codec_options import DatetimeConversion
from bson.errors import BSONError

from ..core.durations import RANKS
from ..core.shape_forms import shape_id, shape_text
from ..core.shape_profiles import ShapeProfile
from ..profiles import ProfileSnapshot, sketch_scale
from .records import WorkloadShape

__all__ = ["from_snapshot", "merge_workloads"]

_OPTIONS = json_util.JSONOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO)
MAX_KEPT = 40  # commands, filters and places kept per shape


def from_snapshot(snapshot: ProfileSnapshot) -> list[WorkloadShape]:
    """The shapes of a profile, by total time. Calls beyond its `max_shapes` have none."""
    return [_from_row(row) for row in snapshot.shapes]


def _from_row(row: ShapeProfile) -> WorkloadShape:
    latency = row.latency
    filters = tuple(
        value
        for sample in row.slow_samples
        if sample.filter is not None and (value := _parsed(sample.filter)) is not None
    )
    return WorkloadShape(
        id=shape_id(row.shape),
        shape=row.shape,
        text=shape_text(row.shape),
        calls=row.calls,
        errors=row.errors,
        total_s=latency.total_s,
        max_s=latency.max_s,
        p50_s=latency.p50_s,
        p95_s=latency.p95_s,
        p99_s=latency.p99_s,
        bins=latency.bins,
        documents=row.documents,
        bytes=row.bytes,
        getmores=row.getmores,
        slow_calls=row.slow_calls,
        filters=filters,
        places=row.places,
        # Only profiles that look for runs have them.
        repeats=tuple(getattr(row, "repeats", ())),
        first_seen_s=row.first_seen_s,
        last_seen_s=row.last_seen_s,
        sources=("profile",),
    )


def _parsed(text: str) -> Any:
    """A filter kept by a slow sample; None where it was cut (docs/profile.md)."""
    if "..." in text:
        return None
    try:
        return json_util.loads(text, json_options=_OPTIONS)
    except (ValueError, TypeError, LookupError, RecursionError, ArithmeticError, BSONError):
        return None


def merge_workloads(*workloads: Iterable[WorkloadShape]) -> list[WorkloadShape]:
    """The shapes of several sources, equal ones added up, by total time.

    The same call may be told of by a profile and by a log. So where a profile has the shape, its
    calls and times count, and of the others only what a profile cannot know: what was examined,
    plans, and values.
    """
    found: dict[str, list[WorkloadShape]] = {}
    for workload in workloads:
        for shape in workload:
            found.setdefault(shape.id, []).append(shape)
    merged = [_merged(rows) for rows in found.values()]
    merged.sort(key=lambda shape: (-shape.total_s, shape.id))
    return merged


def _merged(rows: Sequence[WorkloadShape]) -> WorkloadShape:
    if len(rows) == 1:
        return rows[0]
    counted = [row for row in rows if "profile" in row.sources] or list(rows)
    bins: Counter[int] = Counter()
    places: Counter[str] = Counter()
    for row in counted:
        bins.update(dict(row.bins))
        places.update(dict(row.places))
    p50_s, p95_s, p99_s = sketch_scale().quantiles(bins, RANKS)
    seen = [row.first_seen_s for row in rows if row.first_seen_s]
    repeats: Counter[str] = Counter()
    for row in rows:
        repeats.update(dict(row.repeats))
    return replace(
        rows[0],
        calls=sum(row.calls for row in counted),
        errors=sum(row.errors for row in counted),
        total_s=sum(row.total_s for row in counted),
        max_s=max(row.max_s for row in counted),
        p50_s=p50_s,
        p95_s=p95_s,
        p99_s=p99_s,
        bins=tuple(sorted(bins.items())),
        documents=sum(row.documents for row in counted),
        bytes=sum(row.bytes for row in counted),
        getmores=sum(row.getmores for row in counted),
        slow_calls=sum(row.slow_calls for row in counted),
        examined_calls=sum(row.examined_calls for row in rows),
        keys_examined=sum(row.keys_examined for row in rows),
        documents_examined=sum(row.documents_examined for row in rows),
        examined_returned=sum(row.examined_returned for row in rows),
        sorted_in_memory=sum(row.sorted_in_memory for row in rows),
        plan_summaries=_distinct(s for row in rows for s in row.plan_summaries),
        commands=tuple(c for row in rows for c in row.commands)[:MAX_KEPT],
        filters=tuple(f for row in rows for f in row.filters)[:MAX_KEPT],
        limits=tuple(sorted(limit for row in rows for limit in row.limits)),
        skips=tuple(sorted(skip for row in rows for skip in row.skips)),
        places=_most_frequent(places),
        first_seen_s=min(seen, default=0.0),
        last_seen_s=max(row.last_seen_s for row in rows),
        sources=_distinct(source for row in rows for source in row.sources),
        repeats=_most_frequent(repeats),
    )


def _most_frequent(places: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(places.items(), key=lambda p: (-p[1], p[0]))[:MAX_KEPT])


def _distinct(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))
