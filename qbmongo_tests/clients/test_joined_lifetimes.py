"""Joined writes whose callers are cancelled or never wait, flushes, closing, forks and exits."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, InvalidOperation, PyMongoError

from qbmongo import Settings
from qbmongo.clients.coalesced import Go, Sender
from qbmongo.clients.writes import Write
from qbmongo.core.lanes import Lane
from qbmongo.core.transactions import OpenTransactions
from qbmongo.records import JoinedWrite
from qbmongo_tests.clients.callers import Callers, just, until
from qbmongo_tests.clients.joined import ONE_AT_A_TIME, Joining, outcome_of
from qbmongo_tests.clients.sites import Site, resolved, settled
from qbmongo_tests.faults import Answer, DropReply
from qbmongo_tests.waiting import wait_until

IDS = range(6)


@pytest.fixture
def documents(plain_client: MongoClient[dict[str, Any]], database_name: str) -> Any:
    """The collection "c" with a document for each of IDS, as the plain driver sees it."""
    collection = plain_client[database_name].c
    collection.insert_many([{"_id": identity, "n": 0} for identity in IDS])
    return collection


@pytest.fixture(params=["async", "motor"])
def cancellable(
    request: pytest.FixtureRequest, server_uri: str, database_name: str
) -> Iterator[Site]:
    """A site of a driver whose calls can be cancelled."""
    place = Site(request.param, server_uri, database_name)
    yield place
    place.close()


def increment(collection: Any, identity: int) -> Any:
    return collection.update_one({"_id": identity}, {"$inc": {"n": 1}})


def counters(documents: Any) -> list[int]:
    return [document["n"] for document in documents.find({"_id": {"$in": list(IDS)}}).sort("_id")]


async def gathered(joining: Joining) -> list[Any]:
    """A task or Future for each of IDS; all gather."""
    calls = [asyncio.ensure_future(increment(joining.collection, n)) for n in IDS]
    await joining.pending(len(IDS))
    return calls


def test_who_cancels_before_dispatch_is_taken_out(cancellable: Site, documents: Any) -> None:
    joining = Joining(cancellable)

    async def work() -> None:
        held = await joining.begun()
        calls = await gathered(joining)
        for identity in (0, 3):
            calls[identity].cancel()
        await asyncio.sleep(0)
        held.release()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        await held.callers.results()
        cancelled = [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes]
        assert cancelled == [True, False, False, True, False, False]

    cancellable.run(work())
    assert counters(documents) == [0, 1, 1, 0, 1, 1]
    [command] = joining.commands("bulkWrite")
    assert len(command["ops"]) == 4
    stats = joining.stats
    assert (stats.batches, stats.gathered, stats.sizes, stats.left) == (1, 4, {4: 1}, 2)
    one = bson.encode({"_id": 1}), bson.encode({"$inc": {"n": 1}})
    assert stats.bytes == 4 * sum(map(len, one))


def test_who_cancels_after_dispatch_only_stops_waiting(cancellable: Site, documents: Any) -> None:
    joining = Joining(cancellable)

    async def work() -> None:
        held = await joining.begun()
        gate = cancellable.proxy.hold_reply("bulkWrite")
        calls = await gathered(joining)
        held.release()
        await gate.reached()
        calls[0].cancel()
        calls[3].cancel()
        await asyncio.wait({calls[0], calls[3]})
        assert not [call for call in calls[1:3] if call.done()]
        gate.release()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        await held.callers.results()
        assert [getattr(o, "modified_count", None) for o in outcomes] == [None, 1, 1, None, 1, 1]

    cancellable.run(work())
    assert counters(documents) == [1] * 6


@pytest.mark.parametrize("cancellable", ["async"], indirect=True)
def test_who_goes_on_when_other_tasks_are_cancelled_is_not_cancelled(
    cancellable: Site, documents: Any
) -> None:
    """A program's end may cancel whatever tasks there are, but for some that have to go on. The
    task that sends their batch is not known to it."""
    joining = Joining(cancellable)

    async def work() -> list[Any]:
        held = await joining.begun()
        gate = cancellable.proxy.hold("bulkWrite")
        before = asyncio.all_tasks()
        calls = await gathered(joining)
        held.release()
        await gate.reached()
        await held.callers.results()
        for task in asyncio.all_tasks() - before - set(calls[1:]):
            task.cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        gate.release()
        return outcomes

    cancelled, *others = cancellable.run(work())
    assert type(cancelled) is asyncio.CancelledError
    # As after a lost connection, nobody knows whether these were applied.
    assert [type(outcome) for outcome in others] == [AutoReconnect] * (len(IDS) - 1)
    assert len(set(map(id, others))) == len(others)
    stats = joining.stats
    assert (stats.in_flight, stats.pending, stats.held_bytes) == (0, 0, 0)


def test_everybody_cancelled_before_dispatch_sends_nothing(
    cancellable: Site, documents: Any
) -> None:
    joining = Joining(cancellable)

    async def work() -> None:
        held = await joining.begun()
        calls = await gathered(joining)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        held.release()
        await held.callers.results()
        await joining.client.qb.flush()
        assert (await increment(joining.collection, 1)).modified_count == 1
        stats = joining.stats
        assert (stats.pending, stats.in_flight, stats.held_bytes) == (0, 0, 0)
        assert (stats.batches, stats.gathered, stats.bytes, stats.left) == (0, 0, 0, 6)
        assert not stats.sizes

    cancellable.run(work())
    assert counters(documents) == [0, 1, 0, 0, 0, 0]
    assert "bulkWrite" not in joining.wire.counts


def test_a_cancelled_lone_call_lets_the_others_go(cancellable: Site, documents: Any) -> None:
    """Whoever they gather behind may be cancelled on the wire."""
    joining = Joining(cancellable)

    async def work() -> None:
        gate = cancellable.proxy.hold_reply("delete")
        lone = asyncio.ensure_future(joining.collection.delete_one({"_id": "nobody's"}))
        await gate.reached()
        calls = await gathered(joining)
        lone.cancel()
        await asyncio.wait({lone})
        if cancellable.name == "motor":
            # The thread goes on, and with it the command.
            gate.release()
        outcomes = await asyncio.gather(*calls)
        assert [outcome.modified_count for outcome in outcomes] == [1] * 6
        gate.release()

    cancellable.run(work())
    assert counters(documents) == [1] * 6


LEFT_BY: dict[str, Callable[[Any, int], Any]] = {
    "results": increment,
    "inserts": lambda c, n: c.insert_one({"_id": 100 + n}),
    "errors": lambda c, n: c.insert_one({"_id": 0}),
    "lost": increment,
}


@pytest.mark.parametrize("outcome", LEFT_BY)
def test_nothing_is_left_to_the_garbage_collector(site: Site, documents: Any, outcome: str) -> None:
    """A full collection in the middle of a burst would take longer than the burst."""
    settings = Settings(cache=None, coalesce=ONE_AT_A_TIME, batch=None)
    joining = Joining(site, settings, retryWrites=False)
    if outcome == "lost":
        site.proxy.on("bulkWrite", DropReply())

    async def work() -> int:
        calls = [lambda c, n=n: LEFT_BY[outcome](c, n) for n in IDS]
        outcomes = await joining.together(calls)
        await joining.client.qb.flush() if site.is_async else joining.client.qb.flush()
        return sum(isinstance(given, PyMongoError) for given in outcomes)

    gc.collect()
    gc.disable()
    try:
        failed = site.run(work())
        assert wait_until(lambda: joining.stats.in_flight == 0)
        assert failed == (0 if outcome in ("results", "inserts") else 6)
        kinds = (JoinedWrite, Write, Go)
        assert wait_until(lambda: not [o for o in gc.get_objects() if type(o) in kinds])
    finally:
        gc.enable()
    assert joining.stats.batches == 1


def test_what_motor_is_not_awaited_for_is_sent(
    server_uri: str, database_name: str, documents: Any
) -> None:
    site = Site("motor", server_uri, database_name)
    try:
        joining = Joining(site)

        async def work() -> None:
            held = await joining.begun()
            for identity in IDS:
                increment(joining.collection, identity)
                joining.collection.insert_one({"_id": 100 + identity})
            held.release()
            await joining.client.qb.flush()

        site.run(work())
        assert counters(documents) == [1] * 6
        assert documents.count_documents({"_id": {"$in": [100 + n for n in IDS]}}) == 6
        assert joining.stats.batches == 2
    finally:
        site.close()


def test_what_motor_is_not_awaited_for_is_sent_after_its_loop_has_ended(
    server_uri: str, database_name: str, documents: Any
) -> None:
    site = Site("motor", server_uri, database_name)
    try:
        joining = Joining(site)
        boxes: list[Any] = []

        async def work() -> None:
            boxes.append(await joining.begun())
            for identity in IDS:
                increment(joining.collection, identity)

        site.run(work())
        boxes[0].release()
        assert wait_until(lambda: counters(documents) == [1] * 6)
    finally:
        site.close()


def test_flush_sends_what_gathers_and_waits_for_all_of_it(site: Site, documents: Any) -> None:
    joining = Joining(site)

    async def work() -> None:
        await resolved(joining.client.qb.flush())  # nothing to do
        held = await joining.begun()
        callers = Callers(site)
        for identity in IDS:
            callers.start(
                lambda n=identity: outcome_of(lambda c: increment(c, n), joining.collection)  # type: ignore[misc]
            )
        await joining.pending(len(IDS))
        flushing = Callers(site)
        ended = threading.Event()

        async def flush() -> None:
            await resolved(joining.client.qb.flush())
            ended.set()

        flushing.start(flush)
        # They are sent beside what is on the wire, which the flush waits for.
        outcomes = await callers.results()
        assert [outcome.modified_count for outcome in outcomes] == [1] * 6
        assert not ended.is_set()
        held.release()
        await flushing.results()
        await held.callers.results()
        assert ended.is_set()

    site.run(work())
    assert counters(documents) == [1] * 6


@pytest.mark.parametrize("why", ["refused", "transaction"])
def test_flush_waits_for_those_of_a_batch_that_go_alone(
    site: Site, documents: Any, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    joining = Joining(site)
    refusal = {"ok": 0, "code": 13, "codeName": "Unauthorized", "errmsg": "not authorized"}
    site.proxy.on("bulkWrite", Answer(refusal))
    gate = site.proxy.hold("update")

    async def flush() -> list[int]:
        await resolved(joining.client.qb.flush())
        return counters(documents)

    async def work() -> None:
        held = await joining.begun()
        callers, flushing = Callers(site), Callers(site)
        for identity in IDS:
            callers.start(
                lambda n=identity: outcome_of(lambda c: increment(c, n), joining.collection)  # type: ignore[misc]
            )
        await joining.pending(len(IDS))
        if why == "transaction":
            monkeypatch.setattr(OpenTransactions, "wrote_to", lambda *_: True)
        flushing.start(flush)
        await (gate.reached() if site.is_async else just(gate.wait()))
        held.release()
        await held.callers.results()
        await until(lambda: joining.stats.in_flight == 0, site)
        gate.release()
        assert await flushing.results() == [[1] * 6]
        assert [outcome.modified_count for outcome in await callers.results()] == [1] * 6
        assert joining.stats.alone == len(IDS)

    site.run(work())
    assert site.proxy.counts()["bulkWrite"] == (why == "refused")


def test_closing_flushes(site: Site, documents: Any) -> None:
    joining = Joining(site)

    async def work() -> None:
        held = await joining.begun()
        callers = Callers(site)
        for identity in IDS:
            callers.start(
                lambda n=identity: outcome_of(lambda c: increment(c, n), joining.collection)  # type: ignore[misc]
            )
        await joining.pending(len(IDS))
        releaser = threading.Thread(
            target=lambda: wait_until(lambda: joining.stats.pending == 0) and held.release()
        )
        releaser.start()
        await settled(joining.client.close)
        releaser.join()
        outcomes = await callers.results()
        assert [getattr(o, "modified_count", o) for o in outcomes] == [1] * 6
        await held.callers.results()

    site.run(work())
    assert counters(documents) == [1] * 6


def test_writes_of_a_closed_client_are_refused_as_by_the_driver(site: Site, documents: Any) -> None:
    joining, plain = Joining(site), site.plain()

    async def work() -> list[Any]:
        outcomes = []
        for client in (plain, joining.client):
            await settled(client.close)
            collection = client[site.database].c
            outcomes.append(await outcome_of(lambda c: increment(c, 1), collection))
        return outcomes

    expected, given = site.run(work())
    if isinstance(expected, Exception):
        assert type(given) is type(expected) is InvalidOperation
        assert str(given) == str(expected)
    else:
        assert given.modified_count == expected.modified_count  # Motor's threads connect again.


_FORKING = """
import os, sys, threading, warnings
warnings.simplefilter("ignore")
from pymongo import MongoClient
from qbmongo import CoalesceSettings, OptimizedMongoClient, Settings
from qbmongo_tests.faults import FaultProxy

