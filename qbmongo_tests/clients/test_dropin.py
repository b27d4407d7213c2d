"""Our clients in place of the driver's: same classes, same ways to every object, same behaviour."""

from __future__ import annotations

import copy
import datetime
import inspect
import re
import uuid
import warnings
from collections import OrderedDict
from collections.abc import Iterator, MutableMapping
from decimal import Decimal
from typing import Any

import bson
import pymongo
import pytest
from bson import SON, Binary, Code, CodecOptions, Decimal128, ObjectId, UuidRepresentation
from bson.codec_options import DatetimeConversion, TypeCodec, TypeRegistry
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument
from gridfs import GridFS, GridFSBucket
from gridfs.asynchronous import AsyncGridFSBucket
from motor.motor_asyncio import AsyncIOMotorGridFSBucket
from pymongo import DeleteOne, InsertOne, ReadPreference, ReplaceOne, UpdateOne, WriteConcern
from pymongo.errors import (
    BulkWriteError,
    DuplicateKeyError,
    InvalidOperation,
    NetworkTimeout,
    OperationFailure,
)
from pymongo.read_concern import ReadConcern

from qbmongo import Settings, SettingsError
from qbmongo_tests.clients.sites import Site, Wire, ready, resolved
from qbmongo_tests.faults import Answer


async def outcome(call: Any) -> Any:
    """A call's value, or the class, text and details of what it raised."""
    try:
        return await resolved(call())
    except Exception as error:
        return type(error), str(error), getattr(error, "details", None)


# Classes, and the ways to them


def test_client_database_collection_and_cursor_are_the_drivers(site: Site) -> None:
    ours, plain = site.ours(), site.plain()
    pairs = [
        (ours, plain),
        (ours["x"], plain["x"]),
        (ours["x"]["y"], plain["x"]["y"]),
        (ours["x"]["y"].find(), plain["x"]["y"].find()),
    ]
    for mine, theirs in pairs:
        assert isinstance(mine, type(theirs))
        assert type(mine) is not type(theirs)


def test_every_way_to_a_database_gives_ours(site: Site) -> None:
    client = site.ours(uri=site.uri + "some_db")
    ours = type(client["x"])
    ways = {
        "item": client["other"],
        "attribute": client.other,
        "get_database": client.get_database("other"),
        "get_database default": client.get_database(),
        "get_default_database": client.get_default_database(),
        "get_default_database(default)": client.get_default_database("fallback"),
        "with_options": client["other"].with_options(read_preference=ReadPreference.NEAREST),
        "of a collection": client["other"]["c"].database,
    }
    assert {way: type(made) for way, made in ways.items()} == dict.fromkeys(ways, ours)
    assert ways["get_default_database"].name == "some_db"
    assert ways["with_options"].read_preference == ReadPreference.NEAREST
    assert ways["with_options"].client is client


def test_every_way_to_a_collection_gives_ours(site: Site) -> None:
    client = site.ours()
    database = client[site.database]
    ours = type(database["x"])

    async def ways() -> dict[str, Any]:
        return {
            "item": database["c"],
            "attribute": database.c,
            "dotted attribute": database.c.sub,
            "dotted item": database["c"]["sub"],
            "dotted name": database["c.sub"],
            "get_collection": database.get_collection("c"),
            "create_collection": await resolved(database.create_collection("made", capped=False)),
            "with_options": database.c.with_options(write_concern=WriteConcern(w=1)),
            "of a database with options": database.with_options(
                read_concern=ReadConcern("majority")
            ).c,
        }

    made = site.run(ways())
    assert {way: type(found) for way, found in made.items()} == dict.fromkeys(made, ours)
    assert made["dotted attribute"].full_name == f"{site.database}.c.sub"
    assert made["with_options"].write_concern == WriteConcern(w=1)
    assert made["of a database with options"].read_concern == ReadConcern("majority")
    assert made["create_collection"].name == "made"
    assert all(found.database.client is client for found in made.values())


def test_options_go_on_from_collection_to_collection_as_in_the_driver(site: Site) -> None:
    codec = CodecOptions(document_class=SON)

    def chain(client: Any) -> list[Any]:
        database = client.get_database("x", codec, ReadPreference.SECONDARY, WriteConcern(w=2))
        collection = database.get_collection("y", read_concern=ReadConcern("majority"))
        return [
            (c.codec_options, c.read_preference, c.write_concern, c.read_concern, c.full_name)
            for c in (
                database["y"],
                collection,
                collection.z,
                collection.with_options(write_concern=WriteConcern(w=0)),
            )
        ]

    assert chain(site.ours()) == chain(site.plain())


