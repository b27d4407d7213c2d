"""Advice from end to end: three clients, a real server, real explains, nothing damaged."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson.datetime_ms import DatetimeMS
from pymongo import MongoClient, monitoring

from qbmongo import (
    AdvisorInputError,
    OptimizedAsyncMongoClient,
    OptimizedClient,
    OptimizedMongoClient,
    ProfileFileError,
    ServerUnreadableError,
    Settings,
)
from qbmongo.advisor.report import Report
from qbmongo.advisor.scratch import OWNERS, PREFIX
from qbmongo.advisor.trial_collection import TrialCollection
from qbmongo_tests.advisor.fingerprints import fingerprint, other_databases, scratch_databases
from qbmongo_tests.advisor.trial_cases import orders
from qbmongo_tests.faults import Answer, Command, FaultProxy

LIMIT_S = 60.0

pytestmark = pytest.mark.needs_explain


@pytest.fixture(autouse=True)
def few_inserts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What inserts cost is measured in test_trials_server.py."""
    measure = TrialCollection.insert_times
    monkeypatch.setattr(
        TrialCollection,
        "insert_times",
        lambda self, sample, specs, documents, rounds: measure(self, sample, specs, 20, 1),
    )


@pytest.fixture
def shop(plain_client: MongoClient[Any], database_name: str) -> str:
    """A database whose orders have an index too many, and lack one."""
    database = plain_client[database_name]
    database.orders.insert_many(orders(600))
    database.orders.create_index("tags", name="short")
    database.orders.create_index([("tags", 1), ("total", 1)], name="long")
    return database_name


@pytest.fixture
def unchanged(plain_client: MongoClient[Any], shop: str) -> Iterator[None]:
    """The user's data, indexes and profiling are the same after the test, and nothing is left."""
    databases = set(plain_client.list_database_names())
    before = fingerprint(plain_client, [shop])
    yield
    assert fingerprint(plain_client, [shop]) == before
    assert scratch_databases(plain_client) == []
    assert other_databases(plain_client, databases) == set()


def ask(collection: Any) -> None:
    for i in range(20):
        list(collection.find({"customer": i}).sort("at", -1).limit(5))
        list(collection.find({"tags": "a"}).limit(3))


async def ask_async(collection: Any) -> None:
    for i in range(20):
        await collection.find({"customer": i}).sort("at", -1).limit(5).to_list(None)
        await collection.find({"tags": "a"}).limit(3).to_list(None)


def check(report: Report, shop: str) -> None:
    """The index that is missing is to be created, the one too many to be hidden; both verified."""
    found = {(r.action, r.spec.keys): r for r in report.recommendations}
    create = found["create", (("customer", 1), ("at", -1))]
    hide = found["hide", (("tags", 1),)]
    assert create.spec.namespace == hide.spec.namespace == f"{shop}.orders"
    assert len(found) == 2
    assert create.verified
    assert hide.verified
    assert create.before is not None
    assert create.after is not None
    assert create.before.sorted_in_memory
    assert not create.after.sorted_in_memory
    assert create.after.documents_examined < create.before.documents_examined / 20
    assert report.inputs.calls >= 20
    json.dumps(report.to_dict())


@pytest.mark.usefixtures("unchanged")
def test_the_sync_client_advises(server_uri: str, shop: str) -> None:
    with OptimizedMongoClient(server_uri) as client:
        ask(client[shop].orders)
        check(client.qb.advise(), shop)


@pytest.mark.usefixtures("unchanged")
async def test_the_async_client_advises(server_uri: str, shop: str) -> None:
    async with OptimizedAsyncMongoClient(server_uri) as client:
        await ask_async(client[shop].orders)
        check(await client.qb.advise(), shop)


@pytest.mark.usefixtures("unchanged")
async def test_the_motor_client_advises(server_uri: str, shop: str) -> None:
    client = OptimizedClient(server_uri)
    await ask_async(client[shop].orders)
    check(await client.qb.advise(), shop)
    client.close()


@pytest.mark.usefixtures("unchanged")
def test_it_is_tried_on_the_same_server_if_that_is_allowed(
    server_uri: str, shop: str, plain_client: MongoClient[Any]
) -> None:
    seen: list[str] = []

    def look(step: str, done: int, total: int) -> None:
        if step == "trying indexes":
            seen.extend(scratch_databases(plain_client))

    with OptimizedMongoClient(server_uri) as client:
        ask(client[shop].orders)
        report = client.qb.advise(verify_here=True, progress=look)
    check(report, shop)
    assert len(set(seen)) == 1
    assert report.inputs.where is not None
    assert "the same server" in report.inputs.where


