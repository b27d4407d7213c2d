"""find_one by a key in the synchronous driver: joined with others when many threads run it.

A joined find is sent by one of the threads that wait for it, in an empty context: no other would
be quicker. Should that thread be interrupted meanwhile, the others make their own calls.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Mapping
from typing import Any

import bson
import pymongo.collection
from pymongo.cursor import Cursor as DriverCursor

from ..core.batching import PlainRead, PointRead
from ..core.engine import ALONE, Join, Lead, Scope, Ticket
from ..core.joined_finds import JoinedFind
from ..core.lone_reads import LoneRead
from ..core.point_reads import Direct, PointReads
from ..records import ReadOp
from .cursors import Reading, deliver, served_one
from .listener import CURRENT
from .parts import may_share
from .point_reads import decoded, failed, give, lone_answered, lone_cursor, raw_find
from .sync_cursors import Cursor, ReplyCursor, ThreadWaiter

__all__ = ["find_point", "join_others", "send_joined", "send_lone", "send_one"]

monotonic = time.monotonic
_Driver = pymongo.collection.Collection


class _Waiter:
    """A thread that waits for what its read is given; meanwhile it may be asked to send for all."""

    __slots__ = ("_event", "_gone", "_lock", "_told")

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._told: Any = None
        self._gone = False

    def deliver(self, told: Any) -> bool:
        """False if nobody waits any more."""
        with self._lock:
            if self._gone:
                return False
            self._told = told
        self._event.set()
        return True

    def wait(self, points: PointReads, read: PointRead, collection: Any) -> Any:
        """Blocks until there is an outcome."""
        try:
            points.note_place(read)
            while True:
                due_s = points.due_s(read.gathering)
                self._event.wait(None if due_s is None else max(due_s - monotonic(), 0.001))
                told = self._taken()
                if type(told) is JoinedFind:
                    contextvars.Context().run(send_joined, collection, told)
                    told = self._taken()
                if told is not None:
                    return told
                # What it waits for takes long.
                start(collection, points.overdue(read.gathering, monotonic()))
        except BaseException as error:
            self._left(points, read, collection)
            if isinstance(error, Exception):
                points.fault(error)
                return ALONE
            raise

    def _taken(self) -> Any:
        with self._lock:
            told, self._told = self._told, None
            self._event.clear()
        return told

    def _left(self, points: PointReads, read: PointRead, collection: Any) -> None:
        """The thread was interrupted."""
        with self._lock:
            self._gone = True
            told, self._told = self._told, None
        if type(told) is JoinedFind:
            give(points, (told.alone("interrupted"), []))
            start(collection, told.landed(monotonic()))
        elif told is ALONE:
            deliver(points.refused(read, monotonic()))
        elif told is None:
            deliver(points.withdraw(read, monotonic()))


def find_point(
    collection: Any, scope: Scope, op: ReadOp, args: Any, kwargs: Any, *, missed: bool
) -> Any:
    """find_one by a key: from memory, from another's flight, by itself, or with others.

    op: of `point_op`. args, kwargs: what find_one was given besides the filter. missed: a kept
    answer to this very read has just been asked for.
    """
    started_s = monotonic()
    codec = collection._codec_options
    filter = op.filter
    data: Any = None
    ticket: Any
    if scope.cache is None:
        ticket = scope.begin_read(op, codec, started_s)
    else:
        entry = None if missed else scope.hit(op, codec, started_s)
        if entry is not None:
            try:
                document = served_one(entry, codec)
            except Exception as error:
                scope.engine.fault("decode", error)
            else:
                scope.served(entry, started_s, monotonic())
                return document
        data, ticket = _decide(scope, op, codec, started_s)
    if type(data) is bytes:
        try:
            document = bson.decode(data, codec) if data else None
        except Exception as error:
            scope.engine.fault("decode", error)
        else:
            scope.settle_read(ticket, monotonic(), documents=1 if data else 0, size=len(data))
            return document
    points = scope.points
    waiter = _Waiter() if may_share() else None
    place: Any = None
    # None: switched off in between.
    if points is not None and data is not ALONE:
        try:
            place = points.begin(ticket, codec, waiter, monotonic())
        except Exception as error:
            scope.engine.fault("batch", error)
    if place is None or points is None:
        return send_one(collection, scope, ticket, filter, args, kwargs)
    if type(place) is Direct:
        try:
            return send_one(collection, scope, ticket, filter, args, kwargs)
        finally:
            start(collection, points.landed(place.gathering, place.place, monotonic()))
    return _settled(collection, points, place, args, kwargs)


def join_others(
    collection: Any, points: PointReads, scope: Scope, asked: tuple[Any, bytes], started_s: float
) -> tuple[Any] | None:
    """find_one by a plain `_id` and nothing else, by itself or joined with those that gather: what
    it returns; None if it is not for that."""
    new_waiter = _Waiter if may_share() else None
    read = points.join(scope, asked, collection._codec_options, new_waiter, started_s)
    if type(read) is LoneRead:
        try:
            return (send_lone(collection, read),)
        finally:
            start(collection, read.landed(monotonic()))
    if type(read) is PlainRead:
        return (_settled(collection, points, read, (), {}),)
    return None


def send_lone(collection: Any, read: LoneRead) -> Any:
    """Sends a read that is on the wire by itself; `landed` is to follow."""
    try:
        if read.stats is not None and read.stats.place_due:
            read.points.note_place(read)
        cursor = lone_cursor(ReplyCursor, collection, read)
        token = None
        if read.fill is not None:
            token = CURRENT.set(read.answerer)  # type: ignore[arg-type]
        try:
            document = next(cursor, None)
        finally:
            if token is not None:
                CURRENT.reset(token)
    except BaseException as error:
        deliver(read.failed(error, monotonic()))
        raise
    waiters = lone_answered(read, cursor, document)
    if waiters:
        deliver(waiters)
    return document


def _settled(collection: Any, points: PointReads, read: PointRead, args: Any, kwargs: Any) -> Any:
    """Waits for a read's outcome: what find_one returns or raises."""
    outcome = read.waiter.wait(points, read, collection)
    filter = {read.key.path: read.value}
    if type(outcome) is bytes:
        value = decoded(points, outcome, collection._codec_options)
        if value is not None:
            return value[0]
        return next(DriverCursor(collection, filter, *args, **kwargs).limit(-1), None)
    if outcome is ALONE:
        ticket = read.ticket
        return send_one(collection, ticket.scope, ticket, ticket.op.filter, args, kwargs)
    raise outcome


