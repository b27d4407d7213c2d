"""What others do to data that is cached here: the stream, the server, other clients, privileges.

Each on a real server, through each client, against the plain driver's answer.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, OperationFailure

from qbmongo import CacheSettings, Settings
from qbmongo.coherence import records
from qbmongo.local_server import LocalServer, find_server
from qbmongo_tests import faults, wire
from qbmongo_tests.clients.places import Place, answer, other, start_transaction
from qbmongo_tests.clients.sites import Site, resolved
from qbmongo_tests.faults import Command, DropReply, FaultProxy, Swallow
from qbmongo_tests.parity.drivers import DRIVERS

LEASE_S = 0.5
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


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "qbmongo"]


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
        await resolved(first.plain.drop_database(name))

    with caplog.at_level(logging.INFO, logger="qbmongo"):
        first.run(work())
    assert lines(caplog) == [
        f"qbmongo: {database} is not cached: more than 50 events a second in database {database}"
        for database in (site.database, name)
    ]


# Privileges


class Guarded:
    """A server that checks passwords and roles, and a user who may watch one database of two."""

    def __init__(self, server: LocalServer) -> None:
        self.root: MongoClient[dict[str, Any]] = MongoClient(server.uri)
        self.server = server

    def uri_of(self, user: str) -> str:
        """Makes a user who may read `mine` and find in `theirs`; returns who connects as him."""
        found = {
            "resource": {"db": "theirs", "collection": ""},
            "actions": ["find", "listCollections", "listIndexes"],
        }
        command = self.root.admin.command
        command("createRole", f"finder_{user}", privileges=[found], roles=[])
        roles = [{"role": "read", "db": "mine"}, {"role": f"finder_{user}", "db": "admin"}]
        command("createUser", user, pwd="secret", roles=roles)
        return f"mongodb://{user}:secret@{self.server.address}/?authSource=admin"


@pytest.fixture(scope="module")
def guarded(request: pytest.FixtureRequest) -> Iterator[Guarded]:
    with _server_of(request.config, auth=True) as server:
        guarded = Guarded(server)
        for name in ("mine", "theirs", "ours"):
            guarded.root[name].c.insert_one(ZERO)
        yield guarded
        guarded.root.close()


def _server_of(config: pytest.Config, **options: Any) -> LocalServer:
    """A server with options of its own, to be started by a with statement."""
    program = find_server(config.getoption("--server-kind"))
    if program is None:
        pytest.skip("needs a server of its own, and no program to start was found")
    return LocalServer(program, **options)


@pytest.fixture(params=sorted(DRIVERS))
def limited(request: pytest.FixtureRequest, guarded: Guarded) -> Iterator[Site]:
    """A driver that connects as a user of its own, named after the driver; database `mine`."""
    user = f"user_{uuid.uuid4().hex[:8]}"
    site = Site(request.param, guarded.uri_of(user), "mine")
    yield site
    site.close()


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was refused is tried again soon, not after minutes."""
    limits = functools.partial(records.Limits, forbidden_retry_s=0.1)
    monkeypatch.setattr(records, "Limits", limits)


def test_a_database_that_may_not_be_watched_is_not_cached_and_others_are(
    limited: Site, guarded: Guarded, caplog: pytest.LogCaptureFixture, quick_retries: None
) -> None:
    client = limited.ours(cached(lease_s=LEASE_S))
    mine, theirs = (Place(limited, client, client, "c") for _ in range(2))
    theirs.c = client.theirs.c
    numbers = itertools.count()

    async def is_tried_again() -> bool:
        """Whether the stream was refused several times; never is anything kept."""
        n = next(numbers)
        guarded.root.theirs.c.update_one({"_id": 1}, {"$set": {"n": n}})
        refused = theirs.cache.bypassed.get("untrusted", 0)
        with theirs.hits(0):
            assert (await theirs.mine(one))["n"] == n
        assert theirs.cache.bypassed["untrusted"] == refused + 1
        return bool(client.qb.stats().cache.watcher.failures >= 5)

    async def work() -> None:
        await mine.until(lambda: is_hit(mine))
        await theirs.until(is_tried_again)
        await mine.until(lambda: is_hit(mine))

    limited.run(work())
    assert len(lines(caplog)) == 1, lines(caplog)
    assert "theirs is not cached: no privilege to watch" in lines(caplog)[0]


