"""Shapes: equal for what an index cannot tell apart, different for what it can."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.son import SON
from hypothesis import example, given
from hypothesis import strategies as st

from qbmongo.core import shapes
from qbmongo.core.shape_filters import MAX_NAME, MAX_NODES, type_class
from qbmongo.core.shape_forms import shape_form, shape_id, shape_text
from qbmongo.core.shapes import read_shape, write_shape
from qbmongo.records import ReadOp, WriteOp

NS = "shop.orders"


def find_shape(filter: Any, **more: Any) -> Any:
    return read_shape(ReadOp("find", NS, filter, **more))


def pipeline_shape(pipeline: Any) -> Any:
    return read_shape(ReadOp("aggregate", NS, {}, pipeline=pipeline))


def form_of(op: ReadOp | WriteOp) -> dict[str, Any]:
    return shape_form(read_shape(op) if isinstance(op, ReadOp) else write_shape(op))


SAME = [
    ({"a": 1}, {"a": 2.5}),
    ({"a": 1}, {"a": Int64(7)}),
    ({"a": 1}, {"a": Decimal128("1.5")}),
    ({"a": "x"}, {"a": "y"}),
    ({"a": 1, "b": "x"}, {"b": "z", "a": 9}),
    ({"a": 1, "b": 1, "c": 1}, SON([("c", 2), ("b", 2), ("a", 2)])),
    ({"a": 1}, {"a": {"$eq": 3}}),
    ({"a": 1}, {"a": 1, "$comment": "who asks"}),
    ({"a": {"$gt": 1, "$lt": 5}}, {"a": {"$lt": 9, "$gt": 3}}),
    ({"a": {"$in": [1, 2, 3]}}, {"a": {"$in": [4, 5, 6, 7, 8]}}),
    ({"a": {"$in": [1, "x"]}}, {"a": {"$in": ["y", "z", 5]}}),
    ({"$or": [{"a": 1}, {"b": 2}]}, {"$or": [{"b": 5}, {"a": 3}, {"a": 4}]}),
    ({"$and": [{"a": 1}, {"b": {"$gt": 2}}]}, {"a": 5, "b": {"$gt": 1}}),
    ({"a": {"x": 1}}, {"a": {"y": 2, "z": 3}}),
    ({"a": [1, 2]}, {"a": ["x"]}),
    ({"a": re.compile("^ab")}, {"a": Regex("^cd")}),
    ({"a": {"$regex": "^ab"}}, {"a": {"$regex": "^cd", "$options": ""}}),
    ({"a": {"$elemMatch": {"x": 1}}}, {"a": {"$elemMatch": {"x": 2}}}),
    ({"$expr": {"$gt": ["$a", 5]}}, {"$expr": {"$gt": ["$a", 6]}}),
    ({"$expr": {"$eq": ["$a", {"$literal": "$x"}]}}, {"$expr": {"$eq": ["$a", {"$literal": 1}]}}),
]

DIFFERENT = [
    ({"a": 1}, {"b": 1}),
    ({"a": 1}, {"a": "1"}),
    ({"a": 1}, {"a": True}),
    ({"a": 1}, {"a": None}),
    ({"a": 1}, {"a": [1]}),
    ({"a": 1}, {"a": {"x": 1}}),
    ({"a": ObjectId()}, {"a": "5f"}),
    ({"a": 1}, {"a": {"$gt": 1}}),
    ({"a": {"$gt": 1}}, {"a": {"$gte": 1}}),
    ({"a": 1}, {"a": 1, "b": 1}),
    ({"a": 1}, {}),
    ({"a": {"$in": [1]}}, {"a": {"$in": [1, 2]}}),
    ({"a": {"$in": [1, 2]}}, {"a": {"$in": list(range(201))}}),
    ({"a": {"$in": [1, 2]}}, {"a": {"$in": [1, None]}}),
    ({"a": {"$exists": True}}, {"a": {"$exists": False}}),
    ({"a": re.compile("^ab")}, {"a": re.compile("ab")}),
    ({"a": {"$regex": "^ab"}}, {"a": {"$regex": "^ab", "$options": "i"}}),
    ({"$or": [{"a": 1}, {"b": 1}]}, {"$or": [{"a": 1}]}),
    ({"$or": [{"a": 1}, {"b": 1}]}, {"$nor": [{"a": 1}, {"b": 1}]}),
    ({"a": {"$elemMatch": {"x": 1}}}, {"a": {"$elemMatch": {"y": 1}}}),
    ({"a": {"$not": {"$gt": 1}}}, {"a": {"$not": {"$lt": 1}}}),
    ({"$expr": {"$gt": ["$a", 5]}}, {"$expr": {"$gt": ["$b", 5]}}),
    ({"a.0": 1}, {"a.1": 1}),
]


@pytest.mark.parametrize(("left", "right"), SAME)
def test_filters_that_an_index_cannot_tell_apart_have_one_shape(left: Any, right: Any) -> None:
    assert find_shape(left) == find_shape(right)
    assert hash(find_shape(left)) == hash(find_shape(right))


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_filters_that_an_index_tells_apart_have_two_shapes(left: Any, right: Any) -> None:
    assert find_shape(left) != find_shape(right)
    assert shape_id(shape_form(find_shape(left))) != shape_id(shape_form(find_shape(right)))


SCALARS = st.sampled_from(
    [1, 1.5, "x", True, None, ObjectId(), datetime.datetime(2024, 1, 1), b"x", uuid.UUID(int=1)]
)
NAMES = st.sampled_from(["_id", "a", "b.c", "", " ", "!x", "Z", "ä", "a" * (MAX_NAME + 5)])


@given(st.dictionaries(NAMES, SCALARS, max_size=3))
def test_the_fast_path_gives_the_key_of_the_general_path(filter: dict[str, Any]) -> None:
    # An option that is no part of a shape leads through the general path.
    assert find_shape(filter) == find_shape(filter, options={"comment": "general"})


COMPARED = st.dictionaries(
    st.sampled_from(["$eq", "$ne", "$gt", "$lt", "$exists", "$in", "x"]),
    st.one_of(SCALARS, st.just([1, "x"]), st.just({"y": 1})),
    max_size=3,
)


@given(COMPARED)
def test_comparisons_read_quickly_give_the_key_of_the_general_path(operators: Any) -> None:
    # A SON is no exact dict, and leads through the general path.
    assert find_shape({"a": operators}) == find_shape({"a": SON(operators)})


def test_the_comment_field_is_no_part_of_the_fast_path_either() -> None:
    assert find_shape({"$comment": "x"}) == find_shape({})
    assert find_shape({"$comment": "x", "a": 1}) == find_shape({"a": 1})


def test_a_logical_operator_is_not_taken_for_a_path() -> None:
    nodes = shape_form(find_shape({"$or": [{"a": 1}]}))["filter"]
    assert nodes == [{"op": "$or", "branches": [[{"path": "a", "op": "$eq", "type": "number"}]]}]


@pytest.mark.parametrize(
    "change",
    [
        {"sort": {"a": 1}},
        {"sort": {"a": -1}},
        {"sort": {"a": 1, "b": 1}},
        {"sort": {"b": 1, "a": 1}},
        {"projection": {"a": 1}},
        {"projection": {"a": 0}},
        {"skip": 5},
        {"limit": 5},
        {"options": {"collation": {"locale": "en"}}},
        {"options": {"collation": {"locale": "en", "strength": 2}}},
        {"options": {"hint": "a_1"}},
        {"options": {"hint": {"a": 1}}},
        {"options": {"min": {"a": 1}}},
        {"options": {"max": {"a": 1}}},
    ],
)
def test_what_an_index_serves_besides_the_filter_is_part_of_the_shape(change: Any) -> None:
    seen = [find_shape({"a": 1})]
    seen += [
        find_shape({"a": 1}, **other)
        for other in ({"sort": {"c": 1}}, {"projection": {"c": 1}}, {"options": {"hint": "c_1"}})
    ]
    assert find_shape({"a": 1}, **change) not in seen


def test_how_many_are_skipped_and_asked_for_is_no_part_of_the_shape() -> None:
    assert find_shape({"a": 1}, skip=5, limit=10) == find_shape({"a": 1}, skip=50, limit=20)
    one = ReadOp("find_one", NS, {"a": 1}, limit=1)
    assert read_shape(one) == read_shape(ReadOp("find_one", NS, {"a": 2}))


def test_the_order_of_a_projection_does_not_matter() -> None:
    left = find_shape({}, projection={"a": 1, "b": True})
    assert left == find_shape({}, projection={"b": 1, "a": 1})
    assert left == find_shape({}, projection=["b", "a"])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (re.compile("^abc"), "regex_prefix"),
        (re.compile(r"\Aabc"), "regex_prefix"),
        (re.compile(r"^\.com"), "regex_prefix"),
        (re.compile("abc"), "regex"),
        (re.compile("^a|b"), "regex"),
        (re.compile("^a?b"), "regex"),
        (re.compile("^a*"), "regex"),
        (re.compile("^.a"), "regex"),
        (re.compile("^"), "regex"),
        (re.compile("^abc", re.IGNORECASE), "regex"),
        (re.compile("^abc", re.MULTILINE), "regex"),
        (re.compile(r"\Aabc", re.MULTILINE), "regex_prefix"),
        (re.compile(b"^abc"), "regex_prefix"),
        (Regex("^abc", "i"), "regex"),
        (Regex("^abc"), "regex_prefix"),
    ],
)
def test_only_a_pattern_that_gives_index_bounds_is_a_prefix(pattern: Any, expected: str) -> None:
    assert type_class(pattern) == expected


class Name(str):
    """A string with more to it."""


class Secret:
    """A value of a type that nobody knows."""

    def __repr__(self) -> str:
        return "s3cret"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Name("x"), "string"),
        (Code("x"), "code"),
        (Binary(b"x"), "binary"),
        (Timestamp(1, 1), "timestamp"),
        (MinKey(), "minkey"),
        (MaxKey(), "maxkey"),
        (OrderedDict(a=1), "document"),
        (Secret(), "other"),
    ],
)
def test_every_value_has_a_type_class(value: Any, expected: str) -> None:
    assert type_class(value) == expected


# -- pipelines ----------------------------------------------------------------------------------


def test_a_pipeline_keeps_the_head_that_an_index_can_serve() -> None:
    form = shape_form(
        pipeline_shape(
            [
                {"$match": {"a": 5, "b": {"$gt": 7}}},
                {"$sort": {"c": -1}},
                {"$limit": 3},
                {"$group": {"_id": "$carrier", "n": {"$sum": 1}}},
                {"$match": {"n": {"$gt": 3}}},
            ]
        )
    )
    assert form == {
        "namespace": NS,
        "operation": "aggregate",
        "filter": None,
        "pipeline": {
            "head": 3,
            "stages": [
                {
                    "stage": "$match",
                    "filter": [
                        {"path": "a", "op": "$eq", "type": "number"},
                        {"path": "b", "op": "$gt", "type": "number"},
                    ],
                },
                {"stage": "$sort", "sort": [["c", -1]]},
                {"stage": "$limit"},
                {"stage": "$group", "by": ["$carrier"]},
                {"stage": "$match"},
            ],
        },
    }


def test_every_join_is_kept_wherever_it_stands() -> None:
    lookup = {
        "$lookup": {
            "from": "planes",
            "localField": "tail",
            "foreignField": "no",
            "as": "p",
            "pipeline": [{"$match": {"year": {"$gt": 2000}}}],
        }
    }
    graph = {
        "$graphLookup": {
            "from": "staff",
            "startWith": "$boss",
            "connectFromField": "boss",
            "connectToField": "name",
            "as": "b",
            "restrictSearchWithMatch": {"active": True},
        }
    }
    union = {"$unionWith": {"coll": "old", "pipeline": [{"$match": {"x": 1}}]}}
    form = shape_form(pipeline_shape([{"$group": {"_id": None}}, lookup, graph, union]))
    year = [{"path": "year", "op": "$gt", "type": "number"}]
    assert form["pipeline"]["stages"][1:] == [
        {
            "stage": "$lookup",
            "from": "planes",
            "local_field": "tail",
            "foreign_field": "no",
            "pipeline": {"head": 1, "stages": [{"stage": "$match", "filter": year}]},
        },
        {
            "stage": "$graphLookup",
            "from": "staff",
            "local_field": "boss",
            "foreign_field": "name",
            "filter": [{"path": "active", "op": "$eq", "type": "bool"}],
        },
        {
            "stage": "$unionWith",
            "from": "old",
            "pipeline": {
                "head": 1,
                "stages": [
                    {
                        "stage": "$match",
                        "filter": [{"path": "x", "op": "$eq", "type": "number"}],
                    }
                ],
            },
        },
    ]


def test_joins_within_facets_are_kept() -> None:
    facet = {"$facet": {"one": [{"$lookup": {"from": "x", "foreignField": "f"}}], "two": []}}
    (stage,) = shape_form(pipeline_shape([facet]))["pipeline"]["stages"]
    assert {"head": 0, "stages": []} in stage["pipelines"]
    assert any(
        branch["stages"] == [{"stage": "$lookup", "from": "x", "foreign_field": "f"}]
        for branch in stage["pipelines"]
    )


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ([{"$match": {"a": 1}}], [{"$match": {"a": 2}}], True),
        ([{"$match": {"a": 1}}], [{"$match": {"b": 1}}], False),
        ([{"$sort": {"a": 1}}], [{"$sort": {"a": -1}}], False),
        ([{"$limit": 1}], [{"$limit": 2}], True),
        ([{"$unwind": "$a"}], [{"$unwind": {"path": "$a"}}], True),
        ([{"$unwind": "$a"}], [{"$unwind": "$b"}], False),
        ([{"$lookup": {"from": "a"}}], [{"$lookup": {"from": "b"}}], False),
        ([{"$out": "a"}], [{"$out": "b"}], False),
        ([{"$count": "n"}], [{"$count": "m"}], True),
    ],
)
def test_pipelines_compare_by_what_an_index_sees(left: Any, right: Any, equal: bool) -> None:
    assert (pipeline_shape(left) == pipeline_shape(right)) is equal


# -- writes -------------------------------------------------------------------------------------


def test_an_update_keeps_operators_and_the_fields_they_touch() -> None:
    op = WriteOp(
        "update_one",
        NS,
        {"_id": 5},
        {"$set": {"status": "x", "at.hour": 5}, "$inc": {"n": 1}},
        options={"upsert": True},
    )
    assert form_of(op) == {
        "namespace": NS,
        "operation": "update_one",
        "filter": [{"path": "_id", "op": "$eq", "type": "number"}],
        "update": {"$set": ["at", "status"], "$inc": ["n"]},
        "upsert": True,
    }


def test_a_pipeline_of_an_update_keeps_the_names_it_leaves_out() -> None:
    for stage, fields in (({"$unset": "a.b"}, ["a"]), ({"$unset": ["b", "a"]}, ["a", "b"])):
        op = WriteOp("update_many", NS, {}, [{"$set": {"x": 1}}, stage])
        assert form_of(op)["update"] == {"$set": ["x"], "$unset": fields}


def test_inserted_documents_are_no_part_of_a_shape() -> None:
    left = write_shape(WriteOp("insert_one", NS, None, {"a": 1}))
    assert left == write_shape(WriteOp("insert_one", NS, None, {"b": Secret()}))
    assert shape_form(left) == {"namespace": NS, "operation": "insert_one", "filter": None}


def test_a_bulk_write_keeps_its_requests_as_a_set() -> None:
    pymongo = pytest.importorskip("pymongo")
    requests = [
        pymongo.UpdateOne({"a": 1}, {"$set": {"x": 1}}),
        pymongo.UpdateOne({"a": 2}, {"$set": {"x": 1}}),
        pymongo.DeleteOne({"b": "x"}),
        pymongo.InsertOne({"c": 1}),
    ]
    kinds = form_of(WriteOp("bulk_write", NS, None, requests))["requests"]
    assert sorted(kinds, key=lambda request: request["kind"]) == [
        {"kind": "DeleteOne", "filter": [{"path": "b", "op": "$eq", "type": "string"}]},
        {"kind": "InsertOne", "filter": None},
        {"kind": "UpdateOne", "filter": [{"path": "a", "op": "$eq", "type": "number"}]},
    ]


# -- bounded, private, never raising -------------------------------------------------------------


class Hostile(Mapping[str, Any]):
    """A mapping that fails wherever it is touched."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.builds(Secret),
    st.just(Hostile()),
    st.sampled_from(["$a", "$$ROOT", re.compile("^a"), Regex("x"), Decimal128("NaN"), Name("n")]),
)
OPERATORS = st.sampled_from(
    [
        *("$or", "$and", "$nor", "$in", "$all", "$not", "$elemMatch", "$regex", "$options"),
        *("$expr", "$eq", "$gt", "$exists", "$match", "$sort", "$lookup", "$facet", "$out"),
        *("$unionWith", "$group", "$project", "$unwind", "$geoNear", "a", "b.c", "from"),
    ]
)
PATHS = st.one_of(OPERATORS, st.integers(), st.text(max_size=3), st.builds(Name, st.just("n")))
JUNK = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner),
        st.dictionaries(
            st.one_of(OPERATORS, st.integers(), st.text(max_size=3)), inner, max_size=4
        ),
    ),
    max_leaves=20,
)


