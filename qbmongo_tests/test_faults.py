"""The fault proxy does to a real server's connections what its rules say, and nothing else."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bson
import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.database import Database
from pymongo.errors import AutoReconnect, NetworkTimeout, OperationFailure, PyMongoError
from pymongo.monitoring import (
    ServerHeartbeatFailedEvent,
    ServerHeartbeatListener,
    ServerHeartbeatStartedEvent,
    ServerHeartbeatSucceededEvent,
)

from qbmongo_tests.conftest import OwnServer
from qbmongo_tests.faults import (
    Answer,
    CloseAfter,
    CloseBefore,
    Command,
    Delay,
    DropReply,
    FaultProxy,
    Swallow,
)
from qbmongo_tests.waiting import wait_until

Documents = Database[dict[str, Any]]
FAST: dict[str, Any] = {
    "serverMonitoringMode": "poll",
    "heartbeatFrequencyMS": 500,
    "serverSelectionTimeoutMS": 5_000,
}


@pytest.fixture
def proxied(fault_proxy: FaultProxy, database: Documents) -> Iterator[Documents]:
    """This test's database, reached through the proxy, without retries."""
    yield from _proxied(fault_proxy, database.name)


@pytest.fixture
def impatient(fault_proxy: FaultProxy, database: Documents) -> Iterator[Documents]:
    """The same, where an answer that has not come after a second is given up."""
    yield from _proxied(fault_proxy, database.name, socketTimeoutMS=1_000)


def _proxied(fault_proxy: FaultProxy, name: str, **options: Any) -> Iterator[Documents]:
    client = MongoClient[dict[str, Any]](
        fault_proxy.uri, retryWrites=False, retryReads=False, **options, **FAST
    )
    with client:
        client.admin.command("ping")
        yield client[name]


class Heartbeats(ServerHeartbeatListener):
    """Which address each `hello` reply gives as the server's own."""

    def __init__(self) -> None:
        self.named: list[str] = []

    def started(self, event: ServerHeartbeatStartedEvent) -> None:
        pass

    def succeeded(self, event: ServerHeartbeatSucceededEvent) -> None:
        self.named.append(event.reply.document["me"])

    def failed(self, event: ServerHeartbeatFailedEvent) -> None:
        pass


def ask(connection: socket.socket, command: dict[str, Any], database_name: str) -> dict[str, Any]:
    """One command over a bare socket, so that no driver opens connections of its own."""
    body = b"\0\0\0\0\0" + bson.encode({**command, "$db": database_name})
    connection.sendall(struct.pack("<iiii", 16 + len(body), 1, 0, 2013) + body)
    reply = b""
    while len(reply) < 16 or len(reply) < struct.unpack_from("<i", reply)[0]:
        part = connection.recv(65_536)
        if not part:
            raise ConnectionError("closed")
        reply += part
    document: dict[str, Any] = bson.decode(reply[21:])
    return document


def test_without_rules_everything_passes_and_is_counted(
    fault_proxy: FaultProxy, proxied: Documents, database: Documents
) -> None:
    before = fault_proxy.counts()
    proxied.c.insert_many([{"_id": n, "text": "x" * 200_000} for n in range(50)])
    assert len(list(proxied.c.find(batch_size=20))) == 50
    assert fault_proxy.counts() - before == {"insert": 1, "find": 1, "getMore": 2}
    assert database.c.count_documents({}) == 50


def test_the_driver_discovers_the_proxy_as_the_replica_set_primary(
    fault_proxy: FaultProxy, proxied: Documents
) -> None:
    host, _, port = fault_proxy.address.partition(":")
    assert proxied.client.primary == (host, int(port))
    assert proxied.client.nodes == {(host, int(port))}
    hello = proxied.client.admin.command("hello")
    assert hello["me"] == hello["primary"] == fault_proxy.address


@pytest.mark.parametrize("mode", ["stream", "poll"])
@pytest.mark.parametrize("direct", [True, False])
def test_change_streams_and_transactions_work_through_it(
    fault_proxy: FaultProxy, database: Documents, mode: str, direct: bool
) -> None:
    with MongoClient[dict[str, Any]](
        fault_proxy.uri, directConnection=direct, serverMonitoringMode=mode
    ) as client:
        collection = client[database.name].c
        collection.insert_one({"_id": 0})
        with collection.watch(max_await_time_ms=5_000) as stream:
            with client.start_session() as session, session.start_transaction():
                collection.insert_one({"_id": 1}, session=session)
            assert stream.next()["documentKey"] == {"_id": 1}


