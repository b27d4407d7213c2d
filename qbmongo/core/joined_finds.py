"""One find that travels for many point reads: what is sent, and what each of them is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import QbError
from ..records import Batch
from .batching import PointBatch, PointRead, batch_of, documents_of
from .fills import PointFill, give_up
from .profile import ShapeStats
from .tickets import ALONE, Lead

if TYPE_CHECKING:
    from .point_reads import Gathering, PointReads

__all__ = ["JoinedFind", "Outcomes", "Waiters"]

# Answers that are kept under one holding of the lock: some fifty microseconds.
AT_A_TIME = 32

Outcomes = list[tuple[PointRead, Any]]
Waiters = list[tuple[Any, Any]]


class Answerer:
    """The server that answered last. Contexts are kept by timers of the driver's for long after a
    call: what is put into them must hold nothing else."""

    __slots__ = ("address",)

    def __init__(self) -> None:
        self.address: Any = None


class JoinedFind:
    """One batch on the wire. answerer: told by the command listener.

    Every read is given exactly one outcome: a document's bytes (empty: there is no document), an
    exception of its own to raise, or ALONE: make your own call, under the same ticket.
    """

    __slots__ = ("_batch", "answerer", "gathering", "place", "points", "reads", "seen")

    def __init__(self, points: PointReads, gathering: Gathering, batch: Batch) -> None:
        """Made under the client's lock, when the batch is about to be sent."""
        self.points = points
        self.gathering = gathering
        self.place = batch.sending
        self.reads: list[PointRead] = batch.slots
        # No cycles: garbage collection would have to find everything that a batch has held.
        batch.slots = []
        self._batch: PointBatch | None = None
        self.answerer = Answerer()
        self.seen = 0
        try:
            self._prepare()
        except Exception as error:
            # It cannot be sent; whoever tries gives everybody ALONE.
            points.engine.fault("batch", error)
            self._batch = None

    def _prepare(self) -> None:
        cache = self.points.engine.cache
        if cache is not None:
            fills = [read.fill for read in self.reads if read.fill is not None]
            self.seen = cache.stamp_points(fills, self.answerer)
            for read in self.reads:
                if read.has_ticket and type(lead := read.ticket) is Lead:
                    cache.stamp_again(lead.fill, lead.generation)
                    lead.seen = lead.fill.seen
                    self.seen = max(self.seen, lead.seen)
        self._batch = batch_of(self.reads)

    @property
    def batch(self) -> PointBatch:
        """What is sent. Raises QbError after a fault of ours."""
        if self._batch is None:
            raise QbError("a joined find could not be made")
        return self._batch

    @property
    def filter(self) -> dict[str, Any]:
        """The filter to send."""
        return self.batch.filter

    @property
    def projection(self) -> Any:
        """The projection to send, or None."""
        return self.batch.projection

    @property
    def batch_size(self) -> int:
        """One more than there are ids: the server knows then that the first reply was the last."""
        return len(self.batch.values) + 1

    def landed(self, now_s: float) -> JoinedFind | None:
        """This is over, whatever came of it. Returns what is to be sent now, if anything."""
        return self.points.landed(self.gathering, self.place, now_s)

    def arrived(self, data: bytes, now_s: float) -> tuple[Outcomes, Waiters]:
        """A reply's documents came. Returns reads, and waiters of their flights, with outcomes."""
        try:
            settled = self.batch.arrived(documents_of(data))
        except Exception as error:
            self.points.engine.fault("batch", error)
            return self.alone("fault"), []
        return self._settled(settled, now_s)

    def ended(self, now_s: float) -> tuple[Outcomes, Waiters]:
        """The whole answer has come."""
        try:
            missing, doubtful = self.batch.ended()
        except Exception as error:
            self.points.engine.fault("batch", error)
            return self.alone("fault"), []
        outcomes, waiters = self._settled([(read, b"") for read in missing], now_s)
        doubtful = [read for read in doubtful if not read.settled]
        for read in doubtful:
            read.settled = True
        self.points.counts.fallbacks["doubtful"] += len(doubtful)
        outcomes += [(read, ALONE) for read in doubtful]
        # Nobody waits for ever, whatever went wrong.
        return outcomes + self.alone("fault"), waiters

    def _left(self) -> list[PointRead]:
        """The reads that have no outcome; from now on they have."""
        reads = [read for read in self.reads if not read.settled]
        for read in reads:
            read.settled = True
        return reads

    def alone(self, reason: str) -> Outcomes:
        """Whoever has no outcome makes its own call."""
        reads = self._left()
        if reads:
            self.points.counts.fallbacks[reason] += len(reads)
        return [(read, ALONE) for read in reads]

    def failed(
        self, now_s: float, own_error: Callable[[], BaseException]
    ) -> tuple[Outcomes, Waiters]:
        """The network failed, as it would have for each call: each caller raises its own error."""
        outcomes: Outcomes = []
        waiters: Waiters = []
        for read in self._left():
            ticket = read.ticket
            waiters += [(waiter, ALONE) for waiter in ticket.scope.fail_read(ticket, now_s)]
            outcomes.append((read, own_error()))
        return outcomes, waiters

    def _settled(
        self, settled: list[tuple[PointRead, bytes]], now_s: float
    ) -> tuple[Outcomes, Waiters]:
        outcomes: Outcomes = []
        waiters: Waiters = []
        fills: list[PointFill] = []
        documents: list[bytes] = []
        rows: list[Any] = []
        stats: ShapeStats | None = None
        for pair in settled:
            read, document = pair
            if read.settled:
                continue
            read.settled = True
            outcomes.append(pair)
            if read.has_ticket:
                waiters += self._settled_alone(read, document, now_s)
                continue
            if read.fill is not None:
                fills.append(read.fill)
                documents.append(document)
            if read.stats is not stats:
                self._record(stats, rows)
                rows, stats = [], read.stats
            rows += (now_s - read.started_s, 1 if document else 0, len(document), 0, now_s)
        self._record(stats, rows)
        if fills:
            waiters += self._kept(fills, documents, now_s)
        self.points.counts.joined += len(outcomes)
        return outcomes, waiters

    def _settled_alone(self, read: PointRead, document: bytes, now_s: float) -> Waiters:
        """A read of any kind, under its ticket."""
        ticket = read.ticket
        ticket.address = self.answerer.address
        ids = None
        if read.key.path == "_id":
            ids = (read.form,) if document else ()
        waiters: Waiters = ticket.scope.settle_joined(ticket, now_s, document, ids)
        return waiters

    def _record(self, stats: ShapeStats | None, rows: list[Any]) -> None:
        if stats is not None and rows:
            try:
                stats.record_batch(rows, 0)
            except Exception as error:
                self.points.engine.fault("profile", error)

    def _kept(self, fills: list[PointFill], documents: list[bytes], now_s: float) -> Waiters:
        """Has the cache keep what it may, a few at a time: others wait for the lock."""
        engine = self.points.engine
        cache = engine.cache
        if cache is None:
            return []
        address = self.answerer.address
        waiters: Waiters = []
        for at in range(0, len(fills), AT_A_TIME):
            some, theirs = fills[at : at + AT_A_TIME], documents[at : at + AT_A_TIME]
            try:
                with engine.lock:
                    told = cache.settle_points(some, theirs, self.answerer, address, now_s)
            except Exception as error:
                engine.cache_fault("settle_read", error)
                told = [(fill, give_up(fill)) for fill in some]
            if told:
                document_of = dict(zip(some, theirs, strict=True))
                for fill, waiting in told:
                    answer = document_of[fill] if fill.is_for_waiters(address) else ALONE
                    waiters += [(waiter, answer) for waiter in waiting]
        return waiters
