"""Effects read the short way are those that are read from any command."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import bson
import pytest
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp

from qbmongo.core import effects, lone_effects
from qbmongo.core.effects import effects_of
from qbmongo.core.snapshots import Private, private

LONE = ("lone_update", "lone_delete", "lone_insert")
_IDENTITY = ObjectId()


class Field(str):
    """A string of the program's own."""


IDS: tuple[Any, ...] = (
    *(5, 5.0, Int64(5), True, Decimal128("5"), "x", Field("x"), _IDENTITY, None, [1], {"a": 1}),
    *({"$in": [1, 2]}, {"$eq": 5}, {"$gt": 5}, Timestamp(0, 0), Timestamp(1, 1), b"x"),
)
CHANGES: tuple[Any, ...] = (
    *({"$set": {"a": 1}}, {"$set": {"a.b": 1, "c": 2}}, {"$inc": {"a": 1}, "$unset": {"b": ""}}),
    *({"$set": {}}, {"$rename": {"a": "b"}}, {"$setOnInsert": {"a": 1}}, {"$nope": {"a": 1}}),
    *({"$set": {"": 1}}, {"$set": {"a.0.b": 1}}, {"$set": {"a.$.b": 1}}, {"$push": {"a": 1}}),
    *({}, {"a": 1}, {"a": {"b": 1}}, {"$set": 5}, [{"$set": {"a": 1}}], {"$set": {5: 1}}, None),
    *({"$set": {f"a{n}": 1 for n in range(20)}}, {"$set": RawBSONDocument(bson.encode({"a": 1}))}),
)
DOCUMENTS: tuple[Any, ...] = (
    *({"a": 1}, {"a": Timestamp(0, 0)}, {"a": Timestamp(1, 1)}, {"a": [{"b": 1}]}, {}),
    {"a": object()},
)
COLLECTIONS: tuple[Any, ...] = ("c", "c.d", "system.views", "", None, Field("c"))


def random_command(chance: random.Random) -> tuple[str, dict[str, Any], bool]:
    """A command's name, the command, and whether its plain dicts are certain."""

    def sent(document: Any) -> Any:
        if type(document) is not dict or chance.random() < 0.4:
            return document
        if chance.random() < 0.2:
            try:
                return RawBSONDocument(bson.encode(document))
            except bson.errors.InvalidDocument:
                return document
        return private(document) or document

    def filter_() -> Any:
        filter: dict[str, Any] = {"_id": chance.choice(IDS)}
        if chance.random() < 0.2:
            filter["a"] = 1
        if chance.random() < 0.05:
            filter = {}
        return sent(filter)

    kind = chance.choice(("update", "delete", "insert"))
    command: dict[str, Any] = {kind: chance.choice((*COLLECTIONS, *["c"] * 20))}
    if chance.random() < 0.7:
        command |= {"lsid": {"id": b"x"}, "txnNumber": Int64(1)}
    if chance.random() < 0.1:
        command["autocommit"] = False
    statements: list[Any] = []
    for _ in range(chance.choice((0, 1, 1, 1, 1, 1, 2))):
        if kind == "insert":
            document = dict(chance.choice(DOCUMENTS))
            if chance.random() < 0.95:
                document["_id"] = chance.choice(IDS)
            statements.append(sent(document))
            continue
        statement: dict[str, Any] = {"q": filter_()}
        if kind == "update":
            statement |= {"u": sent(chance.choice(CHANGES)), "multi": False}
            if chance.random() < 0.15:
                statement["upsert"] = True
        if chance.random() < 0.1:
            statement["collation"] = {"locale": "en"}
        statements.append(statement)
    command[{"update": "updates", "delete": "deletes", "insert": "documents"}[kind]] = statements
    return kind, command, chance.random() < 0.5


def first_difference(count: int, seed: int) -> str | None:
    """The first random command whose effects differ when each is read the long way."""
    chance = random.Random(seed)
    with pytest.MonkeyPatch.context() as patched:
        for _ in range(count):
            name, command, certain = random_command(chance)
            short = effects_of(name, "db", command, mutable_ok=certain)
            for lone in LONE:
                patched.setattr(effects, lone, lambda *_: None)
            long = effects_of(name, "db", command, mutable_ok=certain)
            patched.undo()
            if short != long or [e.ids and set(map(type, e.ids)) for e in short] != [
                e.ids and set(map(type, e.ids)) for e in long
            ]:
                return f"{command} {certain}: {short} instead of {long}"
    return None


def test_effects_are_those_of_the_long_way() -> None:
    assert first_difference(20_000, 1) is None


def test_most_writes_take_the_short_way() -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(effects, "_Writes", None)  # which the long way needs
        for certain, made in ((True, dict), (False, private)):
            own = {"lsid": {"id": b"x"}, "txnNumber": Int64(1)}
            for command in (
                {
                    "update": "c",
                    "updates": [{"q": made({"_id": 5}), "u": made({"$set": {"a": 1}})}],
                },
                {"delete": "c", "deletes": [{"q": made({"_id": _IDENTITY}), "limit": 1}]},
                {"insert": "c", "documents": [made({"_id": "x", "a": [1]})]},
            ):
                (effect,) = effects_of(next(iter(command)), "db", command | own, mutable_ok=certain)
                assert effect.ids is not None


def _of_float(*types: type) -> frozenset[type]:
    return frozenset({int, str, ObjectId, *types})


WRONG: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "values that are not their own form": lambda p: p.setattr(
        lone_effects, "_OWN_FORM", _of_float(Decimal128, bool)
    ),
    "upserts": lambda p: p.setattr(
        effects,
        "lone_update",
        lambda d, c, s, e: lone_effects.lone_update(d, c, {**s, "upsert": False}, e),
    ),
    "collations": lambda p: p.setattr(
        effects,
        "lone_delete",
        lambda d, c, s, e: lone_effects.lone_delete(d, c, {**s, "collation": None}, e),
    ),
    "times that the server sets": lambda p: p.setattr(lone_effects, "Timestamp", Private),
    "system collections": lambda p: p.setattr(lone_effects, "_is_plain", lambda _: True),
    "dicts that are not certain": lambda p: p.setattr(
        effects,
        "lone_update",
        lambda d, c, s, e: lone_effects.lone_update(
            d, c, s, effects.Evidence({"update": c}, mutable_ok=True)
        ),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_short_way_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    WRONG[name](monkeypatch)
    wrong = {lone: getattr(effects, lone) for lone in LONE}
    chance = random.Random(2)
    for _ in range(20_000):
        command_name, command, certain = random_command(chance)
        for lone, function in wrong.items():
            monkeypatch.setattr(effects, lone, function)
        short = effects_of(command_name, "db", command, mutable_ok=certain)
        for lone in LONE:
            monkeypatch.setattr(effects, lone, lambda *_: None)
        if short != effects_of(command_name, "db", command, mutable_ok=certain):
            return
    pytest.fail("no difference was found")