def test_every_way_to_a_cursor_gives_ours(site: Site) -> None:
    collection = site.ours()[site.database]["c"]
    cursor = collection.find({"a": 1})
    ours = type(cursor)
    chained = cursor.sort("a").skip(1).limit(2).batch_size(3).comment("c").max_time_ms(5000)
    assert chained is cursor
    for copied in (cursor.clone(), copy.copy(cursor), copy.deepcopy(cursor), cursor.rewind()):
        assert type(resolved_now(site, copied)) is ours


def resolved_now(site: Site, value: Any) -> Any:
    async def wait() -> Any:
        return await resolved(value)

    return site.run(wait())


def test_exactly_one_public_name_is_added(site: Site) -> None:
    ours, plain = site.ours(), site.plain()
    pairs = [
        (ours, plain, {"qb"}),
        (ours["x"], plain["x"], set()),
        (ours["x"]["y"], plain["x"]["y"], set()),
        (ours["x"]["y"].find(), plain["x"]["y"].find(), set()),
    ]
    for mine, theirs, added in pairs:
        public = {name for name in dir(mine) if not name.startswith("_")}
        assert public - {name for name in dir(theirs) if not name.startswith("_")} == added


def test_databases_and_collections_called_qb_stay_what_they_were(site: Site) -> None:
    client = site.ours()
    assert client["qb"].name == "qb"
    assert client["x"].qb.full_name == "x.qb"
    assert client["x"]["y"].qb.full_name == "x.y.qb"


def test_names_with_an_underscore_are_refused_in_the_drivers_words(site: Site) -> None:
    async def refusals(client: Any) -> list[Any]:
        return [
            await outcome(lambda: client._private),
            await outcome(lambda: client["x"]._private),
            await outcome(lambda: client["x"]["y"]._private),
            await outcome(lambda: client["x"][""]),
            await outcome(lambda: client["x"]["a..b"]),
            await outcome(lambda: client["x y"]),
            await outcome(lambda: client["x"]["y"]()),
            await outcome(lambda: bool(client["x"]["y"])),
        ]

    ours, plain = site.ours(), site.plain()
    renamed = [
        (kind, text.replace(type(ours).__name__, type(plain).__name__), details)
        for kind, text, details in site.run(refusals(ours))
    ]
    assert renamed == site.run(refusals(plain))


@pytest.mark.parametrize("given", [None, "mine"])
def test_reprs_differ_in_the_clients_class_only(site: Site, given: str | None) -> None:
    options: dict[str, Any] = {"event_listeners": [Wire()]} if given else {}
    ours, plain = site.ours(**options), site.plain(**options)
    for mine, theirs in [(ours, plain), (ours.x, plain.x), (ours.x.y, plain.x.y)]:
        assert repr(mine).replace(type(ours).__name__, type(plain).__name__) == repr(theirs)


def test_clients_databases_and_collections_compare_and_hash_as_the_drivers(site: Site) -> None:
    client = site.ours()
    assert client["x"] == client.x
    assert client["x"]["y"] == client.x.y
    assert client["x"]["y"] != client.x.z
    assert len({client["x"]["y"], client.x.y, client.x.z}) == 2
    assert len({client["x"], client.x}) == 1
    assert client == site.ours()
    assert client["x"]["y"] == site.ours()["x"]["y"]


def test_a_class_can_be_subscripted_as_the_drivers(site: Site) -> None:
    cls: Any = site.optimized

    async def make() -> Any:
        return cls[dict[str, Any]](site.uri)

    client = site.run(make())
    assert isinstance(client, site.driver.client_class)
    site._clients.append(client)


