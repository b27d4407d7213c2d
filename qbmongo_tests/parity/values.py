"""What random operations are about: values, documents, filters, updates, pipelines.

The domain is small on purpose, so that operations meet: few ids, few fields, few values of many
types. In every pool the simplest comes first (hypothesis shrinks towards it).
"""

from __future__ import annotations

import datetime
import re
from typing import Any

import bson
from bson import SON, Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp
from bson.raw_bson import RawBSONDocument
from pymongo.collation import Collation

from qbmongo_tests.parity.choices import Choices, among, built, constant

UTC = datetime.timezone.utc
OBJECT_IDS = tuple(ObjectId(f"65f0{number:020x}") for number in range(3))

IDS: tuple[Any, ...] = (
    0, 1, 2, 3, 4, 5, 6, 7, "a", "A", "b", OBJECT_IDS[0], OBJECT_IDS[1], OBJECT_IDS[2],
    2.0, Int64(3), Decimal128("4.0"), 5.5, None, {"k": 1}, {"k": 1.0}, {"k": 1, "l": 2},
    datetime.datetime(2024, 1, 1), True, b"x",
)  # fmt: skip

SCALARS: tuple[Any, ...] = (
    0, 1, 2, 3, -1, None, "", "a", "A", "b", "\u00e9", True, False, 1.0, 2.5, -0.0,
    float("nan"), float("inf"), Int64(1), Int64(2**40), 2**31, Decimal128("1.0"),
    Decimal128("1.00"), Decimal128("NaN"), datetime.datetime(2024, 1, 1),
    datetime.datetime(2024, 5, 6, 7, 8, 9, 123000),
    datetime.datetime(2024, 1, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
    OBJECT_IDS[0], b"\x00\x01", Binary(b"z", 5), Timestamp(1, 2), re.compile("^a", re.IGNORECASE),
    MinKey(), MaxKey(), Code("f"), DBRef("c0", 1),
)  # fmt: skip

COMPOUNDS: tuple[Any, ...] = (
    [], [1], [1, 2, 3], [None], [[1, 2], 3], [1, "a", 2.5], [2, 1], {}, {"x": 1}, {"x": [1, 2]},
    {"y": 2, "x": 1}, SON([("x", 1), ("y", 2)]), {"x": {"y": None}}, [{"x": 1}, {"x": 2, "y": "a"}],
    [{"x": [1, 2]}, {"y": 1}], [{"x": 5}, 7],
)  # fmt: skip

FIELDS = ("a", "b", "c", "n", "arr", "s")
PATHS = ("a", "b", "_id", "n.x", "arr", "arr.x", "c", "s", "arr.0", "n", "n.y", "arr.0.x", "zz")
ARRAYS: tuple[Any, ...] = (
    [],
    [1],
    [1, 2, 3],
    [3, 1, 2],
    [{"x": 1}, {"x": 2}],
    ["a", "b"],
    [[1], 2],
)
COLLATIONS: tuple[Any, ...] = (
    Collation("en", strength=2),
    {"locale": "en", "strength": 2},
    Collation("en", numericOrdering=True),
    {"locale": "simple"},
)
TYPES: tuple[Any, ...] = ("int", "null", "string", "number", 1, 2, ["double", "array"], "object")


class Document(dict[str, Any]):
    """A mapping of the program's own, where the driver takes any."""


def scalar(choices: Choices) -> Any:
    return choices.one(SCALARS)


def value(choices: Choices) -> Any:
    return choices.one(COMPOUNDS if choices.chance(25) else SCALARS)


def identifier(choices: Choices) -> Any:
    return choices.one(IDS)


def path(choices: Choices) -> str:
    return choices.one(PATHS)


def document(choices: Choices) -> dict[str, Any]:
    """A document; one in four leaves the _id to the driver."""
    made: dict[str, Any] = {}
    if not choices.chance(25):
        made["_id"] = choices.one(IDS)
    for name in FIELDS[: 1 + choices.index(3)]:
        made[name] = value(choices)
    if choices.chance(35):
        made["arr"] = choices.one(ARRAYS)
    if choices.chance(20):
        made["n"] = {"x": scalar(choices), "y": choices.one(COMPOUNDS)}
    shape = choices.index(20)
    if shape == 19:
        return SON(made)
    return Document(made) if shape == 18 else made


def raw_document(choices: Choices) -> RawBSONDocument:
    plain = {"_id": choices.one(IDS), "a": choices.one(SCALARS[:4])}
    return RawBSONDocument(bson.encode(plain))


def _comparison(choices: Choices) -> dict[str, Any]:
    return {
        path(choices): {choices.one(("$gt", "$lt", "$gte", "$lte", "$eq", "$ne")): value(choices)}
    }


def _in(choices: Choices) -> dict[str, Any]:
    return {path(choices): {choices.one(("$in", "$nin")): choices.some(value, 4)}}


def _ids_in(choices: Choices) -> dict[str, Any]:
    return {"_id": {"$in": choices.some(identifier, 5)}}


def _logical(choices: Choices) -> dict[str, Any]:
    branches = choices.some(simple_filter, 3, 1)
    return {choices.one(("$or", "$and", "$nor")): branches}


def _not(choices: Choices) -> dict[str, Any]:
    inner = choices.one(("$gt", "$in", "$regex", "$exists", "$size"))
    operand = {"$in": [1, None], "$regex": "^a", "$exists": True, "$size": 2}.get(inner, 1)
    return {path(choices): {"$not": {inner: operand}}}


def _range(choices: Choices) -> dict[str, Any]:
    return {path(choices): {"$gte": scalar(choices), "$lt": scalar(choices)}}


def _by_id(choices: Choices) -> dict[str, Any]:
    return {"_id": choices.one(IDS)}


def _equality(choices: Choices) -> dict[str, Any]:
    return {path(choices): value(choices)}


_RARE_FILTERS: tuple[dict[str, Any], ...] = (
    {"a": {"$exists": True}}, {"a": {"$exists": False}}, {"arr": {"$size": 2}},
    {"arr": {"$elemMatch": {"$gt": 1, "$lt": 3}}}, {"arr": {"$elemMatch": {"x": 1}}},
    {"arr": {"$all": [1, 2]}}, {"a": {"$mod": [2, 1]}}, {"s": {"$regex": "^a", "$options": "i"}},
    {"b": re.compile("a")}, {"$expr": {"$gt": ["$a", "$b"]}}, {"$expr": {"$eq": ["$a", "$$who"]}},
    {"$expr": {"$lt": ["$t", "$$NOW"]}}, {"$comment": "why", "a": 1}, {"a": {"$gt": 5, "$lt": 3}},
    {"a": None}, {"a.b.c": None}, {"$and": []}, {"$or": []}, {"a": {"$in": 5}},
    {"a": {"$bogus": 1}},
    {"$bogus": 1}, {"$where": "true"}, {"$jsonSchema": {"required": ["a"]}},
    {"a": {"$type": "bogus"}},
    {"$text": {"$search": "a"}}, {"a": {"$not": 5}}, {"": 1}, {"a..b": 1},
    {"a": {"$bitsAllSet": 1}}, {"n": {"x": 1}}, {"n": {"x": 1, "y": []}},
    {"$expr": {"$lt": [{"$rand": {}}, 2]}}, {"_id": {"$gt": MinKey()}}, {"$alwaysFalse": 1},
)  # fmt: skip


def _rare(choices: Choices) -> dict[str, Any]:
    return choices.one(_RARE_FILTERS)


def _typed(choices: Choices) -> dict[str, Any]:
    return {path(choices): {"$type": choices.one(TYPES)}}


def _listed_twice(choices: Choices) -> dict[str, Any]:
    listed = choices.some(scalar, 3, 1)
    return {path(choices): {choices.one(("$in", "$nin")): [*listed, *listed]}}


def _surely_there(choices: Choices) -> dict[str, Any]:
    operator = choices.one(("$gt", "$eq", "$lte", "$ne", "$in"))
    operand = choices.some(scalar, 2, 1) if operator == "$in" else scalar(choices)
    return {path(choices): {"$exists": choices.one((True, True, False)), operator: operand}}


simple_filter = built(_by_id, _equality, _comparison, _range)
_ALL_FILTERS = (
    constant({}), _by_id, _by_id, _by_id, _by_id, _equality, _equality, _comparison, _comparison,
    _in, _ids_in, _range, _logical, _not, _typed, _rare, _rare, _listed_twice, _surely_there,
    _surely_there,
)  # fmt: skip
filter_ = built(*_ALL_FILTERS)


def sort_list(choices: Choices) -> list[tuple[str, Any]]:
    return [(choices.one(PATHS), choices.one((1, -1))) for _ in range(1 + choices.index(2))]


_SORTS: tuple[Any, ...] = ("a", {"a": 1, "_id": -1}, ["a", "b"], [("a", 1), ("a", -1)], [("a", 2)])
sort = built(sort_list, sort_list, among(*_SORTS, [], SON([("b", -1)]), [("a", "text")]))
hint: Any = among("_id_", [("_id", 1)], "a_1", [("a", 1)], {"a": 1}, "nope", SON([("b", 1)]), [])
projection = among(
    None, {"a": 1}, ["a"], {"a": 0}, {"_id": 0, "a": 1}, {"_id": 0}, [], {}, ["a", "n.x"],
    {"n.x": 1},
    {"arr": {"$slice": 1}}, {"arr": {"$slice": [1, 1]}}, {"arr": {"$elemMatch": {"$gt": 1}}},
    {"z": {"$add": [1, 2]}}, {"z": "$a"}, {"arr.$": 1}, {"a": 1, "b": 0}, {"a": True}, ["_id"],
    {"a": 1.5}, {"n": {"x": 1}}, "a", {"zz": {"$literal": 1}}, ("a", "b"), {"a": "x"},
)  # fmt: skip
let = among({"who": 1}, {}, {"who": None}, {"who": {"x": 1}}, {"1bad": 1})
comment = among("c", {"why": 1}, 5, "")
max_time_ms = among(60_000, 0, 1_000_000, -1)
small = among(0, 1, 2, 3, 5, 100)
batch_size = among(2, 1, 0, 3, 100)
collation = among(*COLLATIONS)


def _assignments(choices: Choices) -> dict[str, Any]:
    return {choices.one(PATHS): value(choices) for _ in range(1 + choices.index(2))}


def _set(choices: Choices) -> dict[str, Any]:
    return {"$set": _assignments(choices)}


def _inc(choices: Choices) -> dict[str, Any]:
    amount = choices.one((1, -1, 2.5, Int64(3), Decimal128("0.5"), 0, "a", None))
    return {"$inc": {choices.one(PATHS): amount}}


def _operator(choices: Choices) -> dict[str, Any]:
    name = choices.one(("$unset", "$min", "$max", "$mul", "$push", "$addToSet", "$pull", "$pop"))
    target = choices.one(PATHS)
    if name in ("$push", "$addToSet", "$pull"):
        target = choices.one(("arr", "arr", "a", "n.y"))
    operand = choices.one((1, -1, 2, 2.5)) if name in ("$mul", "$pop") else value(choices)
    return {name: {target: operand}}


def _two_operators(choices: Choices) -> dict[str, Any]:
    return {**_set(choices), **_inc(choices)}


_RARE_UPDATES: tuple[Any, ...] = (
    {"$push": {"arr": {"$each": [3, 4], "$slice": -3}}},
    {"$push": {"arr": {"$each": [0], "$position": 0}}},
    {"$push": {"arr": {"$each": [5, 1], "$sort": 1}}},
    {"$addToSet": {"arr": {"$each": [1, 2]}}}, {"$pull": {"arr": {"$gte": 2}}},
    {"$pullAll": {"arr": [1, 2]}}, {"$rename": {"a": "c"}}, {"$rename": {"a": "n.z"}},
    {"$setOnInsert": {"a": 1, "_id": 7}}, {"$bit": {"a": {"or": 4}}}, {"$set": {"arr.$": 9}},
    {"$set": {"arr.$[]": 8}}, {"$inc": {"arr.$[]": 1}}, {"$set": {"arr.$[e]": 7}},
    {"$set": {"arr.$[e].x": 6}}, [{"$set": {"a": {"$add": ["$b", 1]}}}], [{"$unset": "b"}],
    [{"$replaceWith": {"_id": "$_id", "a": "$b"}}], [{"$set": {"n.x": "$$who"}}], [],
    {}, {"a": 1}, {"$set": {}}, {"$bogus": {"a": 1}}, {"$set": {"_id": 99}}, {"$set": {"a.$": 1}},
    {"$set": 5}, {"$set": {"a": 1}, "$inc": {"a": 1}}, {"$set": {"": 1}}, {"$set": {"$x": 1}},
    [{"$match": {}}], {"$set": {"a": 1}, "b": 2}, {"$set": {"a": 1, "a.b": 2}},
)  # fmt: skip


def _rare_update(choices: Choices) -> Any:
    return choices.one(_RARE_UPDATES)


update = built(_set, _set, _set, _inc, _inc, _operator, _operator, _two_operators, _rare_update)
array_filters = among(
    [{"e": {"$gt": 1}}], [{"e.x": 1}], [], [{"e": 1}, {"f": 2}], [{"$bogus": 1}], {"e": 1}
)


def replacement(choices: Choices) -> dict[str, Any]:
    made = document(choices)
    if choices.chance(80):
        made.pop("_id", None)
    return made


def _pipeline_stage(choices: Choices) -> dict[str, Any]:
    stage: dict[str, Any] = choices.one(_STAGES)(choices)
    return stage


_GROUPS: tuple[dict[str, Any], ...] = (
    {"_id": None, "n": {"$sum": 1}}, {"_id": None, "n": {"$sum": "$a"}, "m": {"$max": "$b"}},
    {"_id": None, "all": {"$push": "$_id"}}, {"_id": "$nope", "f": {"$first": "$a"}},
)  # fmt: skip
_LOOKUPS: tuple[dict[str, Any], ...] = (
    {"from": "c1", "localField": "a", "foreignField": "_id", "as": "joined"},
    {"from": "c0", "localField": "_id", "foreignField": "a", "as": "joined"},
    {"from": "c1", "let": {"v": "$a"}, "as": "joined",
     "pipeline": [{"$match": {"$expr": {"$eq": ["$_id", "$$v"]}}}]},
    {"from": "absent", "localField": "a", "foreignField": "a", "as": "joined"},
)  # fmt: skip
_STAGES: tuple[Any, ...] = (
    lambda c: {"$match": filter_(c)},
    lambda c: {"$match": filter_(c)},
    lambda c: {"$sort": {c.one(PATHS): c.one((1, -1)), "_id": 1}},
    lambda c: {"$limit": c.one((1, 2, 5))},
    lambda c: {"$skip": c.one((0, 1, 2))},
    lambda c: {"$project": c.one(({"a": 1}, {"_id": 0}, {"z": {"$type": "$a"}}, {"n.x": 1}))},
    lambda c: {"$group": c.one(_GROUPS)},
    lambda c: {"$lookup": c.one(_LOOKUPS)},
    lambda c: {"$unwind": c.one(("$arr", {"path": "$arr", "preserveNullAndEmptyArrays": True}))},
    lambda c: c.one(
        (
            {"$count": "n"},
            {"$addFields": {"z": {"$size": {"$ifNull": ["$joined", []]}}}},
            {"$set": {"who": "$$who"}},
            {"$unionWith": "c1"},
            {"$replaceRoot": {"newRoot": {"v": "$a"}}},
            {"$facet": {"x": [{"$limit": 1}], "y": [{"$count": "n"}]}},
            {"$sortByCount": "$nope"},
            {"$bogus": 1},
            {"$limit": 0},
            {"$skip": -1},
            {"$match": 5},
            {},
        )
    ),
)
_WRITING_STAGES: tuple[dict[str, Any], ...] = (
    {"$out": "c1"}, {"$merge": {"into": "c1"}}, {"$merge": "c1"},
    {"$merge": {"into": "c1", "on": "_id", "whenMatched": "replace", "whenNotMatched": "discard"}},
    {"$merge": {"into": "c1", "whenMatched": "fail"}}, {"$out": "made"},
    {"$merge": {"into": "c1", "whenMatched": [{"$set": {"a": "$$new.a"}}]}},
)  # fmt: skip


_JOIN = {"$lookup": {"from": "c1", "localField": "a", "foreignField": "a", "as": "joined"}}
_ADDED = {"$addFields": {"z": {"$size": "$joined"}, "b": {"$ifNull": ["$b", 0]}}}
_UNWIND = {"$unwind": {"path": "$joined", "preserveNullAndEmptyArrays": True}}


def _rewritable_stages(choices: Choices) -> list[Any]:
    """Stages that the rules of rewriting put into another order, or leave out."""
    order = {"$sort": {choices.one(("a", "c", "b", "n.x")): choices.one((1, -1)), "_id": 1}}
    first = {"$match": simple_filter(choices)}
    stages: list[Any] = choices.one(
        (
            [_JOIN, _ADDED, order, {"$limit": 2}],
            [_JOIN, _UNWIND, {"$limit": 3}],
            [_JOIN, {"$count": "n"}],
            [first, order, {"$group": {"_id": None, "n": {"$sum": 1}}}],
            [{"$facet": {"x": [first, order], "y": [first, {"$count": "n"}]}}],
        )
    )
    return stages


def pipeline(choices: Choices) -> Any:
    stages = choices.some(_pipeline_stage, 3)
    if choices.chance(35):
        stages = _rewritable_stages(choices)
    if choices.chance(6):
        stages.append(choices.one(_WRITING_STAGES))
    return stages


# Wrong everywhere or nearly so: what takes the place of a right argument now and then.
WRONG: tuple[Any, ...] = (
    None, 5, "x", -1, [], {}, True, 2.5, [5], {"a": object}, {1: 2}, {"$bogus": 1}, {"a": 2**65},
    b"x", float("nan"), "$x", "", {"a": {1, 2}}, {"a\x00b": 1}, {"a": "\ud800"}, [{}], (1, 2),
    {"a": {"$bogus": 1}}, [("a", 1)], {"$set": {}}, object, ObjectId("0" * 24), "a\x00b", 2**31,
    2**64,
)  # fmt: skip
