"""One namespace of one client: what to do with each read and write there.

A read: `Scope.hit` answers from memory, else `Scope.begin_read` gives a Ticket (send it), a Lead
(send it, the answer may be kept and shared) or a Join (wait for somebody else's), and exactly one
of `settle_read` / `fail_read` follows. A write: `begin_write`, then `end_write`.
A fault of ours never fails the caller's call.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

from bson.codec_options import CodecOptions
from bson.errors import BSONError

from ..records import ReadOp
from ..settings import Settings
from .batching import PointRead
from .cache import Cache
from .coalesce import limits_of_writes
from .counted import Counted
from .fills import give_up, ids_of
from .frozen import EXACT_CODEC, Frozen, frozen
from .keys import key_of
from .point_keys import id_filter
from .point_reads import PointReads
from .profile import Profile, SlowRules
from .simple_reads import SimpleReads
from .store import Entry
from .tickets import ALONE, Join, Lead, Ticket

if TYPE_CHECKING:
    from .engine import Engine
    from .lone_reads import LoneRead
    from .rewrite import Rewriter

__all__ = ["Scope", "slow_rules"]

# Why a read is not cached -> it is sent as it was written.
_AS_WRITTEN = frozenset({"cursor_type", "explain", "modifiers", "option"})


def slow_rules(settings: Settings) -> SlowRules | None:
    """When a call is slow where these settings hold; None where nothing is profiled."""
    observed = settings.profile
    return None if observed is None else SlowRules(observed.slow_ms / 1_000, observed.log_every_s)


class Scope(Counted):
    """One namespace of one client, with the settings that hold there.

    variant: why reads of this collection object are never cached (its read preference, ...), or
    None; concern: its read concern level, which is part of the key.
    """

    __slots__ = (
        "_verify_due",
        "active",
        "cache",
        "coalesce",
        "concern",
        "cursor_state",
        "max_result_bytes",
        "options",
        "points",
        "rewriter",
        "simple",
        "trust",
        "ttl_s",
        "variant",
        "verify_fraction",
        "write_lanes",
    )

    def __init__(
        self, engine: Engine, namespace: str, variant: str | None, concern: str | None
    ) -> None:
        self.engine = engine
        self.namespace = namespace
        self.variant = variant
        self.concern = concern
        self.options = None if concern is None else {"readConcern": concern}
        self._verify_due = 0.0
        # Kept here by the clients: what their cursors begin with.
        self.cursor_state: Any = None
        self.resolve()

    def resolve(self) -> None:
        """Takes the engine's present settings."""
        engine = self.engine
        settings = engine.settings.for_namespace(self.namespace)
        self.profile: Profile | None = engine.profile if settings.profile is not None else None
        observed = settings.profile
        self.keep_values = observed is not None and observed.keep_values
        self.rules = slow_rules(settings)
        self.simple = SimpleReads(self, self.profile)
        cached = settings.cache
        self.cache: Cache | None = engine.cache if cached is not None else None
        self.ttl_s = cached.ttl_s if cached is not None else None
        self.verify_fraction = cached.verify_fraction if cached is not None else 0.0
        self.max_result_bytes = cached.max_result_bytes if cached is not None else 0
        self.trust = (
            engine.cache.trust(self.namespace.partition(".")[0])
            if engine.cache is not None and cached is not None and self.variant is None
            else None
        )
        self.coalesce = limits_of_writes(settings.coalesce, self.namespace)
        # Kept here by the clients; with other limits they are asked for again.
        self.write_lanes: Any = None
        self.points: PointReads | None = (
            engine.point_reads(self.namespace, self.concern, settings.batch)
            if settings.batch is not None and self.variant is None
            else None
        )
        rewrites = settings.rewrite
        self.rewriter = None if rewrites is None else engine.rewriter(rewrites.off)
        self.active = (
            self.profile is not None
            or self.cache is not None
            or self.coalesce is not None
            or self.points is not None
            or self.rewriter is not None
        )

    # Reads

    def hit(self, op: ReadOp, codec: CodecOptions[Any], now_s: float) -> Entry | None:
        """The kept answer, if it may be served now."""
        trust = self.trust
        if trust is None:
            return None
        if now_s >= trust.lease_until_s and self.ttl_s is None:
            return None
        trust.used = True
        try:
            entry: Entry | None = self.engine.get_entry(key_of(op, codec))
        except Exception as error:
            self.engine.fault("lookup", error)
            return None
        if entry is None or now_s >= entry.expires_s:
            return None
        if self.verify_fraction:
            self._sample(op, codec, entry)
        return entry

    def hit_id(self, asked: tuple[Any, bytes], codec: Any, now_s: float) -> Entry | None:
        """`hit`, for a find_one by a plain `_id` and nothing else. asked: of `plain_id`."""
        trust = self.trust
        if trust is None:
            return None
        if now_s >= trust.lease_until_s and self.ttl_s is None:
            return None
        trust.used = True
        try:
            key = "find", self.namespace, id_filter(asked[1]), 1
            entry: Entry | None = self.engine.get_entry(key)
        except Exception as error:
            self.engine.fault("lookup", error)
            return None
        if entry is None or now_s >= entry.expires_s:
            return None
        if self.verify_fraction:
            op = ReadOp("find_one", self.namespace, {"_id": asked[0]}, None, None, 0, -1)
            self._sample(op, codec, entry)
        return entry

    def _sample(self, op: ReadOp, codec: CodecOptions[Any], entry: Entry) -> None:
        """Has this hit read again in the background, if it is its turn."""
        engine = self.engine
        self._verify_due += self.verify_fraction
        if self._verify_due < 1:
            return
        self._verify_due -= 1
        try:
            copy = frozen(op, codec).op
            with engine.lock:
                if engine.verifier is not None:
                    engine.verifier.offer(copy, entry)
        except Exception as error:
            engine.fault("verify", error)

    def served(self, entry: Entry, started_s: float, now_s: float) -> None:
        """A hit was decoded and is about to be returned: for the statistics."""
        engine = self.engine
        engine.hits += 1
        stats = entry.stats
        if stats is not None and self.profile is not None:
            try:
                stats.hit(now_s - started_s, now_s)
            except Exception as error:
                engine.fault("profile", error)

    def begin_read(
        self,
        op: ReadOp,
        codec: CodecOptions[Any],
        now_s: float,
        *,
        bypass: str | None = None,
        share: bool = False,
    ) -> Ticket | Join:
        """What to do with a read that `hit` did not answer.

        bypass: why this call is not cached (a session, ...), or None. share: the read is consumed
        in one go by us, so that others may wait for it and it may wait for others.
        """
        ticket = self._ticket(op, now_s)
        cache = self.cache
        decision = (
            ticket
            if cache is None
            else self._ask_cache(cache, ticket, op, codec, now_s, bypass=bypass, share=share)
        )
        rewriter = self.rewriter
        if rewriter is not None and bypass not in _AS_WRITTEN:
            self._rewrite(rewriter, decision)
        return decision

    def _rewrite(self, rewriter: Rewriter, decision: Ticket | Join) -> None:
        """Has a read that is about to be sent sent in a form that costs the server less.

        What it depends on stays what the program's own form does.
        """
        engine = self.engine
        try:
            if type(decision) is Lead:
                send = decision.send
                if send.filter is not send.op.filter:
                    return  # only its bytes are exact
                op, steps = rewriter.rewrite(send.op, decision.fill.facts[0])
                if not steps:
                    return
                decision.send = Frozen(send.op, op.filter, send.projection, op.pipeline)
            elif type(decision) is Ticket:
                sent, steps = rewriter.rewrite(decision.op, None)  # type: ignore[arg-type]
                if not steps:
                    return
                decision.sent = sent
            else:
                return
            engine.rewritten_calls += 1
            for step in steps:
                engine.rewritten[step.rule.name] += 1
            if decision.stats is not None:
                decision.stats.count_rewritten()
        except Exception as error:
            engine.fault("rewrite", error)

    def _ask_cache(
        self,
        cache: Cache,
        ticket: Ticket,
        op: ReadOp,
        codec: CodecOptions[Any],
        now_s: float,
        *,
        bypass: str | None,
        share: bool,
    ) -> Ticket | Join:
        engine = self.engine
        try:
            if cache.off_reason is not None:
                engine.bypassed[cache.off_reason] += 1
                return ticket
            bypass = bypass or self.variant
            if bypass is not None:
                engine.bypassed[bypass] += 1
                return ticket
            try:
                send = frozen(op, codec)
            except (BSONError, OverflowError, TypeError, ValueError):
                # The driver says what cannot be encoded.
                engine.bypassed["unencodable"] += 1
                return ticket
            # From the private copy: key, footprint and what is sent are of the same bytes.
            key = key_of(send.op, EXACT_CODEC)
            if key is None:
                engine.bypassed["unencodable"] += 1
                return ticket
            ttl_s = self.ttl_s
            with engine.lock:
                if share:
                    flight = cache.flight(key, now_s, ttl=ttl_s is not None)
                    if flight is not None:
                        engine.joins += 1
                        return Join(ticket, flight)
                fill = cache.begin(
                    key,
                    send.op,
                    now_s,
                    ttl_s=ttl_s,
                    max_bytes=self.max_result_bytes,
                    share=share,
                )
            trust = self.trust
            if trust is not None:
                trust.used = True
                if engine.want is not None and (
                    now_s >= trust.lease_until_s or fill in ("facts", "untrusted")
                ):
                    engine.want(trust.database)
            if isinstance(fill, str):
                engine.bypassed[fill] += 1
                return ticket
            engine.misses += 1
            fill.stats = ticket.stats
            return Lead(ticket, fill, send)
        except Exception as error:
            engine.fault("begin_read", error)
            return ticket

    def ticket_of(self, read: PointRead | LoneRead) -> Ticket:
        """The ticket of a point read that has gone without one."""
        name, options = self.namespace, self.options
        filter = {read.key.path: read.value}
        op = ReadOp("find_one", name, filter, None, None, 0, -1, options)
        ticket = Ticket(self, op, read.started_s, read.stats)
        fill = read.fill
        if fill is None:
            return ticket
        lead = Lead(ticket, fill, Frozen(fill.op, fill.op.filter, None, None))
        lead.generation = 0  # its own sending was the first
        return lead

    def join(self, join: Join, waiter: Any) -> bool:
        """Puts a waiter on the flight; False if it landed meanwhile (ask again)."""
        cache = self.cache
        with self.engine.lock:
            if cache is None or not join.fill.open:
                return False
            cache.join(join.fill, waiter)
            return True

    def leave(self, join: Join, waiter: Any) -> None:
        """A waiter gave up."""
        if self.cache is not None:
            with self.engine.lock:
                self.cache.leave(join.fill, waiter)

    def settle_read(
        self,
        ticket: Ticket,
        now_s: float,
        *,
        documents: int,
        size: int,
        getmores: int = 0,
        data: bytes | None = None,
        elapsed_s: float | None = None,
    ) -> list[tuple[Any, Any]]:
        """The driver answered. Returns the waiters, each with what it is to be given.

        documents, size: how many documents of how many bytes in all. data: their BSON, one after
        another, or None where the answer was not read to its end. elapsed_s: time spent in the
        driver, where that is not simply from begin to now. A waiter is given the data, or ALONE.
        """
        waiters: list[Any] = []
        answer: Any = ALONE
        if type(ticket) is Lead:
            waiters = self._settle_fill(ticket, now_s, data)
            if data is not None and ticket.fill.is_for_waiters(ticket.address):
                answer = data
        self.record(ticket, now_s, elapsed_s, documents, size, getmores, False)
        return [(waiter, answer) for waiter in waiters] if waiters else []

    def settle_joined(
        self, ticket: Ticket, now_s: float, data: bytes, ids: Iterable[Hashable] | None
    ) -> list[tuple[Any, Any]]:
        """A joined find answered a point read. Returns as `settle_read`.

        data: the document, or nothing. ids: its canonical `_id`, if that is known without looking.
        """
        waiters: list[tuple[Any, Any]] = []
        if type(ticket) is Lead:
            told = self._settle_fill(ticket, now_s, data, ids)
            if told:
                answer = data if ticket.fill.is_for_waiters(ticket.address) else ALONE
                waiters = [(waiter, answer) for waiter in told]
        stats = ticket.stats
        if stats is not None:
            try:
                elapsed_s = now_s - ticket.started_s
                stats.record_joined(elapsed_s, 1 if data else 0, now_s, size=len(data))
            except Exception as error:
                self.engine.fault("profile", error)
        return waiters

    def _settle_fill(
        self,
        lead: Lead,
        now_s: float,
        data: bytes | None,
        ids: Iterable[Hashable] | None = None,
    ) -> list[Any]:
        engine = self.engine
        cache = engine.cache
        if cache is None:
            return []
        try:
            with engine.lock:
                lead.fill.address = lead.address
                if data is None:
                    return cache.abandon(lead.fill, lead.generation)
                if ids is None and cache.off_reason is None:
                    ids = ids_of(lead.fill, data)
                return cache.settle(lead.fill, lead.generation, data, ids, now_s)
        except Exception as error:
            engine.cache_fault("settle_read", error)
            return give_up(lead.fill)

    def fail_read(
        self, ticket: Ticket, now_s: float, *, elapsed_s: float | None = None
    ) -> list[Any]:
        """The driver raised, or the read was given up. Returns the waiters, who go on alone."""
        waiters: list[Any] = []
        if type(ticket) is Lead:
            waiters = self._settle_fill(ticket, now_s, None)
        self.record(ticket, now_s, elapsed_s, 0, 0, 0, True)
        return waiters

    def cancel_read(self, ticket: Ticket) -> tuple[Any, Lead] | None:
        """The caller was cancelled: a waiter, and the lead it takes over, if one waits."""
        if type(ticket) is not Lead:
            return None
        engine = self.engine
        cache = engine.cache
        if cache is None:
            return None
        try:
            with engine.lock:
                waiter = cache.hand_over(ticket.fill, ticket.generation)
        except Exception as error:
            engine.cache_fault("cancel_read", error)
            return None
        return None if waiter is None else (waiter, Lead(ticket, ticket.fill, ticket.send))
