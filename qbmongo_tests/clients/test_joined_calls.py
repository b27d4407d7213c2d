"""Which writes join, what follows a refusal, and what each caller of a failed batch is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import bson
import pymongo
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient, WriteConcern
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    WaitQueueTimeoutError,
    WriteConcernError,
)
from pymongo.results import UpdateResult

from qbmongo import CoalesceSettings, Settings
from qbmongo_tests.clients.callers import Callers
from qbmongo_tests.clients.joined import ONE_AT_A_TIME, Joining, coalesced, outcome_of
from qbmongo_tests.clients.sites import CACHED, Site, ready, resolved
from qbmongo_tests.conftest import OwnServer
from qbmongo_tests.faults import Answer, DropReply
from qbmongo_tests.parity.drivers import DRIVERS
from qbmongo_tests.parity.equality import Comparison

IDS = range(6)


@pytest.fixture
def documents(plain_client: MongoClient[dict[str, Any]], database_name: str) -> Any:
    """The collection "c" with a document for each of IDS, as the plain driver sees it."""
    collection = plain_client[database_name].c
    collection.insert_many([{"_id": identity, "n": 0} for identity in IDS])
    return collection


def incremented(identity: int) -> Callable[[Any], Any]:
    return lambda c: c.update_one({"_id": identity}, {"$inc": {"n": 1}})


def inserted(identity: int) -> Callable[[Any], Any]:
    return lambda c: c.insert_one({"_id": 100 + identity})


ALL: dict[str, Callable[[int], Callable[[Any], Any]]] = {
    "bulkWrite": incremented,
    "insert": inserted,
}


def applied(documents: Any, command: str) -> list[int]:
    """How often each of the writes of ALL was applied."""
    if command == "insert":
        return [documents.count_documents({"_id": 100 + identity}) for identity in IDS]
    return [documents.find_one({"_id": identity})["n"] for identity in IDS]


def joined_by_batch(command: str) -> Callable[[Any], bool]:
    """Whether an insert carries more than the held one; every bulkWrite does."""
    return lambda sent: command != "insert" or sent.number > 1


async def all_of(joining: Joining, command: str) -> list[Any]:
    return await joining.together([ALL[command](identity) for identity in IDS])


# Refusals and unknown outcomes


@pytest.mark.parametrize("command", ALL)
@pytest.mark.parametrize("code", [2, 9, 13, 15, 22, 73])
def test_a_refused_batch_is_settled_by_plain_calls(
    site: Site, documents: Any, command: str, code: int
) -> None:
    joining = Joining(site)
    site.proxy.on(command, _refusal(code), when=joined_by_batch(command))

    async def work() -> None:
        outcomes = await all_of(joining, command)
        assert not [o for o in outcomes if isinstance(o, Exception)]
        assert joining.stats.alone == len(IDS)

    site.run(work())
    assert applied(documents, command) == [1] * len(IDS)


def _refusal(code: int) -> Answer:
    return Answer({"ok": 0, "code": code, "codeName": "Refused", "errmsg": "refused"})


@pytest.mark.parametrize("code", [59, 115])
def test_a_server_without_bulk_write_is_asked_once(site: Site, documents: Any, code: int) -> None:
    joining = Joining(site)
    site.proxy.on("bulkWrite", _refusal(code), times=None)

    async def work() -> None:
        for _ in range(2):
            outcomes = [await outcome_of(incremented(n), joining.collection) for n in IDS]
            assert not [o for o in outcomes if isinstance(o, Exception)]
        assert not [o for o in await all_of(joining, "bulkWrite") if isinstance(o, Exception)]
        # From now on they go alone, at once; inserts still travel together.
        held = await joining.begun()
        outcomes = [await outcome_of(incremented(n), joining.collection) for n in IDS]
        assert not [o for o in outcomes if isinstance(o, Exception)]
        assert joining.stats.refused["unsupported"] >= len(IDS)
        callers = Callers(site)
        for identity in IDS:
            callers.start(lambda n=identity: outcome_of(inserted(n), joining.collection))  # type: ignore[misc]
        await joining.pending(len(IDS))
        held.release()
        await callers.results()
        await held.callers.results()

    site.run(work())
    assert applied(documents, "bulkWrite") == [4] * len(IDS)
    assert applied(documents, "insert") == [1] * len(IDS)
    assert site.proxy.counts()["bulkWrite"] == 1


@pytest.mark.parametrize("code", [59, 13])
def test_a_refusal_of_the_second_sending_says_nothing_of_the_first(
    site: Site, documents: Any, code: int
) -> None:
    """A primary that executed the batch stepped down; its successor does not understand it."""
    joining = Joining(site)
    site.proxy.on("bulkWrite", _refusal(code), times=None)
    site.proxy.on("bulkWrite", DropReply())

    async def work() -> None:
        outcomes = await all_of(joining, "bulkWrite")
        assert all(isinstance(outcome, PyMongoError) for outcome in outcomes)
        assert joining.stats.unknown == len(IDS)

    site.run(work())
    assert applied(documents, "bulkWrite") == [1] * len(IDS)


@pytest.mark.parametrize("command", ALL)
def test_each_caller_of_a_lost_batch_has_an_exception_of_its_own(
    site: Site, documents: Any, command: str
) -> None:
    joining = Joining(site, retryWrites=False)
    site.proxy.on(command, DropReply(), when=joined_by_batch(command))

    async def work() -> list[Any]:
        return await all_of(joining, command)

    outcomes = site.run(work())
    assert {type(outcome) for outcome in outcomes} == {AutoReconnect}
    assert len({id(outcome) for outcome in outcomes}) == len(IDS)
    assert applied(documents, command) == [1] * len(IDS)


@pytest.mark.parametrize("command", ALL)
def test_a_lost_reply_is_asked_for_again_by_the_driver(
    site: Site, documents: Any, command: str
) -> None:
    joining = Joining(site)
    site.proxy.on(command, DropReply(), when=joined_by_batch(command))

    async def work() -> list[Any]:
        return await all_of(joining, command)

    assert not [o for o in site.run(work()) if isinstance(o, Exception)]
    assert applied(documents, command) == [1] * len(IDS)
    assert joining.wire.failures == [command]


CONCERN_ERROR = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waited for too long",
                 "errInfo": {"wtimeout": True}}  # fmt: skip


async def answered(joining: Joining, plain: Any, replies: Any) -> tuple[list[Any], list[Any]]:
    """Outcomes of joined increments, one for each reply, and of a plain client's given these."""
    ours = await joining.together([incremented(n) for n in range(len(replies))])
    alone = []
    for reply in replies:
        joining.site.proxy.on("update", Answer(reply))
        alone.append(await outcome_of(incremented(0), plain))
    return ours, alone


