"""A replica set: primaries in their terms, oplog with holes, majority point, roll-back.

One `Branch` is one primary in one term, with its own history. The newest is where other writers
write. An older one may be stale: cut off from the majority, still answering whoever believes in it.

Source: https://www.mongodb.com/docs/manual/core/replica-set-oplog/ and
https://www.mongodb.com/docs/manual/core/replica-set-rollbacks/
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from .documents import Changes, State
from .operations import Event, Operation, events_of

__all__ = ["Branch", "Entry", "Primary", "Transaction"]


class Primary(NamedTuple):
    """As the watcher names it."""

    address: tuple[str, int]
    election_id: int


class Entry:
    """One write in an oplog. Until it is committed its time is a hole.

    owner: whose write it is, as the oracle knows it; None for others'.
    """

    __slots__ = ("after", "changes", "events", "is_committed", "owner", "session", "time")

    def __init__(
        self, time: int, changes: Changes, events: list[Event], after: State | None, owner: Any
    ) -> None:
        self.time = time
        self.changes = changes
        self.events = events
        self.after = after
        self.owner = owner
        self.session: Hashable = None
        self.is_committed = False


class Transaction:
    """A transaction's changes, not visible to anybody else before its commit."""

    __slots__ = ("changes", "entry", "events", "is_over", "locks")

    def __init__(self) -> None:
        self.changes: Changes = {}
        self.events: list[Event] = []
        self.locks: set[tuple[str, int]] = set()
        self.entry: Entry | None = None
        self.is_over = False


class Branch:
    """One primary in one term.

    majority: everything up to it can no longer be rolled back. number: counts terms.
    is_stale: cut off from the majority. is_dead: it has stepped down and answers nobody.
    committed: told of each entry when it becomes visible.
    """

    def __init__(
        self,
        number: int,
        host: str,
        state: State,
        time: int,
        committed: Callable[[Branch, Entry], None],
    ) -> None:
        self.number = number
        self.primary = Primary((host, 27017), number)
        self.state = state
        self.commits = 0
        self.oplog: list[Entry] = []
        self.holes: set[int] = set()
        self.locks: dict[tuple[str, int], Any] = {}
        self.time = self.majority = self.last_applied = time
        self.is_stale = self.is_dead = False
        # Retryable writes by session and number: done, and under way.
        self.retried: dict[Hashable, Entry] = {}
        self.under_way: set[Hashable] = set()
        self.transactions: dict[Hashable, Transaction] = {}
        # What the majority holds, and how many entries of the oplog are in it.
        self._safe_state = state
        self._safe_entries = 0
        self._committed = committed

    # Writing

    def is_blocked(self, operation: Operation, owner: Any) -> bool:
        """Whether the operation has to wait for another one's locks."""
        if operation.whole is not None:
            return bool(self.locks) or bool(self.holes)
        if not self.locks:
            return False
        assert operation.evaluate is not None
        changes = operation.evaluate(self.state) or {}
        touched = (*operation.locks, *changes)
        return any(self.locks.get(target, owner) is not owner for target in touched)

    def reserve(self, operation: Operation, owner: Any) -> Entry | None:
        """Takes a time in the oplog for a write; None where nothing changes. Not visible yet.

        Raises:
            ValueError: the server refuses it.
        """
        if operation.whole is not None:
            after, events = operation.whole(self.state)
            return self._reserved(Entry(self._next(), {}, events, after, owner))
        assert operation.evaluate is not None
        changes = operation.evaluate(self.state)
        if changes is None:
            raise ValueError("a view")
        if not changes:
            return None
        events = events_of(self.state, changes, is_replacement=operation.is_replacement)
        for target in changes:
            self.locks[target] = owner
        return self._reserved(Entry(self._next(), changes, events, None, owner))

    def _next(self) -> int:
        self.time += 1
        return self.time

    def _reserved(self, entry: Entry) -> Entry:
        self.holes.add(entry.time)
        self.oplog.append(entry)
        return entry

    def commit(self, entry: Entry) -> None:
        """Makes a write visible."""
        self.state = entry.after or self.state.changed(entry.changes)
        entry.is_committed = True
        self.holes.discard(entry.time)
        self.last_applied = max(self.last_applied, entry.time)
        for target in entry.changes:
            self.locks.pop(target, None)
        self.commits += 1
        if entry.session is not None:
            self.retried[entry.session] = entry
        self._committed(self, entry)

    def abandon(self, entry: Entry) -> None:
        """A write under way is given up: its time stays empty."""
        self.holes.discard(entry.time)
        self.oplog.remove(entry)
        for target in entry.changes:
            self.locks.pop(target, None)

    def write_in(self, transaction: Transaction, operation: Operation) -> bool:
        """A write of a transaction; False where the server refuses it."""
        assert operation.evaluate is not None
        seen = self.state.changed(transaction.changes) if transaction.changes else self.state
        changes = operation.evaluate(seen)
        if changes is None:
            return False
        transaction.events += events_of(seen, changes, is_replacement=operation.is_replacement)
        transaction.changes |= changes
        for target in changes:
            self.locks[target] = transaction
            transaction.locks.add(target)
        return True

    def reserve_commit(self, transaction: Transaction, owner: Any) -> Entry:
        entry = Entry(self._next(), transaction.changes, transaction.events, None, owner)
        transaction.entry = entry
        return self._reserved(entry)

    def end(self, transaction: Transaction) -> None:
        """A transaction is over, whatever became of it."""
        transaction.is_over = True
        for target in transaction.locks:
            if self.locks.get(target) is transaction:
                del self.locks[target]

    # What the majority holds

    @property
    def gapless(self) -> int:
        """The last time before the first hole."""
        return min(self.holes) - 1 if self.holes else self.last_applied

    def replicate(self, time: int) -> None:
        """Moves the majority point, never past a hole."""
        self.majority = max(self.majority, min(time, self.gapless))
        while self._safe_entries < len(self.oplog):
            entry = self.oplog[self._safe_entries]
            if entry.time > self.majority:
                break
            self._safe_state = entry.after or self._safe_state.changed(entry.changes)
            self._safe_entries += 1

    def wait_until(self, time: int) -> bool:
        """Whether a read with afterClusterTime may run now; nobody writing, the clock is moved."""
        if time <= self.gapless:
            return True
        if self.holes and min(self.holes) <= time:
            return False
        self.last_applied = self.time = max(self.time, time)
        return True

    def events_after(self, time: int, most: int) -> list[tuple[int, list[Event]]]:
        """The oplog's events later than a time, as far as a majority holds them."""
        first = bisect_right(self.oplog, time, key=lambda entry: entry.time)
        found = [e for e in self.oplog[first : first + most] if e.time <= self.majority]
        return [(entry.time, entry.events) for entry in found]

    def elect(self, number: int, host: str, time: int) -> Branch:
        """Another primary, which has what this one had up to a time; the rest is rolled back."""
        self.replicate(time)
        branch = Branch(number, host, self._safe_state, self.majority, self._committed)
        kept = [entry for entry in self.oplog if entry.time <= self.majority]
        branch.oplog = kept
        branch._safe_entries = len(kept)
        branch.retried = {e.session: e for e in kept if e.session is not None}
        for session, transaction in self.transactions.items():
            if transaction.entry in kept:
                branch.transactions[session] = transaction
        for entry in kept:
            if entry.owner is not None:
                entry.owner.committed(branch.number, 0)
        self.is_stale = True
        return branch
