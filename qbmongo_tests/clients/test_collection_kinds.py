"""Collections whose kind, collation or options decide what may be kept of them.

Reference: the plain driver of the same kind.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymongo import MongoClient, UpdateOne
from pymongo.collation import Collation
from pymongo.errors import OperationFailure

from qbmongo_tests.clients.places import Ask, Place, answer, everything, lacks, places, same
from qbmongo_tests.clients.sites import resolved
from qbmongo_tests.parity.drivers import DRIVERS

ANY_CASE = Collation("en", strength=2)


@pytest.fixture(scope="module", params=sorted(DRIVERS))
def make_place(request: pytest.FixtureRequest, server_uri: str) -> Iterator[Callable[[], Place]]:
    with places(request.param, server_uri) as make:
        yield make


@pytest.fixture
def place(make_place: Callable[[], Place]) -> Place:
    """Collections of this test's own, not filled yet."""
    return make_place()


def source(place: Place) -> Any:
    """The collection that views of this test show, through the plain driver."""
    return place.plain_c["source"]


def view_of(place: Place, **filter: Any) -> dict[str, Any]:
    return {"viewOn": source(place).name, "pipeline": [{"$match": filter}]}


@pytest.mark.parametrize("whose", ["ours", "another client's"])
@pytest.mark.parametrize(
    "write",
    [
        lambda c: c.update_one({"_id": "a"}, {"$set": {"n": 1}}),
        lambda c: c.update_one({"name": "ANNA"}, {"$set": {"n": 1}}),
        lambda c: c.replace_one({"_id": "a"}, {"n": 1}),
        lambda c: c.find_one_and_update({"_id": "a"}, {"$inc": {"n": 1}}),
        lambda c: c.bulk_write([UpdateOne({"_id": {"$in": ["a"]}}, {"$set": {"n": 1}})]),
        lambda c: c.delete_one({"_id": "a"}),
        lambda c: c.find_one_and_delete({"_id": "a"}),
    ],
    ids=["update", "update by name", "replace", "modify", "bulk", "delete", "remove"],
)
def test_a_default_collation_lets_other_strings_touch_what_is_kept(
    place: Place, write: Ask, whose: str
) -> None:
    reads: list[Ask] = [
        lambda c: c.find_one({"_id": "A"}),
        lambda c: c.find_one({"_id": "a"}),
        lambda c: c.find({"name": "anna"}),
        lambda c: c.find({"_id": {"$in": ["a", "b"]}}),
    ]

    async def work() -> None:
        await place.fill([{"_id": "A", "name": "Anna", "n": 0}], collation=ANY_CASE)
        if await place.theirs(lambda c: c.find_one({"_id": "a"})) is None:
            lacks("default collation")
        await place.trusted()
        before = [await place.keep(ask) for ask in reads]
        assert before[0]["_id"] == before[1]["_id"] == "A"
        if whose == "ours":
            await answer(write, place.c)
        else:
            await answer(write, place.plain_c)
            await place.caught_up()
        for position, ask in enumerate(reads):
            assert not same(await place.agree(ask), before[position])

    place.run(work())


def test_a_default_collation_lets_an_insert_into_an_empty_answer(place: Place) -> None:
    reads: list[Ask] = [
        lambda c: c.find_one({"_id": "B"}),
        lambda c: c.count_documents({"name": {"$in": ["BERT"]}}),
        lambda c: c.find({"name": {"$gte": "BERT", "$lt": "BERTA"}}),
    ]

    async def work() -> None:
        await place.fill([{"_id": "A"}], collation=ANY_CASE)
        if await place.theirs(lambda c: c.find_one({"_id": "a"})) is None:
            lacks("default collation")
        await place.trusted()
        before = [await place.keep(ask) for ask in reads]
        await resolved(place.c.insert_one({"_id": "b", "name": "bert"}))
        for position, ask in enumerate(reads):
            assert not same(await place.agree(ask), before[position])

    place.run(work())


# How a collection is made, and the reason for which its reads go to the server.
MADE: dict[str, tuple[Callable[[Place], dict[str, Any]], str | None]] = {
    "view": (lambda place: view_of(place, n={"$gte": 0}), "view"),
    "capped": (lambda place: {"capped": True, "size": 4096}, "capped"),
    "time series": (lambda place: {"timeseries": {"timeField": "when"}}, "timeseries"),
    "another collation": (lambda place: {"collation": ANY_CASE}, None),
    "the same": (lambda place: {}, None),
}


async def make(place: Place, kind: str) -> None:
    """Makes the collection through the plain driver."""
    await place.fill([], **MADE[kind][0](place))
    names = place.plain_c.database.list_collections(filter={"name": place.c.name})
    made = await answer(lambda _: names, place.plain_c)
    if kind == "time series" and made[0]["type"] != "timeseries":
        lacks("time series")