def _decide(scope: Scope, op: ReadOp, codec: Any, started_s: float) -> Any:
    """What the engine says of a read that no kept answer serves; waits for a flight if there is
    one. Returns a flight's bytes with the ticket; or None and the ticket to send under, by itself
    or with others; or ALONE and the ticket, where a flight failed."""
    while True:
        decision = scope.begin_read(op, codec, started_s, share=may_share())
        if type(decision) is not Join:
            return None, decision
        waiter = ThreadWaiter()
        if not scope.join(decision, waiter):
            continue
        answer = waiter.wait(scope, decision)
        if type(answer) is bytes:
            return answer, decision.ticket
        return ALONE, answer if type(answer) is Lead else decision.ticket


def send_one(
    collection: Any,
    scope: Scope,
    ticket: Ticket,
    filter: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """Sends a find_one by itself, under its ticket."""
    cursor: Any
    if scope.cache is None:
        sent = filter if ticket.sent is None else ticket.sent.filter
        try:
            cursor = ReplyCursor(collection, sent, *args, **kwargs)
            document = next(cursor.limit(-1), None)
        except BaseException:
            scope.fail_read(ticket, monotonic())
            raise
        scope.settle_read(
            ticket, monotonic(), documents=int(document is not None), size=len(cursor._qb_reply)
        )
        return document
    try:
        cursor = Cursor(collection, filter, *args, **kwargs)
    except BaseException:
        deliver([(waiter, ALONE) for waiter in scope.fail_read(ticket, monotonic())])
        raise
    cursor._qb = reading = Reading(scope, "find_one")
    reading.consume = True
    reading.take(ticket)
    return next(cursor.limit(-1), None)


def start(collection: Any, find: JoinedFind | None) -> None:
    """Has one of those who wait for a joined find send it."""
    while find is not None:
        for read in find.reads:
            if read.waiter.deliver(find):
                return
        # All were interrupted: only those who joined their flights are left.
        give(find.points, (find.alone("interrupted"), []))
        find = find.landed(monotonic())


def send_joined(collection: Any, find: JoinedFind) -> None:
    """Sends a joined find and tells everybody; blocks. Runs in an empty context."""
    try:
        fetch(collection, find, lambda told: give(find.points, told))
    finally:
        start(collection, find.landed(monotonic()))


def fetch(collection: Any, find: JoinedFind, tell: Any) -> None:
    """Sends a joined find and hands over what each read is given, as it arrives."""
    token = CURRENT.set(find.answerer)  # type: ignore[arg-type]
    try:
        cursor = raw_find(_Driver, collection, find, collection.read_concern.level)
        for data in cursor:
            tell(find.arrived(data, monotonic()))
        tell(find.ended(monotonic()))
    except BaseException as error:
        tell(failed(find, error))
        if not isinstance(error, Exception):
            raise
    finally:
        CURRENT.reset(token)