REFUSED = {
    "no hosts": (("mongodb://",), {}),
    "unknown option": (("mongodb://h/?retryReads=5",), {"no_such_option": 1}),
    "listeners of a wrong type": ((), {"event_listeners": 5}),
    "listeners that are none": ((), {"event_listeners": [5]}),
    "a port of a wrong type": (("h", "port"), {}),
    "a host of a wrong type": ((5,), {}),
    "too many arguments": (("h", 1, dict, False, False, None, 7), {}),
    "one argument twice": (("h",), {"host": "h"}),
    "a codec of a wrong type": ((), {"document_class": int}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_driver_refuses_in_the_constructor_is_refused_in_its_words(
    site: Site, case: str
) -> None:
    args, options = REFUSED[case]

    async def refused(cls: type[Any]) -> Any:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            result = await outcome(lambda: cls(*args, **options))
        assert isinstance(result, tuple), result
        return result, [str(w.message) for w in warned]

    assert site.run(refused(site.optimized)) == site.run(refused(site.driver.client_class))


def test_settings_of_another_type_are_refused(site: Site) -> None:
    async def make() -> Any:
        return site.optimized(site.uri, qb={"cache": None})

    with pytest.raises(TypeError, match=r"qb must be a qbmongo\.Settings or None"):
        site.run(make())


# Writes: what happens to the caller's arguments, and what comes back


class Custom(MutableMapping[str, Any]):
    """A mapping of the program's own."""

    def __init__(self, **fields: Any) -> None:
        self.fields = dict(fields)

    def __getitem__(self, key: str) -> Any:
        return self.fields[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.fields[key] = value

    def __delitem__(self, key: str) -> None:
        del self.fields[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)


class Sub(dict[str, Any]):
    """A dict with something of its own."""


MAPPINGS = {
    "dict": lambda: {"a": 1, "b": {"c": [1, 2]}},
    "dict with an _id": lambda: {"a": 1, "_id": "mine"},
    "dict with _id None": lambda: {"_id": None, "a": 1},
    "SON": lambda: SON([("b", 1), ("a", 2)]),
    "OrderedDict": lambda: OrderedDict([("b", 1), ("a", 2)]),
    "subclass of dict": lambda: Sub(b=1, a=2),
    "MutableMapping": lambda: Custom(b=1, a=2),
    "RawBSONDocument": lambda: RawBSONDocument(bson.encode({"_id": 7, "a": 1})),
    "RawBSONDocument without _id": lambda: RawBSONDocument(bson.encode({"a": 1})),
    "empty": dict,
}


@pytest.mark.parametrize("kind", MAPPINGS)
def test_insert_one_leaves_the_document_and_the_result_as_the_driver_does(
    site: Site, kind: str
) -> None:
    async def insert(client: Any) -> Any:
        collection = client[site.database][f"c_{type(client).__name__}"]
        document: Any = MAPPINGS[kind]()
        result = await resolved(collection.insert_one(document))
        stored = await resolved(collection.find_one({}))
        names = list(document)
        identifier = document.get("_id", "absent")
        is_new = isinstance(identifier, ObjectId)
        assert result.inserted_id == (None if kind.startswith("Raw") else identifier)
        if is_new:
            assert stored["_id"] == identifier
            del stored["_id"]
        return (
            type(document),
            names,
            "new" if is_new else identifier,
            type(result),
            type(result.inserted_id),
            result.acknowledged,
            list(stored.items()) if not kind.startswith("Raw") else len(stored),
        )

    assert site.run(insert(site.ours())) == site.run(insert(site.plain()))


def test_unacknowledged_results_are_the_drivers(site: Site) -> None:
    async def write(client: Any) -> list[Any]:
        collection = client[site.database].get_collection("c", write_concern=WriteConcern(w=0))
        inserted = await resolved(collection.insert_one({"_id": 1}))
        updated = await resolved(collection.update_one({"_id": 1}, {"$set": {"a": 1}}))
        deleted = await resolved(collection.delete_one({"_id": 1}))
        bulk = await resolved(collection.bulk_write([InsertOne({"_id": 2})]))
        return [
            (
                type(result),
                result.acknowledged,
                await outcome(lambda r=result, n=name: getattr(r, n)),
            )
            for result, name in (
                (inserted, "inserted_id"),
                (updated, "modified_count"),
                (deleted, "deleted_count"),
                (bulk, "inserted_count"),
            )
        ]

    assert site.run(write(site.ours())) == site.run(write(site.plain()))


BAD_WRITES: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "replacement with operators": ("replace_one", ({"_id": 1}, {"$set": {"a": 1}}), {}),
    "replacement with operators, by name": (
        "replace_one",
        (),
        {"filter": {"_id": 1}, "replacement": {"$set": {"a": 1}}},
    ),
    "find_one_and_replace with operators": (
        "find_one_and_replace",
        ({"_id": 1}, {"$inc": {"a": 1}}),
        {},
    ),
    "update without operators": ("update_one", ({"_id": 1}, {"a": 1}), {}),
    "update_many without operators": ("update_many", ({}, {"a": 1}), {}),
    "find_one_and_update without operators": ("find_one_and_update", ({"_id": 1}, {"a": 1}), {}),
    "empty update": ("update_one", ({"_id": 1}, {}), {}),
    "empty pipeline": ("update_one", ({"_id": 1}, []), {}),
    "update of a wrong type": ("update_one", ({"_id": 1}, "no"), {}),
    "filter of a wrong type": ("update_one", (5, {"$set": {"a": 1}}), {}),
    "filter missing": ("update_one", (), {}),
    "delete by a number": ("delete_one", (5,), {}),
    "document of a wrong type": ("insert_one", ([{"a": 1}],), {}),
    "document that is no BSON": ("insert_one", ({"_id": 1, "a": {1, 2}},), {}),
    "document with a key that is no string": ("insert_one", ({"_id": 1, 5: 1},), {}),
    "document with a null byte in a key": ("insert_one", ({"_id": 1, "a\0b": 1},), {}),
    "document too large": ("insert_one", ({"_id": 1, "a": "x" * 17_000_000},), {}),
    "integer too large": ("update_one", ({"_id": 1}, {"$set": {"a": 2**70}}), {}),
    "unknown operator": ("update_one", ({"_id": "kept"}, {"$nope": {"a": 1}}), {}),
    "unknown option": ("update_one", ({"_id": 1}, {"$set": {"a": 1}}), {"nope": 1}),
    "duplicate key": ("insert_one", ({"_id": "kept"},), {}),
    "duplicates in a list": ("insert_many", ([{"_id": "kept"}, {"_id": "kept", "a": 2}],), {}),
    "unordered duplicates": (
        "insert_many",
        ([{"_id": "kept"}, {"_id": "new"}, {"_id": "kept", "a": 2}],),
        {"ordered": False},
    ),
    "bulk with errors": (
        "bulk_write",
        (
            [
                InsertOne({"_id": "kept"}),
                UpdateOne({"_id": "kept"}, {"$inc": {"s": 1}}),
                ReplaceOne({"_id": "x"}, {"a": 1}, upsert=True),
                DeleteOne({"_id": "y"}),
            ],
        ),
        {"ordered": False},
    ),
    "empty bulk": ("bulk_write", ([],), {}),
    "bulk of what is no request": ("bulk_write", ([{"insert": 1}],), {}),
    "no documents": ("insert_many", ([],), {}),
    "array filters unused": (
        "update_one",
        ({"_id": "kept"}, {"$set": {"a": 1}}, False, None, None, [{"x": 1}]),
        {},
    ),
}


@pytest.mark.parametrize("case", BAD_WRITES)
def test_writes_fail_as_the_drivers(site: Site, case: str) -> None:
    method, args, kwargs = BAD_WRITES[case]

    async def write(client: Any) -> Any:
        database = client[site.database]
        await resolved(database.c.drop())
        await resolved(database.c.insert_one({"_id": "kept", "s": "text"}))
        result = await outcome(
            lambda: getattr(database.c, method)(*copy.deepcopy(args), **copy.deepcopy(kwargs))
        )
        cursor = database.c.find({}).sort("_id")
        return without_times(result), await resolved(cursor.to_list(None))

    assert site.run(write(site.ours())) == site.run(write(site.plain()))


def without_times(result: Any) -> Any:
    """A failure without what differs from call to call."""
    if not isinstance(result, tuple):
        return result
    kind, text, details = result
    # Some drivers quote the whole command, with its session and the cluster's time.
    text = re.sub(r"Invalid document \{.*\}", "Invalid document", text)
    if isinstance(details, dict):
        details = {k: v for k, v in details.items() if k not in ("$clusterTime", "operationTime")}
        for mark in ("Timestamp(", "{'hash'"):
            text = text.split(mark)[0]
    return kind, text.split(", full error")[0], repr(details).replace("OptimizedMongoClient", "")


BAD_READS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "filter of a wrong type": ("find", (5,), {}),
    "unknown argument": ("find", ({},), {"nope": 1}),
    "projection of a wrong type": ("find", ({}, 5), {}),
    "negative skip": ("find", ({},), {"skip": -1}),
    "sort of a wrong type": ("find", ({},), {"sort": 5}),
    "unknown operator": ("find_one", ({"a": {"$nope": 1}},), {}),
    "no BSON": ("find_one", ({"a": {1, 2}},), {}),
    "mixed projection": ("find_one", ({}, {"a": 1, "b": 0}), {}),
    "min without hint": ("find_one", ({},), {"min": [("a", 1)]}),
    "unknown argument of find_one": ("find_one", ({},), {"nope": 1}),
    "count with a filter of a wrong type": ("count_documents", (5,), {}),
    "count with a negative skip": ("count_documents", ({},), {"skip": -1}),
    "count with a bad limit": ("count_documents", ({},), {"limit": "x"}),
    "count of an unknown operator": ("count_documents", ({"a": {"$nope": 1}},), {}),
    "count with an unknown option": ("count_documents", ({},), {"nope": 1}),
    "distinct of a wrong key": ("distinct", (5,), {}),
    "distinct of an unknown operator": ("distinct", ("a", {"a": {"$nope": 1}}), {}),
    "estimate with a session": ("estimated_document_count", (), {"session": "none"}),
    "pipeline of a wrong type": ("aggregate", (5,), {}),
    "pipeline with an unknown stage": ("aggregate", ([{"$nope": 1}],), {}),
    "pipeline of strings": ("aggregate", (["x"],), {}),
    "count with a session of a wrong type": ("count_documents", ({},), {"session": "none"}),
}


@pytest.mark.parametrize("case", BAD_READS)
def test_reads_fail_as_the_drivers(site: Site, case: str) -> None:
    method, args, kwargs = BAD_READS[case]

    async def read(client: Any) -> Any:
        collection = client[site.database]["c"]
        await resolved(collection.delete_many({}))
        await resolved(collection.insert_one({"a": 1}))

        async def call() -> Any:
            found = await resolved(getattr(collection, method)(*args, **kwargs))
            return await resolved(found.to_list(None)) if hasattr(found, "to_list") else found

        return without_times(await outcome(call))

    assert site.run(read(site.ours())) == site.run(read(site.plain()))


# Codec options


class Money:
    def __init__(self, amount: Decimal) -> None:
        self.amount = amount

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.amount == self.amount

    def __hash__(self) -> int:
        return hash(self.amount)


class MoneyCodec(TypeCodec):
    python_type = Money  # type: ignore[assignment]
    bson_type = Decimal128  # type: ignore[assignment]

    def transform_python(self, value: Any) -> Any:
        return Decimal128(value.amount)

    def transform_bson(self, value: Any) -> Any:
        return Money(value.to_decimal())


UTC = datetime.timezone.utc
IDENTIFIER = uuid.UUID("12345678-1234-5678-1234-567812345678")
CODECS = {
    "default": CodecOptions(),
    "SON": CodecOptions(document_class=SON),
    "raw": CodecOptions(document_class=RawBSONDocument),
    "aware": CodecOptions(tz_aware=True, tzinfo=UTC),
    "registry": CodecOptions(type_registry=TypeRegistry([MoneyCodec()])),
    "uuid": CodecOptions(uuid_representation=UuidRepresentation.STANDARD),
    "lenient": CodecOptions(unicode_decode_error_handler="replace"),
    "milliseconds": CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS),
}


