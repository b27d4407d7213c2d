"""What happens to the stream and the server while answers are kept here.

Each on a real server, through each client, against the plain driver's answer.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from qbmongo_tests import faults, wire
from qbmongo_tests.clients.places import (
    ZERO,
    Place,
    answer,
    cached,
    everything,
    is_hit,
    lines,
    numbered,
    one,
    place_at,
    set_n,
    start_transaction,
)
from qbmongo_tests.clients.sites import Site, resolved
from qbmongo_tests.faults import Command, DropReply, FaultProxy, Swallow

LEASE_S = 0.5


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
        thread.join(120)
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
    rewrite = wire.rewrite_hello

    def rewritten(message: bytes, server: tuple[str, int], address: str) -> bytes:
        """The server's hello; once elected, of a later election."""
        message = rewrite(message, server, address)
        at = message.find(b"electionId\0")
        if at < 0 or not elected:
            return message
        at += len(b"electionId\0")
        return message[:at] + elected[-1] + message[at + 12 :]

    monkeypatch.setattr(faults, "rewrite_hello", rewritten)
    polling: dict[str, Any] = {"serverMonitoringMode": "poll", "heartbeatFrequencyMS": 500}
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
    first = place_at(site, cached(max_events_per_s=50))
    second = Place(site, first.client, first.plain, first.c.name)
    name = f"{site.database}_2"
    second.c, second.plain_c = first.client[name].c, first.plain[name].c

    def given_up() -> set[str]:
        watched = first.cache.watcher.databases
        return {d.database for d in watched if d.state == "too_many_events"}

    async def work() -> None:
        for place in (first, second):
            await resolved(place.plain_c.insert_one(ZERO))
            await place.until(functools.partial(is_hit, place))
        for place in (first, second):
            many = [{"_id": n} for n in range(100, 500)]
            await resolved(place.plain_c.insert_many(many))
            await place.until(functools.partial(lambda p: p.c.database.name in given_up(), place))
            await answer(set_n(1), place.plain_c)
            with place.hits(0):
                for ask in (one, everything, one, everything):
                    await place.agree(ask)
            assert not place.cache.databases[place.c.database.name].trusted
        await first.until(lambda: len(lines(caplog)) == 2)
        await resolved(first.plain.drop_database(name))

    with caplog.at_level(logging.INFO, logger="qbmongo"):
        first.run(work())
    assert lines(caplog) == [
        f"qbmongo: {database} is not cached: more than 50 events a second in database {database}"
        for database in (site.database, name)
    ]
