"""find_one by a key in Motor: joined with others when many run at the same time.

Everything is decided in the loop's thread; an executor thread sends, as for every call of Motor's.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from typing import Any

import bson
import motor.frameworks.asyncio as executor
from pymongo.cursor import Cursor as DriverCursor

from ..core.batching import PointRead
from ..core.engine import ALONE, Scope
from ..core.joined_finds import JoinedFind
from ..core.lone_reads import LoneRead
from ..core.point_reads import Direct, Gathering, PointReads
from ..records import ReadOp
from .cursors import deliver, served_one
from .motor_futures import copy_to, done, run, start
from .point_reads import decoded, decoded_together, give
from .sync_point_reads import fetch, send_lone, send_one

__all__ = ["find_point", "join_others"]

monotonic = time.monotonic


class _Waiter:
    """A Future of the program's that a joined find will resolve; told in the loop's thread.

    args, kwargs: what find_one was given besides the filter. read: what it waits for, until told.
    """

    __slots__ = ("_args", "_context", "_delegate", "_kwargs", "_loop", "_points", "future", "read")

    def __init__(
        self, loop: Any, delegate: Any, points: PointReads, args: Any, kwargs: Any
    ) -> None:
        self._loop = loop
        self._delegate = delegate
        self._points = points
        self._args = args
        self._kwargs = kwargs
        self.future: asyncio.Future[Any] = loop.create_future()
        # What follows is the waiting call's own, not that of whoever brings the answer.
        self._context = contextvars.copy_context()
        self.read: Any = None

    def waits_for(self, read: PointRead) -> asyncio.Future[Any]:
        """The read was put among those that gather."""
        self.read = read
        self._points.note_place(read)
        self.future.add_done_callback(self._left)
        if read.gathering.timer is None:
            _arm(self._loop, self._delegate, self._points, read.gathering)
        return self.future

    def deliver(self, outcome: Any) -> bool:
        """False if nobody waits any more."""
        if self.future.done():
            return False
        self._context.run(self._resolve, outcome)
        return True

    def _resolve(self, outcome: Any) -> None:
        # No cycles: garbage collection would have to find everything that waited.
        read, self.read = self.read, None
        if type(outcome) is dict:
            self.future.set_result(outcome)
        elif type(outcome) is bytes:
            value = decoded(self._points, outcome, self._delegate._codec_options)
            if value is not None:
                self.future.set_result(value[0])
            else:
                filter = {read.key.path: read.value}
                copy_to(run(self._loop, self._plain, filter), self.future)
        elif outcome is ALONE:
            copy_to(run(self._loop, self._alone, read.ticket), self.future)
        else:
            self.future.set_exception(outcome)

    def _left(self, ended: asyncio.Future[Any]) -> None:
        read, self.read = self.read, None
        if read is not None and ended.cancelled():
            deliver(self._points.withdraw(read, monotonic()))

    def _alone(self, ticket: Any) -> Any:
        filter = ticket.op.filter
        return send_one(self._delegate, ticket.scope, ticket, filter, self._args, self._kwargs)

    def _plain(self, filter: Any) -> Any:
        cursor = DriverCursor(self._delegate, filter, *self._args, **self._kwargs)
        return next(cursor.limit(-1), None)


def join_others(
    collection: Any, points: PointReads, scope: Scope, asked: tuple[Any, bytes], started_s: float
) -> asyncio.Future[Any] | None:
    """find_one by a plain `_id` and nothing else, sent by itself or put among those that gather;
    None if it is not for that."""
    loop, delegate = collection.get_io_loop(), collection.delegate
    if points.loop is not loop and not _settle_in(loop, points):
        return None

    def new_waiter() -> _Waiter:
        return _Waiter(loop, delegate, points, (), {})

    read = points.join(scope, asked, delegate._codec_options, new_waiter, started_s)
    if read is None:
        return None
    if isinstance(read, LoneRead):
        return _go_alone(loop, delegate, read)
    waiter: _Waiter = read.waiter
    return waiter.waits_for(read)


def _settle_in(loop: Any, points: PointReads) -> bool:
    """Whether point reads may gather in this event loop: it is theirs from now on, unless that of
    others, who wait in it, is still there. Programs give a client one loop after another by its
    `get_io_loop`."""
    before = points.loop
    if before is not None:
        if not before.is_closed():
            return False
        deliver(points.left_behind(monotonic()))
    points.loop = loop
    return True


def _go_alone(loop: Any, delegate: Any, read: LoneRead) -> asyncio.Future[Any]:
    """Has an executor thread send a read by itself."""
    read.points.note_place(read)
    try:
        sent: asyncio.Future[Any] = executor.run_on_executor(loop, send_lone, delegate, read)
    except BaseException as error:
        deliver(read.failed(error, monotonic()))
        _start(loop, delegate, read.landed(monotonic()))
        raise

    def ended(done: asyncio.Future[Any]) -> None:
        if done.cancelled() and read.fill is not None:
            # The thread outlives its cancelled caller, or never starts.
            deliver(read.left())
        _start(loop, delegate, read.landed(monotonic()))

    sent.add_done_callback(ended)
    return sent


def find_point(
    collection: Any, scope: Scope, op: ReadOp, args: Any, kwargs: Any, *, missed: bool
) -> asyncio.Future[Any]:
    """find_one by a key: from memory, from another's flight, by itself, or with others.

    op: of `point_op`. args, kwargs: what find_one was given besides the filter. missed: a kept
    answer to this very read has just been asked for.
    """
    started_s = monotonic()
    delegate = collection.delegate
    codec = delegate._codec_options
    loop = collection.get_io_loop()
    points = scope.points
    if points is not None and points.loop is not loop and not _settle_in(loop, points):
        points = None
    if not missed:
        entry = scope.hit(op, codec, started_s)
        if entry is not None:
            try:
                document = served_one(entry, codec)
            except Exception as error:
                scope.engine.fault("decode", error)
            else:
                scope.served(entry, started_s, monotonic())
                return done(collection, document)

    def begin() -> Any:
        return scope.begin_read(op, codec, started_s, share=True)

    def decode(data: bytes) -> tuple[Any, int] | None:
        try:
            return (bson.decode(data, codec), 1) if data else (None, 0)
        except Exception as error:
            scope.engine.fault("decode", error)
            return None

    def job(ticket: Any) -> Any:
        return send_one(delegate, scope, ticket, op.filter, args, kwargs)

    def send(ticket: Any) -> asyncio.Future[Any]:
        if points is None:  # switched off in between, or another loop's
            return run(loop, job, ticket)
        waiter = _Waiter(loop, delegate, points, args, kwargs)
        place: Any = None
        try:
            place = points.begin(ticket, codec, waiter, monotonic())
        except Exception as error:
            scope.engine.fault("batch", error)
        if place is None:
            return run(loop, job, ticket)
        if type(place) is Direct:
            sent = run(loop, job, ticket)
            sent.add_done_callback(
                lambda _: _start(
                    loop, delegate, points.landed(place.gathering, place.place, monotonic())
                )
            )
            return sent
        return waiter.waits_for(place)

    return start(loop, scope, begin, decode, job, send)


def _start(loop: Any, delegate: Any, find: JoinedFind | None) -> None:
    """Has an executor thread send a joined find, in an empty context."""
    if find is None:
        return
    points = find.points

    def tell(told: Any) -> None:
        # Decoded here, in the executor's thread, where it holds up nobody's loop.
        outcomes, waiters = told
        documents = decoded_together(find, outcomes)
        if documents is not None:
            reads = [read for read, _ in outcomes]
            outcomes = list(zip(reads, documents, strict=True))
        # They may wait in another loop than what gathered did, which may have ended.
        deliver(waiters)
        try:
            loop.call_soon_threadsafe(give, points, (outcomes, []), context=contextvars.Context())
        except RuntimeError:  # a closed loop: nobody waits any more
            for read, outcome in outcomes:
                if outcome is ALONE:
                    deliver(points.refused(read, monotonic()))

    def ended(sent: asyncio.Future[Any]) -> None:
        if not sent.cancelled():
            sent.exception()  # everybody was told
        # A job that was cancelled before its thread began has told nobody.
        give(points, (find.alone("interrupted"), []))
        _start(loop, delegate, find.landed(monotonic()))

    sent: asyncio.Future[Any] = contextvars.Context().run(
        executor.run_on_executor, loop, fetch, delegate, find, tell
    )
    sent.add_done_callback(ended)


def _arm(loop: Any, delegate: Any, points: PointReads, gathering: Gathering) -> None:
    """Has what gathers looked at again, should what it waits for take long."""
    if gathering.timer is not None:
        return
    due_s = points.due_s(gathering)
    if due_s is None:
        return

    def look() -> None:
        gathering.timer = None
        _start(loop, delegate, points.overdue(gathering, monotonic()))
        _arm(loop, delegate, points, gathering)

    gathering.timer = loop.call_later(
        max(due_s - monotonic(), 0.0), look, context=contextvars.Context()
    )
