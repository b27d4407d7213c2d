"""find_one by a key from many callers is one find, and each gets what it would have got alone."""

from __future__ import annotations

import asyncio
import gc
import random
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import bson
import pymongo
import pytest
from bson import SON, Binary, Decimal128, Int64, MaxKey, ObjectId, Regex, Timestamp
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument
from pymongo.errors import AutoReconnect, OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import SecondaryPreferred

from qbmongo import BatchSettings, ProfileSettings, Settings
from qbmongo.clients import sync_point_reads
from qbmongo.core.batching import PlainBatch
from qbmongo.core.cache import Cache
from qbmongo.core.fills import PointFill
from qbmongo.core.joined_finds import JoinedFind
from qbmongo.records import Gathered
from qbmongo_tests.clients.callers import Callers, just, until
from qbmongo_tests.clients.joined_reads import JoinedReads, batched
from qbmongo_tests.clients.sites import Site, resolved
from qbmongo_tests.faults import Answer, CloseBefore, DropReply
from qbmongo_tests.waiting import wait_until

NUMBERED = [{"_id": n, "v": f"value {n}", "k": n * 10} for n in range(20)]


@pytest.fixture(params=[False, True], ids=["uncached", "cached"])
def cached(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=["async", "motor"])
def cancellable(
    request: pytest.FixtureRequest, server_uri: str, database_name: str
) -> Iterator[Site]:
    """A site of a driver whose calls can be cancelled."""
    place = Site(request.param, server_uri, database_name)
    yield place
    place.close()


def by_id(collection: Any, *values: Any, args: Any = ()) -> list[Callable[[], Any]]:
    return [lambda v=v: collection.find_one({"_id": v}, *args) for v in values]


async def alone(collection: Any, *filters: Any, args: Any = ()) -> list[Any]:
    """What the plain driver's calls return or raise, one after another."""
    results = []
    for filter in filters:
        try:
            results.append(await resolved(collection.find_one(filter, *args)))
        except Exception as error:
            results.append(error)
    return results


# One command


def test_many_reads_are_one_find(site: Site, cached: bool) -> None:
    reads = JoinedReads(site, NUMBERED, cached=cached)
    before = reads.stats

    async def work() -> None:
        wanted = [*range(15), 99]
        results = await reads.together(by_id(reads.collection, *wanted))
        assert results == [*NUMBERED[:15], None]
        (find,) = reads.finds
        assert find["filter"] == {"_id": {"$in": wanted}}
        assert reads.wire.counts == {"find": 1}
        stats = reads.stats
        assert (stats.batches, stats.gathered, stats.joined) == (1, 16, 16)
        assert stats.sizes == {16: 1}
        assert stats.direct == before.direct + 1
        assert (stats.pending, stats.fallbacks) == (0, {})
        await until(lambda: reads.stats.in_flight == 0, site)
        assert client_faults(reads) == {}
        if cached:
            reads.wire.clear()
            for number in wanted:
                await resolved(reads.collection.find_one({"_id": number}))
            assert reads.wire.counts == {}
            assert reads.client._qb.engine.cache.fills_open == 0

    site.run(work())


def client_faults(reads: JoinedReads) -> Any:
    return reads.client.qb.stats().faults


def test_so_many_ids_travel_in_one_find(site: Site) -> None:
    part = BatchSettings(max_in_flight=1, max_batch_ids=4, max_joined_ms=60_000)
    reads = JoinedReads(site, NUMBERED, settings=batched(part))

    async def work() -> None:
        assert await reads.together(by_id(reads.collection, *range(10))) == NUMBERED[:10]
        sizes = sorted(len(find["filter"]["_id"]["$in"]) for find in reads.finds)
        assert sizes == [2, 4, 4]

    site.run(work())


def test_lone_reads_are_the_drivers_own_call(site: Site, cached: bool) -> None:
    reads = JoinedReads(site, NUMBERED, cached=cached)

    async def work() -> None:
        for number in range(5):
            found = await resolved(reads.collection.find_one({"_id": number}))
            assert found == NUMBERED[number]
        assert [f["filter"] for f in reads.finds] == [{"_id": n} for n in range(5)]
        assert reads.stats.batches == 0

    site.run(work())


def test_different_kinds_do_not_travel_together(site: Site) -> None:
    reads = JoinedReads(site, NUMBERED)
    collection = reads.collection
    majority = collection.with_options(read_concern=ReadConcern("majority"))
    tz_aware = collection.with_options(codec_options=CodecOptions(tz_aware=True))

    async def work() -> None:
        callers = Callers(site)
        gates = [
            await reads.hold(callers, collection),
            await reads.hold(callers, collection, "_id", {"v": 1}),
            await reads.hold(callers, majority),
            await reads.hold(callers, tz_aware),
        ]
        await reads.gather(
            callers,
            [
                *by_id(collection, 1, 2),
                *by_id(collection, 3, 4, args=[{"v": 1}]),
                *by_id(collection, 5, args=[["v"]]),
                *by_id(majority, 6, 7),
                *by_id(tz_aware, 8, 9),
            ],
        )
        reads.wire.clear()
        for gate in gates:
            gate.release()
        results = (await callers.results())[4:]
        shown = [{"_id": n, "v": NUMBERED[n]["v"]} for n in (3, 4, 5)]
        assert results == [*NUMBERED[1:3], *shown, *NUMBERED[6:10]]
        sent = sorted(
            (f["filter"]["_id"]["$in"], f.get("projection"), f.get("readConcern"))
            for f in reads.finds
        )
        assert sent == [
            ([1, 2], None, None),
            ([3, 4, 5], {"v": 1}, None),
            ([6, 7], None, {"level": "majority"}),
            ([8, 9], None, None),
        ]

    site.run(work())


