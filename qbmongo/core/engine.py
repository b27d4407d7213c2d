"""The engine: everything qbmongo keeps for one client, told what happened on the wire.

The clients do the IO. Reads and writes go through a `Scope`, one per namespace. A fault of ours
never fails the caller's call: it is counted, logged once, and the call goes to the driver; one in
effect, stamp or settlement switches the cache off.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from ..settings import BatchSettings, Settings
from .batching import BatchCounts
from .cache import Cache
from .coalesce import Coalescer
from .effects import READ_COMMANDS
from .ledger import Ledger
from .point_reads import PointReads
from .profile import Profile
from .scope import Scope, slow_rules
from .store import Entry
from .stream_sink import StreamSink
from .tickets import ALONE, Join, Lead, Ticket
from .trust import Facts

if TYPE_CHECKING:
    from .rewrite import Rewriter

__all__ = ["ALONE", "Engine", "Join", "Lead", "Scope", "Ticket"]

log = logging.getLogger("qbmongo")

MAX_SCOPES = 10_000


def _nobody() -> None:
    """Nobody is known to make the present call."""


class Engine(StreamSink):
    """Everything qbmongo keeps for one client. Holds no client, so that it keeps none alive.

    lock: a threading.Lock, or a context manager that does nothing where one thread runs all.
    find_place: the place in the program that made the present call, as "file:line".
    find_caller: the task, or the thread, that makes it: something to compare with ==.
    dropped: readings whose cursors were collected as garbage, to be settled by the next call.
    mutable_ok: whether what a started command's plain dicts hold is surely what was sent (nobody
        else can run between encoding and event).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        lock: Any,
        find_place: Callable[[], str | None],
        profile: Profile | None,
        cache: Cache | None,
        mutable_ok: bool,
        coalescer: Coalescer | None = None,
        find_caller: Callable[[], Any] = _nobody,
    ) -> None:
        super().__init__(cache, lock)
        self.settings = settings
        self.find_place = find_place
        self.find_caller = find_caller
        self.profile = profile
        self.coalescer = coalescer
        self.ledger = Ledger()
        self.mutable_ok = mutable_ok
        self.get_entry: Callable[[Hashable], Entry | None] = (
            cache.store.get if cache is not None else lambda key: None
        )
        self.hits = 0
        self.misses = 0
        self.joins = 0
        self.bypassed: Counter[str] = Counter()
        self._rewriters: dict[tuple[str, ...], Rewriter] = {}
        self.rewritten: Counter[str] = Counter()
        self.rewritten_calls = 0
        self.faults: Counter[str] = Counter()
        self.dropped: deque[Any] = deque()
        self.want: Callable[[str], None] | None = None
        self.batched = BatchCounts()
        self._scopes: dict[tuple[str, str | None, str | None], Scope] = {}
        # Scopes hold theirs.
        self._points: WeakValueDictionary[tuple[str, str | None], PointReads] = (
            WeakValueDictionary()
        )

    def scope(
        self, namespace: str, variant: str | None = None, concern: str | None = None
    ) -> Scope:
        """The scope of a namespace, for collection objects with these read options."""
        key = (namespace, variant, concern)
        scope = self._scopes.get(key)
        if scope is None:
            if len(self._scopes) >= MAX_SCOPES:
                # Collection objects keep theirs; only later changes of settings miss them.
                self._scopes.clear()
            scope = self._scopes[key] = Scope(self, namespace, variant, concern)
        return scope

    def point_reads(
        self, namespace: str, concern: str | None, settings: BatchSettings
    ) -> PointReads:
        """The point reads of a namespace, for collection objects with this read concern level."""
        key = (namespace, concern)
        points = self._points.get(key)
        if points is None:
            points = self._points[key] = PointReads(self, namespace, self.batched)
        points.configure(settings)
        return points

    def known_facts(self, namespace: str) -> Facts | None:
        """What a namespace is, where that is known."""
        return None if self.cache is None else self.cache.facts(namespace)

    def rewriter(self, off: tuple[str, ...]) -> Rewriter:
        """The rewriter without these rules, one for all namespaces."""
        # Loaded with the first client, not with qbmongo.
        from .rewrite import Rewriter

        rewriter = self._rewriters.get(off)
        if rewriter is None:
            rewriter = self._rewriters[off] = Rewriter(off)
        return rewriter

    def configure(self, settings: Settings) -> None:
        """Puts other settings into force, for existing collection objects too."""
        self.settings = settings
        for scope in list(self._scopes.values()):
            scope.resolve()
        if self.profile is not None:
            self.profile.change_rules(lambda name: slow_rules(settings.for_namespace(name)))

    def after_fork(self, lock: Any) -> None:
        """In the child of a fork: starts empty, with a lock that nobody holds."""
        self.lock = lock
        self.ledger = Ledger()
        if self.cache is not None:
            self.cache.after_fork()
        if self.coalescer is not None:
            self.coalescer.after_fork()
        for points in list(self._points.values()):
            points.after_fork()

    # Faults of ours

    def fault(self, where: str, error: BaseException) -> None:
        """Counts a fault of ours and logs the first of its kind."""
        self.faults[where] += 1
        if self.faults[where] == 1:
            log.error("qbmongo: fault in %s; the call went to the driver", where, exc_info=error)

    def cache_fault(self, where: str, error: BaseException) -> None:
        """A fault after which the cache can no longer be believed: cleared and switched off."""
        self.fault(where, error)
        if self.cache is not None:
            with self.lock:
                self.cache.switch_off("fault")

    # What the command listener tells

    def command_started(
        self, key: Hashable, name: str, database: str, command: Mapping[str, Any], now_s: float
    ) -> None:
        """A command is on the wire; its effects are open from now on."""
        if self.cache is None or name in READ_COMMANDS:
            return
        try:
            with self.lock:
                # What the session left behind when it went on to another transaction closes now.
                left = self.ledger.started(key, name, database, command, mutable_ok=self.mutable_ok)
                if left.effects:
                    self._close(left, now_s)
        except Exception as error:
            self.cache_fault("command_started", error)

    def command_succeeded(
        self, key: Hashable, name: str, reply: Mapping[str, Any], address: Any, now_s: float
    ) -> None:
        """A command was answered: its effects close."""
        cache = self.cache
        if cache is None:
            return
        try:
            time = reply.get("operationTime")
            with self.lock:
                if time is not None:
                    cache.observed(address, time.time << 32 | time.inc)
                if name not in READ_COMMANDS:
                    closed = self.ledger.succeeded(key, reply)
                    if closed.effects:
                        # An aggregation that writes nothing may have been sent to a secondary.
                        cache.answered_by(address)
                        self._close(closed, now_s)
        except Exception as error:
            self.cache_fault("command_succeeded", error)

    def command_failed(
        self, key: Hashable, name: str, failure: Mapping[str, Any], now_s: float
    ) -> None:
        """A command failed: its effects close exactly as those of one that succeeded."""
        if self.cache is None or name in READ_COMMANDS:
            return
        try:
            with self.lock:
                self._close(self.ledger.failed(key, failure), now_s)
        except Exception as error:
            self.cache_fault("command_failed", error)

    def abandoned(self, keys: Iterable[Hashable], now_s: float) -> None:
        """Commands that were started and had no event when their call ended: outcome unknown."""
        try:
            with self.lock:
                for key in keys:
                    self._close(self.ledger.abandoned(key), now_s)
        except Exception as error:
            self.cache_fault("abandoned", error)

    def _close(self, closed: Any, now_s: float) -> None:
        cache = self.cache
        if cache is None or not closed.effects:
            return
        if closed.unknown:
            cache.close_unknown(closed.effects, now_s)
        else:
            cache.close(closed.effects)

    def primary_changed(self) -> None:
        """The primary is another one, or the same in another term."""
        try:
            if self.coalescer is not None:
                self.coalescer.primary_changed()
            if self.cache is not None:
                with self.lock:
                    self.cache.primary_changed()
        except Exception as error:
            self.cache_fault("primary_changed", error)

    def clear(self) -> None:
        """Forgets every kept answer."""
        if self.cache is not None:
            with self.lock:
                self.cache.clear("user")
