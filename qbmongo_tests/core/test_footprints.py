from __future__ import annotations

import re
from typing import Any

import bson
import pytest
from bson import Regex
from bson.codec_options import CodecOptions
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.raw_bson import RawBSONDocument

from qbmongo.core.footprints import cacheable, footprint_of, may_affect, with_ids
from qbmongo.records import EVERYTHING, Effect, Footprint, ReadKind, ReadOp

NS = "db.c"
CI = {"collation": {"locale": "en", "strength": 2}}


def find(filter: Any, **more: Any) -> ReadOp:
    return ReadOp("find", NS, filter, **more)


def aggregate(*stages: Any, **more: Any) -> ReadOp:
    return ReadOp("aggregate", NS, {}, pipeline=list(stages), **more)


def paths(*names: str) -> frozenset[str]:
    return frozenset(names)


def test_a_point_read_is_confined_to_its_document() -> None:
    expected = Footprint(NS, {"_id": 7}, paths("_id"), paths(), None, bound_ids=frozenset({7}))
    assert footprint_of(ReadOp("find_one", NS, {"_id": 7}, limit=-1)) == expected
    assert footprint_of(find({"_id": {"$eq": 7}})).bound_ids == {7}
    assert footprint_of(find({"_id": Regex("^a")})).bound_ids is None
    assert footprint_of(find({"_id": re.compile("^a")})).bound_ids is None


def test_a_find_depends_on_filter_order_and_what_it_shows() -> None:
    op = find({"a": 1, "l.0.x": {"$gt": 1}}, sort={"b": 1}, projection={"c.d": 1}, skip=1, limit=2)
    assert footprint_of(op) == Footprint(
        NS,
        {"a": 1, "l.0.x": {"$gt": 1}},
        paths("a", "l.x"),
        paths("b"),
        paths("_id", "c"),
        window=True,
        equality=("a", 1),
    )


def test_a_count_and_distinct_values_show_no_documents() -> None:
    assert footprint_of(ReadOp("count_documents", NS, {"a": 1})).projected_paths == paths()
    op = ReadOp("distinct", NS, {"a": 1}, key="l.0.x")
    assert footprint_of(op).projected_paths == paths("l.x")


def test_a_pipeline_depends_on_its_match_its_stages_and_its_sources() -> None:
    op = aggregate({"$match": {"a": 1}}, {"$group": {"_id": "$b"}}, {"$unionWith": "d"}, options=CI)
    assert footprint_of(op) == Footprint(
        NS,
        {"a": 1},
        paths("a"),
        paths(),
        paths("b"),
        foreign=frozenset({"db.d"}),
        equality=("a", 1),
        simple=False,
    )
    assert footprint_of(aggregate({"$limit": 1})).projected_paths is None


def test_a_pipeline_over_unknown_sources_has_no_footprint() -> None:
    with pytest.raises(ValueError, match="sources"):
        footprint_of(aggregate({"$unionWith": 5}))


def test_a_footprint_shares_nothing_that_the_caller_may_change() -> None:
    filter = {"a": {"$in": [1, 2]}, "b": {"$elemMatch": {"x": 1}}}
    footprint = footprint_of(find(filter))
    filter["a"]["$in"].append(3)
    filter["b"]["$elemMatch"]["x"] = 2
    assert footprint.filter == {"a": {"$in": [1, 2]}, "b": {"$elemMatch": {"x": 1}}}


def test_a_filter_of_uncertain_types_is_not_matched() -> None:
    assert footprint_of(find({"a": DBRef("c", 1)})).filter is None


@pytest.mark.parametrize("option", ["hint", "min", "max"])
def test_an_index_that_is_asked_for_may_leave_documents_out(option: str) -> None:
    assert footprint_of(find({"a": 1}, options={option: {"b": 1}})).filter_paths is None
    op = aggregate({"$match": {"a": 1}}, {"$count": "n"}, options={option: {"b": 1}})
    assert footprint_of(op).filter_paths is None


def test_a_string_under_a_collation_confines_nothing() -> None:
    footprint = footprint_of(find({"_id": "x", "a": "y", "n": 1}, options=CI))
    assert (footprint.simple, footprint.bound_ids, footprint.equality) == (False, None, ("n", 1))
    assert footprint_of(find({"_id": 5}, options=CI)).bound_ids == {5}


@pytest.mark.parametrize("value", [None, Regex("x"), re.compile("x"), {"x": 1}, [1]])
def test_no_equality_to_look_for_in_nulls_patterns_documents_and_arrays(value: Any) -> None:
    assert footprint_of(find({"a": value})).equality is None
    assert footprint_of(find({"$or": [{"a": 1}]})).equality is None


