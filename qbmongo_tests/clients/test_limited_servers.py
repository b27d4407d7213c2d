"""Servers on which less can be known: missing privileges, no change streams.

Each on a server of its own, through each client.
"""

from __future__ import annotations

import functools
import itertools
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, OperationFailure

from qbmongo.coherence import records
from qbmongo.local_server import LocalServer, find_server
from qbmongo_tests.clients.places import (
    ZERO,
    Place,
    answer,
    cached,
    is_hit,
    lacks,
    lines,
    one,
    other,
    place_at,
    set_n,
)
from qbmongo_tests.clients.sites import Site
from qbmongo_tests.faults import DropReply
from qbmongo_tests.parity.drivers import DRIVERS

LEASE_S = 0.5


# Privileges


class Guarded:
    """A server that checks passwords and roles, with a root user's client."""

    def __init__(self, server: LocalServer, root: MongoClient[dict[str, Any]]) -> None:
        self.server = server
        self.root = root

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
    with (
        _server_of(request.config, auth=True) as server,
        MongoClient[dict[str, Any]](server.uri) as root,
    ):
        guarded = Guarded(server, root)
        for name in ("mine", "theirs", "ours"):
            guarded.root[name].c.insert_one(ZERO)
        with MongoClient[Any](guarded.uri_of("nobody")) as nobody:
            try:
                nobody.theirs.watch().close()
            except OperationFailure:
                pass
            else:
                lacks("privileges of its own for change streams")
        yield guarded


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
            start_s = time.monotonic()
            try:
                await mine.mine(one)
            except OperationFailure as error:
                return error.code == 13
            assert start_s < end_s, "hits go on although the stream was refused"
            return False

        await mine.until(is_refused)
        await mine.until(lambda: lines(caplog))
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
        await place.until(lambda: lines(caplog))

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
        refused_now = place.cache.bypassed.get("unknown_outcome", 0) - refused
        # Unless the machine was so slow that it is over.
        assert refused_now == 1 or time.monotonic() > sent_s + unknown_s
        assert await is_other_hit()
        await place.until(lambda: is_hit(place))
        assert time.monotonic() > sent_s + unknown_s

    place.run(work())
