"""find_one that is passed through: found by path and type, counted as the profile itself would."""

from __future__ import annotations

import datetime
import random
import re
import threading
import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from bson import Binary, Code, DatetimeMS, Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp
from bson.regex import Regex

from qbmongo import ProfileSettings, Settings
from qbmongo.core import simple_reads
from qbmongo.core.engine import Engine
from qbmongo.core.profile import Profile
from qbmongo.core.simple_reads import NOT_SIMPLE
from qbmongo.quantiles import DDSketchScale
from qbmongo.records import ReadOp

NAMESPACE = "shop.orders"
SESSION = {"session": object()}


class Kinds(dict[str, Any]):
    """A mapping of the program's own."""


class Name(str):
    """A string of the program's own."""


VALUES: tuple[Any, ...] = (
    *(5, 2**40, Int64(5), 5.0, Decimal128("5"), True, None, "x", Name("x"), b"x", Binary(b"x")),
    *(ObjectId(), uuid.uuid4(), datetime.datetime(2026, 1, 1), DatetimeMS(5), Timestamp(1, 1)),
    *(MinKey(), MaxKey(), Code("x"), Regex("^a"), re.compile("a"), [1], {"a": 1}, Kinds(a=1)),
    *({"$gt": 5}, {"$in": [1]}, {}, object()),
)
PATHS: tuple[Any, ...] = (
    *("_id", "a", "a.b", "", "$or", "$where", "%", "!", "query", "a" * 5_000, Name("a"), 5),
)


def engine_with(**profile: Any) -> Engine:
    settings = Settings(
        profile=ProfileSettings(**profile), cache=None, coalesce=None, batch=None, rewrite=None
    )
    part = settings.profile
    assert part is not None
    return Engine(
        settings,
        lock=threading.Lock(),
        find_place=lambda: "app.py:1",
        profile=Profile(
            DDSketchScale(),
            threading.Lock(),
            0.0,
            slow_ms=part.slow_ms,
            log_every_s=part.log_every_s,
            max_shapes=part.max_shapes,
            samples=part.samples,
            place_every=part.place_every,
        ),
        cache=None,
        mutable_ok=True,
    )


def difference(engine: Engine, filters: list[dict[Any, Any]]) -> str | None:
    """The first filter that is counted under another shape than the profile gives it."""
    scope = engine.scope(NAMESPACE)
    assert engine.profile is not None
    for filter in filters:
        stats: Any = scope.simple.begin(filter, SESSION)
        if stats is NOT_SIMPLE:
            continue
        op = ReadOp("find_one", NAMESPACE, filter, None, None, 0, -1)
        if stats is not engine.profile.read_stats(op):
            return repr(filter)
    return None


def random_filters(count: int) -> list[dict[Any, Any]]:
    chance = random.Random(7)
    return [
        {chance.choice(PATHS): chance.choice(VALUES) for _ in range(chance.choice((0, 1, 1, 1, 2)))}
        for _ in range(count)
    ]


def test_simple_reads_are_counted_under_the_shape_that_the_profile_gives_them() -> None:
    engine = engine_with()
    filters = random_filters(3_000)
    assert difference(engine, filters) is None
    scope = engine.scope(NAMESPACE)
    simple = [f for f in filters if scope.simple.begin(f, {}) is not NOT_SIMPLE]
    assert 500 < len(simple) < len(filters)


def test_a_memo_by_the_path_alone_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The difference that the test above looks for is there when the type is left out."""
    monkeypatch.setattr(
        simple_reads, "type", lambda given: str if given == "a" else int, raising=False
    )
    monkeypatch.setattr(simple_reads, "SCALARS", {int: "number"})
    assert difference(engine_with(), [{"a": 5}, {"a": "x"}]) == repr({"a": "x"})


@pytest.mark.parametrize(
    "options",
    [
        {"session": None},
        {"session": object(), "hint": "a_1"},
        {"projection": {"a": 1}},
        {"sort": [("a", 1)]},
        {"comment": "x"},
    ],
    ids=str,
)
def test_other_options_than_a_session_are_not_simple(options: dict[str, Any]) -> None:
    scope = engine_with().scope(NAMESPACE)
    assert scope.simple.begin({"_id": 5}, options) is NOT_SIMPLE


@pytest.mark.parametrize(
    "filter",
    [{}, {"a": 1, "b": 2}, {"$where": "1"}, {"a": {"$gt": 1}}, {"a": [1]}, {"query": 1}, {5: 1}],
    ids=str,
)
def test_other_filters_are_not_simple(filter: dict[Any, Any]) -> None:
    scope = engine_with().scope(NAMESPACE)
    assert scope.simple.begin(filter, {}) is NOT_SIMPLE


def test_a_failed_call_is_recorded_as_one() -> None:
    engine = engine_with(place_every=1)
    scope = engine.scope(NAMESPACE)
    stats = scope.simple.begin({"_id": 5}, {})
    scope.simple.failed(stats, {"_id": 5}, 1.0, 1.5)
    assert engine.profile is not None
    (row,), other = engine.profile.snapshot()
    assert other is None
    assert (row.calls, row.errors, row.documents, row.bytes) == (1, 1, 0, 0)
    assert row.slow_calls == 1
    assert dict(row.places) == {"app.py:1": 1}
    assert [sample.filter for sample in row.slow_samples] == [None]


def test_values_are_kept_where_the_user_wants_them() -> None:
    engine = engine_with(keep_values=True)
    scope = engine.scope(NAMESPACE)
    stats = scope.simple.begin({"_id": 5}, {})
    scope.simple.failed(stats, {"_id": 5}, 1.0, 9.0)
    assert engine.profile is not None
    (row,), _ = engine.profile.snapshot()
    assert "5" in str(row.slow_samples[0].filter)
    assert engine_with().scope(NAMESPACE).simple.op({"_id": 5}) is None


def test_what_is_remembered_is_bounded() -> None:
    engine = engine_with(max_shapes=10)
    scope = engine.scope(NAMESPACE)
    filters: list[Mapping[str, Any]] = [{f"field{n}": 1} for n in range(2_000)]
    handles = {id(scope.simple.begin(dict(filter), {})) for filter in filters}
    assert len(scope.simple._known) <= simple_reads._MAX_KNOWN
    assert len(handles) == 11  # and one for all the others


def test_a_fault_in_the_profile_leaves_the_call_to_the_longer_way() -> None:
    engine = engine_with()
    scope = engine.scope(NAMESPACE)
    assert engine.profile is not None
    engine.profile.read_stats = None  # type: ignore[assignment,method-assign]
    assert scope.simple.begin({"_id": 5}, {}) is NOT_SIMPLE
    assert engine.faults["profile"] == 1
