"""Profiles, the profiler's documents and log lines as one workload; facts of collections."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from bson import ObjectId
from bson.datetime_ms import DatetimeMS

from qbmongo.advisor.collection_documents import collection_info
from qbmongo.advisor.command_shapes import command_shape
from qbmongo.advisor.index_documents import index_from_document, index_options
from qbmongo.advisor.inputs import from_snapshot, merge_workloads
from qbmongo.advisor.observed_values import constants, filters_of, observed_values
from qbmongo.advisor.profiler_documents import from_profiler
from qbmongo.advisor.records import WorkloadShape
from qbmongo.advisor.server_log import from_log
from qbmongo.core.shape_forms import shape_form
from qbmongo.core.shape_profiles import Latency, ShapeProfile, SlowSample
from qbmongo.core.shapes import read_shape
from qbmongo.profiles import ProfileSnapshot, sketch_scale
from qbmongo.records import ReadOp

from . import recorded
from .recorded import line


def test_a_slow_aggregation_of_a_log() -> None:
    read = from_log([line(recorded.SLOW_AGGREGATE)])
    assert (read.lines, read.slow, read.skipped) == (1, 1, 0)
    (shape,) = read.shapes
    assert shape.text.startswith("aggregate stocks.trades [$match {price: {$gte: number}")
    assert (shape.calls, shape.total_s, shape.documents, shape.bytes) == (1, 22.427, 30, 17738)
    assert (shape.examined_calls, shape.keys_examined, shape.documents_examined) == (1, 0, 1000001)
    assert (shape.sorted_in_memory, shape.plan_summaries) == (1, ("COLLSCAN",))
    assert (shape.limits, shape.sources) == ((30,), ("log",))
    assert shape.first_seen_s == datetime(2024, 5, 20, 20, 10, 8, 731000, timezone.utc).timestamp()
    assert filters_of(shape) == [{"ticker": "ABC", "price": {"$gte": 110.0}}]


def test_updates_and_removes_of_a_log() -> None:
    read = from_log([line(recorded.SLOW_UPDATE).encode(), line(recorded.SLOW_REMOVE).encode()])
    removed, updated = read.shapes
    assert (updated.operation, updated.documents, updated.keys_examined) == ("update_many", 38, 500)
    assert updated.shape["update"] == {"$set": ["status"]}
    assert filters_of(updated)[0]["at"] == {"$lt": datetime(2024, 1, 1)}
    assert (removed.operation, removed.documents, removed.total_s) == ("delete_many", 12, 0.3)


def test_a_get_more_belongs_to_its_cursor() -> None:
    read = from_log([line(recorded.SLOW_FIND), line(recorded.SLOW_GET_MORE)])
    (shape,) = read.shapes
    assert (shape.calls, shape.getmores, shape.documents) == (1, 1, 400)
    assert shape.total_s == pytest.approx(0.26)
    assert shape.skips == (2000,)
    assert filters_of(shape) == [{"customer": ObjectId("65a000000000000000000001")}]


def test_a_long_log_gives_bounded_shapes() -> None:
    def lines() -> Iterator[str]:
        for number in range(3_000):
            attr = {**recorded.SLOW_FIND["attr"], "durationMillis": 100 + number % 50}
            attr["command"] = {**attr["command"], "skip": 1 + number, "limit": 10}
            yield line({**recorded.SLOW_FIND, "attr": attr})

    (shape,) = from_log(lines()).shapes
    assert shape.calls == sum(count for _, count in shape.bins) == 3_000
    assert 0.1 <= shape.p50_s <= 0.15
    assert len(shape.skips) == 500
    assert set(shape.limits) == {10}
    assert len(shape.limits) <= 500
    assert len(shape.commands) == 20


def test_redacted_values_are_no_values() -> None:
    (shape,) = from_log([line(recorded.REDACTED)]).shapes
    assert shape.calls == 1
    assert shape.commands == ()


def test_what_is_no_slow_query_is_passed_over() -> None:
    lines: list[str | bytes] = [
        *map(line, recorded.OTHER_LINES),
        line(recorded.CUT),
        "2019-05-01T15:16:17.180+0000 I COMMAND [conn1] command shop.orders 120ms\n",
        '{"msg":"Slow query"',
        '{"msg":"Slow query"}',
        b"\xff\xfe\n",
        b"\xff Slow query\n",
        "\n",
        "",
        json.dumps({**recorded.SLOW_FIND, "attr": {"ns": "shop.orders"}}),
        json.dumps({**recorded.SLOW_FIND, "attr": {**recorded.SLOW_FIND["attr"], "ns": "x"}}),
        json.dumps({**recorded.SLOW_FIND, "t": {"$date": "yesterday"}}),
        '{"msg":"Slow query","c":"COMMAND","attr":' + "[" * 100_000,
    ]
    read = from_log(lines)
    assert read.shapes == []
    assert read.lines == len(lines)
    assert read.slow == 0
    assert read.skipped == len(lines) - 4  # but those of other kinds, and empty ones


def told_filter(filter: Any, **command: Any) -> str:
    told = {"find": "orders", "filter": filter, "$db": "shop", **command}
    return line({**recorded.SLOW_FIND, "attr": {**recorded.SLOW_FIND["attr"], "command": told}})


@pytest.mark.parametrize(
    "value",
    [
        {"$oid": "no id"},
        {"$numberDecimal": "no number"},
        {"$uuid": "none"},
        {"$binary": {"base64": "%", "subType": "zz"}},
        {"$timestamp": {"t": -1, "i": 1}},
        "\ud800",
    ],
    ids=str,
)
def test_a_line_with_a_value_that_is_none_is_passed_over(value: Any) -> None:
    read = from_log([told_filter({"a": value}), line(recorded.SLOW_AGGREGATE)])
    assert (read.lines, read.slow, read.skipped) == (2, 1, 1)


def test_a_date_beyond_the_calendar_is_a_date() -> None:
    (shape,) = from_log([told_filter({"a": {"$date": {"$numberLong": f"{2**62}"}}})]).shapes
    assert shape.text == "find shop.orders {a: date}"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), 10**400], ids=str)
def test_limits_and_skips_that_are_no_numbers_end_nothing(number: Any) -> None:
    command = {"find": "orders", "filter": {"a": 1}, "limit": number, "skip": number}
    pipeline = {"aggregate": "orders", "pipeline": [{"$limit": number}, {"$skip": number}]}
    told = [{"ns": "shop.orders", "op": "command", "command": c} for c in (command, pipeline)]
    shapes = [*from_profiler(told), *from_log([told_filter({}, limit=number)]).shapes]
    assert sorted(s.operation for s in shapes) == ["aggregate", "find", "find"]
    assert all(limit < 2**63 for shape in shapes for limit in (*shape.limits, *shape.skips))


def test_the_servers_own_collections_are_passed_over() -> None:
    attr = {**recorded.SLOW_FIND["attr"], "ns": "config.system.sessions"}
    attr["command"] = {"find": "system.sessions", "filter": {}, "$db": "config"}
    assert from_log([line({**recorded.SLOW_FIND, "attr": attr})]).shapes == []


def test_profiled_operations() -> None:
    shapes = from_profiler(
        [
            recorded.PROFILED_COMMAND,
            recorded.PROFILED_FIND,
            recorded.PROFILED_FIND,
            recorded.PROFILED_UPDATE,
            recorded.PROFILED_INSERT,
            {},
            {"ns": 5, "command": {"find": "c"}},
        ]
    )
    found, updated, inserted = shapes
    assert (found.operation, found.calls, found.total_s) == ("find", 2, 0.01)
    assert (found.keys_examined, found.documents_examined, found.examined_returned) == (
        202,
        202,
        40,
    )
    assert (found.limits, found.sorted_in_memory) == ((20, 20), 2)
    assert found.p50_s == pytest.approx(0.005, rel=0.02)
    assert (updated.operation, updated.documents) == ("update_one", 1)
    assert (inserted.operation, inserted.documents) == ("insert_many", 1)


@pytest.mark.parametrize(
    ("command", "kind", "operation"),
    [
        ({"find": "c", "filter": {"a": 1}, "limit": 1, "singleBatch": True}, "", "find_one"),
        ({"find": "c", "filter": {"a": 1}, "limit": 1}, "", "find"),
        ({"count": "c", "query": {"a": 1}}, "", "count_documents"),
        ({"distinct": "c", "key": "a", "query": {"a": 1}}, "", "distinct"),
        ({"findAndModify": "c", "query": {"a": 1}, "remove": True}, "", "find_one_and_delete"),
        (
            {"findAndModify": "c", "query": {"a": 1}, "update": {"$set": {"b": 1}}},
            "",
            "find_one_and_update",
        ),
        (
            {"findAndModify": "c", "query": {"a": 1}, "update": {"b": 1}},
            "",
            "find_one_and_replace",
        ),
        ({"q": {"a": 1}, "u": {"b": 1}, "multi": False}, "update", "replace_one"),
        ({"q": {"a": 1}, "u": [{"$set": {"b": 1}}], "multi": False}, "update", "update_one"),
        ({"q": {"a": 1}, "limit": 1}, "remove", "delete_one"),
        ({"update": "c", "updates": [{"q": {"a": 1}, "u": {"$set": {"b": 1}}}]}, "", "update_one"),
        ({"delete": "c", "deletes": [{"q": {"a": 1}, "limit": 0}]}, "", "delete_many"),
        (
            {"delete": "c", "deletes": [{"q": {"a": 1}, "limit": 0}, {"q": {"b": 1}, "limit": 1}]},
            "",
            "bulk_write",
        ),
    ],
)
def test_a_command_has_the_shape_that_a_client_records(
    command: dict[str, Any], kind: str, operation: str
) -> None:
    shape = command_shape("d.c", command, kind)
    assert shape is not None
    assert (shape["namespace"], shape["operation"]) == ("d.c", operation)
    if operation in ("find", "find_one", "count_documents"):
        op = ReadOp(operation, "d.c", {"a": 1}, limit=command.get("limit", 0))  # type: ignore[arg-type]
        assert shape == shape_form(read_shape(op))


@pytest.mark.parametrize(
    "command", [{"ping": 1}, {"aggregate": 1, "pipeline": 5}, {"find": 3}, {}, {"update": "c"}]
)
def test_what_is_no_query_has_no_shape(command: dict[str, Any]) -> None:
    assert command_shape("d.c", command) is None


def _profiled(calls: int, *filters: str | None) -> ShapeProfile:
    form = shape_form(read_shape(ReadOp("find", "shop.orders", {"a": 1})))
    bins = ((0, calls),)
    return ShapeProfile(
        shape=form,
        calls=calls,
        errors=1,
        documents=calls * 3,
        bytes=calls * 100,
        getmores=0,
        rewritten=0,
        slow_calls=0,
        first_seen_s=5.0,
        last_seen_s=6.0,
        latency=Latency(
            calls, calls * 1.0, 2.0, *sketch_scale().quantiles(dict(bins), (0.5,) * 3), bins
        ),
        hits=Latency(),
        slow_samples=tuple(SlowSample(1.0, 2.0, 3, None, text) for text in filters),
        places=(("app.py:3", 2),),
    )


def _workload(*rows: ShapeProfile) -> list[WorkloadShape]:
    return from_snapshot(ProfileSnapshot(rows, None, 0.0, 1.0))


def test_a_profile() -> None:
    whole = '{"a": {"$date": "2024-01-01T00:00:00Z"}}'
    (shape,) = _workload(_profiled(10, whole, None, '{"a": "... (900 long)"}', "{"))
    assert (shape.calls, shape.errors, shape.documents, shape.total_s) == (10, 1, 30, 10.0)
    assert shape.places == (("app.py:3", 2),)
    assert [f["a"].replace(tzinfo=None) for f in shape.filters] == [datetime(2024, 1, 1)]


def test_kept_values_that_are_none_are_left_out() -> None:
    odd = ('{"a": {"$oid": "no id"}}', '{"a": {"$numberDecimal": "none"}}', '{"a": {"$uuid": "x"}}')
    late = '{"a": {"$date": {"$numberLong": "999999999999999999"}}}'
    (shape,) = _workload(_profiled(10, *odd, late))
    assert [f["a"] for f in shape.filters] == [DatetimeMS(999999999999999999)]


def test_profiles_of_two_processes_are_added_up() -> None:
    (shape,) = merge_workloads(_workload(_profiled(10)), _workload(_profiled(5)))
    assert (shape.calls, shape.total_s, shape.documents) == (15, 15.0, 45)
    assert shape.bins == ((0, 15),)
    assert shape.places == (("app.py:3", 4),)


def test_a_log_beside_a_profile_adds_what_only_it_knows() -> None:
    """The slow calls are among those that the profile has counted."""
    attr = {**recorded.SLOW_FIND["attr"], "command": {"find": "orders", "filter": {"a": 1}}}
    log = from_log([line({**recorded.SLOW_FIND, "attr": attr})]).shapes
    (shape,) = merge_workloads(_workload(_profiled(10)), log)
    assert (shape.calls, shape.total_s) == (10, 10.0)
    assert (shape.examined_calls, shape.keys_examined) == (1, 400)
    assert shape.commands == ({"find": "orders", "filter": {"a": 1}},)
    assert set(shape.sources) == {"profile", "log"}


def test_values_and_constants() -> None:
    (shape,) = _workload(_profiled(10))
    seen = replace(
        shape,
        filters=tuple({"a": True, "$and": [{"b": i}, {"c": {"$gt": i}}]} for i in range(6)),
    )
    values = observed_values(seen)
    assert values["a"] == (True,) * 6
    assert values["b"] == tuple(range(6))
    assert values["c range"][2] == (("$gt", 2),)
    assert constants(values, 6) == {"a": True}
    assert constants(values, 4) == {}  # too few to call it constant
    mixed = {"a": (1, True, 1, 1, 1, 1)}
    assert constants(mixed, 6) == {}


def test_facts_of_a_collection() -> None:
    since = datetime(2024, 5, 1)
    info = collection_info(
        "shop.orders",
        recorded.LISTED,
        recorded.LISTED_INDEXES,
        [recorded.COLL_STATS, recorded.COLL_STATS],
        {
            "a:1": [recorded.index_stats("a_1_b_-1", 7, since)],
            "b:1": [
                recorded.index_stats("a_1_b_-1", 0, since),
                recorded.index_stats("at_1", 3, since, building=True),
            ],
        },
        members=3,
    )
    assert (info.count, info.size_bytes, info.average_document_bytes) == (2_000, 1_280_000, 640)
    assert info.options["collation"]["locale"] == "fr"
    indexes = {index.spec.name: index for index in info.indexes}
    compound = indexes["a_1_b_-1"]
    assert compound.spec.keys == (("a", 1), ("b", -1))
    assert (compound.spec.unique, compound.size_bytes) == (True, 40_960)
    assert [(a.member, a.operations) for a in compound.accesses] == [("a:1", 7), ("b:1", 0)]
    assert compound.accesses[0].since_s == since.replace(tzinfo=timezone.utc).timestamp()
    assert indexes["at_1"].spec.expire_after_s == 3600
    assert indexes["at_1"].building
    assert indexes["e_1"].building
    assert indexes["body_text"].spec.weights == {"body": 1, "title": 5}
    assert indexes["place_2dsphere"].spec.other == {"2dsphereIndexVersion": 3}
    assert (indexes["c_1"].spec.hidden, indexes["c_1"].spec.partial_filter) == (
        True,
        {"c": {"$gt": 5}},
    )
    assert indexes["all"].spec.wildcard_projection == {"a": 1}
    assert indexes["d_hashed"].spec.keys == (("d", "hashed"),)
    assert indexes["city_1"].spec.sparse


def test_options_of_an_index_are_those_it_was_made_with() -> None:
    for document in recorded.LISTED_INDEXES[1:-1]:
        spec = index_from_document("shop.orders", document).spec
        expected = {k: v for k, v in document.items() if k not in ("v", "key", "name")}
        assert index_options(spec) == expected


def test_a_clustered_collection_has_an_index_that_list_indexes_may_lack() -> None:
    """Source: MongoDB manual, Clustered Collections: `clustered: true` in listIndexes since 5.3."""
    option = {"v": 2, "key": {"_id": 1}, "name": "own", "unique": True}
    info = collection_info("d.c", {"options": {"clusteredIndex": option}}, [])
    assert [(i.spec.name, i.spec.clustered) for i in info.indexes] == [("own", True)]


def test_a_sharded_collection() -> None:
    """Source: MongoDB manual, $collStats, `shard`: for each shard a document."""
    stats = [{**recorded.COLL_STATS, "shard": name} for name in ("s1", "s2")]
    info = collection_info("d.c", {}, [], stats)
    assert (info.sharded, info.shard_key, info.count) == (True, None, 2_000)
    assert collection_info("d.c", {}, [], shard_key=(("a", 1),)).sharded
    assert not collection_info("d.c", {}, [], [recorded.COLL_STATS]).sharded


def test_nothing_known() -> None:
    info = collection_info("d.c", {"name": "c"}, [])
    assert (info.count, info.size_bytes, info.kind, info.indexes) == (None, None, "collection", ())
