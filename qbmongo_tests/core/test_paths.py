from __future__ import annotations

from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st

from qbmongo.core.paths import (
    filter_paths,
    overlap,
    overlaps,
    projected_paths,
    sort_paths,
    strip_positions,
    update_paths,
    written_path,
)
from qbmongo.core.pipelines import (
    expression_paths,
    foreign_namespaces,
    leading_match,
    pipeline_paths,
)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("a", "a", True),
        ("a", "a.b", True),
        ("a.b", "a", True),
        ("a.b", "a.c", False),
        ("a", "ab", False),
        ("a.b", "a.bc", False),
        ("a.0.b", "a.b", True),
        ("a.0", "a.1", True),
        ("a.3.b", "a.4.c", False),
        ("0", "z", True),
    ],
)
def test_paths_overlap_if_one_is_a_prefix_of_the_other_without_positions(
    left: str, right: str, expected: bool
) -> None:
    assert overlaps(left, right) is expected
    assert overlaps(right, left) is expected


def test_any_path_overlaps_with_every_path_but_not_with_none() -> None:
    some, none = frozenset({"a"}), frozenset[str]()
    assert overlap(None, some)
    assert overlap(some, None)
    assert overlap(None, None)
    assert not overlap(None, none)
    assert not overlap(none, None)
    assert overlap(frozenset({"x", "a.b"}), frozenset({"a"}))
    assert not overlap(frozenset({"x", "a.b"}), frozenset({"a.c", "y"}))


parts = st.sampled_from(["a", "b", "0", "12", "c"])


@given(st.lists(parts, min_size=1, max_size=4), st.lists(parts, max_size=3))
def test_a_prefix_still_overlaps_after_positions_are_removed(
    prefix: list[str], more: list[str]
) -> None:
    assert overlaps(".".join(prefix), ".".join(prefix + more))


def test_a_top_level_number_stands_for_the_whole_document() -> None:
    assert strip_positions("0") == ""
    assert strip_positions("a.0.b.11") == "a.b"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.b", "a.b"),
        ("a.$.b", "a"),
        ("a.$[].b", "a"),
        ("a.b.$[x].c", "a.b"),
        ("a.5.b", "a"),
        ("0.a", ""),
    ],
)
def test_a_write_to_a_position_is_a_write_to_the_array(path: str, expected: str) -> None:
    assert written_path(path) == expected


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({}, set()),
        ({"_id": 1}, {"_id"}),
        ({"a": 1, "b.0.c": {"$gt": 1, "$lt": 5}}, {"a", "b.c"}),
        ({"$or": [{"a": 1}, {"$and": [{"b": 1}]}], "$comment": "x"}, {"a", "b"}),
        ({"$nor": [{"a": 1}]}, {"a"}),
        ({"a": {"$elemMatch": {"x": 1}}}, {"a"}),
        ({"a": {"$not": {"$in": [1]}}}, {"a"}),
        ({"a": {"x": 1}}, {"a"}),
        ({"a": {"$ref": "c", "$id": 1}}, {"a"}),
        ({"a": [1, 2]}, {"a"}),
        ({"$expr": {"$eq": ["$a", 1]}}, None),
        ({"a": 1, "$where": "true"}, None),
        ({"$jsonSchema": {}}, None),
        ({"$text": {"$search": "x"}}, None),
        ({"$or": [{"a": 1}, {"$expr": True}]}, None),
        ({"a": {"$unheard": 1}}, None),
        ({"a": {"$not": {"$unheard": 1}}}, None),
        ({"$unheard": 1}, None),
    ],
)
def test_a_filter_reads_the_paths_it_names(filter: dict[str, Any], expected: set[str]) -> None:
    paths = None if expected is None else frozenset(expected)
    assert filter_paths(filter) == paths
    raw = RawBSONDocument(bson.encode({"f": filter}))["f"]
    assert filter_paths(raw) == paths


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (None, set()),
        ({"a": 1, "b.0": -1}, {"a", "b"}),
        ({"$natural": 1}, None),
        ({"score": {"$meta": "textScore"}}, None),
    ],
)
def test_a_sort_reads_the_paths_it_names(sort: Any, expected: set[str] | None) -> None:
    assert sort_paths(sort) == (None if expected is None else frozenset(expected))