def test_a_privilege_lost_meanwhile_ends_hits_in_that_database(
    limited: Site, guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    client = limited.ours(cached(lease_s=LEASE_S))
    user = limited.uri.split("//")[1].split(":")[0]
    guarded.root.admin.command("grantRolesToUser", user, roles=[{"role": "read", "db": "ours"}])
    mine, ours = (Place(limited, client, client, "c") for _ in range(2))
    ours.c = client.ours.c

    async def work() -> None:
        await mine.until(lambda: is_hit(mine))
        await ours.until(lambda: is_hit(ours))
        role = {"role": "read", "db": "mine"}
        guarded.root.admin.command("revokeRolesFromUser", user, roles=[role])
        end_s = time.monotonic() + 2 * LEASE_S

        async def is_refused() -> bool:
            try:
                await mine.mine(one)
            except OperationFailure as error:
                return error.code == 13
            assert time.monotonic() < end_s, "hits go on although the stream was refused"
            return False

        await mine.until(is_refused)
        await ours.until(lambda: is_hit(ours))
        with pytest.raises(OperationFailure):
            await mine.mine(one)

    limited.run(work())
    assert len(lines(caplog)) == 1, lines(caplog)
    assert "mine is not cached: no privilege to watch" in lines(caplog)[0]


# A server without change streams


@pytest.fixture(scope="module")
def standalone(request: pytest.FixtureRequest) -> Iterator[LocalServer]:
    with _server_of(request.config, standalone=True) as server:
        yield server


@pytest.fixture(params=sorted(DRIVERS))
def alone(request: pytest.FixtureRequest, standalone: LocalServer) -> Iterator[Site]:
    """A driver on the standalone server, in a database that no other test uses."""
    site = Site(request.param, standalone.uri, f"d{uuid.uuid4().hex[:8]}")
    yield site
    site.close()


def test_without_change_streams_nothing_is_kept_and_one_line_says_why(
    alone: Site, caplog: pytest.LogCaptureFixture
) -> None:
    place = place_at(alone)

    def is_known() -> bool:
        return bool(place.cache.watcher.state == "unsupported")

    async def work() -> None:
        await place.fill([ZERO])
        await place.mine(one)
        await place.until(is_known)
        refused = place.cache.bypassed["untrusted"]
        with place.hits(0):
            for n in range(3):
                await answer(set_n(n), place.plain_c)
                assert (await place.agree(one))["n"] == n
        assert place.cache.bypassed["untrusted"] == refused + 3
        assert place.cache.entries == 0

    place.run(work())
    assert lines(caplog) == [
        f"qbmongo: {alone.database} is not cached: change streams need a replica set"
    ]


def test_without_change_streams_a_time_to_live_keeps_answers_so_long_and_no_longer(
    alone: Site,
) -> None:
    ttl_s = 0.4
    place = place_at(alone, cached(ttl_s=ttl_s))

    async def work() -> None:
        await place.fill([ZERO])
        await place.until(lambda: is_hit(place))
        # An own write is seen at once.
        await answer(set_n(1), place.c)
        assert (await place.agree(one))["n"] == 1
        await answer(set_n(2), place.plain_c)
        end_s = time.monotonic() + ttl_s
        seen = 1
        while seen == 1:
            start_s = time.monotonic()
            seen = (await place.mine(one))["n"]
            assert seen == 2 or start_s < end_s
        await place.until(lambda: is_hit(place))
        assert (await place.agree(one))["n"] == 2

    place.run(work())


def test_what_a_write_of_unknown_outcome_may_touch_is_not_kept_for_unknown_s(alone: Site) -> None:
    unknown_s = 0.5
    settings = cached(ttl_s=60.0, unknown_s=unknown_s)
    place = place_at(alone, settings, alone.proxy.uri)

    async def is_other_hit() -> bool:
        hits = place.cache.hits
        await answer(one, other(place.c))
        return bool(place.cache.hits > hits)

    async def work() -> None:
        await place.fill([ZERO], [ZERO])
        await place.until(lambda: is_hit(place))
        await place.until(is_other_hit)
        alone.proxy.on("update", DropReply())
        sent_s = time.monotonic()
        with pytest.raises(AutoReconnect):
            await answer(set_n(1), place.c)
        refused = place.cache.bypassed.get("unknown_outcome", 0)
        with place.hits(0):
            assert (await place.agree(one))["n"] == 1
        assert place.cache.bypassed["unknown_outcome"] == refused + 1
        assert await is_other_hit()
        await place.until(lambda: is_hit(place))
        assert time.monotonic() > sent_s + unknown_s

    place.run(work())
