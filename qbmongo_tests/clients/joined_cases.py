"""Single writes and what they meet: each is made alone by the plain driver, and joined by ours."""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import bson
from bson import SON, Binary, Decimal128, Int64, ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.collation import Collation

__all__ = ["CASES", "DOCUMENTS", "INDEXES", "OID", "VALIDATOR", "Case"]

UTC = datetime.timezone.utc
OID = ObjectId("65f000000000000000000001")
FIXED = uuid.UUID("12345678123456781234567812345678")

# In MongoDB's manual, "Specify Validation With Query Operators".
VALIDATOR: dict[str, Any] = {
    "$jsonSchema": {"properties": {"v": {"bsonType": "int", "maximum": 10}}, "required": ["g"]}
}
INDEXES: tuple[tuple[str, bool], ...] = (("u", True), ("k", False))


@dataclass(frozen=True)
class Case:
    """One call.

    joins: it travels with others where it can; False: it goes to the driver as it is.
    fails: the plain call raises. insert: of an insert command.
    """

    name: str
    call: Callable[[Any], Any]
    joins: bool = True
    fails: bool = False

    @property
    def insert(self) -> bool:
        return self.name.startswith("insert")


def _document(identity: Any, **fields: Any) -> dict[str, Any]:
    return {"_id": identity, "g": 1, **fields}


def _update(name: str, update: Any, **given: Any) -> Case:
    """An update_one of the document that bears the case's name."""
    joins, fails = given.pop("joins", True), given.pop("fails", False)
    filter = {"_id": name, **given.pop("also", {})}
    return Case(name, lambda c: c.update_one(filter, update, **given), joins, fails)


def _upsert(name: str, filter: Any, update: Any = None, **given: Any) -> Case:
    joins, fails = given.pop("joins", True), given.pop("fails", False)
    update = {"$set": {"g": 1}} if update is None else update
    return Case(name, lambda c: c.update_one(filter, update, upsert=True, **given), joins, fails)


def _replace(name: str, replacement: Any, **given: Any) -> Case:
    joins, fails = given.pop("joins", True), given.pop("fails", False)
    filter = given.pop("filter", {"_id": name})
    return Case(name, lambda c: c.replace_one(filter, replacement, **given), joins, fails)


def _delete(name: str, filter: Any = None, **given: Any) -> Case:
    joins, fails = given.pop("joins", True), given.pop("fails", False)
    filter = {"_id": name} if filter is None else filter
    return Case(name, lambda c: c.delete_one(filter, **given), joins, fails)


def _insert(name: str, make: Callable[[], Any], **given: Any) -> Case:
    joins, fails = given.pop("joins", True), given.pop("fails", False)
    return Case(f"insert {name}", lambda c: c.insert_one(make(), **given), joins, fails)


class Mapping(dict[str, Any]):
    """A mapping of the program's own."""


_IGNORING_CASE = Collation("en", strength=2)