uri, database = sys.argv[1:]
part = CoalesceSettings(max_in_flight=1, max_joined_ms=60_000)
with FaultProxy(uri) as proxy:
    client = OptimizedMongoClient(proxy.uri, qb=Settings(profile=None, cache=None, coalesce=part))
    c = client[database].c
    c.delete_one({"_id": "known"})
    gate = proxy.hold("delete")
    threads = [threading.Thread(target=c.delete_one, args=({"_id": "nobody's"},))]
    threads[0].start()
    gate.wait()
    for identity in range(6):
        update = {"$inc": {"n": 1}}
        threads.append(threading.Thread(target=c.update_one, args=({"_id": identity}, update)))
        threads[-1].start()
    while client.qb.stats().coalesce.pending < 6:
        threading.Event().wait(0.001)
    child = os.fork()
    if not child:
        import faulthandler
        faulthandler.dump_traceback_later(30, exit=True)
        stats = client.qb.stats().coalesce
        ok = (stats.pending, stats.in_flight, stats.held_bytes) == (0, 0, 0)
        # What the parent's threads wait for is the parent's. The proxy's loop is not here.
        with OptimizedMongoClient(uri, qb=Settings(coalesce=part)) as own:
            ok = ok and own[database].c.update_one({"_id": 1}, {"$inc": {"n": 10}}).modified_count
        os._exit(0 if ok else 3)
    assert os.waitpid(child, 0)[1] == 0, "the child did not find what it should"
    gate.release()
    for thread in threads:
        thread.join()
    client.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_leaves_what_gathers_to_the_parent(
    server_uri: str, database_name: str, documents: Any
) -> None:
    _run(_FORKING, server_uri, database_name)
    assert counters(documents) == [1, 11, 1, 1, 1, 1]


