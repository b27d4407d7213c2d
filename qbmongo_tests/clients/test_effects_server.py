"""Effects read from the driver's own events, checked against what a server answers.

Every way of writing is sent by a plain driver with a command listener; a read before and one after
it show whether the answer changed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import DeleteMany, InsertOne, MongoClient, ReplaceOne, UpdateOne
from pymongo.collection import Collection
from pymongo.errors import OperationFailure
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)
from pymongo.write_concern import WriteConcern

from qbmongo.core.effects import effects_of
from qbmongo.core.footprints import cacheable, footprint_of, may_affect, with_ids
from qbmongo.core.ledger import Closed, Ledger
from qbmongo.core.values import canonical
from qbmongo.records import EVERYTHING, Effect, ReadOp
from qbmongo_tests.core.random_operations import documents, filters, paths, reads, write_commands

DATABASE = "qbmongo_test_effects"
NS = f"{DATABASE}.c"


class Recorder(CommandListener):
    """Keeps effects as read at once, under both assumptions on threads, and what closes."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.clear()

    def clear(self) -> None:
        self.effects: list[Effect] = []
        self.shared: list[Effect] = []
        self.closed: list[Closed] = []

    def started(self, event: CommandStartedEvent) -> None:
        name, database, command = event.command_name, event.database_name, event.command
        self.effects += effects_of(name, database, command, mutable_ok=True)
        self.shared += effects_of(name, database, command, mutable_ok=False)
        key = (event.connection_id, event.request_id)
        self._close(self.ledger.started(key, name, database, command, mutable_ok=True))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        key = (event.connection_id, event.request_id)
        self._close(self.ledger.succeeded(key, event.reply))

    def failed(self, event: CommandFailedEvent) -> None:
        self._close(self.ledger.failed((event.connection_id, event.request_id), event.failure))

    def _close(self, closed: Closed) -> None:
        if closed.effects:
            self.closed.append(closed)


class Setting:
    """A collection that is observed, and the same collection for what is not to be observed."""

    def __init__(
        self, recorder: Recorder, client: MongoClient[Any], plain: MongoClient[Any]
    ) -> None:
        self.recorder = recorder
        self.client = client
        self.observed = client[DATABASE]["c"]
        self.plain = plain[DATABASE]["c"]

    def fill(self, content: list[dict[str, Any]]) -> None:
        self.plain.delete_many({})
        if content:
            self.plain.insert_many(copy.deepcopy(content))
        self.recorder.clear()


@pytest.fixture(scope="module")
def setting(server_uri: str) -> Iterator[Setting]:
    recorder = Recorder()
    with (
        MongoClient(server_uri, event_listeners=[recorder]) as client,
        MongoClient(server_uri) as plain,
    ):
        yield Setting(recorder, client, plain)
        plain.drop_database(DATABASE)


def ids(*values: Any) -> frozenset[Any]:
    return frozenset(values)


def raw(document: dict[str, Any]) -> RawBSONDocument:
    return RawBSONDocument(bson.encode(document))


SET = {"$set": {"a": 1}}
UPDATED = Effect("update", NS, ids(7), ids("a"))
UPSERTED = Effect("insert", NS, ids(7))
INSERTED = Effect("insert", NS, ids(7), None, ({"_id": 7},))
DELETED = Effect("delete", NS, ids(7))
REPLACED = Effect("update", NS, ids(7))
WHOLE = Effect("namespace", NS)

