"""A shape is taken apart into what an index could do for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from qbmongo.advisor.accesses import Access, accesses_of, paths_of
from qbmongo.advisor.conjunctions import Bound, conjunction
from qbmongo.advisor.multikey import Arrays
from qbmongo.advisor.records import (
    CollectionInfo,
    CollectionStatistics,
    ExistingIndex,
    IndexSpec,
    WorkloadShape,
)
from qbmongo.core.shape_forms import shape_form, shape_id, shape_text
from qbmongo.core.shapes import read_shape, write_shape
from qbmongo.records import ReadOp, WriteOp


def shape(op: ReadOp | WriteOp, **more: Any) -> WorkloadShape:
    form = shape_form(read_shape(op) if isinstance(op, ReadOp) else write_shape(op))
    more.setdefault("calls", 10)
    return WorkloadShape(shape_id(form), form, shape_text(form), **more)


def only(op: ReadOp | WriteOp, **more: Any) -> Access:
    (access,) = accesses_of(shape(op, **more))
    return access


def bounds(filter: Mapping[str, Any]) -> dict[str, str]:
    where = only(ReadOp("find", "d.c", filter)).where
    return {bound.path: bound.kind for bound in where.bounds}


@pytest.mark.parametrize(
    ("condition", "kind"),
    [
        (5, "point"),
        ("x", "point"),
        ([1], "point"),
        (None, "null"),
        ({"$exists": False}, "null"),
        ({"$exists": True}, "exists"),
        ({"$in": [1, 2]}, "in"),
        ({"$in": [1]}, "point"),
        ({"$in": [None]}, "null"),
        ({"$in": [re.compile("^a"), 1]}, "prefix"),
        ({"$in": [re.compile("a"), 1]}, "scan"),
        ({"$all": [1, 2]}, "point"),
        ({"$gt": 1}, "range"),
        ({"$gte": None}, "null"),
        ({"$regex": "^abc"}, "prefix"),
        ({"$regex": "abc"}, "scan"),
        (re.compile("^abc"), "prefix"),
        (re.compile("^abc", re.IGNORECASE), "scan"),
        ({"$ne": 1}, "scan"),
        ({"$nin": [1]}, "scan"),
        ({"$not": {"$gt": 5}}, "scan"),
        ({"$type": "string"}, "type"),
        ({"$geoWithin": {"$center": []}}, "geo"),
    ],
)
def test_what_a_condition_gives_an_index(condition: Any, kind: str) -> None:
    assert bounds({"a": condition}) == {"a": kind}


@pytest.mark.parametrize(
    "filter",
    [
        {"a": {"$size": 2}},
        {"a": {"$mod": [2, 1]}},
        {"a.0": 5},
        {"$where": "1"},
        {"$expr": {"$gt": ["$a", "$b"]}},
        {"$nor": [{"a": 1}]},
        {"$jsonSchema": {}},
    ],
)
def test_what_gives_it_nothing_has_to_be_looked_up(filter: Mapping[str, Any]) -> None:
    where = only(ReadOp("find", "d.c", filter)).where
    assert (where.bounds, where.residual) == ((), True)


def test_two_ends_are_one_range() -> None:
    (bound,) = only(ReadOp("find", "d.c", {"a": {"$gt": 1, "$lt": 5}})).where.bounds
    assert bound.two_sided


def test_the_ends_of_one_element_and_of_another_are_two() -> None:
    filter = {"$and": [{"a": {"$elemMatch": {"$gt": 1}}}, {"a": {"$lt": 5}}]}
    found = only(ReadOp("find", "d.c", filter)).where.bounds
    assert sorted((bound.within, bound.two_sided) for bound in found if bound.within) == [
        ("a", False)
    ]
    assert len(found) == 2


def test_paths_in_an_element() -> None:
    filter = {"l": {"$elemMatch": {"k": 1, "v": {"$gt": 2}}}}
    where = only(ReadOp("find", "d.c", filter)).where
    assert {(b.path, b.kind, b.within) for b in where.bounds} == {
        ("l.k", "point", "l"),
        ("l.v", "range", "l"),
    }
    assert where.residual


def test_which_bounds_leave_missing_paths_out() -> None:
    kinds = {
        "point": Bound("a", "point", frozenset({"number"})),
        "null in a list": Bound("a", "in", frozenset({"null", "number"})),
        "null": Bound("a", "null", frozenset({"null"})),
        "not equal": Bound("a", "scan", frozenset({"number"})),
        "exists": Bound("a", "exists"),
    }
    found = {name for name, bound in kinds.items() if bound.excludes_missing}
    assert found == {"point", "exists"}


def test_branches() -> None:
    where = only(ReadOp("find", "d.c", {"x": 1, "$or": [{"a": 1}, {"b": 2, "c": 3}]})).where
    assert [b.path for b in where.bounds] == ["x"]
    ((first, second),) = where.alternatives
    assert {b.path for b in (*first.bounds, *second.bounds)} == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("op", "purpose", "limit"),
    [
        (ReadOp("find", "d.c", {"a": 1}), "read", None),
        (ReadOp("find_one", "d.c", {"a": 1}), "read", 1),
        (ReadOp("count_documents", "d.c", {"a": 1}), "count", None),
        (ReadOp("distinct", "d.c", {"a": 1}, key="b"), "distinct", None),
        (WriteOp("update_one", "d.c", {"a": 1}, {"$set": {"b": 1}}), "write", 1),
        (WriteOp("update_many", "d.c", {"a": 1}, {"$set": {"b": 1}}), "write", None),
        (WriteOp("delete_one", "d.c", {"a": 1}), "write", 1),
        (WriteOp("delete_many", "d.c", {"a": 1}), "write", None),
        (WriteOp("replace_one", "d.c", {"a": 1}, {}), "write", 1),
        (WriteOp("find_one_and_delete", "d.c", {"a": 1}), "write", 1),
    ],
)
def test_operations(op: ReadOp | WriteOp, purpose: str, limit: int | None) -> None:
    access = only(op)
    assert (access.purpose, access.limit) == (purpose, limit)
    assert [bound.path for bound in access.where.bounds] == ["a"]


@pytest.mark.parametrize(
    "op",
    [
        WriteOp("insert_one", "d.c", None, {"a": 1}),
        WriteOp("insert_many", "d.c", None, [{"a": 1}]),
        ReadOp("estimated_document_count", "d.c", {}),
    ],
)
def test_what_needs_no_index(op: ReadOp | WriteOp) -> None:
    assert accesses_of(shape(op)) == ()


def test_the_limit_is_what_was_seen_else_what_came_back() -> None:
    op = ReadOp("find", "d.c", {"a": 1}, limit=7)
    assert only(op, limits=(5, 7, 100)).limit == 7
    assert only(op, documents=40).limit == 4
    assert only(op).limit == 20


def test_a_projection_names_all_that_is_read() -> None:
    def projected(projection: dict[str, Any]) -> tuple[str, ...] | None:
        return only(ReadOp("find", "d.c", {"a": 1}, projection)).projection

    assert projected({"a": 1, "_id": 0}) == ("a",)
    assert projected({"a": 1}) == ("a", "_id")
    assert projected({"a": 0}) is None
    assert projected({"a": 1, "b": {"$slice": 1}}) is None
    assert projected({}) is None


def test_a_sort_by_score_is_none_that_an_index_gives() -> None:
    access = only(ReadOp("find", "d.c", {"a": 1}, sort={"s": {"$meta": "textScore"}}))
    assert (access.sort, access.sorted) == ((), True)


def aggregate(*stages: Mapping[str, Any], **more: Any) -> tuple[Access, ...]:
    return accesses_of(shape(ReadOp("aggregate", "d.c", {}, pipeline=list(stages)), **more))


@pytest.mark.parametrize(
    ("stages", "paths", "sort"),
    [
        ([{"$match": {"a": 1}}, {"$match": {"b": 1}}], {"a", "b"}, ()),
        ([{"$sort": {"s": 1}}, {"$match": {"a": 1}}], {"a"}, (("s", 1),)),
        ([{"$project": {"a": 1}}, {"$match": {"a": 1}}], {"a"}, ()),
        ([{"$project": {"a": "$b"}}, {"$match": {"a": 1}}], set(), ()),
        ([{"$unset": "b"}, {"$match": {"a": 1}}], {"a"}, ()),
        ([{"$set": {"b": 1}}, {"$match": {"a": 1}}], {"a"}, ()),
        ([{"$set": {"a": 1}}, {"$match": {"a": 1}}], set(), ()),
        ([{"$set": {"a.b": 1}}, {"$match": {"a": 1}}], set(), ()),
        ([{"$unwind": "$t"}, {"$match": {"a": 1}}], {"a"}, ()),
        ([{"$unwind": "$t"}, {"$match": {"t.x": 1}}], set(), ()),
        ([{"$unwind": "$t"}, {"$sort": {"t": 1}}], set(), ()),
        ([{"$limit": 5}, {"$match": {"a": 1}}], set(), ()),
        ([{"$limit": 5}, {"$sort": {"a": 1}}], set(), ()),
        ([{"$group": {"_id": "$a"}}, {"$match": {"a": 1}}], set(), ()),
        ([{"$lookup": {"from": "f", "as": "a"}}, {"$match": {"a": 1}}], set(), ()),
        ([{"$match": {"a": 1}}, {"$group": {"_id": "$b"}}, {"$sort": {"b": 1}}], {"a"}, ()),
    ],
)
def test_the_head_of_a_pipeline(
    stages: list[Mapping[str, Any]], paths: set[str], sort: tuple[Any, ...]
) -> None:
    main = aggregate(*stages)[0]
    assert ({bound.path for bound in main.where.bounds}, main.sort) == (paths, sort)


def test_a_join_reads_its_collection_once_a_document() -> None:
    lookup = {"from": "f", "localField": "a", "foreignField": "k", "as": "x"}
    _, join = aggregate({"$match": {"a": 1}}, {"$lookup": lookup}, documents=50)
    assert (join.namespace, join.purpose, join.executions) == ("d.f", "join", 5.0)
    assert [(bound.path, bound.kind) for bound in join.where.bounds] == [("k", "point")]


def test_a_joined_collection_may_have_a_dot_in_its_name() -> None:
    connect = {"startWith": "$a", "connectFromField": "a", "connectToField": "k", "as": "x"}
    _, join = aggregate({"$graphLookup": {"from": "f.archive", **connect}})
    assert join.namespace == "d.f.archive"
    _, union = aggregate({"$unionWith": {"coll": "f.archive", "pipeline": []}})
    assert union.namespace == "d.f.archive"


def test_joins_in_joins_unions_and_facets() -> None:
    inner = {"from": "g", "localField": "b", "foreignField": "m", "as": "y"}
    lookup = {
        "from": "f",
        "localField": "a",
        "foreignField": "k",
        "pipeline": [{"$match": {"open": True}}, {"$lookup": inner}],
        "as": "x",
    }
    union = {"coll": "u", "pipeline": [{"$match": {"n": 1}}]}
    found = aggregate({"$facet": {"one": [{"$lookup": lookup}]}}, {"$unionWith": union})
    assert {(a.namespace, b.path) for a in found for b in a.where.bounds} == {
        ("d.f", "k"),
        ("d.f", "open"),
        ("d.g", "m"),
        ("d.u", "n"),
    }


def test_a_correlated_expression_is_an_equality_only_where_it_is_certain() -> None:
    def joined(expression: Any) -> set[str]:
        pipeline = [{"$match": {"$expr": expression}}]
        lookup = {"from": "f", "let": {"v": "$a"}, "pipeline": pipeline, "as": "x"}
        found = aggregate({"$lookup": lookup})
        return {b.path for a in found if a.namespace == "d.f" for b in a.where.bounds}

    assert joined({"$eq": ["$k", "$$v"]}) == {"k"}
    assert joined({"$eq": ["$$v", "$k"]}) == {"k"}
    assert joined({"$ne": ["$k", "$$v"]}) == set()
    assert joined({"$or": [{"$eq": ["$k", "$$v"]}, True]}) == set()
    assert joined({"$and": [{"$eq": ["$k", "$$v"]}, {"$gt": ["$m", 5]}]}) == set()


def test_each_kind_of_request_of_a_bulk_write() -> None:
    requests = [
        WriteOp("update_one", "d.c", {"a": 1}, {"$set": {"b": 1}}),
        WriteOp("delete_many", "d.c", {"b": 1}),
        WriteOp("insert_one", "d.c", None, {"a": 1}),
    ]
    found = accesses_of(shape(WriteOp("bulk_write", "d.c", document=requests), documents=40))
    assert {(a.where.bounds[0].path, a.limit) for a in found} == {("a", 1), ("b", None)}
    assert sum(access.executions for access in found) == 4.0


def test_paths_that_statistics_are_wanted_for() -> None:
    lookup = {"from": "f", "localField": "a", "foreignField": "k", "as": "x"}
    shapes = [
        shape(ReadOp("find", "d.c", {"a": 1, "$or": [{"b": 1}]}, {"p": 1}, {"s": 1})),
        shape(ReadOp("distinct", "d.c", {}, key="key")),
        shape(ReadOp("aggregate", "d.c", {}, pipeline=[{"$lookup": lookup}])),
    ]
    assert paths_of(shapes) == {
        "d.c": {"a", "b", "p", "_id", "s", "key"},
        "d.f": {"k"},
    }


def test_arrays_side_by_side_and_within_each_other() -> None:
    found = Arrays(
        CollectionInfo(
            "d.c",
            indexes=(
                ExistingIndex(IndexSpec("d.c", (("z", 1),)), multikey_paths=frozenset({"z"})),
            ),
        ),
        CollectionStatistics("d.c", 5, array_paths=frozenset({"t", "l", "l.x", "l.y"})),
    )
    assert found.root("l.x.q") == "l"
    assert found.root("tt") is None
    assert found.root("z") == "z"
    assert found.parallel(["t", "l.k"])
    assert not found.parallel(["l.k", "l.x"])
    assert found.parallel(["l.x", "l.y"])
    assert not found.parallel(["a", "t", "b"])


def test_a_filter_that_was_cut_is_looked_up() -> None:
    where = conjunction(
        [{"op": "$more", "type": "document"}, {"path": "a", "op": "$eq", "type": "number"}]
    )
    assert where.residual
    assert [bound.path for bound in where.bounds] == ["a"]
