"""Documents of `system.profile` -> shapes.

Source: MongoDB manual, "Database Profiler Output".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from ..core.durations import Scale
from ..profiles import sketch_scale
from .gathering import Gathering
from .records import WorkloadShape
from .told_fields import told_operation

__all__ = ["from_profiler"]


def from_profiler(
    documents: Iterable[Mapping[str, Any]], scale: Scale | None = None
) -> list[WorkloadShape]:
    """The shapes of profiled operations; what is no query is passed over.

    Args:
        documents: of `system.profile`, of any databases.
        scale: how durations are counted; None: as profiles do.
    """
    gathering = Gathering("system.profile", scale or sketch_scale())
    for document in documents:
        told = told_operation(
            document.get("ns"),
            document.get("op"),
            document,
            document.get("millis"),
            _time_s(document.get("ts")),
        )
        if told is not None:
            gathering.add(told)
    return gathering.shapes()


def _time_s(value: Any) -> float:
    if not isinstance(value, datetime):
        return 0.0
    aware = value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)
    return aware.timestamp()
