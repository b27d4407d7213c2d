"""Method arguments to operations, the same for every driver.

What a method was given is turned into an operation for the engine; whether the arguments are valid
is left to the driver, which is always called where anything is unusual.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from collections.abc import Mapping
from typing import Any

from pymongo import _csot
from pymongo.read_concern import ReadConcern
from pymongo.results import (
    BulkWriteResult,
    ClientBulkWriteResult,
    DeleteResult,
    InsertManyResult,
    InsertOneResult,
    UpdateResult,
)

from ..core.engine import Scope
from ..records import ReadOp, WriteKind, WriteOp

__all__ = [
    "CLIENT_BULK",
    "AfterClusterTime",
    "aggregate_op",
    "caller_of_call",
    "changed",
    "count_op",
    "cursor_bypass",
    "cursor_op",
    "distinct_filter",
    "distinct_op",
    "place_of_call",
    "read_variant",
    "under_timeout",
    "write_op",
]

# afterClusterTime, which a kept read is sent with, goes with these levels only.
_READ_CONCERNS = frozenset({None, "local", "majority"})
_EMPTY: dict[str, Any] = {}

# Where the driver itself says a client-level bulk write goes.
CLIENT_BULK = "admin.$cmd.bulkWrite"

# Where a cursor keeps what its options method was given, and the command's name for it.
_CURSOR_OPTIONS = (
    ("_collation", "collation"),
    ("_hint", "hint"),
    ("_let", "let"),
    ("_comment", "comment"),
    ("_max_time_ms", "maxTimeMS"),
    ("_min", "min"),
    ("_max", "max"),
    ("_return_key", "returnKey"),
    ("_show_record_id", "showRecordId"),
    ("_allow_disk_use", "allowDiskUse"),
)

# Position of the document in each write's arguments (the filter, if there is one, is before it).
_DOCUMENT_NAMES: dict[str, str] = {
    "insert_one": "document",
    "insert_many": "documents",
    "bulk_write": "requests",
    "update_one": "update",
    "update_many": "update",
    "replace_one": "replacement",
    "find_one_and_update": "update",
    "find_one_and_replace": "replacement",
}
_NO_FILTER = frozenset({"insert_one", "insert_many", "bulk_write"})


class AfterClusterTime(ReadConcern):
    """A collection's read concern, sent with afterClusterTime.

    Source: https://www.mongodb.com/docs/manual/reference/read-concern/#afterclustertime
    """

    def __init__(self, level: str | None, after: Any) -> None:
        super().__init__(level)
        self._after = after

    @property
    def level(self) -> str | None:
        return super().level or "local"

    @property
    def document(self) -> dict[str, Any]:
        document = super().document
        document["afterClusterTime"] = self._after
        return document


def read_variant(read_preference: Any, read_concern: Any) -> str | None:
    """Why reads with these collection options are never cached, or None."""
    if read_preference.mode != 0:
        return "read_preference"
    if read_concern.level not in _READ_CONCERNS:
        return "read_concern"
    return None


def under_timeout(client_timeout: float | None) -> bool:
    """Whether a call has a deadline of its own (pymongo.timeout, or the client's timeoutMS)."""
    return client_timeout is not None or _csot.get_timeout() is not None


def cursor_bypass(cursor: Any) -> str | None:
    """Why this cursor's read is not cached, or None."""
    if cursor._explain:
        return "explain"
    if cursor._query_flags or cursor._exhaust:
        return "cursor_type"
    if cursor._max_scan is not None or cursor._snapshot is not None:
        return "option"
    if "$query" in cursor._spec or "query" in cursor._spec:
        return "modifiers"
    return "session" if cursor._session is not None else None


def cursor_op(cursor: Any, scope: Scope, kind: Any) -> ReadOp:
    """The operation a cursor is about to send, from what the driver made of its arguments."""
    options = scope.options
    if not (
        cursor._collation is None
        and cursor._hint is None
        and cursor._let is None
        and cursor._comment is None
        and cursor._max_time_ms is None
        and cursor._min is None
        and cursor._max is None
        and cursor._return_key is None
        and cursor._show_record_id is None
        and cursor._allow_disk_use is None
    ):
        given = {name: getattr(cursor, attribute) for attribute, name in _CURSOR_OPTIONS}
        options = {
            **(options or {}),
            **{name: value for name, value in given.items() if value is not None},
        }
    return ReadOp(
        kind,
        scope.namespace,
        cursor._spec,
        cursor._projection or None,
        cursor._ordering or None,
        cursor._skip,
        cursor._limit,
        options,
    )


def count_op(scope: Scope, filter: Any, options: Mapping[str, Any]) -> ReadOp | None:
    """count_documents as an operation; None where only the driver can tell what is meant."""
    rest = dict(options)
    skip, limit = rest.pop("skip", 0), rest.pop("limit", 0)
    if not isinstance(filter, Mapping) or type(skip) is not int or type(limit) is not int:
        return None
    if scope.concern is not None:
        rest["readConcern"] = scope.concern
    return ReadOp("count_documents", scope.namespace, filter, None, None, skip, limit, _plain(rest))


def distinct_filter(filter: Any, options: dict[str, Any]) -> Any:
    """The filter of a distinct, which may also come as the command's own field "query"; taken out
    of the options then."""
    if filter is None and isinstance(options.get("query"), Mapping):
        return options.pop("query")
    return filter


def distinct_op(scope: Scope, key: Any, filter: Any, options: Mapping[str, Any]) -> ReadOp | None:
    """distinct as an operation; None where only the driver can tell what is meant."""
    if filter is None:
        filter = _EMPTY
    if type(key) is not str or not isinstance(filter, Mapping) or "query" in options:
        return None
    rest = dict(options)
    if scope.concern is not None:
        rest["readConcern"] = scope.concern
    return ReadOp("distinct", scope.namespace, filter, None, None, 0, 0, _plain(rest), None, key)


def aggregate_op(scope: Scope, pipeline: Any, options: Mapping[str, Any]) -> ReadOp | None:
    """aggregate as an operation; None where only the driver can tell what is meant."""
    if not isinstance(pipeline, list) or not all(isinstance(stage, Mapping) for stage in pipeline):
        return None
    rest = dict(options)
    if scope.concern is not None:
        rest["readConcern"] = scope.concern
    return ReadOp(
        "aggregate", scope.namespace, _EMPTY, None, None, 0, 0, _plain(rest), pipeline, None
    )


def _plain(options: dict[str, Any]) -> dict[str, Any] | None:
    """Options as BSON can hold them: a Collation object as its document, None left out."""
    plain = {}
    for name, value in options.items():
        if value is None:
            continue
        plain[name] = getattr(value, "document", value) if name == "collation" else value
    return plain or None


def write_op(
    kind: WriteKind, namespace: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> WriteOp:
    """A write method's call as an operation, for the profile."""
    filter = document = None
    position = 0
    if kind not in _NO_FILTER:
        filter = args[0] if args else kwargs.get("filter")
        position = 1
    name = _DOCUMENT_NAMES.get(kind)
    if name is not None:
        document = args[position] if len(args) > position else kwargs.get(name)
    return WriteOp(kind, namespace, filter, document, kwargs.get("sort"), kwargs or None)


def changed(result: Any) -> int:
    """How many documents a write's result says it changed or returned."""
    if type(result) is UpdateResult:
        told: Any = result.raw_result or _EMPTY  # None of an unacknowledged write
        return int(told.get("nModified") or 0) + (told.get("upserted") is not None)
    if type(result) is InsertOneResult:
        return 1
    if type(result) is DeleteResult:
        return int(result.deleted_count) if result.acknowledged else 0
    if type(result) is InsertManyResult:
        return len(result.inserted_ids)
    if isinstance(result, (BulkWriteResult, ClientBulkWriteResult)):
        if not result.acknowledged:
            return 0
        return int(
            result.inserted_count
            + result.modified_count
            + result.deleted_count
            + result.upserted_count
        )
    return 0 if result is None else 1


_DRIVERS = frozenset(
    {"pymongo", "motor", "gridfs", "bson", "asyncio", "concurrent", "contextlib", "threading"}
)
_OURS = ("qbmongo.clients.", "qbmongo.core.")
# Beyond these is what runs the loop, `asyncio.run(...)`: it has called nobody.
_LOOPS = frozenset({"asyncio.events", "asyncio.runners"})


def caller_of_call() -> Any:
    """The task that makes the present call, or the thread where there is none; compared with ==."""
    if asyncio._get_running_loop() is None:
        return threading.get_ident()
    task = asyncio.current_task()
    return None if task is None else weakref.ref(task)


def place_of_call() -> str | None:
    """Where in the program the driver was called, as "file:line".

    None where no frame of the program tells: a coroutine of the driver's that is a task of its own
    (`asyncio.gather(c.find_one(...))`), or a method that a loop or an executor was told to call.
    """
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module in _LOOPS:
            return None
        if module.partition(".")[0] not in _DRIVERS and not module.startswith(_OURS):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return None
