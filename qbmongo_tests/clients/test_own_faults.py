"""A fault of ours never fails the program's call, before the driver is called or after it.

Each part is broken on purpose: the driver's answer comes back all the same, the fault is counted
and logged once, and what could make the cache wrong switches it off.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pymongo.errors import OperationFailure

import qbmongo.clients.arguments
import qbmongo.clients.cursors
import qbmongo.clients.frozen_writes
import qbmongo.clients.listener
import qbmongo.clients.point_reads
import qbmongo.clients.values
import qbmongo.clients.writes
import qbmongo.core.flights
import qbmongo.core.index
import qbmongo.core.ledger
import qbmongo.core.lone_reads
import qbmongo.core.profile
import qbmongo.core.scope
from qbmongo_tests.clients.callers import Callers, just, ours, until, waiting
from qbmongo_tests.clients.sites import Site, resolved


class Broken(Exception):
    """What the broken part raises."""


def broken(*args: Any, **options: Any) -> Any:
    raise Broken("on purpose")


async def all_of(cursor: Any) -> Any:
    cursor = await cursor if inspect.iscoroutine(cursor) else cursor
    return await resolved(cursor.to_list(None))


async def work(site: Site, client: Any, name: str) -> list[Any]:
    """Every kind of call, twice; the answers. name: of the collection."""
    c = client[site.database][name]
    answers: list[Any] = []
    await resolved(c.delete_many({}))
    session: Any = client.start_session()
    session = await session if inspect.isawaitable(session) else session
    for turn in range(2):
        n = turn * 10
        result = await resolved(c.insert_one({"_id": n, "a": 1}))
        answers.append(result.inserted_id)
        many = await resolved(c.insert_many([{"_id": n + 1, "a": 1}, {"_id": n + 2, "a": 2}]))
        answers.append(many.inserted_ids)
        answers.append(
            (await resolved(c.update_one({"_id": n}, {"$set": {"b": 1}}))).modified_count
        )
        answers.append((await resolved(c.update_many({"a": 1}, {"$inc": {"b": 1}}))).modified_count)
        answers.append((await resolved(c.replace_one({"_id": n + 1}, {"a": 3}))).modified_count)
        answers.append(await resolved(c.find_one_and_update({"_id": n}, {"$inc": {"b": 1}})))
        for _ in range(2):
            answers.append(await resolved(c.find_one({"_id": n})))
            answers.append(await resolved(c.find_one(n, {"a": 1})))
            answers.append(await resolved(c.find_one({"_id": n}, session=session)))
            answers.append(await all_of(c.find({"a": {"$gt": 0}}).sort("_id", 1)))
            answers.append(await all_of(c.find({}).sort("_id", 1).batch_size(2)))
            answers.append([d async for d in loop(site, c.find({"a": 1}).sort("_id", 1))])
            answers.append(await resolved(c.count_documents({"a": 1})))
            answers.append(await resolved(c.estimated_document_count()))
            answers.append(await resolved(c.distinct("a")))
            answers.append(await all_of(c.aggregate([{"$sort": {"_id": 1}}])))
            answers.append(await all_of(c.aggregate([{"$sort": {"_id": 1}}], batchSize=2)))
        answers.append((await resolved(c.delete_one({"_id": n + 2}))).deleted_count)
        with pytest.raises(Exception, match="duplicate key"):
            await resolved(c.insert_one({"_id": n}))
        with pytest.raises(OperationFailure):
            await resolved(c.find_one_and_update({"_id": n}, {"$nope": {"a": 1}}))
    await resolved(session.end_session())
    return answers


def worked(site: Site, client: Any, name: str) -> list[Any]:
    """What `work` answers: in a thread, as threads share more than the main thread does."""
    if site.is_async:
        return site.run(work(site, client, name))
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(lambda: site.run(work(site, client, name))).result()


async def loop(site: Site, cursor: Any) -> Any:
    if site.is_async:
        async for document in cursor:
            yield document
    else:
        for document in cursor:
            yield document


Where = Callable[[Any], tuple[Any, str]]

# What is broken, by the fault's name: (where in a client, whether the cache must go off).
PARTS: dict[str, tuple[Where, bool]] = {
    "shape of a read": (lambda e: (qbmongo.core.profile, "read_shape"), False),
    "shape of a write": (lambda e: (qbmongo.core.profile, "write_shape"), False),
    "read_stats": (lambda e: (type(e.profile), "read_stats"), False),
    "record": (lambda e: (qbmongo.core.profile.ShapeStats, "record"), False),
    "hit": (lambda e: (qbmongo.core.profile.ShapeStats, "hit"), False),
    "note_place": (lambda e: (qbmongo.core.profile.ShapeStats, "note_place"), False),
    "key_of": (lambda e: (qbmongo.core.scope, "key_of"), False),
    "frozen": (lambda e: (qbmongo.core.scope, "frozen"), False),
    "begin": (lambda e: (type(e.cache), "begin"), False),
    "flight": (lambda e: (type(e.cache), "flight"), False),
    "cursor_op": (lambda e: (qbmongo.clients.cursors, "cursor_op"), False),
    "cursor_bypass": (lambda e: (qbmongo.clients.cursors, "cursor_bypass"), False),
    "count_op": (lambda e: (qbmongo.clients.arguments, "count_op"), False),
    "distinct_op": (lambda e: (qbmongo.clients.arguments, "distinct_op"), False),
    "aggregate_op": (lambda e: (qbmongo.clients.arguments, "aggregate_op"), False),
    "write_op": (lambda e: (qbmongo.clients.writes, "write_op"), False),
    "changed": (lambda e: (qbmongo.clients.writes, "changed"), False),
    "twin": (lambda e: (qbmongo.clients.values, "_twin"), False),
    "batch_of": (lambda e: (qbmongo.clients.cursors, "batch_of"), False),
    "read_concern_after": (lambda e: (qbmongo.clients.cursors, "read_concern_after"), False),
    "fill": (lambda e: (qbmongo.clients.cursors.Reading, "fill"), False),
    "fresh_cursor": (lambda e: (qbmongo.clients.point_reads, "fresh_cursor"), False),
    "begin_point": (lambda e: (type(e.cache), "begin_point"), False),
    "settle_points": (lambda e: (type(e.cache), "settle_points"), True),
    "reply of a lone read": (lambda e: (qbmongo.clients.point_reads, "batch_of"), False),
    "concern of a lone read": (
        lambda e: (qbmongo.clients.point_reads, "read_concern_after"),
        False,
    ),
    "op of a lone read": (lambda e: (qbmongo.core.lone_reads, "log_slow"), False),
    "decode of an aggregation": (lambda e: (qbmongo.clients.values, "decode_documents"), False),
    "decode of a value": (lambda e: (qbmongo.clients.values.ValueRead, "_decode"), False),
    "settle": (lambda e: (type(e.cache), "settle"), True),
    "ids of an answer": (lambda e: (qbmongo.core.scope, "ids_of"), True),
    "ledger.started": (lambda e: (type(e.ledger), "started"), True),
    "ledger.succeeded": (lambda e: (type(e.ledger), "succeeded"), True),
    "ledger.failed": (lambda e: (type(e.ledger), "failed"), True),
    "effects_of": (lambda e: (qbmongo.core.ledger, "effects_of"), True),
    "footprint_of": (lambda e: (qbmongo.core.flights, "footprint_of"), False),
    "affected": (lambda e: (qbmongo.core.index.NamespaceIndex, "affected"), True),
    "close": (lambda e: (type(e.cache), "close"), True),
    "observed": (lambda e: (type(e.cache), "observed"), True),
}


@pytest.fixture(scope="module")
def _answered() -> dict[str, list[Any]]:
    return {}


@pytest.fixture
def expected(site: Site, _answered: dict[str, list[Any]]) -> list[Any]:
    """What the plain driver answers; it is asked once."""
    if site.name not in _answered:
        _answered[site.name] = worked(site, site.plain(), "plain")
    return _answered[site.name]


@pytest.mark.parametrize("part", PARTS)
def test_the_drivers_answer_comes_back_whatever_of_ours_is_broken(
    site: Site,
    part: str,
    expected: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client, _ = site.cached("ours")
    engine = client._qb.engine
    where, goes_off = PARTS[part]
    target, name = where(engine)
    with caplog.at_level(logging.ERROR, logger="qbmongo"):
        monkeypatch.setattr(target, name, broken)
        try:
            answers = worked(site, client, "ours")
        finally:
            monkeypatch.undo()
    assert answers == expected
    faults = client.qb.stats().faults
    assert sum(faults.values()) >= 1, "the part was never asked"
    logged = [r for r in caplog.records if r.name == "qbmongo" and r.levelno == logging.ERROR]
    assert len(logged) == len(faults)
    assert all(r.exc_info is not None and r.exc_info[0] is Broken for r in logged)
    stats = client.qb.stats().cache
    if goes_off:
        assert stats.off == "fault"
        assert stats.entries == 0
    else:
        assert stats.off is None
        assert engine.cache.fills_open == 0


def test_a_fault_in_a_freezer_sends_what_the_program_gave(
    site: Site, expected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if site.name == "async":
        pytest.skip("writes of the asynchronous client are not sent from copies")
    client, _ = site.cached("ours")
    for kind in qbmongo.clients.frozen_writes.FREEZERS:
        monkeypatch.setitem(qbmongo.clients.frozen_writes.FREEZERS, kind, broken)
    assert worked(site, client, "ours") == expected
    assert client.qb.stats().faults["begin_write"] > 1


def test_a_fault_in_what_a_command_says_is_taken_for_any_write(
    site: Site, expected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = site.cached("ours")
    monkeypatch.setattr(qbmongo.clients.listener, "evident", broken)
    assert worked(site, client, "ours") == expected
    assert client.qb.stats().cache.off is None


# Which settlement the answer to a find_one goes through, by its `_id`.
SETTLEMENTS = [("settle", 1.5), ("settle_points", 1)]


@pytest.mark.parametrize(("settlement", "identity"), SETTLEMENTS)
def test_after_a_fault_in_settlement_reads_go_to_the_server_for_good(
    site: Site, monkeypatch: pytest.MonkeyPatch, settlement: str, identity: Any
) -> None:
    client, wire = site.cached("c")
    c = client[site.database].c

    async def read() -> None:
        await resolved(c.find_one({"_id": identity}))

    monkeypatch.setattr(type(client._qb.engine.cache), settlement, broken)
    site.run(read())
    monkeypatch.undo()
    wire.clear()
    for _ in range(3):
        site.run(read())
    assert wire.counts == {"find": 3}
    assert client.qb.stats().cache.bypassed["fault"] == 3


@pytest.mark.parametrize(("settlement", "identity"), SETTLEMENTS)
def test_waiters_of_a_flight_whose_settlement_is_broken_go_on(
    site: Site, monkeypatch: pytest.MonkeyPatch, settlement: str, identity: Any
) -> None:
    client, _ = site.cached("c", uri=site.proxy.uri)
    c = client[site.database].c

    async def ask() -> list[Any]:
        gate = site.proxy.hold("find", when=ours)
        callers = Callers(site)
        callers.start(lambda: c.find_one({"_id": identity}))
        await (gate.reached() if site.is_async else just(gate.wait()))
        for _ in range(3):
            callers.start(lambda: c.find_one({"_id": identity}))
        await until(lambda: waiting(client) == 3, site)
        monkeypatch.setattr(type(client._qb.engine.cache), settlement, broken)
        gate.release()
        return await callers.results()

    assert site.run(ask()) == [None] * 4
    assert client.qb.stats().cache.off == "fault"


def test_a_watcher_that_cannot_start_leaves_the_driver(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = site.ours()
    monkeypatch.setattr(client._qb.engine, "want", broken)

    async def read() -> Any:
        return await resolved(client[site.database].c.find_one({"_id": 1}))

    assert site.run(read()) is None
    assert site.run(read()) is None
    assert client.qb.stats().faults["begin_read"] == 2