@pytest.mark.usefixtures("unchanged")
def test_it_is_tried_on_a_server_given_for_it(server_uri: str, shop: str, fault_proxy: Any) -> None:
    with OptimizedMongoClient(server_uri) as client:
        ask(client[shop].orders)
        check(client.qb.advise(scratch_uri=fault_proxy.uri), shop)
    assert fault_proxy.counts()["explain"] > 0


@pytest.mark.usefixtures("unchanged")
def test_nothing_is_tried_if_that_is_asked_for(server_uri: str, shop: str) -> None:
    with OptimizedMongoClient(server_uri) as client:
        ask(client[shop].orders)
        report = client.qb.advise(verify=False)
    assert report.recommendations
    assert not any(item.verified for item in report.recommendations)
    assert report.inputs.where is None
    assert "--scratch-uri" in str(report.inputs.why_not)


@pytest.mark.usefixtures("unchanged")
def test_without_a_program_on_this_machine_it_says_how_to_verify(
    server_uri: str, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qbmongo.advisor.places.find_server", lambda kind: None)
    with OptimizedMongoClient(server_uri) as client:
        ask(client[shop].orders)
        report = client.qb.advise()
    assert not any(item.verified for item in report.recommendations)
    assert "no mongod" in str(report.inputs.why_not)
    assert "--verify-here" in str(report.inputs.why_not)


@pytest.mark.usefixtures("unchanged")
def test_advice_passes_through_neither_cache_nor_profile_nor_listeners(
    server_uri: str, shop: str
) -> None:
    class Listener(monitoring.CommandListener):
        names: list[str] = []  # noqa: RUF012

        def started(self, event: monitoring.CommandStartedEvent) -> None:
            self.names.append(event.command_name)

        def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
            pass

        def failed(self, event: monitoring.CommandFailedEvent) -> None:
            pass

    with OptimizedMongoClient(server_uri, event_listeners=[Listener()]) as client:
        ask(client[shop].orders)
        shapes = {row.shape["operation"]: row.calls for row in client.qb.profile().shapes}
        before = client.qb.stats().cache
        Listener.names.clear()
        client.qb.advise(verify_here=True)
        assert Listener.names == []
        assert {r.shape["operation"]: r.calls for r in client.qb.profile().shapes} == shapes
        after = client.qb.stats().cache
        assert before is not None
        assert after is not None
        assert (after.hits, after.misses) == (before.hits, before.misses)
        assert after.bypassed == before.bypassed


@pytest.mark.usefixtures("unchanged")
def test_options_of_the_client_that_would_disturb_do_not(
    server_uri: str, shop: str, tmp_path: Path
) -> None:
    joined = "&" if "?" in server_uri else "?"
    uri = f"{server_uri}{joined}w=0&readPreference=secondaryPreferred&tz_aware=true"
    with OptimizedMongoClient(server_uri) as client:
        ask(client[shop].orders)
        profile = client.qb.profile()
    with OptimizedMongoClient(uri, qb=Settings(profile=None), document_class=dict) as client:
        path = tmp_path / "profile.json"
        profile.save(path)
        check(client.qb.advise(profiles=[path], verify_here=True), shop)


@pytest.mark.usefixtures("unchanged")
async def test_the_loop_goes_on_while_it_works(server_uri: str, shop: str) -> None:
    """The work waits, at each step, for something that only the loop can do."""
    loop = asyncio.get_running_loop()
    answered = 0

    def ask_the_loop(step: str, done: int, total: int) -> None:
        nonlocal answered
        turned = threading.Event()
        loop.call_soon_threadsafe(turned.set)
        assert turned.wait(LIMIT_S)
        answered += 1

    async with OptimizedAsyncMongoClient(server_uri) as client:
        await ask_async(client[shop].orders)
        check(await client.qb.advise(progress=ask_the_loop), shop)
    assert answered > 5


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("kind", [OptimizedAsyncMongoClient, OptimizedClient])
async def test_a_cancelled_call_stops_the_work_and_cleans_up(
    server_uri: str, shop: str, kind: Any
) -> None:
    client = kind(server_uri)
    await ask_async(client[shop].orders)
    loop = asyncio.get_running_loop()
    trying = asyncio.Event()
    cancelled = threading.Event()
    steps: list[tuple[str, int]] = []

    def hold(step: str, done: int, total: int) -> None:
        steps.append((step, done))
        if step == "trying indexes":
            loop.call_soon_threadsafe(trying.set)
            assert cancelled.wait(LIMIT_S)

    task = asyncio.ensure_future(client.qb.advise(verify_here=True, progress=hold))
    await trying.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    cancelled.set()
    for thread in threading.enumerate():
        if thread.name == "qbmongo-advise":
            await asyncio.to_thread(thread.join, LIMIT_S)
    assert steps[-1] == ("trying indexes", 0)
    closed = client.close()
    if closed is not None:
        await closed


@pytest.mark.usefixtures("unchanged")
def test_an_error_in_the_callers_progress_is_raised_and_nothing_is_left(
    server_uri: str, shop: str
) -> None:
    def fail(step: str, done: int, total: int) -> None:
        if step == "trying indexes":
            raise ZeroDivisionError

    with OptimizedMongoClient(server_uri) as client:
        ask(client[shop].orders)
        with pytest.raises(ZeroDivisionError):
            client.qb.advise(verify_here=True, progress=fail)


@pytest.mark.usefixtures("unchanged")
def test_after_the_time_limit_nothing_is_tried_and_it_is_said(server_uri: str, shop: str) -> None:
    with OptimizedMongoClient(server_uri) as client:
        ask(client[shop].orders)
        report = client.qb.advise(time_limit_s=1e-9)
    assert not any(item.verified for item in report.recommendations)
    said = (str(report.inputs.why_not), *report.inputs.notes)
    assert any("time limit" in line for line in said)


@pytest.mark.usefixtures("unchanged")
def test_the_time_limit_holds_within_a_collection(
    server_uri: str, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    explain = TrialCollection._explain

    def hour(self: TrialCollection, question: Any) -> Any:
        clock[0] += 3_600
        return explain(self, question)

    monkeypatch.setattr(TrialCollection, "_explain", hour)
    for module in ("advise", "interruption"):
        monkeypatch.setattr(f"qbmongo.advisor.{module}.monotonic", lambda: clock[0])
    with OptimizedMongoClient(server_uri) as client:
        ask(client[shop].orders)
        report = client.qb.advise(time_limit_s=7_000)
    assert not any(item.verified for item in report.recommendations)
    assert "1 of 1 collections were not tried" in str(report.inputs.why_not)


@pytest.mark.usefixtures("unchanged")
def test_without_a_workload_the_server_alone_is_asked(server_uri: str, shop: str) -> None:
    with OptimizedMongoClient(server_uri, qb=Settings(profile=None, cache=None)) as client:
        report = client.qb.advise([shop])
    assert [(r.action, r.spec.name) for r in report.recommendations] == [("hide", "short")]
    assert report.inputs.namespaces == (f"{shop}.orders",)


def test_the_servers_profiler_is_read_where_there_is_no_other_workload(
    server_uri: str, shop: str, plain_client: MongoClient[Any]
) -> None:
    plain_client[shop].command({"profile": 2})
    try:
        ask(plain_client[shop].orders)
    finally:
        plain_client[shop].command({"profile": 0})
    with OptimizedMongoClient(server_uri, qb=Settings(profile=None, cache=None)) as client:
        report = client.qb.advise([shop])
    created = [r.spec.keys for r in report.recommendations if r.action == "create"]
    assert (("customer", 1), ("at", -1)) in created
    assert any("system.profile" in source for source in report.inputs.sources)


def test_what_a_killed_run_left_is_dropped_by_the_next_that_may_write(
    server_uri: str, shop: str, plain_client: MongoClient[Any]
) -> None:
    name = f"{PREFIX}0123456789ab"
    plain_client[name][OWNERS].insert_one({"_id": "owner", "run": "0123456789ab"})
    plain_client[name][OWNERS].update_one({}, {"$currentDate": {"heartbeat_at": True}})
    plain_client[name].c0.insert_one({})
    plain_client[f"{PREFIX}nobodys"].c.insert_one({})
    try:
        with OptimizedMongoClient(server_uri) as client:
            ask(client[shop].orders)
            noted = client.qb.advise(verify=False).inputs.notes
            assert any(name in note for note in noted)
            client.qb.advise(verify_here=True)
            assert name in plain_client.list_database_names()
            plain_client[name][OWNERS].update_one(
                {}, {"$set": {"heartbeat_at": datetime.datetime(2024, 1, 1)}}
            )
            noted = client.qb.advise(verify_here=True).inputs.notes
            assert any(f"dropped {name}" in note for note in noted)
            left = plain_client.list_database_names()
            assert name not in left
            assert f"{PREFIX}nobodys" in left
    finally:
        plain_client.drop_database(name)
        plain_client.drop_database(f"{PREFIX}nobodys")


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"databases": "shop"}, AdvisorInputError, "databases"),
        ({"verify_here": True, "verify": False}, AdvisorInputError, "exclude"),
        ({"verify_here": True, "scratch_uri": "mongodb://x"}, AdvisorInputError, "exclude"),
        ({"scratch_uri": "mongodb://x", "verify": False}, AdvisorInputError, "exclude"),
        ({"sample_size": 0}, AdvisorInputError, "sample_size"),
        ({"scratch_uri": "http://x"}, AdvisorInputError, "scheme"),
        ({"profiles": ["/nope.json"]}, ProfileFileError, "/nope.json"),
        ({"logs": ["/nope.log"]}, AdvisorInputError, "/nope.log"),
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_a_wrong_option_is_named(
    server_uri: str, shop: str, options: dict[str, Any], error: type[Exception], named: str
) -> None:
    with OptimizedMongoClient(server_uri) as client:
        ask(client[shop].orders)
        with pytest.raises(error, match=named):
            client.qb.advise(**options)


