"""find_one that is the driver's own, only counted: nothing is kept of it, nothing can join it."""

from __future__ import annotations

import time
from typing import Any

from ..core.counted import log_slow
from ..core.engine import Scope
from ..core.simple_reads import NOT_SIMPLE

__all__ = ["NOT_SIMPLE", "pass_one", "pass_one_async"]

monotonic = time.monotonic


def pass_one(
    new_cursor: Any,
    collection: Any,
    scope: Scope,
    filter: dict[Any, Any],
    session: Any,
    stats: Any,
) -> Any:
    """Sends a find_one whose statistics `scope.simple.begin` gave.

    new_cursor: the client's cursor that holds on to its reply.
    """
    started_s = monotonic()
    try:
        cursor = new_cursor(collection, filter, None, 0, -1, session=session)
        document = next(cursor, None)
    except BaseException:
        scope.simple.failed(stats, filter, started_s, monotonic())
        raise
    if stats is not None:
        try:
            now_s = monotonic()
            count = 0 if document is None else 1
            kept = scope.simple.op(filter) if scope.keep_values else None
            line = stats.record(now_s - started_s, count, len(cursor._qb_reply), 0, now_s, kept)
            if line is not None:
                log_slow(line)
        except Exception as error:
            scope.engine.fault("profile", error)
    return document


async def pass_one_async(
    new_cursor: Any,
    collection: Any,
    scope: Scope,
    filter: dict[Any, Any],
    session: Any,
    stats: Any,
) -> Any:
    """As `pass_one`, in PyMongo Async."""
    started_s = monotonic()
    document: Any = None
    try:
        cursor: Any = new_cursor(collection, filter, None, 0, -1, session=session)
        async for document in cursor:  # noqa: B007
            break
    except BaseException:
        scope.simple.failed(stats, filter, started_s, monotonic())
        raise
    if stats is not None:
        try:
            now_s = monotonic()
            count = 0 if document is None else 1
            kept = scope.simple.op(filter) if scope.keep_values else None
            line = stats.record(now_s - started_s, count, len(cursor._qb_reply), 0, now_s, kept)
            if line is not None:
                log_slow(line)
        except Exception as error:
            scope.engine.fault("profile", error)
    return document