OPTIONS = st.one_of(
    JUNK,
    st.dictionaries(st.sampled_from(["hint", "collation", "min", "max", "upsert"]), JUNK),
)


@given(junk=JUNK, more=JUNK, options=OPTIONS)
@example(junk={0: {"$or": None}}, more=None, options={})
def test_nothing_a_caller_sends_makes_a_shape_fail(junk: Any, more: Any, options: Any) -> None:
    for key in (
        read_shape(ReadOp("find", NS, junk, projection=more, sort=more, options=options)),
        read_shape(ReadOp("find", NS, junk)),
        read_shape(ReadOp("distinct", NS, junk, key=more)),
        read_shape(ReadOp("aggregate", NS, {}, pipeline=junk)),
        read_shape(ReadOp("aggregate", NS, {}, pipeline=[{"$match": junk}, {"$lookup": more}])),
        write_shape(WriteOp("update_one", NS, junk, more, sort=more)),
        write_shape(WriteOp("bulk_write", NS, None, more)),
    ):
        form = shape_form(key)
        assert json.loads(json.dumps(form)) == form
        assert shape_text(form)
        assert len({key, key}) == 1


def parts(key: Any) -> Iterator[Any]:
    if isinstance(key, (tuple, frozenset)):
        for part in key:
            yield from parts(part)
    else:
        yield key


