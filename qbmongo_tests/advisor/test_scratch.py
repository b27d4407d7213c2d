"""Scratch databases: owned, always dropped, and nobody else's is ever touched."""

from __future__ import annotations

import datetime
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import AutoReconnect

from qbmongo.advisor.scratch import (
    OWNERS,
    PREFIX,
    Scratch,
    ScratchLostError,
    drop_abandoned,
    left_behind,
)
from qbmongo_tests.faults import CloseBefore, FaultProxy
from qbmongo_tests.waiting import wait_until

Client = MongoClient[dict[str, Any]]
HOUR_S = 3_600
QUICK: dict[str, Any] = {
    "serverSelectionTimeoutMS": 200,
    "heartbeatFrequencyMS": 500,
    "serverMonitoringMode": "poll",
}


@pytest.fixture
def client(server_uri: str) -> Iterator[Client]:
    with Client(server_uri) as opened:
        yield opened


def owner_of(client: Client, name: str) -> dict[str, Any]:
    owner = client[name][OWNERS].find_one({"_id": "owner"})
    assert owner is not None
    return owner


def age(client: Client, name: str, seconds: float) -> None:
    """Makes a heartbeat older."""
    beat = owner_of(client, name)["heartbeat_at"] - datetime.timedelta(seconds=seconds)
    client[name][OWNERS].update_one({"_id": "owner"}, {"$set": {"heartbeat_at": beat}})


@pytest.fixture
def abandoned(client: Client) -> Iterator[str]:
    """A scratch database as a killed run leaves it, its heartbeat fresh."""
    run = os.urandom(6).hex()
    name = f"{PREFIX}{run}"
    client[name][OWNERS].update_one(
        {"_id": "owner"},
        {"$set": {"run": run}, "$currentDate": {"heartbeat_at": True, "started_at": True}},
        upsert=True,
    )
    client[name].c0.insert_one({})
    yield name
    client.drop_database(name)


def test_the_owner_is_there_first_and_says_who_it_is(client: Client) -> None:
    with Scratch.open(client) as scratch:
        assert scratch.name == f"{PREFIX}{scratch.run}"
        assert client[scratch.name].list_collection_names() == [OWNERS]
        owner = owner_of(client, scratch.name)
        assert (owner["run"], owner["host"], owner["pid"]) == (
            scratch.run,
            socket.gethostname(),
            os.getpid(),
        )
        now = client.admin.command("hello")["localTime"]
        assert abs(now - owner["heartbeat_at"]) < datetime.timedelta(minutes=5)


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt, SystemExit])
def test_it_is_dropped_however_the_block_ends(
    client: Client, error: type[BaseException] | None
) -> None:
    names: list[str] = []

    def use() -> None:
        with Scratch.open(client) as scratch:
            names.append(scratch.name)
            scratch.database.c.insert_one({})
            if error is not None:
                raise error

    with nullcontext() if error is None else pytest.raises(error):
        use()
    assert len(names) == 1
    assert names[0] not in client.list_database_names()


def test_a_failed_first_write_leaves_nothing(fault_proxy: FaultProxy, client: Client) -> None:
    before = set(client.list_database_names())
    fault_proxy.on("update", CloseBefore(), times=None)
    with Client(fault_proxy.uri) as failing, pytest.raises(AutoReconnect), Scratch.open(failing):
        pytest.fail("there is no scratch database")
    assert set(client.list_database_names()) == before


def test_the_heartbeat_goes_on(client: Client) -> None:
    with Scratch.open(client, heartbeat_s=0.01) as scratch:
        first = owner_of(client, scratch.name)["heartbeat_at"]
        assert wait_until(lambda: owner_of(client, scratch.name)["heartbeat_at"] > first)
        scratch.check()


def test_a_heartbeat_that_fails_is_tried_again(fault_proxy: FaultProxy, client: Client) -> None:
    with (
        Client(fault_proxy.uri, retryWrites=False, **QUICK) as failing,
        Scratch.open(failing, heartbeat_s=0.01) as scratch,
    ):
        fault_proxy.on("update", CloseBefore(), times=2)
        first = owner_of(client, scratch.name)["heartbeat_at"]
        assert wait_until(lambda: owner_of(client, scratch.name)["heartbeat_at"] > first)
        scratch.check()