def test_callers_of_one_id_each_have_their_own_document(site: Site, cached: bool) -> None:
    reads = JoinedReads(site, NUMBERED, cached=cached)

    async def work() -> None:
        values = [5, 5.0, Int64(5), Decimal128("5.00"), 5]
        # With the cache the last one waits for the first one's flight.
        pending = 4 if cached else 5
        results = await reads.together(by_id(reads.collection, *values), pending=pending)
        assert results == [NUMBERED[5]] * 5
        assert len({id(result) for result in results}) == 5
        (find,) = reads.finds
        assert find["filter"] == {"_id": {"$in": [5]}}

    site.run(work())


# What a single call would return


MIXED: list[Any] = [
    *(5, 2.5, Int64(2**40), Decimal128("7.10"), -0.0, float("inf"), True, False),
    *("a", "A", "", "ä", "a\u0308", "x" * 400, b"a", Binary(b"c", 5), Binary(b"d", 128)),
    *(ObjectId(b"1" * 12), datetime(2024, 5, 1, 1, 2, 3), Timestamp(7, 1)),
    *({}, {"a": 1}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": "x", "l": [1, None, {"z": 2.0}]}),
    Binary.from_uuid(uuid.UUID(int=77)),
]
ABSENT: list[Any] = [
    *(6, 2.25, 1, 0.5, "b", "aa", b"b", ObjectId(b"2" * 12), Timestamp(7, 2), {"a": 2}),
    *({"a": 1.5}, datetime(2024, 5, 1), Decimal128("7.11"), {"a": {"$b": 1}}),
]
# Asked for otherwise than stored, or not by equality alone.
OTHERWISE: list[Any] = [
    *(5.0, Decimal128("5"), 2**40, 7, 0, Decimal128("-0"), {"a": 1.0}, float("nan"), None),
    *([1], Regex("^a"), re.compile("b"), {"$gt": 5}, {"$in": ["a", 5]}, {"$exists": True}),
    *(SON([("a", 1)]), {"a": [1]}, MaxKey(), {"$eq": "a"}),
]


def test_every_type_of_id_as_the_plain_driver_finds_it(site: Site, cached: bool) -> None:
    documents = [{"_id": value, "n": n} for n, value in enumerate(MIXED)]
    reads = JoinedReads(site, documents, cached=cached)

    async def work() -> None:
        asked = [*MIXED, *ABSENT, *OTHERWISE] * 2
        random.Random(1).shuffle(asked)
        expected = await alone(reads.plain, *({"_id": value} for value in asked))
        callers = Callers(site)
        gate = await reads.hold(callers, reads.collection)
        for call in by_id(reads.collection, *asked):
            callers.start(call)
        await until(lambda: reads.stats.pending > len(MIXED), site)
        gate.release()
        results = (await callers.results())[1:]
        for value, result, wanted in zip(asked, results, expected, strict=True):
            assert result == wanted or _same_error(result, wanted), value
        assert reads.stats.joined > len(MIXED)
        assert client_faults(reads) == {}

    site.run(work())


def _same_error(ours: Any, drivers: Any) -> bool:
    return isinstance(drivers, Exception) and type(ours) is type(drivers)


def test_a_uuid_is_asked_for_as_the_codec_sends_it(site: Site) -> None:
    identity = uuid.UUID(int=7)
    kinds = (UuidRepresentation.STANDARD, UuidRepresentation.JAVA_LEGACY)
    documents = [{"_id": Binary.from_uuid(identity, kind), "kind": kind} for kind in kinds]
    reads = JoinedReads(site, documents)

    async def work() -> None:
        for kind in kinds:
            codec: CodecOptions[Any] = CodecOptions(uuid_representation=kind)
            collection = reads.collection.with_options(codec_options=codec)
            calls = by_id(collection, identity, uuid.UUID(int=8))
            found, absent = await reads.together(calls, collection=collection)
            assert found == {"_id": identity, "kind": kind}
            assert absent is None
            assert len(reads.finds) == 1

    site.run(work())


SHOWING: list[Any] = [
    *({"v": 1}, {"v": 0}, ["v", "k"], {"_id": 1}, {"k": True, "_id": True}, {"v": 1.0}, None),
]
HIDING: list[Any] = [
    *({"_id": 0}, {"v": 1, "_id": 0}, {"w": "$_id"}, {"v": {"$substr": ["$v", 0, 2]}}, {"v": "x"}),
]


def test_projections_that_show_the_key(site: Site) -> None:
    reads = JoinedReads(site, NUMBERED)

    async def work() -> None:
        for projection in SHOWING:
            wanted = [1, 2, 3, 99]
            calls = by_id(reads.collection, *wanted, args=[projection])
            results = await reads.together(calls, args=[projection])
            filters = [{"_id": n} for n in wanted]
            expected = await alone(reads.plain, *filters, args=[projection])
            assert [r and list(r.items()) for r in results] == [
                e and list(e.items()) for e in expected
            ]
            assert len(reads.finds) == 1, projection

    site.run(work())


def test_projections_that_do_not_show_the_key_go_alone(site: Site) -> None:
    reads = JoinedReads(site, NUMBERED)

    async def work() -> None:
        for count, projection in enumerate(HIDING):
            calls = by_id(reads.collection, 1, 2, 99, args=[projection])
            results = await reads.together(calls, pending=0, args=[projection])
            filters = [{"_id": n} for n in (1, 2, 99)]
            assert results == await alone(reads.plain, *filters, args=[projection])
            assert reads.stats.refused["projection"] == 3 * (count + 1)

    site.run(work())


class _Shouted(TypeDecoder):
    """Strings as the program wants them; one of them it cannot read."""

    bson_type = str

    def transform_bson(self, value: Any) -> Any:
        if value == "value 3":
            raise ValueError("not to be read")
        return value.upper()


def test_each_answer_is_decoded_by_the_callers_codec(site: Site, cached: bool) -> None:
    date = datetime(2024, 5, 1, tzinfo=timezone.utc)
    documents = [{"_id": n, "d": date, "s": {"a": 1}} for n in range(3)]
    reads = JoinedReads(site, documents, cached=cached)
    codecs: list[CodecOptions[Any]] = [
        CodecOptions(document_class=RawBSONDocument),
        CodecOptions(document_class=SON),
        CodecOptions(tz_aware=True, tzinfo=timezone.utc),
    ]

    async def work() -> None:
        for codec in codecs:
            reads.client.qb.clear()
            ours = reads.collection.with_options(codec_options=codec)
            plain = reads.plain.with_options(codec_options=codec)
            results = await reads.together(by_id(ours, 0, 1, 2, 3), collection=ours)
            expected = await alone(plain, *({"_id": n} for n in range(4)))
            assert results == expected
            assert list(map(type, results)) == list(map(type, expected))
            assert type(results[0]["d"]) is type(expected[0]["d"])
            assert type(results[0]["s"]) is type(expected[0]["s"])

    site.run(work())


def test_what_a_decoder_raises_is_its_own_callers(site: Site) -> None:
    reads = JoinedReads(site, NUMBERED)
    codec: CodecOptions[Any] = CodecOptions(type_registry=TypeRegistry([_Shouted()]))
    ours = reads.collection.with_options(codec_options=codec)
    plain = reads.plain.with_options(codec_options=codec)

    async def work() -> None:
        results = await reads.together(by_id(ours, 1, 2, 3, 4), collection=ours)
        expected = await alone(plain, *({"_id": n} for n in (1, 2, 3, 4)))
        assert results[0] == expected[0] == {**NUMBERED[1], "v": "VALUE 1"}
        assert (results[1], results[3]) == (expected[1], expected[3])
        assert type(results[2]) is type(expected[2])
        assert str(results[2]) == str(expected[2])
        assert reads.stats.fallbacks == {"decode": 1}

    site.run(work())


def test_strings_that_are_no_utf8(site: Site) -> None:
    """The proxy answers, because a server may refuse to store them."""
    reads = JoinedReads(site)
    good = {"_id": 1, "s": "xy"}
    broken = RawBSONDocument(bson.encode({"_id": 7, "s": "xy"}).replace(b"xy", b"\xff\xfe"))
    lenient: CodecOptions[Any] = CodecOptions(unicode_decode_error_handler="replace")

    def answers(*documents: Any) -> Answer:
        cursor = {"id": 0, "ns": f"{site.database}.c", "firstBatch": list(documents)}
        return Answer({"ok": 1.0, "cursor": cursor})

    async def work() -> None:
        site.proxy.on(
            "find", answers(good, broken), times=2, when=lambda c: "$in" in str(c.document())
        )
        site.proxy.on("find", answers(broken), when=lambda c: c.document()["filter"] == {"_id": 7})
        found, error = await reads.together(by_id(reads.collection, 1, 7))
        assert found == good
        assert isinstance(error, InvalidBSON)
        assert reads.stats.fallbacks == {"decode": 1}
        collection = reads.collection.with_options(codec_options=lenient)
        found, replaced = await reads.together(by_id(collection, 1, 7), collection=collection)
        assert found == good
        assert replaced == {"_id": 7, "s": "\ufffd\ufffd"}

    site.run(work())


# What is not exact


def test_a_collation_that_nobody_told_of(site: Site, cached: bool) -> None:
    """Without the cache its facts are not known: answers that it could blur are asked for again."""
    plain = site.plain()[site.database]
    documents = [{"_id": value, "n": n} for n, value in enumerate(("a", "B", 5, {"k": "x"}, "é"))]

    async def create() -> None:
        collation = {"locale": "en", "strength": 1}
        await resolved(plain.create_collection("c", collation=collation))

    site.run(create())
    reads = JoinedReads(site, documents, cached=cached)

    async def work() -> None:
        asked = ["a", "A", "b", "B", 5, 5.0, {"k": "X"}, {"k": "x"}, "e", "q", 6]
        strings = sum(not isinstance(value, (int, float)) for value in asked)
        pending = len(asked) - strings if cached else len(asked)
        calls = by_id(reads.collection, *asked)
        results = await reads.together(calls, pending=pending)
        expected = await alone(reads.plain, *({"_id": value} for value in asked))
        assert results == expected
        assert [r and r["n"] for r in results] == [0, 0, 1, 1, 2, 2, 3, 3, 4, None, None]
        if cached:
            assert reads.stats.refused["collation"] == strings
        else:
            assert reads.stats.fallbacks["doubtful"] > 0

    site.run(work())


def test_keys_of_a_unique_index(site: Site) -> None:
    plain = site.plain()[site.database].c

    async def create() -> None:
        await resolved(plain.create_index("k", unique=True))
        await resolved(plain.create_index("s", unique=True, sparse=True))
        await resolved(plain.create_index("plain"))

    site.run(create())
    documents: list[Any] = [{"_id": n, "k": n * 10, "s": n, "plain": n} for n in range(5)]
    documents += [{"_id": 5, "k": [70, 80], "s": 90}, {"_id": 6, "k": {"a": 1}, "s": 91}]
    reads = JoinedReads(site, documents, cached=True)

    async def work() -> None:
        # One document for two callers, under an index of each element.
        asked: list[Any] = [0, 10.0, 70, 80, {"a": 1}, 99, [70, 80], None]
        calls = [lambda v=v: reads.collection.find_one({"k": v}) for v in asked]
        results = await reads.together(calls, pending=6, path="k")
        expected = await alone(reads.plain, *({"k": value} for value in asked))
        assert results == expected
        assert [r and r["_id"] for r in results] == [0, 1, 5, 5, 6, None, 5, None]
        joined = [f for f in reads.finds if "$in" in str(f["filter"])]
        assert [f["filter"] for f in joined] == [{"k": {"$in": [0, 10.0, 70, 80, {"a": 1}, 99]}}]
        assert reads.stats.fallbacks == {"doubtful": 3}
        before = reads.stats.refused.get("key", 0)
        for path in ("s", "plain", "v"):
            await resolved(reads.collection.find_one({path: 1}))
        assert reads.stats.refused["key"] == before + 3

    site.run(work())


def test_a_view_is_asked_alone_where_that_is_known(site: Site, cached: bool) -> None:
    """And where it is not, whoever could have another document asks again."""
    plain = site.plain()[site.database]
    rows = [{"_id": n, "key": key} for n, key in enumerate((1, [1, 2], "a", 3))]

    async def create() -> None:
        await resolved(plain.o.insert_many(rows))
        stage = {"$project": {"_id": "$key", "n": "$_id"}}
        await resolved(plain.create_collection("c", viewOn="o", pipeline=[stage]))

    site.run(create())
    reads = JoinedReads(site, settings=batched())

    async def work() -> None:
        results = await reads.together(by_id(reads.collection, 1, 2, "a", 3, 4))
        expected = await alone(reads.plain, *({"_id": value} for value in (1, 2, "a", 3, 4)))
        assert results[1:] == expected[1:]
        assert results[0] in ({"_id": 1, "n": 0}, {"_id": [1, 2], "n": 1})

    site.run(work())


NOT_JOINED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "sort": ("arguments", lambda c: c.find_one({"_id": 1}, sort=[("_id", 1)])),
    "skip": ("arguments", lambda c: c.find_one({"_id": 1}, None, 0)),
    "hint": ("arguments", lambda c: c.find_one({"_id": 1}, hint="_id_")),
    "max_time_ms": ("arguments", lambda c: c.find_one({"_id": 1}, max_time_ms=10_000)),
    "comment": ("arguments", lambda c: c.find_one({"_id": 1}, comment="x")),
    "collation": ("arguments", lambda c: c.find_one({"_id": 1}, collation={"locale": "fr"})),
    "show_record_id": ("arguments", lambda c: c.find_one({"_id": 1}, show_record_id=False)),
    "two fields": ("filter", lambda c: c.find_one({"_id": 1, "v": "value 1"})),
    "no filter": ("filter", lambda c: c.find_one()),
    "a mapping": ("filter", lambda c: c.find_one(SON(_id=1))),
    "another field": ("key", lambda c: c.find_one({"v": "value 1"})),
    "an operator": ("key", lambda c: c.find_one({"$or": [{"_id": 1}]})),
    "a condition": ("operators", lambda c: c.find_one({"_id": {"$gte": 1, "$lt": 2}})),
    "a pattern": ("type", lambda c: c.find_one({"_id": re.compile("^1")})),
    "a projection of nothing": ("projection", lambda c: c.find_one({"_id": 1}, [])),
}