WRITES: list[tuple[str, Callable[[Collection[Any]], Any], set[Effect]]] = [
    ("update_one", lambda c: c.update_one({"_id": 7}, SET), {UPDATED}),
    ("update_many", lambda c: c.update_many({"_id": 7}, SET), {UPDATED}),
    ("upsert", lambda c: c.update_one({"_id": 7}, SET, upsert=True), {UPSERTED, UPDATED}),
    ("replace_one", lambda c: c.replace_one({"_id": 7}, {"b": 1}), {REPLACED}),
    ("delete_one", lambda c: c.delete_one({"_id": 7}), {DELETED}),
    ("delete_many", lambda c: c.delete_many({"_id": 7}), {DELETED}),
    ("find_one_and_update", lambda c: c.find_one_and_update({"_id": 7}, SET), {UPDATED}),
    ("find_one_and_replace", lambda c: c.find_one_and_replace({"_id": 7}, {}), {REPLACED}),
    ("find_one_and_delete", lambda c: c.find_one_and_delete({"_id": 7}), {DELETED}),
    (
        "bulk_write",
        lambda c: c.bulk_write(
            [UpdateOne({"_id": 7}, SET), DeleteMany({"_id": 7}), ReplaceOne({"_id": 7}, {"b": 1})],
            ordered=False,
        ),
        {UPDATED, DELETED, REPLACED},
    ),
    (
        "client.bulk_write",
        lambda c: c.database.client.bulk_write(
            [
                UpdateOne({"_id": 7}, SET, namespace=NS),
                DeleteMany({"_id": 7}, namespace=f"{DATABASE}.d"),
                ReplaceOne({"_id": 7}, {"b": 1}, upsert=True, namespace=f"{DATABASE}.d"),
            ]
        ),
        {
            UPDATED,
            Effect("delete", f"{DATABASE}.d", ids(7)),
            Effect("update", f"{DATABASE}.d", ids(7)),
            Effect("insert", f"{DATABASE}.d", ids(7)),
        },
    ),
    ("$out", lambda c: list(c.aggregate([{"$out": "d"}])), {Effect("namespace", f"{DATABASE}.d")}),
    (
        "$merge",
        lambda c: list(c.aggregate([{"$merge": {"into": "d"}}])),
        {Effect("namespace", f"{DATABASE}.d")},
    ),
    ("create_index", lambda c: c.create_index("a"), {WHOLE}),
    ("drop_index", lambda c: c.drop_indexes(), {WHOLE}),
    (
        "rename",
        lambda c: c.database["old"].rename("new", dropTarget=True),
        {Effect("namespace", f"{DATABASE}.old"), Effect("namespace", f"{DATABASE}.new")},
    ),
    ("drop", lambda c: c.database["d"].drop(), {Effect("namespace", f"{DATABASE}.d")}),
    (
        "dropDatabase",
        lambda c: c.database.client.drop_database(DATABASE),
        {Effect("database", DATABASE)},
    ),
    (
        "raw command",
        lambda c: c.database.command({"delete": "c", "deletes": [{"q": {"_id": 7}, "limit": 1}]}),
        {DELETED},
    ),
    ("a read", lambda c: (list(c.find()), c.count_documents({}), c.distinct("a")), set()),
]


@pytest.mark.parametrize(("name", "write", "expected"), WRITES, ids=[name for name, *_ in WRITES])
def test_every_way_of_writing_has_its_effects(
    setting: Setting, name: str, write: Callable[[Collection[Any]], Any], expected: set[Effect]
) -> None:
    setting.plain.database["old"].insert_one({})
    setting.fill([{"_id": 7}, {"_id": 8}])
    write(setting.observed)
    assert set(setting.recorder.effects) == expected
    assert {e for closed in setting.recorder.closed for e in closed.effects} == expected
    assert not any(closed.unknown for closed in setting.recorder.closed)


@pytest.mark.parametrize(
    "write",
    [
        lambda c, d: c.insert_one(d),
        lambda c, d: c.insert_many([d]),
        lambda c, d: c.bulk_write([InsertOne(d)]),
        lambda c, d: c.database.client.bulk_write([InsertOne(d, namespace=NS)]),
    ],
)
def test_every_way_of_inserting_tells_the_documents(setting: Setting, write: Any) -> None:
    setting.fill([])
    write(setting.observed, {"_id": 7})
    assert setting.recorder.effects == [INSERTED]
    assert setting.recorder.shared == [Effect("insert", NS)]
    setting.fill([])
    write(setting.observed, document := raw({"_id": 7}))
    assert setting.recorder.shared == [Effect("insert", NS, ids(7), None, (document,))]


def test_raw_arguments_count_also_where_threads_run(setting: Setting) -> None:
    setting.fill([{"_id": 7}])
    setting.observed.update_one(raw({"_id": 7}), raw(SET))
    assert setting.recorder.shared == [UPDATED]
    setting.recorder.clear()
    statement = {"q": raw({"_id": 7}), "u": raw(SET)}
    setting.observed.database.command({"update": "c", "updates": [statement]})
    assert setting.recorder.shared == [Effect("insert", NS)]


