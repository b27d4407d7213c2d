"""Rules of rewriting: when each fires, what it makes, and when it leaves a read as it is."""

from __future__ import annotations

import copy
import dataclasses
import uuid
from typing import Any

import bson
import pytest
from bson import SON, Decimal128, MinKey, ObjectId, Regex
from bson.raw_bson import RawBSONDocument

from qbmongo.core import rewrite as rewriting
from qbmongo.core.rewrite import RULES, Rewriter, rewrite
from qbmongo.core.rewrite_pipelines import _STORED_NOWHERE
from qbmongo.core.trust import Facts
from qbmongo.records import ReadOp
from qbmongo.settings import REWRITE_RULES

NS = "shop.orders"
ONE = ObjectId()
LOOKUP = {"$lookup": {"from": "users", "localField": "user", "foreignField": "_id", "as": "u"}}
UNWIND = {"$unwind": {"path": "$u", "preserveNullAndEmptyArrays": True}}
ADD = {"$addFields": {"total": {"$ifNull": ["$price", 0]}}}
PROJECT = {"$project": {"_id": 0, "at": True, "name": "$u.name"}}
SORT = {"$sort": {"at": -1}}
MATCH = {"$match": {"a": 1}}
GROUP = {"$group": {"_id": "$a"}}
COUNT = {"$count": "n"}
SUM = {"$group": {"_id": None, "n": {"$sum": 1}}}
ASKED = [
    {"$addFields": {"qb_joined": _STORED_NOWHERE}},
    {
        "$lookup": {
            "from": "users",
            "localField": "qb_joined",
            "foreignField": "_id",
            "as": "qb_joined",
        }
    },
    {"$project": {"qb_joined": 0}},
]


def of(query: Any, **more: Any) -> ReadOp:
    if isinstance(query, list):
        return ReadOp("aggregate", NS, {}, pipeline=query, **more)
    return ReadOp("find", NS, query, **more)