def test_calls_that_ask_for_more_go_alone(site: Site) -> None:
    reads = JoinedReads(site, NUMBERED)

    async def work() -> None:
        for reason, call in NOT_JOINED.values():
            refused = reads.stats.refused.get(reason, 0)
            (result,) = await reads.together([lambda c=call: c(reads.collection)], pending=0)
            assert result == await resolved(call(reads.plain))
            assert reads.stats.refused[reason] == refused + 1
        assert reads.stats.batches == 0

    site.run(work())


def test_sessions_timeouts_and_other_members_go_alone(site: Site) -> None:
    reads = JoinedReads(site, NUMBERED)
    secondary = reads.collection.with_options(read_preference=SecondaryPreferred())

    async def work() -> None:
        callers = Callers(site)
        gate = await reads.hold(callers, reads.collection)
        session = await resolved(reads.client.start_session())
        found = await resolved(reads.collection.find_one({"_id": 1}, session=session))
        assert found == NUMBERED[1]
        await resolved(session.end_session())
        with pymongo.timeout(20):
            assert await resolved(reads.collection.find_one({"_id": 2})) == NUMBERED[2]
        with reads.client.qb.uncached():
            assert await resolved(reads.collection.find_one({"_id": 3})) == NUMBERED[3]
        assert await resolved(secondary.find_one({"_id": 4})) == NUMBERED[4]
        assert reads.stats.refused == {"session": 1, "timeout": 1, "uncached": 1}
        gate.release()
        await callers.results()

    site.run(work())


