"""Writes that travel together because a test makes them: the one before them is held on its way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qbmongo import CoalesceSettings, Settings
from qbmongo_tests.clients.callers import Callers, just, until
from qbmongo_tests.clients.sites import Site, Wire, resolved
from qbmongo_tests.faults import Gate

__all__ = ["HELD", "ONE_AT_A_TIME", "Held", "Joining", "coalesced", "outcome_of"]

# One batch on the wire: whatever is written meanwhile is in the next one.
ONE_AT_A_TIME = CoalesceSettings(max_in_flight=1, max_joined_ms=60_000)


def coalesced(part: CoalesceSettings = ONE_AT_A_TIME) -> Settings:
    """Coalesced writes and nothing else."""
    return Settings(profile=None, cache=None, coalesce=part)


# What the held insert inserts; where a validator refuses it, nothing.
HELD = {"_id": "held"}


@dataclass(frozen=True)
class Held:
    """Two writes on their way, and who waits for them."""

    gates: list[Gate]
    callers: Callers

    def release(self) -> None:
        """Lets them go on."""
        for gate in self.gates:
            gate.release()


class Joining:
    """A client of ours behind a proxy, and a collection whose writes can be made to join.

    Args:
        site: the driver and its server.
        settings: the client's; coalesced() by default.
        name: the collection's.
        options: further options of the client.
    """

    def __init__(
        self, site: Site, settings: Settings | None = None, name: str = "c", **options: Any
    ) -> None:
        self.site = site
        self.wire = Wire()
        listeners = [self.wire, *options.pop("event_listeners", ())]
        self.client = site.ours(
            settings or coalesced(), uri=site.proxy.uri, event_listeners=listeners, **options
        )
        self.collection = self.client[site.database][name]

    @property
    def stats(self) -> Any:
        return self.client.qb.stats().coalesce

    async def ready(self, *indexed: str) -> None:
        """Returns when writes of the collection can join, also by these indexed fields."""
        for field in ("_id", *indexed):
            await self._ready({field: "is it known?"})
        self.wire.clear()

    async def _ready(self, absent: dict[str, Any]) -> None:
        for _ in range(400):
            before = sum(self.stats.refused.values())
            await resolved(self.collection.delete_one(absent))
            if sum(self.stats.refused.values()) == before:
                return
            await until(lambda: True, self.site)
        raise TimeoutError(f"its writes by {absent} do not join: {self.stats}")

    async def begun(self) -> Held:
        """Holds a delete that finds nothing and an insert of `HELD` on their way: what is written
        meanwhile gathers behind them."""
        proxy, callers = self.site.proxy, Callers(self.site)
        gates = [proxy.hold("delete"), proxy.hold("insert")]
        collection = self.collection
        callers.start(lambda: collection.delete_one({"_id": "nobody's"}))
        callers.start(lambda: outcome_of(lambda c: c.insert_one(dict(HELD)), collection))
        for gate in gates:
            await (gate.reached() if self.site.is_async else just(gate.wait()))
        return Held(gates, callers)

    async def pending(self, count: int) -> None:
        """Returns when so many operations wait to be dispatched."""
        try:
            await until(lambda: self.stats.pending >= count, self.site)
        except TimeoutError:
            raise TimeoutError(f"not {count} gather: {self.stats}") from None

    async def together(
        self, calls: Sequence[Callable[[Any], Any]], *, expected: int | None = None
    ) -> list[Any]:
        """Makes the calls at the same time, while an earlier one is on the wire.

        Args:
            calls: each is given the collection.
            expected: how many of them will wait; the others go their own way. All by default.

        Returns:
            What each returned or raised, in order.
        """
        held = await self.begun()
        callers = Callers(self.site)
        for call in calls:
            await callers.start_in_turn(
                lambda call=call: outcome_of(call, self.collection),  # type: ignore[misc]
                lambda: self.stats.pending,
            )
        try:
            await self.pending(len(calls) if expected is None else expected)
        finally:
            held.release()
        await held.callers.results()
        return await callers.results()

    def commands(self, name: str) -> list[Any]:
        """The commands of this name that were sent."""
        return [command for sent, command in self.wire.commands if sent == name]


async def outcome_of(call: Callable[[Any], Any], collection: Any) -> Any:
    """What a call returns or raises."""
    try:
        return await resolved(call(collection))
    except Exception as error:
        return error
