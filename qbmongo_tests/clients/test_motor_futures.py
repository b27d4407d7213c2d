"""Motor's rule: a method returns a Future on the client's loop and runs though nobody awaits it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any

import pytest
from pymongo import InsertOne
from pymongo.errors import AutoReconnect, DuplicateKeyError, OperationFailure

from qbmongo import BatchSettings, CoalesceSettings, OptimizedClient, Settings
from qbmongo_tests.clients.callers import ours, until, waiting
from qbmongo_tests.clients.sites import CACHED, Site, ready
from qbmongo_tests.faults import Command, FaultProxy


@pytest.fixture
def motor(server_uri: str, database_name: str) -> Iterator[Site]:
    place = Site("motor", server_uri, database_name)
    yield place
    place.close()


METHODS: dict[str, Callable[[Any], Any]] = {
    "find_one": lambda c: c.find_one({"_id": 1}),
    "to_list": lambda c: c.find({}).to_list(None),
    "to_list with a length": lambda c: c.find({}).to_list(5),
    "to_list of an aggregate": lambda c: c.aggregate([{"$match": {}}]).to_list(None),
    "count_documents": lambda c: c.count_documents({}),
    "estimated_document_count": lambda c: c.estimated_document_count(),
    "distinct": lambda c: c.distinct("a"),
    "distinct of a cursor": lambda c: c.find({"a": 1}).distinct("_id"),
    "insert_one": lambda c: c.insert_one({}),
    "insert_many": lambda c: c.insert_many([{}]),
    "update_one": lambda c: c.update_one({"_id": 1}, {"$inc": {"n": 1}}),
    "update_many": lambda c: c.update_many({}, {"$inc": {"n": 1}}),
    "replace_one": lambda c: c.replace_one({"_id": 1}, {"a": 1}),
    "delete_one": lambda c: c.delete_one({"_id": 7}),
    "delete_many": lambda c: c.delete_many({"_id": 7}),
    "find_one_and_update": lambda c: c.find_one_and_update({"_id": 1}, {"$inc": {"n": 1}}),
    "find_one_and_replace": lambda c: c.find_one_and_replace({"_id": 1}, {"a": 1}),
    "find_one_and_delete": lambda c: c.find_one_and_delete({"_id": 7}),
    "bulk_write": lambda c: c.bulk_write([InsertOne({})]),
    "client bulk_write": lambda c: c.database.client.bulk_write(
        [InsertOne({}, namespace=c.full_name)]
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_returns_a_future_of_the_loop_kept_or_not(motor: Site, name: str) -> None:
    client, _ = motor.cached("c")
    plain = motor.plain()

    async def call() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(2):
            mine = METHODS[name](client[motor.database].c)
            theirs = METHODS[name](plain[motor.database].c)
            assert asyncio.isfuture(mine)
            assert asyncio.isfuture(theirs)
            assert mine.get_loop() is theirs.get_loop() is loop
            assert type(await mine) is type(await theirs)

    motor.run(call())


def test_a_call_that_nobody_awaits_is_made(motor: Site) -> None:
    client, _ = motor.cached("c")
    c = client[motor.database].c

    async def forget() -> None:
        c.insert_one({"_id": "unawaited"})
        c.update_one({"_id": "upserted"}, {"$set": {"a": 1}}, upsert=True)
        called: list[Any] = []
        done = asyncio.Event()
        future = c.find_one({"_id": "unawaited"})
        future.add_done_callback(called.append)
        future.add_done_callback(lambda _: done.set())
        await done.wait()
        assert called == [future]

    motor.run(forget())
    plain = motor.plain()

    async def look() -> bool:
        ids = await plain[motor.database].c.distinct("_id")
        return {"unawaited", "upserted"} <= set(ids)

    async def until_there() -> None:
        while not await look():
            pass

    motor.run(until_there())


def test_callbacks_of_a_hit_run_in_a_later_turn_of_the_loop(motor: Site) -> None:
    client, wire = motor.cached("c")
    c = client[motor.database].c

    async def call() -> None:
        await c.find_one({"_id": 1})
        wire.clear()
        order: list[str] = []
        future = c.find_one({"_id": 1})
        future.add_done_callback(lambda _: order.append("callback"))
        order.append("caller")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert order == ["caller", "callback"]
        assert not wire.commands

    motor.run(call())


def test_errors_come_through_the_future(motor: Site) -> None:
    c = motor.ours()[motor.database].c

    async def call() -> None:
        await c.insert_one({"_id": 1})
        wrong = [
            (c.insert_one({"_id": 1}), DuplicateKeyError),
            (c.find_one({"a": {"$nope": 1}}), OperationFailure),
            (c.find({"a": {"$nope": 1}}).to_list(None), OperationFailure),
            (c.count_documents({"a": {"$nope": 1}}), OperationFailure),
            (c.update_one({}, {"a": 1}), ValueError),
            (c.insert_one(5), TypeError),
            (c.find_one({}, nope=1), TypeError),
            (c.count_documents(5), OperationFailure),
        ]
        for future, error in wrong:
            assert asyncio.isfuture(future)
            with pytest.raises(error):
                await future

    motor.run(call())


def test_a_cancelled_call_is_cancelled_at_once_and_its_write_is_still_seen(motor: Site) -> None:
    client, _ = motor.cached("c", uri=motor.proxy.uri)
    c = client[motor.database].c

    async def call() -> None:
        await c.insert_one({"_id": 1, "n": 0})
        assert (await c.find_one({"_id": 1}))["n"] == 0
        gate = motor.proxy.hold("update")
        future = c.update_one({"_id": 1}, {"$set": {"n": 1}})
        await gate.reached()
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        assert (await c.find_one({"_id": 1}))["n"] == 0
        gate.release()
        # The thread outlives the cancelled call: what it writes is this client's own write.
        await until(lambda: not client._qb.engine.ledger._open, motor)
        assert (await c.find_one({"_id": 1}))["n"] == 1

    motor.run(call())


def test_a_cancelled_joiner_future_is_cancelled_alone(motor: Site) -> None:
    client, _ = motor.cached("c", uri=motor.proxy.uri)
    c = client[motor.database].c

    async def call() -> None:
        gate = motor.proxy.hold("find", when=ours)
        leader = c.find_one({"_id": 1})
        await gate.reached()
        joiners = [c.find_one({"_id": 1}) for _ in range(3)]
        assert waiting(client) == 3
        joiners[0].cancel()
        gate.release()
        assert await leader is None
        assert await joiners[1] is None
        assert await joiners[2] is None
        assert joiners[0].cancelled()

    motor.run(call())


def test_what_follows_a_flight_runs_in_the_callers_own_context(motor: Site) -> None:
    """A joiner that has to make its own call makes it in its context, not in the leader's."""
    client, wire = motor.cached("c", uri=motor.proxy.uri, retryReads=False)
    c = client[motor.database].c
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who")
    senders: list[str] = []
    started = wire.started

    def note(event: Any) -> None:
        if event.command_name == "find":
            senders.append(who.get("nobody"))
        started(event)

    wire.started = note  # type: ignore[method-assign]

    async def call() -> None:
        gate = motor.proxy.hold("find", when=ours)
        who.set("leader")
        leader = c.find_one({"_id": 1})
        await gate.reached()
        who.set("joiner")
        joiner = c.find_one({"_id": 1})
        who.set("nobody")
        motor.proxy.close_connections()
        with pytest.raises(AutoReconnect):
            await leader
        gate.release()
        assert await joiner is None

    motor.run(call())
    assert senders == ["leader", "joiner"]