# Faults


def test_a_failed_joined_find_falls_back_to_single_reads(site: Site, cached: bool) -> None:
    reads = JoinedReads(site, NUMBERED, cached=cached)
    answer = Answer({"ok": 0, "errmsg": "too much", "code": 292, "codeName": "X"})

    async def work() -> None:
        site.proxy.on("find", answer, when=lambda c: "$in" in str(c.document()["filter"]))
        results = await reads.together(by_id(reads.collection, 1, 2, 3))
        assert results == NUMBERED[1:4]
        assert [f["filter"] for f in reads.finds[:1]] == [{"_id": {"$in": [1, 2, 3]}}]
        assert len(reads.finds) == 1 + 3
        assert reads.stats.fallbacks == {"OperationFailure": 3}
        await until(lambda: reads.stats.in_flight == 0, site)

    site.run(work())


def test_each_caller_meets_the_error_of_its_own_call(site: Site, cached: bool) -> None:
    """The server refuses every find: each single read raises its own."""
    reads = JoinedReads(site, NUMBERED, cached=cached)
    answer = Answer({"ok": 0, "errmsg": "not you", "code": 13, "codeName": "Unauthorized"})

    async def work() -> None:
        callers = Callers(site)
        gate = await reads.hold(callers, reads.collection)
        await reads.gather(callers, by_id(reads.collection, 1, 2, 3))
        site.proxy.on("find", answer, times=None)
        gate.release()
        errors = (await callers.results())[1:]
        assert [type(error) for error in errors] == [OperationFailure] * 3
        assert len({id(error) for error in errors}) == 3
        assert {error.code for error in errors} == {13}

    site.run(work())


