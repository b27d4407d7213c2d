"""Point reads that travel together because a test makes them: one before them is held."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qbmongo import BatchSettings, CacheSettings, Settings
from qbmongo_tests.clients.callers import Callers, just, until
from qbmongo_tests.clients.sites import Site, Wire, resolved
from qbmongo_tests.faults import Gate

__all__ = ["ONE_AT_A_TIME", "JoinedReads", "batched"]

# One find on the wire: whatever is read meanwhile is in the next one.
ONE_AT_A_TIME = BatchSettings(max_in_flight=1, max_joined_ms=60_000)


def batched(part: BatchSettings = ONE_AT_A_TIME, *, cached: bool = False) -> Settings:
    """Joined point reads, with or without the cache, and nothing else."""
    cache = CacheSettings(lease_s=60.0) if cached else None
    return Settings(profile=None, cache=cache, coalesce=None, batch=part)


class JoinedReads:
    """A client of ours behind a proxy, and reads of its collection "c" that are made to join.

    Args:
        site: the driver and its server.
        cached: answers are kept, too.
        documents: what the collection holds.
        settings: the client's; those of `batched` by default.
        options: the client's.
    """

    def __init__(
        self,
        site: Site,
        documents: Sequence[Any] = (),
        *,
        cached: bool = False,
        settings: Settings | None = None,
        **options: Any,
    ) -> None:
        self.site = site
        self._held = 0
        self.wire = Wire()
        self.plain = site.plain()[site.database].c

        async def fill() -> None:
            if documents:
                await resolved(self.plain.insert_many(list(documents)))

        site.run(fill())
        settings = settings or batched(cached=cached)
        options["uri"] = site.proxy.uri
        if cached:
            self.client, self.wire = site.cached("c", settings=settings, **options)
        else:
            self.client = site.ours(settings, event_listeners=[self.wire], **options)
        self.collection: Any = self.client[site.database].c

    @property
    def stats(self) -> Any:
        return self.client.qb.stats().batch

    async def hold(self, callers: Callers, collection: Any, path: str = "_id", *args: Any) -> Gate:
        """Holds one read of a kind on its way; those that follow gather behind it."""
        if not callers.tasks:
            await until(lambda: self.stats.in_flight == 0, self.site)
        self._held += 1
        filter = {path: f"held {self._held}"}

        def is_held(command: Any) -> bool:
            document = command.document()
            return bool(document["find"] == "c" and document["filter"] == filter)

        gate = self.site.proxy.hold("find", when=is_held)
        callers.start(lambda: collection.find_one(filter, *args))
        await (gate.reached() if self.site.is_async else just(gate.wait()))
        return gate

    async def gather(
        self, callers: Callers, calls: Sequence[Callable[[], Any]], pending: int | None = None
    ) -> None:
        """Starts calls, and returns when so many of them (all, if not said) wait to be sent."""
        wanted = self.stats.pending + (len(calls) if pending is None else pending)
        for call in calls:
            await callers.start_in_turn(call, lambda: self.stats.pending)
        await until(lambda: self.stats.pending == wanted, self.site)

    async def together(
        self,
        calls: Sequence[Callable[[], Any]],
        *,
        pending: int | None = None,
        collection: Any = None,
        path: str = "_id",
        args: Sequence[Any] = (),
    ) -> list[Any]:
        """What calls that travel together return or raise.

        pending: how many of them can travel with others, if not all. collection, path, args: of
        the read that is held before them, which must be of their kind.
        """
        collection = self.collection if collection is None else collection
        callers = Callers(self.site)
        gate = await self.hold(callers, collection, path, *args)
        await self.gather(callers, calls, pending)
        self.wire.clear()
        gate.release()
        return (await callers.results())[1:]

    @property
    def finds(self) -> list[Any]:
        """The finds sent since the wire was cleared, that of the held read left out."""
        return [command for name, command in self.wire.commands if name == "find"]
