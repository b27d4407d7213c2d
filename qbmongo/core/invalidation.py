"""Effects and the trust in streams: what they drop of what is kept, and what fills hear of them.

Invariants (DESIGN section 2, contracts 1 and 2):

- One sequence for the client. Closing an effect takes the next number and drops what it may touch.
- While fills are open, effects stay in their namespace's log, or in what was forgotten of it, so
  that the answer can be compared with them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

from ..records import Effect, Footprint
from .fills import Namespace
from .footprints import may_affect
from .index import NamespaceIndex
from .kept_forms import filter_of, private_effect
from .store import Budget, Entry, Store
from .trust import Trust

__all__ = ["LOG_LIMIT", "Invalidation"]

LOG_LIMIT = 1024


class Invalidation:
    """What is kept, and everything that drops it. Called under the client's lock."""

    def __init__(self, *, max_bytes: int, lease_s: float, unknown_s: float, budget: Budget) -> None:
        self._lease_s = lease_s
        self._unknown_s = unknown_s
        self.store = Store(max_bytes, budget, self._forget)
        self._namespaces: dict[str, Namespace] = {}
        self._trusts: dict[str, Trust] = {}
        self._foreign: dict[Entry, tuple[Namespace, ...]] = {}
        self._seen: dict[Any, int] = {}
        self._quarantine: deque[tuple[float, Effect]] = deque()
        self._cleared = 0
        self.sequence = 0
        self.off_reason: str | None = None
        self.invalidated: Counter[str] = Counter()
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
        if dropped:
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

    def _forget(self, entry: Entry) -> None:
        """An entry left the store, for whatever cause."""
        namespace = self._namespaces[entry.group.inside.namespace]
        namespace.index.discard(entry)
        for other in self._foreign.pop(entry, ()):
            other.foreign.discard(entry)