@pytest.mark.parametrize("name", CODECS)
def test_every_read_builds_with_the_collections_codec_whether_kept_or_not(
    site: Site, name: str
) -> None:
    plain = site.plain()

    async def prepare() -> None:
        await resolved(
            plain[site.database].c.insert_many(
                [
                    {
                        "_id": n,
                        "when": datetime.datetime(2020, 1, 1 + n),
                        "price": Decimal128("1.50"),
                        "nested": [{"k": n, "when": datetime.datetime(2021, 1, 1)}],
                        "id": Binary.from_uuid(IDENTIFIER),
                    }
                    for n in range(3)
                ]
            )
        )

    site.run(prepare())

    async def reads(client: Any) -> list[Any]:
        collection = client[site.database].get_collection("c", CODECS[name])
        pipeline = [{"$match": {"_id": {"$lt": 3}}}, {"$sort": {"_id": 1}}]
        return [
            await resolved(collection.find_one({"_id": 1})),
            await resolved(collection.find({}).sort("_id", 1).to_list(None)),
            [d async for d in iterated(site, collection.find({"_id": {"$gt": 0}}).sort("_id", 1))],
            await resolved(collection.distinct("nested")),
            await resolved(collection.distinct("price")),
            await resolved(collection.count_documents({})),
            await resolved((await aggregated(collection, pipeline)).to_list(None)),
            await resolved(collection.find_one({"_id": 1}, {"id": 1})),
        ]

    client, wire = site.cached("c")
    expected = site.run(reads(plain))
    for _ in range(2):
        found = site.run(reads(client))
        assert found == expected
        assert described(found) == described(expected)
    sent = wire.counts
    if name not in ("registry", "lenient"):
        assert sum(sent.values()) == 8, sent