@given(junk=JUNK)
def test_a_key_holds_nothing_but_exact_strings_and_small_integers(junk: Any) -> None:
    for key in (
        find_shape(junk, options={"hint": junk}),
        pipeline_shape([{"$match": junk}, {"$group": {"_id": junk}}]),
    ):
        assert {type(part) for part in parts(key)} <= {str, int, type(None)}
        assert all(abs(part) <= 50 for part in parts(key) if type(part) is int)


def test_a_path_of_the_callers_own_type_is_not_kept() -> None:
    for filter in ({Name("n"): 1}, {Name("n"): 1, "a": 1}, {"a": 1, Name("n"): {"$gt": 1}}):
        assert {type(part) for part in parts(find_shape(filter))} <= {str, type(None)}
        assert find_shape(filter) == find_shape({str.__str__(k): v for k, v in filter.items()})


def test_no_value_reaches_a_shape() -> None:
    secret = "s3cret"
    filter = {
        "a": secret,
        "b": {"$gt": secret, "$in": [secret], "$not": {"$regex": secret}},
        "c": {"$elemMatch": {"d": secret}},
        "e": {"x": secret},
        "f": re.compile(secret),
        "$or": [{"g": secret}],
        "$expr": {"$eq": ["$h", secret]},
        "$where": secret,
        "$comment": secret,
        "$text": {"$search": secret},
    }
    pipeline = [
        {"$match": filter},
        {"$addFields": {"x": secret, "y": {"$concat": [secret]}}},
        {"$group": {"_id": {"$concat": ["$a", secret]}}},
        {"$lookup": {"from": "o", "let": {"v": secret}, "pipeline": [{"$match": filter}]}},
    ]
    update = {"$set": {"a": secret}, "$push": {"b": {"$each": [secret]}}}
    for key in (
        find_shape(filter, options={"comment": secret, "let": {"v": secret}, "max": {"a": secret}}),
        pipeline_shape(pipeline),
        write_shape(WriteOp("update_one", NS, filter, update, options={"arrayFilters": [secret]})),
        write_shape(WriteOp("insert_one", NS, None, {"a": secret})),
        *(
            write_shape(WriteOp("update_many", NS, {}, wrong))
            for wrong in (
                {"$set": secret},
                {"$set": [secret]},
                {"$unset": secret},
                [{"$set": secret}],
                [{"$replaceWith": secret}],
            )
        ),
    ):
        assert secret not in repr(key)
        assert secret not in json.dumps(shape_form(key))


