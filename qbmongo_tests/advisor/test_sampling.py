"""What a sample says of a collection's fields."""

from __future__ import annotations

import datetime
import random
from typing import Any

import bson
import pytest
from bson import Decimal128, ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qbmongo.advisor.field_values import MISSING, array_prefixes, identity_of, keys_at, values_at
from qbmongo.advisor.records import CollectionStatistics
from qbmongo.advisor.sampling import SampleCounts, estimate_distinct
from qbmongo_tests.core.random_operations import documents

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def counted(
    sample: list[dict[str, Any]], *paths: str, count: int | None = None
) -> CollectionStatistics:
    counts = SampleCounts("db.c", paths)
    for document in sample:
        counts.add(document, len(bson.encode(document)))
    return counts.statistics(count)


@pytest.mark.parametrize(
    ("document", "path", "keys"),
    [
        ({"a": 1}, "a", [1]),
        ({"a": {"b": 1}}, "a.b", [1]),
        ({"a": [1, 2]}, "a", [1, 2]),
        ({"a": [[1], 2]}, "a", [[1], 2]),
        ({"a": [{"b": 1}, {"b": [2, 3]}, 4, {"c": 1}]}, "a.b", [1, 2, 3]),
        ({"a": [{"b": 1}, {"b": 2}]}, "a.0.b", [1]),
        ({"a": {"0": {"b": 1}}}, "a.0.b", [1]),
        ({"a": 1}, "a.b", [MISSING]),
        ({"a": []}, "a", [MISSING]),
        ({"a": None}, "a", [None]),
        ({}, "a", [MISSING]),
    ],
)
def test_keys_are_those_of_an_index(document: Any, path: str, keys: list[Any]) -> None:
    """Source: MongoDB manual, "Multikey Indexes"."""
    assert keys_at(document, path) == keys


def test_an_array_at_the_end_is_a_value_too() -> None:
    assert list(values_at({"a": [1, [2]]}, "a")) == [[1, [2]], 1, [2]]


def test_arrays_in_front_of_a_field_are_found() -> None:
    document = {"a": [{"b": {"c": [1]}}]}
    assert array_prefixes(document, "a.b.c") == {"a", "a.b.c"}
    assert array_prefixes({"a": {"b": 1}}, "a.b") == frozenset()


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        (1, 1.0, True),
        (1, Decimal128("1.0"), True),
        (1, True, False),
        (0, False, False),
        ("1", 1, False),
        (None, MISSING, False),
        (float("nan"), float("nan"), True),
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
        ([1], [1], True),
    ],
)
def test_identities_are_equal_where_the_server_takes_values_as_equal(
    left: Any, right: Any, equal: bool
) -> None:
    assert (identity_of(left) == identity_of(right)) is equal


def test_shares_types_and_common_values() -> None:
    sample: list[dict[str, Any]] = [{"a": "x"}] * 6 + [{"a": None}, {"a": 5}, {}, {"a": ["x", "y"]}]
    found = counted(sample, "a").fields["a"]
    assert found.present == 0.9
    assert found.null == 0.1
    assert found.array == 0.1
    assert found.types == {"null": 0.1, "number": 0.1, "string": 0.7}
    assert found.common[0] == ("x", 0.7)
    assert found.elements == pytest.approx(10 / 9)
    assert found.ascending == ()


def test_numeric_parts_of_a_path_are_removed() -> None:
    found = counted([{"a": [{"b": 1}]}], "a.0.b")
    assert set(found.fields) == {"a.b"}
    assert found.array_paths == {"a"}


def test_values_at_equal_ranks_follow_the_frequencies() -> None:
    sample = [{"a": 0}] * 900 + [{"a": i} for i in range(1, 101)]
    ascending = counted(sample, "a").fields["a"].ascending
    assert len(ascending) == 100
    assert list(ascending) == sorted(ascending)
    assert ascending[0] == 0
    assert ascending[-1] == 100
    assert 88 <= sum(value == 0 for value in ascending) <= 91


def test_dates_and_ids_have_ranks_and_mixed_types_have_none() -> None:
    day = datetime.datetime(2024, 1, 1)
    sample: list[dict[str, Any]] = [
        {"d": day + datetime.timedelta(i), "i": ObjectId(), "m": i if i % 2 else str(i)}
        for i in range(10)
    ]
    found = counted(sample, "d", "i", "m").fields
    assert len(found["d"].ascending) == 10
    assert len(found["i"].ascending) == 10
    assert found["m"].ascending == ()


@pytest.mark.parametrize("values", [2, 50, 1_000])
def test_distinct_values_of_a_field_with_few_are_those_seen(values: int) -> None:
    draw = random.Random(values)
    sample = [{"a": draw.randrange(values)} for _ in range(5_000)]
    distinct = counted(sample, "a", count=200_000).fields["a"].distinct
    assert values * 0.9 <= distinct <= values * 1.5


def test_a_field_that_is_unique_in_the_sample_is_unique_in_the_collection() -> None:
    sample = [{"a": i} for i in range(1_000)]
    assert counted(sample, "a", count=200_000).fields["a"].distinct == pytest.approx(200_000)


def test_a_few_frequent_values_do_not_hide_many_rare_ones() -> None:
    sample: list[dict[str, Any]] = [{"a": i} for i in range(500)] + [{"a": "x"}] * 500
    assert counted(sample, "a", count=100_000).fields["a"].distinct >= 5_000


@patient
@given(st.integers(1, 50), st.floats(0.001, 1.0), st.data())
def test_an_estimate_is_never_less_than_what_was_seen(
    distinct: int, share: float, data: st.DataObject
) -> None:
    once = data.draw(st.integers(0, distinct))
    total = once + 2 * (distinct - once) + data.draw(st.integers(0, 20))
    assert estimate_distinct(distinct, once, max(total, 1), share) >= distinct


def test_no_documents_say_nothing() -> None:
    found = counted([], "a")
    assert found.sampled == 0
    assert found.fields["a"].distinct == 1.0
    assert found.average_document_bytes is None


@patient
@given(documents())
def test_any_documents_can_be_counted(sample: list[dict[str, Any]]) -> None:
    paths = ("a", "b", "a.x", "b.1.x", "_id")
    found = counted(sample, *paths, count=100)
    for field in found.fields.values():
        assert 0 <= field.null <= field.present <= 1
        assert 0 <= field.array <= 1
        assert all(0 < share <= 1 for share in field.types.values())
        assert list(field.ascending) == sorted(field.ascending)