FIRING: dict[str, list[tuple[Any, Any]]] = {
    "in-duplicates": [
        ({"a": {"$in": [3, 1, 3]}}, {"a": {"$in": [3, 1]}}),
        ({"a": {"$nin": ["x", "x"]}}, {"a": {"$nin": ["x"]}}),
        ({"a": {"$in": [ONE, ONE]}}, {"a": {"$in": [ONE]}}),
        ({"a": {"$in": [uuid.UUID(int=1)] * 2}}, {"a": {"$in": [uuid.UUID(int=1)]}}),
        ({"$or": [{"b": 1}, {"a": {"$in": [1, 1]}}]}, {"$or": [{"b": 1}, {"a": {"$in": [1]}}]}),
        (
            {"$nor": [{"$and": [{"a": {"$in": [1, 1]}}]}]},
            {"$nor": [{"$and": [{"a": {"$in": [1]}}]}]},
        ),
        ([{"$match": {"a": {"$in": [1, 1]}}}, COUNT], [{"$match": {"a": {"$in": [1]}}}, COUNT]),
    ],
    "implied-exists": [
        ({"a": {"$exists": True, "$gt": 5}}, {"a": {"$gt": 5}}),
        ({"a.b": {"$eq": "x", "$exists": True}}, {"a.b": {"$eq": "x"}}),
        ({"a": {"$exists": True, "$in": [1, "x"]}}, {"a": {"$in": [1, "x"]}}),
        ({"a": {"$exists": True, "$lt": 9, "$ne": 3}}, {"a": {"$lt": 9, "$ne": 3}}),
        ({"a": {"$exists": True, "$gte": Decimal128("1")}}, {"a": {"$gte": Decimal128("1")}}),
    ],
    "join-before-count": [
        ([MATCH, LOOKUP, COUNT], [MATCH, COUNT, *ASKED]),
        ([LOOKUP, {"$addFields": {"u": {"$first": "$u"}}}, SUM], [SUM, *ASKED]),
        (
            [MATCH, {"$facet": {"page": [SORT], "all": [LOOKUP, COUNT]}}],
            [MATCH, {"$facet": {"page": [SORT], "all": [COUNT, *ASKED]}}],
        ),
    ],
    "sort-before-count": [
        ([MATCH, SORT, COUNT], [MATCH, COUNT]),
        ([SORT, {"$skip": 1}, {"$limit": 5}, SUM], [{"$skip": 1}, {"$limit": 5}, SUM]),
    ],
    "facet-common-match": [
        (
            [{"$facet": {"page": [MATCH, SORT], "all": [MATCH, COUNT], "raw": [MATCH]}}],
            [MATCH, {"$facet": {"page": [SORT], "all": [COUNT], "raw": [MATCH]}}],
        ),
    ],
    "sort-before-fields": [
        ([MATCH, ADD, SORT], [MATCH, SORT, ADD]),
        (
            [LOOKUP, ADD, SORT, {"$skip": 5}, {"$limit": 10}, MATCH],
            [SORT, {"$skip": 5}, {"$limit": 10}, LOOKUP, ADD, MATCH],
        ),
        (
            [GROUP, LOOKUP, SORT, {"$limit": 10}],
            [GROUP, SORT, {"$limit": 10}, LOOKUP],
        ),
    ],
    "page-before-unwind": [
        (
            [MATCH, LOOKUP, UNWIND, SORT, {"$skip": 5}, {"$limit": 10}],
            [MATCH, SORT, {"$limit": 15}, LOOKUP, UNWIND, {"$skip": 5}, {"$limit": 10}],
        ),
        ([LOOKUP, UNWIND, {"$limit": 3}], [{"$limit": 3}, LOOKUP, UNWIND, {"$limit": 3}]),
        ([LOOKUP, UNWIND, ADD, SORT, {"$skip": 1}], [SORT, LOOKUP, UNWIND, ADD, {"$skip": 1}]),
        (
            [{"$facet": {"page": [SORT, LOOKUP, UNWIND, {"$limit": 9}], "all": [COUNT]}}],
            [
                {
                    "$facet": {
                        "page": [SORT, {"$limit": 9}, LOOKUP, UNWIND, {"$limit": 9}],
                        "all": [COUNT],
                    }
                }
            ],
        ),
        (
            [MATCH, SORT, LOOKUP, UNWIND, {"$skip": 5}, {"$limit": 10}],
            [MATCH, SORT, {"$limit": 15}, LOOKUP, UNWIND, {"$skip": 5}, {"$limit": 10}],
        ),
        (
            [SORT, LOOKUP, UNWIND, PROJECT, {"$unset": "x"}, {"$limit": 3}],
            [SORT, {"$limit": 3}, LOOKUP, UNWIND, PROJECT, {"$unset": "x"}, {"$limit": 3}],
        ),
        (
            [LOOKUP, {"$project": {"u": 1}}, UNWIND, {"$limit": 3}],
            [{"$limit": 3}, LOOKUP, {"$project": {"u": 1}}, UNWIND, {"$limit": 3}],
        ),
        (
            [GROUP, {"$limit": 9}, LOOKUP, UNWIND, {"$limit": 3}],
            [GROUP, {"$limit": 9}, {"$limit": 3}, LOOKUP, UNWIND, {"$limit": 3}],
        ),
    ],
}
CASES = [(name, *case) for name, cases in FIRING.items() for case in cases]


def test_every_rule_has_a_case_and_a_name_in_the_settings() -> None:
    assert tuple(rule.name for rule in RULES) == REWRITE_RULES
    assert FIRING.keys() == set(REWRITE_RULES)


@pytest.mark.parametrize(("name", "query", "wanted"), CASES)
def test_a_rule_fires_once_and_changes_nothing_it_was_given(
    name: str, query: Any, wanted: Any
) -> None:
    before = copy.deepcopy(query)
    op, steps = rewrite(of(query))
    assert (op.filter if op.pipeline is None else op.pipeline) == wanted
    assert [step.rule.name for step in steps] == [name]
    assert steps[-1].op is op
    assert query == before
    assert rewrite(op) == (op, ())


@pytest.mark.parametrize(("name", "query", "wanted"), CASES)
def test_a_rule_that_is_off_does_not_fire(name: str, query: Any, wanted: Any) -> None:
    op = of(query)
    assert rewrite(op, off=(name,)) == (op, ())


