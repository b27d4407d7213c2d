"""What others do to data that is cached here: the stream, the server, other clients, privileges.

Each on a real server, through each client, against the plain driver's answer.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pymongo import UpdateOne
from pymongo.collation import Collation

from qbmongo import CacheSettings, Settings
from qbmongo_tests import faults
from qbmongo_tests.clients.places import Place, answer, other, start_transaction
from qbmongo_tests.clients.sites import Site, resolved
from qbmongo_tests.faults import Command, DropReply, FaultProxy, Swallow

LEASE_S = 0.5
ANY_CASE = Collation("en", strength=2)
ZERO = {"_id": 1, "n": 0}


def cached(**fields: Any) -> Settings:
    """Settings of a cache without profile; a lease that a slow machine does not lose."""
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


def set_n(n: int) -> Callable[[Any], Any]:
    return lambda c: c.update_one({"_id": 1}, {"$set": {"n": n}})


async def is_hit(place: Place, ask: Any = one) -> bool:
    before = place.cache.hits
    await place.mine(ask)
    return bool(place.cache.hits > before)


async def numbered(place: Place) -> None:
    """Writes {_id: 1, n: 0} and has it kept."""
    await place.fill([ZERO])
    await place.trusted()
    await place.until(lambda: is_hit(place))


# The stream falls silent


def is_majority_read(command: Command) -> bool:
    return bool(command.document()["find"] == "qbmongo.lease")


def is_watchers(command: Command) -> bool:
    return "lsid" in command.document()


SILENCES: dict[str, Callable[[FaultProxy], Any]] = {
    "replies of the stream": lambda p: p.on("getMore", DropReply(close=False), times=None),
    "requests of the stream": lambda p: p.on("getMore", Swallow(), times=None),
    "the majority": lambda p: p.on("find", Swallow(), times=None, when=is_majority_read),
    "the primary's time": lambda p: p.on("hello", Swallow(), times=None, when=is_watchers),
}


@pytest.mark.parametrize("silence", SILENCES)
def test_no_hit_is_served_once_the_stream_was_silent_for_the_lease(
    site: Site, silence: str
) -> None:
    place = place_at(site, cached(lease_s=LEASE_S), site.proxy.uri)

    async def work() -> None:
        await numbered(place)
        SILENCES[silence](site.proxy)
        silent_s = time.monotonic()
        await answer(set_n(1), place.plain_c)
        start_s = silent_s
        while start_s < silent_s + LEASE_S:
            start_s = time.monotonic()
            hits = place.cache.hits
            document = await place.mine(one)
            if place.cache.hits == hits:
                assert document["n"] == 1
            else:
                assert start_s < silent_s + LEASE_S
        with place.hits(0):
            for n in range(2, 7):
                await answer(set_n(n), place.plain_c)
                assert (await place.agree(one))["n"] == n
        site.proxy.clear()
        site.proxy.close_connections()
        await place.until(lambda: is_hit(place))
        assert (await place.agree(one))["n"] == 6

    place.run(work())


async def together(site: Site, calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Makes calls at the same time (tasks, or threads for the sync driver); results or errors."""
    if site.is_async:
        return list(await asyncio.gather(*(call() for call in calls), return_exceptions=True))
    results: list[Any] = [None] * len(calls)

    def work(position: int) -> None:
        try:
            results[position] = calls[position]()
        except BaseException as error:
            results[position] = error

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_one_connection_in_the_pool_is_enough(site: Site) -> None:
    place = place_at(site, maxPoolSize=1)
    reads = [
        lambda c, n=n: c.find_one({"_id": n}) if n % 3 else c.count_documents({"n": n})
        for n in range(9)
    ]

    async def work() -> None:
        await place.fill([{"_id": n, "n": n} for n in range(9)])
        await place.trusted()
        for _ in range(3):
            calls = [lambda ask=ask: ask(place.c) for ask in reads for _ in range(4)] + [
                lambda n=n: place.c.update_one({"_id": n}, {"$inc": {"n": 1}}) for n in range(9)
            ]
            failed = [r for r in await together(site, calls) if isinstance(r, BaseException)]
            assert not failed
            for ask in reads:
                await place.agree(ask)
        await place.caught_up()
        for ask in reads:
            await place.keep(ask)

    place.run(work())


# Other clients


def test_a_program_that_polls_what_is_kept_sees_another_clients_write(site: Site) -> None:
    place = place_at(site)

    async def changed() -> bool:
        return (await place.mine(one))["n"] == 1

    async def work() -> None:
        await numbered(place)
        await answer(set_n(1), place.plain_c)
        await place.until(changed)

    place.run(work())


def test_two_cached_clients_see_each_others_writes_when_caught_up(site: Site) -> None:
    first = place_at(site)
    second = Place(site, site.ours(cached()), first.plain, first.c.name)

    async def work() -> None:
        await numbered(first)
        await second.trusted()
        for n in range(1, 6):
            await first.keep(one)
            await second.keep(one)
            writer, reader = (first, second) if n % 2 else (second, first)
            await answer(set_n(n), writer.c)
            assert (await writer.agree(one))["n"] == n
            await reader.caught_up()
            assert (await reader.agree(one))["n"] == n

    first.run(work())