def test_who_lost_it_says_so_and_drops_nothing(client: Client) -> None:
    with Scratch.open(client, heartbeat_s=0.01) as scratch:
        client[scratch.name][OWNERS].delete_one({"_id": "owner"})
        scratch.database.others.insert_one({})

        def is_lost() -> bool:
            try:
                scratch.check()
            except ScratchLostError:
                return True
            return False

        assert wait_until(is_lost)
    assert client[scratch.name].list_collection_names() == ["others"] or OWNERS in (
        client[scratch.name].list_collection_names()
    )
    client.drop_database(scratch.name)


def test_no_thread_is_left(client: Client) -> None:
    with Scratch.open(client):
        assert any(t.name == "qbmongo-scratch-heartbeat" for t in threading.enumerate())
    assert not any(t.name == "qbmongo-scratch-heartbeat" for t in threading.enumerate())


def test_an_abandoned_one_is_dropped_once_its_heartbeat_is_an_hour_old(
    client: Client, abandoned: str
) -> None:
    age(client, abandoned, HOUR_S - 60)
    assert abandoned not in drop_abandoned(client)
    assert abandoned in left_behind(client)
    age(client, abandoned, 61)
    assert drop_abandoned(client).count(abandoned) == 1
    assert abandoned not in client.list_database_names()


def test_one_without_an_owner_is_never_touched(client: Client, abandoned: str) -> None:
    client[abandoned][OWNERS].delete_one({"_id": "owner"})
    assert drop_abandoned(client, stale_s=-1e9) == []
    assert "c0" in client[abandoned].list_collection_names()


@pytest.mark.parametrize(
    "change",
    [
        {"$set": {"run": "another"}},
        {"$unset": {"run": 1}},
        {"$unset": {"heartbeat_at": 1}},
        {"$set": {"heartbeat_at": 0}},
    ],
    ids=str,
)
def test_one_whose_owner_document_is_not_its_own_is_never_touched(
    client: Client, abandoned: str, change: dict[str, Any]
) -> None:
    age(client, abandoned, 10 * HOUR_S)
    client[abandoned][OWNERS].update_one({"_id": "owner"}, change)
    assert abandoned not in drop_abandoned(client)
    assert "c0" in client[abandoned].list_collection_names()


def test_a_database_of_the_user_is_never_touched(client: Client, database_name: str) -> None:
    client[database_name][OWNERS].insert_one(
        {"_id": "owner", "run": database_name, "heartbeat_at": datetime.datetime(2000, 1, 1)}
    )
    drop_abandoned(client)
    assert database_name in client.list_database_names()


def test_one_that_shows_life_meanwhile_is_not_dropped(
    fault_proxy: FaultProxy, client: Client, abandoned: str
) -> None:
    age(client, abandoned, 2 * HOUR_S)
    gate = fault_proxy.hold("findAndModify")
    dropped: list[str] = []
    with Client(fault_proxy.uri) as other:
        thread = threading.Thread(target=lambda: dropped.extend(drop_abandoned(other)))
        thread.start()
        gate.wait()
        client[abandoned][OWNERS].update_one(
            {"_id": "owner"}, {"$currentDate": {"heartbeat_at": True}}
        )
        gate.release()
        thread.join()
    assert abandoned not in dropped
    assert "c0" in client[abandoned].list_collection_names()


def test_a_drop_cut_short_leaves_the_owner(fault_proxy: FaultProxy, client: Client) -> None:
    # Some names stand before that of the owner, some behind it.
    fault_proxy.on("drop", CloseBefore(), times=None, skip=2)
    with Client(fault_proxy.uri, retryWrites=False) as failing, Scratch.open(failing) as scratch:
        for name in ("a", "z", "zz"):
            scratch.database[name].insert_one({})
    left = client[scratch.name].list_collection_names()
    assert OWNERS in left
    assert len(left) == 2
    age(client, scratch.name, 2 * HOUR_S)
    assert drop_abandoned(client) == [scratch.name]


def test_a_server_that_is_gone_at_the_end_hides_no_error(
    fault_proxy: FaultProxy, client: Client
) -> None:
    names: list[str] = []

    def fail(failing: Client) -> None:
        with Scratch.open(failing) as scratch:
            names.append(scratch.name)
            fault_proxy.refusing = True
            fault_proxy.close_connections()
            raise ZeroDivisionError

    with Client(fault_proxy.uri, **QUICK) as failing, pytest.raises(ZeroDivisionError):
        fail(failing)
    client.drop_database(names[0])