def test_a_write_concern_error_reaches_those_without_an_error_of_their_own(
    site: Site, documents: Any
) -> None:
    """Beside a plain client that is answered the same."""
    joining = Joining(site)
    plain = site.plain(uri=site.proxy.uri)[site.database].c
    results = [{"ok": 1, "idx": 0, "n": 1, "nModified": 1},
               {"ok": 0, "idx": 1, "code": 11000, "errmsg": "E11000 duplicate key", "n": 0,
                "nModified": 0, "keyPattern": {"u": 1}, "keyValue": {"u": 2}},
               {"ok": 1, "idx": 2, "n": 1, "nModified": 1}]  # fmt: skip
    whole = {"ok": 1, "nErrors": 1, "nMatched": 2, "nModified": 2, "nUpserted": 0, "nInserted": 0,
             "nDeleted": 0, "cursor": {"id": 0, "ns": "admin.$cmd.bulkWrite",
                                       "firstBatch": results},
             "writeConcernError": CONCERN_ERROR}  # fmt: skip
    error = {k: v for k, v in results[1].items() if k in ("code", "errmsg", "keyPattern")}
    single = {"ok": 1, "n": 1, "nModified": 1, "writeConcernError": CONCERN_ERROR}
    failed = {"ok": 1, "n": 0, "nModified": 0, "writeConcernError": CONCERN_ERROR,
              "writeErrors": [{"index": 0, **error, "keyValue": {"u": 2}}]}  # fmt: skip
    site.proxy.on("bulkWrite", Answer(whole))

    ours, alone = site.run(answered(joining, plain, (single, failed, single)))
    assert [type(outcome).__name__ for outcome in alone] == [
        *("WTimeoutError", "DuplicateKeyError", "WTimeoutError")
    ]
    Comparison(("nowhere at all", site.database), frozenset()).check(alone, ours)
    assert ours[0] is not ours[2]
    assert isinstance(ours[0], WriteConcernError)


