"""Cursors of the Motor client, around those of the synchronous driver."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import motor.frameworks.asyncio as executor
import motor.motor_asyncio as driver

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
                or not self.alive
            ):
                return super().to_list(length)
            self.started = True
            reading.consume = True

            def begin():
                join = reading.begin(delegate, bound_sync_session())
                return reading.ticket if join is None else join

            def drained():
                documents = list(delegate._data)
                delegate._data.clear()
                return documents

            def decode(data):
                count = reading.serve(delegate, data)
                return None if count is None else (drained(), count)

            def job(ticket):
                reading.take(ticket)
                return list(delegate)

            decision = begin()
            if delegate._id == 0:
                return done(self.collection, drained())
            if decision is None:
                return super().to_list(length)
            first = [decision]
            loop = self.get_io_loop()
            return start(
                loop, reading.scope, lambda: first.pop() if first else begin(), decode, job
            )


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
