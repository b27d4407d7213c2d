"""Answers from memory on the three drivers: which reads, how they look, and what ends them.

Everything is counted by the commands on the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import bson
import pymongo
import pytest
from bson import SON, CodecOptions, Int64
from bson.raw_bson import RawBSONDocument
from gridfs import GridFSBucket
from gridfs.asynchronous import AsyncGridFSBucket
from motor.motor_asyncio import AsyncIOMotorGridFSBucket
from pymongo import DeleteMany, InsertOne, ReadPreference, UpdateMany, UpdateOne, WriteConcern
from pymongo.collation import Collation
from pymongo.read_concern import ReadConcern

from qbmongo import CacheSettings, Settings
from qbmongo_tests.clients.sites import PATIENCE_S, Site, Wire, ready, resolved
from qbmongo_tests.waiting import wait_until

DOCUMENTS = [{"_id": n, "a": n % 3, "n": 0, "tags": [n, n + 1]} for n in range(10)]


def filled(site: Site, **options: Any) -> tuple[Any, Wire]:
    """A client whose reads of the collection c, of ten documents, can be kept."""
    plain = site.plain()

    async def fill() -> None:
        await resolved(plain[site.database].c.insert_many(copy.deepcopy(DOCUMENTS)))

    site.run(fill())
    return site.cached("c", **options)


async def listed(site: Site, cursor: Any) -> list[Any]:
    """A cursor's documents by the language's own loop."""
    if not site.is_async:
        return [document for document in cursor]  # noqa: C416
    cursor = await cursor if inspect.iscoroutine(cursor) else cursor
    return [document async for document in cursor]


async def all_of(cursor: Any) -> Any:
    cursor = await cursor if inspect.iscoroutine(cursor) else cursor
    return await resolved(cursor.to_list(None))


Read = Callable[[Any, Site], Any]

READS: dict[str, Read] = {
    "find_one": lambda c, s: resolved(c.find_one({"_id": 3})),
    "find_one by value": lambda c, s: resolved(c.find_one(3)),
    "find_one of nothing": lambda c, s: resolved(c.find_one({"_id": "none"})),
    "find_one with options": lambda c, s: resolved(
        c.find_one({"a": 1}, {"n": 0}, sort=[("_id", -1)], skip=1)
    ),
    "find_one with a read concern": lambda c, s: resolved(
        c.with_options(read_concern=ReadConcern("majority")).find_one({"_id": 3})
    ),
    "find to_list": lambda c, s: all_of(c.find({"a": 1})),
    "find by loop": lambda c, s: listed(s, c.find({"a": 2})),
    "find of nothing": lambda c, s: all_of(c.find({"a": 7})),
    "find in batches": lambda c, s: listed(s, c.find({}).batch_size(2)),
    "find in batches to_list": lambda c, s: all_of(c.find({"a": {"$gte": 0}}).batch_size(3)),
    "chain": lambda c, s: all_of(c.find({}).sort("_id", -1).skip(2).limit(3)),
    "limit": lambda c, s: listed(s, c.find({}).sort("_id", 1).limit(4)),
    "projection": lambda c, s: all_of(c.find({"a": 1}, {"_id": 0, "a": 1})),
    "collation": lambda c, s: all_of(c.find({"a": 1}).collation(Collation("en"))),
    "hint by name": lambda c, s: all_of(c.find({"_id": {"$gt": 5}}).hint("_id_")),
    "comment": lambda c, s: all_of(c.find({"a": 1}).comment("why")),
    "count_documents": lambda c, s: resolved(c.count_documents({"a": 1})),
    "count with options": lambda c, s: resolved(c.count_documents({}, skip=2, limit=5)),
    "distinct": lambda c, s: resolved(c.distinct("a")),
    "distinct with a filter": lambda c, s: resolved(c.distinct("tags", {"a": 1})),
    "distinct of a cursor": lambda c, s: resolved(c.find({"a": 1}).distinct("tags")),
    "aggregate": lambda c, s: all_of(
        c.aggregate([{"$group": {"_id": "$a", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}])
    ),
    "aggregate by loop": lambda c, s: listed(
        s, c.aggregate([{"$match": {"a": 1}}, {"$sort": {"_id": 1}}])
    ),
    "aggregate in batches": lambda c, s: listed(
        s, c.aggregate([{"$match": {}}, {"$sort": {"_id": 1}}], batchSize=3)
    ),
    "next": lambda c, s: by_next(c.find({"a": 0}), s),
}


async def by_next(cursor: Any, site: Site) -> list[Any]:
    found = []
    while True:
        try:
            found.append(await anext(cursor) if site.is_async else next(cursor))
        except (StopIteration, StopAsyncIteration):
            return found


@pytest.mark.parametrize("name", READS)
def test_a_repeated_read_sends_nothing_and_gives_what_the_driver_gives(
    site: Site, name: str
) -> None:
    client, wire = filled(site)
    collection, plain = client[site.database].c, site.plain()[site.database].c
    read = READS[name]

    async def call(target: Any) -> Any:
        return await read(target, site)

    expected = site.run(call(plain))
    first = site.run(call(collection))
    sent = len(wire.commands)
    assert sent >= 1
    again = site.run(call(collection))
    assert len(wire.commands) == sent, wire.counts
    assert first == again == expected
    assert type(first) is type(again) is type(expected)
    assert client.qb.stats().faults == {}


def test_motors_own_ways_through_a_cursor_are_answered_from_memory(
    server_uri: str, database_name: str
) -> None:
    site = Site("motor", server_uri, database_name)
    try:
        client, wire = filled(site)
        collection = client[site.database].c

        async def each(cursor: Any) -> list[Any]:
            done = asyncio.get_running_loop().create_future()
            seen: list[Any] = []

            def callback(result: Any, error: Any) -> None:
                if error is not None:
                    done.set_exception(error)
                elif result is None:
                    done.set_result(seen)
                else:
                    seen.append(result)

            cursor.each(callback)
            return await done

        async def fetched(cursor: Any) -> list[Any]:
            seen = []
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                while await cursor.fetch_next:
                    seen.append(cursor.next_object())
            return seen

        async def limited(cursor: Any) -> list[Any]:
            return [*await cursor.to_list(2), *await cursor.to_list(2), *await cursor.to_list(9)]

        for way in (each, fetched, limited):
            find = {"a": {"$lt": 3}, "way": {"$ne": way.__name__}}
            first = site.run(way(collection.find(find).sort("_id", 1)))
            wire.clear()
            assert site.run(way(collection.find(find).sort("_id", 1))) == first == DOCUMENTS
            assert not wire.commands, way
    finally:
        site.close()


def test_each_answer_is_a_fresh_object(site: Site) -> None:
    client, _ = filled(site)
    collection = client[site.database].c

    async def spoil() -> None:
        for _ in range(3):
            document = await resolved(collection.find_one({"_id": 3}))
            assert document == DOCUMENTS[3]
            document["tags"].append("spoilt")
            document["a"] = None
            documents = await all_of(collection.find({"a": 1}))
            assert [d["n"] for d in documents] == [0, 0, 0]
            documents[0]["n"] = 9
            values = await resolved(collection.distinct("tags", {"_id": 3}))
            assert values == [3, 4]
            values.clear()
            made = await all_of(collection.aggregate([{"$match": {"_id": 3}}]))
            assert made == [DOCUMENTS[3]]
            made[0].clear()

    site.run(spoil())


def test_clones_and_rewound_cursors_are_answered_as_the_drivers(site: Site) -> None:
    client, wire = filled(site)

    async def read(collection: Any) -> list[Any]:
        cursor = collection.find({"a": 1}).sort("_id", 1)
        first = await listed(site, cursor)
        after = (cursor.alive, cursor.retrieved if hasattr(cursor, "retrieved") else None)
        await resolved(cursor.rewind())
        second = await listed(site, cursor)
        clone = cursor.clone()
        third = await listed(site, clone)
        fourth = await listed(site, copy.copy(cursor))
        partly = collection.find({"a": 1}).sort("_id", 1)
        one = await (anext(partly) if site.is_async else just(next(partly)))
        rest = await resolved(partly.to_list(None))
        ended = await listed(site, cursor)
        return [first, after, second, third, fourth, one, rest, ended]

    expected = site.run(read(site.plain()[site.database].c))
    assert site.run(read(client[site.database].c)) == expected
    assert wire.counts == {"find": 1}
    assert site.run(read(client[site.database].c)) == expected
    assert wire.counts == {"find": 1}


async def just(value: Any) -> Any:
    return value


def test_a_cursor_that_is_left_keeps_nothing_and_holds_nothing_up(site: Site) -> None:
    client, wire = filled(site)
    collection = client[site.database].c

    async def left() -> None:
        cursor = collection.find({}).batch_size(2).sort("_id", 1)
        await (anext(cursor) if site.is_async else just(next(cursor)))
        await resolved(cursor.close())
        dropped = collection.find({}).batch_size(2).sort("_id", 1)
        await (anext(dropped) if site.is_async else just(next(dropped)))
        del dropped

    site.run(left())
    engine = client._qb.engine
    # A thread of Motor's may hold the cursor for a moment longer.
    assert wait_until(lambda: gc.collect() >= 0 and (engine.dropped or not engine.cache.fills_open))
    wire.clear()
    assert len(site.run(all_of(collection.find({}).batch_size(2).sort("_id", 1)))) == 10
    assert wire.counts["find"] == 1
    assert engine.cache.fills_open == 0


def test_a_loop_whose_body_asks_for_the_same_read_goes_on(site: Site) -> None:
    client, _ = filled(site)
    collection = client[site.database].c

    async def nested() -> int:
        count = 0
        cursor = collection.find({}).sort("_id", 1).batch_size(3)
        await resolved(cursor.to_list(None))
        client.qb.clear()
        await ready(client, site.database, "c")
        await resolved(cursor.rewind())
        if site.is_async:
            async for _ in cursor:
                count += len(await all_of(collection.find({}).sort("_id", 1).batch_size(3)))
        else:
            for _ in cursor:
                count += len(await all_of(collection.find({}).sort("_id", 1).batch_size(3)))
        return count

    assert site.run(nested()) == 100


def test_one_entry_serves_every_codec(site: Site) -> None:
    client, wire = filled(site)
    plain, son = (
        client[site.database].c,
        client[site.database].c.with_options(CodecOptions(document_class=SON)),
    )
    raw = plain.with_options(CodecOptions(document_class=RawBSONDocument))

    async def read() -> list[Any]:
        return [await resolved(c.find_one({"_id": 1})) for c in (plain, son, raw)]

    one, two, three = site.run(read())
    assert wire.counts == {"find": 1}
    assert type(one) is dict
    assert type(two) is SON
    assert type(three) is RawBSONDocument
    assert one == dict(two) == bson.decode(three.raw)


def test_reads_that_differ_never_share_an_answer(site: Site) -> None:
    client, _ = filled(site)
    plain = site.plain()

    async def prepare() -> None:
        await resolved(plain[site.database].c.insert_one({"_id": True, "x": {"a": 1, "b": 2}}))

    site.run(prepare())

    async def read(collection: Any) -> list[Any]:
        return [
            await all_of(collection.find({"_id": 1})),
            await all_of(collection.find({"_id": True})),
            await all_of(collection.find({"_id": 1.0})),
            await all_of(collection.find({"_id": Int64(1)})),
            await all_of(collection.find({"x": {"a": 1, "b": 2}})),
            await all_of(collection.find({"x": {"b": 2, "a": 1}})),
            await all_of(collection.find({"a": 1}, {"n": 1})),
            await all_of(collection.find({"a": 1}, {"a": 1})),
            await all_of(collection.find({"a": 1}).limit(1)),
            await all_of(collection.find({"a": 1}).skip(1)),
            await all_of(collection.find({"a": 1}).sort("_id", -1)),
            await all_of(collection.find({"a": 1}).sort([("a", 1), ("_id", -1)])),
            await resolved(collection.find_one({"a": 1}, sort=[("_id", -1)])),
            await resolved(collection.count_documents({"a": 1})),
            await resolved(collection.count_documents({"a": 1}, limit=2)),
            await resolved(collection.distinct("_id", {"a": 1})),
            await resolved(collection.distinct("a", {"a": 1})),
        ]

    expected = site.run(read(plain[site.database].c))
    for _ in range(2):
        assert site.run(read(client[site.database].c)) == expected


# What is not answered from memory, and why


async def explained(c: Any) -> None:
    await resolved(c.find({"a": 1}).explain())


async def with_session(c: Any) -> None:
    session = await resolved(c.database.client.start_session())
    await resolved(c.find_one({"_id": 1}, session=session))
    await resolved(session.end_session())


async def count_with_session(c: Any) -> None:
    session = await resolved(c.database.client.start_session())
    await resolved(c.count_documents({}, session=session))
    await resolved(session.end_session())


async def with_bound_session(c: Any) -> None:
    session = await resolved(c.database.client.start_session())
    if not hasattr(session, "bind"):
        pytest.skip("this driver has no ClientSession.bind")
    if inspect.iscoroutinefunction(c.insert_one):
        async with session.bind():
            await resolved(c.find_one({"_id": 1}))
    else:
        with session.bind():
            await resolved(c.find_one({"_id": 1}))
    await resolved(session.end_session())


async def not_cached(c: Any) -> None:
    with c.database.client.qb.uncached():
        await resolved(c.find_one({"_id": 1}))
        await resolved(c.count_documents({}))


BYPASSED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "session": ("session", with_session),
    "session of a count": ("session", count_with_session),
    "bound session": ("session", with_bound_session),
    "explain": ("explain", explained),
    "uncached()": ("uncached", not_cached),
    "exhaust": (
        "cursor_type",
        lambda c: all_of(c.find({"a": 1}, cursor_type=pymongo.CursorType.EXHAUST)),
    ),
    "no cursor timeout": ("cursor_type", lambda c: all_of(c.find({}, no_cursor_timeout=True))),
    "read preference": (
        "read_preference",
        lambda c: resolved(
            c.with_options(read_preference=ReadPreference.PRIMARY_PREFERRED).find_one({"_id": 1})
        ),
    ),
    "read concern": (
        "read_concern",
        lambda c: resolved(
            c.with_options(read_concern=ReadConcern("linearizable")).find_one({"_id": 1})
        ),
    ),
    "$where": ("where", lambda c: resolved(c.find_one({"$where": "true"}))),
    "$rand": ("rand", lambda c: all_of(c.find({"$expr": {"$lt": [{"$rand": {}}, 2]}}))),
    "$sample": ("sample", lambda c: all_of(c.aggregate([{"$sample": {"size": 1}}]))),
    "estimate": ("estimate", lambda c: resolved(c.estimated_document_count())),
    "hint by keys of a count": (
        "hint",
        lambda c: resolved(c.count_documents({}, hint=[("_id", 1)])),
    ),
    "a count with a number of another type": (
        "arguments",
        lambda c: resolved(c.count_documents({}, skip=Int64(1))),
    ),
    "let of an aggregate": (
        "let",
        lambda c: all_of(c.aggregate([{"$match": {}}], let={"x": 1})),
    ),
}


@pytest.mark.filterwarnings("ignore:use an explicit session with no_cursor_timeout")
@pytest.mark.parametrize("case", BYPASSED)
def test_what_is_not_cached_goes_to_the_server_and_its_reason_is_counted(
    site: Site, case: str
) -> None:
    reason, read = BYPASSED[case]
    client, wire = filled(site)
    collection = client[site.database].c

    async def warm() -> None:
        await resolved(collection.find_one({"_id": 1}))
        await resolved(collection.count_documents({}))

    site.run(warm())

    async def call() -> None:
        with contextlib.suppress(pymongo.errors.OperationFailure):  # not every server can do all
            await resolved(read(collection))

    before = client.qb.stats().cache
    for _ in range(2):
        wire.clear()
        site.run(call())
        assert sum(wire.counts.values()) >= 1
    after = client.qb.stats().cache
    assert after.bypassed.get(reason, 0) - before.bypassed.get(reason, 0) >= 2, after.bypassed
    assert after.hits == before.hits


def test_a_call_under_a_timeout_is_answered_from_memory_but_leads_and_joins_nothing(
    site: Site,
) -> None:
    client, wire = filled(site)
    collection = client[site.database].c

    async def read() -> Any:
        with pymongo.timeout(30):
            return await resolved(collection.find_one({"_id": 1}))

    flights = client._qb.engine.cache._flights
    seen: list[int] = []
    original = client._qb.engine.cache.begin

    def begin(*args: Any, **options: Any) -> Any:
        seen.append(options["share"])
        return original(*args, **options)

    client._qb.engine.cache.begin = begin
    site.run(read())
    assert seen == [False]
    assert not flights
    assert site.run(read())["_id"] == 1
    assert wire.counts == {"find": 1}


def test_settings_of_a_collection_hold_at_once_for_objects_that_exist(site: Site) -> None:
    client, wire = filled(site)
    collection = client[site.database].c
    namespace = f"{site.database}.c"

    async def read() -> None:
        await resolved(collection.find_one({"_id": 1}))

    site.run(read())
    wire.clear()
    client.qb.options(namespace, cache=None)
    site.run(read())
    assert wire.counts == {"find": 1}
    client.qb.options(namespace, cache=client.qb.settings.cache)
    wire.clear()
    site.run(read())
    site.run(read())
    assert wire.counts["find"] <= 1


def test_without_the_cache_nothing_listens_and_nothing_is_kept(site: Site) -> None:
    wire = Wire()
    client = site.ours(Settings(cache=None), event_listeners=[wire])

    async def read() -> None:
        for _ in range(3):
            await resolved(client[site.database].c.find_one({"_id": 1}))

    site.run(read())
    assert wire.counts == {"find": 3}
    assert client.qb.stats().cache is None


def test_a_larger_answer_than_allowed_is_not_kept(site: Site) -> None:
    settings = Settings(cache=CacheSettings(lease_s=60.0, max_result_bytes=100))
    client, wire = filled(site, settings=settings)
    collection = client[site.database].c

    async def read() -> None:
        await resolved(collection.find_one({"_id": 1}))
        await all_of(collection.find({}))

    site.run(read())
    wire.clear()
    site.run(read())
    assert wire.counts == {"find": 1}


# Own writes, sent in every way


Way = Callable[[Any, Any], Any]


async def in_transaction(c: Any, client: Any) -> None:
    session = await resolved(client.start_session())

    async def body(s: Any) -> None:
        await resolved(c.update_one({"_id": 1}, {"$set": {"n": 1}}, session=s))

    if inspect.iscoroutinefunction(c.insert_one) or hasattr(session, "delegate"):
        await session.with_transaction(body)
    else:
        session.with_transaction(lambda s: c.update_one({"_id": 1}, {"$set": {"n": 1}}, session=s))
    await resolved(session.end_session())


async def replaced_by_rename(c: Any, client: Any) -> None:
    other = c.database["other"]
    await resolved(other.insert_one({"_id": 1, "a": 1, "n": 1}))
    await resolved(other.rename(c.name, dropTarget=True))


WAYS: dict[str, Way] = {
    "update_one": lambda c, _: resolved(c.update_one({"_id": 1}, {"$set": {"n": 1}})),
    "update_one by filter": lambda c, _: resolved(c.update_one({"a": 1}, {"$set": {"n": 1}})),
    "update_one by pipeline": lambda c, _: resolved(c.update_one({"_id": 1}, [{"$set": {"n": 1}}])),
    "update_many": lambda c, _: resolved(c.update_many({}, {"$inc": {"n": 1}})),
    "replace_one": lambda c, _: resolved(c.replace_one({"_id": 1}, {"a": 1, "n": 1})),
    "delete_one": lambda c, _: resolved(c.delete_one({"_id": 1})),
    "delete_many": lambda c, _: resolved(c.delete_many({"a": 1})),
    "insert_one": lambda c, _: resolved(c.insert_one({"_id": 100, "a": 1})),
    "insert_many": lambda c, _: resolved(c.insert_many([{"_id": 100, "a": 1}])),
    "upsert": lambda c, _: resolved(c.update_one({"_id": 100}, {"$set": {"a": 1}}, upsert=True)),
    "bulk_write": lambda c, _: resolved(
        c.bulk_write([UpdateOne({"_id": 1}, {"$set": {"n": 1}}), InsertOne({"a": 1})])
    ),
    "bulk_write of many": lambda c, _: resolved(
        c.bulk_write([UpdateMany({}, {"$set": {"n": 1}}), DeleteMany({"_id": 4})])
    ),
    "client bulk_write": lambda c, client: resolved(
        client.bulk_write([UpdateOne({"_id": 1}, {"$set": {"n": 1}}, namespace=c.full_name)])
    ),
    "find_one_and_update": lambda c, _: resolved(
        c.find_one_and_update({"_id": 1}, {"$set": {"n": 1}})
    ),
    "find_one_and_replace": lambda c, _: resolved(
        c.find_one_and_replace({"_id": 1}, {"a": 1, "n": 1})
    ),
    "find_one_and_delete": lambda c, _: resolved(c.find_one_and_delete({"_id": 1})),
    "$out": lambda c, _: all_of(c.aggregate([{"$set": {"n": 1}}, {"$out": c.name}])),
    "$merge": lambda c, _: all_of(c.aggregate([{"$set": {"n": 1}}, {"$merge": {"into": c.name}}])),
    "raw command": lambda c, _: resolved(
        c.database.command(
            {"update": c.name, "updates": [{"q": {"_id": 1}, "u": {"$set": {"n": 1}}}]}
        )
    ),
    "raw command as SON": lambda c, _: resolved(
        c.database.command(SON([("delete", c.name), ("deletes", [{"q": {}, "limit": 0}])]))
    ),
    "transaction": in_transaction,
    "drop": lambda c, _: resolved(c.drop()),
    "drop_collection": lambda c, _: resolved(c.database.drop_collection(c)),
    "drop_database": lambda c, client: resolved(client.drop_database(c.database)),
    "rename away": lambda c, _: resolved(c.rename("elsewhere")),
    "rename over": replaced_by_rename,
}


@pytest.mark.parametrize("way", WAYS)
def test_the_next_read_sees_an_own_write_sent_in_any_way(site: Site, way: str) -> None:
    client, _ = filled(site)
    collection = client[site.database].c
    plain = site.plain()[site.database].c

    async def reads(c: Any) -> list[Any]:
        return [
            await resolved(c.find_one({"_id": 1})),
            sorted(await all_of(c.find({"a": 1})), key=repr),
            await resolved(c.count_documents({})),
            await resolved(c.count_documents({"a": 1})),
            sorted(await resolved(c.distinct("n"))),
            await all_of(c.find({}).sort("_id", -1).limit(2)),
            await all_of(c.aggregate([{"$group": {"_id": None, "n": {"$sum": "$n"}}}])),
        ]

    async def act() -> list[Any]:
        before = await reads(collection)
        assert await reads(collection) == before
        await WAYS[way](collection, client)
        return [before, await reads(collection), await reads(collection)]

    before, after, again = site.run(act())
    expected = site.run(reads(plain))
    assert after == again == expected
    assert after != before
    assert client.qb.stats().faults == {}


def test_gridfs_writes_are_seen_by_the_next_read(site: Site) -> None:
    client, _ = site.cached("fs.files", "fs.chunks")
    database = client[site.database]
    cls = {"sync": GridFSBucket, "async": AsyncGridFSBucket, "motor": AsyncIOMotorGridFSBucket}

    async def work() -> None:
        bucket: Any = cls[site.name](database)
        assert await resolved(database["fs.files"].count_documents({})) == 0
        identifier = await resolved(bucket.upload_from_stream("f", b"x" * 1000))
        assert await resolved(database["fs.files"].count_documents({})) == 1
        assert (await resolved(database["fs.files"].find_one({})))["filename"] == "f"
        await resolved(bucket.rename(identifier, "g"))
        assert (await resolved(database["fs.files"].find_one({})))["filename"] == "g"
        await resolved(bucket.delete(identifier))
        assert await resolved(database["fs.files"].find_one({})) is None

    site.run(work())


def test_an_unacknowledged_write_drops_what_it_may_touch(site: Site) -> None:
    client, _ = filled(site)
    collection = client[site.database].c
    unacknowledged = collection.with_options(write_concern=WriteConcern(w=0))

    async def work() -> Any:
        await resolved(collection.find_one({"_id": 1}))
        await resolved(unacknowledged.update_one({"_id": 1}, {"$set": {"n": 1}}))
        await resolved(client.qb.caught_up(PATIENCE_S))
        return await resolved(collection.find_one({"_id": 1}))

    assert site.run(work())["n"] == 1


def test_a_failed_write_may_have_written_and_drops_too(site: Site) -> None:
    client, _ = filled(site)
    collection = client[site.database].c

    async def work() -> list[Any]:
        before = await resolved(collection.count_documents({}))
        with pytest.raises(pymongo.errors.BulkWriteError):
            await resolved(collection.insert_many([{"_id": 50}, {"_id": 1}]))
        return [before, await resolved(collection.count_documents({}))]

    assert site.run(work()) == [10, 11]


def test_another_clients_write_is_seen_once_caught_up(site: Site) -> None:
    client, _ = filled(site)
    collection, other = client[site.database].c, site.plain()[site.database].c

    async def work() -> Any:
        await resolved(collection.find_one({"_id": 1}))
        await resolved(other.update_one({"_id": 1}, {"$set": {"n": 5}}))
        await resolved(client.qb.caught_up(PATIENCE_S))
        return await resolved(collection.find_one({"_id": 1}))

    assert site.run(work())["n"] == 5


def test_clear_forgets_everything(site: Site) -> None:
    client, wire = filled(site)
    collection = client[site.database].c

    async def read() -> None:
        await resolved(collection.find_one({"_id": 1}))

    site.run(read())
    assert client.qb.stats().cache.entries > 0
    client.qb.clear()
    assert client.qb.stats().cache.entries == 0
    wire.clear()
    site.run(read())
    assert wire.counts == {"find": 1}
