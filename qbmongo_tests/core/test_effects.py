from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

import bson
import pytest
from bson import Regex
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp

from qbmongo.core.effects import (
    READ_COMMANDS,
    SESSION_COMMANDS,
    effect_of_event,
    effects_of,
)
from qbmongo.records import EVERYTHING, Effect

NS = "db.c"
ANYTHING = Effect("insert", NS)
CI = {"locale": "en", "strength": 2}
RETRYABLE = {"lsid": {"id": b"x"}, "txnNumber": Int64(1)}


def effects(
    command: Mapping[str, Any], database: str = "db", *, mutable_ok: bool = True
) -> tuple[Effect, ...]:
    return effects_of(next(iter(command)), database, command, mutable_ok=mutable_ok)


def raw(document: Mapping[str, Any]) -> RawBSONDocument:
    return RawBSONDocument(bson.encode(document))


def update(q: Any, u: Any, **more: Any) -> dict[str, Any]:
    return {"update": "c", "updates": [{"q": q, "u": u, "multi": False, "upsert": False, **more}]}


def ids(*values: Any) -> frozenset[Any]:
    return frozenset(values)


@pytest.mark.parametrize("name", sorted(READ_COMMANDS | SESSION_COMMANDS))
def test_a_command_that_only_reads_has_no_effects(name: str) -> None:
    assert effects({name: "c"}) == ()


@pytest.mark.parametrize("name", ["reticulate", "applyOps", "FIND", "shardCollection"])
def test_an_unknown_command_affects_everything(name: str) -> None:
    assert effects({name: "c"}) == (EVERYTHING,)


@pytest.mark.parametrize(
    "command",
    [
        {"insert": 5, "documents": []},
        {"insert": "c"},
        {"update": "c", "updates": [5]},
        {"delete": "c", "deletes": [{}]},
        {"findAndModify": "c", "query": {"_id": 1}},
        {"bulkWrite": 1, "ops": [{"reticulate": 0}], "nsInfo": [{"ns": "db.c"}]},
        {"bulkWrite": 1, "ops": [{"insert": 3, "document": {}}], "nsInfo": [{"ns": "db.c"}]},
        {"bulkWrite": 1, "ops": [], "nsInfo": [{"ns": "nodot"}]},
        {"aggregate": "c"},
        {"aggregate": "c", "pipeline": [{"$out": {"s3": {}}}]},
        {"drop": {"uuid": 5}},
        {"renameCollection": "db.c"},
        {"mapReduce": "c", "out": {"elsewhere": "d"}},
    ],
)
def test_a_command_that_cannot_be_read_affects_everything(command: dict[str, Any]) -> None:
    assert effects(command) == (EVERYTHING,)


class Hostile(Mapping[str, Any]):
    def __getitem__(self, name: str) -> Any:
        raise RuntimeError("no")

    def __iter__(self) -> Iterator[str]:
        return iter(["update"])

    def __len__(self) -> int:
        return 1


def test_a_command_that_raises_affects_everything() -> None:
    assert effects_of("update", "db", Hostile(), mutable_ok=True) == (EVERYTHING,)


# Ids


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"_id": 7, "a": 1}, ids(7)),
        ({"_id": {"$eq": 7.0}}, ids(7)),
        ({"_id": Decimal128("7")}, ids(7)),
        ({"_id": {"$in": [7, 8]}}, ids(7, 8)),
        ({"_id": {"$in": [7, 8], "$gt": 7}}, ids(7, 8)),
        ({"_id": {"$in": [7, 8], "$eq": 8}}, ids(8)),
        ({"$and": [{"_id": {"$in": [7, 8]}}, {"_id": {"$in": [8, 9]}}]}, ids(8)),
        ({"_id": "x"}, ids("x")),
        ({}, None),
        ({"a": 1}, None),
        ({"_id": {"$gt": 7}}, None),
        ({"_id": {"$in": [7, Regex("^a")]}}, None),
        ({"_id": {"$in": 7}}, None),
        ({"_id": Regex("^a")}, None),
        ({"_id": DBRef("c", 1)}, None),
        ({"_id": object()}, None),
        ({"$or": [{"_id": 7}]}, None),
        ({"_id.k": 7}, None),
    ],
)
def test_equality_on_the_id_says_which_documents(filter: Any, expected: Any) -> None:
    change = {"$set": {"a": 1}}
    assert effects(update(filter, change)) == (Effect("update", NS, expected, ids("a")),)
    assert effects({"delete": "c", "deletes": [{"q": filter, "limit": 0}]}) == (
        Effect("delete", NS, expected),
    )
    assert effects({"findAndModify": "c", "query": filter, "update": change}) == (
        Effect("update", NS, expected, ids("a")),
    )