def test_with_ids_changes_the_ids_alone() -> None:
    footprint = footprint_of(
        aggregate({"$match": {"a": 1}}, {"$unionWith": "d"}, {"$count": "n"}, options=CI)
    )
    filled = with_ids(footprint, frozenset({1}))
    assert filled.ids == {1}
    assert with_ids(filled, None) == footprint


def test_wider_effects_reach_what_they_cover() -> None:
    footprint = with_ids(footprint_of(aggregate({"$unionWith": "d"})), None)
    for effect in (
        EVERYTHING,
        Effect("database", "db"),
        Effect("namespace", "db.c"),
        Effect("namespace", "db.d"),
        Effect("delete", "db.d", frozenset({1})),
    ):
        assert may_affect(effect, footprint)
    for effect in (Effect("database", "d"), Effect("namespace", "db.e"), Effect("insert", "db.cc")):
        assert not may_affect(effect, footprint)


def test_a_source_in_another_database_is_reached_by_its_drop() -> None:
    footprint = Footprint(NS, None, None, None, None, foreign=frozenset({"other.d"}))
    assert may_affect(Effect("database", "other"), footprint)


def test_a_document_that_is_inserted_again_had_been_gone() -> None:
    footprint = with_ids(footprint_of(find({"a": 1})), frozenset({7}))
    again = Effect("insert", NS, frozenset({7}), None, ({"_id": 7, "a": 2},))
    other = Effect("insert", NS, frozenset({8}), None, ({"_id": 8, "a": 2},))
    assert may_affect(again, footprint)
    assert not may_affect(other, footprint)


# What may be cached


