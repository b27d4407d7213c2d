"""Fields that the log and the profiler have in common -> one operation told.

Source: MongoDB manual, "Database Profiler Output"; "Log Messages", "Logging Slow Operations".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .gathering import ToldOperation

__all__ = ["told_operation"]

_RETURNED = ("nreturned", "nModified", "nMatched", "ndeleted", "ninserted", "nUpserted")
_REDACTED = "###"
_MAX_DEPTH = 12


def told_operation(
    namespace: Any,
    kind: Any,
    fields: Mapping[str, Any],
    duration_ms: Any,
    at_s: float,
) -> ToldOperation | None:
    """The operation that the fields tell of; None where they name no command.

    Args:
        namespace: as told.
        kind: the log's `type` or the profiler's `op`.
        fields: `command`, `originatingCommand`, `keysExamined`, `docsExamined`, ...
        duration_ms: milliseconds.
        at_s: wall clock.
    """
    command = fields.get("command", fields.get("query"))
    continues = False
    if isinstance(command, Mapping) and "getMore" in command:
        command, continues = fields.get("originatingCommand"), True
    if not isinstance(command, Mapping) or not isinstance(namespace, str) or not command:
        return None
    if "." not in namespace:
        return None
    returned = next((n for name in _RETURNED if (n := _count(fields.get(name)))), 0)
    keys, documents = fields.get("keysExamined"), fields.get("docsExamined")
    summary = fields.get("planSummary")
    return ToldOperation(
        namespace=namespace,
        command=command,
        kind=str(kind),
        duration_s=max(0.0, _number(duration_ms)) / 1_000,
        keys_examined=None if keys is None else _count(keys),
        documents_examined=None if documents is None else _count(documents),
        returned=returned,
        bytes=_count(fields.get("reslen", fields.get("responseLength"))),
        sorted_in_memory=bool(fields.get("hasSortStage")),
        plan_summary=summary if isinstance(summary, str) else None,
        at_s=at_s,
        failed=bool(fields.get("errCode") or fields.get("errName") or fields.get("errMsg")),
        continues=continues,
        redacted=_is_redacted(command, 0),
    )


def _number(value: Any) -> float:
    if isinstance(value, bool):
        return 0.0
    try:
        number = float(str(value))
    except ValueError:
        return 0.0
    return number if abs(number) < 1e15 else 0.0


def _count(value: Any) -> int:
    return max(0, int(_number(value)))


def _is_redacted(value: Any, depth: int) -> bool:
    """Whether log redaction has replaced values. Source: MongoDB manual, "Log Redaction"."""
    if value == _REDACTED:
        return True
    if depth >= _MAX_DEPTH:
        return False
    if isinstance(value, Mapping):
        return any(_is_redacted(item, depth + 1) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_is_redacted(item, depth + 1) for item in value[:100])
    return False