def test_an_error_whose_words_end_within_a_character_is_its_own_callers(
    site: Site, documents: Any
) -> None:
    """Beside a plain client that is answered the same."""
    joining = Joining(site)
    plain = site.plain(uri=site.proxy.uri)[site.database].c
    error = {"code": 11000, "errmsg": 'E11000 duplicate key error dup key: { u: "gr??..." }',
             "keyPattern": {"u": 1}, "keyValue": {"u": "gr\xfc\xdf"}}  # fmt: skip

    def cut(document: dict[str, Any]) -> RawBSONDocument:
        return RawBSONDocument(bson.encode(document).replace(b"gr??", b"gr?\xc3"))

    results = [{"ok": 1, "idx": 0, "n": 1, "nModified": 1},
               cut({"ok": 0, "idx": 1, "n": 0, "nModified": 0, **error}),
               {"ok": 1, "idx": 2, "n": 1, "nModified": 1}]  # fmt: skip
    whole = {"ok": 1, "nErrors": 1, "nMatched": 2, "nModified": 2, "nUpserted": 0, "nInserted": 0,
             "nDeleted": 0, "cursor": {"id": 0, "ns": "admin.$cmd.bulkWrite",
                                       "firstBatch": results}}  # fmt: skip
    single = {"n": 1, "nModified": 1, "ok": 1.0}
    failed = {"ok": 1, "n": 0, "nModified": 0, "writeErrors": [cut({"index": 0, **error})]}
    site.proxy.on("bulkWrite", Answer(whole))

    ours, alone = site.run(answered(joining, plain, (single, failed, single)))
    assert isinstance(alone[1], DuplicateKeyError)
    Comparison(("nowhere at all", site.database), frozenset()).check(alone, ours)


# What goes its own way