@pytest.mark.parametrize(
    "write",
    [
        lambda c: c.update_one({"b": 2}, {"$set": {"a": 1}}),
        lambda c: c.insert_one({"_id": 9, "a": 1}),
        lambda c: c.delete_one({"a": 1}),
        lambda c: c.replace_one({"b": 2}, {"a": 1}),
        lambda c: c.update_many({}, [{"$set": {"a": {"$subtract": ["$a", 1]}}}]),
        lambda c: c.bulk_write([UpdateOne({"_id": 2}, {"$rename": {"b": "c"}, "$set": {"a": 1}})]),
        lambda c: other(c).insert_one({"a": 1}),
        lambda c: c.drop(),
        lambda c: c.rename(c.name + "_new"),
        lambda c: c.aggregate([{"$match": {"a": 2}}, {"$out": c.name}]),
        lambda c: c.database.client.drop_database(c.database.name),
    ],
    ids=[
        "moved in",
        "insert",
        "delete",
        "replacement",
        "pipeline",
        "bulk",
        "foreign",
        "drop",
        "rename",
        "$out",
        "dropDatabase",
    ],
)
def test_another_clients_writes_are_seen_when_caught_up(site: Site, write: Any) -> None:
    place = place_at(site)
    reads = [
        lambda c: c.find({"a": 1}),
        lambda c: c.count_documents({"a": 1}),
        lambda c: c.find().sort("a", 1).skip(1).limit(1),
        lambda c: c.distinct("a"),
        lambda c: c.aggregate(
            [
                {
                    "$lookup": {
                        "from": other(c).name,
                        "localField": "a",
                        "foreignField": "a",
                        "as": "j",
                    }
                },
                {"$project": {"j": {"$size": "$j"}}},
                {"$sort": {"_id": 1}},
            ]
        ),
    ]

    async def work() -> None:
        await place.fill([{"_id": n, "a": n, "b": n} for n in (1, 2, 3)])
        await place.trusted()
        before = [await place.keep(ask) for ask in reads]
        await answer(write, place.plain_c)
        await place.caught_up()
        after = [await place.agree(ask) for ask in reads]
        assert after != before

    place.run(work())


# Sessions


def test_a_session_bound_to_the_context_bypasses(site: Site) -> None:
    place = place_at(site)

    async def inside() -> None:
        # No session is given: that of the context holds.
        await answer(set_n(1), place.c)
        refused = place.cache.bypassed.get("session", 0)
        with place.hits(0):
            assert (await place.mine(one))["n"] == 1
            assert await place.mine(lambda c: c.count_documents({"n": 1})) == 1
            assert await place.mine(lambda c: c.distinct("n")) == [1]
            assert len(await place.mine(everything)) == 1
        assert place.cache.bypassed["session"] == refused + 4

    async def work() -> None:
        await numbered(place)
        session = await resolved(place.client.start_session())
        if not hasattr(session, "bind"):
            pytest.skip("this driver binds no session to a context")
        await start_transaction(session)
        binding = session.bind(end_session=False)
        if site.is_async:
            async with binding:
                await inside()
        else:
            with binding:
                await inside()
        # Outside, what was kept is still what the server says.
        assert await place.kept(one) == ZERO
        await resolved(session.abort_transaction())
        assert await place.agree(one) == ZERO
        await resolved(session.end_session())

    place.run(work())


# The server


def test_another_primary_voids_what_was_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    elected: list[bytes] = []
    rewrite = faults.rewrite_hello

    def rewritten(message: bytes, server: tuple[str, int], address: str) -> bytes:
        """The server's hello; once elected, of a later election."""
        message = rewrite(message, server, address)
        at = message.find(b"electionId\0")
        if at < 0 or not elected:
            return message
        at += len(b"electionId\0")
        return message[:at] + elected[-1] + message[at + 12 :]

    monkeypatch.setattr(faults, "rewrite_hello", rewritten)
    polling = {"serverMonitoringMode": "poll", "heartbeatFrequencyMS": 500}
    place = place_at(site, uri=site.proxy.uri, **polling)

    async def work() -> None:
        await numbered(place)
        await place.keep(everything)
        elected.append(b"\x7f\xff\xff\xff" + 8 * b"\xff")
        # Whatever the last primary had not told of is another truth now.
        await place.until(lambda: place.cache.entries == 0)
        assert place.cache.invalidated.keys() & {"primary", "gap"}
        await answer(set_n(1), place.plain_c)
        await place.until(lambda: is_hit(place))
        await place.caught_up()
        assert (await place.agree(one))["n"] == 1
        watcher = place.cache.watcher
        assert watcher.primary.election_id.binary == elected[-1]

    place.run(work())


def test_a_flood_of_events_switches_the_database_off_and_says_so(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    place = place_at(site, cached(max_events_per_s=50))

    def given_up() -> bool:
        return any(d.state == "too_many_events" for d in place.cache.watcher.databases)

    async def work() -> None:
        await numbered(place)
        many = [{"_id": n} for n in range(100, 500)]
        await resolved(place.plain_c.insert_many(many))
        await place.until(given_up)
        await answer(set_n(1), place.plain_c)
        with place.hits(0):
            for ask in (one, everything, one, everything):
                await place.agree(ask)
        assert not place.cache.databases[site.database].trusted

    with caplog.at_level(logging.INFO, logger="qbmongo"):
        place.run(work())
    assert [record.message for record in caplog.records] == [
        f"qbmongo: {site.database} is not cached: more than 50 events a second"
    ]
