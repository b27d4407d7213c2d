"""Writes that travel together: what the three clients share.

A call `join`s: either it gathers with others, and waits for what it will be given (a result,
`Raised`, or `Go`: make the plain call, and tell that it is over), or it is a plain call from the
beginning. Clients differ in how they wait, in how they send a batch beside their callers, and in
how they bring the answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..core.coalesce import Coalescer, settle
from ..core.engine import Engine, Scope
from ..core.lanes import Lane
from ..core.pace import Pace
from ..core.profile import ShapeStats
from ..records import Batch, BatchReply, JoinedWrite, Sending, Verdict, WriteKind
from .arguments import under_timeout
from .batches import SEND_ALONE, Raised, Told, answers, changed_by, reply_of, untold
from .joined_calls import encoded, joinable
from .known_calls import KnownCall, copied
from .listener import TRANSACTIONS, Wire
from .write_lanes import WriteLanes, lanes_of
from .writes import Write

__all__ = ["CLOSING_S", "Go", "Sender"]

monotonic = time.monotonic

CLOSING_S = 10.0
"""How long closing a client waits for writes that are on their way."""


class Go(Told):
    """What a caller is given that makes its plain call: in a place on the wire, or as one of those
    of a batch that have to go alone."""

    __slots__ = ("_lane", "_sender", "_sending")

    def __init__(self, sender: Sender, lane: Lane, sending: Sending) -> None:
        self._sender = sender
        self._lane = lane
        self._sending = sending

    def landed(self) -> None:
        """The call is over, whatever came of it; to be told once, again does no harm."""
        self._sender.landed(self._lane, self._sending)


class Sender:
    """Sends what gathers. One per client; holds no client.

    send: sends a batch beside all callers: a task, or a thread of its own.
    read_indexes: reads the definitions of a collection's indexes, and tells `indexes_read`.
    bring: gives those who wait their answers. is_gone: whether a waiter waits no more. tasks,
    threads: for the client, what sends for it.
    """

    __slots__ = (
        "_bring",
        "_is_gone",
        "_read_indexes",
        "_send",
        "coalescer",
        "engine",
        "tasks",
        "threads",
    )

    def __init__(
        self,
        engine: Engine,
        coalescer: Coalescer,
        send: Callable[[Sender, Lane, Batch], None],
        bring: Callable[[Sender, list[JoinedWrite], list[Any]], None],
        read_indexes: Callable[[Sender, str, Any], None],
        is_gone: Callable[[Any], bool],
    ) -> None:
        self.engine = engine
        self.coalescer = coalescer
        self.tasks: set[Any] = set()
        self.threads: Any = None
        self._send = send
        self._bring = bring
        self._read_indexes = read_indexes
        self._is_gone = is_gone

    def after_fork(self) -> None:
        """In the child nobody sends any more."""
        self.tasks = set()
        if self.threads is not None:
            self.threads.after_fork()

    # Before

    def join(
        self,
        scope: Scope,
        collection: Any,
        kind: WriteKind,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        bound: Any,
        new_waiter: Callable[[], Any] | None,
    ) -> JoinedWrite | Write | None:
        """A call begins.

        Args:
            scope, collection: where; the collection is the driver's own object.
            kind, args, kwargs: the method and what it was given.
            bound: the session bound to the context.
            new_waiter: makes what will be told the outcome, if the call gathers with others; None:
                the caller can neither wait for others nor have them wait for it.

        Returns:
            JoinedWrite: it gathers. Otherwise it is a plain call, of this Write; None: of one that
            is not begun yet.
        """
        engine, coalescer = self.engine, self.coalescer
        try:
            lanes = scope.write_lanes
            if (
                lanes is None
                or lanes.concern is not collection._write_concern
                or lanes.codec is not collection._codec_options
                or lanes.version != coalescer.version
            ):
                with engine.lock:
                    lanes = scope.write_lanes = lanes_of(coalescer, scope, collection)
            is_insert = kind == "insert_one"
            lane: Lane = lanes.insert if is_insert else lanes.update
            now_s = monotonic()
            call: KnownCall | None = None
            # None: of a known call, made when it gathers.
            write: JoinedWrite | str | None = "session"
            if bound is None:
                write = self._refusal(lanes, scope, collection, is_insert, now_s)
            if write is None and (kwargs or (call := lanes.calls.find(kind, args)) is None):
                write = self._read(lanes, scope, collection, kind, args, kwargs, now_s)
            if type(write) is str:
                coalescer.refused[write] += 1
                return None
            stats = write.stats if call is None else call.stats  # type: ignore[union-attr]
            if stats is not None:
                if stats.place_due:
                    scope.note_place(stats)
                pace = stats.pace
                if pace is None:
                    pace = coalescer.pace(stats)
                if pace.wanted or pace.is_slow(now_s):
                    plain = self._plain(scope, collection, kind, args, kwargs, stats, now_s)
                    self._watch(plain, pace, lane, now_s)
                    return plain
            if new_waiter is None:
                with engine.lock:
                    coalescer.counts.direct += 1
                return self._plain(scope, collection, kind, args, kwargs, stats, now_s, call)
            # Where one thread runs all, nothing has to be locked, and no place becomes free.
            is_locked = not engine.mutable_ok
            sending: Sending | None
            if is_locked:
                with engine.lock:
                    sending = lane.enter(now_s)
            else:
                sending = lane.enter(now_s)
            if sending is None:
                if type(write) is not JoinedWrite:
                    write = (
                        JoinedWrite(kind, None, *args) if is_insert else JoinedWrite(kind, *args)
                    )
                    write.stats = stats
                write.scope = scope
                write.collection = collection
                write.lane = lane
                write.started_s = write.gathered_s = now_s
                if not self._is_private(write, call):
                    return self._plain(scope, collection, kind, args, kwargs, stats, now_s)
                write.waiter = new_waiter()
                if is_locked:
                    sending = self._follow(lane, write)
                else:
                    lane.put(write)
            if sending is not None:
                plain = self._plain(scope, collection, kind, args, kwargs, stats, now_s, call)
                plain.go = Go(self, lane, sending)
                return plain
        except Exception as error:
            engine.fault("coalesce", error)
            return None
        if lane.limits.linger_s:
            self._look(lane)
        return write  # type: ignore[return-value]

    def _refusal(
        self, lanes: WriteLanes, scope: Scope, collection: Any, is_insert: bool, now_s: float
    ) -> str | None:
        """Why no call like this goes with others now, whatever it was given; None if one may."""
        coalescer = self.coalescer
        if under_timeout(collection._timeout):
            return "timeout"
        if coalescer.off_reason is not None:
            return coalescer.off_reason
        why = lanes.insert_reason if is_insert else lanes.update_reason
        if why is not None:
            return why
        if TRANSACTIONS.wrote_to(scope.namespace, now_s):
            return "transaction"
        if not is_insert and not coalescer.can_bulk_write(now_s):
            return "unsupported"
        return None

    def _follow(self, lane: Lane, write: JoinedWrite) -> Sending | None:
        """Puts a write behind those that gather, unless a place has become free meanwhile."""
        with self.engine.lock:
            write.gathered_s = monotonic()
            sending = lane.enter(write.gathered_s)
            if sending is None:
                lane.put(write)
            return sending

    def _look(self, lane: Lane) -> None:
        """Sends what lingers, if it is enough by now."""
        with self.engine.lock:
            batch = lane.ready(monotonic())
        if batch is not None:
            self.dispatch(lane, batch)

    def _read(
        self,
        lanes: WriteLanes,
        scope: Scope,
        collection: Any,
        kind: WriteKind,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        now_s: float,
    ) -> JoinedWrite | str:
        """A call that is not known yet, as it may travel with others; or why it may not."""
        write = joinable(kind, args, kwargs, ())
        is_by_id = type(write) is JoinedWrite
        if write == "filter":
            namespace = scope.namespace
            write = joinable(kind, args, kwargs, self._indexed(namespace, now_s))
            if write == "filter" and self.coalescer.indexes.is_wanted(namespace, now_s):
                self._read_indexes(self, namespace, collection)
        if type(write) is JoinedWrite:
            stats = scope.joining_stats(kind, write.filter, write.document, kwargs)
            write.stats = stats
            if is_by_id and not kwargs and (stats is not None or scope.profile is None):
                lanes.calls.keep(kind, args, stats)
        return write

    def _watch(self, plain: Write, pace: Pace, lane: Lane, now_s: float) -> None:
        """A call goes beside the lane, because its shape holds up others, or is to be looked at."""
        if pace.is_slow(now_s):
            self.coalescer.refused["slow"] += 1
        else:
            pace.wanted = False
            plain.watch(pace, lane.limits.patience_s)
            self.coalescer.refused["looked_at"] += 1

    def _is_private(self, write: JoinedWrite, call: KnownCall | None) -> bool:
        """Puts private copies into a write; False if it goes straight through after all."""
        coalescer = self.coalescer
        size = None
        if call is not None and write.kind != "insert_one":
            size = copied(call, write, shown=self.engine.cache is not None)
        if size is None:
            codec = write.collection.codec_options
            size = encoded(write, codec, shown=write.scope.cache is not None)
            if size is None:
                coalescer.refused["unencodable"] += 1
                return False
        if size > write.lane.limits.max_bytes // 4:
            coalescer.refused["size"] += 1
            return False
        if not coalescer.has_space(size):
            coalescer.refused["pending"] += 1
            return False
        write.size = size
        return True

    def _plain(
        self,
        scope: Scope,
        collection: Any,
        kind: WriteKind,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        stats: ShapeStats | None,
        now_s: float,
        call: KnownCall | None = None,
    ) -> Write:
        """A call that could have joined others, as its plain call. call: what is known of it."""
        plain = Write.begun(scope, kind, args, kwargs, stats, now_s)
        if not self.engine.mutable_ok:
            plain.freeze(collection.codec_options, is_known=call is not None)
        return plain

    def _indexed(self, namespace: str, now_s: float) -> frozenset[str]:
        """Fields that are surely the first one of an index."""
        facts = self.engine.known_facts(namespace)
        return self.coalescer.indexes.known(namespace, now_s) if facts is None else facts.indexed

    def indexes_read(self, namespace: str, indexes: Sequence[Mapping[str, Any]] | None) -> None:
        """The definitions of a collection's indexes, or None if they could not be read."""
        self.coalescer.indexes.read(namespace, indexes, monotonic())

    def given_up(self, write: JoinedWrite) -> None:
        """A caller gave up waiting; nothing happens to what was dispatched."""
        with self.engine.lock:
            write.lane.cancel(write)
        if not write.is_recorded:
            write.is_recorded = True
            Write.of(write).failed()

    @staticmethod
    def alone(write: JoinedWrite, told: Go) -> Write:
        """The plain call of who was told Go."""
        # Who waits holds what the plain call brings; an error's traceback holds the call.
        write.waiter = None
        plain = Write.of(write)
        plain.go = told
        return plain

    # Sending

    def landed(self, lane: Lane, sending: Sending) -> None:
        """A place on the wire is free: sends what gathered."""
        with self.engine.lock:
            batch = self.coalescer.landed(lane, sending, monotonic())
        if batch is not None:
            self.dispatch(lane, batch)

    def due_s(self, lane: Lane) -> float | None:
        """When a lane must be looked at; None if nothing gathers there."""
        with self.engine.lock:
            return lane.due_s(monotonic())

    def overdue(self, lane: Lane) -> float | None:
        """Sends what was held up for too long. Returns when to look again, None: never."""
        with self.engine.lock:
            batch = lane.overdue(monotonic())
        if batch is not None:
            self.dispatch(lane, batch)
        with self.engine.lock:
            return lane.due_s(monotonic())

    def dispatch(self, lane: Lane, batch: Batch) -> None:
        """Sends a batch as one command; or what is in it alone, where that is what has to be."""
        while True:
            is_gone = self._is_gone
            slots = [write for write in batch.slots if not is_gone(write.waiter)]
            if len(slots) < len(batch.slots):
                with self.engine.lock:
                    self.coalescer.given_up(batch, slots)
            if len(slots) == 1:
                self._give(lane, batch, [Go(self, lane, batch.sending)])
                return
            if slots:
                if self._is_sent(lane, batch):
                    return
                with self.engine.lock:
                    self.coalescer.alone += len(slots)
                self._give(lane, batch, [SEND_ALONE] * len(slots))
            with self.engine.lock:
                following = self.coalescer.landed(lane, batch.sending, monotonic())
            if following is None:
                return
            batch = following

    def _is_sent(self, lane: Lane, batch: Batch) -> bool:
        """Sends a batch as one command, unless each operation has to go alone."""
        try:
            if self._goes_alone(batch.slots[0]):
                return False
            self._send(self, lane, batch)
        except Exception as error:
            self.engine.fault("dispatch", error)
            return False
        return True

    def _goes_alone(self, write: JoinedWrite) -> bool:
        now_s = monotonic()
        if TRANSACTIONS.wrote_to(write.scope.namespace, now_s):
            return True
        return write.kind != "insert_one" and not self.coalescer.can_bulk_write(now_s)

    @property
    def is_gathering(self) -> bool:
        """Whether something gathers."""
        return self.coalescer.counts.pending > 0

    def flush(self, waiter: Any) -> None:
        """Sends everything that gathers.

        waiter: its `deliver(None)` is called, from any thread, when that and all that was on the
        wire before is over.
        """
        with self.engine.lock:
            batches = self.coalescer.flush(monotonic(), waiter)
        for lane, batch in batches:
            self.dispatch(lane, batch)

    # After

    def outcome(
        self, lane: Lane, batch: Batch, result: Any, error: BaseException | None, wire: Wire
    ) -> None:
        """A batch's driver call is over: gives each caller what its own call would have given."""
        try:
            reply = reply_of(result, error, wire)
            verdicts = settle(batch, reply)
            self._learn(batch, reply, verdicts, lane.limits.patience_s)
            given = answers(batch, verdicts, error)
        except Exception as fault:
            # What became of each operation cannot be told any more: as if no answer had come.
            self.engine.fault("settle_batch", fault)
            self.coalescer.off_reason = "fault"
            given = [untold(error) for _ in batch.slots]
        self._record(batch.slots, given)
        self._give(lane, batch, given)
        self.landed(lane, batch.sending)

    def _record(self, writes: list[JoinedWrite], given: list[Any]) -> None:
        """Has calls counted that are over with what they are given: what each of them waited."""
        try:
            now_s = monotonic()
            rows_of: dict[Any, list[float]] = {}
            failed: dict[Any, int] = {}
            known = rows = None
            for write, answer in zip(writes, given, strict=True):
                stats = write.stats
                if stats is None or write.is_recorded:
                    continue
                documents = 0
                if not isinstance(answer, Told):
                    documents = changed_by(write, answer)
                elif type(answer) is Raised:
                    failed[stats] = failed.get(stats, 0) + 1
                else:
                    continue  # its own call follows
                write.is_recorded = True
                if stats is not known or rows is None:
                    known, rows = stats, rows_of.setdefault(stats, [])
                rows += (now_s - write.started_s, documents, 0, 0, now_s)
            for stats, rows in rows_of.items():
                stats.record_batch(rows, failed.get(stats, 0))
        except Exception as error:
            self.engine.fault("settle_write", error)

    def _give(self, lane: Lane, batch: Batch, given: list[Any]) -> None:
        """Brings each operation of a batch what its caller is given; the batch is over then."""
        writes = batch.slots
        # Write and batch hold each other, and would stay until the garbage collector comes by.
        batch.slots = []
        if SEND_ALONE in given:
            given = self._followed(lane, batch, given)
        self._bring(self, writes, given)

    def _followed(self, lane: Lane, batch: Batch, given: list[Any]) -> list[Any]:
        """What is given, with plain calls that tell when they are over: a flush waits for them."""
        with self.engine.lock:
            follow, now_s = self.coalescer.follow, monotonic()
            return [
                Go(self, lane, follow(batch, now_s)) if told is SEND_ALONE else told
                for told in given
            ]

    def _learn(
        self, batch: Batch, reply: BatchReply, verdicts: list[Verdict], patience_s: float
    ) -> None:
        coalescer = self.coalescer
        with self.engine.lock:
            coalescer.count(verdicts)
            coalescer.arrived(batch, patience_s, monotonic())
            if batch.slots[0].kind != "insert_one":
                coalescer.bulk_write_answered(reply, monotonic())
