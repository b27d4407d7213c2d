"""Cursors of the synchronous driver: answered from memory, observed, or kept for later.

The Motor client's cursors drive these from its executor threads.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import pymongo.command_cursor
import pymongo.cursor

from ..core.engine import Join, Lead, Scope
from ..records import ReadOp
from .arguments import under_timeout
from .cursors import Reading, deliver, hand_on
from .listener import CURRENT
from .parts import bound_sync_session, may_share

__all__ = ["CommandCursor", "Cursor", "ReplyCursor", "ThreadWaiter", "decide"]

monotonic = time.monotonic


class ThreadWaiter:
    """A thread that waits for a flight's answer."""

    __slots__ = ("_answer", "_event")

    def __init__(self) -> None:
        self._event = threading.Event()
        self._answer: Any = None

    def deliver(self, answer: Any) -> None:
        self._answer = answer
        self._event.set()

    def wait(self, scope: Scope, join: Join) -> Any:
        """Blocks until there is an answer; an interrupted thread leaves the flight in order."""
        try:
            self._event.wait()
        except BaseException:
            scope.leave(join, self)
            hand_on(scope, self._answer)
            raise
        return self._answer


def decide(
    scope: Scope, op: ReadOp, codec: Any, started_s: float, bypass: Any, timeout: Any
) -> Any:
    """What the engine says of a read that no kept answer serves; waits for a flight if there is
    one. Returns a flight's bytes with the ticket, or None and the ticket to send under."""
    while True:
        decision = scope.begin_read(
            op, codec, started_s, bypass=bypass, share=may_share() and not under_timeout(timeout)
        )
        if type(decision) is not Join:
            return None, decision
        waiter = ThreadWaiter()
        if not scope.join(decision, waiter):
            continue
        answer = waiter.wait(scope, decision)
        if type(answer) is bytes:
            return answer, decision.ticket
        return None, answer if type(answer) is Lead else decision.ticket


class _ReadingCursor:
    """What both kinds of cursor do with what arrives."""

    _qb: Reading | None = None
    _id: Any
    _session: Any
    _sock_mgr: Any

    def _qb_send(self, reading: Reading, refresh: Any) -> int:
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
            count: int = refresh()
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

    def close(self) -> None:
        reading = self._qb
        if reading is not None and reading.ticket is not None and not reading.busy:
            deliver(reading.finish(complete=False))
        driver: Any = super()
        driver.close()

    def __del__(self) -> None:
        reading = self._qb
        if reading is not None and reading.ticket is not None:
            # May run anywhere, even under our own lock: settled by whoever comes next.
            reading.scope.engine.dropped.append(reading)
        if self.__dict__.get("_id") == 0 and self._session is None and self._sock_mgr is None:
            return  # The driver has nothing to end.
        driver: Any = super()
        driver.__del__()


class Cursor(_ReadingCursor, pymongo.cursor.Cursor[Any]):
    """A cursor whose answer may come from memory, and is observed."""

    def _clone_base(self, session: Any) -> Any:
        clone = super()._clone_base(session)
        if self._qb is not None:
            clone._qb = Reading(self._qb.scope)
        return clone

    def _refresh(self) -> int:
        reading = self._qb
        if reading is None or self._data or self._killed:
            return super()._refresh()
        if self._id is None and reading.ticket is None:
            join = reading.begin(self, bound_sync_session(), wait=may_share())
            if join is not None:
                self._qb_wait(reading, join)
            if self._id == 0:
                return len(self._data)
        return self._qb_send(reading, super()._refresh)

    def _qb_wait(self, reading: Reading, join: Join | None) -> None:
        """Waits for another's answer, as long as there is a flight to wait for."""
        while join is not None:
            waiter = ThreadWaiter()
            if reading.scope.join(join, waiter):
                reading.joined(self, join, waiter.wait(reading.scope, join))
                return
            reading.missed = False
            join = reading.begin(self, bound_sync_session())

    def _qb_drain(self) -> list[Any]:
        """The documents that are here; there are none afterwards."""
        documents = list(self._data)
        self._data.clear()
        return documents

    def rewind(self) -> Any:
        super().rewind()
        if self._qb is not None:
            self._qb = Reading(self._qb.scope, self._qb.kind)
        return self

    def to_list(self, length: int | None = None) -> Any:
        reading = self._qb
        if reading is not None and length is None:
            reading.consume = True
        return super().to_list(length)


class ReplyCursor(pymongo.cursor.Cursor[Any]):
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
        return pymongo.cursor.Cursor._unpack_response(
            self, response, cursor_id, codec_options, user_fields, legacy_response
        )


class CommandCursor(_ReadingCursor, pymongo.command_cursor.CommandCursor[Any]):
    """An aggregation's cursor; its first batch has come when it is made."""

    def _refresh(self) -> int:
        reading = self._qb
        if reading is None or self._data or self._killed or not self._id:
            return super()._refresh()
        return self._qb_send(reading, super()._refresh)