def test_an_unacknowledged_write_closes_with_unknown_outcome(setting: Setting) -> None:
    setting.fill([])
    setting.observed.with_options(write_concern=WriteConcern(0)).delete_one({"_id": 7})
    assert setting.recorder.closed == [Closed((DELETED,), unknown=True)]


def test_a_transaction_closes_with_its_commit(setting: Setting) -> None:
    setting.fill([{"_id": 7}])
    with setting.client.start_session() as session:
        with session.start_transaction():
            setting.observed.update_one({"_id": 7}, SET, session=session)
            setting.observed.delete_one({"_id": 7}, session=session)
            assert setting.recorder.closed == []
        assert setting.recorder.closed == [Closed((UPDATED, DELETED))]
        setting.recorder.clear()
        session.start_transaction()
        setting.observed.update_one({"_id": 7}, SET, session=session)
        session.abort_transaction()
        assert setting.recorder.closed == []
        assert setting.recorder.ledger.open_effects() == ()


def test_a_refused_write_closes_as_well(setting: Setting) -> None:
    setting.fill([{"_id": 7, "a": "x"}])
    with pytest.raises(OperationFailure):
        setting.observed.update_one({"_id": 7}, {"$inc": {"a": 1}})
    with pytest.raises(OperationFailure):
        setting.observed.database.command("reticulate")
    assert setting.recorder.closed == [Closed((UPDATED,)), Closed((EVERYTHING,))]


pipelines = st.one_of(
    st.builds(
        lambda filter, path: [{"$match": filter}, {"$sortByCount": f"${path}"}], filters, paths
    ),
    st.builds(
        lambda filter, path: [{"$match": filter}, {"$sort": {"_id": 1}}, {"$project": {path: 1}}],
        filters,
        paths,
    ),
    st.builds(
        lambda filter, path: [
            {"$unwind": "$a"},
            {"$match": filter},
            {"$group": {"_id": None, "n": {"$sum": 1}, "m": {"$max": f"${path}"}}},
        ],
        filters,
        paths,
    ),
    st.builds(lambda filter: [{"$sort": {"_id": 1}}, {"$limit": 2}, {"$match": filter}], filters),
    st.builds(lambda filter: [{"$match": filter}, {"$count": "n"}], filters),
    st.builds(
        lambda filter, path: [
            {"$match": filter},
            {"$sort": {"_id": 1}},
            {"$lookup": {"from": "c", "localField": path, "foreignField": "_id", "as": "j"}},
            {"$project": {"j": 1}},
        ],
        filters,
        paths,
    ),
)
aggregations = st.builds(lambda stages: ReadOp("aggregate", NS, {}, pipeline=stages), pipelines)


def answer(collection: Collection[Any], op: ReadOp) -> Any:
    if op.kind == "aggregate":
        found = list(collection.aggregate(list(op.pipeline or ())))
        return (
            sorted(found, key=repr) if op.pipeline and "$sortByCount" in op.pipeline[-1] else found
        )
    if op.kind == "count_documents":
        return collection.count_documents(op.filter)
    if op.kind == "distinct":
        assert op.key is not None
        return sorted(collection.distinct(op.key, op.filter), key=repr)
    sort = list((op.sort or {}).items())
    cursor = collection.find(op.filter, op.projection, sort=sort, skip=op.skip, limit=op.limit)
    return list(cursor)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents(), st.one_of(reads(), aggregations), write_commands())
def test_an_answer_of_the_server_that_changed_was_dropped(
    setting: Setting, content: list[dict[str, Any]], read: ReadOp, write: dict[str, Any]
) -> None:
    """Reference: the server's answers before and after."""
    setting.fill(content)
    read.namespace = NS
    before = answer(setting.plain, read)
    is_find = read.kind in ("find", "find_one")
    known = frozenset(canonical(d["_id"]) for d in before) if is_find else None
    assert cacheable(read) is None
    footprint = with_ids(footprint_of(read), known)
    setting.observed.database.command(copy.deepcopy(write))
    effects, shared = setting.recorder.effects, setting.recorder.shared
    assert effects
    if bson.encode({"v": answer(setting.plain, read)}) != bson.encode({"v": before}):
        assert any(may_affect(effect, footprint) for effect in effects)
        assert any(may_affect(effect, footprint) for effect in shared)