def test_a_key_is_bounded_whatever_the_caller_sends() -> None:
    deep: Any = {"a": 1}
    for _ in range(500):
        deep = {"$or": [deep, {"b": 1}]}
    wide = {"$or": [{f"f{i}": {"$gt": 1}} for i in range(5_000)]}
    long = {"x" * 1_000_000: 1, "y" * 1_000_000: {"$gt": 1}}
    for filter in (deep, wide, long, {f"f{i}": 1 for i in range(5_000)}):
        found = list(parts(find_shape(filter)))
        assert len(found) < MAX_NODES * 4
        assert max(len(part) for part in found if isinstance(part, str)) <= MAX_NAME


@pytest.mark.parametrize("name", ["x" * 1_000_000, Name("n")], ids=["long", "of the caller's"])
def test_names_of_an_update_are_not_kept_whatever_they_are(name: str) -> None:
    before = dict(shapes._known_updates)
    key = write_shape(WriteOp("update_one", NS, {"_id": 1}, {"$set": {name: 1}}))
    assert {type(part) for part in parts(key)} <= {str, int, type(None)}
    assert shapes._known_updates == before


def test_known_updates_are_bounded() -> None:
    for n in range(2 * shapes._MAX_KNOWN_UPDATES + 5):
        write_shape(WriteOp("update_one", NS, {"_id": 1}, {"$set": {f"f{n}": 1}}))
    assert 0 < len(shapes._known_updates) <= shapes._MAX_KNOWN_UPDATES


