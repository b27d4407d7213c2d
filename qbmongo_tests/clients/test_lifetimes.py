"""Nothing of ours keeps a loop, a thread or a client alive; closing and forking are in order."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from pymongo import MongoClient

from qbmongo import CacheSettings, Settings
from qbmongo.clients.fork_lock import fork_safe_lock
from qbmongo.coherence import records
from qbmongo_tests.clients.sites import CACHED, Site, ready, resolved


def ended(condition: Callable[[], bool], limit_s: float = 60.0) -> bool:
    """Whether a condition that other threads bring about comes true in time."""
    turn = threading.Event()
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        if condition():
            return True
        turn.wait(0.01)
    return False


def our_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("qbmongo")]


@pytest.fixture(autouse=True)
def _no_thread_of_an_earlier_test() -> None:
    """A watcher's thread may outlive its client's close for a moment."""
    assert ended(lambda: gc.collect() >= 0 and not our_threads()), our_threads()


async def used(site: Site, client: Any) -> None:
    """Misses, hits, a write, a session, an aggregation left half read."""
    await ready(client, site.database, "c")
    c = client[site.database].c
    await resolved(c.insert_many([{"_id": n} for n in range(5)]))
    # It made the collection: what that is has to be asked again, once the stream has told of it.
    await ready(client, site.database, "c")
    for _ in range(3):
        await resolved(c.find_one({"_id": 1}))
        await resolved(c.find({}).to_list(None))
        await resolved(c.count_documents({}))
    cursor = c.find({}).batch_size(2)
    await (anext(cursor) if site.is_async else just(next(cursor)))
    assert client.qb.stats().cache.hits > 0


async def just(value: Any) -> Any:
    return value


async def our_tasks() -> list[str]:
    return [t.get_name() for t in asyncio.all_tasks() if t.get_name().startswith("qbmongo")]


async def until_no_task_of_ours() -> None:
    for _ in range(1_000):
        gc.collect()
        if not await our_tasks():
            return
        await asyncio.sleep(0.05)
    raise TimeoutError(f"still there: {await our_tasks()}")


async def end_the_drivers_tasks() -> None:
    """An asynchronous driver's own tasks stay for a while when its client was not closed."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


def test_a_client_that_was_dropped_without_closing_is_collected_and_its_watcher_ends(
    site: Site,
) -> None:
    client: Any = site.ours()
    site._clients.remove(client)
    site.run(used(site, client))
    dropped = weakref.ref(client)
    engine = weakref.ref(client._qb.engine)
    if site.name == "async":
        assert site.run(our_tasks())
    else:
        assert our_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del client
        gc.collect()
        assert dropped() is None
        if site.is_async:
            site.run(until_no_task_of_ours())
        # Its thread may have held the engine, which is in cycles, at the moment of a collection.
        assert ended(lambda: gc.collect() >= 0 and not our_threads()), our_threads()
        assert ended(lambda: gc.collect() >= 0 and engine() is None)
        if site.is_async:
            site.run(end_the_drivers_tasks())
            gc.collect()


def test_a_closed_client_is_collected_as_the_drivers(site: Site) -> None:
    """With the same use, ours is collected whenever the plain driver's is."""

    def is_collected(make: Callable[[], Any], use: Callable[[Any], Any]) -> bool:
        async def work(client: Any) -> None:
            await use(client)
            await resolved(client.close())

        client = make()
        site.run(work(client))
        site._clients.remove(client)
        gone = weakref.ref(client)
        del client
        return ended(lambda: gc.collect() >= 0 and gone() is None)

    async def use_ours(client: Any) -> None:
        await used(site, client)

    async def use_plain(client: Any) -> None:
        await resolved(client[site.database].c.find_one({"_id": 1}))

    assert is_collected(site.plain, use_plain)
    assert is_collected(site.ours, use_ours)


