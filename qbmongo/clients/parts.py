"""What a client of ours is made of besides the driver's: engine, listeners, watcher.

One `Parts` per client. It holds no client, so that it keeps none alive.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from contextvars import ContextVar
from typing import Any

import pymongo
import pymongo.asynchronous.client_session as _async_sessions
import pymongo.synchronous.client_session as _sync_sessions

from ..core.cache import Cache
from ..core.coalesce import Coalescer
from ..core.engine import Engine
from ..core.profile import Profile
from ..core.store import Budget
from ..settings import PARTS, Settings
from .arguments import caller_of_call, place_of_call
from .fairness import LoopTurn
from .fork_lock import fork_safe_lock
from .listener import TRANSACTIONS, EffectListener

__all__ = [
    "UNCACHED",
    "LoopParts",
    "Parts",
    "bound_async_session",
    "bound_sync_session",
    "may_share",
    "merged_options",
]

# All clients of the process share one budget of bytes; see core.store.Budget.
_BUDGET = Budget(fork_safe_lock())

# Set inside `client.qb.uncached()`.
UNCACHED: ContextVar[bool] = ContextVar("qbmongo_uncached", default=False)

# The session that ClientSession.bind put into the context; older drivers have no such thing.
_NO_SESSION: ContextVar[Any] = ContextVar("qbmongo_no_session", default=None)
bound_sync_session: Callable[[], Any]
bound_async_session: Callable[[], Any]
bound_sync_session = getattr(_sync_sessions, "_SESSION", _NO_SESSION).get
bound_async_session = getattr(_async_sessions, "_SESSION", _NO_SESSION).get

# Clients whose child after a fork must start empty.
_FORKED: weakref.WeakSet[Parts] = weakref.WeakSet()


class Parts:
    """Engine and watcher of one client; None where they are off.

    options: the client's keyword arguments, changed in place: ours are taken out, listeners added.
    threads: calls and command events come from more than one thread.
    """

    def __init__(
        self,
        given: Settings | None,
        args: tuple[Any, ...],
        options: dict[str, Any],
        *,
        threads: bool,
    ) -> None:
        self.settings = _settings_for(given)
        if options.get("auto_encryption_opts") is not None:
            # Documents on the wire are not those the program sees.
            self.settings = Settings(
                profile=self.settings.profile, cache=None, coalesce=None, batch=None, rewrite=None
            )
        self.engine = _engine_for(self.settings, threads=threads)
        self.client_options = {**dict(zip(_POSITIONAL, args, strict=False)), **options}
        self.watcher: Any = None
        self.sender: Any = None
        self._listener: EffectListener | None = None
        engine = self.engine
        if engine is not None and (engine.cache is not None or engine.coalescer is not None):
            self._listener = EffectListener(engine)
            _add_listener(options, self._listener)
        if engine is not None:
            _FORKED.add(self)

    def attach(self, client: Any) -> None:
        """The driver's client was made. Our listener is taken out of what it shows (its repr)."""
        if self._listener is None:
            return
        self._listener.attach(client)
        shown = getattr(client.options, "_options", {})
        listeners = shown.get("event_listeners")
        if not listeners:
            return
        given = [listener for listener in listeners if listener is not self._listener]
        if given:
            shown["event_listeners"] = given
        else:
            del shown["event_listeners"]

    def watch_with(self, driver_client: Any) -> None:
        """Makes the watcher; it starts with the first read that could be cached.

        driver_client: the plain client class for it; for AsyncMongoClient it is a task, otherwise
        a thread.
        """
        engine, part = self.engine, self.settings.cache
        if engine is None or engine.cache is None or part is None:
            return
        # Imported with the first client, not with qbmongo.
        from ..coherence.records import Limits
        from ..core.events import effect_of_event

        watcher_type: Any
        if driver_client is pymongo.AsyncMongoClient:
            from ..coherence.task import TaskWatcher

            watcher_type = TaskWatcher
        else:
            from ..coherence.thread import ThreadWatcher

            watcher_type = ThreadWatcher
        limits = Limits(lease_s=part.lease_s, max_events_per_s=int(min(part.max_events_per_s, 1e9)))
        options = self.client_options

        def factory(changed: Mapping[str, Any]) -> Any:
            own = {k: v for k, v in options.items() if k.lower() not in _NOT_THE_WATCHERS}
            return driver_client(**merged_options(own, changed))

        self.watcher = watcher_type(engine, factory, effect_of_event, limits)
        engine.want = self.watcher.watch
        if self._listener is not None:
            self._listener.renew_by(self.watcher)

    def send_with(
        self, send: Any, bring: Any, read_indexes: Any, is_gone: Any, threads: Any = None
    ) -> None:
        """How batches of writes are sent, and answers brought; see coalesced.Sender.

        threads: a BatchThreads, where batches are sent by such.
        """
        engine = self.engine
        if engine is not None and engine.coalescer is not None:
            from .coalesced import Sender

            self.sender = Sender(engine, engine.coalescer, send, bring, read_indexes, is_gone)
            self.sender.threads = threads

    def closed(self) -> None:
        """The driver's client was closed: nothing that was kept is served any more."""
        engine = self.engine
        if engine is not None:
            engine.lost(None, "closed")
            engine.clear()
        if self.sender is not None and self.sender.threads is not None:
            self.sender.threads.close()

    def configure(self, settings: Settings) -> None:
        """Puts other settings into force."""
        self.settings = settings
        if self.engine is not None:
            self.engine.configure(settings)

    def after_fork(self) -> None:
        """In the child: nothing that was kept, no watcher, no lock that somebody else held."""
        engine = self.engine
        if engine is not None:
            engine.after_fork(threading.Lock())
        if self.watcher is not None:
            self.watcher.after_fork()
        if self.sender is not None:
            self.sender.after_fork()