UNTOUCHED: list[Any] = [
    {},
    {"_id": 5},
    {"a": {"$gt": 1}},
    # values that are equal for Python and not for the server's answer, or only for one of them
    {"a": {"$in": [1, True, 1]}},
    {"a": {"$in": [1, 1.0]}},
    {"a": {"$in": [None, None]}},
    {"a": {"$in": [Regex("x"), Regex("x")]}},
    {"a": {"$all": [1, 1]}},
    {"a": {"$in": ["x" * 600_000, "x" * 600_000]}},  # it may be too large as it was written
    {"a": {"$in": (1, 1)}},
    # no conditions but values
    {"a": {"x": 1, "$in": [1, 1]}},
    {"a": {"$ref": "b", "$in": [1, 1]}},
    {"$expr": {"$in": ["$a", [1, 1]]}},
    # $exists that is not implied, or beside what may be refused
    {"a": {"$exists": True}},
    {"a": {"$exists": False, "$gt": 5}},
    {"a": {"$exists": 1, "$gt": 5}},
    {"a": {"$exists": True, "$ne": None}},
    {"a": {"$exists": True, "$ne": 5}},
    {"a": {"$exists": True, "$gte": None}},
    {"a": {"$exists": True, "$gte": MinKey()}},
    {"a": {"$exists": True, "$in": [1, None]}},
    {"a": {"$exists": True, "$gt": 5, "$mod": [2]}},
    {"a": {"$exists": True, "$gt": 5, "$not": {"$size": 0}}},
    {"a": {"$exists": True, "$unknown": 5, "$gt": 5}},
    # whatever sees more than values of fields
    {"a": {"$in": [1, 1]}, "$text": {"$search": "x"}},
    {"a": {"$in": [1, 1]}, "$where": "1"},
    {"a": {"$in": [1, 1]}, "b": {"$near": [0, 0]}},
    # counts: what is not only counted, what may fail, what is not sure to be valid
    [SORT, {"$group": {"_id": None, "n": {"$sum": "$x"}}}],
    [SORT, {"$group": {"_id": None, "n": {"$sum": 0.1}}}],
    [SORT, {"$group": {"_id": "$a", "n": {"$sum": 1}}}],
    [SORT, {"$group": {"_id": None, "n": {"$first": "$a"}}}],
    [SORT, {"$group": {"n": {"$sum": 1}}}],
    [SORT, {"$count": "$n"}],
    [SORT, {"$count": "a.b"}],
    [{"$sort": {"at": -1, "b": 1}}, COUNT],
    [MATCH, {"$sort": {"at": 1, "_id": 1}}, COUNT],
    [{"$sort": {"a.0": 1}}, COUNT],
    [{"$sort": {"at": 2}}, COUNT],
    [{"$sort": {"at": True}}, COUNT],
    [{"$sort": {}}, COUNT],
    [{"$sort": {"$at": 1}}, COUNT],
    [{"$sort": {"score": {"$meta": "textScore"}}}, COUNT],
    [{"$group": {"_id": "$a", "b": {"$push": "$c"}}}, {"$sort": {"_id": 1, "b": 1}}, COUNT],
    [SORT, {"$limit": 0}, COUNT],
    [SORT, {"$unwind": "$a"}, COUNT],
    [LOOKUP, UNWIND, COUNT],
    [LOOKUP, COUNT, {"$project": {"n": 1}}],
    [LOOKUP, {"$count": "qb_joined"}],
    [LOOKUP, {"$addFields": {"x": {"$divide": ["$a", "$b"]}}}, COUNT],
    [LOOKUP, {"$addFields": {"a": 1, "a.b": 2}}, COUNT],
    [{"$lookup": {"from": "users", "pipeline": [], "as": "u"}}, COUNT],
    [{"$lookup": {**LOOKUP["$lookup"], "as": "$u"}}, COUNT],
    [{"$lookup": {**LOOKUP["$lookup"], "foreignField": "a..b"}}, COUNT],
    [{"$lookup": {**LOOKUP["$lookup"], "from": {"db": "x", "coll": "y"}}}, COUNT],
    # facets
    [{"$facet": {"a": [MATCH], "b": [{"$match": {"a": True}}]}}],
    [{"$facet": {"a": [MATCH], "b": [SORT]}}],
    [{"$facet": {"a": [MATCH], "b": []}}],
    [{"$facet": {"a": [ADD, SORT], "b": [{"$out": "x"}]}}],
    [{"$facet": {"a": 5, "b": [5]}}],
    [{"$facet": {"a": [{"$facet": {"b": [SORT, COUNT]}}]}}],
    [{"$facet": {"a": [{"$match": {"$expr": {"$gt": ["$a", 1]}}}, SORT]}}],
    [{"$facet": {"a": [{"$match": {"a": {"$geoWithin": {}}}}, SORT]}}],
    [{"$facet": {"a": [{"$match": {"$text": {"$search": "x"}}}, SORT]}}],
    [{"$facet": {"a": [{"$match": {"$sampleRate": 0.5}}, SORT]}}],
    [GROUP, {"$facet": {"a": [MATCH, SORT]}}],
    # orders and pages
    [ADD, {"$sort": {"total": 1}}],
    [ADD, {"$sort": {"total.x": 1, "at": 1}}],
    [{"$addFields": {"at.x": 1}}, SORT],
    [LOOKUP, {"$sort": {"u.name": 1}}],
    [{"$addFields": {"x": {"$divide": ["$a", "$b"]}}}, SORT],
    [{"$addFields": {"x": {"$rand": {}}}}, SORT],
    [{"$addFields": {"x": {"$first": "$tags"}}}, SORT],
    [{"$addFields": {"x": "$$NOW"}}, SORT],
    [{"$addFields": {"x": {}}}, SORT],
    [LOOKUP, {"$set": {"u": 1}}, {"$set": {"x": {"$size": "$u"}}}, SORT],
    [{"$project": {"a": 1, "at": 1}}, SORT],
    [GROUP, ADD, SORT, {"$limit": 3}],
    [GROUP, LOOKUP, SORT],
    [{"$limit": 5}, LOOKUP, UNWIND, {"$skip": 3}, {"$limit": 2}],
    [LOOKUP, UNWIND, {"$skip": 3}],
    [LOOKUP, UNWIND, PROJECT, SORT, {"$limit": 3}],
    [LOOKUP, UNWIND, {"$project": {"x": {"$toInt": "$a"}}}, {"$limit": 3}],
    [LOOKUP, UNWIND, {"$unset": []}, {"$limit": 3}],
    [LOOKUP, {"$project": {"u": "$a"}}, UNWIND, {"$limit": 3}],
    [LOOKUP, {"$unset": "u"}, UNWIND, {"$limit": 3}],
    [ADD, PROJECT, SORT, {"$limit": 3}],
    [ADD, SORT, {"$skip": -1}],
    [LOOKUP, {"$unwind": "$u"}, SORT, {"$limit": 3}],
    [{"$unwind": {"path": "$tags", "preserveNullAndEmptyArrays": True}}, {"$limit": 3}],
    [LOOKUP, {"$unwind": {**UNWIND["$unwind"], "includeArrayIndex": "at"}}, SORT, {"$limit": 3}],
    [LOOKUP, UNWIND, {"$sort": {"u.name": 1}}, {"$limit": 3}],
    [LOOKUP, UNWIND, {"$limit": 0}],
    [LOOKUP, UNWIND, {"$limit": 2.5}],
    [LOOKUP, UNWIND, {"$match": {"u.x": 1}}, {"$limit": 3}],
    [ADD, SORT, {"$out": "x"}],
    [ADD, SORT, {"$merge": {"into": "x"}}],
    [{"$search": {}}, ADD, SORT],
    # no reads at all
    [{}],
    [{"$match": {}, "$sort": {"a": 1}}, COUNT],
    [{"$match": 5}, COUNT],
    {5: 1},
    {"a": {5: 1}},
]


