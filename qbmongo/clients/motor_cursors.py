"""Cursors of the Motor client, around those of the synchronous driver."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import motor.frameworks.asyncio as executor
import motor.motor_asyncio as driver

from ..core.engine import Join
from .cursors import Reading
from .motor_futures import done, start
from .parts import bound_sync_session
from .sync_cursors import CommandCursor, Cursor

__all__ = ["AsyncIOMotorCursor", "AsyncIOMotorLatentCommandCursor"]


class _Asking:
    """A cursor, as far as the driver's own method looks, that asks the program's collection."""

    def __init__(self, delegate: Any, collection: Any) -> None:
        self._delegate = delegate
        self._collection = collection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._delegate, name)


class AsyncIOMotorCursor(driver.AsyncIOMotorCursor):  # type: ignore[type-arg]
    """A cursor whose answer may come from memory, and is observed."""

    if not TYPE_CHECKING:

        def _refresh(self):
            delegate = self.delegate
            reading = delegate._qb
            if (
                reading is not None
                and reading.ticket is None
                and delegate._id is None
                and not delegate._killed
            ):
                reading.begin(delegate, bound_sync_session(), wait=False)
                if delegate._id == 0:
                    return done(self.collection, len(delegate._data))
            return executor.run_on_executor(self.get_io_loop(), delegate._refresh)

        def _async_close(self):
            return executor.run_on_executor(self.get_io_loop(), self.delegate.close)

        @functools.wraps(driver.AsyncIOMotorCursor.distinct)
        def distinct(self, key):
            if self.delegate._qb is None:
                return super().distinct(key)
            return Cursor.distinct(_Asking(self.delegate, self.collection), key)

        @functools.wraps(driver.AsyncIOMotorCursor.to_list)
        def to_list(self, length=None):
            delegate = self.delegate
            reading = delegate._qb
            if (
                length is not None
                or reading is None
                or reading.ticket is not None
                or delegate._id is not None
                or delegate._query_flags
                or delegate._killed
            ):
                return super().to_list(length)
            self.started = True
            reading.consume = True
            join = reading.begin(delegate, bound_sync_session())
            if delegate._id == 0:
                return done(self.collection, delegate._qb_drain())
            if join is None and reading.ticket is None:
                return super().to_list(length)
            return _to_list(self.get_io_loop(), delegate, reading, join)


def _to_list(loop: Any, cursor: Any, reading: Reading, join: Join | None) -> Any:
    """All documents as a Future, of a flight's answer or sent by an executor thread. join: of the
    reading that has begun."""
    first = [join or reading.ticket]

    def begin() -> Any:
        if first:
            return first.pop()
        join = reading.begin(cursor, bound_sync_session())
        return reading.ticket if join is None else join

    def decode(data: bytes) -> Any:
        count = reading.serve(cursor, data)
        return None if count is None else (cursor._qb_drain(), count)

    def job(ticket: Any) -> list[Any]:
        reading.take(ticket)
        return list(cursor)

    return start(loop, reading.scope, begin, decode, job)


class AsyncIOMotorLatentCommandCursor(driver.AsyncIOMotorLatentCommandCursor):  # type: ignore[type-arg]
    """An aggregation's cursor, started by its first use."""

    if not TYPE_CHECKING:

        def _refresh(self):
            if type(self.delegate) is not CommandCursor:
                return super()._refresh()
            return executor.run_on_executor(self.get_io_loop(), self.delegate._refresh)

        def _async_close(self):
            if type(self.delegate) is not CommandCursor:
                return super()._async_close()
            return executor.run_on_executor(self.get_io_loop(), self.delegate.close)