def test_a_string_under_a_collation_is_any_id() -> None:
    for identity in ("x", {"k": "x"}, {"$in": [1, "x"]}, {"$eq": "x"}):
        (effect,) = effects(update({"_id": identity}, {"$set": {"a": 1}}, collation=CI))
        assert effect.ids is None
    (effect,) = effects(update({"_id": {"k": 1}}, {"$set": {"a": 1}}, collation=CI))
    assert effect.ids is not None
    (effect,) = effects({"findAndModify": "c", "query": {"_id": "x"}, "remove": 1, "collation": CI})
    assert effect == Effect("delete", NS)


def test_a_uuid_is_each_of_its_representations() -> None:
    (effect,) = effects(update({"_id": uuid4()}, {"$set": {"a": 1}}))
    assert effect.ids is not None
    assert len(effect.ids) >= 2


def test_a_subclass_may_be_encoded_as_anything() -> None:
    class Odd(str):
        pass

    (effect,) = effects(update({"_id": Odd("x")}, {"$set": {"a": 1}}))
    assert effect.ids is None


# Updates, upserts, inserts


def test_statements_that_say_the_same_are_one_effect() -> None:
    updates = [{"q": {"_id": n}, "u": {"$inc": {"n": 1}}} for n in range(3)]
    updates.append({"q": {"_id": 9}, "u": {"$set": {"m": 1}}})
    assert set(effects({"update": "c", "updates": updates})) == {
        Effect("update", NS, ids(0, 1, 2), ids("n")),
        Effect("update", NS, ids(9), ids("m")),
    }


def test_one_statement_without_ids_makes_them_any() -> None:
    updates = [{"q": {"_id": 1}, "u": {"$inc": {"n": 1}}}, {"q": {}, "u": {"$inc": {"n": 1}}}]
    assert effects({"update": "c", "updates": updates}) == (Effect("update", NS, None, ids("n")),)


@pytest.mark.parametrize("u", [{"a": 1}, [{"$set": {"a": 1}}], {"$rename": {"a": "b"}}])
def test_an_update_of_unknown_paths_touches_any(u: Any) -> None:
    assert effects(update({"_id": 7}, u)) == (Effect("update", NS, ids(7), None),)


@pytest.mark.parametrize(
    ("filter", "u", "expected"),
    [
        ({"_id": 7}, {"$set": {"a": 1}}, ids(7)),
        ({"_id": {"$eq": 7}}, {"a": 1}, ids(7)),
        ({"_id": {"$in": [7]}}, {"$set": {"a": 1}}, None),
        ({"_id": {"$eq": 7, "$in": [7, 8]}}, {"$set": {"a": 1}}, None),
        ({"$and": [{"_id": 7}]}, {"$set": {"a": 1}}, None),
        ({"a": 1}, {"$setOnInsert": {"_id": 7}}, None),
        ({"_id": 7}, [{"$set": {"a": 1}}], None),
    ],
)
def test_an_upsert_may_insert_a_document_nobody_knows(filter: Any, u: Any, expected: Any) -> None:
    for command in (
        update(filter, u, upsert=True),
        {"findAndModify": "c", "query": filter, "update": u, "upsert": True},
    ):
        found = effects(command)
        assert Effect("insert", NS, expected) in found
        assert [effect.kind for effect in found] == ["insert", "update"]


