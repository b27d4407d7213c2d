"""A find_one by a plain `_id` that is on the wire by itself.

It ends as any read does that leads a flight (core.scope, core.flights), by a shorter way: what is
made there for each read follows here from the value, and is made where something asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..records import ReadOp
from ..records import Sending as Place
from .counted import log_slow
from .fills import PointFill, give_up
from .joined_finds import Answerer, JoinedFind, Waiters
from .point_keys import ID_KEY
from .profile import ShapeStats
from .tickets import ALONE, Ticket

if TYPE_CHECKING:
    from .point_reads import Gathering, PointReads
    from .scope import Scope

__all__ = ["LoneRead"]


class LoneRead:
    """The read: `answered` or `failed` must follow, and then `landed`.

    value: of its `_id`. fill: None where its answer is not kept. answerer: told by the command
    listener who answered. seen: the operation time it is to be sent after (0: none). place: on the
    wire. has_data: its reply may be kept as bytes.
    """

    __slots__ = (
        "answerer",
        "fill",
        "gathering",
        "has_data",
        "place",
        "points",
        "scope",
        "seen",
        "started_s",
        "stats",
        "value",
    )

    key = ID_KEY

    def __init__(
        self,
        points: PointReads,
        gathering: Gathering,
        scope: Scope,
        value: Any,
        stats: ShapeStats | None,
        started_s: float,
    ) -> None:
        self.points = points
        self.gathering = gathering
        self.scope = scope
        self.value = value
        self.stats = stats
        self.started_s = started_s
        self.answerer = Answerer()
        self.fill: PointFill | None = None
        self.seen = 0
        self.place: Place | None = None
        self.has_data = True

    @property
    def ticket(self) -> Ticket:
        """The engine's ticket of this read."""
        return self.scope.ticket_of(self)

    def answered(self, data: bytes | None, documents: int, size: int, now_s: float) -> Waiters:
        """The driver answered. Returns waiters of the flight, each with what it is to be given.

        data: the document's BSON, nothing where there is none; None where the reply cannot be kept.
        size: bytes that came.
        """
        waiters = [] if self.fill is None else self._settled(self.fill, data, now_s)
        stats = self.stats
        if stats is not None:
            scope = self.scope
            try:
                kept = self._op() if scope.keep_values else None
                elapsed_s = now_s - self.started_s
                log_slow(stats.record(elapsed_s, documents, size, 0, now_s, kept, False))
            except Exception as error:
                scope.engine.fault("profile", error)
        return waiters

    def _settled(self, fill: PointFill, data: bytes | None, now_s: float) -> Waiters:
        engine = self.scope.engine
        cache = engine.cache
        address = self.answerer.address
        told: list[Any] = []
        if cache is None:
            return []
        try:
            with engine.lock:
                if data is None:
                    told = cache.abandon(fill, 0)
                else:
                    some = cache.settle_points((fill,), (data,), self.answerer, address, now_s)
                    if some:
                        told = some[0][1]
        except Exception as error:
            engine.cache_fault("settle_read", error)
            told = give_up(fill)
        if not told:
            return []
        is_for_them = data is not None and fill.is_for_waiters(address)
        return [(waiter, data if is_for_them else ALONE) for waiter in told]

    def failed(self, error: BaseException, now_s: float) -> Waiters:
        """The driver raised, or was interrupted. Returns as `answered`: who waits makes its own
        call, or, where nobody knows what the server would have said, the first sends this again."""
        if not isinstance(error, Exception):
            return self.points.refused(self, now_s)
        ticket = self.ticket
        return [(waiter, ALONE) for waiter in ticket.scope.fail_read(ticket, now_s)]

    def left(self) -> Waiters:
        """Its caller gave up; the thread that sends it may go on, and settles nothing any more if
        somebody takes over. Returns as `answered`."""
        heir = self.scope.cancel_read(self.ticket)
        return [] if heir is None else [heir]

    def landed(self, now_s: float) -> JoinedFind | None:
        """This is over, whatever came of it. Returns what is to be sent now, if anything."""
        place = self.place
        return None if place is None else self.points.landed(self.gathering, place, now_s)

    def _op(self) -> ReadOp:
        scope = self.scope
        return ReadOp("find_one", scope.namespace, {"_id": self.value}, None, None, 0, -1)