@pytest.mark.parametrize("query", UNTOUCHED, ids=lambda query: repr(query)[:100])
def test_what_is_not_surely_equal_and_valid_is_left_alone(query: Any) -> None:
    op = of(query)
    rewriter = Rewriter()
    for _ in range(3):
        assert rewriter.rewrite(op, None) == (op, ())


@pytest.mark.parametrize(
    "more",
    [
        {"options": {"hint": "a_1"}},
        {"options": {"let": {"x": 1}}},
        {"options": {"min": {"a": 1}}},
        {"options": {"explain": True}},
        {"projection": {"a.$": 1}},
        {"projection": {"a.$.b": 1}},
    ],
)
def test_options_that_may_depend_on_how_a_query_is_written_forbid_it(more: dict[str, Any]) -> None:
    op = of({"a": {"$in": [1, 1]}}, **more)
    assert rewrite(op) == (op, ())


@pytest.mark.parametrize(
    "more",
    [
        {"options": {"collation": {"locale": "en"}, "comment": "x", "maxTimeMS": 5}},
        {"projection": {"a": 1}, "sort": {"a": 1}, "skip": 1, "limit": 2},
    ],
)
def test_everything_else_of_a_read_stays(more: dict[str, Any]) -> None:
    op, steps = rewrite(of({"a": {"$in": [1, 1]}}, **more))
    assert len(steps) == 1
    assert {name: getattr(op, name) for name in more} == more
    assert (op.kind, op.namespace) == ("find", NS)


def test_documents_of_other_types_are_left_alone() -> None:
    filters = [SON([("a", {"$in": [1, 1]})]), RawBSONDocument(bson.encode({"a": {"$in": [1, 1]}}))]
    for filter in filters:
        op = of(filter)
        assert rewrite(op) == (op, ())
    op = of([SON([("$sort", {"a": 1})]), COUNT])
    assert rewrite(op) == (op, ())