def _timed(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    async def awaited(c: Any) -> Any:
        with pymongo.timeout(20):
            return await resolved(call(c))

    return awaited


@pytest.mark.parametrize(
    "reason",
    ["timeout", "unacknowledged", "session", "codec", "write_concern", "override", "off"],
)
def test_what_must_go_alone_does(site: Site, documents: Any, reason: str) -> None:
    settings = coalesced()
    if reason == "override":
        overrides = {f"{site.database}.c": {"coalesce": None}}
        settings = Settings(profile=None, cache=None, coalesce=ONE_AT_A_TIME, overrides=overrides)
    elif reason == "off":
        settings = Settings.preset("off")
    joining = Joining(site, settings)
    collection = joining.collection

    async def work() -> None:
        session = await resolved(joining.client.start_session())
        call = incremented(1)
        target = collection
        if reason == "timeout":
            call = _timed(call)
        elif reason == "unacknowledged":
            target = collection.with_options(write_concern=WriteConcern(w=0))
        elif reason == "session":
            call = lambda c: c.update_one({"_id": 1}, {"$inc": {"n": 1}}, session=session)  # noqa: E731
        elif reason == "codec":
            target = collection.with_options(
                codec_options=collection.codec_options.with_options(tz_aware=True)
            )
        elif reason == "write_concern":
            # The client's, if it had one, would take the place of the server's.
            target = collection.with_options(write_concern=WriteConcern(w=1))
        callers = Callers(site)
        held = None
        if reason not in ("override", "off"):
            held = await joining.begun()
            callers.start(lambda: outcome_of(incremented(2), collection))
            await joining.pending(1)
        # It does not wait for what is held.
        outcome = await outcome_of(call, target)
        assert isinstance(outcome, UpdateResult), outcome
        if held is not None:
            assert joining.stats.pending == 1
            held.release()
            await held.callers.results()
        await callers.results()
        await resolved(session.end_session())
        if reason not in ("write_concern", "override", "off"):
            assert joining.stats.refused[reason] == 1

    site.run(work())
    assert "bulkWrite" not in joining.wire.counts


def test_while_a_transaction_is_open_writes_beside_it_go_alone(site: Site, documents: Any) -> None:
    """One of them would make the whole batch wait for the transaction's end."""
    joining = Joining(site)
    collection = joining.collection

    async def work() -> None:
        session = await resolved(joining.client.start_session())
        transaction = session.start_transaction()
        if site.name == "async":
            transaction = await resolved(transaction)
        await resolved(collection.update_one({"_id": 1}, {"$inc": {"n": 1}}, session=session))
        held = await joining.begun()
        for identity in (0, 2, 3):
            await resolved(incremented(identity)(collection))
        assert joining.stats.refused["transaction"] >= 3
        held.release()
        await held.callers.results()
        await resolved(session.commit_transaction())
        await resolved(session.end_session())
        outcomes = await joining.together([incremented(n) for n in IDS])
        assert not [o for o in outcomes if isinstance(o, Exception)]
        assert joining.wire.counts["bulkWrite"] == 1

    site.run(work())
    assert applied(documents, "bulkWrite") == [2, 2, 2, 2, 1, 1]


@pytest.mark.parametrize("client", ["ours", "plain"])
def test_past_the_limit_of_bytes_a_caller_waits_for_a_connection_as_long_as_it_says(
    site: Site, documents: Any, client: str
) -> None:
    options = {"maxPoolSize": 1, "waitQueueTimeoutMS": 200, "retryWrites": False}
    part = CoalesceSettings(max_in_flight=1, max_joined_ms=60_000, max_pending_bytes=200)
    ours = Joining(site, coalesced(part), **options)
    plain = site.plain(uri=site.proxy.uri, **options)[site.database].c
    collection = ours.collection if client == "ours" else plain

    async def work() -> None:
        gate = site.proxy.hold("delete")
        callers = Callers(site)
        callers.start(lambda: collection.delete_one({"_id": "nobody's"}))
        await (gate.reached() if site.is_async else _waited(gate))
        if client == "ours":
            callers.start(lambda: outcome_of(incremented(0), collection))
            callers.start(lambda: outcome_of(incremented(1), collection))
            await ours.pending(2)
            large = {"$set": {"text": "x" * 300}}
            last = Callers(site)
            last.start(lambda: outcome_of(lambda c: c.update_one({"_id": 2}, large), collection))
            [outcome] = await last.results()
            assert ours.stats.refused["pending"] == 1
        else:
            outcome = await outcome_of(incremented(2), collection)
        assert isinstance(outcome, WaitQueueTimeoutError)
        gate.release()
        outcomes = await callers.results()
        assert not [o for o in outcomes if isinstance(o, Exception)]

    site.run(work())


async def _waited(gate: Any) -> None:
    gate.wait()


# Arguments and memory


def test_what_the_caller_changes_afterwards_changes_nothing(site: Site, documents: Any) -> None:
    joining = Joining(site)
    update = {"$set": {"n": 5, "deep": {"x": [1]}}}
    document: dict[str, Any] = {"_id": 100, "deep": {"x": [1]}}
    filter = {"_id": 1}

    async def work() -> None:
        held = await joining.begun()
        callers = Callers(site)
        collection = joining.collection
        callers.start(lambda: outcome_of(lambda c: c.update_one(filter, update), collection))
        callers.start(lambda: outcome_of(incremented(2), collection))
        callers.start(lambda: outcome_of(lambda c: c.insert_one(document), collection))
        callers.start(lambda: outcome_of(inserted(5), collection))
        await joining.pending(4)
        update["$set"]["deep"]["x"].append(2)  # type: ignore[index]
        update["$set"]["n"] = 6
        document["deep"]["x"].append(2)
        filter["_id"] = 3
        held.release()
        await held.callers.results()
        outcomes = await callers.results()
        assert not [o for o in outcomes if isinstance(o, Exception)]

    site.run(work())
    assert documents.find_one({"_id": 1}) == {"_id": 1, "n": 5, "deep": {"x": [1]}}
    assert documents.find_one({"_id": 100}) == {"_id": 100, "deep": {"x": [1]}}
    assert documents.find_one({"_id": 3})["n"] == 0


def test_an_inserted_document_is_given_its_id(site: Site, documents: Any) -> None:
    joining = Joining(site)
    given: list[dict[str, Any]] = [{"n": at} for at in IDS]

    async def work() -> list[Any]:
        calls: Sequence[Any] = [lambda c, d=d: c.insert_one(d) for d in given]
        return await joining.together(calls)

    outcomes = site.run(work())
    for document, outcome in zip(given, outcomes, strict=True):
        assert outcome.inserted_id is document["_id"]
        assert documents.find_one({"_id": document["_id"]})["n"] == document["n"]


def test_what_was_read_before_is_not_served_after_a_joined_write(
    site: Site, documents: Any
) -> None:
    """Contract 1, with cache and batches."""
    settings = Settings(cache=CACHED.cache, coalesce=ONE_AT_A_TIME, batch=None)
    joining = Joining(site, settings)
    collection = joining.collection

    async def work() -> None:
        await ready(joining.client, site.database, "c")
        for _ in range(3):
            before = [await resolved(collection.find_one({"_id": n})) for n in IDS]
            count = await resolved(collection.count_documents({}))
            hits = joining.client.qb.stats().cache.hits
            assert [await resolved(collection.find_one({"_id": n})) for n in IDS] == before
            assert joining.client.qb.stats().cache.hits == hits + len(IDS)
            held = await joining.begun()
            callers = Callers(site)
            for identity in IDS:
                callers.start(lambda n=identity: outcome_of(incremented(n), collection))  # type: ignore[misc]
            for _ in range(2):
                callers.start(lambda: outcome_of(lambda c: c.insert_one({}), collection))
            await joining.pending(len(IDS) + 2)
            held.release()
            await callers.results()
            await held.callers.results()
            after = [await resolved(collection.find_one({"_id": n})) for n in IDS]
            assert [d["n"] for d in after] == [d["n"] + 1 for d in before]
            assert await resolved(collection.count_documents({})) >= count + 2
        assert joining.client.qb.stats().faults == {}
        assert joining.stats.batches >= 6

    site.run(work())


def test_a_batch_of_unknown_outcome_is_another_writers(site: Site, documents: Any) -> None:
    """What was read before a lost batch is not served after it."""
    settings = Settings(cache=CACHED.cache, coalesce=ONE_AT_A_TIME, batch=None)
    joining = Joining(site, settings, retryWrites=False)
    collection = joining.collection

    async def work() -> None:
        await ready(joining.client, site.database, "c")
        for _ in range(2):
            assert [(await resolved(collection.find_one({"_id": n})))["n"] for n in IDS] == [0] * 6
        site.proxy.on("bulkWrite", DropReply())
        outcomes = await joining.together([incremented(n) for n in IDS])
        assert all(isinstance(o, (ConnectionFailure, OperationFailure)) for o in outcomes)
        assert [(await resolved(collection.find_one({"_id": n})))["n"] for n in IDS] == [1] * 6

    site.run(work())


@pytest.mark.parametrize("name", sorted(DRIVERS))
def test_logging_in_on_a_new_connection_is_no_sending(
    own_server: OwnServer, name: str, request: pytest.FixtureRequest
) -> None:
    """What the driver sends to log in is not counted, so that a refusal is still the first."""
    server = own_server(auth=True)
    site = Site(name, server.uri, "login")
    request.addfinalizer(site.close)
    with MongoClient[dict[str, Any]](server.uri) as plain:
        plain["login"].c.insert_many([{"_id": n, "n": 0} for n in IDS])
    joining = Joining(site)
    rule = site.proxy.on("bulkWrite", _refusal(59))

    async def flush() -> None:
        await resolved(joining.client.qb.flush())

    async def work() -> None:
        held = await joining.begun()
        callers = Callers(site)
        for identity in IDS:
            callers.start(lambda n=identity: outcome_of(incremented(n), joining.collection))  # type: ignore[misc]
        await joining.pending(len(IDS))
        # Sent beside what is held, over a connection that has yet to log in.
        flushing = Callers(site)
        flushing.start(flush)
        outcomes = await callers.results()
        held.release()
        await flushing.results()
        await held.callers.results()
        assert not [o for o in outcomes if isinstance(o, Exception)], outcomes

    site.run(work())
    assert rule.hits == 1