def test_hits_need_no_thread(motor: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    import motor.frameworks.asyncio as executor

    client, _ = motor.cached("c")
    c = client[motor.database].c

    async def read() -> list[Any]:
        return [
            await c.find_one({"_id": 1}),
            await c.find({"a": 1}).to_list(None),
            [d async for d in c.find({"a": 1})],
            await c.count_documents({}),
            await c.distinct("a"),
            await c.aggregate([{"$match": {}}]).to_list(None),
        ]

    expected = motor.run(read())

    def refuse(*args: Any, **options: Any) -> Any:
        raise AssertionError("a hit went to the executor")

    monkeypatch.setattr(executor, "run_on_executor", refuse)
    assert motor.run(read()) == expected


def test_two_loops_with_two_clients_do_not_disturb_each_other(
    server_uri: str, database_name: str
) -> None:
    problems: list[BaseException] = []

    def work(name: str) -> None:
        site = Site(name, server_uri, database_name)
        try:
            client, _ = site.cached("c")

            async def calls() -> None:
                c = client[site.database].c
                for n in range(20):
                    key = f"{threading.current_thread().name} {n}"
                    await c.insert_one({"_id": key})
                    found = await asyncio.gather(*(c.find_one({"_id": key}) for _ in range(5)))
                    assert [d["_id"] for d in found] == [key] * 5

            site.run(calls())
        except BaseException as error:
            problems.append(error)
        finally:
            site.close()

    threads = [
        threading.Thread(target=work, args=(name,)) for name in ("motor", "async", "motor", "async")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert problems == []


@pytest.fixture(params=["cached", "not cached"])
def of_any_loop(
    server_uri: str, database_name: str, request: pytest.FixtureRequest
) -> Iterator[OptimizedClient]:
    """A client of whichever loop runs, as programs make one that have one loop after another."""
    settings = CACHED if request.param == "cached" else Settings(cache=None)
    client = OptimizedClient(server_uri, qb=settings)
    client.get_io_loop = asyncio.get_running_loop
    if request.param == "cached":
        in_a_loop(ready(client, database_name, "c"))
    yield client
    client.close()


def in_a_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs it in a loop of its own, which is closed with whatever is left in it."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(coroutine, 20))
    finally:
        loop.close()


def test_what_gathers_when_its_loop_ends_holds_up_no_later_loop(
    of_any_loop: OptimizedClient, database_name: str
) -> None:
    c = of_any_loop[database_name].c

    async def leave() -> None:
        for identity in range(20):
            c.find_one({"_id": identity})

    async def ask() -> Any:
        return await asyncio.gather(*(c.find_one({"_id": identity}) for identity in range(20)))

    in_a_loop(leave())
    assert in_a_loop(ask()) == [None] * 20
    counted = of_any_loop.qb.stats().batch
    assert counted is not None
    assert counted.pending == 0


def test_who_waits_for_a_flight_of_a_loop_that_has_ended_is_answered(
    server_uri: str, database_name: str
) -> None:
    settings = replace(CACHED, batch=BatchSettings(max_in_flight=1, max_joined_ms=60_000))
    with FaultProxy(server_uri) as proxy:
        client = OptimizedClient(proxy.uri, qb=settings)
        client.get_io_loop = asyncio.get_running_loop
        in_a_loop(ready(client, database_name, "c"))
        c = client[database_name].c
        gates: list[Any] = []

        def of_c(command: Command) -> bool:
            return bool(command.document()["find"] == "c")

        async def leave() -> None:
            gates.append(proxy.hold("find", when=of_c, times=1))
            c.find_one({"_id": 1})
            await gates[0].reached()
            c.find_one({"_id": 2})
            gates.append(proxy.hold("find", when=of_c, times=1))
            gates[0].release()
            await gates[1].reached()

        async def join() -> Any:
            answer = c.find_one({"_id": 2})
            assert client.qb.stats().cache.joins == 1
            gates[1].release()
            return await answer

        in_a_loop(leave())
        assert in_a_loop(join()) is None
        client.close()


def test_a_write_that_lingers_when_its_loop_ends_holds_up_no_later_loop(
    server_uri: str, database_name: str
) -> None:
    settings = Settings(cache=None, coalesce=CoalesceSettings(linger_s=0.05))
    client = OptimizedClient(server_uri, qb=settings)
    client.get_io_loop = asyncio.get_running_loop
    c = client[database_name].c

    async def leave() -> None:
        c.insert_one({"_id": 1})

    async def write() -> Any:
        return await c.insert_one({"_id": 2})

    in_a_loop(leave())
    assert in_a_loop(write()).inserted_id == 2
    client.close()


def test_two_loops_with_one_client_do_not_disturb_each_other(
    of_any_loop: OptimizedClient, database_name: str
) -> None:
    c = of_any_loop[database_name].c
    found: list[Any] = []

    async def ask() -> None:
        for _ in range(10):
            calls = (c.find_one({"_id": identity}) for identity in range(20))
            found.extend(await asyncio.gather(*calls))

    threads = [threading.Thread(target=lambda: in_a_loop(ask())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == [None] * 400