def test_a_server_that_is_gone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qbmongo.advisor.collect._REACH_MS", 50)
    with (
        OptimizedMongoClient("mongodb://127.0.0.1:1/") as client,
        pytest.raises(ServerUnreadableError, match="no server answered"),
    ):
        client.qb.advise()


@pytest.mark.parametrize("system_profile", [None, True])
def test_a_database_that_may_not_be_read_is_noted_and_the_others_are_advised_on(
    fault_proxy: FaultProxy, shop: str, system_profile: bool | None
) -> None:
    def is_other(command: Command) -> bool:
        return command.document()["$db"] == "qbmongo_other"

    text = 'not authorized on qbmongo_other to execute command { listCollections: 1, $db: "x" }'
    refused = {"ok": 0.0, "errmsg": text, "code": 13, "codeName": "Unauthorized"}
    with OptimizedMongoClient(fault_proxy.uri, qb=Settings(cache=None)) as client:
        ask(client[shop].orders)
        list(client.qbmongo_other.c.find({"a": 1}))
        fault_proxy.on("listCollections", Answer(refused), times=None, when=is_other)
        report = client.qb.advise(verify=False, system_profile=system_profile)
        assert {r.spec.namespace for r in report.recommendations} == {f"{shop}.orders"}
        told = "not authorized on qbmongo_other to execute command listCollections"
        notes = [note for note in report.inputs.notes if "qbmongo_other" in note]
        assert notes == [f"the collections of qbmongo_other could not be read: {told}"]
        with pytest.raises(ServerUnreadableError, match=told):
            client.qb.advise(["qbmongo_other"], verify=False, system_profile=system_profile)