def test_a_network_error_is_each_callers_own(site: Site) -> None:
    reads = JoinedReads(site, NUMBERED, cached=True, retryReads=False)

    async def work() -> None:
        site.proxy.on("find", CloseBefore(), when=lambda c: "$in" in str(c.document()["filter"]))
        errors = await reads.together(by_id(reads.collection, 1, 2, 3))
        assert [type(error) for error in errors] == [AutoReconnect] * 3
        assert len({id(error) for error in errors}) == 3
        assert len({str(error) for error in errors}) == 1
        first, second = errors[:2]
        first._add_error_label("Mine")
        assert not second.has_error_label("Mine")
        # What a single call meets.
        site.proxy.on("find", CloseBefore())
        (single,) = await alone(reads.collection, {"_id": 9})
        assert type(single) is AutoReconnect
        assert re.sub(r"\d+", "N", str(single)) == re.sub(r"\d+", "N", str(first))
        assert single.__dict__.keys() == first.__dict__.keys()
        assert reads.stats.fallbacks == {}
        assert reads.client._qb.engine.cache.fills_open == 0
        assert await resolved(reads.collection.find_one({"_id": 1})) == NUMBERED[1]

    site.run(work())


def test_a_retryable_read_is_retried_by_the_driver(site: Site) -> None:
    reads = JoinedReads(site, NUMBERED)

    async def work() -> None:
        site.proxy.on("find", DropReply(), when=lambda c: "$in" in str(c.document()["filter"]))
        assert await reads.together(by_id(reads.collection, 1, 2, 3)) == NUMBERED[1:4]
        assert [f["filter"] for f in reads.finds] == [{"_id": {"$in": [1, 2, 3]}}] * 2

    site.run(work())


