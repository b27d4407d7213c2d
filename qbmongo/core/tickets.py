"""What the engine says to a call: the way to the driver, or to somebody else's answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..records import ReadOp, WriteOp
from .fills import Fill
from .frozen import Frozen
from .profile import ShapeStats

if TYPE_CHECKING:
    from .scope import Scope

__all__ = ["ALONE", "Join", "Lead", "Ticket"]


class _Alone:
    """What a waiter is given when it must make its own call."""


ALONE = _Alone()


class Ticket:
    """A call on its way to the driver.

    op: the call as the program made it. sent: the read to send in its place, or None. address: the
    server that answered last.
    """

    __slots__ = ("address", "op", "scope", "sent", "started_s", "stats")

    def __init__(
        self, scope: Scope, op: ReadOp | WriteOp, started_s: float, stats: ShapeStats | None
    ) -> None:
        self.scope = scope
        self.op = op
        self.started_s = started_s
        self.stats = stats
        self.sent: ReadOp | None = None
        self.address: Any = None


class Lead(Ticket):
    """A read on its way whose answer may be kept: one sending of a fill.

    send is the private copy that must be sent; seen is the operation time to read after (0: none).
    """

    __slots__ = ("fill", "generation", "seen", "send")

    def __init__(self, ticket: Ticket, fill: Fill, send: Frozen) -> None:
        self.scope = ticket.scope
        self.op = ticket.op
        self.started_s = ticket.started_s
        self.stats = ticket.stats
        self.sent = None
        self.address = None
        self.fill = fill
        self.generation = fill.generation
        self.seen = fill.seen
        self.send = send


class Join:
    """Somebody else's read on its way that answers this one too."""

    __slots__ = ("fill", "ticket")

    def __init__(self, ticket: Ticket, fill: Fill) -> None:
        self.ticket = ticket
        self.fill = fill