def described(value: Any) -> Any:
    """The types in a value, all the way down."""
    if isinstance(value, RawBSONDocument):
        return type(value), bytes(value.raw)
    if isinstance(value, dict):
        return type(value), [(k, described(v)) for k, v in value.items()]
    if isinstance(value, list):
        return [described(v) for v in value]
    if isinstance(value, datetime.datetime):
        return type(value), value.tzinfo
    return type(value)


async def aggregated(collection: Any, pipeline: list[Any], **options: Any) -> Any:
    cursor = collection.aggregate(pipeline, **options)
    return await cursor if inspect.iscoroutine(cursor) else cursor


async def iterated(site: Site, cursor: Any) -> Any:
    if site.is_async:
        async for document in cursor:
            yield document
    else:
        for document in cursor:
            yield document


def test_text_that_is_no_utf8_is_read_as_the_codec_says(site: Site) -> None:
    def broken(document: dict[str, Any]) -> RawBSONDocument:
        return RawBSONDocument(bson.encode(document).replace(b"xy", b"\xff\xfe"))

    reply = {"cursor": {"firstBatch": [{"_id": 1, "a": "xy"}], "id": 0, "ns": "d.c"}, "ok": 1.0}
    for name, answer in (("find", reply), ("distinct", {"values": ["xy"], "ok": 1.0})):
        site.proxy.on(
            name,
            Answer(broken(answer)),
            times=None,
            when=lambda command: (
                command.document()[command.name] == "c"
                and "is it kept?" not in repr(command.document())
            ),
        )

    async def reads(client: Any) -> list[Any]:
        c = client[site.database].c
        lenient = c.with_options(CodecOptions(unicode_decode_error_handler="replace"))
        return [
            await outcome(lambda: lenient.find_one({"_id": 1})),
            await outcome(lambda: c.find_one({"_id": 1})),
            await outcome(lambda: lenient.distinct("a")),
            await outcome(lambda: c.distinct("a")),
            await outcome(lambda: c.find({}).to_list(None)),
        ]

    client, _ = site.cached("c", uri=site.proxy.uri)
    expected = site.run(reads(site.plain(uri=site.proxy.uri)))
    assert expected[0] == {"_id": 1, "a": "\ufffd\ufffd"}
    assert expected[1][0] is InvalidBSON
    for _ in range(2):
        assert site.run(reads(client)) == expected


