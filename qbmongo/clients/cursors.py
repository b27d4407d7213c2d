"""What a cursor keeps while its answer arrives: served from memory, observed, or kept for later.

Sync and async cursors differ only in how they wait; everything else is here.
"""

from __future__ import annotations

import functools
import time
from collections import deque
from typing import Any

import bson

from ..core.engine import ALONE, Join, Lead, Scope, Ticket
from ..core.store import Entry
from .arguments import AfterClusterTime, cursor_bypass, cursor_op, under_timeout
from .parts import UNCACHED
from .reply_bytes import batch_of

__all__ = [
    "Reading",
    "call_bypass",
    "decode_documents",
    "deliver",
    "hand_on",
    "read_concern_after",
    "served_one",
]

monotonic = time.monotonic


def decode_documents(data: bytes, codec: Any) -> list[Any]:
    """The documents of a kept answer, fresh objects built with a collection's codec options."""
    return bson.decode_all(data, codec) if data else []


@functools.lru_cache(maxsize=64)
def read_concern_after(level: str | None, seen: int) -> AfterClusterTime:
    """A read concern that waits for an operation time the client has seen."""
    return AfterClusterTime(level, bson.Timestamp(seen >> 32, seen & 0xFFFFFFFF))


def deliver(waiters: list[tuple[Any, Any]]) -> None:
    """Gives each waiter its answer."""
    for waiter, answer in waiters:
        waiter.deliver(answer)


def hand_on(scope: Scope, answer: Any) -> None:
    """Whoever was given this gave up waiting: a leader's part goes to the next who waits."""
    if type(answer) is Lead:
        heir = scope.cancel_read(answer)
        if heir is not None:
            deliver([heir])


def settle_dropped(dropped: deque[Reading]) -> None:
    """Settles what cursors that were collected as garbage left open."""
    while dropped:
        try:
            reading = dropped.popleft()
        except IndexError:
            return
        deliver(reading.finish(complete=False))


def call_bypass(bound: Any) -> str | None:
    """Why no call in this context is cached, or None."""
    if bound is not None:
        return "session"
    return "uncached" if UNCACHED.get() else None


