"""Profiles at rest: snapshots, their files, and merging those of several processes.

A file is one JSON object, `{"schema": 1, ...}`; docs/profile.md gives the schema in full. A file of
a newer schema is refused; unknown fields are ignored.
"""

from __future__ import annotations

import json
import os
import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .core.durations import RANKS, Scale
from .core.profile import Profile
from .core.repeats import instead_of
from .core.shape_forms import shape_id, shape_text
from .core.shape_profiles import Latency, ShapeProfile, SlowSample
from .errors import ProfileFileError
from .profile_fields import Fields, check_shape

__all__ = ["SCHEMA", "ProfileSnapshot", "merge", "sketch_scale"]

SCHEMA = 1
MAX_SAMPLES = 32  # slow samples kept per shape when snapshots are merged
MAX_PLACES = 16  # calling places likewise

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class ProfileSnapshot:
    """What profiles had recorded at one moment.

    shapes: by total time, longest first. other: calls of shapes beyond `max_shapes`, or None.
    started_s, taken_s: wall clock, seconds since the epoch; of a merged snapshot the earliest and
    the latest. processes: profiles that went into it.
    """

    shapes: tuple[ShapeProfile, ...]
    other: ShapeProfile | None
    started_s: float
    taken_s: float
    processes: int = 1

    @classmethod
    def take(cls, profile: Profile, now_s: float, wall_s: float) -> ProfileSnapshot:
        """The snapshot of a running profile.

        Args:
            profile: goes on recording.
            now_s: the time now on the clock that the profile's records are given.
            wall_s: the same instant, seconds since the epoch.
        """
        epoch_s = wall_s - now_s
        shapes, other = profile.snapshot(epoch_s)
        return cls(shapes, other, profile.start_s + epoch_s, wall_s)

    @property
    def calls(self) -> int:
        """Calls that went to the server, of all shapes."""
        return sum(row.calls for row in self._rows())

    @property
    def total_s(self) -> float:
        """Seconds waited for the server, by all calls together."""
        return sum(row.latency.total_s for row in self._rows())

    def _rows(self) -> tuple[ShapeProfile, ...]:
        return self.shapes if self.other is None else (*self.shapes, self.other)

    def as_dict(self) -> dict[str, Any]:
        """The content of the snapshot's file."""
        return {
            "schema": SCHEMA,
            "started_s": self.started_s,
            "taken_s": self.taken_s,
            "processes": self.processes,
            "shapes": [_row_as_dict(row) for row in self.shapes],
            "other": None if self.other is None else _row_as_dict(self.other),
        }

    def to_json(self) -> str:
        """The content of the snapshot's file as text, one line per shape."""
        content = self.as_dict()
        rows = [_dumps(row) for row in content.pop("shapes")]
        head = _dumps(content)
        shapes = "[\n" + ",\n".join(rows) + "\n]" if rows else "[]"
        return f'{head[:-1]},\n"shapes": {shapes}}}\n'

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the snapshot to a file, whole or not at all.

        Raises:
            OSError: the file cannot be written; a file that was there before is unchanged.
        """
        target = Path(path)
        text = self.to_json()
        part = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
        try:
            with part.open("x", encoding="utf-8", errors="surrogatepass") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ProfileSnapshot:
        """Read a snapshot from a file.

        Raises:
            ProfileFileError: the file cannot be read or is no profile; names file and field.
        """
        name = os.fspath(path)
        try:
            text = Path(path).read_bytes().decode("utf-8", "surrogatepass")
            content = json.loads(text, parse_constant=_refuse_constant)
        except OSError as error:
            raise ProfileFileError(f"{name}: cannot be read: {error.strerror or error}") from error
        except RecursionError as error:
            raise ProfileFileError(f"{name}: is nested too deeply") from error
        except ValueError as error:
            raise ProfileFileError(f"{name}: is no JSON file: {error}") from error
        return cls._from_fields(Fields(name, "", content))

    @classmethod
    def _from_fields(cls, fields: Fields) -> ProfileSnapshot:
        schema = fields.integer("schema")
        if schema > SCHEMA:
            raise fields.error(
                "schema", f"is {schema}, of a newer qbmongo; this one reads up to {SCHEMA}"
            )
        if schema < 1:
            raise fields.error("schema", f"is {schema}; allowed is 1 to {SCHEMA}")
        other = fields.get("other")
        return cls(
            shapes=tuple(_row_from_fields(row) for row in fields.objects("shapes")),
            other=None if other is None else _row_from_fields(fields.object("other")),
            started_s=fields.number("started_s"),
            taken_s=fields.number("taken_s"),
            processes=fields.integer("processes"),
        )


def sketch_scale() -> Scale:
    """The scale in which every profile counts its latencies; the library is loaded on demand."""
    from .quantiles import DDSketchScale

    return DDSketchScale()


def merge(snapshots: Iterable[ProfileSnapshot]) -> ProfileSnapshot:
    """One snapshot of several: equal shapes added up, quantiles computed anew from their bins.

    Args:
        snapshots: at least one.

    Raises:
        ValueError: there is no snapshot.
    """
    parts = list(snapshots)
    scale = sketch_scale()
    if not parts:
        raise ValueError("merge needs at least one snapshot")
    rows: dict[str, list[ShapeProfile]] = {}
    for part in parts:
        for row in part.shapes:
            rows.setdefault(shape_id(row.shape), []).append(row)
    merged = [_merge_rows(same, scale) for same in rows.values()]
    merged.sort(key=lambda row: row.latency.total_s, reverse=True)
    others = [part.other for part in parts if part.other is not None]
    return ProfileSnapshot(
        shapes=tuple(merged),
        other=_merge_rows(others, scale) if others else None,
        started_s=min(part.started_s for part in parts),
        taken_s=max(part.taken_s for part in parts),
        processes=sum(part.processes for part in parts),
    )


def _merge_rows(rows: list[ShapeProfile], scale: Scale) -> ShapeProfile:
    if len(rows) == 1:
        return rows[0]
    places: Counter[str] = Counter()
    repeats: Counter[str] = Counter()
    for row in rows:
        places.update(dict(row.places))
        repeats.update(dict(row.repeats))
    samples = sorted((s for row in rows for s in row.slow_samples), key=lambda s: s.at_s)
    return ShapeProfile(
        shape=rows[0].shape,
        calls=sum(row.calls for row in rows),
        errors=sum(row.errors for row in rows),
        documents=sum(row.documents for row in rows),
        bytes=sum(row.bytes for row in rows),
        getmores=sum(row.getmores for row in rows),
        rewritten=sum(row.rewritten for row in rows),
        slow_calls=sum(row.slow_calls for row in rows),
        first_seen_s=min(row.first_seen_s for row in rows),
        last_seen_s=max(row.last_seen_s for row in rows),
        latency=_merge_latencies([row.latency for row in rows], scale),
        hits=_merge_latencies([row.hits for row in rows], scale),
        slow_samples=tuple(samples[-MAX_SAMPLES:]),
        places=_most_frequent(places),
        repeats=_most_frequent(repeats),
    )


def _most_frequent(places: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(places.items(), key=lambda item: (-item[1], item[0]))[:MAX_PLACES])


def _merge_latencies(latencies: list[Latency], scale: Scale) -> Latency:
    bins: Counter[int] = Counter()
    for latency in latencies:
        bins.update(dict(latency.bins))
    p50_s, p95_s, p99_s = scale.quantiles(bins, RANKS)
    return Latency(
        count=sum(latency.count for latency in latencies),
        total_s=sum(latency.total_s for latency in latencies),
        max_s=max(latency.max_s for latency in latencies),
        p50_s=p50_s,
        p95_s=p95_s,
        p99_s=p99_s,
        bins=tuple(sorted(bins.items())),
    )


def _row_as_dict(row: ShapeProfile) -> dict[str, Any]:
    return {
        "id": shape_id(row.shape),
        "text": shape_text(row.shape),
        "shape": row.shape,
        "calls": row.calls,
        "errors": row.errors,
        "documents": row.documents,
        "bytes": row.bytes,
        "getmores": row.getmores,
        "rewritten": row.rewritten,
        "first_seen_s": row.first_seen_s,
        "last_seen_s": row.last_seen_s,
        "latency": _latency_as_dict(row.latency),
        "hits": _latency_as_dict(row.hits),
        "slow_calls": row.slow_calls,
        "slow_samples": [
            {
                "at_s": sample.at_s,
                "duration_s": sample.duration_s,
                "documents": sample.documents,
                "place": sample.place,
                "filter": sample.filter,
            }
            for sample in row.slow_samples
        ],
        "places": [{"place": place, "sampled": count} for place, count in row.places],
        "repeats": [{"place": place, "runs": count} for place, count in row.repeats],
        "instead": instead_of(row.shape) if row.repeats else None,
    }


def _latency_as_dict(latency: Latency) -> dict[str, Any]:
    return {
        "count": latency.count,
        "total_s": latency.total_s,
        "max_s": latency.max_s,
        "p50_s": latency.p50_s,
        "p95_s": latency.p95_s,
        "p99_s": latency.p99_s,
        "bins": [list(pair) for pair in latency.bins],
    }


def _row_from_fields(fields: Fields) -> ShapeProfile:
    calls = fields.integer("calls")
    latency = _latency_from_fields(fields.object("latency"))
    if latency.count != calls:
        raise fields.error("latency.count", f"is {latency.count}, but calls is {calls}")
    return ShapeProfile(
        shape=check_shape(fields.object("shape")),
        calls=calls,
        errors=fields.integer("errors"),
        documents=fields.integer("documents"),
        bytes=fields.integer("bytes"),
        getmores=fields.integer("getmores"),
        rewritten=fields.integer("rewritten"),
        slow_calls=fields.integer("slow_calls"),
        first_seen_s=fields.number("first_seen_s"),
        last_seen_s=fields.number("last_seen_s"),
        latency=latency,
        hits=_latency_from_fields(fields.object("hits")),
        slow_samples=tuple(
            SlowSample(
                at_s=sample.number("at_s"),
                duration_s=sample.number("duration_s", low=0),
                documents=sample.integer("documents"),
                place=sample.text_or_none("place"),
                filter=sample.text_or_none("filter"),
            )
            for sample in fields.objects("slow_samples")
        ),
        places=tuple(
            (place.text("place"), place.integer("sampled")) for place in fields.objects("places")
        ),
        repeats=tuple(
            (place.text("place"), place.integer("runs")) for place in fields.objects("repeats")
        )
        if "repeats" in fields
        else (),
    )


def _latency_from_fields(fields: Fields) -> Latency:
    count = fields.integer("count")
    bins = fields.bins("bins")
    if sum(n for _, n in bins) != count:
        raise fields.error(
            "bins", f"hold {sum(n for _, n in bins)} durations, but count is {count}"
        )
    return Latency(
        count=count,
        total_s=fields.number("total_s", low=0),
        max_s=fields.number("max_s", low=0),
        p50_s=fields.number("p50_s", low=0),
        p95_s=fields.number("p95_s", low=0),
        p99_s=fields.number("p99_s", low=0),
        bins=bins,
    )


def _dumps(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, allow_nan=False)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