# Further ways to the server


def test_gridfs_stores_and_reads_files(site: Site) -> None:
    client = site.ours()
    database = client[site.database]
    data = bytes(range(256)) * 3000

    async def sync_or_not() -> None:
        if site.name == "sync":
            fs = GridFS(database)
            identifier = fs.put(data, filename="f")
            assert fs.get(identifier).read() == data
            assert fs.get(identifier).read() == data
            bucket: Any = GridFSBucket(database)
        elif site.name == "async":
            bucket = AsyncGridFSBucket(database)
        else:
            bucket = AsyncIOMotorGridFSBucket(database)
        identifier = await resolved(bucket.upload_from_stream("g", data))
        for _ in range(2):
            stream = await resolved(bucket.open_download_stream(identifier))
            assert await resolved(stream.read()) == data
        await resolved(bucket.rename(identifier, "h"))
        stream = await resolved(bucket.open_download_stream_by_name("h"))
        assert await resolved(stream.read()) == data
        await resolved(bucket.delete(identifier))
        with pytest.raises(Exception, match="no file"):
            await resolved((await resolved(bucket.open_download_stream(identifier))).read())

    site.run(sync_or_not())


def test_transactions_commit_and_abort(site: Site) -> None:
    client, _ = site.cached("c")
    collection = client[site.database].c

    async def work() -> None:
        await resolved(collection.insert_one({"_id": 0, "n": 0}))
        assert (await resolved(collection.find_one({"_id": 0})))["n"] == 0
        session = await resolved(client.start_session())
        session.start_transaction() if site.name != "async" else await resolved(
            session.start_transaction()
        )
        await resolved(collection.update_one({"_id": 0}, {"$set": {"n": 1}}, session=session))
        assert (await resolved(collection.find_one({"_id": 0}, session=session)))["n"] == 1
        assert (await resolved(collection.find_one({"_id": 0})))["n"] == 0
        await resolved(session.commit_transaction())
        assert (await resolved(collection.find_one({"_id": 0})))["n"] == 1
        session.start_transaction() if site.name != "async" else await resolved(
            session.start_transaction()
        )
        await resolved(collection.update_one({"_id": 0}, {"$set": {"n": 2}}, session=session))
        await resolved(session.abort_transaction())
        assert (await resolved(collection.find_one({"_id": 0})))["n"] == 1

        async def body(s: Any) -> str:
            await resolved(collection.update_one({"_id": 0}, {"$inc": {"n": 1}}, session=s))
            return "done"

        done = await resolved(session.with_transaction(site.driver.callback(body)))
        assert done == "done"
        assert (await resolved(collection.find_one({"_id": 0})))["n"] == 2
        await resolved(session.end_session())

    site.run(work())


def test_change_streams_of_collection_database_and_client(site: Site) -> None:
    client = site.ours()
    database = client[site.database]

    async def work() -> None:
        await resolved(database.c.insert_one({"_id": 0}))
        for target in (database.c, database, client):
            stream = await resolved(target.watch(max_await_time_ms=5000))
            if site.name == "motor":
                await stream.__aenter__()
            await resolved(database.c.update_one({"_id": 0}, {"$inc": {"n": 1}}))
            event = await (anext(stream) if site.is_async else resolved_next(stream))
            assert event["operationType"] == "update"
            await resolved(stream.close())

    async def resolved_next(stream: Any) -> Any:
        return next(stream)

    site.run(work())