@pytest.mark.parametrize(
    ("projection", "expected"),
    [
        (None, None),
        ({}, None),
        ({"_id": 0}, None),
        ({"_id": 1}, {"_id"}),
        ({"a.x": 1, "b": True, "_id": 0}, {"a", "b"}),
        ({"a.x": 1, "b": True}, {"_id", "a", "b"}),
        ({"a": 0}, None),
        ({"a": {"$slice": 1}}, None),
        ({"a": "$b"}, None),
        ({"a.$": 1}, None),
    ],
)
def test_only_a_plain_inclusion_shows_less_than_the_document(
    projection: Any, expected: set[str] | None
) -> None:
    assert projected_paths(projection) == (None if expected is None else frozenset(expected))


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        ({"$set": {"a.b": 1, "c": 2}, "$inc": {"n": 1}}, {"a.b", "c", "n"}),
        ({"$set": {"a": 1}, "$setOnInsert": {"b": 1}}, {"a"}),
        ({"$push": {"laps.$[x].times": 1}}, {"laps"}),
        ({"$unset": {"0": 1}}, None),
        ({"$set": {}}, set()),
        ({"$rename": {"a": "b"}}, None),
        ({"$unheard": {"a": 1}}, None),
        ({"$set": 5}, None),
        ({"a": 1}, None),
        ({}, None),
        ([{"$set": {"a": 1}}], None),
        (None, None),
    ],
)
def test_an_update_touches_the_paths_of_its_operators(
    update: Any, expected: set[str] | None
) -> None:
    assert update_paths(update) == (None if expected is None else frozenset(expected))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("$a.b", {"a.b"}),
        ({"$add": ["$a", {"$multiply": ["$b.0", 2]}]}, {"a", "b"}),
        ({"$literal": "$a"}, set()),
        ({"$map": {"input": "$a", "as": "x", "in": "$$x.b"}}, {"a"}),
        ("$$ROOT", None),
        ("$$CURRENT.a", None),
        ({"$getField": "a"}, None),
        (5, set()),
    ],
)
def test_an_expression_reads_its_field_paths(expression: Any, expected: set[str] | None) -> None:
    assert expression_paths(expression) == (None if expected is None else frozenset(expected))


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        ([], None),
        ([{"$match": {"a": 1}}], None),
        ([{"$match": {"a": 1}}, {"$count": "n"}], {"a"}),
        ([{"$sort": {"a": 1}}, {"$limit": 1}, {"$group": {"_id": "$b"}}], {"a", "b"}),
        ([{"$unwind": "$a"}, {"$sortByCount": "$a.x"}], {"a", "a.x"}),
        ([{"$unwind": {"path": "$a"}}, {"$count": "n"}], {"a"}),
        ([{"$project": {"a.x": 1, "y": "$b"}}], {"a", "b", "y"}),
        ([{"$project": {"a": 0}}, {"$count": "n"}], set()),
        ([{"$project": {"a": {"x": 1}}}], None),
        ([{"$addFields": {"t": "$a"}}, {"$group": {"_id": "$t"}}], {"a", "t"}),
        ([{"$group": {"_id": 1, "d": {"$push": "$$ROOT"}}}], None),
        ([{"$replaceRoot": {"newRoot": "$a"}}], {"a"}),
        ([{"$facet": {"x": [{"$count": "n"}], "y": [{"$sortByCount": "$a"}]}}], {"a"}),
        ([{"$facet": {"x": [{"$limit": 1}]}}], None),
        ([{"$lookup": {"from": "o", "localField": "a", "as": "o"}}, {"$count": "n"}], {"a"}),
        (
            [{"$lookup": {"from": "o", "let": {"v": "$b"}, "pipeline": []}}, {"$count": "n"}],
            {"b"},
        ),
        ([{"$match": {"$expr": True}}, {"$count": "n"}], None),
        ([{"$unheard": 1}, {"$count": "n"}], None),
    ],
)
def test_a_pipeline_reads_until_a_stage_forgets_the_documents(
    pipeline: list[Any], expected: set[str] | None
) -> None:
    assert pipeline_paths(pipeline) == (None if expected is None else frozenset(expected))


def test_foreign_namespaces_are_found_at_every_depth() -> None:
    pipeline = [
        {"$lookup": {"from": "a", "pipeline": [{"$unionWith": "b"}], "as": "x"}},
        {"$graphLookup": {"from": "c", "startWith": "$x", "as": "y"}},
        {"$facet": {"f": [{"$unionWith": {"coll": "d", "pipeline": [{"$unionWith": "e"}]}}]}},
        {"$lookup": {"pipeline": [{"$unionWith": "f"}], "as": "z"}},
    ]
    assert foreign_namespaces(pipeline, "db") == {f"db.{name}" for name in "abcdef"}


@pytest.mark.parametrize(
    "stage",
    [
        {"$lookup": {"from": {"db": "other", "coll": "a"}, "as": "x"}},
        {"$graphLookup": {"as": "x"}},
        {"$unionWith": 5},
        {"$lookup": {"from": "a", "pipeline": "x", "as": "x"}},
    ],
)
def test_a_source_in_an_unknown_form_may_be_anything(stage: dict[str, Any]) -> None:
    assert foreign_namespaces([stage], "db") is None


def test_only_a_first_match_is_the_filter() -> None:
    assert leading_match([{"$match": {"a": 1}}, {"$match": {"b": 1}}]) == {"a": 1}
    assert leading_match([{"$limit": 1}, {"$match": {"a": 1}}]) is None
    assert leading_match([]) is None


def test_a_stage_with_two_fields_is_refused() -> None:
    with pytest.raises(ValueError, match="one field"):
        pipeline_paths([{"$match": {}, "$limit": 1}])