_UPDATES = (
    _update("modified", {"$set": {"a": 2}}),
    _update("not modified", {"$set": {"a": 1}}),
    _update("incremented", {"$inc": {"a": 1}}),
    _update("unset", {"$unset": {"a": ""}}),
    _update("renamed", {"$rename": {"a": "b"}}),
    _update("pipeline", [{"$set": {"a": {"$add": ["$a", 1]}}}]),
    _update("array filters", {"$set": {"l.$[e]": 9}}, array_filters=[{"e": {"$gt": 1}}]),
    _update("positional", {"$set": {"l.$": 9}}, also={"l": 2}),
    _update("with another condition", {"$set": {"a": 2}}, also={"a": {"$gte": 1}}),
    _update("condition not met", {"$set": {"a": 2}}, also={"a": {"$gt": 99}}),
    _update("raw update", RawBSONDocument(bson.encode({"$set": {"a": 3}})), joins=False),
    _update("son update", SON([("$set", SON([("a", 3)]))]), joins=False),
    _update("mapping update", Mapping({"$set": Mapping({"a": 3})}), joins=False),
    _update("hint", {"$set": {"a": 2}}, hint="_id_", joins=False),
    _update("hint as keys", {"$set": {"a": 2}}, hint=[("_id", 1)], joins=False),
    _update("COLLATED", {"$set": {"a": 2}}, collation=_IGNORING_CASE, joins=False),
    _update("sorted", {"$set": {"a": 2}}, sort={"a": 1}, joins=False),
    _update("empty set", {"$set": {}}),
    _update("unchanged values of many types", {"$set": {"t": 1.5, "n": None, "b": b"x"}}),
    Case("update no match", lambda c: c.update_one({"_id": "absent"}, {"$set": {"a": 1}})),
    Case(
        "update by eq", lambda c: c.update_one({"_id": {"$eq": "by eq"}}, {"$set": {"a": 2}}), False
    ),
    Case("update by key", lambda c: c.update_one({"k": "by key"}, {"$set": {"a": 2}})),
    Case("update by unique", lambda c: c.update_one({"u": "by unique"}, {"$set": {"a": 2}})),
    Case("update by g", lambda c: c.update_one({"g": 77}, {"$set": {"a": 2}}), joins=False),
    Case(
        "update in", lambda c: c.update_one({"_id": {"$in": ["absent"]}}, {"$set": {"a": 2}}), False
    ),
    Case("update many", lambda c: c.update_many({"k": "many"}, {"$set": {"a": 2}}), False),
    Case(
        "comment",
        lambda c: c.update_one({"_id": "comment"}, {"$set": {"a": 2}}, comment="x"),
        False,
    ),
    Case(
        "let",
        lambda c: c.update_one({"_id": "let"}, [{"$set": {"a": "$$x"}}], let={"x": 1}),
        False,
    ),
    Case(
        "bypass",
        lambda c: c.update_one(
            {"_id": "bypass"}, {"$set": {"v": "x"}}, bypass_document_validation=True
        ),
        False,
    ),
)

_UPSERTS = (
    _upsert("upsert existing", {"_id": "upsert existing"}, {"$set": {"a": 2}}),
    _upsert("upsert by int", {"_id": 1}),
    _upsert("upsert by int64", {"_id": Int64(2)}),
    _upsert("upsert by large int", {"_id": 2**40}),
    _upsert("upsert by float", {"_id": 3.0}),
    _upsert("upsert by decimal", {"_id": Decimal128("4.50")}),
    _upsert("upsert by string", {"_id": "upserted"}),
    _upsert("upsert by bool", {"_id": True}),
    _upsert("upsert by null", {"_id": None}),
    _upsert("upsert by ObjectId", {"_id": OID}),
    _upsert("upsert by document", {"_id": {"k": 1, "l": [1, {"m": 2}]}}),
    _upsert("upsert by SON", {"_id": SON([("z", 1), ("a", 2)])}, joins=False),
    _upsert("upsert by datetime", {"_id": datetime.datetime(2024, 5, 6, 7, 8, 9, 123000)}),
    _upsert("upsert by aware datetime", {"_id": datetime.datetime(2025, 1, 1, tzinfo=UTC)}),
    _upsert("upsert by bytes", {"_id": b"\x00\x01"}),
    _upsert("upsert by binary", {"_id": Binary(b"z", 5)}),
    _upsert("upsert by uuid binary", {"_id": Binary.from_uuid(FIXED)}),
    _upsert("upsert by key", {"k": "new key"}),
    _upsert("upsert by unique", {"u": "new unique"}),
    _upsert(
        "upsert with the id on insert",
        {"k": "new 2"},
        {"$setOnInsert": {"_id": 55, "g": 1}},
    ),
    _upsert("upsert with the id in set", {"k": "new 3"}, {"$set": {"_id": 56, "g": 1}}),
    _upsert("upsert by pipeline", {"_id": "by pipeline"}, [{"$set": {"g": 1}}]),
    _upsert("upsert not valid", {"_id": "never"}, {"$set": {"a": 1}}, fails=True),
    _upsert("upsert taken", {"_id": "nor this"}, {"$set": {"g": 1, "u": "taken"}}, fails=True),
    _upsert("upsert without an id's match", {"_id": "hint", "a": 99}, fails=True),
)