def test_client_bulk_write_is_the_drivers(site: Site) -> None:
    async def write(client: Any, name: str) -> list[Any]:
        namespace = f"{site.database}.{name}"
        models = [
            InsertOne({"_id": 1}, namespace=namespace),
            UpdateOne({"_id": 1}, {"$set": {"a": 1}}, namespace=namespace),
            DeleteOne({"_id": 2}, namespace=namespace),
        ]
        result = await resolved(client.bulk_write(models, verbose_results=True))
        error = await outcome(lambda: client.bulk_write([{"x": 1}]))
        empty = await outcome(lambda: client.bulk_write([]))
        return [
            type(result),
            result.inserted_count,
            result.modified_count,
            result.deleted_count,
            result.insert_results,
            result.update_results,
            error,
            empty,
        ]

    assert repr(site.run(write(site.ours(), "c1"))) == repr(site.run(write(site.plain(), "c2")))


def test_raw_batches_are_the_drivers(site: Site) -> None:
    async def read(client: Any) -> list[Any]:
        collection = client[site.database].c
        found = collection.find_raw_batches({}, sort={"_id": 1}, batch_size=2)
        made = collection.aggregate_raw_batches([{"$sort": {"_id": 1}}])
        made = await made if inspect.iscoroutine(made) else made
        return [
            b"".join([batch async for batch in iterated(site, found)]),
            b"".join([batch async for batch in iterated(site, made)]),
            type(found),
            type(made),
        ]

    plain = site.plain()

    async def fill() -> None:
        await resolved(plain[site.database].c.insert_many([{"_id": n} for n in range(5)]))

    site.run(fill())
    assert site.run(read(site.ours())) == site.run(read(plain))


def test_the_drivers_own_cursor_classes_come_back_where_we_do_nothing(site: Site) -> None:
    async def classes(client: Any) -> list[Any]:
        database = client[site.database]
        cursors = [
            database.c.list_indexes(),
            database.list_collections(),
            client.list_databases(),
            database.aggregate([{"$documents": [{"a": 1}]}]),
            database.cursor_command({"find": "c"}),
            database.c.watch(),
            client.start_session(),
        ]
        made = []
        for cursor in cursors:
            cursor = await cursor if inspect.isawaitable(cursor) else cursor
            made.append(type(cursor))
            for close in ("end_session", "close"):
                if hasattr(cursor, close):
                    await resolved(getattr(cursor, close)())
                    break
        return made

    assert site.run(classes(site.ours())) == site.run(classes(site.plain()))


def test_administration_passes_through(site: Site) -> None:
    async def work(client: Any, name: str) -> list[Any]:
        database = client[site.database]
        c = database[name]
        done = [
            await resolved(c.create_index([("a", 1)], name="by_a")),
            await resolved(c.create_indexes([pymongo.IndexModel("b", name="by_b")])),
            sorted(await resolved(c.index_information())),
            await resolved(c.drop_index("by_a")),
            (await resolved(c.options())),
            await resolved(database.command("count", name)),
            await resolved(database.list_collection_names(filter={"name": name})),
            sorted(await resolved(database.validate_collection(c)))[:1],
            await outcome(lambda: database.command("no_such_command")),
            await outcome(lambda: c.drop_index("none")),
            await resolved(c.rename(name + "_renamed")),
            await resolved(database.drop_collection(database[name + "_renamed"])),
            site.database in await resolved(client.list_database_names()),
            await resolved(client.drop_database(database)),
            (await resolved(client.server_info()))["ok"],
        ]
        return [strip(value) for value in done]

    def strip(value: Any) -> Any:
        if isinstance(value, tuple):
            return value[0]
        if isinstance(value, dict):
            return {k: v for k, v in value.items() if k not in ("$clusterTime", "operationTime")}
        return value

    assert site.run(work(site.ours(), "c")) == site.run(work(site.plain(), "c"))


def test_pymongo_timeout_fails_a_slow_call_as_in_the_driver(site: Site) -> None:
    async def slow(client: Any, timeout_s: float) -> Any:
        c = client[site.database].c
        await resolved(c.find_one({}))
        gate = site.proxy.hold_reply("find")
        try:
            with pymongo.timeout(timeout_s):
                return await outcome(lambda: c.find_one({"a": 1}))
        finally:
            gate.release()

    ours, plain = site.ours(Settings(cache=None), uri=site.proxy.uri), site.plain(site.proxy.uri)
    # A slow machine may use up the shortest before anything is sent, which is another error.
    for timeout_s in (0.2, 2.0, 20.0):
        errors = [site.run(slow(client, timeout_s))[0] for client in (ours, plain)]
        if errors == [NetworkTimeout, NetworkTimeout]:
            return
    pytest.fail(f"{errors}")


# Listeners of the program's own


