"""One driver's clients on the server of this run: ours, the plain one, and what they send."""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine
from typing import Any, TypeVar

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

import qbmongo
from qbmongo import CacheSettings, Settings
from qbmongo_tests.faults import FaultProxy
from qbmongo_tests.parity.drivers import DRIVERS, Driver, resolved, settled

__all__ = ["CACHED", "PATIENCE_S", "Site", "Wire", "ready", "resolved"]

T = TypeVar("T")

# So long is the watcher waited for: facts of hundreds of collections take a busy machine a while.
PATIENCE_S = 120.0

# A lease that outlives a slow machine: a test that expects a hit must not lose it to time.
CACHED = Settings(cache=CacheSettings(lease_s=60.0))
_OPTIONS: dict[str, Any] = {"serverSelectionTimeoutMS": 20_000, "maxPoolSize": 20}


class Wire(CommandListener):
    """What a client sent: commands as they started, and how they ended."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, Any]] = []
        self.replies: list[tuple[str, Any]] = []
        self.failures: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.commands.append((event.command_name, event.command))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self.replies.append((event.command_name, event.reply))

    def failed(self, event: CommandFailedEvent) -> None:
        self.failures.append(event.command_name)

    def clear(self) -> None:
        """Forgets what was sent so far."""
        self.commands.clear()
        self.replies.clear()
        self.failures.clear()

    @property
    def counts(self) -> Counter[str]:
        """How many commands of each name were sent since the last clear()."""
        return Counter(name for name, _ in self.commands if name != "endSessions")


class Site:
    """Makes clients of one driver and closes them in the end. database: this test's name."""

    def __init__(self, name: str, uri: str, database: str) -> None:
        self.driver: Driver = DRIVERS[name]()
        self.name = name
        self.uri = uri
        self.database = database
        self._clients: list[Any] = []
        self._proxy: FaultProxy | None = None

    @property
    def is_async(self) -> bool:
        return self.driver.is_async

    @property
    def optimized(self) -> type[Any]:
        """Our client class for this driver."""
        cls: type[Any] = getattr(qbmongo, self.driver.optimized)
        return cls

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.driver.run(coroutine)

    def ours(
        self, settings: Settings | None = CACHED, uri: str | None = None, **options: Any
    ) -> Any:
        """A client of ours."""
        return self._made(self.optimized, uri, qb=settings, **options)

    def plain(self, uri: str | None = None, **options: Any) -> Any:
        """The driver's own client."""
        return self._made(self.driver.client_class, uri, **options)

    def _made(self, cls: type[Any], uri: str | None, **options: Any) -> Any:
        async def make() -> Any:
            return cls(uri or self.uri, **{**_OPTIONS, **options})

        client = self.run(make())
        self._clients.append(client)
        return client

    @property
    def proxy(self) -> FaultProxy:
        """A proxy of this test's own before the server, stopped after the clients are closed."""
        if self._proxy is None:
            self._proxy = FaultProxy(self.uri).start()
        return self._proxy

    def cached(self, *collections: str, **options: Any) -> tuple[Any, Wire]:
        """A client whose reads of these collections can be kept, and what it sends from now on."""
        wire = Wire()
        listeners = [wire, *options.pop("event_listeners", ())]
        client = self.ours(event_listeners=listeners, **options)
        self.run(ready(client, self.database, *collections))
        wire.clear()
        return client, wire

    def close(self) -> None:
        if self._proxy is not None:
            self._proxy.clear()
        for client in reversed(self._clients):
            self.run(settled(client.close))
        self.driver.stop()
        if self._proxy is not None:
            self._proxy.stop()


_PROBE = "is it kept?"


async def ready(client: Any, database: str, *collections: str) -> None:
    """Returns when reads of these collections can be kept; nothing of them is."""
    engine = client._qb.engine
    for _ in range(100):
        for name in collections or ("c",):
            await resolved(client[database][name].find_one({"_id": _PROBE}))
        await resolved(client.qb.caught_up(PATIENCE_S))
        namespaces = [engine.cache.namespace(f"{database}.{n}") for n in collections or ("c",)]
        if all(n.facts is not None and n.trust.trusted for n in namespaces):
            # On a slow machine the last probes were kept.
            with engine.lock:
                for entry in engine.cache.store.entries():
                    if _PROBE.encode() in entry.key[2]:
                        engine.cache.store.remove(entry)
            return
    raise TimeoutError(f"not trusted: {client.qb.stats().cache}")
