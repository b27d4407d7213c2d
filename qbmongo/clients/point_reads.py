"""find_one by a key, for every driver: which calls may be joined, what is sent, who is told."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import bson
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId
from bson.timestamp import Timestamp
from pymongo.errors import ConnectionFailure, NotPrimaryError

from ..core.engine import ALONE, Scope
from ..core.frozen import EXACT_CODEC
from ..core.joined_finds import JoinedFind, Outcomes, Waiters
from ..core.lone_reads import LoneRead
from ..core.point_reads import PointReads
from ..records import ReadOp
from .arguments import under_timeout
from .cursors import call_bypass, deliver, read_concern_after
from .fresh_cursors import fresh_cursor
from .own_errors import copy_of
from .reply_bytes import batch_of

__all__ = [
    "decoded",
    "decoded_together",
    "failed",
    "give",
    "lone_answered",
    "lone_cursor",
    "point_op",
    "raw_find",
]

monotonic = time.monotonic

# Immutable types that always ask for equality; what their values are is looked at before they join.
_QUICK = frozenset(
    {
        ObjectId,
        int,
        str,
        UUID,
        bytes,
        datetime,
        float,
        bool,
        Int64,
        Decimal128,
        Binary,
        DatetimeMS,
        Timestamp,
    }
)


_STRICT = frozenset({None, "strict"})


def point_op(
    scope: Scope,
    points: PointReads,
    filter: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    bound: Any,
    client_timeout: float | None,
) -> ReadOp | None:
    """A find_one as a point read, or None: then it is the driver's, and counted by reason.

    filter, args, kwargs: what find_one was given. bound: the session bound to the context, or None.
    client_timeout: the client's timeoutMS, or None.
    """
    reason = None
    if type(filter) is not dict:
        if filter is None or isinstance(filter, Mapping):
            reason = "filter"
        filter = {"_id": filter}  # as the drivers do
    projection = None
    if reason is None and (args or kwargs):
        if len(args) + len(kwargs) > 1 or not (args or "projection" in kwargs):
            reason = "arguments" if kwargs.get("session") is None else "session"
        else:
            projection = args[0] if args else kwargs["projection"]
            if projection is not None:
                if type(projection) is list and set(map(type, projection)) == {str}:
                    projection = dict.fromkeys(projection, 1)  # as the drivers do
                elif type(projection) is not dict or not projection:
                    reason = "projection"
    if reason is None:
        reason = _unfit(points, filter)
    if reason is None:
        reason = call_bypass(bound)
        if reason is None and under_timeout(client_timeout):
            reason = "timeout"
    if reason is not None:
        points.counts.refused[reason] += 1
        return None
    return ReadOp("find_one", scope.namespace, filter, projection, None, 0, -1, scope.options)


def _unfit(points: PointReads, filter: dict[Any, Any]) -> str | None:
    """Why a filter does not ask for one document by a key, or None."""
    if len(filter) != 1:
        return "filter"
    try:
        ((path, value),) = filter.items()
    except ValueError:  # changed meanwhile
        return "filter"
    if type(path) is not str or not points.is_key(path):
        return "key"
    kind = type(value)
    if kind in _QUICK:
        return None
    if kind is not dict:
        return "type"
    for name in value:
        if type(name) is not str or name[:1] == "$":
            return "operators"
    return None


def raw_find(driver_class: Any, collection: Any, find: JoinedFind, concern: str | None) -> Any:
    """The driver's cursor over the raw batches of a joined find.

    driver_class: the driver's collection class. collection: one of its objects for the namespace.
    concern: its read concern level.
    """
    read_concern = collection.read_concern
    if find.seen:
        read_concern = read_concern_after(concern, find.seen)
    target = driver_class(
        collection.database,
        collection.name,
        False,
        EXACT_CODEC,
        collection.read_preference,
        collection.write_concern,
        read_concern,
    )
    return target.find_raw_batches(find.filter, find.projection, batch_size=find.batch_size)


def lone_cursor(cls: Any, collection: Any, read: LoneRead) -> Any:
    """The cursor that sends a read by itself. cls: the client's, that holds on to its reply."""
    scope, filter = read.scope, {"_id": read.value}
    try:
        cursor = fresh_cursor(cls, collection, scope, filter)
        cursor._limit = -1
        if read.seen:
            cursor._read_concern = read_concern_after(scope.concern, read.seen)
    except Exception as error:
        scope.engine.fault("prepare", error)
        read.has_data = False
        return cls(collection, filter, None, 0, -1)
    return cursor


def lone_answered(read: LoneRead, cursor: Any, document: Any) -> Waiters:
    """The read has its document, or None. Returns waiters, each with what it is to be given."""
    size, data = 0, None
    try:
        size = len(cursor._qb_reply)
        if read.fill is not None and read.has_data:
            data = batch_of(bytes(cursor._qb_reply))
            size = size if data is None else len(data)
    except Exception as error:
        read.scope.engine.fault("reply", error)
    return read.answered(data, 0 if document is None else 1, size, monotonic())


def give(points: PointReads, told: tuple[Outcomes, Waiters]) -> None:
    """Tells each read its outcome, and those who wait for its flight theirs."""
    outcomes, waiters = told
    for read, outcome in outcomes:
        if not read.waiter.deliver(outcome) and outcome is ALONE:
            deliver(points.refused(read, monotonic()))
    deliver(waiters)


def failed(find: JoinedFind, error: BaseException) -> tuple[Outcomes, Waiters]:
    """The joined find raised. What a single read would have met, too, is each caller's own error;
    after anything else each caller makes its own call."""
    if isinstance(error, ConnectionFailure) and not isinstance(error, NotPrimaryError):
        return find.failed(monotonic(), lambda: copy_of(error))
    reason = type(error).__name__ if isinstance(error, Exception) else "interrupted"
    return find.alone(reason), []


def decoded_together(find: JoinedFind, outcomes: Outcomes) -> list[Any] | None:
    """The documents of a reply as their callers shall have them; None if each is to decode its own:
    because some outcome is no document, or something of the program's takes part in decoding.

    All reads of a joined find have one codec, and each has an object of its own.
    """
    codec = find.gathering.codec
    if (
        not outcomes
        or codec.document_class is not dict
        or codec.tzinfo is not None
        or codec.type_registry._decoder_map
        or codec.unicode_decode_error_handler not in _STRICT
    ):
        return None
    try:
        documents = bson.decode_all(b"".join([document for _, document in outcomes]), codec)
    except Exception:  # each of them finds out
        return None
    return documents if len(documents) == len(outcomes) else None


def decoded(points: PointReads, data: bytes, codec: Any) -> tuple[Any] | None:
    """The document, or None, as the program shall have it; None if it cannot be decoded: then the
    driver says why."""
    if not data:
        return (None,)
    try:
        return (bson.decode(data, codec),)
    except Exception:
        points.counts.fallbacks["decode"] += 1
        return None
