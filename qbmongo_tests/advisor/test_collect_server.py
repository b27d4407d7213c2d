"""Reading from a server: what is read, what is noted where it cannot be, what is not touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from bson import ObjectId
from pymongo import MongoClient, monitoring
from pymongo.database import Database

from qbmongo import ServerUnreadableError
from qbmongo.advisor.collect import Limits, ServerReader, connect
from qbmongo.advisor.interruption import Stop, StoppedError
from qbmongo_tests.conftest import OwnServer
from qbmongo_tests.faults import Answer, CloseBefore, Command, FaultProxy

Client = MongoClient[Any]
LIMITS = Limits(sample_documents=100, batch_documents=20)


class Commands(monitoring.CommandListener):
    """The commands that were sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Mapping[str, Any]]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.sent.append((event.command_name, event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


class Reading:
    """A reader of one server, with what it noted and sent."""

    def __init__(self, uri: str, limits: Limits = LIMITS) -> None:
        self.notes: list[str] = []
        self.commands = Commands()
        self.stop = Stop()
        self._uri = uri
        self.client = connect(self._make)
        self.reader = ServerReader(self.client, self._make, limits, self.stop, self.notes.append)

    def _make(self, **options: Any) -> Client:
        return Client(self._uri, event_listeners=[self.commands], **options)

    def close(self) -> None:
        self.reader.close()
        self.client.close()


@pytest.fixture
def read_from() -> Iterator[Callable[..., Reading]]:
    """Makes readers, which are closed after the test."""
    with ExitStack() as stack:

        def make(uri: str, limits: Limits = LIMITS) -> Reading:
            opened = Reading(uri, limits)
            stack.callback(opened.close)
            return opened

        yield make


@pytest.fixture
def reading(server_uri: str, read_from: Callable[..., Reading]) -> Reading:
    return read_from(server_uri)


def test_collections_with_their_indexes_and_sizes(
    reading: Reading, database: Database[Any]
) -> None:
    database.create_collection("kept", collation={"locale": "en", "strength": 2})
    database.kept.insert_many([{"a": i} for i in range(30)])
    database.kept.create_index("a", name="mine", sparse=True)
    database.create_collection("seen", viewOn="kept", pipeline=[])
    (info,) = reading.reader.collections(database.name)
    assert info.namespace == f"{database.name}.kept"
    assert info.options["collation"]["strength"] == 2
    assert info.count == 30
    assert [index.spec.name for index in info.indexes] == ["_id_", "mine"]
    assert info.indexes[1].spec.sparse
    assert info.indexes[1].size_bytes is not None
    assert len(info.indexes[1].accesses) == 1
    assert reading.notes == []


def test_databases_are_those_wanted_or_all_but_the_systems(
    reading: Reading, database: Database[Any]
) -> None:
    database.c.insert_one({})
    assert reading.reader.databases(["b", "a", "b"]) == ["b", "a"]
    found = reading.reader.databases([])
    assert database.name in found
    assert not {"admin", "local", "config"}.intersection(found)


@pytest.mark.parametrize("count", [0, 1, 60, 100, 400])
def test_a_sample_has_each_document_once(
    reading: Reading, database: Database[Any], count: int
) -> None:
    if count:
        database.c.insert_many([{"_id": i, "a": i % 7} for i in range(count)])
    else:
        database.create_collection("c")
    (info,) = reading.reader.collections(database.name)
    sample, statistics = reading.reader.sample(info, ["a"], [])
    with sample:
        ids = [document["_id"] for document in sample.decoded(1_000)]
        assert len(ids) == len(set(ids)) == sample.documents == statistics.sampled
    assert len(ids) == count if count <= 100 else 50 <= len(ids) <= 100


def test_documents_that_kept_filters_select_are_added_and_not_counted(
    reading: Reading, database: Database[Any]
) -> None:
    rare = ObjectId()
    database.c.insert_many([{"a": i} for i in range(3_000)])
    database.c.insert_one({"_id": rare, "a": "rare"})
    (info,) = reading.reader.collections(database.name)
    filters = [{"a": "rare"}, {"$bogus": 1}]
    sample, statistics = reading.reader.sample(info, ["a"], filters)
    with sample:
        assert rare in [document["_id"] for document in sample.decoded(1_000)]
        assert sample.documents >= statistics.sampled
    assert statistics.sampled <= 100


def test_a_sample_ends_where_its_bytes_are_used_up(
    server_uri: str, database: Database[Any], read_from: Callable[..., Reading]
) -> None:
    database.c.insert_many([{"pad": "x" * 10_000} for _ in range(60)])
    opened = read_from(server_uri, Limits(sample_documents=60, sample_bytes=105_000))
    (info,) = opened.reader.collections(database.name)
    sample, statistics = opened.reader.sample(info, ["pad"], [])
    with sample:
        assert sample.documents == statistics.sampled == 10


def test_it_only_reads_and_limits_every_read(reading: Reading, database: Database[Any]) -> None:
    database.c.insert_many([{"a": i} for i in range(300)])
    (info,) = reading.reader.collections(database.name)
    sample, _ = reading.reader.sample(info, ["a"], [{"a": 3}])
    sample.close()
    reading.reader.has_profiler(database.name)
    reading.reader.profiler_documents(database.name)
    names = {name for name, _ in reading.commands.sent}
    assert names <= {
        *("ping", "hello", "replSetGetConfig", "listCollections", "listIndexes", "aggregate"),
        *("find", "getMore", "killCursors", "endSessions", "listDatabases"),
    }
    for name, command in reading.commands.sent:
        if name in ("aggregate", "find", "listCollections", "listIndexes"):
            assert command["maxTimeMS"] <= 30_000
        if name == "aggregate":
            assert not {"$out", "$merge"} & {key for stage in command["pipeline"] for key in stage}
        if "batchSize" in command.get("cursor", {}):
            assert command["cursor"]["batchSize"] == 20


def test_the_profilers_documents_are_read_oldest_first(
    reading: Reading, database: Database[Any]
) -> None:
    database.command({"profile": 2})
    try:
        for i in range(3):
            database.c.find_one({"a": i})
    finally:
        database.command({"profile": 0})
    assert reading.reader.has_profiler(database.name)
    found = reading.reader.profiler_documents(database.name)
    asked = [d["command"]["filter"]["a"] for d in found if "filter" in d.get("command", {})]
    assert asked == [0, 1, 2]


def test_asked_to_stop_it_stops(reading: Reading, database: Database[Any]) -> None:
    database.c.insert_one({})
    reading.stop.ask()
    with pytest.raises(StoppedError):
        reading.reader.collections(database.name)


def test_an_unreachable_server_is_said_in_one_line() -> None:
    with pytest.raises(ServerUnreadableError, match="no server answered"):
        connect(lambda **options: Client("mongodb://127.0.0.1:1/", **{**options, **SOON}))
    with pytest.raises(ServerUnreadableError, match="scheme"):
        connect(lambda **options: Client("http://127.0.0.1/", **options))


SOON: dict[str, Any] = {"serverSelectionTimeoutMS": 50}


def test_what_may_not_be_read_is_noted_and_the_rest_goes_on(
    fault_proxy: FaultProxy, database: Database[Any], read_from: Callable[..., Reading]
) -> None:
    """Source: MongoDB manual, Built-In Roles: `read` does not include indexStats, collStats yes."""
    database.c.insert_many([{"a": i} for i in range(20)])

    def is_index_stats(command: Command) -> bool:
        return any("$indexStats" in stage for stage in command.document()["pipeline"])

    refused = {"ok": 0.0, "errmsg": "not authorized", "code": 13, "codeName": "Unauthorized"}
    fault_proxy.on("aggregate", Answer(refused), times=None, when=is_index_stats)
    opened = read_from(fault_proxy.uri)
    (info,) = opened.reader.collections(database.name)
    assert info.count == 20
    assert info.indexes[0].accesses == ()
    (note,) = opened.notes
    assert note.startswith("the use of indexes on ")
    assert note.endswith(" could not be read: not authorized")


def test_a_server_lost_on_the_way_ends_it(
    fault_proxy: FaultProxy, database: Database[Any], read_from: Callable[..., Reading]
) -> None:
    database.c.insert_one({})
    opened = read_from(fault_proxy.uri)
    fault_proxy.on("listIndexes", CloseBefore(), times=None)
    with pytest.raises(ServerUnreadableError):
        opened.reader.collections(database.name)


def test_credentials_and_options_of_the_user_hold_for_every_client(
    own_server: OwnServer, read_from: Callable[..., Reading]
) -> None:
    server = own_server(auth=True)
    with Client(server.uri) as client:
        client.shop.c.insert_one({"a": 1})
    opened = read_from(server.uri)
    (info,) = opened.reader.collections("shop")
    assert info.count == 1
    wrong = server.uri.replace("root:", "nobody:")
    with pytest.raises(ServerUnreadableError):
        read_from(wrong)


def test_index_use_is_read_from_every_member_by_its_own_client(
    server_uri: str,
    database: Database[Any],
    monkeypatch: pytest.MonkeyPatch,
    read_from: Callable[..., Reading],
) -> None:
    """A set of three is shown; its members' clients pick their server by its address."""
    database.c.insert_one({"a": 1})
    database.d.insert_one({"a": 1})
    database.c.create_index("a", name="a")
    opened = read_from(server_uri)
    (address,) = (f"{host}:{port}" for host, port in opened.client.nodes)
    monkeypatch.setattr(opened.reader, "members", (address, "127.0.0.1:2", "127.0.0.1:3"))
    monkeypatch.setattr("qbmongo.advisor.collect._REACH_MS", 50)
    asked: list[str] = []
    reader_of = opened.reader._reader_of
    monkeypatch.setattr(
        opened.reader, "_reader_of", lambda member: asked.append(member) or reader_of(member)
    )
    info, _ = sorted(opened.reader.collections(database.name), key=lambda i: i.namespace)
    assert info.members == 3
    # Those that do not answer are waited for once.
    assert sorted(asked) == sorted([address, address, "127.0.0.1:2", "127.0.0.1:3"])
    (index,) = (index for index in info.indexes if index.spec.name == "a")
    assert [use.member for use in index.accesses] == [address]
    assert len(opened.notes) == 2
    assert all("the use of indexes on 127.0.0.1:" in note for note in opened.notes)


def test_a_router_is_asked_for_shards_members_and_shard_keys(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Source: MongoDB manual, Config Database: shards {_id, host}, collections {_id, key}."""
    key = {"region": 1, "customer": "hashed"}

    class Collections:
        def find_one(self, filter: Any, **options: Any) -> Any:
            return {"_id": "shop.orders", "key": key} if filter == {"_id": "shop.orders"} else None

    class Shards:
        def find(self) -> Any:
            return [{"_id": "s0", "host": "s0/a:1,b:2"}, {"_id": "s1", "host": "s1/c:3"}]

    config = SimpleNamespace(collections=Collections(), shards=Shards())
    monkeypatch.setattr(reading.reader, "_client", SimpleNamespace(config=config))
    monkeypatch.setattr(reading.reader, "_hello", {"msg": "isdbgrid"})
    assert reading.reader.is_sharded
    assert reading.reader._find_members() == ("a:1", "b:2", "c:3")
    assert reading.reader._shard_key("shop.orders") == (("region", 1), ("customer", "hashed"))
    assert reading.reader._shard_key("shop.other") is None