def test_closing_stops_what_was_started_and_twice_is_harmless(site: Site) -> None:
    before = threading.active_count()
    client = site.ours()
    site.run(used(site, client))

    async def close() -> None:
        await resolved(client.close())
        await resolved(client.close())

    site.run(close())
    assert ended(lambda: not our_threads()), our_threads()
    stats = client.qb.stats().cache
    assert stats.entries == 0
    assert stats.watcher.state == "closed"
    if site.name == "sync":
        assert ended(lambda: threading.active_count() <= before)
    else:
        site.run(until_no_task_of_ours())


def test_a_client_that_was_never_used_starts_nothing(site: Site) -> None:
    before = set(threading.enumerate())
    client = site.ours(connect=False) if site.name != "async" else site.ours()
    assert client.qb.stats().cache.watcher.state in ("idle", "connecting")
    assert not our_threads()
    assert not [t for t in set(threading.enumerate()) - before if "qbmongo" in t.name]


def test_a_watcher_whose_server_is_gone_does_not_hold_up_closing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So long would it wait for the server.
    limits = functools.partial(records.Limits, timeout_s=300.0)
    monkeypatch.setattr(records, "Limits", limits)
    client, _ = site.cached("c", uri=site.proxy.uri, serverSelectionTimeoutMS=500)
    site.proxy.refusing = True
    site.proxy.close_connections()

    async def close() -> float:
        start_s = time.monotonic()
        await resolved(client._qb.watcher.close())
        return time.monotonic() - start_s

    assert site.run(close()) < 60.0
    with warnings.catch_warnings():
        # The driver leaves a socket behind that was connecting when its task was cancelled.
        warnings.simplefilter("ignore", ResourceWarning)
        site.run(resolved(client.close()))
        gc.collect()
    site.proxy.refusing = False
    assert ended(lambda: not our_threads()), our_threads()


async def dropped_database(client: Any, name: str) -> None:
    await resolved(client.drop_database(name))


def test_hits_keep_no_loop_alive(server_uri: str, database_name: str) -> None:
    for name in ("async", "motor"):
        site = Site(name, server_uri, f"{database_name}_{name}")
        client = site.ours()
        site.run(used(site, client))
        site.run(dropped_database(client, site.database))
        loop = weakref.ref(site.driver._loop)  # type: ignore[attr-defined]
        site.close()
        del site, client
        assert ended(lambda loop=loop: gc.collect() >= 0 and loop() is None), name


def test_a_sync_client_is_used_from_many_threads(server_uri: str, database_name: str) -> None:
    site = Site("sync", server_uri, database_name)
    try:
        client, _ = site.cached("c")
        collection = client[database_name].c
        for n in range(8):
            collection.insert_one({"_id": n, "n": 0})
        acknowledged = [0] * 8
        problems: list[Any] = []

        def work(seed: int) -> None:
            try:
                for step in range(60):
                    key = (seed * 7 + step) % 8
                    if step % 5 == 0:
                        result = collection.find_one_and_update(
                            {"_id": key}, {"$inc": {"n": 1}}, return_document=True
                        )
                        acknowledged[key] = max(acknowledged[key], result["n"])
                    least = acknowledged[key]
                    found = collection.find_one({"_id": key})["n"]
                    if found < least:
                        problems.append((key, found, least))
                    if step % 7 == 0:
                        least = sum(acknowledged)
                        total = sum(d["n"] for d in collection.find({}))
                        if total < least:
                            problems.append(("all", total, least))
            except BaseException as error:
                problems.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(180)
        assert problems == []
        stats = client.qb.stats()
        assert stats.faults == {}
        assert stats.cache.hits > 0
        assert client._qb.engine.cache.fills_open == 0
    finally:
        site.close()


def test_a_context_manager_closes_as_the_drivers(site: Site) -> None:
    async def use() -> Any:
        if site.name == "sync":
            with site.optimized(site.uri, qb=CACHED) as client:
                await used(site, client)
            return client
        if site.name == "async":
            async with site.optimized(site.uri, qb=CACHED) as client:
                await used(site, client)
            return client
        client = site.optimized(site.uri, qb=CACHED)
        await used(site, client)
        client.close()
        return client

    client = site.run(use())
    assert client.qb.stats().cache.watcher.state == "closed"