def test_the_programs_listeners_go_on_and_see_plain_documents(site: Site) -> None:
    async def work(client: Any) -> None:
        c = client[site.database].c
        await resolved(c.delete_many({}))
        await resolved(c.insert_one({"_id": 1, "a": {"b": [1]}}))
        await resolved(c.update_one({"_id": 1}, {"$set": {"a": 2}}))
        await resolved(c.replace_one({"_id": 1}, {"a": 3}))
        await resolved(c.find_one_and_update({"_id": 1}, {"$inc": {"a": 1}}))
        await resolved(c.find_one({"_id": 1}))
        await resolved(c.find({"a": {"$gt": 1}}, {"a": 1}).to_list(None))
        await resolved(c.count_documents({"a": 4}))
        await resolved(c.delete_one({"_id": 1}))

    def seen(wire: Wire) -> list[Any]:
        dropped = ("lsid", "$clusterTime", "$db", "txnNumber", "readConcern", "$readPreference")
        return [
            (name, {k: v for k, v in command.items() if k not in dropped})
            for name, command in wire.commands
        ]

    client, wire = site.cached("c")
    other = Wire()
    plain = site.plain(event_listeners=[other])
    site.run(work(client))
    site.run(work(plain))
    assert seen(wire) == seen(other)
    assert [name for name, _ in wire.replies] == [name for name, _ in other.replies]


def test_listeners_hear_in_the_order_given_and_ours_come_last(site: Site) -> None:
    heard: list[str] = []

    class Named(Wire):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def started(self, event: Any) -> None:
            heard.append(self.name)

    client = site.ours(event_listeners=[Named("first"), Named("second")])

    async def work() -> None:
        await resolved(client[site.database].c.insert_one({}))

    site.run(work())
    assert heard[:2] == ["first", "second"]


def test_a_listener_that_raises_does_not_lose_an_invalidation(
    site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    class Raising(Wire):
        def succeeded(self, event: Any) -> None:
            if event.command_name == "update":
                raise ValueError("the program's own mistake")

    client, _ = site.cached("c", event_listeners=[Raising()])
    c = client[site.database].c

    async def work() -> Any:
        await resolved(c.insert_one({"_id": 1, "n": 0}))
        await resolved(c.find_one({"_id": 1}))
        await resolved(c.update_one({"_id": 1}, {"$set": {"n": 1}}))
        return await resolved(c.find_one({"_id": 1}))

    assert site.run(work())["n"] == 1
    assert "the program's own mistake" in capfd.readouterr().err


# After closing


def test_a_closed_client_fails_as_the_driver_even_for_what_was_kept(site: Site) -> None:
    async def read(client: Any) -> Any:
        c = client[site.database].c
        await resolved(c.find_one({"_id": 1}))
        await resolved(c.find_one({"_id": 1}))
        await resolved(client.close())
        await resolved(client.close())
        return [
            await outcome(lambda: c.find_one({"_id": 1})),
            await outcome(lambda: c.count_documents({})),
            await outcome(lambda: c.insert_one({})),
        ]

    client, _ = site.cached("c")
    ours, plain = site.run(read(client)), site.run(read(site.plain()))
    assert ours == plain
    assert ours[0][0] is InvalidOperation


def test_errors_of_the_server_are_the_drivers_objects(site: Site) -> None:
    client = site.ours()
    c = client[site.database].c

    async def work() -> None:
        await resolved(c.create_index("u", unique=True))
        await resolved(c.insert_one({"u": 1}))
        with pytest.raises(DuplicateKeyError) as caught:
            await resolved(c.insert_one({"u": 1}))
        assert caught.value.details is not None
        assert caught.value.details["keyValue"] == {"u": 1}
        with pytest.raises(BulkWriteError) as bulk:
            await resolved(c.insert_many([{"u": 2}, {"u": 1}]))
        assert bulk.value.details["nInserted"] == 1
        assert bulk.value.details["writeErrors"][0]["op"]["u"] == 1
        with pytest.raises(OperationFailure):
            await resolved(c.find_one({"$nope": 1}))
        await ready(client, site.database, "c")

    site.run(work())


@pytest.mark.parametrize("namespace", [5, "", "a.", "a..b", b"a.b"])
def test_options_of_what_is_no_namespace_name_it(site: Site, namespace: Any) -> None:
    with pytest.raises(SettingsError, match=re.escape(f"options({namespace!r})")):
        site.ours().qb.options(namespace)


def test_a_key_of_distinct_that_is_no_plain_string_is_the_drivers_business(site: Site) -> None:
    client, plain = site.cached("c")[0], site.plain()

    async def work() -> None:
        ours, theirs = client[site.database].c, plain[site.database].c
        await resolved(theirs.insert_one({"a": 1}))
        for _ in range(2):
            told = await outcome(lambda: ours.distinct(Code("a")))
            assert told[:1] == (await outcome(lambda: theirs.distinct(Code("a"))))[:1]

    site.run(work())
    assert client.qb.stats().faults == {}