def test_every_hello_of_a_streaming_monitor_names_the_proxy(fault_proxy: FaultProxy) -> None:
    heartbeats = Heartbeats()
    with MongoClient[dict[str, Any]](
        fault_proxy.uri,
        event_listeners=[heartbeats],
        serverMonitoringMode="stream",
        heartbeatFrequencyMS=100,
    ):
        # The first is asked for; those after it follow by themselves.
        assert wait_until(lambda: len(heartbeats.named) >= 4)
    assert set(heartbeats.named) == {fault_proxy.address}


def test_hello_replies_offer_no_compression(fault_proxy: FaultProxy) -> None:
    with MongoClient[dict[str, Any]](fault_proxy.uri, compressors="zlib") as client:
        assert "compression" not in client.admin.command("hello", compression=["zlib"])
        client.admin.command("ping")
    assert fault_proxy.counts()["ping"] == 1


def test_a_dropped_reply_leaves_the_write_done_and_the_client_without_an_answer(
    fault_proxy: FaultProxy, proxied: Documents, database: Documents
) -> None:
    rule = fault_proxy.on("insert", DropReply())
    with pytest.raises(AutoReconnect) as lost:
        proxied.c.insert_one({"_id": 1})
    assert not isinstance(lost.value, NetworkTimeout)
    assert database.c.count_documents({}) == 1
    proxied.c.insert_one({"_id": 2})
    assert rule.hits == 1


def test_a_reply_that_never_comes_on_an_open_connection_times_out(
    fault_proxy: FaultProxy, impatient: Documents, database: Documents
) -> None:
    fault_proxy.on("insert", DropReply(close=False))
    with pytest.raises(NetworkTimeout):
        impatient.c.insert_one({"_id": 1})
    assert database.c.count_documents({}) == 1


def test_a_swallowed_command_times_out_and_is_never_executed(
    fault_proxy: FaultProxy, impatient: Documents, database: Documents
) -> None:
    fault_proxy.on("insert", Swallow())
    with pytest.raises(NetworkTimeout):
        impatient.c.insert_one({"_id": 1})
    assert database.c.count_documents({}) == 0


def test_closing_before_forwarding_keeps_the_command_from_the_server(
    fault_proxy: FaultProxy, proxied: Documents, database: Documents
) -> None:
    fault_proxy.on("insert", CloseBefore())
    with pytest.raises(AutoReconnect):
        proxied.c.insert_one({"_id": 1})
    assert database.c.count_documents({}) == 0


def test_closing_after_forwarding_still_has_the_server_execute_the_command(
    fault_proxy: FaultProxy, proxied: Documents, database: Documents
) -> None:
    with database.watch() as events:
        fault_proxy.on("insert", CloseAfter())
        with pytest.raises(AutoReconnect):
            proxied.c.insert_one({"_id": 1})
        assert events.next()["documentKey"] == {"_id": 1}


def test_after_the_client_is_cut_off_the_servers_connection_lives_until_its_reply(
    fault_proxy: FaultProxy, database: Documents
) -> None:
    host, _, port = fault_proxy.address.partition(":")
    with socket.create_connection((host, int(port))) as connection:
        stream = ask(
            connection,
            {"aggregate": "c", "pipeline": [{"$changeStream": {}}], "cursor": {}},
            database.name,
        )
        fault_proxy.on("getMore", CloseAfter())
        with pytest.raises(ConnectionError):
            ask(
                connection,
                {"getMore": stream["cursor"]["id"], "collection": "c", "maxTimeMS": 30_000},
                database.name,
            )
    assert fault_proxy.connections == 1
    database.c.insert_one({})
    assert wait_until(lambda: fault_proxy.connections == 0)


def test_the_drivers_retry_of_a_lost_reply_is_applied_once(
    fault_proxy: FaultProxy, database: Documents
) -> None:
    database.c.insert_one({"_id": 1, "n": 0})
    fault_proxy.on("update", DropReply())
    with MongoClient[dict[str, Any]](fault_proxy.uri, **FAST) as client:
        result = client[database.name].c.update_one({"_id": 1}, {"$inc": {"n": 1}})
    assert result.modified_count == 1
    assert fault_proxy.counts()["update"] == 2
    assert database.c.find_one() == {"_id": 1, "n": 1}


