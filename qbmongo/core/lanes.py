"""A lane: direct while few are on the wire, gathered while more, what gathered travels as one.

Nothing here waits. A call asks to `enter`: while fewer than `max_in_flight` sendings are on the
wire it goes alone, at once. Otherwise it is `put` among others; when a sending has `landed`, what
gathered is handed back as one batch in its place. A sending that takes longer than `patience_s` no
longer counts, so that a stalled command holds up nobody behind it for longer than that: at `due_s`
the client asks for what is `overdue`.

Invariant: while slots gather, at least `max_in_flight` sendings are on the wire, or it is not yet
`due_s`. Whoever was given a Sending (alone, or in a Batch) tells exactly once that it has landed.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from ..records import Batch, Gathered, Sending

__all__ = ["Lane", "LaneCounts", "LaneLimits"]


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """When to gather, and how much may travel as one. Times in seconds, size in bytes."""

    max_in_flight: int
    max_ops: int
    max_bytes: int
    patience_s: float = math.inf
    linger_s: float = 0.0


class LaneCounts:
    """What the lanes of one part of one client have done, and hold.

    direct: calls that went alone through a lane. batches, gathered: batches dispatched, and the
    operations in them; sizes: batches by their number of operations, as the power of two that is
    not smaller. left: operations taken out by their callers before dispatch. bytes: dispatched in
    batches. waited_s: what operations waited before dispatch, in all; waited_max_s: the longest.
    pending: operations that gather now; in_flight: sendings on the wire now; held_bytes: of
    operations that gather or are on the wire in batches.
    """

    __slots__ = (
        "batches",
        "bytes",
        "direct",
        "gathered",
        "held_bytes",
        "in_flight",
        "left",
        "pending",
        "sizes",
        "waited_max_s",
        "waited_s",
    )

    def __init__(self) -> None:
        self.direct = self.batches = self.gathered = self.left = self.bytes = 0
        self.pending = self.in_flight = self.held_bytes = 0
        self.waited_s = self.waited_max_s = 0.0
        self.sizes: Counter[int] = Counter()

    def add(self, operations: int, size: int, sign: int = 1) -> None:
        """Counts a batch of so many operations and bytes; sign -1: no longer."""
        if operations:
            self.batches += sign
            self.gathered += sign * operations
            self.bytes += sign * size
            self.sizes[1 << (operations - 1).bit_length()] += sign

    def shrink(self, batch: Batch, slots: list[Any]) -> None:
        """Of a batch that was counted, only these operations are sent."""
        before = len(batch.slots)
        self.add(before, batch.size, -1)
        self.add(len(slots), sum(slot.size for slot in slots))
        self.left += before - len(slots)


class Lane:
    """Sendings of one kind to one place, and what gathers behind them.

    timer: for the client, which keeps what will wake it at `due_s`: the event loop, while it will.
    """

    __slots__ = ("_bytes", "_pending", "_sendings", "counts", "limits", "timer")

    def __init__(self, limits: LaneLimits, counts: LaneCounts) -> None:
        self.limits = limits
        self.counts = counts
        self.timer: Any = None
        self._sendings: dict[Sending, int] = {}
        # In the order in which they came; any of them may be taken out.
        self._pending: dict[Gathered, None] = {}
        self._bytes = 0

    def enter(self, now_s: float) -> Sending | None:
        """A place on the wire for a lone call; None if it has to gather."""
        if self._pending or self.limits.linger_s or not self._has_room(now_s):
            return None
        sending = Sending(now_s)
        self._sendings[sending] = 0
        counts = self.counts
        counts.direct += 1
        counts.in_flight += 1
        return sending

    def put(self, slot: Gathered) -> None:
        """Puts an operation among those that gather, whose size, waiter and gathered_s are set."""
        size = slot.size
        self._pending[slot] = None
        self._bytes += size
        counts = self.counts
        counts.pending += 1
        counts.held_bytes += size

    def follow(self, slot: Gathered) -> bool:
        """`put`, if something gathers; False if not: `enter` is to be asked."""
        if not self._pending:
            return False
        self.put(slot)
        return True

    def landed(self, sending: Sending, now_s: float) -> Batch | None:
        """A sending is over, whatever came of it. Returns the batch to send in its place, if any.

        Told twice of one sending, the second time says nothing.
        """
        size = self._sendings.pop(sending, None)
        if size is None:
            return None
        self.counts.in_flight -= 1
        self.counts.held_bytes -= size
        return self.ready(now_s) if self._pending else None

    def ready(self, now_s: float) -> Batch | None:
        """The batch that may be sent now, if there is one."""
        pending = self._pending
        if not pending or not self._has_room(now_s):
            return None
        limits = self.limits
        if (
            limits.linger_s
            and now_s < self._oldest_s() + limits.linger_s
            and len(pending) < limits.max_ops
            and self._bytes < limits.max_bytes
        ):
            return None
        return self._dispatch(now_s)

    def due_s(self, now_s: float = math.inf) -> float | None:
        """When what gathers must be looked at, if nothing lands before; None: nothing gathers.

        What lingers is looked at when it has lingered, even if the wire is full now: what lands
        before that sends nothing yet. now_s: matters only where something lingers.
        """
        if not self._pending:
            return None
        limits = self.limits
        due_s = self._oldest_s() + limits.linger_s
        if len(self._sendings) >= limits.max_in_flight and (now_s >= due_s or not limits.linger_s):
            due_s += limits.patience_s
        return due_s

    def overdue(self, now_s: float) -> Batch | None:
        """What has gathered for too long, or may be sent now, as a batch to be sent."""
        batch = self.ready(now_s)
        if batch is None and self._pending:
            limits = self.limits
            if now_s >= self._oldest_s() + limits.linger_s + limits.patience_s:
                batch = self._dispatch(now_s)
        return batch

    def take_all(self, now_s: float) -> list[Batch]:
        """Everything that gathers, as batches to be sent at once whatever is on the wire."""
        batches = []
        while self._pending:
            batches.append(self._dispatch(now_s))
        return batches

    def cancel(self, slot: Gathered) -> bool:
        """Takes an operation out; False if it was dispatched before."""
        if slot not in self._pending:
            return False
        slot.left = True
        del self._pending[slot]
        self._bytes -= slot.size
        counts = self.counts
        counts.pending -= 1
        counts.held_bytes -= slot.size
        counts.left += 1
        return True

    def sendings(self) -> list[Sending]:
        """What is on the wire now, oldest first."""
        return list(self._sendings)

    @property
    def is_gathering(self) -> bool:
        """Something gathers: whatever comes now gathers behind it."""
        return bool(self._pending)

    @property
    def is_idle(self) -> bool:
        """Nothing gathers and nothing is on the wire."""
        return not self._pending and not self._sendings

    def give_up(self, now_s: float) -> list[Gathered]:
        """Nobody will tell of what is on the wire, or wake what gathers: that is taken out."""
        left = list(self._pending)
        for slot in left:
            self.cancel(slot)
        for sending in list(self._sendings):
            self.landed(sending, now_s)
        self.timer = None
        return left

    def reset(self) -> None:
        """In the child of a fork: nobody is there to land or to wait."""
        self._sendings.clear()
        self._pending.clear()
        self._bytes = 0
        self.timer = None

    def _oldest_s(self) -> float:
        return next(iter(self._pending)).gathered_s

    def _has_room(self, now_s: float) -> bool:
        limits = self.limits
        free = limits.max_in_flight - len(self._sendings)
        if free > 0:
            return True
        # Oldest first: those that stall no longer count.
        before_s = now_s - limits.patience_s
        for sending in self._sendings:
            if sending.started_s > before_s:
                return False
            free += 1
            if free > 0:
                return True
        return False

    def _dispatch(self, now_s: float) -> Batch:
        limits, pending, counts = self.limits, self._pending, self.counts
        slots: list[Gathered]
        if len(pending) <= limits.max_ops and self._bytes <= limits.max_bytes:
            slots, size = list(pending), self._bytes
            pending.clear()
        else:
            slots, size = [], 0
            for slot in pending:
                if slots and (size + slot.size > limits.max_bytes or len(slots) == limits.max_ops):
                    break
                slots.append(slot)
                size += slot.size
            self._pending = dict.fromkeys(list(pending)[len(slots) :])
        sending = Sending(now_s)
        batch = Batch(slots, size, sending)
        waited_s = 0.0
        for slot in slots:
            slot.batch = batch
            waited_s += now_s - slot.gathered_s
        self._sendings[sending] = size
        self._bytes -= size
        counts.in_flight += 1
        counts.pending -= len(slots)
        counts.add(len(slots), size)
        counts.waited_s += waited_s
        counts.waited_max_s = max(counts.waited_max_s, now_s - slots[0].gathered_s)
        return batch