class LoopParts(Parts):
    """The parts of a client whose calls begin on an event loop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cache = self.settings.cache
        # Without a cache there are no hits to count.
        self.turn = LoopTurn(1 if cache is None else cache.hits_per_turn)


# What the drivers' clients take by position.
_POSITIONAL = ("host", "port", "document_class", "tz_aware", "connect", "type_registry")
_NOT_THE_WATCHERS = frozenset(
    {"io_loop", "auto_encryption_opts", "document_class", "type_registry"}
)


def may_share() -> bool:
    """Whether others may wait for a call of this thread, and it for theirs; for the sync client.

    Not in the main thread: there the handler of a signal (Ctrl-C, an alarm) may raise anywhere,
    also between two steps of ours, and who waits for a call that is gone would wait for ever.
    """
    return threading.get_ident() != threading.main_thread().ident


def _add_listener(options: dict[str, Any], listener: EffectListener) -> None:
    """Ours comes after the program's; what the driver will refuse is left as it is."""
    name = next((n for n in options if n.lower() == "event_listeners"), "event_listeners")
    given = options.get(name, ())
    if isinstance(given, Sequence):
        options[name] = [*given, listener]


def merged_options(own: dict[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Options with some replaced; the driver's option names are not case sensitive."""
    replaced = {name.lower() for name in changed}
    return {k: v for k, v in own.items() if k.lower() not in replaced} | dict(changed)


def _settings_for(given: Settings | None) -> Settings:
    if given is None:
        return Settings.from_environment()
    if not isinstance(given, Settings):
        raise TypeError(f"qb must be a qbmongo.Settings or None, not {given!r}")
    return given


def _engine_for(settings: Settings, *, threads: bool) -> Engine | None:
    if all(getattr(settings, part) is None for part in PARTS):
        return None

    profile = cache = None
    if settings.profile is not None:
        from ..quantiles import DDSketchScale

        part = settings.profile
        profile = Profile(
            DDSketchScale(),
            fork_safe_lock() if threads else nullcontext(),
            time.monotonic(),
            slow_ms=part.slow_ms,
            log_every_s=part.log_every_s,
            max_shapes=part.max_shapes,
            samples=part.samples,
            place_every=part.place_every,
            find_place=place_of_call,
        )
    if settings.cache is not None:
        cache = Cache(
            max_bytes=settings.cache.max_bytes,
            lease_s=settings.cache.lease_s,
            max_age_s=settings.cache.max_age_s,
            unknown_s=settings.cache.unknown_s,
            budget=_BUDGET,
        )
    return Engine(
        settings,
        lock=threading.Lock() if threads else nullcontext(),
        find_place=place_of_call,
        find_caller=caller_of_call,
        profile=profile,
        cache=cache,
        mutable_ok=not threads,
        coalescer=(
            None if settings.coalesce is None else Coalescer(settings.coalesce.max_pending_bytes)
        ),
    )


def _after_fork_in_child() -> None:
    TRANSACTIONS.forget()
    for parts in list(_FORKED):
        parts.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
