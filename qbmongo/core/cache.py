"""The cache of reads: lookup, flights, stamps, invalidation. Decides; never does IO or waits.

What drops is in core.invalidation, what one read goes through in core.flights. Here is what point
reads go through that are sent together, by the same rules: what is true of all of them is asked
once. qbmongo_tests/core/test_point_fills.py shows that both ways end alike.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from .fills import NOBODY, Fill, Namespace, PointFill, PointTerms
from .flights import MAX_OPEN_FILLS, Flights
from .store import Entry

__all__ = ["Cache", "Fill", "Namespace"]


class Cache(Flights):
    """The cached reads of one client. Every method is called under the client's lock."""

    def begin_point(
        self, terms: PointTerms, key: Hashable, form: Any, now_s: float, *, share: bool = True
    ) -> PointFill | None:
        """As `begin`, for a find_one by `_id` alone of a value that is its own form.

        terms: of the namespace. key: the read's exact key. None: `begin` is to be asked, because
        something may be in the way, or somebody asks for the same already.
        """
        (namespace,) = terms.namespaces
        if (
            namespace.facts is not terms.facts[0]
            or not namespace.trust.trusted
            or self.off_reason is not None
            or self.fills_open >= MAX_OPEN_FILLS
            or key in self._flights
        ):
            return None
        fill = PointFill(terms, key, form, now_s)
        self._stamp(fill)
        self.fills_open += 1
        namespace.fills += 1
        if share:
            self._flights[key] = fill
        else:
            fill.shared = False
        return fill

    def point_terms(self, name: str, ttl_s: float | None, max_bytes: int) -> PointTerms | None:
        """What point reads of a collection are kept by; None where something is in the way."""
        namespace = self.namespace(name)
        facts = namespace.facts
        if facts is None or facts.refusal is not None or not facts.simple:
            return None
        return PointTerms(namespace, facts, ttl_s, max_bytes)

    def stamp_points(self, fills: Iterable[PointFill], sending: Any) -> int:
        """`stamp_again` for fills of one namespace that are sent as one. Returns what they are to
        be sent after.

        sending: stands for this sending, when they are settled.
        """
        seen = 0
        first: PointFill | None = None
        for fill in fills:
            if fill.generation or not fill.open:
                continue
            if first is None:
                self._stamp(fill)
                first, seen = fill, fill.seen
            else:
                fill.stamp = fill.checked = first.stamp
                fill.stale = False
                fill.epoch = first.epoch
                fill.leased = first.leased
                fill.primary = first.primary
                fill.address = None
                fill.seen = seen
            fill.sending = sending
        return seen

    def settle_points(
        self,
        fills: Sequence[PointFill],
        documents: Sequence[bytes],
        sending: Any,
        address: Any,
        now_s: float,
    ) -> list[tuple[PointFill, list[Any]]]:
        """`settle` for fills that were stamped together.

        documents: of each, or nothing. sending: as `stamp_points` was given it. address: of the
        server that answered. Returns the fills that somebody waits for, with those who wait.

        What is true of the sending is asked once: it changes only when an answer is refused.
        """
        told: list[tuple[PointFill, list[Any]]] = []
        flights, store, refused = self._flights, self.store, self.refused
        room = store.room
        judged: Any = None
        index: Any = None
        of_sending = group = None
        namespace: Any = None
        life_s = 0.0
        is_clean = is_own = False
        for fill, data in zip(fills, documents, strict=True):
            if fill.generation or not fill.open:
                continue
            fill.address = address
            if fill.sending is not sending:
                waiters = self.settle(fill, 0, data, (fill.form,) if data else (), now_s)
                if waiters:
                    told.append((fill, waiters))
                room = store.room
                continue
            if judged is not fill.facts:
                judged = fill.facts
                namespace = fill.namespaces[0]
                of_sending = self._refusal_of_sending(fill)
                is_clean = of_sending is None and self._is_untouched(fill, namespace)
                is_own = self._namespaces.get(namespace.name) is namespace
                life_s = self._max_age_s if fill.ttl_s is None else min(fill.ttl_s, self._max_age_s)
            reason = None
            if not is_clean or len(data) > fill.max_bytes:
                reason = self._refusal_of_point(fill, of_sending, data, now_s)
            # As `_ended`.
            fill.open = False
            waiters = fill.waiters
            if waiters:
                told.append((fill, waiters))
                fill.waiters = NOBODY
            key: Any = fill.key
            if is_own:
                self.fills_open -= 1
                namespace.fills -= 1
                if not namespace.fills and namespace.log:
                    namespace.log.clear()
                if flights.get(key) is fill:
                    del flights[key]
            if reason is not None:
                refused[reason] += 1
                if address is not None:
                    self.answered_by(address)
                judged = None
                continue
            if index is not namespace.index:
                index = namespace.index
                # They depend on their `_id` alone, so that one group is that of all.
                group = fill.terms.group
                if not index.has_group(group):
                    group = fill.terms.group = index.group_for(fill.footprint, ids_known=True)
            form = fill.form
            expires_s = fill.started_s + life_s  # counted from the sending, or before
            entry = Entry(
                key, data, group, (form,), None, None, now_s, expires_s, fill.seen, fill.stats,
                len(key[2]),
            )  # fmt: skip
            # What drops it is there before it can be served, as in `_keep`.
            index.add_point(entry, form)
            if entry.size > room or store.get(key) is not None:
                if not store.put(entry):
                    self._forget(entry)
                    refused["too_large"] += 1
                room = store.room
            else:
                store.put_new(entry)
                room -= entry.size
        store.count()
        return told

    def _is_untouched(self, fill: PointFill, namespace: Namespace) -> bool:
        """Whether nothing happened since the sending that answers are to be compared with."""
        log = namespace.log
        return (
            self.off_reason is None
            and not self._quarantine
            and self._refusal_of_facts(fill, namespace, fill.facts[0]) is None
            and not (log and log[-1][0] > fill.stamp)
        )

    def _refusal_of_point(
        self, fill: PointFill, of_sending: str | None, data: bytes, now_s: float
    ) -> str | None:
        """`_refusal`, where what is true of the whole sending is known."""
        if self.off_reason is not None:
            return "off"
        if len(data) > fill.max_bytes:
            return "too_large"
        if of_sending is not None:
            return of_sending
        namespace = fill.namespaces[0]
        reason = self._refusal_of_facts(fill, namespace, fill.facts[0])
        if reason is not None:
            return reason
        footprint = fill.footprint
        footprint.ids = frozenset((fill.form,) if data else ())
        if self._overtaken(fill, namespace, footprint):
            return "overtaken"
        if self._quarantine and not namespace.trust.trusted and self._quarantined(footprint, now_s):
            return "unknown_outcome"
        return None