def test_a_fault_of_ours_fails_nobodys_call(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = JoinedReads(site, NUMBERED)

    def broken(*args: Any) -> Any:
        raise RuntimeError("ours")

    async def work() -> None:
        monkeypatch.setattr(PlainBatch, "arrived", broken)
        assert await reads.together(by_id(reads.collection, 1, 2, 99)) == [*NUMBERED[1:3], None]
        assert client_faults(reads) == {"batch": 1}
        assert reads.stats.fallbacks == {"fault": 3}
        assert reads.stats.pending == 0
        await until(lambda: reads.stats.in_flight == 0, site)
        monkeypatch.setattr(PlainBatch, "ended", broken)
        assert await reads.together(by_id(reads.collection, 1, 2, 99)) == [*NUMBERED[1:3], None]
        monkeypatch.setattr("qbmongo.core.point_reads.PlainRead", broken)
        assert await reads.together(by_id(reads.collection, 5, 6)) == NUMBERED[5:7]
        monkeypatch.setattr("qbmongo.core.point_reads.point_key", broken)
        callers = Callers(site)
        gate = await reads.hold(callers, reads.collection)
        assert await resolved(reads.collection.find_one({"_id": 4})) == NUMBERED[4]
        gate.release()
        await callers.results()

    site.run(work())


def test_a_joined_find_that_cannot_be_made_fails_nobodys_call(
    site: Site, cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = JoinedReads(site, NUMBERED, cached=cached)

    def broken(*args: Any) -> Any:
        raise RuntimeError("ours")

    async def work() -> None:
        monkeypatch.setattr(JoinedFind, "_prepare", broken)
        assert await reads.together(by_id(reads.collection, 1, 2, 99)) == [*NUMBERED[1:3], None]
        assert client_faults(reads) == {"batch": 1}
        await until(lambda: reads.stats.in_flight == 0, site)
        if cached:
            assert reads.client._qb.engine.cache.fills_open == 0

    site.run(work())


@pytest.mark.parametrize("part", ["begin_point", "stamp_points", "settle_points"])
def test_a_fault_of_the_cache_fails_nobodys_call(
    site: Site, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = JoinedReads(site, NUMBERED, cached=True)

    def broken(*args: Any) -> Any:
        raise RuntimeError("ours")

    async def work() -> None:
        monkeypatch.setattr(Cache, part, broken)
        assert await reads.together(by_id(reads.collection, 1, 2, 99)) == [*NUMBERED[1:3], None]
        await until(lambda: reads.stats.in_flight == 0, site)
        assert reads.stats.pending == 0
        faults = client_faults(reads)
        # An answer that cannot be settled leaves the cache in an unknown state.
        off = part == "settle_points"
        assert set(faults) == {"settle_read" if off else "batch"}
        cache = reads.client._qb.engine.cache
        assert (cache.off_reason is not None) == off
        if not off:
            assert cache.fills_open == 0
            assert not cache._flights

    site.run(work())


def test_an_interrupted_thread_leaves_the_others_to_themselves(
    server_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The joined find is sent by one of those who wait for it."""
    site = Site("sync", server_uri, database_name)
    reads = JoinedReads(site, NUMBERED, cached=True)
    original = sync_point_reads.raw_find

    def interrupted(*args: Any) -> Any:
        monkeypatch.setattr(sync_point_reads, "raw_find", original)
        raise KeyboardInterrupt

    async def work() -> None:
        monkeypatch.setattr(sync_point_reads, "raw_find", interrupted)
        results = await reads.together(by_id(reads.collection, 1, 2, 3))
        assert sorted(type(result).__name__ for result in results) == [
            *("KeyboardInterrupt", "dict", "dict")
        ]
        assert all(r == NUMBERED[n + 1] for n, r in enumerate(results) if isinstance(r, dict))
        assert reads.stats.fallbacks == {"interrupted": 3}
        assert (reads.stats.pending, reads.stats.in_flight) == (0, 0)
        assert reads.client._qb.engine.cache.fills_open == 0

    try:
        site.run(work())
    finally:
        site.close()


def test_the_child_of_a_fork_waits_for_nobody(site: Site) -> None:
    reads = JoinedReads(site, NUMBERED)

    async def work() -> None:
        callers = Callers(site)
        gate = await reads.hold(callers, reads.collection)
        reads.client._qb.after_fork()
        found = await resolved(reads.collection.find_one({"_id": 1}))
        assert found == NUMBERED[1]
        assert [f["filter"] for f in reads.finds][-1] == {"_id": 1}
        gate.release()
        await callers.results()
        assert await reads.together(by_id(reads.collection, 2, 3)) == NUMBERED[2:4]

    site.run(work())


def test_callers_are_settled_as_their_replies_arrive(site: Site) -> None:
    """A reply holds at most 16 MB: those whose document is in the first one do not wait."""
    documents = [{"_id": n, "b": b"x" * 6_000_000} for n in range(3)]
    reads = JoinedReads(site, documents)

    async def work() -> None:
        callers = Callers(site)
        gate = await reads.hold(callers, reads.collection)
        await reads.gather(callers, by_id(reads.collection, 0, 1, 2, 99))
        later = site.proxy.hold("getMore", when=lambda c: c.document()["collection"] == "c")
        gate.release()
        await until(lambda: reads.stats.joined > 0, site)
        assert reads.stats.joined < 4
        await (later.reached() if site.is_async else just(later.wait()))
        later.release()
        results = (await callers.results())[1:]
        assert [r and r["_id"] for r in results] == [0, 1, 2, None]
        assert reads.stats.joined == 4

    site.run(work())


# Cancellation


def test_who_is_cancelled_before_the_sending_is_not_asked_for(
    cancellable: Site, cached: bool
) -> None:
    site = cancellable
    reads = JoinedReads(site, NUMBERED, cached=cached)

    async def work() -> None:
        callers = Callers(site)
        gate = await reads.hold(callers, reads.collection)
        await reads.gather(callers, by_id(reads.collection, 1, 2, 3))
        callers.tasks[2].cancel()
        await until(lambda: reads.stats.pending == 2, site)
        reads.wire.clear()
        gate.release()
        results = (await callers.results())[1:]
        assert results[0] == NUMBERED[1]
        assert isinstance(results[1], asyncio.CancelledError)
        assert results[2] == NUMBERED[3]
        assert [f["filter"] for f in reads.finds] == [{"_id": {"$in": [1, 3]}}]
        assert reads.stats.left == 1
        if cached:
            assert reads.client._qb.engine.cache.fills_open == 0

    site.run(work())


def test_who_is_cancelled_after_the_sending_disturbs_nobody(
    cancellable: Site, cached: bool
) -> None:
    site = cancellable
    reads = JoinedReads(site, NUMBERED, cached=cached)

    async def work() -> None:
        callers = Callers(site)
        gate = await reads.hold(callers, reads.collection)
        await reads.gather(callers, by_id(reads.collection, 1, 2, 3))
        joined = site.proxy.hold_reply("find", when=lambda c: "$in" in str(c.document()["filter"]))
        gate.release()
        await joined.reached()
        callers.tasks[1].cancel()
        callers.tasks[3].cancel()
        await asyncio.sleep(0)
        joined.release()
        results = (await callers.results())[1:]
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1] == NUMBERED[2]
        assert isinstance(results[2], asyncio.CancelledError)
        await until(lambda: reads.stats.in_flight == 0, site)
        if cached:
            assert reads.client._qb.engine.cache.fills_open == 0

    site.run(work())


def test_who_waits_for_a_cancelled_callers_flight_is_served(cancellable: Site) -> None:
    """Cancelled before the sending, the flight is handed over; after it, the find goes on."""
    site = cancellable
    reads = JoinedReads(site, NUMBERED, cached=True)

    def waiting() -> int:
        flights = reads.client._qb.engine.cache._flights
        return sum(len(fill.waiters) for fill in list(flights.values()))

    async def before() -> None:
        callers = Callers(site)
        gate = await reads.hold(callers, reads.collection)
        await reads.gather(callers, by_id(reads.collection, 1, 2))
        callers.start(lambda: reads.collection.find_one({"_id": 1}))
        await until(lambda: waiting() == 1, site)
        callers.tasks[1].cancel()
        assert await callers.tasks[3] == NUMBERED[1]
        gate.release()
        results = (await callers.results())[1:]
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [NUMBERED[2], NUMBERED[1]]

    async def after() -> None:
        callers = Callers(site)
        gate = await reads.hold(callers, reads.collection)
        await reads.gather(callers, by_id(reads.collection, 3, 4))
        joined = site.proxy.hold_reply("find", when=lambda c: "$in" in str(c.document()["filter"]))
        gate.release()
        await joined.reached()
        callers.start(lambda: reads.collection.find_one({"_id": 3}))
        await until(lambda: waiting() == 1, site)
        callers.tasks[1].cancel()
        await asyncio.sleep(0)
        joined.release()
        results = (await callers.results())[1:]
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [NUMBERED[4], NUMBERED[3]]
        assert reads.client._qb.engine.cache.fills_open == 0

    site.run(before())
    site.run(after())


# Others may stall


def is_over(task: Any) -> bool:
    return bool(task.done()) if isinstance(task, asyncio.Future) else not task.is_alive()


def test_nobody_waits_long_behind_a_call_that_stalls(site: Site) -> None:
    part = BatchSettings(max_in_flight=1, max_joined_ms=20)
    reads = JoinedReads(site, NUMBERED, settings=batched(part))

    async def work() -> None:
        callers = Callers(site)
        gate = await reads.hold(callers, reads.collection)
        for call in by_id(reads.collection, 1, 2, 3):
            callers.start(call)
        # The first one is still held.
        await until(lambda: all(map(is_over, callers.tasks[1:])), site)
        gate.release()
        assert (await callers.results())[1:] == NUMBERED[1:4]

    site.run(work())


# Own writes


def test_a_read_after_a_write_is_not_answered_by_what_was_sent_before(
    site: Site, cached: bool
) -> None:
    """Contract 1: the joined find with the same id is on its way, and executed, when the write is
    acknowledged; whoever asks then has an answer of a later sending."""
    reads = JoinedReads(site, NUMBERED, cached=cached)

    async def work() -> None:
        callers = Callers(site)
        gate = await reads.hold(callers, reads.collection)
        await reads.gather(callers, by_id(reads.collection, 1, 2))
        joined = site.proxy.hold_reply("find", when=lambda c: "$in" in str(c.document()["filter"]))
        gate.release()
        await (joined.reached() if site.is_async else just(joined.wait()))
        await resolved(reads.collection.update_one({"_id": 1}, {"$set": {"v": "new"}}))
        await reads.gather(callers, by_id(reads.collection, 1))
        joined.release()
        results = (await callers.results())[1:]
        assert results == [NUMBERED[1], NUMBERED[2], {**NUMBERED[1], "v": "new"}]
        # What the first find brought of document 1 was not kept.
        found = await resolved(reads.collection.find_one({"_id": 1}))
        assert found["v"] == "new"

    site.run(work())


def test_what_waited_is_stamped_at_its_sending(site: Site) -> None:
    """A write while the read waits to be sent is seen by it: its answer is kept, and served."""
    reads = JoinedReads(site, NUMBERED, cached=True)

    async def work() -> None:
        callers = Callers(site)
        gate = await reads.hold(callers, reads.collection)
        await reads.gather(callers, by_id(reads.collection, 1, 2))
        await resolved(reads.collection.update_one({"_id": 1}, {"$set": {"v": "new"}}))
        after = reads.wire.replies[-1][1]["operationTime"]
        reads.wire.clear()
        gate.release()
        results = (await callers.results())[1:]
        assert results == [{**NUMBERED[1], "v": "new"}, NUMBERED[2]]
        (find,) = reads.finds
        # Its event comes later, and must find the entry spared.
        assert find["readConcern"]["afterClusterTime"] >= after
        await resolved(reads.client.qb.caught_up())
        reads.wire.clear()
        assert (await resolved(reads.collection.find_one({"_id": 1})))["v"] == "new"
        assert reads.wire.counts == {}
        assert reads.client.qb.stats().cache.refused == {}

    site.run(work())


def test_reads_never_go_back_behind_own_writes(site: Site, cached: bool) -> None:
    """Counters that only grow, written and read by many at the same time."""
    documents = [{"_id": n, "n": 0} for n in range(6)]
    reads = JoinedReads(
        site, documents, settings=batched(BatchSettings(max_in_flight=1), cached=cached)
    )
    written = [0] * 6
    rounds = 25

    async def write(number: int) -> None:
        for value in range(1, rounds + 1):
            await resolved(reads.collection.update_one({"_id": number}, {"$set": {"n": value}}))
            written[number] = value

    async def read(seed: int) -> int:
        draw = random.Random(seed)
        checked = 0
        while min(written) < rounds:
            number = draw.randrange(6)
            least = written[number]
            found = await resolved(
                reads.collection.find_one({"_id": draw.choice((number, float(number)))})
            )
            assert least <= found["n"] <= written[number] + 1, (number, least, found)
            checked += 1
        return checked

    async def work() -> None:
        callers = Callers(site)
        for number in range(6):
            callers.start(lambda n=number: write(n))
        for seed in range(8):
            callers.start(lambda s=seed: read(s))
        results = await callers.results()
        assert [r for r in results if isinstance(r, BaseException)] == []
        assert sum(results[6:]) > 8
        assert reads.stats.joined > 0
        assert client_faults(reads) == {}

    site.run(work())


# Everything else


def test_every_caller_is_in_the_profile(site: Site) -> None:
    settings = Settings(profile=ProfileSettings(), cache=None, coalesce=None, batch=batched().batch)
    reads = JoinedReads(site, NUMBERED, settings=settings)

    async def work() -> None:
        await reads.together(by_id(reads.collection, 1, 2, 3, 99))
        shapes = {str(shape): shape for shape in reads.client.qb.profile().shapes}
        assert [s.calls for text, s in shapes.items() if "number" in text] == [4]

    site.run(work())


def test_nothing_of_a_joined_find_is_left_to_the_garbage_collector(
    site: Site, cached: bool
) -> None:
    """A full collection in the middle of a burst would take longer than the burst."""
    reads = JoinedReads(site, NUMBERED, cached=cached)

    async def work() -> None:
        assert await reads.together(by_id(reads.collection, *range(15))) == NUMBERED[:15]
        await until(lambda: reads.stats.in_flight == 0, site)

    def left() -> list[Any]:
        kinds = (PointFill, Gathered, JoinedFind)
        return [o for o in gc.get_objects() if issubclass(type(o), kinds)]

    gc.collect()
    gc.disable()
    try:
        site.run(work())
        # A thread that sent the find drops it a moment after its callers have their answers.
        assert wait_until(lambda: not left()), left()
    finally:
        gc.enable()


def test_off_is_off(site: Site) -> None:
    reads = JoinedReads(site, NUMBERED, settings=Settings(cache=None, coalesce=None, batch=None))
    assert reads.stats is None

    async def work() -> None:
        assert await resolved(reads.collection.find_one({"_id": 1})) == NUMBERED[1]

    site.run(work())


def test_off_for_one_collection(site: Site) -> None:
    reads = JoinedReads(site, NUMBERED)
    reads.client.qb.options(f"{site.database}.c", batch=None)

    async def work() -> None:
        assert await resolved(reads.collection.find_one({"_id": 1})) == NUMBERED[1]
        assert reads.stats.direct == 0
        reads.client.qb.options(f"{site.database}.c", batch=batched().batch)
        assert await resolved(reads.collection.find_one({"_id": 1})) == NUMBERED[1]
        assert reads.stats.direct == 1

    site.run(work())