_FAILING = (
    _update("inc a string", {"$inc": {"s": 1}}, fails=True),
    _update("other id", {"$set": {"_id": "changed"}}, fails=True),
    _update("duplicate key", {"$set": {"u": "taken"}}, fails=True),
    _update("not valid", {"$set": {"v": 11}}, fails=True),
    _update("not valid type", {"$set": {"v": "x"}}, fails=True),
    _update("no longer valid", {"$unset": {"g": ""}}, fails=True),
    _update("push to a number", {"$push": {"a": 1}}, fails=True),
    _update("conflicting", {"$set": {"a": 1, "a.b": 2}}, fails=True),
    _update("below a number", {"$set": {"a.b": 2}}, fails=True),
    _update("unknown operator", {"$bogus": {"a": 1}}, fails=True),
    _update("no positional", {"$set": {"l.$": 1}}, fails=True),
    _update("unused array filter", {"$set": {"a": 1}}, array_filters=[{"e": 1}], fails=True),
    _update("unknown hint", {"$set": {"a": 1}}, hint="nope", fails=True, joins=False),
    _update("empty name", {"$set": {"": 1}}, fails=True),
    _update("bad pipeline", [{"$match": {}}], fails=True),
    _update("not encodable", {"$set": {"a": object()}}, fails=True),
    _update("too large an integer", {"$set": {"a": 2**65}}, fails=True),
    _update("no operator", {"a": 1}, fails=True, joins=False),
    _update("empty update", {}, fails=True, joins=False),
    _update("no update", 5, fails=True, joins=False),
    _update("uuid", {"$set": {"a": FIXED}}, fails=True),
    Case("bad filter", lambda c: c.update_one({"_id": 1, "a": {"$x": 1}}, {"$set": {"a": 1}}),
         fails=True),
    Case("filter not encodable", lambda c: c.update_one({"_id": object()}, {"$set": {"a": 1}}),
         fails=True),
    Case("no filter", lambda c: c.update_one(5, {"$set": {"a": 1}}), fails=True),
    Case("missing argument", lambda c: c.update_one({"_id": 1}), fails=True),
    Case("unknown argument", lambda c: c.update_one({"_id": 1}, {"$set": {"a": 1}}, x=1),
         fails=True),
)  # fmt: skip

_REPLACEMENTS = (
    _replace("replaced", {"g": 1, "a": 2}),
    _replace("replaced by the same", {"g": 1, "a": 1}),
    _replace("replaced with its id", {"_id": "replaced with its id", "g": 2}),
    _replace("replaced by raw", RawBSONDocument(bson.encode({"g": 3})), joins=False),
    _replace("replace no match", {"g": 1}, filter={"_id": "absent"}),
    _replace("replace upsert", {"g": 1}, filter={"_id": "replacement"}, upsert=True),
    _replace("replace upsert key", {"k": "r", "g": 1}, filter={"k": "r"}, upsert=True),
    _replace(
        "replace upsert id",
        {"_id": 60, "k": "s", "g": 1},
        filter={"k": "s"},
        upsert=True,
    ),
    _replace("replace by hint", {"g": 5}, hint="_id_", joins=False),
    _replace("replaced with other id", {"_id": 61, "g": 1}, fails=True),
    _replace("replaced not valid", {"a": 1}, fails=True),
    _replace("replaced duplicate", {"g": 1, "u": "taken"}, fails=True),
    _replace("replaced by operators", {"$set": {"a": 1}}, fails=True),
    _replace("replaced not encodable", {"a": object()}, fails=True),
    _replace("replaced by none", None, fails=True),
)

_DELETES = (
    _delete("deleted"),
    _delete("delete no match", {"_id": "absent"}),
    _delete("delete by key", {"k": "delete by key"}),
    _delete("DELETED COLLATED", collation=_IGNORING_CASE, joins=False),
    _delete("delete hinted", hint="_id_", joins=False),
    _delete("delete unknown hint", hint="nope", fails=True, joins=False),
    _delete("delete bad filter", {"_id": 1, "$bogus": 1}, joins=False, fails=True),
    _delete("delete not encodable", {"_id": object()}, fails=True),
    _delete("delete no mapping", 5, fails=True),
    Case("delete by g", lambda c: c.delete_one({"g": 78}), joins=False),
    Case("delete all", lambda c: c.delete_many({"k": "gone"}), joins=False),
)

