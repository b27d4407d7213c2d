"""Concurrent identical misses share one command; who is cancelled or fails harms nobody else.

The proxy holds the command until all have asked. In threads and tasks alike.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from qbmongo.clients import sync_point_reads
from qbmongo.core.scope import Scope
from qbmongo_tests.clients.callers import Callers, awaited, just, ours, until, waiting
from qbmongo_tests.clients.sites import PATIENCE_S, Site, Wire, resolved
from qbmongo_tests.faults import CloseBefore

COUNT = 8


def filled(site: Site, **options: Any) -> tuple[Any, Wire]:
    """A client behind the proxy whose reads of c, of ten documents, can be kept."""
    plain = site.plain()

    async def fill() -> None:
        await resolved(plain[site.database].c.insert_many([{"_id": n, "a": 1} for n in range(10)]))

    site.run(fill())
    return site.cached("c", uri=site.proxy.uri, **options)


async def all_of(cursor: Any) -> Any:
    cursor = await cursor if inspect.iscoroutine(cursor) else cursor
    return await resolved(cursor.to_list(None))


READS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "find_one": ("find", lambda c: c.find_one({"_id": 1})),
    "to_list": ("find", lambda c: all_of(c.find({"a": 1}).sort("_id", 1))),
    "to_list in batches": ("find", lambda c: all_of(c.find({"a": 1}).sort("_id", 1).batch_size(3))),
    "count_documents": ("aggregate", lambda c: c.count_documents({"a": 1})),
    "distinct": ("distinct", lambda c: c.distinct("_id")),
    "aggregate": ("aggregate", lambda c: all_of(c.aggregate([{"$match": {"a": 1}}]))),
}


@pytest.mark.parametrize("name", READS)
def test_concurrent_identical_misses_send_one_command(site: Site, name: str) -> None:
    command, read = READS[name]
    client, wire = filled(site)
    collection = client[site.database].c

    async def work() -> None:
        gate = site.proxy.hold(command, when=ours)
        callers = Callers(site)
        callers.start(lambda: read(collection))
        await (gate.reached() if site.is_async else just(gate.wait()))
        for _ in range(COUNT - 1):
            callers.start(lambda: read(collection))
        await until(lambda: waiting(client) == COUNT - 1, site)
        gate.release()
        results = await callers.results()
        assert [r for r in results if isinstance(r, BaseException)] == []
        assert all(result == results[0] for result in results)
        assert wire.counts[command] == 1
        assert client.qb.stats().cache.joins == COUNT - 1
        if isinstance(results[0], (dict, list)):
            assert len({id(result) for result in results}) == COUNT

    site.run(work())


@pytest.mark.parametrize("name", READS)
def test_a_failed_leaders_joiners_each_make_their_own_call(site: Site, name: str) -> None:
    command, read = READS[name]
    client, wire = filled(site, retryReads=False)
    collection = client[site.database].c

    async def work() -> None:
        gate = site.proxy.hold(command, when=ours)
        callers = Callers(site)
        callers.start(lambda: read(collection))
        await (gate.reached() if site.is_async else just(gate.wait()))
        for _ in range(3):
            callers.start(lambda: read(collection))
        await until(lambda: waiting(client) == 3, site)
        site.proxy.close_connections()
        leader, *others = await callers.results()
        gate.release()
        assert isinstance(leader, AutoReconnect)
        assert [r for r in others if isinstance(r, BaseException)] == []
        assert all(result == others[0] for result in others)
        assert wire.counts[command] == 1 + 3
        assert client._qb.engine.cache.fills_open == 0

    site.run(work())


@pytest.fixture(params=["async", "motor"])
def cancellable(
    request: pytest.FixtureRequest, server_uri: str, database_name: str
) -> Iterator[Site]:
    """A site of a driver whose calls can be cancelled."""
    place = Site(request.param, server_uri, database_name)
    yield place
    place.close()


@pytest.mark.parametrize("name", READS)
def test_a_cancelled_leader_hands_over_to_one_joiner(cancellable: Site, name: str) -> None:
    site = cancellable
    command, read = READS[name]
    client, wire = filled(site)
    collection = client[site.database].c

    async def work() -> None:
        gate = site.proxy.hold(command, when=ours)
        leader = asyncio.ensure_future(awaited(lambda: read(collection)))
        await gate.reached()
        joiners = [asyncio.ensure_future(awaited(lambda: read(collection))) for _ in range(3)]
        await until(lambda: waiting(client) == 3, site)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        # Motor's aggregation goes on by itself when its to_list is cancelled.
        goes_on = site.name == "motor" and name == "aggregate"
        if goes_on:
            gate.release()
        # The heir sends the read again, past the gate; nobody else does.
        results = await asyncio.gather(*joiners)
        gate.release()
        assert all(result == results[0] for result in results)
        assert wire.counts[command] == (1 if goes_on else 2)
        assert client._qb.engine.cache.fills_open == 0

    site.run(work())


def test_a_cancelled_joiner_disturbs_nobody(cancellable: Site) -> None:
    site = cancellable
    client, _ = filled(site)
    collection = client[site.database].c

    async def work() -> None:
        gate = site.proxy.hold("find", when=ours)
        leader = asyncio.ensure_future(awaited(lambda: collection.find_one({"_id": 1})))
        await gate.reached()
        joiners = [
            asyncio.ensure_future(awaited(lambda: collection.find_one({"_id": 1})))
            for _ in range(3)
        ]
        await until(lambda: waiting(client) == 3, site)
        joiners[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await joiners[1]
        await until(lambda: waiting(client) == 2, site)
        gate.release()
        assert (await leader)["_id"] == 1
        assert [d["_id"] for d in await asyncio.gather(joiners[0], joiners[2])] == [1, 1]

    site.run(work())


@pytest.mark.parametrize("survivors", [0, 2])
@pytest.mark.parametrize("name", ["find_one", "to_list", "distinct"])
def test_an_heir_that_is_cancelled_before_it_hears_of_it_leaves_no_flight_without_a_leader(
    cancellable: Site, name: str, survivors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = cancellable
    command, read = READS[name]
    client, _ = filled(site)
    collection = client[site.database].c
    cache = client._qb.engine.cache
    hand_over = cache.hand_over

    async def work() -> None:
        gate = site.proxy.hold(command, when=ours)
        leader = asyncio.ensure_future(awaited(lambda: read(collection)))
        await gate.reached()
        joiners = [
            asyncio.ensure_future(awaited(lambda: read(collection))) for _ in range(1 + survivors)
        ]
        await until(lambda: waiting(client) == 1 + survivors, site)

        def overtaken(*args: Any) -> Any:
            joiners[0].cancel()  # in the same turn of the loop
            return hand_over(*args)

        monkeypatch.setattr(cache, "hand_over", overtaken)
        leader.cancel()
        ended = await asyncio.gather(leader, joiners[0], return_exceptions=True)
        assert [type(error) for error in ended] == [asyncio.CancelledError] * 2
        gate.release()
        further = asyncio.ensure_future(awaited(lambda: read(collection)))
        _, hanging = await asyncio.wait([*joiners[1:], further], timeout=PATIENCE_S)
        assert not hanging
        assert all(joiner.result() == further.result() for joiner in joiners[1:])
        assert cache.fills_open == 0

    site.run(work())


def test_nobody_joins_a_read_that_an_own_write_has_overtaken(site: Site) -> None:
    client, _ = filled(site)
    collection = client[site.database].c

    async def work() -> None:
        gate = site.proxy.hold_reply("find", when=ours)
        callers = Callers(site)
        callers.start(lambda: collection.find_one({"_id": 1}))
        await (gate.reached() if site.is_async else just(gate.wait()))
        await resolved(collection.update_one({"_id": 1}, {"$set": {"a": 2}}))
        late = await resolved(collection.find_one({"_id": 1}))
        assert late["a"] == 2
        gate.release()
        early = (await callers.results())[0]
        assert early["a"] == 1  # what the server had answered before the write
        assert (await resolved(collection.find_one({"_id": 1})))["a"] == 2

    site.run(work())


CALLS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    **READS,
    "update_one": ("update", lambda c: c.update_one({"_id": 1}, {"$set": {"b": 1}})),
    "find_one_and_update": (
        "findAndModify",
        lambda c: c.find_one_and_update({"_id": 1}, {"$set": {"b": 1}}),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_while_a_command_is_on_its_way_no_lock_is_held_and_everything_else_goes_on(
    site: Site, name: str
) -> None:
    command, call = CALLS[name]
    client, wire = filled(site)
    collection = client[site.database].c

    async def work() -> None:
        await resolved(collection.find_one({"_id": 5}))
        gate = site.proxy.hold_reply(command, when=ours)
        callers = Callers(site)
        callers.start(lambda: call(collection))
        await (gate.reached() if site.is_async else just(gate.wait()))
        if site.name != "async":
            assert not client._qb.engine.lock.locked()
        wire.clear()
        assert (await resolved(collection.find_one({"_id": 5})))["a"] == 1
        assert not wire.commands
        await resolved(collection.delete_one({"_id": 9}))
        assert client.qb.stats().faults == {}
        assert client.qb.profile().calls > 0
        gate.release()
        assert [r for r in await callers.results() if isinstance(r, BaseException)] == []

    site.run(work())


def test_a_network_error_of_a_leader_leaves_nothing_behind(site: Site) -> None:
    client, _ = filled(site)
    collection = client[site.database].c.with_options()

    async def work() -> None:
        site.proxy.on("find", CloseBefore(), times=None, when=ours)
        with pytest.raises(AutoReconnect):
            await resolved(collection.find_one({"_id": 1}))
        site.proxy.clear()
        assert client._qb.engine.cache.fills_open == 0
        assert (await resolved(collection.find_one({"_id": 1})))["_id"] == 1

    site.run(work())


# Where a signal's handler may raise in the main thread, after a read has begun and before the
# driver is asked: what is called there next.
INTERRUPTED: dict[str, tuple[Any, str]] = {
    "find_one": (sync_point_reads, "send_lone"),
    "find_one by another field": (Scope, "_rewrite"),
    "to_list": (Scope, "_rewrite"),
    "count_documents": (Scope, "_rewrite"),
    "distinct": (Scope, "_rewrite"),
}


@pytest.mark.parametrize("name", INTERRUPTED)
def test_nobody_waits_for_a_read_of_the_main_thread_that_a_signal_interrupted(
    server_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    site = Site("sync", server_uri, database_name)
    by_field = ("find", lambda c: c.find_one({"a": 1}))
    _, read = {**READS, "find_one by another field": by_field}[name]

    def interrupt(*args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    async def asked() -> Any:
        value = read(collection)
        return await value if inspect.iscoroutine(value) else value

    try:
        client, _ = filled(site)
        collection = client[site.database].c
        with monkeypatch.context() as patched:
            patched.setattr(*INTERRUPTED[name], interrupt)
            with pytest.raises(KeyboardInterrupt):
                site.run(asked())
        callers = Callers(site)
        for _ in range(3):
            callers.start(lambda: read(collection))
        results = site.run(callers.results())
        assert results == [site.run(asked())] * 3
        assert None not in results
    finally:
        site.close()


def test_the_main_thread_waits_for_nobody(server_uri: str, database_name: str) -> None:
    """Its reads go to the server, whoever reads the same, and however many are on the wire."""
    site = Site("sync", server_uri, database_name)
    try:
        client, wire = filled(site)
        collection = client[site.database].c
        callers, gates = Callers(site), []
        for identity in (1, 2):
            gates.append(site.proxy.hold("find", when=ours))
            callers.start(lambda n=identity: collection.find_one({"_id": n}))  # type: ignore[misc]
            gates[-1].wait()
        callers.start(lambda: collection.find_one({"_id": 3}))
        site.run(until(lambda: client.qb.stats().batch.pending == 1, site))
        for identity in (1, 2, 3, 4):
            assert collection.find_one({"_id": identity})["_id"] == identity
        assert wire.counts["find"] == 6
        for gate in gates:
            gate.release()
        assert [d["_id"] for d in site.run(callers.results())] == [1, 2, 3]
    finally:
        site.close()
