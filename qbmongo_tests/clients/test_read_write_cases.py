"""A read, a write, the read again: what is kept is never given where the server says otherwise.

Reference: the plain driver of the same kind, asked after each write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import bson
import pytest
from bson import CodecOptions
from bson.raw_bson import RawBSONDocument
from bson.son import SON
from pymongo import WriteConcern
from pymongo.errors import OperationFailure

from qbmongo_tests.clients.places import (
    ZERO,
    Place,
    answer,
    cached,
    everything,
    one,
    opened,
    other,
    same,
    start_transaction,
)
from qbmongo_tests.clients.read_write_cases import MOVED, Moves
from qbmongo_tests.clients.read_write_ways import LEAVES, WAYS, Leaves
from qbmongo_tests.clients.sites import PATIENCE_S, Site, ready, resolved
from qbmongo_tests.parity.drivers import DRIVERS

MOVES = (*MOVED, *WAYS)
CASES: tuple[Moves | Leaves, ...] = (*MOVES, *LEAVES)


class Clients:
    """A cached client and a plain one of one driver, and collections filled for the cases.

    Filled for all of them at once, the stream has to be waited for once.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.client, _ = site.cached("c", settings=cached())
        self.plain = site.plain()
        self.places = {case.name: self.place() for case in CASES}
        site.run(self._fill())

    def place(self) -> Place:
        return Place(self.site, self.client, self.plain)

    async def _fill(self) -> None:
        for case in CASES:
            await self.places[case.name].fill(case.documents, case.others)
        firsts = [place.c for place in self.places.values()]
        names = [collection.name for c in firsts for collection in (c, other(c))]
        await ready(self.client, self.site.database, *names)


@pytest.fixture(scope="module", params=sorted(DRIVERS))
def clients(request: pytest.FixtureRequest, server_uri: str) -> Iterator[Clients]:
    with opened(request.param, server_uri) as site:
        yield Clients(site)


@pytest.fixture
def place(clients: Clients) -> Iterator[Place]:
    """Collections of this test's own, not filled yet."""
    yield clients.place()
    stats = clients.client.qb.stats()
    assert stats.faults == {}
    assert stats.cache.off is None


async def write(place: Place, case: Moves) -> None:
    if case.fails is None:
        await answer(case.write, place.c)
    else:
        with pytest.raises(case.fails):
            await answer(case.write, place.c)


@pytest.mark.parametrize("case", MOVES, ids=[case.name for case in MOVES])
def test_an_answer_that_a_write_changed_is_not_given_again(clients: Clients, case: Moves) -> None:
    place = clients.places[case.name]

    async def work() -> None:
        await place.trusted()
        before = [await place.keep(ask) for ask in case.reads]
        await write(place, case)
        for position, ask in enumerate(case.reads):
            now = await place.agree(ask)
            assert not same(now, before[position]), f"read {position} does not tell: {now!r}"

    place.run(work())


def test_answers_are_the_servers_after_the_own_writes_events_too(clients: Clients) -> None:
    places = [(clients.place(), case) for case in MOVES]

    async def work() -> None:
        for place, case in places:
            await place.fill(case.documents, case.others)
        names = [c.name for place, _ in places for c in (place.c, other(place.c))]
        await ready(clients.client, clients.site.database, *names)
        for place, case in places:
            for ask in case.reads:
                await place.mine(ask)
            await write(place, case)
            for ask in case.reads:
                await place.mine(ask)
        await resolved(clients.client.qb.caught_up(PATIENCE_S))
        for place, case in places:
            for ask in case.reads:
                await place.agree(ask)

    clients.site.run(work())
    assert clients.client.qb.stats().faults == {}


@pytest.mark.parametrize("case", LEAVES, ids=[case.name for case in LEAVES])
def test_an_answer_that_a_write_cannot_change_stays(clients: Clients, case: Leaves) -> None:
    place = clients.places[case.name]

    async def work() -> None:
        await place.trusted()
        before = [await place.keep(ask) for ask in case.reads]
        dropped = place.cache.invalidated.get("own", 0)
        await answer(case.write, place.c)
        assert place.cache.invalidated.get("own", 0) == dropped
        for position, ask in enumerate(case.reads):
            if case.by_event:
                with place.hits(1):
                    assert same(await place.agree(ask), before[position])
            else:
                assert same(await place.agree(ask), before[position])
        if case.by_event:
            await place.caught_up()
            for ask in case.reads:
                await place.kept(ask)

    place.run(work())


@pytest.fixture
def numbered(place: Place) -> Place:
    """A place with one document {_id: 1, n: 0}, whose reads can be kept."""

    async def prepare() -> None:
        await place.fill([ZERO])
        await place.trusted()

    place.run(prepare())
    return place