def test_what_is_left_out_of_a_bounded_key_shows() -> None:
    nodes = shape_form(find_shape({f"f{i}": 1 for i in range(5_000)}))["filter"]
    assert {"op": "$more", "type": "document"} in nodes


def test_an_invalid_filter_is_a_shape_of_its_own() -> None:
    assert shape_form(find_shape([1]))["filter"] == [{"op": "$invalid", "type": "array"}]
    assert shape_form(find_shape(Hostile()))["filter"] == [{"op": "$invalid", "type": "other"}]


def test_a_shape_has_the_same_id_in_every_process() -> None:
    code = (
        "from qbmongo.core.shapes import read_shape\n"
        "from qbmongo.core.shape_forms import shape_form, shape_id\n"
        "from qbmongo.records import ReadOp\n"
        "f = {'$or': [{c: {'$in': [1, 'x', None]}} for c in 'abcdef'],\n"
        "     '$expr': {'$gt': ['$a', '$b']}}\n"
        "print(shape_id(shape_form(read_shape(ReadOp('find', 'd.c', f)))))\n"
    )
    ids = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(p for p in sys.path if p) or "."},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(ids) == 1


def test_the_text_of_a_shape_reads_like_the_query() -> None:
    op = ReadOp(
        "find",
        NS,
        {"status": "x", "age": {"$gt": 5}, "$or": [{"a": 1}, {"b": {"$in": [1, 2]}}]},
        sort={"at": -1},
        limit=5,
        options={"hint": "age_1", "collation": {"locale": "en", "strength": 2}},
    )
    assert shape_text(form_of(op)) == (
        "find shop.orders {$or: [{a: number} | {b: {$in: [2-10 number]}}], age: {$gt: number}, "
        "status: string} sort {at: -1} hint age_1 collation {locale: en, strength: 2} limit"
    )


def test_the_line_stays_one_and_steers_no_terminal_whatever_the_names() -> None:
    op = ReadOp(
        "find", "shop.a\x1b[31m", {"x\nWARNING all is lost": 1, "\u202ey": 1}, sort=[("\r", 1)]
    )
    assert shape_text(form_of(op)) == (
        r"find shop.a\x1b[31m {x\nWARNING all is lost: number, \u202ey: number} sort {\r: 1}"
    )