_EXITING = """
import asyncio, sys
{imports}

async def main():
    client = {client}
    c = client[sys.argv[2]].c
    await c.find_one({{"_id": 0}})
    for number in range(300):
        c.insert_one({{"_id": 1000 + number}})
        c.update_one({{"_id": number % 6}}, {{"$inc": {{"n": 1}}}})

asyncio.run(main())
"""


@pytest.mark.parametrize("client", ["plain", "ours"])
def test_at_the_interpreters_end_what_motor_was_not_awaited_for_is_sent(
    server_uri: str, database_name: str, documents: Any, client: str
) -> None:
    """As by the driver, whose threads the interpreter waits for."""
    imports, made = {
        "plain": (
            "from motor.motor_asyncio import AsyncIOMotorClient",
            "AsyncIOMotorClient(sys.argv[1])",
        ),
        "ours": ("from qbmongo import OptimizedClient", "OptimizedClient(sys.argv[1])"),
    }[client]
    done = _run(_EXITING.format(imports=imports, client=made), server_uri, database_name)
    assert documents.count_documents({"_id": {"$gte": 1000}}) == 300, done.stderr[-2000:]
    assert sum(counters(documents)) == 300


_EXITING_LONG = """
import asyncio, sys
from qbmongo import CoalesceSettings, OptimizedClient, Settings

async def main():
    part = CoalesceSettings(max_in_flight=1, max_batch_ops=2, max_joined_ms=60_000)
    client = OptimizedClient(sys.argv[1], qb=Settings(cache=None, coalesce=part))
    c = client[sys.argv[2]].c
    for number in range(800):
        c.insert_one({"_id": 1000 + number})

asyncio.run(main())
"""


