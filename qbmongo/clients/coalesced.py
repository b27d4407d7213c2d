"""Writes that travel together: what the three clients share.

A call asks `admitted` whether it may travel with others, `enter`s its lane, and either goes alone
at once or is `gather`ed and waits for what it will be given: a result, `Raised`, SEND_ALONE (make
the plain call) or `Go` (make the plain call, and tell that its place on the wire is free again).
Clients differ in how they wait, in how they send a batch beside their callers, and in how they
bring the answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..core.coalesce import Coalescer, settle
from ..core.engine import Engine, Scope
from ..core.lanes import Lane
from ..records import Batch, BatchReply, JoinedWrite, Sending, Slot, Verdict, WriteKind
from . import arguments
from .batches import SEND_ALONE, answers, reply_of, untold
from .joined_calls import GROUPS, encoded, joinable
from .listener import TRANSACTIONS, Wire
from .writes import Write

__all__ = ["CLOSING_S", "Go", "Sender", "WriteLanes"]

monotonic = time.monotonic

CLOSING_S = 10.0
"""How long closing a client waits for writes that are on their way."""


class WriteLanes:
    """The lanes of writes through collection objects with one write concern and codec.

    reasons: why writes of a kind of command go straight through, or None.
    """

    __slots__ = ("codec", "concern", "insert", "reasons", "update", "version")

    def __init__(self, concern: Any, codec: Any, version: int) -> None:
        self.concern = concern
        self.codec = codec
        self.version = version
        self.insert: Lane | None = None
        self.update: Lane | None = None
        self.reasons: dict[str, str | None] = {"insert": None, "update": None}


class Go:
    """What a caller is given that makes its plain call in a place on the wire."""

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
    bring: gives those who wait in slots their answers. tasks, threads: for the client, what
    sends for it.
    """

    __slots__ = ("_bring", "_read_indexes", "_send", "coalescer", "engine", "tasks", "threads")

    def __init__(
        self,
        engine: Engine,
        coalescer: Coalescer,
        send: Callable[[Sender, Lane, Batch], None],
        bring: Callable[[Sender, list[tuple[Slot, Any]]], None],
        read_indexes: Callable[[Sender, str, Any], None],
    ) -> None:
        self.engine = engine
        self.coalescer = coalescer
        self.tasks: set[Any] = set()
        self.threads: Any = None
        self._send = send
        self._bring = bring
        self._read_indexes = read_indexes

    def after_fork(self) -> None:
        """In the child nobody sends any more."""
        self.tasks = set()
        if self.threads is not None:
            self.threads.after_fork()

    # Before

    def admitted(
        self,
        scope: Scope,
        collection: Any,
        client: Any,
        kind: WriteKind,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        bound: Any,
    ) -> tuple[Lane, JoinedWrite] | None:
        """The lane of a call that may travel with others, and what would travel; else None.

        collection, client: the driver's own objects. bound: the session bound to the context.
        """
        try:
            reason: Any = None
            if bound is not None:
                reason = "session"
            elif arguments.under_timeout(collection._timeout):
                reason = "timeout"
            elif self.coalescer.off_reason is not None:
                reason = self.coalescer.off_reason
            else:
                group = GROUPS[kind]
                lanes = self._lanes(scope, collection, client)
                reason = lanes.reasons[group]
                if reason is None:
                    now_s = monotonic()
                    if TRANSACTIONS.wrote_to(scope.namespace, now_s):
                        reason = "transaction"
                    elif group == "update" and not self.coalescer.can_bulk_write(now_s):
                        reason = "unsupported"
                    else:
                        write = joinable(kind, args, kwargs, ())
                        if write == "filter":
                            indexed = self._indexed(scope.namespace, now_s)
                            write = joinable(kind, args, kwargs, indexed)
                        if type(write) is JoinedWrite:
                            return getattr(lanes, group), write
                        reason = write
                        if reason == "filter" and self.coalescer.indexes.is_wanted(
                            scope.namespace, now_s
                        ):
                            self._read_indexes(self, scope.namespace, collection)
            self.coalescer.refused[reason] += 1
        except Exception as error:
            self.engine.fault("coalesce", error)
        return None

    def _lanes(self, scope: Scope, collection: Any, client: Any) -> WriteLanes:
        concern, codec = collection.write_concern, collection.codec_options
        known = scope.write_lanes
        version = self.coalescer.version
        if (
            known is not None
            and known.concern is concern
            and known.codec is codec
            and known.version == version
        ):
            return known  # type: ignore[no-any-return]
        limits = scope.coalesce
        assert limits is not None
        lanes = WriteLanes(concern, codec, version)
        reasons = lanes.reasons
        default = client.write_concern
        if not concern.acknowledged:
            reasons["insert"] = reasons["update"] = "unacknowledged"
        elif concern.is_server_default and not default.is_server_default:
            # The driver would take the client's in its place.
            reasons["update"] = "write_concern"
        if codec.document_class is not dict:
            reasons["insert"] = reasons["insert"] or "codec"
        if codec.document_class is not dict or codec != client.codec_options:
            reasons["update"] = reasons["update"] or "codec"
        with self.engine.lock:
            variant = (concern, codec)
            lanes.insert = self.coalescer.lane(scope.namespace, "insert", variant, limits)
            lanes.update = self.coalescer.lane(scope.namespace, "update", variant, limits)
        scope.write_lanes = lanes
        return lanes

    def _indexed(self, namespace: str, now_s: float) -> frozenset[str]:
        """Fields that are surely the first one of an index."""
        facts = self.engine.known_facts(namespace)
        return self.coalescer.indexes.known(namespace, now_s) if facts is None else facts.indexed

    def indexes_read(self, namespace: str, indexes: Sequence[Mapping[str, Any]] | None) -> None:
        """The definitions of a collection's indexes, or None if they could not be read."""
        self.coalescer.indexes.read(namespace, indexes, monotonic())

    def enter(self, lane: Lane, write: Write) -> Any:
        """How a write begins.

        Returns Go: a place on the wire for a lone call. SEND_ALONE: alone and beside the lane, as
        writes of its shape hold up others. None: it has to gather.
        """
        try:
            now_s = monotonic()
            stats = write.stats
            if stats is not None:
                pace = self.coalescer.pace(stats)
                if pace.is_slow(now_s):
                    self.coalescer.refused["slow"] += 1
                    return SEND_ALONE
                if pace.wanted:
                    pace.wanted = False
                    write.watch(pace, lane.limits.patience_s)
                    self.coalescer.refused["looked_at"] += 1
                    return SEND_ALONE
            with self.engine.lock:
                sending = lane.enter(now_s)
        except Exception as error:
            self.engine.fault("coalesce", error)
            return SEND_ALONE
        return None if sending is None else Go(self, lane, sending)

    def gather(
        self, lane: Lane, joined: JoinedWrite, write: Write, waiter: Any
    ) -> Slot | Go | None:
        """Puts a write among those that gather.

        Go: a place became free meanwhile. None: it goes straight through after all.
        """
        try:
            codec = write.collection.codec_options
            size = encoded(joined, codec, shown=write.scope.cache is not None)
            reason = None
            if size is None:
                reason = "unencodable"
            elif size > lane.limits.max_bytes // 4:
                reason = "size"
            elif not self.coalescer.has_space(size):
                reason = "pending"
            if reason is not None:
                self.coalescer.refused[reason] += 1
                return None
            assert size is not None
            joined.call = write
            joined.stats = write.stats
            engine = self.engine
            with engine.lock:
                now_s = monotonic()
                # Where one thread runs all, nothing has changed since `enter`.
                sending = None if engine.mutable_ok else lane.enter(now_s)
                if sending is not None:
                    return Go(self, lane, sending)
                slot = lane.gather(joined, size, waiter, now_s)
        except Exception as error:
            self.engine.fault("coalesce", error)
            return None
        if lane.limits.linger_s:
            with self.engine.lock:
                batch = lane.ready(monotonic())
            if batch is not None:
                self.dispatch(lane, batch)
        return slot

    def leave(self, lane: Lane, slot: Slot) -> None:
        """A caller gave up waiting; nothing happens to what was dispatched."""
        with self.engine.lock:
            lane.cancel(slot)

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
            return lane.due_s()

    def overdue(self, lane: Lane) -> float | None:
        """Sends what was held up for too long. Returns when to look again, None: never."""
        with self.engine.lock:
            batch = lane.overdue(monotonic())
        if batch is not None:
            self.dispatch(lane, batch)
        with self.engine.lock:
            return lane.due_s()

    def dispatch(self, lane: Lane, batch: Batch) -> None:
        """Sends a batch as one command; or what is in it alone, where that is what has to be."""
        while True:
            slots = [slot for slot in batch.slots if not slot.waiter.is_gone]
            self.coalescer.counts.left += len(batch.slots) - len(slots)
            batch.slots = slots
            if len(slots) == 1:
                self._give(batch, [Go(self, lane, batch.sending)])
                return
            if slots:
                if self._is_sent(lane, batch):
                    return
                self._give(batch, [SEND_ALONE] * len(slots))
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

    def _goes_alone(self, slot: Slot) -> bool:
        now_s = monotonic()
        write = slot.item
        if TRANSACTIONS.wrote_to(write.call.scope.namespace, now_s):
            return True
        return write.kind != "insert_one" and not self.coalescer.can_bulk_write(now_s)

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
        self._give(batch, given)
        self.landed(lane, batch.sending)

    def _give(self, batch: Batch, given: list[Any]) -> None:
        """Brings each operation of a batch what its caller is given; the batch is over then."""
        slots = batch.slots
        # Slot and batch hold each other, and would stay until the garbage collector comes by.
        batch.slots = []
        self._bring(self, list(zip(slots, given, strict=True)))

    def _learn(
        self, batch: Batch, reply: BatchReply, verdicts: list[Verdict], patience_s: float
    ) -> None:
        coalescer = self.coalescer
        with self.engine.lock:
            coalescer.count(verdicts)
            coalescer.arrived(batch, patience_s, monotonic())
            if batch.slots[0].item.kind != "insert_one":
                coalescer.bulk_write_answered(reply, monotonic())
