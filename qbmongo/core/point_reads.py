"""The point reads of one namespace: direct while few are on the wire, joined when more.

`begin` says whether a read goes to the driver at once (then `landed` follows) or waits. `landed`
returns what is to be sent in the place of what is over: a `JoinedFind`, which is told what arrived,
and says who is given what; in the end `landed` follows for it, too.

Invariants:

- A read joins a find before that is sent, never after. So it is answered by a sending that is
  later than its beginning, and sees every write that was acknowledged before (contract 1).
- A kept answer is compared with every effect since its sending, and spared by events up to the
  operation time it was sent after. So when a joined find is about to be sent, its fills are stamped
  anew, all under one lock, and it is sent after the operation time of that stamp.
- Who waits for a flight holds no place on the wire: what leads the flight may be waiting for one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import bson

from ..records import ReadOp
from ..records import Sending as Place
from .batching import BatchCounts, PlainRead, PointRead
from .fills import PointFill, PointTerms
from .joined_finds import JoinedFind, Waiters
from .lanes import Lane, LaneLimits
from .lone_reads import LoneRead
from .point_keys import PointKey, id_filter, point_key
from .profile import ShapeStats
from .tickets import ALONE, Lead, Ticket
from .trust import Facts

if TYPE_CHECKING:
    from ..settings import BatchSettings
    from .cache import Cache
    from .engine import Engine
    from .scope import Scope

__all__ = ["Direct", "Gathering", "PointReads"]

# Far below what one command may hold, at MAX_KEY_BYTES for each value.
MAX_BYTES = 4 * 1024 * 1024

# Lanes that are kept although nothing is in them.
MAX_IDLE = 64


class Gathering:
    """Point reads of one kind: one key path, projection and codec, which can travel together.

    codec is held so that its id stays its own. known: what reads by plain values have in common, by
    their type. timer: for the client, which keeps what will ask for `overdue`.
    """

    __slots__ = ("codec", "identity", "known", "lane", "timer")

    def __init__(self, identity: Hashable, codec: Any, lane: Lane) -> None:
        self.identity = identity
        self.codec = codec
        self.lane = lane
        self.known: dict[type, Alike] = {}
        self.timer: Any = None


class Alike:
    """What all reads by `_id` of one plain type through one scope have in common.

    stats: of their shape. facts: what it rests on. terms: by which answers are kept; None where the
    scope has no cache.
    """

    __slots__ = ("facts", "scope", "stats", "terms")

    def __init__(
        self, scope: Scope, stats: ShapeStats | None, facts: Facts | None, terms: PointTerms | None
    ) -> None:
        self.scope = scope
        self.stats = stats
        self.facts = facts
        self.terms = terms


class Direct:
    """A read that is on the wire by itself: `landed` must follow."""

    __slots__ = ("gathering", "place")

    def __init__(self, gathering: Gathering, place: Place) -> None:
        self.gathering = gathering
        self.place = place


class PointReads:
    """The point reads of one namespace with one read concern, through one client.

    loop: for the client, the event loop in which they wait, where it may be another one later.
    """

    def __init__(self, engine: Engine, namespace: str, counts: BatchCounts) -> None:
        self.engine = engine
        self._namespace = namespace
        self._gatherings: dict[Hashable, Gathering] = {}
        self._limits = LaneLimits(1, 2, MAX_BYTES)
        self.counts = counts
        self.loop: Any = None

    def configure(self, settings: BatchSettings) -> None:
        """Takes these settings, for the calls that begin from now on."""
        self._limits = LaneLimits(
            settings.max_in_flight,
            settings.max_batch_ids,
            MAX_BYTES,
            settings.max_joined_ms / 1000,
        )
        for gathering in list(self._gatherings.values()):
            gathering.lane.limits = self._limits
            # Profile and cache may have other settings, too.
            gathering.known = {}

    def is_key(self, path: str) -> bool:
        """Whether at most one document of the collection has a value in this field.

        Efficiency rests on it, correctness does not: see PointBatch.
        """
        if path == "_id":
            return True
        facts = self.engine.known_facts(self._namespace)
        return facts is not None and (path,) in facts.unique

    def join(
        self,
        scope: Scope,
        asked: tuple[Any, bytes],
        codec: Any,
        new_waiter: Callable[[], Any] | None,
        now_s: float,
    ) -> PlainRead | LoneRead | None:
        """Puts a find_one by a plain `_id` and nothing else on the wire, or behind what gathers.

        It is what `Scope.begin_read` and `begin` would come to, by a shorter way: all that does
        not depend on the value is known from the first such read. No kept answer serves it.

        Args:
            scope: one of those that hold these point reads.
            asked: of `plain_id`. A text joins nobody.
            codec: the collection's codec options.
            new_waiter: makes whoever is to be told; None: the caller can neither wait for others
                nor have them wait for it.

        Returns:
            A read that waits, or one that is to be sent now (`note_place` follows); or None, and
            nothing has happened: something has to be looked at.
        """
        gathering = self._gatherings.get(("_id", None, id(codec)))
        if gathering is None:
            return None
        try:
            value, element = asked
            is_gathering = gathering.lane.is_gathering
            if is_gathering and (new_waiter is None or type(value) is str):
                return None  # (a collation may make two texts one)
            alike = gathering.known.get(type(value))
            if alike is None or alike.scope is not scope:
                alike = self._learn(gathering, scope, value)
                if alike is None:
                    return None
            if new_waiter is None or not is_gathering:
                lone = LoneRead(self, gathering, scope, value, alike.stats, now_s)
                share = new_waiter is not None
                return lone if self._go_alone(gathering, alike, lone, element, share) else None
            read = PlainRead(scope, gathering, value, element, alike.stats, new_waiter(), now_s)
            if alike.terms is None:
                return read if self._follow(gathering, alike, read) else None
            return read if self._lead(gathering, alike, read) else None
        except Exception as error:
            self.engine.fault("batch", error)
            return None

    def note_place(self, read: PointRead | LoneRead) -> None:
        """Notes the calling place of a read that `join` gave, where that is due. Called by its
        caller, who is ready to be interrupted."""
        stats = read.stats
        if stats is not None and stats.place_due:
            engine = self.engine
            try:
                stats.note_place(engine.find_place(), engine.find_caller())
            except Exception as error:
                engine.fault("profile", error)

    def _go_alone(
        self, gathering: Gathering, alike: Alike, lone: LoneRead, element: bytes, share: bool
    ) -> bool:
        """Gives a read its place on the wire, and the flight that it leads if it is kept."""
        engine, lane, now_s = self.engine, gathering.lane, lone.started_s
        if alike.terms is None:
            with engine.lock:
                return self._are_known(gathering, alike, lone.value) and self._is_placed(
                    lane, lone, share
                )
        cache = alike.scope.cache
        if cache is None:
            return False
        with engine.lock:
            fill = self._begun(cache, gathering, alike, lone.value, element, now_s, share)
            if fill is None:
                return False
            if not self._is_placed(lane, lone, share):
                cache.abandon(fill, 0)
                return False
            fill.stats = lone.stats
            # It is stamped: what closes from now on is later than its sending.
            fill.sending = lone.answerer
            lone.seen = fill.seen
            lone.fill = fill
        engine.misses += 1
        return True

    def _is_placed(self, lane: Lane, lone: LoneRead, share: bool) -> bool:
        """Whether a read may go now; one that shares nothing takes no place of others."""
        if share:
            lone.place = lane.enter(lone.started_s)
            return lone.place is not None
        self.counts.direct += 1
        return True

    def _follow(self, gathering: Gathering, alike: Alike, read: PlainRead) -> bool:
        """Puts a read whose answer is not kept behind those that gather."""
        with self.engine.lock:
            return self._are_known(gathering, alike, read.value) and gathering.lane.follow(read)

    def _lead(self, gathering: Gathering, alike: Alike, read: PlainRead) -> bool:
        """Puts a read that leads a flight behind those that gather."""
        engine, cache = self.engine, alike.scope.cache
        if cache is None:
            return False
        with engine.lock:
            fill = self._begun(cache, gathering, alike, read.value, read.element, read.started_s)
            if fill is None:
                return False
            fill.stats = read.stats
            read.fill = fill
            if not gathering.lane.follow(read):
                cache.abandon(fill, 0)
                return False
        engine.misses += 1
        return True

    def _are_known(self, gathering: Gathering, alike: Alike, value: Any) -> bool:
        """Whether what was learnt of such reads still holds."""
        if self.engine.cache is None or alike.facts is self._facts():
            return True
        gathering.known.pop(type(value), None)
        return False

    def _begun(
        self,
        cache: Cache,
        gathering: Gathering,
        alike: Alike,
        value: Any,
        element: bytes,
        now_s: float,
        share: bool = True,
    ) -> PointFill | None:
        """The flight of a read whose answer is kept; None: something has to be looked at."""
        trust, terms = alike.scope.trust, alike.terms
        if trust is None or terms is None or now_s >= trust.lease_until_s:
            return None
        key = "find", self._namespace, id_filter(element), 1
        fill = cache.begin_point(terms, key, value, now_s, share=share)
        if fill is None:
            self._are_known(gathering, alike, value)
        else:
            trust.used = True
        return fill

    def _learn(self, gathering: Gathering, scope: Scope, value: Any) -> Alike | None:
        """What reads by values of this type have in common; None: they need to be looked at."""
        # Settings that change meanwhile put another dict in its place.
        known = gathering.known
        if scope.options is not None or scope.variant is not None:
            return None
        facts = self._facts()
        if facts is not None and facts.refusal is not None:
            return None
        terms = None
        if scope.cache is not None:
            terms = scope.cache.point_terms(self._namespace, scope.ttl_s, scope.max_result_bytes)
            if terms is None:
                return None
        op = ReadOp("find_one", self._namespace, {"_id": value}, None, None, 0, -1)
        alike = known[type(value)] = Alike(scope, scope.point_stats(op), facts, terms)
        return alike

    def _facts(self) -> Facts | None:
        return self.engine.known_facts(self._namespace)

    def begin(
        self, ticket: Ticket, codec: Any, waiter: Any, now_s: float
    ) -> Direct | PointRead | None:
        """What to do with a point read that goes to the server.

        Args:
            ticket: of a find_one by one field, with no more than a projection.
            codec: the collection's codec options.
            waiter: whoever is to be told of a read that waits; None: the caller can neither wait
                for others nor have them wait for it.

        Returns:
            Direct (send it now), a read that waits, or None: it cannot be joined; send it now, in
            no place on the wire.
        """
        engine = self.engine
        op: Any = ticket.op
        shown = None
        if op.projection is not None:
            try:
                shown = bson.encode(op.projection, codec_options=codec)
            except Exception:
                self.counts.refused["unencodable"] += 1
                return None
        (path,) = op.filter
        identity: Hashable = (path, shown, id(codec))
        with engine.lock:
            if waiter is None:
                if len(self._gatherings) < MAX_IDLE:
                    self._gathering(identity, codec)  # what is learnt of such reads is kept there
                self.counts.direct += 1
                return None
            direct = self._enter(identity, codec, now_s)
        if direct is not None:
            return direct
        facts = engine.known_facts(self._namespace)
        if facts is not None and facts.refusal is not None:
            self.counts.refused[facts.refusal] += 1
            return None
        simple = None if facts is None else facts.simple
        if type(ticket) is Lead:
            fill_key: Any = ticket.fill.key
            key = point_key(ticket.send, codec, simple=simple, encoded=fill_key[2])
        else:
            key = point_key(op, codec, simple=simple)
        if type(key) is str:
            self.counts.refused[key] += 1
            return None
        assert type(key) is PointKey
        read = PointRead(ticket, key, simple=simple is True)
        # Of the private copy: the caller's own dicts may be others by now.
        identity = (key.path, key.shown, id(codec))
        with engine.lock:
            # There may be room by now; then nobody would come to send what waits.
            direct = self._enter(identity, codec, now_s)
            if direct is None:
                gathering = read.gathering = self._gatherings[identity]
                read.waiter = waiter
                read.gathered_s = now_s
                gathering.lane.put(read)
                return read
        return direct

    def _enter(self, identity: Hashable, codec: Any, now_s: float) -> Direct | None:
        gathering = self._gathering(identity, codec)
        place = gathering.lane.enter(now_s)
        return None if place is None else Direct(gathering, place)

    def _gathering(self, identity: Hashable, codec: Any) -> Gathering:
        gathering = self._gatherings.get(identity)
        if gathering is None:
            lane = Lane(self._limits, self.counts)
            gathering = self._gatherings[identity] = Gathering(identity, codec, lane)
        return gathering

    def landed(self, gathering: Gathering, place: Place, now_s: float) -> JoinedFind | None:
        """A direct call or a joined find is over. Returns what is to be sent now, if anything.

        Never raises: a place that a fault of ours leaves counted is passed over in time.
        """
        try:
            with self.engine.lock:
                batch = gathering.lane.landed(place, now_s)
                if batch is not None:
                    return JoinedFind(self, gathering, batch)
                if gathering.lane.is_idle and len(self._gatherings) > MAX_IDLE:
                    self._gatherings.pop(gathering.identity, None)
        except Exception as error:
            self.engine.fault("batch", error)
        return None

    def due_s(self, gathering: Gathering) -> float | None:
        """When `overdue` is to be asked; None if nothing waits."""
        with self.engine.lock:
            return gathering.lane.due_s()

    def overdue(self, gathering: Gathering, now_s: float) -> JoinedFind | None:
        """What has waited for too long behind calls that take long, to be sent beside them."""
        with self.engine.lock:
            batch = gathering.lane.overdue(now_s)
            return None if batch is None else JoinedFind(self, gathering, batch)

    def withdraw(self, read: PointRead, now_s: float) -> Waiters:
        """The caller gave up, and was given no outcome. Returns waiters of its flight, each with
        what it is to be given. What is on the wire goes on: others may wait for it."""
        with self.engine.lock:
            if not read.gathering.lane.cancel(read):
                return []
        return self.refused(read, now_s)

    def refused(self, read: PointRead | LoneRead, now_s: float) -> Waiters:
        """A read that was to make its own call has no caller any more. Returns as `withdraw`."""
        ticket = read.ticket
        heir = ticket.scope.cancel_read(ticket)
        if heir is not None:
            return [heir]
        return [(waiter, ALONE) for waiter in ticket.scope.fail_read(ticket, now_s)]

    def left_behind(self, now_s: float) -> Waiters:
        """The event loop ended in which reads gathered, or were told that they had landed. Returns
        as `withdraw`, for all of them."""
        left: list[Any] = []
        with self.engine.lock:
            for gathering in self._gatherings.values():
                left += gathering.lane.give_up(now_s)
                gathering.timer = None
        return [told for read in left for told in self.refused(read, now_s)]

    def fault(self, error: BaseException) -> None:
        """A fault of ours in what waits or sends."""
        self.engine.fault("batch", error)

    def after_fork(self) -> None:
        """In the child of a fork: nothing is on the wire, and nobody waits."""
        for gathering in self._gatherings.values():
            gathering.lane.reset()
        self._gatherings.clear()
        counts = self.counts
        counts.pending = counts.in_flight = counts.held_bytes = 0