def written(place: Place, kind: str) -> Any:
    """The collection that is to be written to, through the plain driver."""
    return source(place) if kind == "view" else place.plain_c


@pytest.mark.parametrize("kind", ["view", "capped", "time series"])
def test_what_is_no_ordinary_collection_is_never_kept(place: Place, kind: str) -> None:
    _, reason = MADE[kind]
    reads: list[Ask] = [
        everything,
        lambda c: c.find_one({"n": 1}),
        lambda c: c.count_documents({}),
        lambda c: c.distinct("n"),
        lambda c: c.aggregate([{"$group": {"_id": None, "n": {"$sum": "$n"}}}]),
    ]
    when = datetime.datetime(2024, 1, 1)

    async def work() -> None:
        await make(place, kind)
        await place.trusted()
        for n in range(2):
            # No wait for the stream: whatever is read now comes from the server.
            await resolved(written(place, kind).insert_one({"_id": n, "n": n, "when": when}))
            refused = place.cache.bypassed.get(reason, 0)
            with place.hits(0):
                for ask in (*reads, *reads):
                    await place.agree(ask)
            assert place.cache.bypassed[reason] == refused + 2 * len(reads)
        assert len(await place.mine(everything)) == 2

    place.run(work())


@pytest.mark.parametrize("kind", sorted(MADE))
def test_a_collection_that_another_client_made_anew_is_what_it_is_now(
    place: Place, kind: str
) -> None:
    _, reason = MADE[kind]
    reads: list[Ask] = [
        lambda c: c.find_one({"_id": "A"}),
        lambda c: c.find_one({"_id": "a"}),
        lambda c: c.find({"n": 1}),
    ]
    when = datetime.datetime(2024, 1, 1)

    async def work() -> None:
        await place.fill([{"_id": "A", "n": 0}])
        await place.trusted()
        for ask in reads:
            await place.keep(ask)
        await resolved(place.plain_c.drop())
        await make(place, kind)
        await resolved(written(place, kind).insert_one({"_id": "A", "n": 1, "when": when}))
        await place.caught_up()
        for ask in reads:
            await place.agree(ask)
        await place.trusted()
        if reason is not None:
            with place.hits(0):
                for ask in (*reads, *reads):
                    await place.agree(ask)
            return
        for ask in reads:
            await place.keep(ask)
        await resolved(place.c.update_one({"_id": "a"}, {"$set": {"n": 2}}))
        for ask in reads:
            await place.agree(ask)

    place.run(work())


def test_what_another_client_does_to_indexes_is_known_when_caught_up(place: Place) -> None:
    def indexed() -> Any:
        """First fields of the visible indexes, as the cache knows them."""
        return place.client._qb.engine.cache.namespace(place.c.full_name).facts.indexed

    def hide(hidden: bool) -> Ask:
        index = {"keyPattern": {"n": 1}, "hidden": hidden}
        return lambda c: c.database.command("collMod", c.name, index=index)

    changes: list[tuple[Ask, set[str]]] = [
        (lambda c: c.create_index("n"), {"_id", "n"}),
        (hide(True), {"_id"}),
        (hide(False), {"_id", "n"}),
        (lambda c: c.drop_index("n_1"), {"_id"}),
    ]

    async def work() -> None:
        await place.fill([{"_id": 1, "n": 0}])
        await place.trusted()
        assert indexed() == {"_id"}
        for change, fields in changes:
            await place.keep(everything)
            await answer(change, place.plain_c)
            indexes = await place.theirs(lambda c: c.list_indexes())
            if {next(iter(i["key"])) for i in indexes if not i.get("hidden")} != fields:
                lacks("hidden indexes")
            await place.caught_up()
            await place.agree(everything)
            await place.trusted()
            assert indexed() == fields

    place.run(work())


def test_deletes_by_the_servers_own_ttl_arrive(
    place: Place, plain_client: MongoClient[dict[str, Any]]
) -> None:
    long_ago = datetime.datetime(2001, 1, 1)

    async def gone() -> bool:
        return not await place.mine(everything)

    async def work() -> None:
        await place.fill([{"_id": 1, "until": long_ago}])
        await place.trusted()
        assert len(await place.keep(everything)) == 1
        await resolved(place.plain_c.create_index("until", expireAfterSeconds=0))
        await place.until(gone)
        assert await place.agree(everything) == []

    try:
        before = plain_client.admin.command("setParameter", 1, ttlMonitorSleepSecs=1)["was"]
    except OperationFailure:
        lacks("ttlMonitorSleepSecs")
    try:
        place.run(work())
    finally:
        plain_client.admin.command("setParameter", 1, ttlMonitorSleepSecs=before)
