"""Collections of one test, seen through a client of ours that caches and through the plain one.

What a test asks is a function of a collection (`lambda c: c.find({"a": 1})`), so that both sides
and all three drivers are asked the same.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import os
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import bson
import pytest
from pymongo import MongoClient

from qbmongo import CacheSettings, Settings
from qbmongo_tests.clients.sites import PATIENCE_S, Site, ready, resolved

__all__ = [
    "ZERO",
    "Ask",
    "Documents",
    "Place",
    "answer",
    "cached",
    "everything",
    "is_hit",
    "lacks",
    "lines",
    "numbered",
    "one",
    "opened",
    "other",
    "place_at",
    "places",
    "same",
    "set_n",
    "start_transaction",
]

Ask = Callable[[Any], Any]
Documents = Sequence[Mapping[str, Any]]
T = TypeVar("T")

_NUMBERS = itertools.count()
LIMIT_S = 60.0


async def answer(ask: Ask, collection: Any) -> Any:
    """What a call gives: awaited where it must be, a cursor read to its end."""
    value = await resolved(ask(collection))
    if hasattr(value, "to_list"):
        value = await resolved(value.to_list(None))
    return value


def other(collection: Any) -> Any:
    """The second collection of a test, beside its first one."""
    return collection.database[f"{collection.name}_other"]


async def start_transaction(session: Any) -> None:
    """Starts a transaction; only PyMongo Async has it to be awaited."""
    await resolved(session.start_transaction())


def lacks(what: str) -> NoReturn:
    """Skips a test that the server of this run cannot show; in CI that is an error."""
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        pytest.fail(f"the server has no {what} (in CI this is an error, not a skip)", pytrace=False)
    pytest.skip(f"the server has no {what}")


@contextmanager
def opened(name: str, uri: str) -> Iterator[Site]:
    """A driver on a server, in a database that is dropped in the end; for fixtures of a module."""
    site = Site(name, uri, f"qbmongo_{uuid.uuid4().hex[:12]}")
    yield site
    site.close()
    with MongoClient[Any](uri) as client:
        client.drop_database(site.database)


@contextmanager
def places(name: str, uri: str) -> Iterator[Callable[[], Place]]:
    """Makes places of one cached client and one plain one of a driver; for fixtures of a module."""
    with opened(name, uri) as site:
        client = site.ours(cached())
        plain = site.plain()
        yield lambda: Place(site, client, plain)
        stats = client.qb.stats()
        assert stats.faults == {}
        assert stats.cache.off is None


class Place:
    """Two collections (`c` and `other(c)`) of one cached client and of the plain driver's.

    client, plain: the clients. name: of the first collection; None for a fresh one.
    c, plain_c: the first collection, through either.
    """

    def __init__(self, site: Site, client: Any, plain: Any, name: str | None = None) -> None:
        self.site = site
        self.client = client
        self.plain = plain
        name = name or f"c{next(_NUMBERS)}"
        self.c = client[site.database][name]
        self.plain_c = plain[site.database][name]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.site.run(work)

    async def fill(self, documents: Documents, others: Documents = (), **options: Any) -> None:
        """Writes documents by the plain driver. options: of create_collection."""
        if options:
            database = self.plain[self.site.database]
            await resolved(database.create_collection(self.c.name, **options))
        for collection, content in ((self.plain_c, documents), (other(self.plain_c), others)):
            if content:
                await resolved(collection.insert_many(copy.deepcopy(list(content))))

    async def trusted(self) -> None:
        """Returns when everything others wrote was seen, and reads here can be kept.

        At once where that is so already; a write to be taken for everything makes it untrue.
        """
        cache = self.client._qb.engine.cache
        names = (self.c.full_name, other(self.c).full_name)
        if any(cache.namespace(name).facts is None for name in names):
            await ready(self.client, self.site.database, self.c.name, other(self.c).name)

    async def caught_up(self) -> None:
        await resolved(self.client.qb.caught_up(PATIENCE_S))

    @property
    def cache(self) -> Any:
        """The cache's statistics now."""
        return self.client.qb.stats().cache

    async def mine(self, ask: Ask) -> Any:
        """What our client answers."""
        return await answer(ask, self.c)

    async def theirs(self, ask: Ask) -> Any:
        """What the plain driver answers."""
        return await answer(ask, self.plain_c)

    async def kept(self, ask: Ask) -> Any:
        """What our client answers from memory; it must."""
        with self.hits(1):
            return await self.mine(ask)

    async def keep(self, ask: Ask) -> Any:
        """Asks twice; the second answer must come from memory and be the first one."""
        first = await self.mine(ask)
        assert same(await self.kept(ask), first)
        return first

    async def agree(self, ask: Ask) -> Any:
        """Asks both; returns what they both say."""
        mine, theirs = await self.mine(ask), await self.theirs(ask)
        assert same(mine, theirs), f"ours: {mine!r}, the plain driver's: {theirs!r}"
        return mine

    async def until(self, holds: Callable[[], Any], limit_s: float = LIMIT_S) -> Any:
        """Asks (and awaits) a condition until it holds; returns what it gave in the end."""
        deadline_s = time.monotonic() + limit_s
        while True:
            value = await resolved(holds())
            if value:
                return value
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"did not hold within {limit_s:g} s; {self.cache}")
            if self.site.is_async:
                # The watcher of PyMongo Async runs in this loop.
                await asyncio.sleep(0)

    @contextmanager
    def hits(self, expected: int) -> Iterator[None]:
        """Within it exactly so many reads are answered from memory."""
        before = self.cache.hits
        yield
        found = self.cache.hits - before
        assert found == expected, f"{found} hits instead of {expected}; {self.cache}"


def same(left: Any, right: Any) -> bool:
    """Equal to the last bit: types and the order of fields included."""
    return bool(bson.encode({"v": left}) == bson.encode({"v": right}))


# What many tests do, on a document {_id: 1, n: 0}

ZERO = {"_id": 1, "n": 0}


def cached(**fields: Any) -> Settings:
    """A cache without profile, so that counters are quick to read; a lease that a slow machine
    does not lose."""
    return Settings(profile=None, cache=CacheSettings(**{"lease_s": 60.0, **fields}))


def place_at(
    site: Site, settings: Settings | None = None, uri: str | None = None, **options: Any
) -> Place:
    """A place whose cached client is at uri (a proxy), and the plain one at the server."""
    return Place(site, site.ours(settings or cached(), uri=uri, **options), site.plain())


def one(c: Any) -> Any:
    return c.find_one({"_id": 1})


def everything(c: Any) -> Any:
    return c.find().sort("_id", 1)


def set_n(n: int) -> Ask:
    return lambda c: c.update_one({"_id": 1}, {"$set": {"n": n}})


async def is_hit(place: Place, ask: Ask = one) -> bool:
    """Asks our client; whether the answer came from memory."""
    before = place.cache.hits
    await place.mine(ask)
    return bool(place.cache.hits > before)


async def numbered(place: Place) -> None:
    """Writes {_id: 1, n: 0} and has it kept."""
    await place.fill([ZERO])
    await place.trusted()
    await place.until(lambda: is_hit(place))


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What qbmongo has logged."""
    return [record.getMessage() for record in caplog.records if record.name == "qbmongo"]