@pytest.mark.parametrize(
    "write",
    [
        lambda c: c.insert_one({"_id": 0, "a": 1}),
        lambda c: c.insert_one({"_id": 9, "a": 1}),
        lambda c: c.update_one({"_id": 3}, {"$set": {"a": 1}}),
        lambda c: c.replace_one({"_id": 3}, {"a": 1}),
        lambda c: c.delete_one({"_id": 2}),
    ],
    ids=["insert before", "insert behind", "update", "replace", "delete"],
)
def test_who_wins_a_tie_at_the_limit_is_the_servers_choice(place: Place, write: Any) -> None:
    reads = [
        lambda c: c.find().sort("a", 1).limit(1),
        lambda c: c.find().sort("a", 1).skip(1).limit(1),
        lambda c: c.find({}, sort=[("a", -1)], limit=2),
        lambda c: c.find_one({}, sort=[("a", 1)]),
        lambda c: c.find({"a": 1}).limit(2),
    ]

    async def work() -> None:
        await place.fill([{"_id": 1, "a": 1}, {"_id": 2, "a": 1}, {"_id": 3, "a": 2}])
        await place.trusted()
        for ask in reads:
            await place.keep(ask)
        await answer(write, place.c)
        for ask in reads:
            await place.agree(ask)
        await place.caught_up()
        for ask in reads:
            await place.agree(ask)

    place.run(work())


def test_one_answer_serves_every_codec(numbered: Place) -> None:
    codecs = {
        dict: CodecOptions(),
        SON: CodecOptions(document_class=SON),
        RawBSONDocument: CodecOptions(document_class=RawBSONDocument),
    }

    def through(codec: Any) -> Any:
        return lambda c: c.with_options(codec).find_one({"_id": 1})

    async def work() -> None:
        for n in range(2):
            await numbered.keep(one)
            for kind, codec in codecs.items():
                document = await numbered.kept(through(codec))
                assert type(document) is kind
                assert document["n"] == n
            writer = numbered.c.with_options(codecs[SON])
            await resolved(writer.update_one({"_id": 1}, {"$inc": {"n": 1}}))
            for codec in codecs.values():
                await numbered.agree(through(codec))

    numbered.run(work())


def test_a_commit_makes_a_transactions_writes_visible_and_not_before(numbered: Place) -> None:
    place = numbered

    async def work() -> None:
        await place.keep(one)
        await place.keep(everything)
        session = await resolved(place.client.start_session())
        await start_transaction(session)
        await resolved(place.c.update_one({"_id": 1}, {"$set": {"n": 1}}, session=session))
        await resolved(place.c.insert_one({"_id": 2}, session=session))
        assert await place.kept(one) == {"_id": 1, "n": 0}
        assert await place.agree(everything) == [{"_id": 1, "n": 0}]
        entries = place.cache.entries
        with place.hits(0):
            inside = await place.mine(lambda c: c.find_one({"_id": 1}, session=session))
            assert inside == {"_id": 1, "n": 1}
            assert len(await place.mine(lambda c: c.find(session=session))) == 2
            assert await place.mine(lambda c: c.count_documents({}, session=session)) == 2
        assert place.cache.entries == entries
        assert await place.agree(one) == {"_id": 1, "n": 0}
        await resolved(session.commit_transaction())
        assert await place.agree(one) == {"_id": 1, "n": 1}
        assert await place.agree(everything) == [{"_id": 1, "n": 1}, {"_id": 2}]
        await resolved(session.end_session())

    place.run(work())


def test_an_abort_leaves_what_was_kept(numbered: Place) -> None:
    place = numbered

    async def work() -> None:
        await place.keep(one)
        session = await resolved(place.client.start_session())
        await start_transaction(session)
        await resolved(place.c.update_one({"_id": 1}, {"$set": {"n": 1}}, session=session))
        await resolved(session.abort_transaction())
        assert await place.kept(one) == {"_id": 1, "n": 0}
        assert await place.agree(one) == {"_id": 1, "n": 0}

        async def body(session: Any) -> None:
            await resolved(place.c.update_one({"_id": 1}, {"$inc": {"n": 5}}, session=session))
            inside = await resolved(place.c.find_one({"_id": 1}, session=session))
            assert inside == {"_id": 1, "n": 5}

        await resolved(session.with_transaction(place.site.driver.callback(body)))
        assert await place.agree(one) == {"_id": 1, "n": 5}
        await resolved(session.end_session())

    place.run(work())


def test_a_write_in_a_session_without_transaction_is_seen(numbered: Place) -> None:
    async def work() -> None:
        await numbered.keep(one)
        session = await resolved(numbered.client.start_session())
        await resolved(numbered.c.update_one({"_id": 1}, {"$inc": {"n": 1}}, session=session))
        assert await numbered.agree(one) == {"_id": 1, "n": 1}
        await resolved(session.end_session())

    numbered.run(work())