class Reading:
    """One cursor's way through the engine.

    consume: the cursor is read to its end in one go by us (find_one, to_list), so that it may lead
    or join a flight. A cursor that its caller advances may fill but never leads: the loop's body
    may ask for the same read. missed: a kept answer to this very read has just been asked for.
    """

    __slots__ = (
        "batches",
        "busy",
        "chunks",
        "consume",
        "documents",
        "elapsed_s",
        "kind",
        "missed",
        "scope",
        "size",
        "ticket",
    )

    def __init__(self, scope: Scope, kind: str = "find") -> None:
        self.scope = scope
        self.kind = kind
        # The driver closes a cursor inside its own refresh: that is not the caller giving up.
        self.busy = False
        self.consume = False
        self.missed = False
        self.ticket: Ticket | None = None
        self.chunks: list[bytes] | None = None
        self.documents = self.size = self.batches = 0
        self.elapsed_s = 0.0

    # Before the first sending

    def begin(self, cursor: Any, bound: Any, *, wait: bool = True) -> Join | None:
        """Asks the engine. Afterwards the cursor is either served, or has a ticket, or is to join.

        bound: the session bound to the context, or None. wait: the caller can wait for a flight.
        """
        scope = self.scope
        if scope.engine.dropped:
            settle_dropped(scope.engine.dropped)
        now_s = monotonic()
        entry = bypass = None
        try:
            op = cursor_op(cursor, scope, self.kind)
            if scope.cache is not None or scope.rewriter is not None:
                # What kind of cursor it is tells more than whose it is.
                bypass = cursor_bypass(cursor) or call_bypass(bound)
                if bypass is None and not self.missed:
                    entry = scope.hit(op, cursor._codec_options, now_s)
        except Exception as error:
            scope.engine.fault("cursor", error)
            cursor._qb = None  # it is the driver's from now on
            return None
        if entry is not None and self.serve(cursor, entry.data) is not None:
            scope.served(entry, now_s, monotonic())
            return None
        # Where nothing is kept there is nothing to join.
        may_share = self.consume and wait and bypass is None and scope.cache is not None
        decision = scope.begin_read(
            op,
            cursor._codec_options,
            now_s,
            bypass=bypass,
            share=may_share and not under_timeout(cursor._timeout),
        )
        if type(decision) is Ticket:
            self.ticket = decision
            return None
        if type(decision) is Join:
            return decision
        self.take(decision)  # type: ignore[arg-type]
        return None

    def joined(self, cursor: Any, join: Join, answer: Any) -> None:
        """A flight ended. Its answer serves this cursor too, or the read is to be sent."""
        if type(answer) is bytes:
            count = self.serve(cursor, answer)
            if count is not None:
                self.scope.settle_read(join.ticket, monotonic(), documents=count, size=len(answer))
                return
        self.take(answer if type(answer) is Lead else join.ticket)

    def take(self, ticket: Ticket) -> None:
        """The read goes to the driver under this ticket."""
        self.ticket = ticket
        self.chunks = [] if type(ticket) is Lead else None

    def serve(self, cursor: Any, data: bytes) -> int | None:
        """Fills the cursor with a kept answer.

        Returns how many documents; None if they cannot be decoded: then the driver says why.
        """
        try:
            return self.fill(cursor, data)
        except Exception as error:
            self.scope.engine.fault("decode", error)
            return None

    @staticmethod
    def fill(cursor: Any, data: bytes) -> int:
        """Fills the cursor as if the server had sent everything in its first batch."""
        documents = decode_documents(data, cursor._codec_options)
        count = len(documents)
        cursor._data = deque(documents)
        cursor._retrieved += count
        cursor._id = 0
        cursor._killed = True
        return count

    def prepare(self, cursor: Any, ticket: Ticket) -> tuple[Any, ...]:
        """Puts what must be sent into the cursor; returns what `restore` puts back.

        ticket: a Lead, or one with a read to send in its place.
        """
        kept = (cursor._spec, cursor._projection, cursor._read_concern)
        if type(ticket) is not Lead:
            if ticket.sent is not None:
                cursor._spec = ticket.sent.filter
            return kept
        try:
            cursor._spec = ticket.send.filter
            if cursor._projection:
                cursor._projection = ticket.send.projection
            if ticket.seen:
                cursor._read_concern = read_concern_after(self.scope.concern, ticket.seen)
        except Exception as error:
            self.scope.engine.fault("prepare", error)
            self.restore(cursor, kept)
            self.chunks = None
        return kept

    @staticmethod
    def restore(cursor: Any, kept: tuple[Any, ...]) -> None:
        cursor._spec, cursor._projection, cursor._read_concern = kept

    # Replies

    def received(self, response: Any, documents: Any) -> None:
        """A reply came and was decoded; notes its documents' bytes where they may be kept."""
        try:
            reply = getattr(response, "payload_document", b"")
            if self.chunks is None:
                self.size += len(reply)
                return
            data = batch_of(bytes(reply)) if documents[0].get("ok") == 1 else None
            if data is None:
                self.chunks = None
            else:
                self.arrived(data)
        except Exception as error:
            self.scope.engine.fault("reply", error)
            self.chunks = None

    def arrived(self, data: bytes) -> None:
        """A batch's documents, as bytes; what grows too large is not kept."""
        self.size += len(data)
        lead = self.ticket
        if self.chunks is not None and type(lead) is Lead:
            if self.size > lead.fill.max_bytes:
                self.chunks = None
            else:
                self.chunks.append(data)

    def replied(self, cursor: Any, elapsed_s: float, count: int) -> list[Any]:
        """A batch arrived after so many seconds; settles when it was the last. Returns waiters,
        each to be given `answer`."""
        self.elapsed_s += elapsed_s
        self.documents += count
        self.batches += 1
        if cursor._id == 0 or cursor._killed:
            return self.finish(complete=cursor._id == 0)
        return []

    def finish(self, *, complete: bool) -> list[Any]:
        """The last batch has come, or the cursor was closed before."""
        ticket = self.ticket
        if ticket is None:
            return []
        self.ticket = None
        if type(ticket) is Ticket:
            self.scope.record(
                ticket,
                monotonic(),
                self.elapsed_s,
                self.documents,
                self.size,
                self.batches - 1 if self.batches else 0,
                False,
            )
            return []
        chunks = self.chunks
        data = b"".join(chunks) if complete and chunks is not None else None
        return self.scope.settle_read(
            ticket,
            monotonic(),
            documents=self.documents,
            size=self.size,
            getmores=max(self.batches - 1, 0),
            data=data,
            elapsed_s=self.elapsed_s,
        )

    def failed(self, error: BaseException, elapsed_s: float) -> list[Any]:
        """The driver raised. Returns waiters with what each is given: to go on alone, or, where
        the leader was interrupted and not answered, for the first to send the read again."""
        ticket = self.ticket
        if ticket is None:
            return []
        self.ticket = None
        if not isinstance(error, Exception):
            heir = self.scope.cancel_read(ticket)
            if heir is not None:
                return [heir]
        waiters = self.scope.fail_read(ticket, monotonic(), elapsed_s=self.elapsed_s + elapsed_s)
        return [(waiter, ALONE) for waiter in waiters]


def served_one(entry: Entry, codec: Any) -> Any:
    """The one document of a kept answer, or None."""
    return bson.decode(entry.data, codec) if entry.data else None
