"""Cursors of PyMongo Async: answered from memory, observed, or kept for later."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from pymongo.asynchronous.command_cursor import AsyncCommandCursor as DriverCommandCursor
from pymongo.asynchronous.cursor import AsyncCursor as DriverCursor

from ..core.engine import Join, Lead, Scope
from ..records import ReadOp
from .arguments import under_timeout
from .cursors import Reading, deliver, hand_on
from .fairness import LoopTurn
from .listener import CURRENT
from .parts import bound_async_session

__all__ = ["AsyncCommandCursor", "AsyncCursor", "AsyncReplyCursor", "TaskWaiter", "decide"]

monotonic = time.monotonic


class TaskWaiter:
    """A task that waits for a flight's answer."""

    __slots__ = ("_answer", "_future")

    def __init__(self) -> None:
        self._future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answer: Any = None

    def deliver(self, answer: Any) -> None:
        self._answer = answer
        if not self._future.done():
            self._future.set_result(answer)

    async def wait(self, scope: Scope, join: Join) -> Any:
        """Suspends until there is an answer; a cancelled task leaves the flight in order."""
        try:
            return await self._future
        except BaseException:
            scope.leave(join, self)
            # It may have been made the leader in the same turn as it was cancelled, or before it
            # heard of that: then nothing was left to be told.
            hand_on(scope, self._answer)
            raise


async def decide(
    scope: Scope, op: ReadOp, codec: Any, started_s: float, bypass: Any, timeout: Any
) -> Any:
    """What the engine says of a read that no kept answer serves; waits for a flight if there is
    one. Returns a flight's bytes with the ticket, or None and the ticket to send under."""
    while True:
        decision = scope.begin_read(
            op, codec, started_s, bypass=bypass, share=not under_timeout(timeout)
        )
        if type(decision) is not Join:
            return None, decision
        waiter = TaskWaiter()
        if not scope.join(decision, waiter):
            continue
        answer = await waiter.wait(scope, decision)
        if type(answer) is bytes:
            return answer, decision.ticket
        return None, answer if type(answer) is Lead else decision.ticket


class _ReadingCursor:
    """What both kinds of cursor do with what arrives."""

    _qb: Reading | None = None
    _id: Any
    _session: Any
    _sock_mgr: Any

    async def _qb_send(self, reading: Reading, refresh: Any) -> int:
        """One round trip of the driver's, told to the engine."""
        ticket = reading.ticket
        token = kept = None
        if type(ticket) is Lead:
            token = CURRENT.set(ticket)
        if (
            self._id is None
            and ticket is not None
            and (token is not None or ticket.sent is not None)
        ):
            kept = reading.prepare(self, ticket)
        reading.busy = True
        started_s = monotonic()
        try:
            count: int = await refresh()
        except BaseException as error:
            deliver(reading.failed(error, monotonic() - started_s))
            raise
        finally:
            reading.busy = False
            if token is not None:
                CURRENT.reset(token)
            if kept is not None:
                reading.restore(self, kept)
        waiters = reading.replied(self, monotonic() - started_s, count)
        if waiters:
            deliver(waiters)
        return count

    def _unpack_response(
        self,
        response: Any,
        cursor_id: Any,
        codec_options: Any,
        user_fields: Any = None,
        legacy_response: bool = False,
    ) -> Any:
        driver: Any = super()
        documents = driver._unpack_response(
            response, cursor_id, codec_options, user_fields, legacy_response
        )
        reading = self._qb
        if reading is not None and reading.busy:
            reading.received(response, documents)
        return documents

    async def close(self) -> None:
        reading = self._qb
        if reading is not None and reading.ticket is not None and not reading.busy:
            deliver(reading.finish(complete=False))
        driver: Any = super()
        await driver.close()

    def __del__(self) -> None:
        reading = self._qb
        if reading is not None and reading.ticket is not None:
            # May run anywhere, in the middle of our own work: settled by whoever comes next.
            reading.scope.engine.dropped.append(reading)
        if self.__dict__.get("_id") == 0 and self._session is None and self._sock_mgr is None:
            return  # The driver has nothing to end.
        driver: Any = super()
        driver.__del__()


class AsyncCursor(_ReadingCursor, DriverCursor[Any]):
    """A cursor whose answer may come from memory, and is observed."""

    _qb_turn: LoopTurn | None = None

    def _clone_base(self, session: Any) -> Any:
        clone = super()._clone_base(session)
        if self._qb is not None:
            clone._qb = Reading(self._qb.scope)
            clone._qb_turn = self._qb_turn
        return clone

    async def _refresh(self) -> int:
        reading = self._qb
        if reading is None or self._data or self._killed:
            return await super()._refresh()
        if self._id is None and reading.ticket is None and await self._qb_begin(reading):
            return len(self._data)
        return await self._qb_send(reading, super()._refresh)

    async def _qb_begin(self, reading: Reading) -> bool:
        """Asks the engine, and waits for a flight if there is one. Returns whether the answer is
        here; if not, there is a ticket to send under."""
        join = reading.begin(self, bound_async_session())
        if join is not None:
            await self._qb_wait(reading, join)
        if self._id != 0:
            return False
        turn = self._qb_turn
        if turn is not None and turn.over():
            await asyncio.sleep(0)
        return True

    async def _qb_wait(self, reading: Reading, join: Join | None) -> None:
        """Waits for another's answer, as long as there is a flight to wait for."""
        while join is not None:
            waiter = TaskWaiter()
            if reading.scope.join(join, waiter):
                reading.joined(self, join, await waiter.wait(reading.scope, join))
                return
            reading.missed = False
            join = reading.begin(self, bound_async_session())

    async def rewind(self) -> Any:
        await super().rewind()
        if self._qb is not None:
            self._qb = Reading(self._qb.scope, self._qb.kind)
        return self

    async def to_list(self, length: int | None = None) -> Any:
        reading = self._qb
        if reading is not None and length is None:
            reading.consume = True
            if (
                reading.ticket is None
                and self._id is None
                and not self._query_flags
                and not self._killed
                and await self._qb_begin(reading)
            ):
                documents = list(self._data)
                self._data.clear()
                return documents
        return await super().to_list(length)


class AsyncReplyCursor(DriverCursor[Any]):
    """A cursor of the driver's that holds on to its reply: of a find_one there is only one."""

    _qb_reply: Any = b""

    def _unpack_response(
        self,
        response: Any,
        cursor_id: Any,
        codec_options: Any,
        user_fields: Any = None,
        legacy_response: bool = False,
    ) -> Any:
        self._qb_reply = getattr(response, "payload_document", b"")
        return DriverCursor._unpack_response(
            self, response, cursor_id, codec_options, user_fields, legacy_response
        )


class AsyncCommandCursor(_ReadingCursor, DriverCommandCursor[Any]):
    """An aggregation's cursor; its first batch has come when it is made."""

    async def _refresh(self) -> int:
        reading = self._qb
        if reading is None or self._data or self._killed or not self._id:
            return await super()._refresh()
        return await self._qb_send(reading, super()._refresh)
