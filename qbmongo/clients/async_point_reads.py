"""find_one by a key in PyMongo Async: joined with others when many run at the same time."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Mapping
from typing import Any

import bson
import pymongo.asynchronous.collection
from pymongo.asynchronous.cursor import AsyncCursor as DriverCursor

from ..core.batching import PointRead
from ..core.engine import ALONE, Join, Lead, Scope, Ticket
from ..core.joined_finds import JoinedFind, Outcomes, Waiters
from ..core.lone_reads import LoneRead
from ..core.point_reads import Direct, Gathering, PointReads
from ..records import ReadOp
from .async_cursors import AsyncCursor, AsyncReplyCursor, TaskWaiter
from .cursors import Reading, deliver, served_one
from .listener import CURRENT
from .point_reads import (
    decoded,
    decoded_together,
    failed,
    lone_answered,
    lone_cursor,
    raw_find,
)

__all__ = ["find_point", "left", "look_after", "new_waiter", "send_lone", "send_one", "settled"]

monotonic = time.monotonic
_Driver = pymongo.asynchronous.collection.AsyncCollection

# Tasks live only as long as somebody holds them.
_TASKS: set[asyncio.Task[None]] = set()


def new_waiter() -> asyncio.Future[Any]:
    """What a task waits on for what its read is given."""
    return asyncio.get_running_loop().create_future()


def left(points: PointReads, read: PointRead) -> None:
    """The task that waits for a read was cancelled."""
    future: asyncio.Future[Any] = read.waiter
    if not future.done() or future.cancelled():
        deliver(points.withdraw(read, monotonic()))
    elif future.result() is ALONE:
        # Told and cancelled in the same turn.
        deliver(points.refused(read, monotonic()))


def give(find: JoinedFind, told: tuple[Outcomes, Waiters]) -> None:
    """Tells each read its outcome, a document as it is wanted; and those who wait for its flight
    theirs."""
    outcomes, waiters = told
    documents = decoded_together(find, outcomes)
    if documents is not None:
        for (read, _), document in zip(outcomes, documents, strict=True):
            future = read.waiter
            if not future.done():
                future.set_result(document)
    else:
        for read, outcome in outcomes:
            future = read.waiter
            if not future.done():
                future.set_result(outcome)
            elif outcome is ALONE:
                deliver(find.points.refused(read, monotonic()))
    deliver(waiters)


async def find_point(
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
                if collection.database.client._qb.turn.over():
                    await asyncio.sleep(0)
                return document
        data, ticket = await _decide(scope, op, codec, started_s)
    if type(data) is bytes:
        try:
            document = bson.decode(data, codec) if data else None
        except Exception as error:
            scope.engine.fault("decode", error)
        else:
            scope.settle_read(ticket, monotonic(), documents=1 if data else 0, size=len(data))
            return document
    points = scope.points
    waiter = new_waiter()
    place: Any = None
    # None: switched off in between.
    if points is not None and data is not ALONE:
        try:
            place = points.begin(ticket, codec, waiter, monotonic())
        except Exception as error:
            scope.engine.fault("batch", error)
    if place is None or points is None:
        return await send_one(collection, scope, ticket, filter, args, kwargs)
    if type(place) is Direct:
        try:
            return await send_one(collection, scope, ticket, filter, args, kwargs)
        finally:
            _start(collection, points.landed(place.gathering, place.place, monotonic()))
    if place.gathering.timer is None:
        look_after(collection, points, place.gathering)
    try:
        outcome = await waiter
    except BaseException:
        left(points, place)
        raise
    return await settled(collection, points, place, outcome, args, kwargs)


async def send_lone(collection: Any, read: LoneRead) -> Any:
    """Sends a read that is on the wire by itself."""
    try:
        try:
            if read.stats is not None and read.stats.place_due:
                read.points.note_place(read)
            cursor = lone_cursor(AsyncReplyCursor, collection, read)
            document = None
            token = None
            if read.fill is not None:
                token = CURRENT.set(read.answerer)  # type: ignore[arg-type]
            try:
                async for document in cursor:  # noqa: B007
                    break
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
    finally:
        _start(collection, read.landed(monotonic()))


async def settled(
    collection: Any, points: PointReads, read: PointRead, outcome: Any, args: Any, kwargs: Any
) -> Any:
    """What a find_one returns or raises whose read was given an outcome."""
    if type(outcome) is dict:
        return outcome
    filter = {read.key.path: read.value}
    if type(outcome) is bytes:
        value = decoded(points, outcome, collection._codec_options)
        if value is not None:
            return value[0]
        async for document in DriverCursor(collection, filter, *args, **kwargs).limit(-1):
            return document
        return None
    if outcome is ALONE:
        ticket = read.ticket
        return await send_one(collection, ticket.scope, ticket, ticket.op.filter, args, kwargs)
    raise outcome


async def _decide(scope: Scope, op: ReadOp, codec: Any, started_s: float) -> Any:
    """What the engine says of a read that no kept answer serves; waits for a flight if there is
    one. Returns a flight's bytes with the ticket; or None and the ticket to send under, by itself
    or with others; or ALONE and the ticket, where a flight failed."""
    while True:
        decision = scope.begin_read(op, codec, started_s, share=True)
        if type(decision) is not Join:
            return None, decision
        waiter = TaskWaiter()
        if not scope.join(decision, waiter):
            continue
        answer = await waiter.wait(scope, decision)
        if type(answer) is bytes:
            return answer, decision.ticket
        return ALONE, answer if type(answer) is Lead else decision.ticket


async def send_one(
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
            cursor = AsyncReplyCursor(collection, sent, *args, **kwargs)
            document = None
            async for document in cursor.limit(-1):  # noqa: B007
                break
        except BaseException:
            scope.fail_read(ticket, monotonic())
            raise
        scope.settle_read(
            ticket, monotonic(), documents=int(document is not None), size=len(cursor._qb_reply)
        )
        return document
    try:
        cursor = AsyncCursor(collection, filter, *args, **kwargs)
    except BaseException:
        deliver([(waiter, ALONE) for waiter in scope.fail_read(ticket, monotonic())])
        raise
    cursor._qb = reading = Reading(scope, "find_one")
    reading.consume = True
    reading.take(ticket)
    async for document in cursor.limit(-1):
        return document
    return None


def _start(collection: Any, find: JoinedFind | None) -> None:
    """Sends a joined find in a task of its own, whose context is empty."""
    if find is None:
        return
    coroutine = _send(collection, find)
    try:
        loop = asyncio.get_running_loop()
        task = contextvars.Context().run(loop.create_task, coroutine)
    except RuntimeError:
        # The loop is being closed under its tasks: nobody waits any more.
        coroutine.close()
        return
    _TASKS.add(task)
    task.add_done_callback(_TASKS.discard)


async def _send(collection: Any, find: JoinedFind) -> None:
    CURRENT.set(find.answerer)  # type: ignore[arg-type]
    try:
        cursor = raw_find(_Driver, collection, find, collection.read_concern.level)
        async for data in cursor:
            give(find, find.arrived(data, monotonic()))
        give(find, find.ended(monotonic()))
    except BaseException as error:
        give(find, failed(find, error))
        if not isinstance(error, Exception):
            raise
    finally:
        _start(collection, find.landed(monotonic()))


def look_after(collection: Any, points: PointReads, gathering: Gathering) -> None:
    """Has what gathers looked at again, should what it waits for take long; where nobody has."""
    due_s = points.due_s(gathering)
    if due_s is None:
        return

    def look() -> None:
        gathering.timer = None
        _start(collection, points.overdue(gathering, monotonic()))
        look_after(collection, points, gathering)

    gathering.timer = asyncio.get_running_loop().call_later(
        max(due_s - monotonic(), 0.0), look, context=contextvars.Context()
    )