def test_no_stage_is_sent_that_older_servers_do_not_know() -> None:
    """PyMongo 4.13 speaks to MongoDB 4.0, which has neither $set nor $unset as a stage."""
    made = {name for _, sent in FIRING["join-before-count"] for stage in sent for name in stage}
    assert made == {"$match", "$group", "$count", "$addFields", "$lookup", "$project", "$facet"}


@pytest.mark.parametrize("projection", [{5: 1}, {b"a": 1}, ["a", 5]])
def test_wrong_names_in_a_projection_are_left_to_the_driver(projection: Any) -> None:
    op = of({"a": {"$in": [1, 1]}}, projection=projection)
    assert rewrite(op) == (op, ())


def test_rules_meet_and_end() -> None:
    pipeline = [
        {"$match": {"a": {"$exists": True, "$in": [1, 1]}}},
        LOOKUP,
        {"$set": {"u": {"$first": "$u"}}},
        SORT,
        COUNT,
    ]
    op, steps = rewrite(of(pipeline))
    assert op.pipeline == [{"$match": {"a": {"$in": [1]}}}, COUNT, *ASKED]
    assert {step.rule.name for step in steps} == {
        "in-duplicates",
        "implied-exists",
        "sort-before-count",
        "join-before-count",
    }


def test_the_own_id_of_a_known_collection_is_no_array() -> None:
    """A view may make an array of it."""
    op = of([MATCH, {"$sort": {"at": 1, "_id": 1}}, COUNT])
    later = of([MATCH, GROUP, {"$sort": {"at": 1, "_id": 1}}, COUNT])
    known = Facts(None, True)
    rewriter = Rewriter()
    for _ in range(2):
        assert rewriter.rewrite(op, None) == (op, ())
        assert rewriter.rewrite(op, Facts("view", True)) == (op, ())
        assert rewriter.rewrite(later, known) == (later, ())
    assert Rewriter().rewrite(op, known)[0].pipeline == [MATCH, COUNT]


def test_steps_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even rules that undo each other would end."""
    rule = dataclasses.replace(RULES[0], apply=lambda op, facts: of({"a": {"$in": [1, 1]}}))
    monkeypatch.setattr(rewriting, "RULES", (rule,))
    _, steps = Rewriter().rewrite(of({"a": {"$in": [1]}}), None)
    assert len(steps) == rewriting._MAX_STEPS


def test_a_shape_that_no_rule_changes_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[ReadOp] = []
    rules = [
        dataclasses.replace(rule, apply=lambda op, facts: asked.append(op))
        for rule in RULES
        if rule.by_shape
    ]
    monkeypatch.setattr(rewriting, "RULES", tuple(rules))
    rewriter = Rewriter()
    for n in range(1, 5):
        pipeline = [{"$match": {"a": n}}, ADD, SORT, {"$skip": n}, {"$limit": n}]
        rewriter.rewrite(of(pipeline), None)
    assert len(asked) == 1
    rewriter.rewrite(of([MATCH, ADD, {"$sort": {"other": 1}}]), None)
    assert len(asked) == 2


def test_what_is_remembered_is_bounded() -> None:
    rewriter = Rewriter()
    for n in range(3 * rewriting._MAX_REMEMBERED):
        rewriter.rewrite(of({"a": {f"$unknown{n}": 1}}), None)
        rewriter.rewrite(of([ADD, {"$sort": {f"total.x{n}": 1}}]), None)
    assert len(rewriter._known) <= rewriting._MAX_REMEMBERED
    for known in rewriter._known.values():
        assert len(known.unchanged) <= rewriting._MAX_SHAPES


def test_long_constants_are_not_remembered() -> None:
    """A list of ids in an expression is part of the shape, and another one in each call."""
    rewriter = Rewriter()
    for n in range(3):
        listed = [f"{n}-{at}" for at in range(2_000)]
        pipeline = [MATCH, {"$addFields": {"mine": {"$in": ["$user", listed]}}}, SORT]
        rewriter.rewrite(of(pipeline), None)
        rewriter.rewrite(of([MATCH, {"$addFields": {"mine": {"$in": ["$user", [n]]}}}, SORT]), None)
    kept = [shape for known in rewriter._known.values() for shape in known.unchanged]
    assert len(kept) == 3
    assert max(map(len, kept)) <= rewriting._MAX_SHAPE_BYTES


def test_every_rule_says_what_it_does_when_it_is_equal_and_why() -> None:
    for rule in RULES:
        for text in (rule.what, rule.condition, rule.gain, rule.source):
            assert text
        assert "https://www.mongodb.com/docs/" in rule.source
        assert rule.marks
