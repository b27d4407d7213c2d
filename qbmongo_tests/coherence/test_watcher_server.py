"""Both runners of the watcher on a real server, with faults from a proxy."""

from __future__ import annotations

import threading
import time
from typing import Any

import pymongo
import pytest
from pymongo import MongoClient
from pymongo.database import Database

from qbmongo.coherence.records import Limits
from qbmongo.core.events import effect_of_event
from qbmongo.core.values import canonical
from qbmongo_tests.coherence.conftest import Start
from qbmongo_tests.coherence.harness import (
    QUICK,
    Recorder,
)
from qbmongo_tests.conftest import OwnServer
from qbmongo_tests.faults import Command, FaultProxy, Swallow
from qbmongo_tests.waiting import wait_until

Data = Database[dict[str, Any]]


def test_writes_of_others_are_told_before_caught_up_returns(
    start: Start, sink: Recorder, database: Data
) -> None:
    watcher = start()
    watcher.watch(database.name)
    assert watcher.caught_up()
    database.c.insert_one({"_id": 1, "a": {"b": 1}, "old": 1, "list": [1, 2, 3]})
    database.c.update_one({"_id": 1}, {"$set": {"a.b": 2}, "$unset": {"old": 1}})
    database.c.delete_one({"_id": 1})
    assert watcher.caught_up()
    one = frozenset({canonical(1)})
    written = [e for e in sink.effects(database.name) if e.kind != "namespace"]
    assert [(e.kind, e.namespace, e.ids) for e in written] == [
        (kind, f"{database.name}.c", one) for kind in ("insert", "update", "delete")
    ]
    assert written[1].paths == frozenset({"a.b", "old"})


def test_values_of_documents_do_not_travel(
    start: Start, fault_proxy: FaultProxy, database: Data
) -> None:
    events: list[Any] = []

    def keep(event: Any) -> Any:
        events.append(event)
        return effect_of_event(event)

    watcher = start(fault_proxy.uri, effects_of=keep)
    watcher.watch(database.name)
    assert watcher.caught_up()
    database.c.insert_one({"_id": 1, "secret": "s" * 50})
    database.c.update_one({"_id": 1}, {"$set": {"secret": "t" * 50}})
    assert watcher.caught_up()
    assert "secret" in repr(events)
    assert "sss" not in repr(events)
    assert "ttt" not in repr(events)


def test_index_and_collection_events_are_told(start: Start, sink: Recorder, database: Data) -> None:
    watcher = start()
    watcher.watch(database.name)
    database.create_collection("c")
    assert watcher.caught_up()
    before = len(sink.effects(database.name))
    database.c.create_index("x")
    database.command("collMod", "c", validator={"n": {"$exists": False}})
    database.c.rename("d")
    database.d.drop()
    assert watcher.caught_up()
    told = sink.effects(database.name)[before:]
    assert {effect.kind for effect in told} == {"namespace"}
    assert {effect.namespace.partition(".")[2] for effect in told} == {"c", "d"}


def test_caught_up_holds_while_another_client_keeps_writing(
    start: Start, sink: Recorder, server_uri: str, database: Data
) -> None:
    watcher = start()
    watcher.watch(database.name)
    assert watcher.caught_up()
    stop = threading.Event()

    def write() -> None:
        with MongoClient[dict[str, Any]](server_uri) as other:
            number = 0
            while not stop.is_set():
                number += 1
                other[database.name].noise.insert_one({"_id": number})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(25):
            database.c.insert_one({"_id": f"marked-{number}"})
            assert watcher.caught_up()
            assert canonical(f"marked-{number}") in sink.ids(database.name)
    finally:
        stop.set()
        writer.join()


def test_lease_is_renewed_and_starts_before_what_it_rests_on(
    start: Start, sink: Recorder, database: Data
) -> None:
    watcher = start(limits=QUICK)
    watcher.watch(database.name)
    before_s = time.monotonic()
    sink.wait_for(lambda: len(sink.of("lease")) >= 4)
    starts = [told[3] for told in sink.of("lease")]
    assert starts == sorted(starts)
    assert before_s < starts[0]
    assert starts[-1] < time.monotonic()
    assert wait_until(lambda: watcher.stats().databases[0].lease_remaining_s > 0)
    primary = sink.of("lease")[-1][2]
    assert primary.election_id is not None
    assert primary.address == database.client.primary


def test_databases_are_watched_together(
    start: Start, sink: Recorder, database: Data, plain_client: MongoClient[dict[str, Any]]
) -> None:
    names = [database.name, *(f"{database.name}_{i}" for i in range(3))]
    watcher = start()
    try:
        for name in names:
            watcher.watch(name)
        assert watcher.caught_up()
        for name in names:
            plain_client[name].c.insert_one({"_id": name})
        assert watcher.caught_up()
        for name in names:
            assert sink.ids(name) == [canonical(name)]
    finally:
        for name in names[1:]:
            plain_client.drop_database(name)


def test_dropped_database_is_a_gap_and_watched_again(
    start: Start, sink: Recorder, database: Data
) -> None:
    watcher = start()
    watcher.watch(database.name)
    database.c.insert_one({"_id": 1})
    assert watcher.caught_up()
    database.client.drop_database(database.name)
    assert watcher.caught_up()
    assert sink.of("lost")[-1][1:] == (database.name, "database dropped or renamed")
    database.c.insert_one({"_id": 2})
    assert watcher.caught_up()
    assert sink.ids(database.name)[-1] == canonical(2)