def test_an_inserted_document_is_known_and_a_copy() -> None:
    document = {"_id": 7, "a": [1, {"b": 2}], "s": bson.SON([("x", 1)])}
    (effect,) = effects({"insert": "c", "documents": [document]})
    document["a"][1]["b"] = 3
    document["s"]["x"] = 3
    expected = {"_id": 7, "a": [1, {"b": 2}], "s": {"x": 1}}
    assert effect == Effect("insert", NS, ids(7), None, (expected,))


@pytest.mark.parametrize(
    "document",
    [
        {"_id": 7, "x": object()},
        {"_id": 7, "t": Timestamp(0, 0)},
        {"_id": 7, "x": {"y": DBRef("c", 1)}},
    ],
)
def test_a_document_that_may_be_stored_otherwise_is_not_known(document: dict[str, Any]) -> None:
    assert effects({"insert": "c", "documents": [document]}) == (Effect("insert", NS, ids(7)),)


def test_a_document_without_id_gets_one_from_the_server() -> None:
    for document in ({"a": 1}, raw({"a": 1}), {"_id": Timestamp(0, 0)}):
        assert effects({"insert": "c", "documents": [{"_id": 1}, document]}) == (ANYTHING,)


def test_many_documents_are_known_by_id_only_and_very_many_not_at_all() -> None:
    documents = [{"_id": n} for n in range(1_000)]
    (effect,) = effects({"insert": "c", "documents": documents})
    assert effect.documents is None
    assert effect.ids == frozenset(range(1_000))
    documents = [{"_id": n} for n in range(20_000)]
    assert effects({"insert": "c", "documents": documents}) == (ANYTHING,)


# Evidence where other threads run


@pytest.mark.parametrize("more", [{}, RETRYABLE, {**RETRYABLE, "autocommit": False}])
def test_what_another_thread_may_have_changed_says_nothing(more: dict[str, Any]) -> None:
    def seen(command: dict[str, Any]) -> tuple[Effect, ...]:
        return effects({**command, **more}, mutable_ok=False)

    assert seen({"insert": "c", "documents": [{"_id": 7}]}) == (ANYTHING,)
    assert seen({"insert": "c", "documents": [raw({"_id": 7}), {"_id": 8}]}) == (ANYTHING,)
    assert seen({"delete": "c", "deletes": [{"q": {"_id": 7}, "limit": 1}]}) == (
        Effect("delete", NS),
    )
    assert seen(update({"_id": 7}, {"$set": {"a": 1}})) in (
        (ANYTHING,),
        (Effect("update", NS),),
    )
    assert seen({"aggregate": "c", "pipeline": [{"$out": "d"}]}) == (EVERYTHING,)
    assert seen({"aggregate": "c", "pipeline": [{"$match": {}}]}) == ()
    assert seen({"mapReduce": "c", "out": {"inline": 1}}) == (EVERYTHING,)


def test_a_raw_document_that_the_driver_put_in_its_place_counts() -> None:
    def seen(command: dict[str, Any]) -> tuple[Effect, ...]:
        return effects({**command, **RETRYABLE}, mutable_ok=False)

    inserted = raw({"_id": 7})
    assert seen({"insert": "c", "documents": [inserted]}) == (
        Effect("insert", NS, ids(7), None, (inserted,)),
    )
    command = update(raw({"_id": 7}), raw({"$set": {"a": 1}}))
    assert seen(command) == (Effect("update", NS, ids(7), ids("a")),)
    assert seen({"delete": "c", "deletes": [{"q": raw({"_id": 7}), "limit": 1}]}) == (
        Effect("delete", NS, ids(7)),
    )
    assert seen(update(raw({"_id": 7}), {"$set": {"a": 1}})) == (Effect("update", NS, ids(7)),)