def test_an_error_document_is_answered_in_the_servers_place(
    fault_proxy: FaultProxy, proxied: Documents, database: Documents
) -> None:
    fault_proxy.on("insert", Answer({"ok": 0.0, "code": 13, "errmsg": "not authorized"}))
    with pytest.raises(OperationFailure, match="not authorized") as refused:
        proxied.c.insert_one({"_id": 1})
    assert refused.value.code == 13
    assert database.c.count_documents({}) == 0


def test_a_delayed_command_is_executed_that_much_later(
    fault_proxy: FaultProxy, proxied: Documents
) -> None:
    fault_proxy.on("insert", Delay(0.2))
    begun = time.monotonic()
    assert proxied.c.insert_one({"_id": 1}).inserted_id == 1
    assert time.monotonic() - begun >= 0.2


def test_skip_times_and_when_choose_the_commands(
    fault_proxy: FaultProxy, proxied: Documents, database: Documents
) -> None:
    def is_ours(command: Command) -> bool:
        return bool(command.document()["insert"] == "chosen")

    rule = fault_proxy.on("insert", CloseBefore(), skip=1, times=2, when=is_ours)
    outcomes = []
    for name in ["chosen", "other", "chosen", "other", "chosen", "chosen"]:
        try:
            proxied[name].insert_one({})
            outcomes.append("done")
        except AutoReconnect:
            outcomes.append("lost")
    assert outcomes == ["done", "done", "lost", "done", "lost", "done"]
    assert rule.hits == 2
    assert database.chosen.count_documents({}) == 2


def test_a_rule_for_any_command_leaves_handshakes_alone(fault_proxy: FaultProxy) -> None:
    rule = fault_proxy.on(None, CloseBefore(), times=None)
    with (
        MongoClient[dict[str, Any]](fault_proxy.uri, retryReads=False, **FAST) as client,
        pytest.raises(AutoReconnect),
    ):
        client.db.c.find_one()
    assert fault_proxy.counts() == {"find": 1}
    assert rule.hits == 1
    assert fault_proxy.counts(handshakes=True).total() > 1


def test_a_gate_holds_a_command_before_the_server_sees_it(
    fault_proxy: FaultProxy, proxied: Documents, database: Documents
) -> None:
    gate = fault_proxy.hold("insert")
    with ThreadPoolExecutor() as threads:
        held = threads.submit(proxied.c.insert_one, {"_id": 1})
        gate.wait()
        assert database.c.count_documents({}) == 0
        gate.release()
        assert held.result().inserted_id == 1


async def test_a_gate_holds_the_reply_to_an_executed_command_of_an_async_client(
    fault_proxy: FaultProxy, database: Documents
) -> None:
    gate = fault_proxy.hold_reply("insert")
    async with AsyncMongoClient[dict[str, Any]](fault_proxy.uri) as client:
        held = asyncio.create_task(client[database.name].c.insert_one({"_id": 1}))
        await gate.reached()
        assert database.c.count_documents({}) == 1
        assert not held.done()
        gate.release()
        assert (await held).inserted_id == 1


async def test_a_held_command_outlives_its_cancelled_sender(
    fault_proxy: FaultProxy, database: Documents
) -> None:
    gate = fault_proxy.hold("insert")
    async with AsyncMongoClient[dict[str, Any]](fault_proxy.uri) as client:
        held = asyncio.create_task(client[database.name].c.insert_one({"_id": 1}))
        await gate.reached()
        held.cancel()
        with pytest.raises(asyncio.CancelledError):
            await held
    with database.watch() as events:
        assert database.c.count_documents({}) == 0
        gate.release()
        assert events.next()["documentKey"] == {"_id": 1}


def test_while_silent_nothing_passes_and_connections_stay_open(
    fault_proxy: FaultProxy, impatient: Documents, database: Documents
) -> None:
    open_before = fault_proxy.connections
    fault_proxy.silent = True
    with pytest.raises(NetworkTimeout):
        impatient.c.insert_one({"_id": 1})
    assert fault_proxy.connections >= open_before - 1
    fault_proxy.silent = False
    impatient.c.insert_one({"_id": 2})
    assert [document["_id"] for document in database.c.find()] == [2]


