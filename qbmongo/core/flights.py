"""Reads on their way: which may be kept, who may wait for them, and what they remember.

Invariants (DESIGN section 2, contracts 1 and 2):

- A fill remembers the number of the sequence at its sending and is kept only if no later effect may
  touch it.
- What was forgotten of the sequence counts as touching.
- Nothing is served without a lease, unless the user set a time to live.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Any

from ..records import Footprint, ReadOp
from .fills import Fill, Namespace
from .footprints import cacheable, footprint_of, may_affect
from .invalidation import Invalidation
from .kept_forms import collated, filter_bytes, key_bytes
from .store import Budget, Entry
from .trust import Facts
from .wanted import WantedFacts

__all__ = ["MAX_OPEN_FILLS", "Flights"]

MAX_OPEN_FILLS = 10_000


class Flights(Invalidation):
    """What is kept, and the reads whose answers may be. Called under the client's lock."""

    def __init__(
        self,
        *,
        max_bytes: int,
        lease_s: float,
        max_age_s: float,
        unknown_s: float,
        budget: Budget,
    ) -> None:
        super().__init__(max_bytes=max_bytes, lease_s=lease_s, unknown_s=unknown_s, budget=budget)
        self._max_age_s = max_age_s
        self._wanted = WantedFacts()
        self._flights: dict[Hashable, Fill] = {}
        self.fills_open = 0
        self.refused: Counter[str] = Counter()

    # What is known of collections

    def facts(self, name: str) -> Facts | None:
        """What is known of a collection; None if nothing is."""
        namespace = self._namespaces.get(name)
        return None if namespace is None else namespace.facts

    def wanted_facts(self, database: str) -> list[str]:
        """Collections of a database whose facts are to be read next; see WantedFacts.first."""
        return self._wanted.first(database)

    def facts_stamp(self, name: str) -> tuple[int, int, Namespace]:
        """To be taken before a collection's facts are read, and given back with them."""
        namespace = self.namespace(name)
        namespace.fills += 1
        return self.sequence, namespace.trust.epoch, namespace

    def facts_read(self, stamp: tuple[int, int, Namespace], facts: Facts | None) -> None:
        """Facts were read (None: could not be). Kept only if nothing changed them meanwhile."""
        number, epoch, namespace = stamp
        changed = (
            facts is None
            or namespace.trust.epoch != epoch
            or max(namespace.forgotten, self._cleared) > number
            or any(n > number and e.kind == "namespace" for n, e, _ in namespace.log)
        )
        self._fill_ended(namespace)
        if changed:
            self._wanted.postpone(namespace)
        else:
            namespace.facts = facts
            self._wanted.known(namespace)

    # Reading

    def flight(self, key: Hashable, now_s: float, *, ttl: bool) -> Fill | None:
        """A flight that a reader may join: under a lease (or a time to live), begun under trust,
        with no effect since its sending that may touch it."""
        fill = self._flights.get(key)
        if fill is None:
            return None
        if ttl:
            if fill.ttl_s is None or now_s >= fill.started_s + fill.ttl_s:
                return None
        else:
            trust = fill.namespaces[0].trust
            if not fill.leased or now_s >= trust.lease_until_s or trust.epoch != fill.epoch:
                return None
        return None if self._touched_since(fill) else fill

    def begin(
        self,
        key: Hashable,
        op: ReadOp,
        now_s: float,
        *,
        ttl_s: float | None,
        max_bytes: int,
        share: bool,
    ) -> Fill | str:
        """Begins a fill for a read that is about to be sent, or says why it may not be kept.

        op must be a private copy: whatever the caller does to its arguments meanwhile, key,
        footprint and what is sent stay one.
        """
        reason = cacheable(op)
        if reason is not None:
            return reason
        footprint = footprint_of(op)
        namespaces = [self.namespace(op.namespace)]
        if footprint.foreign:
            namespaces += [self.namespace(name) for name in sorted(footprint.foreign)]
        unknown = False
        trust = namespaces[0].trust
        for namespace in namespaces:
            if ttl_s is not None and not trust.trusted:
                self._age_facts(namespace, now_s, ttl_s)
            facts = namespace.facts
            if facts is None:
                self._wanted.add(namespace)
                unknown = True
            elif facts.refusal is not None:
                return facts.refusal
            elif not facts.simple:
                footprint.simple = False
        if not trust.trusted and ttl_s is None:
            return "untrusted"
        if unknown:
            return "facts"
        if self.fills_open >= MAX_OPEN_FILLS:
            return "too_many_open"
        if self._quarantine and not trust.trusted and self._quarantined(footprint, now_s):
            return "unknown_outcome"
        if not footprint.simple:
            footprint = collated(footprint)
        fill = Fill(key, op, footprint, now_s)
        if footprint.bound_ids is None and footprint.filter is not None:
            fill.filter = filter_bytes(footprint.filter, key)
        fill.namespaces = tuple(namespaces)
        fill.facts = tuple(namespace.facts for namespace in namespaces)
        fill.ttl_s = ttl_s
        fill.max_bytes = max_bytes
        self._stamp(fill)
        fill.open = True
        self.fills_open += 1
        for namespace in namespaces:
            namespace.fills += 1
        if share and key not in self._flights:
            fill.shared = True
            self._flights[key] = fill
        return fill

    @staticmethod
    def _age_facts(namespace: Namespace, now_s: float, ttl_s: float) -> None:
        """Without a stream nobody tells of another's collMod: facts live as long as answers do."""
        namespace.untrusted = True
        if namespace.until_s is not None:
            if now_s < namespace.until_s:
                return
            namespace.facts = None
        # They are read after this instant, so that they are no older than that; what is asked
        # while they are on their way makes them no younger.
        namespace.until_s = now_s + ttl_s

    def _stamp(self, fill: Fill) -> None:
        """Everything a fill remembers of the instant of its sending."""
        trust = fill.namespaces[0].trust
        fill.stamp = fill.checked = self.sequence
        fill.stale = False
        fill.epoch = trust.epoch
        fill.leased = trust.trusted
        fill.primary = trust.primary
        fill.address = None
        fill.seen = self._seen.get(trust.primary.address, 0) if trust.trusted else 0

    def stamp_again(self, fill: Fill, generation: int) -> None:
        """A fill that waited since it was begun is sent only now.

        What closed meanwhile is seen by this sending, whose answer nobody has yet: not even for
        those who joined can it be too old.
        """
        if generation == fill.generation and fill.open:
            self._stamp(fill)

    def join(self, fill: Fill, waiter: Any) -> None:
        """Adds somebody who waits for the flight's answer."""
        if fill.waiters:
            fill.waiters.append(waiter)
        else:
            fill.waiters = [waiter]

    def leave(self, fill: Fill, waiter: Any) -> None:
        """A waiter gave up."""
        if waiter in fill.waiters:
            fill.waiters.remove(waiter)

    def settle(
        self,
        fill: Fill,
        generation: int,
        data: bytes,
        ids: Iterable[Any] | None,
        now_s: float,
    ) -> list[Any]:
        """The answer of a sending has come. Keeps it if it may be kept; returns who waits for it.

        data: the documents' BSON, one after another. ids: canonical `_id`s of all of them, or None.
        A sending that is not the current one settles nothing.
        """
        if generation != fill.generation or not fill.open:
            return []
        known = None if ids is None else frozenset(ids)
        # Nobody joins any more, so the flight's "any" becomes what the answer contains.
        fill.footprint.ids = known
        # Asked while the fill is still counted: the log is kept only for those that are.
        reason = self._refusal(fill, fill.footprint, len(data), now_s)
        waiters = self._ended(fill)
        if reason is not None:
            self.refused[reason] += 1
            if fill.address is not None:
                self.answered_by(fill.address)
            return waiters
        self._keep(fill, data, known, now_s)
        return waiters

    def _refusal(self, fill: Fill, footprint: Footprint, size: int, now_s: float) -> str | None:
        if self.off_reason is not None:
            return "off"
        if size > fill.max_bytes:
            return "too_large"
        reason = self._refusal_of_sending(fill)
        if reason is not None:
            return reason
        for namespace, facts in zip(fill.namespaces, fill.facts, strict=True):
            reason = self._refusal_of_facts(fill, namespace, facts)
            if reason is not None:
                return reason
            if namespace.log and self._overtaken(fill, namespace, footprint):
                return "overtaken"
        trust = fill.namespaces[0].trust
        if self._quarantine and not trust.trusted and self._quarantined(footprint, now_s):
            return "unknown_outcome"
        return None

    def _refusal_of_sending(self, fill: Fill) -> str | None:
        """Why no answer of this sending is kept; it has nothing to do with what was asked."""
        trust = fill.namespaces[0].trust
        if fill.ttl_s is None and not (fill.leased and trust.trusted and trust.epoch == fill.epoch):
            return "trust"
        if trust.trusted and fill.address is not None and fill.address != trust.primary.address:
            return "primary"
        if fill.primary != trust.primary:
            return "primary"
        if trust.trusted and fill.address is None:
            return "primary"
        if fill.stamp < self._cleared:
            return "cleared"
        return None

    @staticmethod
    def _refusal_of_facts(fill: Fill, namespace: Namespace, facts: Facts | None) -> str | None:
        if namespace.forgotten > fill.stamp:
            return "forgotten"
        if namespace.facts is not facts and (namespace.facts is None or namespace.facts != facts):
            return "facts"
        return None

    @staticmethod
    def _overtaken(fill: Fill, namespace: Namespace, footprint: Footprint) -> bool:
        """Whether an effect in the log, later than the sending, may touch the answer."""
        for number, effect, time in namespace.log:
            if number <= fill.stamp or (time and fill.seen >= time):
                continue
            if namespace is not fill.namespaces[0] or may_affect(effect, footprint):
                return True
        return False

    def _keep(self, fill: Fill, data: bytes, ids: frozenset[Any] | None, now_s: float) -> None:
        footprint = fill.footprint
        index = fill.namespaces[0].index
        group = index.group_for(footprint, ids_known=ids is not None)
        indexed = (ids or frozenset()) | (footprint.bound_ids or frozenset())
        equality = footprint.equality[1] if footprint.equality is not None else None
        life_s = self._max_age_s if fill.ttl_s is None else min(fill.ttl_s, self._max_age_s)
        # Its age counts from the sending: the answer may have been on its way for long.
        entry = Entry(
            fill.key,
            data,
            group,
            tuple(indexed),
            equality,
            fill.filter,
            now_s,
            fill.started_s + life_s,
            fill.seen,
            fill.stats,
            key_bytes(fill.key),
        )
        # What drops it is there before it can be served, wherever an interrupt (Ctrl-C) strikes.
        index.add(entry)
        if len(fill.namespaces) > 1:
            self._foreign[entry] = fill.namespaces[1:]
            for namespace in fill.namespaces[1:]:
                namespace.foreign.add(entry)
        if not self.store.put(entry):
            self._forget(entry)
            self.refused["too_large"] += 1

    def abandon(self, fill: Fill, generation: int) -> list[Any]:
        """The sending failed or was given up; returns its waiters, who each make their own call."""
        if generation != fill.generation or not fill.open:
            return []
        return self._ended(fill)

    def hand_over(self, fill: Fill, generation: int) -> Any | None:
        """The leader of a flight was cancelled: the first waiter sends the read again.

        Returns that waiter (its sending is fill.generation from now on), or None if nobody waits.
        The new sending is stamped anew: the answer of the old one may be older than its joiners.
        """
        if generation != fill.generation or not fill.open:
            return None
        if not fill.waiters:
            self._ended(fill)
            return None
        fill.generation += 1
        self._stamp(fill)
        return fill.waiters.pop(0)

    def _ended(self, fill: Fill) -> list[Any]:
        fill.open = False
        waiters, fill.waiters = fill.waiters, []
        if self._namespaces.get(fill.namespaces[0].name) is not fill.namespaces[0]:
            # Begun before a fork, in the parent.
            return waiters
        self.fills_open -= 1
        for namespace in fill.namespaces:
            self._fill_ended(namespace)
        if fill.shared and self._flights.get(fill.key) is fill:
            del self._flights[fill.key]
        return waiters

    @staticmethod
    def _fill_ended(namespace: Namespace) -> None:
        namespace.fills -= 1
        if not namespace.fills and namespace.log:
            # Nobody is left who would compare with it.
            namespace.log.clear()

    def _touched_since(self, fill: Fill) -> bool:
        """Whether an effect since the sending may touch the flight; its ids count as "any"."""
        if fill.stale:
            return True
        if fill.stamp < self._cleared:
            fill.stale = True
            return True
        for namespace, facts in zip(fill.namespaces, fill.facts, strict=True):
            if namespace.forgotten > fill.stamp or namespace.facts != facts:
                fill.stale = True
                return True
            for number, effect, time in namespace.log:
                if number <= fill.checked or (time and fill.seen >= time):
                    continue
                if namespace is not fill.namespaces[0] or may_affect(effect, fill.footprint):
                    fill.stale = True
                    return True
        fill.checked = self.sequence
        return False

    def after_fork(self) -> None:
        """In the child of a fork: nothing kept, nothing trusted, no fill under way."""
        self._seen.clear()
        for trust in self._trusts.values():
            trust.lost("forked")
        self.clear("fork")
        self._flights.clear()
        # The parent's fills settle nothing here, and are not counted among those of the child.
        self._namespaces = {}
        self._wanted.clear()
        self.fills_open = 0

    def is_kept(self, entry: Entry) -> bool:
        """Whether this is still what would be served for its key."""
        return self.store.get(entry.key) is entry
