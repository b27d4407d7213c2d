"""The cache of reads: lookup, flights, stamps, invalidation. Decides; never does IO or waits.

Invariants (DESIGN section 2, contracts 1 and 2):

- One sequence for the client. Closing an effect takes the next number and drops what it may touch.
- A fill remembers the number at its sending and is kept only if no later effect may touch it.
- What was forgotten of the sequence counts as touching.
- Nothing is served without a lease, unless the user set a time to live.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterable
from typing import Any

import bson

from ..records import Effect, Footprint, ReadOp
from .fills import Fill, Namespace
from .footprints import cacheable, footprint_of, may_affect
from .frozen import EXACT_CODEC
from .index import NamespaceIndex
from .kept_forms import collated, filter_of, key_bytes, private_effect
from .store import Budget, Entry, Store
from .trust import Facts, Trust
from .wanted import WantedFacts

__all__ = ["Cache", "Fill", "Namespace"]

LOG_LIMIT = 1024
MAX_OPEN_FILLS = 10_000


class Cache:
    """The cached reads of one client. Every method is called under the client's lock."""

    def __init__(
        self,
        *,
        max_bytes: int,
        lease_s: float,
        max_age_s: float,
        unknown_s: float,
        budget: Budget,
    ) -> None:
        self._max_age_s = max_age_s
        self._lease_s = lease_s
        self._unknown_s = unknown_s
        self.store = Store(max_bytes, budget, self._forget)
        self._namespaces: dict[str, Namespace] = {}
        self._trusts: dict[str, Trust] = {}
        self._wanted = WantedFacts()
        self._flights: dict[Hashable, Fill] = {}
        self._foreign: dict[Entry, tuple[Namespace, ...]] = {}
        self._seen: dict[Any, int] = {}
        self._quarantine: deque[tuple[float, Effect]] = deque()
        self._cleared = 0
        self.sequence = 0
        self.fills_open = 0
        self.off_reason: str | None = None
        self.invalidated: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.own_events_spared = 0

    # What is known of namespaces and databases

    def trust(self, database: str) -> Trust:
        """The trust record of a database; made at first use."""
        trust = self._trusts.get(database)
        if trust is None:
            trust = self._trusts[database] = Trust(database)
        return trust

    def trusts(self) -> list[Trust]:
        return list(self._trusts.values())

    def namespace(self, name: str) -> Namespace:
        """The record of a collection; made at first use."""
        namespace = self._namespaces.get(name)
        if namespace is None:
            trust = self.trust(name.partition(".")[0])
            namespace = Namespace(name, trust, NamespaceIndex(filter_of))
            self._namespaces[name] = namespace
        return namespace

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
            fill.filter = bson.encode(footprint.filter, codec_options=EXACT_CODEC)
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
        if namespace.facts is not None and namespace.until_s is not None:
            if now_s < namespace.until_s:
                return
            namespace.facts = None
        # They are read after this instant, so that they are no older than that.
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
        fill.waiters.append(waiter)

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
        trust = fill.namespaces[0].trust
        if self.off_reason is not None:
            return "off"
        if size > fill.max_bytes:
            return "too_large"
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
        for namespace, facts in zip(fill.namespaces, fill.facts, strict=True):
            if namespace.forgotten > fill.stamp:
                return "forgotten"
            if namespace.facts is not facts and (
                namespace.facts is None or namespace.facts != facts
            ):
                return "facts"
            for number, effect, time in namespace.log:
                if number <= fill.stamp or (time and fill.seen >= time):
                    continue
                if namespace is not fill.namespaces[0] or may_affect(effect, footprint):
                    return "overtaken"
        if self._quarantine and not trust.trusted and self._quarantined(footprint, now_s):
            return "unknown_outcome"
        return None

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
        if not self.store.put(entry):
            self.refused["too_large"] += 1
            return
        index.add(entry)
        if len(fill.namespaces) > 1:
            self._foreign[entry] = fill.namespaces[1:]
            for namespace in fill.namespaces[1:]:
                namespace.foreign.add(entry)

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
        if self._namespaces.get(fill.op.namespace) is not fill.namespaces[0]:
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

    # Effects

    def close(self, effects: Iterable[Effect], *, cause: str = "own") -> None:
        """Effects of this client's writes close: each takes the next number and drops."""
        for effect in effects:
            self._apply(effect, 0, cause)

    def close_unknown(self, effects: Iterable[Effect], now_s: float) -> None:
        """Effects of writes of unknown outcome: dropped now, and from then on another writer's."""
        for effect in effects:
            self._quarantine.append((now_s + self._unknown_s, effect))
            self._apply(effect, 0, "unknown")
        if len(self._quarantine) > LOG_LIMIT:
            # Too many to compare with: as one that touches everything.
            self._quarantine = deque([(now_s + self._unknown_s, Effect("everything", ""))])

    def event(self, database: str, effects: Iterable[Effect], time: int) -> None:
        """A change-stream event, as effects at an operation time; what saw that time is left."""
        for effect in effects:
            self._apply(effect, time, "event")

    def _apply(self, effect: Effect, time: int, cause: str) -> None:
        self.sequence += 1
        kind = effect.kind
        if kind == "everything":
            self.clear(cause)
            return
        if kind == "database":
            self.clear_database(effect.namespace, cause)
            return
        namespace = self._namespaces.get(effect.namespace)
        if namespace is None:
            return
        if kind == "namespace":
            namespace.facts = None
            time = 0
        elif not time:
            effect = private_effect(effect, namespace.facts)
        if namespace.fills:
            namespace.log.append((self.sequence, effect, time))
            if len(namespace.log) > LOG_LIMIT:
                namespace.forgotten = max(namespace.forgotten, namespace.log.popleft()[0])
        if kind == "namespace":
            dropped = set(namespace.index.entries())
        else:
            dropped = namespace.index.affected(effect)
        if namespace.foreign:
            dropped = dropped | namespace.foreign
        if time and dropped:
            spared = {entry for entry in dropped if entry.seen >= time}
            self.own_events_spared += len(spared)
            dropped = dropped - spared
        self._drop(dropped, cause)

    def _drop(self, entries: Iterable[Entry], cause: str) -> None:
        for entry in entries:
            self.invalidated[cause] += 1
            self.store.remove(entry)

    def clear(self, cause: str) -> None:
        """Drops everything; no fill under way will be kept."""
        self.sequence += 1
        self._cleared = self.sequence
        for namespace in self._namespaces.values():
            namespace.facts = None
            namespace.index = NamespaceIndex(filter_of)
            namespace.foreign.clear()
        self._foreign.clear()
        self.invalidated[cause] += self.store.clear()

    def clear_database(self, database: str, cause: str) -> None:
        """Drops everything of one database; no fill under way there will be kept."""
        self.sequence += 1
        for namespace in self._forget_database(database, cause):
            namespace.forgotten = self.sequence

    def _forget_database(self, database: str, cause: str) -> list[Namespace]:
        prefix = database + "."
        forgotten = [n for name, n in self._namespaces.items() if name.startswith(prefix)]
        for namespace in forgotten:
            namespace.facts = None
            self._drop(set(namespace.index.entries()) | namespace.foreign, cause)
        return forgotten

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

    def switch_off(self, reason: str) -> None:
        """The cache is off for this client from now on (a fault of ours)."""
        self.off_reason = reason
        self.clear("fault")

    # What the stream and the listeners tell

    def observed(self, address: Any, operation_time: int) -> None:
        """A reply of a server carried an operation time."""
        if operation_time > self._seen.get(address, 0):
            self._seen[address] = operation_time

    def answered_by(self, address: Any) -> None:
        """A server answered a command that is sent to the primary alone."""
        for trust in self._trusts.values():
            if trust.trusted and trust.primary.address != address:
                self.primary_changed()
                return

    def lease(self, database: str, primary: Any, start_s: float) -> None:
        """A probe that began at start_s succeeded on this primary."""
        trust = self.trust(database)
        if trust.trusted and trust.primary != primary:
            self.lost(database, "primary_changed")
        if not trust.trusted:
            # What a time to live has let in was not watched; nor was what namespaces are.
            self._forget_database(database, "untrusted")
        trust.renewed(primary, start_s + self._lease_s)

    def lost(self, database: str | None, reason: str) -> None:
        """The stream of a database (None: of all) may have missed something."""
        for trust in self._trusts.values() if database is None else (self.trust(database),):
            if trust.trusted:
                trust.lost(reason)
                self.clear_database(trust.database, "gap")
            else:
                trust.reason = reason

    def primary_changed(self) -> None:
        """The primary is another one, or the same in another term."""
        self._seen.clear()
        for trust in self._trusts.values():
            trust.lost("primary_changed")
        self.clear("primary")

    def _quarantined(self, footprint: Footprint, now_s: float) -> bool:
        while self._quarantine and self._quarantine[0][0] <= now_s:
            self._quarantine.popleft()
        for _, effect in self._quarantine:
            if effect.kind == "everything":
                return True
            if effect.kind == "database":
                if footprint.namespace.startswith(effect.namespace + "."):
                    return True
            elif effect.namespace in footprint.foreign or (
                effect.namespace == footprint.namespace and may_affect(effect, footprint)
            ):
                return True
        return False

    def is_kept(self, entry: Entry) -> bool:
        """Whether this is still what would be served for its key."""
        return self.store.get(entry.key) is entry

    def _forget(self, entry: Entry) -> None:
        """An entry left the store, for whatever cause."""
        namespace = self._namespaces[entry.group.inside.namespace]
        namespace.index.discard(entry)
        for other in self._foreign.pop(entry, ()):
            other.foreign.discard(entry)