def test_silent_stream_gives_no_lease_and_is_resumed_after_a_finite_time(
    start: Start, sink: Recorder, fault_proxy: FaultProxy, database: Data
) -> None:
    watcher = start(fault_proxy.uri, limits=QUICK)
    watcher.watch(database.name)
    assert watcher.caught_up()
    rule = fault_proxy.on("getMore", Swallow(), times=None)
    assert not watcher.caught_up(QUICK.lease_s)
    leases = len(sink.of("lease"))
    last_s = sink.of("lease")[-1][3]
    database.c.insert_one({"_id": 1})
    assert not watcher.caught_up(QUICK.lease_s)
    assert len(sink.of("lease")) == leases
    assert time.monotonic() > last_s + QUICK.lease_s
    assert watcher.stats().databases[0].lease_remaining_s == 0.0
    assert wait_until(lambda: rule.hits > 1)
    fault_proxy.clear()
    assert watcher.caught_up()
    assert sink.ids(database.name) == [canonical(1)]


def test_commands_share_one_session_and_carry_no_timeout_of_the_caller(
    start: Start, fault_proxy: FaultProxy, database: Data
) -> None:
    seen: list[dict[str, Any]] = []

    def keep(command: Command) -> None:
        if command.name in ("hello", "aggregate", "find", "getMore"):
            document = command.document()
            if "lsid" in document:
                seen.append(document)

    fault_proxy.hook = keep
    watcher = start(fault_proxy.uri)
    with pymongo.timeout(0.001):
        watcher.watch(database.name)
    assert watcher.caught_up()
    assert watcher.caught_up()
    assert watcher.stats().failures == 0
    assert {next(iter(document)) for document in seen} == {"hello", "aggregate", "find", "getMore"}
    assert len({document["lsid"]["id"] for document in seen}) == 1
    assert not any("maxTimeMS" in d for d in seen if "hello" in d or "aggregate" in d)


@pytest.mark.parametrize(
    "query",
    [
        "readPreference=secondary&maxStalenessSeconds=120&readPreferenceTags=dc:far",
        "timeoutMS=1",
        "maxPoolSize=7&minPoolSize=2",
    ],
)
def test_options_of_the_user_do_not_become_the_watchers(
    start: Start, server_uri: str, database: Data, query: str
) -> None:
    separator = "&" if "?" in server_uri else "/?"
    watcher = start(f"{server_uri.rstrip('/')}{separator}{query}", tz_aware=True)
    watcher.watch(database.name)
    assert watcher.caught_up()
    assert watcher.stats().failures == 0


def test_flood_of_events_ends_the_watch(start: Start, sink: Recorder, database: Data) -> None:
    watcher = start(limits=Limits(max_events_per_s=50))
    watcher.watch(database.name)
    assert watcher.caught_up()
    database.c.insert_many({"_id": number} for number in range(300))
    sink.wait_for(lambda: sink.of("unavailable", database.name))
    assert watcher.stats().databases[0].state == "too_many_events"
    assert watcher.caught_up()


def test_standalone_server_is_unavailable_with_one_reason(
    start: Start, sink: Recorder, own_server: OwnServer
) -> None:
    watcher = start(own_server(standalone=True).uri)
    watcher.watch("d")
    sink.wait_for(lambda: sink.of("unavailable"))
    assert sink.of("unavailable") == [("unavailable", "d", "change streams need a replica set")]
    assert watcher.stats().state == "unsupported"
    assert not sink.of("lease")


def test_missing_privilege_leaves_one_database_out(
    start: Start, sink: Recorder, own_server: OwnServer
) -> None:
    server = own_server(auth=True)
    with MongoClient[dict[str, Any]](server.uri) as admin:
        admin.admin.command(
            "createUser", "limited", pwd="secret", roles=[{"role": "read", "db": "mine"}]
        )
    uri = f"mongodb://limited:secret@{server.address}/?authSource=admin"
    watcher = start(uri)
    watcher.watch("mine")
    watcher.watch("theirs")
    sink.wait_for(lambda: sink.of("unavailable") and sink.of("lease", "mine"))
    assert {told[1] for told in sink.of("unavailable")} == {"theirs"}
    assert "no privilege" in sink.of("unavailable")[0][2]
    states = {watch.database: watch.state for watch in watcher.stats().databases}
    assert states == {"mine": "trusted", "theirs": "forbidden"}


def test_unreachable_server_gives_no_lease_and_is_found_when_it_is_there(
    start: Start, sink: Recorder, fault_proxy: FaultProxy, database: Data
) -> None:
    fault_proxy.refusing = True
    watcher = start(fault_proxy.uri, limits=QUICK, serverMonitoringMode="poll")
    watcher.watch(database.name)
    assert not watcher.caught_up(2 * QUICK.timeout_s)
    assert watcher.stats().state in ("connecting", "unreachable")
    fault_proxy.refusing = False
    assert watcher.caught_up()
    assert len(sink.of("lease")) >= 1