@pytest.mark.parametrize(
    "op",
    [
        find({}),
        find({"_id": 1}),
        find({"a": {"$gt": 1, "$ne": None}, "$or": [{"b": 1}], "$comment": "x"}),
        find({"a": {"$all": [{"$elemMatch": {"x": 1}}]}}),
        find({"a": {"$elemMatch": {"$or": [{"x": 1}]}}, "b": {"$elemMatch": {"$gt": 1}}}),
        find({"a": {"$geoWithin": {"$box": [[0, 0], [1, 1]]}}}),
        find({"$expr": {"$gt": ["$a", {"$add": ["$$ROOT.b", 1]}]}}),
        find({"$jsonSchema": {"required": ["a"]}}),
        find({"a": {"$ref": "c", "$id": 1}}),
        find({}, projection={"a": {"$elemMatch": {"x": {"$gt": 1}}}, "b": "$c"}),
        find({}, projection={"a": {"$slice": 5}}, sort={"a": -1}),
        find({}, options={"hint": {"a": 1}, "comment": "x", "let": {"x": 1}, "maxTimeMS": 5, **CI}),
        ReadOp("distinct", NS, {}, key="a"),
        ReadOp("count_documents", NS, {"a": "$$NOW"}),
        aggregate({"$match": {"a": 1}}, {"$project": {"pipeline": 1, "x": {"$literal": "$$NOW"}}}),
        aggregate({"$lookup": {"from": "d", "pipeline": [{"$match": {"a": 1}}], "as": "x"}}),
        aggregate({"$setWindowFields": {"sortBy": {"a": 1}, "output": {"r": {"$rank": {}}}}}),
        aggregate({"$facet": {"x": [{"$sortByCount": "$a"}]}}, {"$unwind": "$x"}),
    ],
)
def test_what_depends_on_known_data_alone_may_be_cached(op: ReadOp) -> None:
    assert cacheable(op) is None


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (ReadOp("find", "admin.c", {}), "system_namespace"),
        (ReadOp("find", "local.oplog.rs", {}), "system_namespace"),
        (ReadOp("find", "config.c", {}), "system_namespace"),
        (ReadOp("find", "db.system.views", {}), "system_namespace"),
        (ReadOp("aggregate", "db", {}, pipeline=[]), "system_namespace"),
        (ReadOp("aggregate", "db.$cmd.aggregate", {}, pipeline=[]), "system_namespace"),
        (ReadOp("estimated_document_count", NS, {}), "kind"),
        (find({"a": float("nan")}), "nan"),
        (find({"a": {"$in": [1, {"x": Decimal128("NaN")}]}}), "nan"),
        (find({}, options={"let": {"x": float("nan")}}), "nan"),
        (aggregate({"$project": {"a": {"$literal": [float("nan")]}}}), "nan"),
        (find({"$where": "true"}), "where"),
        (find({"$or": [{"$text": {"$search": "x"}}]}), "text"),
        (find({"a": {"$near": [0, 0]}}), "geo"),
        (find({"a": {"$not": {"$nearSphere": [0, 0]}}}), "geo"),
        (find({"$sampleRate": 0.5}), "sample"),
        (find({"$unheard": 1}), "unknown_operator"),
        (find({"a": {"$unheard": 1}}), "unknown_operator"),
        (find({"a": {"$elemMatch": {"x": {"$unheard": 1}}}}), "unknown_operator"),
        (find({"a": {"$all": [{"$elemMatch": {"$unheard": 1}}]}}), "unknown_operator"),
        (find({"$expr": {"$unheard": 1}}), "unknown_operator"),
        (find({"$expr": {"$lt": ["$a", "$$NOW"]}}), "now"),
        (find({"$expr": {"$lt": ["$a", "$$CLUSTER_TIME"]}}), "now"),
        (find({"$expr": {"$in": ["x", "$$USER_ROLES.role"]}}), "user_roles"),
        (find({"$expr": {"$lt": [{"$rand": {}}, 0.5]}}), "rand"),
        (find({}, projection={"a": {"$function": {}}}), "function"),
        (find({}, projection={"a": {"$meta": "textScore"}}), "meta"),
        (find({}, sort={"a": {"$meta": "textScore"}}), "meta"),
        (find({}, options={"let": {"now": "$$NOW"}}), "now"),
        (find({}, options={"tailable": True}), "tailable"),
        (find({}, options={"awaitData": True}), "tailable"),
        (find({}, options={"showRecordId": True}), "record_id"),
        (find({}, options={"returnKey": True}), "return_key"),
        (find({}, options={"allowPartialResults": True}), "partial_results"),
        (find({}, options={"unheard": True}), "option"),
        (find({"a": object()}), "unknown_type"),
        (find({"a": DBRef("c", 1)}), "unknown_type"),
        (find([]), "unknown_type"),
        (find({5: 1}), "unknown_type"),
        (aggregate({"$sample": {"size": 1}}), "sample"),
        (aggregate({"$out": "x"}), "out"),
        (aggregate({"$merge": "x"}), "out"),
        (aggregate({"$geoNear": {}}), "geo"),
        (aggregate({"$changeStream": {}}), "change_stream"),
        (aggregate({"$indexStats": {}}), "statistics"),
        (aggregate({"$collStats": {}}), "statistics"),
        (aggregate({"$search": {}}), "text"),
        (aggregate({"$unheard": {}}), "unknown_stage"),
        (aggregate({"$facet": {"x": [{"$sample": {"size": 1}}]}}), "sample"),
        (aggregate({"$lookup": {"from": "d", "pipeline": [{"$sample": {}}], "as": "x"}}), "sample"),
        (aggregate({"$unionWith": {"coll": "d", "pipeline": [{"$out": "x"}]}}), "out"),
        (
            aggregate({"$graphLookup": {"from": "d", "restrictSearchWithMatch": {"$where": "1"}}}),
            "where",
        ),
        (aggregate({"$lookup": {"from": {"db": "x", "coll": "d"}, "as": "x"}}), "unknown_source"),
        (aggregate({"$unionWith": "system.users"}), "system_namespace"),
        (aggregate({"$group": {"_id": 1, "x": {"$accumulator": {}}}}), "function"),
        (aggregate({"$match": {"$where": "1"}}), "where"),
        (aggregate({"$sort": {"a": {"$meta": "x"}}}), "meta"),
        (aggregate(5), "unknown_type"),
        (aggregate({"$limit": 1, "$skip": 1}), "unknown_type"),
        (ReadOp("aggregate", NS, {}, pipeline={"$limit": 1}), "unknown_type"),  # type: ignore[arg-type]
    ],
)
def test_a_read_that_may_not_be_cached_is_refused_by_name(op: ReadOp, reason: str) -> None:
    assert cacheable(op) == reason


@pytest.mark.parametrize("kind", ["find", "find_one", "count_documents", "distinct", "aggregate"])
def test_every_kind_that_is_cached_has_a_footprint(kind: ReadKind) -> None:
    pipeline = [{"$match": {"a": 1}}] if kind == "aggregate" else None
    op = ReadOp(kind, NS, {"a": 1}, pipeline=pipeline, key="a" if kind == "distinct" else None)
    assert cacheable(op) is None
    assert footprint_of(op).filter == {"a": 1}


def test_raw_arguments_are_read_as_plain_ones() -> None:
    exact: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)
    raw = RawBSONDocument(
        bson.encode({"f": {"_id": {"$in": [1, 2]}, "a": {"x": 1}}, "p": {"a": 1}}), exact
    )
    plain = find({"_id": {"$in": [1, 2]}, "a": {"x": 1}}, projection={"a": 1})
    op = find(raw["f"], projection=raw["p"])
    assert cacheable(op) is None
    footprint, expected = footprint_of(op), footprint_of(plain)
    assert footprint.bound_ids == expected.bound_ids
    assert footprint.filter_paths == expected.filter_paths
    assert footprint.projected_paths == expected.projected_paths