@pytest.mark.parametrize("more", [{}, {**RETRYABLE, "autocommit": False}])
def test_a_raw_document_in_what_may_be_a_raw_command_says_nothing(more: dict[str, Any]) -> None:
    command = {**update(raw({"_id": 7}), raw({"$set": {"a": 1}})), **more}
    assert effects(command, mutable_ok=False) == (ANYTHING,)
    bulk = {
        "bulkWrite": 1,
        "ops": [{"insert": 0, "document": raw({"_id": 7})}],
        "nsInfo": [{"ns": "db.c"}, {"ns": "db.d"}],
        **more,
    }
    assert effects(bulk, mutable_ok=False) == (ANYTHING, Effect("insert", "db.d"))


def test_a_nested_list_of_a_raw_document_is_read_from_its_bytes() -> None:
    filter = raw({"_id": {"$in": [7]}})
    filter["_id"]["$in"].append(8)
    (effect,) = effects(update(filter, {"$set": {"a": 1}}))
    assert effect.ids == ids(7)
    filter = raw({"$and": [{"_id": 7}]})
    filter["$and"].clear()
    (effect,) = effects(update(filter, {"$set": {"a": 1}}))
    assert effect.ids == ids(7)


# Commands on several collections


def test_a_client_bulk_write_is_read_operation_by_operation() -> None:
    command = {
        "bulkWrite": 1,
        "ops": [
            {"insert": 0, "document": {"_id": 1}},
            {"update": 1, "filter": {"_id": 2}, "updateMods": {"$set": {"a": 1}}, "multi": False},
            {"update": 1, "filter": {"_id": 3}, "updateMods": {"b": 1}, "upsert": True},
            {"delete": 0, "filter": {"_id": 4}, "multi": False},
            {"delete": 0, "filter": {"_id": "x"}, "multi": True, "collation": CI},
        ],
        "nsInfo": [{"ns": "db.c"}, {"ns": "other.d.e"}],
    }
    assert effects(command, "admin") == (
        Effect("insert", "db.c", ids(1), None, ({"_id": 1},)),
        Effect("delete", "db.c"),
        Effect("insert", "other.d.e", ids(3)),
        Effect("update", "other.d.e", ids(2), ids("a")),
        Effect("update", "other.d.e", ids(3)),
    )


@pytest.mark.parametrize(
    ("stage", "namespace"),
    [
        ({"$out": "d"}, "db.d"),
        ({"$out": {"db": "x", "coll": "d"}}, "x.d"),
        ({"$merge": "d"}, "db.d"),
        ({"$merge": {"into": "d", "on": "_id"}}, "db.d"),
        ({"$merge": {"into": {"db": "x", "coll": "d"}}}, "x.d"),
        ({"$merge": {"into": {"coll": "d"}}}, "db.d"),
    ],
)
def test_an_aggregation_writes_to_its_target(stage: dict[str, Any], namespace: str) -> None:
    for target in ("c", 1):
        command = {"aggregate": target, "pipeline": [{"$match": {}}, stage]}
        assert effects(command) == (Effect("namespace", namespace),)
    assert effects({"aggregate": "c", "pipeline": [raw(stage)]}) == (
        Effect("namespace", namespace),
    )


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ({"drop": "c"}, [Effect("namespace", NS)]),
        ({"create": "c", "viewOn": "d"}, [Effect("namespace", NS)]),
        ({"collMod": "c"}, [Effect("namespace", NS)]),
        ({"createIndexes": "c", "indexes": []}, [Effect("namespace", NS)]),
        ({"dropIndexes": "c", "index": "*"}, [Effect("namespace", NS)]),
        ({"convertToCapped": "c"}, [Effect("namespace", NS)]),
        (
            {"cloneCollectionAsCapped": "c", "toCollection": "d"},
            [Effect("namespace", NS), Effect("namespace", "db.d")],
        ),
        ({"createSearchIndexes": "c"}, [Effect("namespace", NS)]),
        (
            {"renameCollection": "x.a.b", "to": "y.c"},
            [Effect("namespace", "x.a.b"), Effect("namespace", "y.c")],
        ),
        ({"dropDatabase": 1}, [Effect("database", "db")]),
        ({"mapReduce": "c", "out": "d"}, [Effect("namespace", "db.d")]),
        ({"mapReduce": "c", "out": {"merge": "d", "db": "x"}}, [Effect("namespace", "x.d")]),
        ({"mapReduce": "c", "out": {"inline": 1}}, []),
        ({"insert": "system.views", "documents": [{"_id": 1}]}, [Effect("database", "db")]),
        ({"drop": "system.profile"}, [Effect("database", "db")]),
    ],
)
def test_commands_on_whole_collections(command: dict[str, Any], expected: list[Effect]) -> None:
    assert list(effects(command)) == expected
    assert (
        list(effects(command, mutable_ok=False)) == expected
        or "out" in command
        or ("insert" in command)
    )