def test_files_of_gridfs_come_and_go(place: Place) -> None:
    bucket_class = place.site.driver.gridfs_class
    bucket = bucket_class(place.c.database, bucket_name=place.c.name)
    data = bytes(range(256)) * 2000
    found = [
        lambda c: c.files.find({"filename": "f"}, {"filename": 1, "length": 1}),
        lambda c: c.files.find_one({"filename": "g"}),
        lambda c: c.files.count_documents({"filename": "f"}),
        lambda c: c.chunks.count_documents({}),
        lambda c: c.files.distinct("filename"),
    ]

    async def agreed() -> list[Any]:
        return [await place.agree(ask) for ask in found]

    async def work() -> None:
        first = await resolved(bucket.upload_from_stream("f", data))
        seen = [await agreed()]
        writes: list[Callable[[], Any]] = [
            lambda: bucket.upload_from_stream("f", data),
            lambda: bucket.rename(first, "g"),
            lambda: bucket.delete(first),
        ]
        for write in writes:
            await ready(place.client, place.site.database, f"{place.c.name}.files")
            await ready(place.client, place.site.database, f"{place.c.name}.chunks")
            for ask in found:
                await place.keep(ask)
            await resolved(write())
            seen.append(await agreed())
            assert seen[-1] != seen[-2]

    place.run(work())


def test_a_dropped_database_is_empty_and_its_neighbour_is_left(numbered: Place) -> None:
    place = numbered
    name = place.site.database + "_2"
    reads = [one, everything, lambda c: c.count_documents({}), lambda c: c.distinct("n")]
    there, plain_there = place.client[name].c, place.plain[name].c

    async def work() -> None:
        await place.keep(one)
        await resolved(plain_there.insert_one({"_id": 1, "n": 1}))
        await ready(place.client, name, "c")
        before = [await answer(ask, there) for ask in reads]
        with place.hits(len(reads)):
            assert [await answer(ask, there) for ask in reads] == before
        await resolved(place.client.drop_database(name))
        assert [await answer(ask, there) for ask in reads] == [None, [], 0, []]
        await place.kept(one)
        await resolved(there.insert_one({"_id": 1, "n": 2}))
        for ask in reads:
            assert same(await answer(ask, there), await answer(ask, plain_there))
        await resolved(place.client.drop_database(name))

    place.run(work())


def test_an_unacknowledged_write_is_seen_once_the_stream_has_shown_it(numbered: Place) -> None:
    place = numbered
    unacknowledged = place.c.with_options(write_concern=WriteConcern(0))

    async def arrived() -> bool:
        return bool(await place.theirs(lambda c: c.count_documents({"n": 1})))

    async def work() -> None:
        for ask in (one, everything):
            await place.keep(ask)
        result = await resolved(unacknowledged.update_one({"_id": 1}, {"$set": {"n": 1}}))
        assert not result.acknowledged
        # Whatever is read meanwhile must not be kept beyond the event.
        await place.until(arrived)
        await place.mine(one)
        await place.caught_up()
        assert await place.agree(one) == {"_id": 1, "n": 1}
        assert await place.agree(everything) == [{"_id": 1, "n": 1}]

    place.run(work())


def test_an_index_build_leaves_the_answers_right_and_caching_possible(numbered: Place) -> None:
    async def work() -> None:
        await numbered.keep(one)
        for change in (
            lambda c: c.create_index("n", unique=True),
            lambda c: c.drop_index("n_1"),
            lambda c: c.database.command("collMod", c.name, validator={"n": {"$gte": 0}}),
        ):
            await answer(change, numbered.c)
            await numbered.agree(one)
            # Its event makes the facts unknown once more.
            await numbered.caught_up()
            await numbered.trusted()
            await numbered.keep(one)

    numbered.run(work())


def test_what_a_caller_changes_in_an_answer_changes_no_other(place: Place) -> None:
    async def work() -> None:
        await place.fill([{"_id": 1, "list": [{"k": 1}]}])
        await place.trusted()
        first = await place.mine(one)
        first["list"][0]["k"] = 2
        second = await place.kept(one)
        second["list"].append(3)
        assert bson.encode(await place.kept(one)) == bson.encode({"_id": 1, "list": [{"k": 1}]})

    place.run(work())


# The last one: it makes the facts of all collections unknown, and hundreds are read again.
def test_an_unknown_command_drops_everything(numbered: Place) -> None:
    async def work() -> None:
        await numbered.keep(one)
        with pytest.raises(OperationFailure):
            await resolved(numbered.c.database.command("reticulate", numbered.c.name))
        assert numbered.cache.entries == 0
        with numbered.hits(0):
            await numbered.mine(one)

    numbered.run(work())
