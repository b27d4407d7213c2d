"""A mongod's JSON log -> shapes of its slow queries.

Source: MongoDB manual, "Log Messages", "Structured Logging" and "Logging Slow Operations".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import json_util
from bson.codec_options import DatetimeConversion
from bson.errors import BSONError

from ..core.durations import Scale
from ..profiles import sketch_scale
from .gathering import Gathering
from .records import WorkloadShape
from .told_fields import told_operation

__all__ = ["LogRead", "from_log"]

_COMPONENTS = frozenset({"COMMAND", "WRITE", "QUERY"})
_MAX_LINE = 1_000_000
_OPTIONS = json_util.JSONOptions(
    tz_aware=False, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


@dataclass(frozen=True, slots=True)
class LogRead:
    """What a log held. slow: lines of slow queries that were used; skipped: lines that are no
    JSON or tell of a slow query that cannot be read (cut off by the server, of an unknown command).
    """

    shapes: list[WorkloadShape]
    lines: int
    slow: int
    skipped: int


def from_log(lines: Iterable[str | bytes], scale: Scale | None = None) -> LogRead:
    """The slow queries of a log, read line by line.

    Args:
        lines: of the log, oldest first; may hold anything.
        scale: how durations are counted; None: as profiles do.
    """
    gathering = Gathering("log", scale or sketch_scale())
    count = slow = skipped = 0
    for line in lines:
        count += 1
        # Most lines are of other kinds; the look at the text costs a tenth of reading them.
        marker = b'"Slow query"' if isinstance(line, bytes) else '"Slow query"'
        if marker not in line:  # type: ignore[operator]
            skipped += line.lstrip()[:1] not in ("{", b"{", "", b"")
            continue
        if _add(line, gathering):
            slow += 1
        else:
            skipped += 1
    return LogRead(gathering.shapes(), count, slow, skipped)


def _add(line: str | bytes, gathering: Gathering) -> bool:
    if len(line) > _MAX_LINE:
        return False
    try:
        text = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
        entry = json.loads(text)
        if not isinstance(entry, dict) or entry.get("c") not in _COMPONENTS:
            return False
        fields = entry.get("attr")
        if not isinstance(fields, dict) or _is_cut(entry):
            return False
        at_s = _time_s(entry.get("t"))
        # What is no UTF-8 could not be shown either.
        shown = json.dumps(fields, ensure_ascii=False).encode()
        read = json_util.loads(shown, json_options=_OPTIONS)
        told = told_operation(
            read.get("ns"), read.get("type"), read, read.get("durationMillis"), at_s
        )
    except (ValueError, TypeError, LookupError, RecursionError, ArithmeticError, AttributeError):
        return False
    except BSONError:  # a value that is none, as the {"$oid": "..."} of a program that meant text
        return False
    return told is not None and gathering.add(told)


def _is_cut(entry: Mapping[str, Any]) -> bool:
    """Whether the server cut the command off.

    Source: MongoDB manual, "Log Messages", "Truncation".
    """
    cut = entry.get("truncated")
    if not isinstance(cut, Mapping):
        return False
    return "command" in cut or "originatingCommand" in cut


def _time_s(value: Any) -> float:
    text = value.get("$date") if isinstance(value, Mapping) else None
    if not isinstance(text, str):
        return 0.0
    text = text.replace("Z", "+00:00")
    if len(text) > 5 and text[-5] in "+-" and text[-3] != ":":
        text = f"{text[:-2]}:{text[-2:]}"
    return datetime.fromisoformat(text).timestamp()