# Change-stream events


def event(operation: str, **more: Any) -> dict[str, Any]:
    return {"operationType": operation, "ns": {"db": "db", "coll": "c"}, **more}


KEY = {"documentKey": {"_id": 7}}


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        (None, None),
        ({}, None),
        ({"updatedFields": {}, "removedFields": [], "truncatedArrays": []}, ids()),
        ({"updatedFields": {"a.b": 1, "l.3.x": 1}, "removedFields": ["c"]}, ids("a.b", "l", "c")),
        ({"updatedFields": {}, "truncatedArrays": [{"field": "l.0.m", "newSize": 1}]}, ids("l")),
        ({"updatedFields": ["a.b"], "truncatedArrays": ["m"]}, ids("a.b", "m")),
        ({"updatedFields": [{"k": "a", "v": 1}]}, ids("a")),
        ({"updatedFields": [5]}, None),
        ({"updatedFields": {"0": 1}}, None),
        ({"updatedFields": {"a.0": 1}, "disambiguatedPaths": {"a.0": ["a", "0"]}}, ids("a")),
    ],
)
def test_an_update_event_tells_ids_and_paths(description: Any, expected: Any) -> None:
    seen = effect_of_event(event("update", **KEY, updateDescription=description))
    assert seen == (Effect("update", NS, ids(7), expected),)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (event("insert", **KEY), [Effect("insert", NS, ids(7))]),
        (
            event("insert", **KEY, fullDocument={"_id": 7}),
            [Effect("insert", NS, ids(7), None, ({"_id": 7},))],
        ),
        (event("insert"), [Effect("insert", NS)]),
        (event("replace", **KEY), [Effect("update", NS, ids(7))]),
        (event("delete", **KEY), [Effect("delete", NS, ids(7))]),
        (event("drop"), [Effect("namespace", NS)]),
        (
            event("rename", to={"db": "x", "coll": "d"}),
            [Effect("namespace", NS), Effect("namespace", "x.d")],
        ),
        ({"operationType": "dropDatabase", "ns": {"db": "db"}}, [Effect("database", "db")]),
        (event("create"), [Effect("namespace", NS)]),
        (event("createIndexes"), [Effect("namespace", NS)]),
        (event("modify"), [Effect("namespace", NS)]),
        (event("shardCollection"), [Effect("namespace", NS)]),
        ({"operationType": "invalidate"}, [EVERYTHING]),
        (event("unheard"), [EVERYTHING]),
        (event("rename"), [EVERYTHING]),
        ({}, [EVERYTHING]),
        ({"operationType": "insert", **KEY}, [EVERYTHING]),
        ({"operationType": "insert", "ns": {"db": "db", "coll": 5}}, [EVERYTHING]),
        (
            {"operationType": "insert", "ns": {"db": "db", "coll": "system.views"}},
            [Effect("database", "db")],
        ),
    ],
)
def test_each_kind_of_event(body: dict[str, Any], expected: list[Effect]) -> None:
    assert list(effect_of_event(body)) == expected