_INSERTS = (
    _insert("with id", lambda: _document("inserted")),
    _insert("without id", lambda: {"g": 1}),
    _insert("int64 id", lambda: _document(Int64(70))),
    _insert("document id", lambda: _document({"a": 1, "b": 2})),
    _insert("son", lambda: SON([("g", 1), ("_id", "son")]), joins=False),
    _insert("mapping", lambda: Mapping(_id="mapping", g=1), joins=False),
    _insert("raw", lambda: RawBSONDocument(bson.encode(_document("raw"))), joins=False),
    _insert("many types", lambda: _document(
        "types", d=Decimal128("1.0"), t=datetime.datetime(2024, 1, 1), r=re.compile("^a"),
        f=-0.0, o=OID, l=[1, [2, {"x": None}]],
    )),
    _insert("id later", lambda: {"g": 1, "_id": "later"}),
    _insert("duplicate id", lambda: _document("taken"), fails=True),
    _insert("duplicate unique", lambda: {"g": 1, "u": "taken"}, fails=True),
    _insert("not valid", lambda: {"a": 1}, fails=True),
    _insert("not valid value", lambda: {"g": 1, "v": 99}, fails=True),
    _insert("array id", lambda: _document([1]), fails=True),
    _insert("regex id", lambda: _document(re.compile("a")), fails=True),
    _insert("operator id", lambda: _document({"$a": 1}), fails=True),
    _insert("not encodable", lambda: {"g": object()}, fails=True),
    _insert("too large an integer", lambda: {"g": 2**65}, fails=True),
    _insert("raw without id", lambda: RawBSONDocument(bson.encode({"g": 4})), joins=False),
    _insert("no mapping", lambda: 5, fails=True),
    _insert("none", lambda: None, fails=True),
    _insert("uuid", lambda: {"g": 1, "x": FIXED}, fails=True),
    _insert("commented", lambda: {"g": 1}, comment="x", joins=False),
    _insert("bypassing", lambda: {"a": 1}, bypass_document_validation=True, joins=False),
    Case("insert many", lambda c: c.insert_many([{"g": 1}]), joins=False),
)  # fmt: skip

CASES: tuple[Case, ...] = (
    *_UPDATES, *_UPSERTS, *_FAILING, *_REPLACEMENTS, *_DELETES, *_INSERTS,
)  # fmt: skip

# One document for each case that wants one, by its name.
_FIELDS: dict[str, dict[str, Any]] = {
    "inc a string": {"s": "text"},
    "array filters": {"l": [1, 2, 3]},
    "positional": {"l": [1, 2, 3]},
    "no positional": {"l": [1, 2, 3]},
    "unchanged values of many types": {"t": 1.5, "n": None, "b": b"x"},
    "delete by key": {"k": "delete by key"},
}
DOCUMENTS: tuple[dict[str, Any], ...] = (
    *(
        {"_id": case.name, "g": 1, "a": 1, **_FIELDS.get(case.name, {})}
        for case in CASES
        if not case.insert
        and not case.name.startswith(("upsert by", "upsert with", "upsert not", "upsert taken"))
        and case.name not in ("COLLATED", "DELETED COLLATED")
    ),
    {"_id": "collated", "g": 1, "a": 1},
    {"_id": "deleted collated", "g": 1, "a": 1},
    {"_id": "by eq", "g": 1, "a": 1},
    {"_id": "of key", "g": 1, "a": 1, "k": "by key"},
    {"_id": "of unique", "g": 1, "a": 1, "u": "by unique"},
    {"_id": "g 77", "g": 77},
    {"_id": "g 78", "g": 78},
    {"_id": "taken", "g": 1, "u": "taken"},
)