def test_documents_that_python_cannot_show_are_sampled_and_tried_all_the_same(
    server_uri: str, plain_client: MongoClient[Any], database_name: str
) -> None:
    """Dates beyond the calendar, as programs use them for "never"."""
    collection = plain_client[database_name].c
    late = 2**53
    collection.insert_many(
        {"_id": i, "until": DatetimeMS(late + i % 300 if i % 2 else -late), "a": i % 250}
        for i in range(1_200)
    )
    with OptimizedMongoClient(server_uri, qb=Settings(cache=None)) as client:
        for i in range(20):
            list(client[database_name].c.find({"until": DatetimeMS(late + i)}, {"a": 1}))
            list(client[database_name].c.find({"until": {"$gt": DatetimeMS(late + 295)}, "a": i}))
            client[database_name].c.distinct("a", {"until": {"$gte": DatetimeMS(late + 290)}})
        report = client.qb.advise()
    assert report.recommendations
    assert all(r.verified for r in report.recommendations)
    assert report.inputs.sampled_documents == 1_200


def test_a_view_is_said_to_be_one(
    server_uri: str, plain_client: MongoClient[Any], shop: str
) -> None:
    plain_client[shop].create_collection("seen", viewOn="orders", pipeline=[])
    with OptimizedMongoClient(server_uri, qb=Settings(cache=None)) as client:
        list(client[shop].seen.find({"customer": 1}))
        report = client.qb.advise(verify=False)
    assert [n for n in report.inputs.notes if "seen" in n] == [
        f"{shop}.seen is a view: it is left alone"
    ]