def test_silence_that_falls_while_the_server_works_swallows_its_reply(
    fault_proxy: FaultProxy, impatient: Documents, database: Documents
) -> None:
    stream = impatient.command("aggregate", "c", pipeline=[{"$changeStream": {}}], cursor={})
    wait = {"getMore": stream["cursor"]["id"], "collection": "c", "maxTimeMS": 10_000}
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(impatient.command, wait)
        while not fault_proxy.counts()["getMore"]:
            assert not waiting.done()
        fault_proxy.silent = True
        database.c.insert_one({})
        with pytest.raises(NetworkTimeout):
            waiting.result()


def test_closed_connections_are_opened_anew_and_refused_ones_are_not(
    fault_proxy: FaultProxy, proxied: Documents
) -> None:
    fault_proxy.close_connections()
    with pytest.raises(AutoReconnect):
        proxied.c.find_one()
    assert proxied.c.find_one() is None
    fault_proxy.refusing = True
    fault_proxy.close_connections()
    with (
        pytest.raises(PyMongoError),
        MongoClient[dict[str, Any]](fault_proxy.uri, serverSelectionTimeoutMS=300) as client,
    ):
        client.admin.command("ping")
    fault_proxy.clear()
    with MongoClient[dict[str, Any]](fault_proxy.uri, **FAST) as client:
        assert client.admin.command("ping")["ok"] == 1


def test_a_hook_decides_for_commands_that_no_rule_takes(
    fault_proxy: FaultProxy, database: Documents
) -> None:
    def flaky(command: Command) -> DropReply | None:
        return DropReply() if command.name == "update" and command.number % 3 == 0 else None

    database.c.insert_one({"_id": 1, "n": 0})
    fault_proxy.hook = flaky
    lost = 0
    with MongoClient[dict[str, Any]](fault_proxy.uri, retryWrites=False, **FAST) as client:
        for _ in range(7):
            try:
                client[database.name].c.update_one({"_id": 1}, {"$inc": {"n": 1}})
            except AutoReconnect:
                lost += 1
    assert lost == 2
    assert database.c.find_one() == {"_id": 1, "n": 7}


def test_an_error_in_a_hook_is_raised_when_the_proxy_stops(server_uri: str) -> None:
    def broken(command: Command) -> None:
        raise ZeroDivisionError(command.name)

    proxy = FaultProxy(server_uri).start()
    proxy.hook = broken
    with MongoClient[dict[str, Any]](proxy.uri, serverSelectionTimeoutMS=300) as client:
        with pytest.raises(PyMongoError):
            client.admin.command("ping")
        assert wait_until(lambda: proxy.counts(handshakes=True))
    with pytest.raises(ZeroDivisionError):
        proxy.stop()


def test_a_server_killed_behind_it_loses_the_connection_and_comes_back(
    own_server: OwnServer,
) -> None:
    server = own_server()
    with (
        FaultProxy(server.uri) as proxy,
        MongoClient[dict[str, Any]](proxy.uri, retryWrites=False, **FAST) as client,
    ):
        client.db.c.insert_one({"_id": 1})
        server.kill()
        with pytest.raises(AutoReconnect):
            client.db.c.insert_one({"_id": 2})
        server.start()
        client.db.c.insert_one({"_id": 3})
        assert client.db.c.find_one({"_id": 3}) is not None


def test_credentials_and_options_of_the_uri_are_kept(own_server: OwnServer) -> None:
    server = own_server(auth=True)
    with FaultProxy(server.uri) as proxy, MongoClient[dict[str, Any]](proxy.uri) as client:
        assert proxy.address in proxy.uri
        assert client.db.c.find_one() is None
        assert proxy.counts(handshakes=True)["saslStart"] + proxy.counts()["find"] >= 1


def test_stopping_ends_the_thread_and_frees_what_a_gate_holds(
    server_uri: str, database: Documents
) -> None:
    threads_before = set(threading.enumerate())
    proxy = FaultProxy(server_uri).start()
    gate = proxy.hold("find")
    with (
        MongoClient[dict[str, Any]](proxy.uri, retryReads=False, **FAST) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        held = pool.submit(client[database.name].c.find_one)
        gate.wait()
        proxy.stop()
        with pytest.raises(PyMongoError):
            held.result()
    gate.release()
    assert not [
        thread
        for thread in set(threading.enumerate()) - threads_before
        if thread.name == "fault-proxy"
    ]
