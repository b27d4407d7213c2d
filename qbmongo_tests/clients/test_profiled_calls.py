"""Every kind of call is recorded under its shape, the same for the three drivers."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from pymongo import DeleteOne, InsertOne, UpdateOne
from pymongo.errors import InvalidOperation, OperationFailure

from qbmongo import ProfileSettings, Settings
from qbmongo_tests.clients.sites import CACHED, Site, ready, resolved

PROFILED = Settings(cache=None, profile=ProfileSettings(place_every=1, slow_ms=60_000))


async def all_of(cursor: Any) -> Any:
    cursor = await cursor if inspect.iscoroutine(cursor) else cursor
    return await resolved(cursor.to_list(None))


CALLS: dict[str, tuple[Any, str, int]] = {
    # name: (call, operation of the shape, documents it returns or changes)
    "find_one": (lambda c: c.find_one({"a": 1}), "find_one", 1),
    "find_one with a projection": (lambda c: c.find_one({"a": 1}, {"b": 1}), "find_one", 1),
    "find": (lambda c: all_of(c.find({"a": 1})), "find", 3),
    "find sorted": (lambda c: all_of(c.find({"a": 1}).sort("b", -1).limit(2)), "find", 2),
    "aggregate": (lambda c: all_of(c.aggregate([{"$match": {"a": 1}}])), "aggregate", 3),
    "count_documents": (lambda c: c.count_documents({"a": 1}), "count_documents", 1),
    "estimated_document_count": (
        lambda c: c.estimated_document_count(),
        "estimated_document_count",
        1,
    ),
    "distinct": (lambda c: c.distinct("a", {"b": 1}), "distinct", 1),
    "distinct of a cursor": (lambda c: c.find({"b": 2}).distinct("a"), "distinct", 1),
    "insert_one": (lambda c: c.insert_one({"a": 2}), "insert_one", 1),
    "insert_many": (lambda c: c.insert_many([{"a": 2}, {"a": 3}]), "insert_many", 2),
    "update_one": (lambda c: c.update_one({"a": 1}, {"$inc": {"b": 1}}), "update_one", 1),
    "update_many": (lambda c: c.update_many({"a": 1}, {"$inc": {"b": 1}}), "update_many", 3),
    "replace_one": (lambda c: c.replace_one({"b": 1}, {"a": 1, "b": 9}), "replace_one", 1),
    "delete_one": (lambda c: c.delete_one({"a": 1}), "delete_one", 1),
    "delete_many": (lambda c: c.delete_many({"a": 1}), "delete_many", 3),
    "find_one_and_update": (
        lambda c: c.find_one_and_update({"a": 1}, {"$inc": {"b": 1}}),
        "find_one_and_update",
        1,
    ),
    "find_one_and_replace": (
        lambda c: c.find_one_and_replace({"a": 1}, {"a": 1}),
        "find_one_and_replace",
        1,
    ),
    "find_one_and_delete": (
        lambda c: c.find_one_and_delete({"a": 1}),
        "find_one_and_delete",
        1,
    ),
    "bulk_write": (
        lambda c: c.bulk_write(
            [InsertOne({"a": 5}), UpdateOne({"b": 2}, {"$set": {"x": 1}}), DeleteOne({"b": 3})]
        ),
        "bulk_write",
        3,
    ),
    "client bulk_write": (
        lambda c: c.database.client.bulk_write(
            [InsertOne({"a": 5}, namespace=c.full_name), DeleteOne({"b": 3}, namespace=c.full_name)]
        ),
        "bulk_write",
        2,
    ),
    "client bulk_write by name": (
        lambda c: c.database.client.bulk_write(
            models=[InsertOne({"a": 5}, namespace=c.full_name)], ordered=False
        ),
        "bulk_write",
        1,
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_recorded_once_with_its_documents_and_place(site: Site, name: str) -> None:
    call, operation, documents = CALLS[name]
    plain = site.plain()

    async def work() -> None:
        await resolved(plain[site.database].c.insert_many([{"a": 1, "b": b} for b in (1, 2, 3)]))
        client = clients[0]
        await resolved(call(client[site.database].c))

    clients = [site.ours(PROFILED)]
    site.run(work())
    snapshot = clients[0].qb.profile()
    shapes = [s for s in snapshot.shapes if s.shape["operation"] == operation]
    assert len(shapes) == 1, snapshot.shapes
    assert snapshot.calls == 1
    shape = shapes[0]
    assert (shape.calls, shape.errors, shape.documents) == (1, 0, documents)
    assert shape.latency.count == 1
    assert 0 < shape.latency.total_s < 60
    if name != "find_one_and_replace":
        places = [place for place, _ in shape.places]
        assert len(places) == 1
        assert "/qbmongo_tests/" in places[0], places
    if operation in ("find", "find_one"):
        assert shape.bytes > 0


def test_a_read_with_a_session_is_counted_as_one_without(site: Site) -> None:
    client, plain = site.ours(PROFILED), site.plain()
    c = client[site.database].c

    async def work() -> None:
        await resolved(plain[site.database].c.insert_one({"_id": 1, "a": "x" * 100}))
        session: Any = client.start_session()
        session = await session if inspect.isawaitable(session) else session
        for identity in (1, 2):
            found = await resolved(c.find_one({"_id": identity}))
            assert await resolved(c.find_one({"_id": identity}, session=session)) == found
            hinted = c.find_one({"_id": identity}, session=session, hint="_id_")
            assert await resolved(hinted) == found
        await resolved(session.end_session())
        with pytest.raises(InvalidOperation):
            await resolved(c.find_one({"_id": 1}, session=session))
        with pytest.raises(TypeError):
            await resolved(c.find_one({"_id": 1}, session=session, nope=1))

    site.run(work())
    by_hint = {"hint" in s.shape: s for s in client.qb.profile().shapes}
    shape, hinted = by_hint[False], by_hint[True]
    assert (shape.calls, shape.documents, shape.errors) == (5, 2, 1)
    # What the server tells beside the documents is counted for each reply.
    assert shape.bytes == 2 * hinted.bytes > 200
    assert hinted.calls == 2


def test_a_slow_read_with_a_session_is_logged_with_its_values(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    slow = ProfileSettings(slow_ms=0, keep_values=True)
    client = site.ours(Settings(cache=None, profile=slow))
    c = client[site.database].c

    async def work() -> None:
        session: Any = client.start_session()
        session = await session if inspect.isawaitable(session) else session
        await resolved(c.find_one({"_id": 4711}, session=session))
        await resolved(session.end_session())

    site.run(work())
    (line,) = [record.getMessage() for record in caplog.records if record.name == "qbmongo.slow"]
    assert "find_one" in line
    assert "4711" in line


def test_what_is_slow_changes_at_once_also_for_shapes_that_are_known(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    client = site.ours(PROFILED)
    c, other = client[site.database].c, client[site.database].other

    async def work() -> None:
        await resolved(c.find_one({"_id": 4711}))
        await resolved(c.find_one({"a": 4711}))
        await resolved(c.update_one({"_id": 4711}, {"$set": {"a": 1}}))
        await resolved(other.find_one({"a": 4711}))

    def slow() -> dict[tuple[str, ...], int]:
        return {
            (s.shape["namespace"].partition(".")[2], s.shape["operation"]): s.slow_calls
            for s in client.qb.profile().shapes
            if s.slow_calls
        }

    site.run(work())
    assert slow() == {}
    place = f"{site.database}.c"
    now = ProfileSettings(place_every=1, slow_ms=0, log_every_s=0, keep_values=True)
    client.qb.options(place, profile=now)
    site.run(work())
    assert slow() == {("c", "find_one"): 1, ("c", "update_one"): 1}
    assert len([record for record in caplog.records if record.name == "qbmongo.slow"]) == 3
    assert "other" not in caplog.text
    client.qb.options(place, profile=PROFILED.profile)
    site.run(work())
    assert slow() == {("c", "find_one"): 1, ("c", "update_one"): 1}


def test_values_do_not_make_shapes_and_calls_add_up(site: Site) -> None:
    client = site.ours(PROFILED)
    c = client[site.database].c

    async def work() -> None:
        for n in range(20):
            await resolved(c.find_one({"_id": n}))
            await resolved(c.update_one({"_id": n}, {"$set": {"a": n}}, upsert=True))
        await all_of(c.find({}).batch_size(7))

    site.run(work())
    by_operation = {s.shape["operation"]: s for s in client.qb.profile().shapes}
    assert by_operation["find_one"].calls == 20
    assert by_operation["update_one"].calls == 20
    assert by_operation["update_one"].documents == 20
    find = by_operation["find"]
    assert (find.calls, find.documents, find.getmores) == (1, 20, 2)


def test_errors_are_counted(site: Site) -> None:
    client, plain = site.ours(PROFILED), site.plain()
    c = client[site.database].c

    async def work() -> None:
        # Not every server reads a filter that no document is to be compared with.
        await resolved(plain[site.database].c.insert_one({"a": 1}))
        for call in (
            lambda: c.find_one({"$nope": 1}),
            lambda: all_of(c.find({"$nope": 1})),
            lambda: c.count_documents({"$nope": 1}),
            lambda: c.distinct("a", {"$nope": 1}),
            lambda: all_of(c.aggregate([{"$match": {"$nope": 1}}])),
            lambda: c.update_one({"$nope": 1}, {"$set": {"a": 1}}),
            lambda: c.find_one_and_delete({"$nope": 1}),
        ):
            with pytest.raises(OperationFailure):
                await resolved(call())

    site.run(work())
    shapes = client.qb.profile().shapes
    assert len(shapes) == 7
    assert all((s.calls, s.errors) == (1, 1) for s in shapes), shapes


def test_hits_are_counted_apart_from_calls(site: Site) -> None:
    client, _ = site.cached("c", settings=CACHED)
    c = client[site.database].c

    async def work() -> None:
        for _ in range(10):
            await resolved(c.find_one({"a": 1}))
            await all_of(c.find({"a": 1}))
            await resolved(c.count_documents({"a": 1}))
            await resolved(c.distinct("a"))
            await all_of(c.aggregate([{"$match": {"a": 1}}]))

    site.run(work())
    shapes = {
        s.shape["operation"]: s
        for s in client.qb.profile().shapes
        if "_id" not in str(s.shape["filter"])
    }
    assert {name: (s.calls, s.hits.count) for name, s in shapes.items()} == dict.fromkeys(
        ("find_one", "find", "count_documents", "distinct", "aggregate"), (1, 9)
    )
    ratios = client.qb.stats().cache.hit_ratio_by_shape
    assert sum(1 for ratio in ratios.values() if ratio == 0.9) == 5


def test_a_slow_call_is_sampled_and_logged_with_shape_and_place(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(cache=None, profile=ProfileSettings(slow_ms=0))
    client = site.ours(settings)

    async def work() -> None:
        await resolved(client[site.database].c.find_one({"secret": "hidden"}))

    with caplog.at_level("WARNING", logger="qbmongo.slow"):
        site.run(work())
    (record,) = [r for r in caplog.records if r.name == "qbmongo.slow"]
    assert "find_one" in record.getMessage()
    assert "hidden" not in record.getMessage()
    (shape,) = client.qb.profile().shapes
    assert shape.slow_calls == 1
    assert len(shape.slow_samples) == 1
    assert shape.slow_samples[0].filter is None


def test_a_part_switched_off_for_a_collection_records_nothing_there(site: Site) -> None:
    client = site.ours(PROFILED)
    client.qb.options(f"{site.database}.quiet", profile=None)

    async def work() -> None:
        await resolved(client[site.database].quiet.find_one({}))
        await resolved(client[site.database].quiet.insert_one({}))
        await resolved(client[site.database].loud.find_one({}))

    site.run(work())
    assert [s.shape["namespace"] for s in client.qb.profile().shapes] == [f"{site.database}.loud"]


def test_the_place_of_a_call_is_in_the_program_though_a_thread_makes_it(site: Site) -> None:
    client = site.ours(Settings(cache=CACHED.cache, profile=PROFILED.profile))

    async def work() -> None:
        await ready(client, site.database, "c")
        await resolved(client[site.database].c.insert_one({}))

    site.run(work())
    places = [place for shape in client.qb.profile().shapes for place, _ in shape.places]
    assert places
    assert all("/qbmongo_tests/" in place for place in places), places


def test_a_call_that_is_a_task_of_its_own_is_not_placed_where_the_loop_was_started(
    site: Site,
) -> None:
    if not site.is_async:
        pytest.skip("there is no loop")
    client = site.ours(Settings(profile=ProfileSettings(place_every=1, slow_ms=0)))
    c = client[site.database].c

    async def work() -> None:
        await asyncio.gather(*(c.insert_one({"_id": i}) for i in range(10)))
        await asyncio.gather(*(c.find_one({"_id": i}) for i in range(10)))
        await asyncio.gather(*(c.find_one({"a": i}) for i in range(10)))
        await asyncio.gather(*(c.count_documents({"a": i}) for i in range(10)))

    site.run(work())
    shapes = client.qb.profile().shapes
    assert len(shapes) == 4
    code = work.__code__
    of_work = {f"{code.co_filename}:{line}" for *_, line in code.co_lines()}
    # A coroutine begins in its task, which does not know who made it; Motor's calls begin at once.
    allowed = {None} if site.driver.optimized == "OptimizedAsyncMongoClient" else of_work
    for shape in shapes:
        places = {place for place, _ in shape.places} | {s.place for s in shape.slow_samples}
        # What --disturb puts between two calls is no part of the program.
        places = {place for place in places if place is None or "disturbances.py" not in place}
        assert places <= allowed, places