def test_at_the_interpreters_end_however_many_batches_are_left_are_sent(
    server_uri: str, database_name: str, documents: Any
) -> None:
    done = _run(_EXITING_LONG, server_uri, database_name)
    assert documents.count_documents({"_id": {"$gte": 1000}}) == 800, done.stderr[-2000:]


_ENDING = """
import asyncio, sys
from qbmongo import CoalesceSettings, OptimizedAsyncMongoClient, Settings
from qbmongo_tests.faults import FaultProxy

async def main(proxy):
    part = CoalesceSettings(max_in_flight=1, max_joined_ms=60_000)
    client = OptimizedAsyncMongoClient(proxy.uri, qb=Settings(cache=None, coalesce=part))
    c = client[sys.argv[2]].c
    gate = proxy.hold("delete")
    tasks = [asyncio.ensure_future(c.delete_one({"_id": "nobody's"}))]
    await gate.reached()
    tasks += [asyncio.ensure_future(c.update_one({"_id": n}, {"$inc": {"n": 1}})) for n in range(6)]
    while client.qb.stats().coalesce.pending < 6:
        await asyncio.sleep(0.001)
    main.tasks = tasks

with FaultProxy(sys.argv[1]) as proxy:
    asyncio.run(main(proxy))
assert all(task.cancelled() for task in main.tasks)
"""


