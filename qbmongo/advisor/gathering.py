"""Single operations that a server told of -> shapes of the workload."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.durations import RANKS, Scale
from ..core.shape_forms import shape_id, shape_text
from .command_shapes import command_shape, limit_and_skip
from .records import WorkloadShape

__all__ = ["Gathering", "ToldOperation"]

MAX_COMMANDS = 20  # whole commands kept per shape
MAX_SUMMARIES = 8
MAX_VALUES = 500  # limits and skips kept per shape
_FOLDED = 1_000
_SHORTEST_S = 1e-6
_OWN = ("admin.", "config.", "local.")


@dataclass(frozen=True, slots=True)
class ToldOperation:
    """One operation as a log or the profiler tells of it.

    namespace: as told. command: whole, or one statement of a write (kind "update", "remove"); for
    a getMore that of its cursor, with continues True. keys_examined, documents_examined: None
    where the source does not say. redacted: its values are not the real ones.
    """

    namespace: str
    command: Mapping[str, Any] = field(hash=False)
    kind: str = "command"
    duration_s: float = 0.0
    keys_examined: int | None = None
    documents_examined: int | None = None
    returned: int = 0
    bytes: int = 0
    sorted_in_memory: bool = False
    plan_summary: str | None = None
    at_s: float = 0.0
    failed: bool = False
    continues: bool = False
    redacted: bool = False


class _Row:
    """What was told of one shape."""

    def __init__(self, shape: dict[str, Any], scale: Scale) -> None:
        self.shape = shape
        self.scale = scale
        self.bins: Counter[int] = Counter()
        self.calls = self.errors = self.getmores = 0
        self.total_s = self.max_s = 0.0
        self.durations: list[float] = []
        self.documents = self.bytes = 0
        self.examined_calls = self.keys = self.documents_examined = self.examined_returned = 0
        self.sorted_in_memory = 0
        self.summaries: Counter[str] = Counter()
        self.commands: list[Mapping[str, Any]] = []
        self.limits: Counter[int] = Counter()
        self.skips: Counter[int] = Counter()
        self.first_s = self.last_s = 0.0

    def add(self, told: ToldOperation) -> None:
        self.total_s += told.duration_s
        self.documents += told.returned
        self.bytes += told.bytes
        self.first_s = min(self.first_s or told.at_s, told.at_s)
        self.last_s = max(self.last_s, told.at_s)
        if told.continues:
            self.getmores += 1
        else:
            self.calls += 1
            self.errors += told.failed
            self.max_s = max(self.max_s, told.duration_s)
            self.durations.append(max(told.duration_s, _SHORTEST_S))
            if len(self.durations) >= _FOLDED:
                self.fold()
            limit, skip = limit_and_skip(told.command)
            _count(self.limits, limit)
            _count(self.skips, skip)
            if not told.redacted and len(self.commands) < MAX_COMMANDS:
                self.commands.append(told.command)
        if told.plan_summary:
            self.summaries[told.plan_summary] += 1
        if told.keys_examined is not None or told.documents_examined is not None:
            self.examined_calls += not told.continues
            self.keys += told.keys_examined or 0
            self.documents_examined += told.documents_examined or 0
            self.examined_returned += told.returned
            self.sorted_in_memory += told.sorted_in_memory

    def fold(self) -> None:
        """Durations -> bins."""
        self.bins.update(self.scale.bins_of(self.durations))
        self.durations.clear()


def _count(seen: Counter[int], value: int) -> None:
    if value and (value in seen or len(seen) < MAX_VALUES):
        seen[value] += 1


def _listed(seen: Counter[int]) -> tuple[int, ...]:
    """The values seen, each as often as it was in proportion, at most MAX_VALUES and a few."""
    total = sum(seen.values())
    part = min(1.0, MAX_VALUES / total) if total else 1.0
    return tuple(value for value in sorted(seen) for _ in range(max(1, round(seen[value] * part))))


class Gathering:
    """Adds operations up by shape.

    Args:
        source: name of the source, as the report shows it.
        scale: how durations are counted.
    """

    def __init__(self, source: str, scale: Scale) -> None:
        self._source = source
        self._scale = scale
        self._rows: dict[str, _Row] = {}

    def add(self, told: ToldOperation) -> bool:
        """Add one operation; False where it is no query of a user's collection."""
        shape = command_shape(told.namespace, told.command, told.kind)
        if shape is None or not _is_users(shape["namespace"]):
            return False
        self._rows.setdefault(shape_id(shape), _Row(shape, self._scale)).add(told)
        return True

    def shapes(self) -> list[WorkloadShape]:
        """The shapes, by total time, longest first."""
        found = [self._shape(name, row) for name, row in self._rows.items()]
        found.sort(key=lambda shape: (-shape.total_s, shape.id))
        return found

    def _shape(self, name: str, row: _Row) -> WorkloadShape:
        row.fold()
        p50_s, p95_s, p99_s = self._scale.quantiles(row.bins, RANKS)
        return WorkloadShape(
            id=name,
            shape=row.shape,
            text=shape_text(row.shape),
            calls=row.calls,
            errors=row.errors,
            total_s=row.total_s,
            max_s=row.max_s,
            p50_s=p50_s,
            p95_s=p95_s,
            p99_s=p99_s,
            bins=tuple(sorted(row.bins.items())),
            documents=row.documents,
            bytes=row.bytes,
            getmores=row.getmores,
            slow_calls=row.calls,
            examined_calls=row.examined_calls,
            keys_examined=row.keys,
            documents_examined=row.documents_examined,
            examined_returned=row.examined_returned,
            sorted_in_memory=row.sorted_in_memory,
            plan_summaries=tuple(s for s, _ in row.summaries.most_common(MAX_SUMMARIES)),
            commands=tuple(row.commands),
            limits=_listed(row.limits),
            skips=_listed(row.skips),
            first_seen_s=row.first_s,
            last_seen_s=row.last_s,
            sources=(self._source,),
        )


def _is_users(namespace: str) -> bool:
    return not namespace.startswith(_OWN) and ".system." not in f".{namespace.partition('.')[2]}"