# Forks

FORK = """
import gc, os, sys, threading, warnings
warnings.simplefilter("ignore")
from qbmongo import CacheSettings, OptimizedMongoClient, Settings

uri, database = sys.argv[1:]
client = OptimizedMongoClient(uri, qb=Settings(cache=CacheSettings(lease_s=60.0)))
c = client[database].c
c.insert_one({"_id": 1, "n": 0})
engine = client._qb.engine
while True:
    c.find_one({"_id": 1})
    client.qb.caught_up(120.0)
    if client.qb.stats().cache.entries:
        break
assert c.find_one({"_id": 1})["n"] == 0

stop = threading.Event()

def busy():
    while not stop.is_set():
        c.update_one({"_id": 2}, {"$inc": {"n": 1}}, upsert=True)
        c.find_one({"_id": 2})
        client.qb.profile()

client.qb.profile()  # a module that another thread is importing could never be imported again
threads = [threading.Thread(target=busy, daemon=True) for _ in range(4)]
for thread in threads:
    thread.start()
for _ in range(10):
    child = os.fork()
    if not child:
        import faulthandler
        faulthandler.dump_traceback_later(120, exit=True)
        stats = client.qb.stats()
        ok = stats.cache.entries == 0 and not any(
            d.trusted for d in stats.cache.databases.values()
        )
        ok = ok and engine.cache.fills_open == 0 and not engine.cache._flights
        ok = ok and not [t for t in threading.enumerate() if t.name.startswith("qbmongo")]
        # A new client of the child's own, and the old one, both work.
        with OptimizedMongoClient(uri, qb=Settings(cache=CacheSettings(lease_s=60.0))) as own:
            own[database].c.update_one({"_id": 1}, {"$inc": {"n": 1}})
            ok = ok and own[database].c.find_one({"_id": 1})["n"] >= 1
        ok = ok and c.find_one({"_id": 1})["n"] >= 1
        client.qb.caught_up(120.0)
        client.qb.profile()
        ok = ok and c.find_one({"_id": 1})["n"] >= 1
        client.close()
        os._exit(0 if ok else 3)
    assert os.waitpid(child, 0)[1] == 0, "the child did not find what it should"
    client.qb.caught_up(120.0)
    assert c.find_one({"_id": 1})["n"] >= 1
stop.set()
for thread in threads:
    thread.join(120)
client.close()
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_after_a_fork_the_child_starts_empty_and_both_go_on(
    server_uri: str, database_name: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK, server_uri, database_name],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_lock_that_another_thread_holds_is_free_in_the_child() -> None:
    lock = fork_safe_lock()
    reader, writer = socket.socketpair()
    with reader, writer, lock:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:
            with lock:
                writer.send(b"free")
            os._exit(0)
        reader.settimeout(60)
        assert reader.recv(4) == b"free"
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no alarms on this platform")
def test_a_lock_is_free_after_a_signal_whose_handler_raised() -> None:
    """Wherever in taking or leaving it that was."""

    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    def use() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        while True:
            with lock:
                pass

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(50):
            lock = fork_safe_lock()
            with pytest.raises(KeyboardInterrupt):
                use()
            assert not lock.locked()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_clients_share_one_budget_of_bytes(server_uri: str, database_name: str) -> None:
    settings = Settings(cache=CacheSettings(lease_s=60.0, max_bytes=200_000))
    sites = [Site("sync", server_uri, database_name) for _ in range(2)]
    try:
        with MongoClient(server_uri) as plain:
            plain[database_name].c.insert_many([{"_id": n, "data": "x" * 1000} for n in range(400)])
        clients = [site.cached("c", settings=settings)[0] for site in sites]
        for n in range(200):
            for client in clients:
                client[database_name].c.find_one({"_id": n})
        total = sum(client.qb.stats().cache.bytes for client in clients)
        assert 100_000 < total <= 200_000
        assert sum(client.qb.stats().cache.evictions for client in clients) > 0
    finally:
        for site in sites:
            site.close()