def test_tasks_that_the_loops_end_cancels_leave_nothing_behind(
    server_uri: str, database_name: str, documents: Any
) -> None:
    """asyncio.run cancels who gathers, and whom they gather behind."""
    done = _run(_ENDING, server_uri, database_name)
    assert "destroyed" not in done.stderr, done.stderr
    assert "never" not in done.stderr, done.stderr
    assert counters(documents) == [0] * 6


def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A program in an interpreter of its own, which must end well."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.mark.parametrize("name", ["motor", "sync"])
def test_what_gathers_is_looked_at_by_one_thread_at_a_time(
    server_uri: str,
    database_name: str,
    documents: Any,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    name: str,
) -> None:
    """Else another thread may send it in the middle of that, and the call would fail."""
    site = Site(name, server_uri, database_name)
    request.addfinalizer(site.close)
    joining = Joining(site)
    lock, oldest_s = joining.client._qb.engine.lock, Lane._oldest_s
    locked: list[bool] = []

    def looked_at(lane: Lane) -> float:
        locked.append(lock.locked())
        return oldest_s(lane)

    monkeypatch.setattr(Lane, "_oldest_s", looked_at)
    calls: list[Any] = [lambda c, n=n: increment(c, n) for n in IDS]
    outcomes = site.run(joining.together(calls))
    assert [outcome.modified_count for outcome in outcomes] == [1] * 6
    assert locked
    assert all(locked)


@pytest.mark.parametrize("name", ["update", "insert", "find", "find of a part"])
def test_what_the_main_thread_sends_takes_no_place_of_others(
    server_uri: str,
    database_name: str,
    documents: Any,
    request: pytest.FixtureRequest,
    name: str,
) -> None:
    """There a signal's handler may raise at any step, also before what gathers behind is sent."""
    site = Site("sync", server_uri, database_name)
    request.addfinalizer(site.close)
    joining = Joining(site, Settings(profile=None, cache=None))
    collection = joining.collection
    send: dict[str, Callable[[], Any]] = {
        "update": lambda: increment(collection, 1),
        "insert": lambda: collection.insert_one({}),
        "find": lambda: collection.find_one({"_id": 1}),
        "find of a part": lambda: collection.find_one({"_id": 1}, {"n": 1}),
    }
    seen: list[Any] = []
    for _ in range(2):  # the second time it is known
        gate = site.proxy.hold(name.split()[0])

        def look(gate: Any = gate) -> None:
            gate.wait()
            stats = joining.client.qb.stats()
            seen.append((stats.coalesce.in_flight, stats.batch.in_flight))
            gate.release()

        looking = threading.Thread(target=look)
        looking.start()
        send[name]()
        looking.join()
    assert seen == [(0, 0)] * 2
    stats = joining.client.qb.stats()
    assert stats.coalesce.direct + stats.batch.direct == 2


def test_a_signal_during_a_flush_leaves_nobody_waiting(
    server_uri: str,
    database_name: str,
    documents: Any,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    site = Site("sync", server_uri, database_name)
    request.addfinalizer(site.close)
    joining = Joining(site)
    dispatch = Sender.dispatch

    def interrupted(*args: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        dispatch(*args)

    monkeypatch.setattr(Sender, "dispatch", interrupted)

    async def work() -> None:
        held = await joining.begun()
        callers = Callers(site)
        for identity in IDS:
            callers.start(lambda n=identity: increment(joining.collection, n))  # type: ignore[misc]
        await joining.pending(len(IDS))
        releaser = threading.Thread(
            target=lambda: wait_until(lambda: joining.stats.pending == 0) and held.release()
        )
        releaser.start()
        joining.client.qb.flush()
        releaser.join()
        assert [outcome.modified_count for outcome in await callers.results()] == [1] * 6
        await held.callers.results()

    site.run(work())
    assert counters(documents) == [1] * 6
