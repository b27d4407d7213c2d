"""The profile: nothing lost, nothing private kept, bounded in memory, quick where it counts."""

from __future__ import annotations

import gc
import itertools
import math
import random
import sys
import threading
import tracemalloc
import weakref
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbmongo.core.profile import (
    FOLD_ROWS,
    LINES_PER_PERIOD,
    MAX_PLACES,
    Profile,
    ShapeStats,
    SlowRules,
)
from qbmongo.core.repeats import MISSES, RUN, instead_of
from qbmongo.core.shape_forms import shape_form
from qbmongo.core.shape_profiles import ShapeProfile
from qbmongo.core.shapes import read_shape, write_shape
from qbmongo.quantiles import RELATIVE_ERROR, DDSketchScale
from qbmongo.records import ReadOp, WriteOp


def profile_with(lock: Any = None, **settings: Any) -> Profile:
    given_settings: dict[str, Any] = {
        "slow_ms": 100.0,
        "log_every_s": 10.0,
        "max_shapes": 1_000,
        "samples": 8,
        "place_every": 100,
    }
    return Profile(DDSketchScale(), lock or threading.Lock(), 1.0, **(given_settings | settings))


def point_read(path: str = "_id", value: Any = 5) -> ReadOp:
    return ReadOp("find_one", "shop.orders", {path: value})


def only_shape(profile: Profile) -> ShapeProfile:
    (row,), other = profile.snapshot()
    assert other is None
    return row


class CountingLock:
    def __init__(self) -> None:
        self.taken = 0
        self.lock = threading.Lock()

    def __enter__(self) -> None:
        self.lock.acquire()
        self.taken += 1

    def __exit__(self, *error: object) -> None:
        self.lock.release()


# -- counts -------------------------------------------------------------------------------------

CALLS = st.lists(
    st.tuples(
        st.floats(1e-6, 0.09),
        st.integers(0, 1_000),
        st.integers(0, 10**7),
        st.integers(0, 5),
        st.floats(2.0, 1e6),
        st.booleans(),
    ),
    min_size=1,
    max_size=3 * FOLD_ROWS,
)


@given(CALLS)
def test_every_call_is_counted_whether_its_row_was_folded_or_not(calls: list[Any]) -> None:
    profile = profile_with()
    stats = profile.read_stats(point_read())
    for duration_s, documents, size, getmores, now_s, error in calls:
        stats.record(duration_s, documents, size, getmores, now_s, None, error)
    row = only_shape(profile)
    durations, documents, sizes, getmores, times, errors = zip(*calls, strict=True)
    assert row.calls == row.latency.count == len(calls)
    assert row.errors == sum(errors)
    assert row.documents == sum(documents)
    assert row.bytes == sum(sizes)
    assert row.getmores == sum(getmores)
    assert (row.first_seen_s, row.last_seen_s) == (min(times), max(times))
    assert row.latency.max_s == max(durations)
    assert math.isclose(row.latency.total_s, sum(durations))


@given(CALLS, st.integers(0, 3 * FOLD_ROWS))
def test_calls_of_a_batch_are_counted_as_one_by_one(calls: list[Any], alone: int) -> None:
    one_by_one, together = profile_with(), profile_with()
    single = one_by_one.read_stats(point_read())
    several = together.read_stats(point_read())
    rows: list[float] = []
    for place, (duration_s, documents, size, _, now_s, error) in enumerate(calls):
        single.record_joined(duration_s, documents, now_s, error, size)
        if place < alone:
            several.record_joined(duration_s, documents, now_s, error, size)
        else:
            rows += (duration_s, documents, size, 0, now_s)
    several.record_batch(rows, sum(call[-1] for call in calls[alone:]))
    mine, other = only_shape(together), only_shape(one_by_one)
    assert math.isclose(mine.latency.total_s, other.latency.total_s)
    latency = replace(mine.latency, total_s=other.latency.total_s)
    assert replace(mine, latency=latency) == other


@given(st.lists(st.floats(1e-9, 1e5), min_size=1, max_size=300))
def test_quantiles_are_within_one_percent_of_the_exact_ones(durations: list[float]) -> None:
    profile = profile_with(slow_ms=1e12)
    stats = profile.read_stats(point_read())
    for duration_s in durations:
        stats.record(duration_s, 0, 0, 0, 2.0)
    latency = only_shape(profile).latency
    ordered = sorted(durations)
    for rank, found in ((0.5, latency.p50_s), (0.95, latency.p95_s), (0.99, latency.p99_s)):
        exact = ordered[math.floor(rank * (len(ordered) - 1))]
        assert abs(found - exact) <= RELATIVE_ERROR * exact * 1.000_001


@given(st.lists(st.floats(1e-9, 1e6), min_size=1))
def test_bins_are_the_librarys_own(durations: list[float]) -> None:
    from ddsketch.mapping import LogarithmicMapping

    mapping = LogarithmicMapping(RELATIVE_ERROR)
    for ours, duration_s in zip(DDSketchScale().bins_of(durations), durations, strict=True):
        # A duration on the edge of two bins may be rounded into either.
        assert ours == mapping.key(duration_s) or math.isclose(
            mapping.value(ours), duration_s, rel_tol=RELATIVE_ERROR * 1.000_001
        )


@pytest.mark.parametrize("duration_s", [0.0, -1.0, 1e300])
def test_a_duration_no_clock_should_give_is_counted_all_the_same(duration_s: float) -> None:
    profile = profile_with(slow_ms=1e305)
    profile.read_stats(point_read()).record(duration_s, 1, 0, 0, 2.0)
    assert only_shape(profile).calls == 1


def test_hits_are_counted_apart_from_calls_to_the_server() -> None:
    profile = profile_with()
    stats = profile.read_stats(point_read())
    stats.record(0.05, 1, 100, 0, 2.0)
    for _ in range(3 * FOLD_ROWS + 1):
        stats.hit(0.000_005, 3.0)
    row = only_shape(profile)
    assert (row.calls, row.hits.count) == (1, 3 * FOLD_ROWS + 1)
    assert row.latency.max_s == 0.05
    assert row.hits.max_s == 0.000_005
    assert row.last_seen_s == 3.0


def test_rewritten_calls_are_counted() -> None:
    profile = profile_with()
    stats = profile.read_stats(point_read())
    stats.count_rewritten()
    stats.record(0.001, 1, 0, 0, 2.0)
    assert only_shape(profile).rewritten == 1


def test_one_shape_has_one_handle() -> None:
    profile = profile_with()
    assert profile.read_stats(point_read(value=1)) is profile.read_stats(point_read(value=2))
    assert profile.read_stats(point_read()) is not profile.read_stats(point_read(value="x"))
    write = WriteOp("update_one", "shop.orders", {"_id": 1}, {"$set": {"a": 1}})
    assert profile.write_stats(write) is profile.write_stats(write)


def test_a_snapshot_is_ordered_by_total_time_and_moves_times_to_the_wall_clock() -> None:
    profile = profile_with()
    profile.read_stats(point_read("a")).record(0.01, 1, 0, 0, 2.0)
    profile.read_stats(point_read("b")).record(0.3, 1, 0, 0, 3.0)
    rows, _ = profile.snapshot(epoch_s=1_000.0)
    assert [row.shape["filter"][0]["path"] for row in rows] == ["b", "a"]
    assert rows[1].first_seen_s == 1_002.0
    assert rows[0].slow_samples[0].at_s == 1_003.0


def test_a_snapshot_is_not_changed_by_later_calls() -> None:
    profile = profile_with()
    stats = profile.read_stats(point_read())
    stats.record(0.2, 1, 0, 0, 2.0)
    before = only_shape(profile)
    stats.note_place("a.py:1")
    stats.record(0.2, 1, 0, 0, 3.0)
    assert (before.calls, len(before.slow_samples), before.places) == (1, 1, ())


def test_a_shape_that_was_looked_up_but_never_called_is_not_in_the_snapshot() -> None:
    profile = profile_with()
    profile.read_stats(point_read())
    assert profile.snapshot() == ((), None)


# -- bounds -------------------------------------------------------------------------------------


def test_calls_beyond_max_shapes_are_counted_together() -> None:
    profile = profile_with(max_shapes=3)
    for i in range(10):
        profile.read_stats(point_read(f"f{i}")).record(0.001, 2, 0, 0, 2.0)
    rows, other = profile.snapshot()
    assert [row.calls for row in rows] == [1, 1, 1]
    assert other is not None
    assert (other.calls, other.documents, other.shape["operation"]) == (7, 14, "other")
    profile.read_stats(point_read("f0")).record(0.001, 2, 0, 0, 2.0)
    assert sum(row.calls for row in profile.snapshot()[0]) == 4


FIELDS = [f"field{i}" for i in range(10_000)]
VALUES: list[Any] = [1, "x", None, {"$gt": 5}, {"$in": [1, "x"]}, [1], {"y": 1}]


def random_operation(rng: random.Random) -> ReadOp:
    one, two, three = rng.choices(FIELDS, k=3)
    filter = {one: rng.choice(VALUES), "$or": [{two: 1}, {three: {"$gt": 5, "$lt": 9}}]}
    return ReadOp("find", "shop.orders", filter, sort={two: 1}, limit=5)


def test_memory_stays_bounded_under_a_hundred_thousand_shapes() -> None:
    rng = random.Random(7)
    profile = profile_with(max_shapes=1_000)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for i in range(100_000):
            stats = profile.read_stats(random_operation(rng))
            if stats.place_due:
                stats.note_place(f"app.py:{i}")
            stats.record(rng.lognormvariate(-7, 1), 1, 500, 0, float(i))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    rows, other = profile.snapshot()
    assert len(rows) == 1_000
    assert other is not None
    assert sum(row.calls for row in rows) + other.calls == 100_000
    assert after - before < 4_000_000


def test_a_busy_shape_holds_no_more_than_its_bins_and_one_buffer() -> None:
    rng = random.Random(7)
    profile = profile_with(samples=2, place_every=1)
    stats = profile.read_stats(point_read())
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for i in range(30_000):
            if stats.place_due:
                stats.note_place(f"app.py:{i}")
            stats.record(rng.lognormvariate(-7, 2), 1_000, 50_000, 0, float(i))
            stats.hit(rng.lognormvariate(-11, 2), float(i))
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert only_shape(profile).calls == 30_000
    assert after - before < 150_000


def test_a_profile_keeps_neither_operation_nor_filter_alive() -> None:
    class Value:
        pass

    class Filter(dict[str, Any]):
        pass

    profile = profile_with(slow_ms=0.0)
    value = Value()
    filter = Filter(a=value)
    op = ReadOp("find_one", "shop.orders", filter)
    gone = [weakref.ref(value), weakref.ref(filter)]
    stats = profile.read_stats(op)
    stats.record(0.5, 1, 0, 0, 2.0, op)
    del op, filter, value
    gc.collect()
    assert [ref() for ref in gone] == [None, None]
    assert only_shape(profile).calls == 1


# -- threads ------------------------------------------------------------------------------------


def test_no_call_is_lost_between_threads_and_snapshots() -> None:
    profile = profile_with()
    calls, hits, threads = 4_000, 2_000, 6
    start = threading.Barrier(threads + 1)

    def work(number: int) -> None:
        start.wait()
        for i in range(calls):
            stats = profile.read_stats(point_read(f"f{(i + number) % 7}"))
            stats.record(0.001, 1, 10, 1, 2.0, None, i % 10 == 0)
            if i < hits:
                stats.hit(0.000_01, 2.0)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for worker in workers:
            worker.start()
        start.wait()
        while any(worker.is_alive() for worker in workers):
            profile.snapshot()
    finally:
        sys.setswitchinterval(interval)
        for worker in workers:
            worker.join()
    rows, other = profile.snapshot()
    assert other is None
    assert len(rows) == 7
    total = threads * calls
    assert sum(row.calls for row in rows) == total
    assert sum(row.documents for row in rows) == sum(row.getmores for row in rows) == total
    assert sum(row.errors for row in rows) == total // 10
    assert sum(row.hits.count for row in rows) == threads * hits


def test_a_row_appended_at_any_moment_of_a_fold_is_kept() -> None:
    profile = profile_with()
    stats = profile.read_stats(point_read())
    injected = 0

    def trace(frame: Any, event: str, argument: object) -> Any:
        nonlocal injected
        if frame.f_code.co_name != "_fold_locked":
            return None
        if event == "line":
            # What another thread's `record` does in one step.
            stats._buffer.extend((0.001, 1, 0, 0, 2.0))
            injected += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for _ in range(FOLD_ROWS):
            stats.record(0.001, 1, 0, 0, 2.0)
    finally:
        sys.settrace(before)
    assert injected > 10
    assert only_shape(profile).calls == FOLD_ROWS + injected


def test_a_known_shape_takes_the_lock_once_in_fold_rows_calls() -> None:
    lock = CountingLock()
    profile = profile_with(lock)
    stats = profile.read_stats(point_read())
    lock.taken = 0
    for _ in range(FOLD_ROWS - 1):
        profile.read_stats(point_read()).record(0.001, 1, 0, 0, 2.0)
    assert lock.taken == 0
    stats.record(0.001, 1, 0, 0, 2.0)
    assert lock.taken == 1


# -- places -------------------------------------------------------------------------------------


def test_a_calling_place_is_asked_for_at_first_and_then_about_every_place_every_calls() -> None:
    profile = profile_with(place_every=100)
    stats = profile.read_stats(point_read())
    asked = []
    for i in range(1_000):
        if stats.place_due:
            asked.append(i)
            stats.note_place("app.py:1")
        stats.record(0.001, 1, 0, 0, 2.0)
    assert asked[0] == 0
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert gaps
    assert all(100 <= gap < 100 + 2 * FOLD_ROWS for gap in gaps)
    assert only_shape(profile).places == (("app.py:1", len(asked)),)


def test_an_unknown_place_is_not_asked_for_again_at_once() -> None:
    stats = profile_with().read_stats(point_read())
    stats.note_place(None)
    assert not stats.place_due


def test_places_of_a_shape_are_bounded_and_the_most_frequent_come_first() -> None:
    profile = profile_with()
    stats = profile.read_stats(point_read())
    for i in range(100):
        stats.note_place(f"app.py:{i}")
    stats.note_place("app.py:3")
    stats.record(0.001, 1, 0, 0, 2.0)
    places = only_shape(profile).places
    assert len(places) == MAX_PLACES
    assert places[0] == ("app.py:3", 2)


# -- runs ---------------------------------------------------------------------------------------


def noted(stats: ShapeStats, calls: list[tuple[str | None, Any]]) -> int:
    """Records calls, each with its place and task; returns how many were asked for them."""
    asked = 0
    for place, caller in calls:
        if stats.place_due:
            asked += 1
            stats.note_place(place, caller)
        stats.record(0.001, 1, 0, 0, 2.0)
    return asked


def test_calls_of_one_task_from_one_place_are_a_run() -> None:
    profile = profile_with(place_every=1_000)
    asked = noted(profile.read_stats(point_read()), [("app.py:1", "task")] * (RUN + 20))
    assert asked == RUN
    row = only_shape(profile)
    assert row.repeats == (("app.py:1", 1),)
    assert row.places == (("app.py:1", 1),)


@pytest.mark.parametrize(
    "others",
    [
        [("app.py:1", n) for n in range(50)],
        [(f"app.py:{n}", "task") for n in range(50)],
        [("app.py:1", "task"), *[(None, "task")] * 50],
        [("app.py:1", "task")] * (RUN - 1) + [("app.py:1", "other")] * 50,
    ],
    ids=["many tasks", "many places", "unknown places", "a short one"],
)
def test_other_calls_are_none_and_soon_no_longer_asked_for(others: list[Any]) -> None:
    profile = profile_with(place_every=1_000)
    asked = noted(profile.read_stats(point_read()), others)
    assert asked <= RUN + MISSES + 1
    assert only_shape(profile).repeats == ()


def test_a_run_between_which_few_others_call_is_one() -> None:
    profile = profile_with(place_every=1_000)
    calls = [("app.py:1", "task"), ("app.py:2", "other")] * MISSES + [("app.py:1", "task")] * RUN
    noted(profile.read_stats(point_read()), calls)
    assert only_shape(profile).repeats == (("app.py:1", 1),)


def test_without_a_task_places_are_noted_one_at_a_time() -> None:
    profile = profile_with(place_every=1_000)
    assert noted(profile.read_stats(point_read()), [("app.py:1", None)] * 50) == 1
    assert only_shape(profile).repeats == ()


@pytest.mark.parametrize(
    ("op", "instead"),
    [
        (ReadOp("find_one", "d.c", {"_id": 5}), "one find {_id: {$in: [...]}}, or $lookup from c"),
        (ReadOp("find", "d.c", {"a": 1, "b_id": 5}), "one find {b_id: {$in: [...]}}, or"),
        (ReadOp("count_documents", "d.c", {"a": 1}), "one aggregate: $match {a: {$in: [...]}}, $g"),
        (WriteOp("insert_one", "d.c"), "one insert_many for all"),
        (WriteOp("update_one", "d.c", {"a": {"$gt": 1}}, {"$set": {}}), "one bulk_write for all"),
    ],
)
def test_what_would_do_the_work_of_a_run_at_once(op: Any, instead: str) -> None:
    key = read_shape(op) if isinstance(op, ReadOp) else write_shape(op)
    found = instead_of(shape_form(key))
    assert found is not None
    assert found.startswith(instead)


@pytest.mark.parametrize("filter", [{}, {"a": {"$gt": 1}}, {"a": None}, {"$or": [{"a": 1}]}])
def test_for_a_read_by_no_value_nothing_is_known(filter: Any) -> None:
    assert instead_of(shape_form(read_shape(ReadOp("find", "d.c", filter)))) is None


# -- slow calls ---------------------------------------------------------------------------------


def test_slow_calls_are_counted_and_the_latest_are_kept() -> None:
    profile = profile_with(slow_ms=100, samples=3)
    stats = profile.read_stats(point_read())
    stats.record(0.0999, 1, 0, 0, 2.0)
    for i in range(5):
        stats.record(0.1 + i, i, 0, 0, 10.0 + i)
    row = only_shape(profile)
    assert row.calls == 6
    assert row.slow_calls == 5
    assert [(s.at_s, s.duration_s, s.documents) for s in row.slow_samples] == [
        (12.0, 2.1, 2),
        (13.0, 3.1, 3),
        (14.0, 4.1, 4),
    ]


def test_with_no_samples_wanted_slow_calls_are_counted_only() -> None:
    profile = profile_with(samples=0)
    profile.read_stats(point_read()).record(1.0, 1, 0, 0, 2.0)
    row = only_shape(profile)
    assert (row.slow_calls, row.slow_samples) == (1, ())


def test_values_are_kept_only_if_the_operation_is_given() -> None:
    profile = profile_with()
    op = ReadOp("find_one", "shop.orders", {"name": "s3cret"})
    stats = profile.read_stats(op)
    line = stats.record(1.0, 1, 0, 0, 2.0)
    assert line is not None
    assert "s3cret" not in line
    assert "s3cret" not in repr(only_shape(profile))
    stats.record(1.0, 1, 0, 0, 20.0, op)
    assert only_shape(profile).slow_samples[-1].filter == '{"name": "s3cret"}'


def test_kept_values_are_bounded_and_never_fail() -> None:
    profile = profile_with()
    deep: Any = {"a": 1}
    for _ in range(5_000):
        deep = {"a": deep}
    for filter, part in (
        ({"a": {"$in": list(range(1_000_000))}}, '19, "... (1000000 long)"'),
        ({"a": "x" * 1_000_000}, '{"a": "... (1000000 long)"}'),
        ({f"f{i}": "y" * 100 for i in range(1_000)}, '"f1": "yyy'),
        ({"a": object()}, '{"a": "(object)"}'),
        ({"b": {1, 2}}, '{"b": "(set)"}'),
        (deep, '{"a": {"a": {"a": {"a": {"a": {"a": "..."}}}}}}'),
    ):
        op = ReadOp("find_one", "shop.orders", filter)
        profile.read_stats(op).record(1.0, 1, 0, 0, 2.0, op)
        kept = [row.slow_samples[-1].filter or "" for row in profile.snapshot()[0]]
        assert any(part in text for text in kept)
        assert max(map(len, kept)) < 1_010


def test_a_slow_pipeline_keeps_its_values_too() -> None:
    profile = profile_with()
    op = ReadOp("aggregate", "shop.orders", {}, pipeline=[{"$match": {"a": 5}}])
    profile.read_stats(op).record(1.0, 1, 0, 0, 2.0, op)
    assert only_shape(profile).slow_samples[0].filter == '[{"$match": {"a": 5}}]'


def test_a_slow_call_gives_one_line_with_shape_and_place() -> None:
    stats = profile_with().read_stats(ReadOp("find", "shop.orders", {"a": 1}, sort={"b": -1}))
    stats.note_place("app.py:31")
    assert stats.record(0.2504, 17, 0, 0, 2.0) == (
        "slow query: 250 ms, 17 documents: find shop.orders {a: number} sort {b: -1} at app.py:31"
    )


def test_slow_lines_of_a_shape_are_limited_and_the_rest_is_counted() -> None:
    stats = profile_with(log_every_s=10).read_stats(point_read())
    assert stats.record(0.2, 1, 0, 0, 2.0) is not None
    assert [stats.record(0.2, 1, 0, 0, 2.0 + i) for i in range(9)] == [None] * 9
    line = stats.record(0.2, 1, 0, 0, 12.0)
    assert line is not None
    assert "(9 more slow calls of this shape since the last line)" in line


def test_slow_lines_of_all_shapes_together_are_limited() -> None:
    profile = profile_with(log_every_s=10)
    stats = [profile.read_stats(point_read(f"f{i}")) for i in range(3 * LINES_PER_PERIOD)]
    lines = [one.record(0.2, 1, 0, 0, 2.0) for one in stats]
    assert sum(line is not None for line in lines) == LINES_PER_PERIOD
    assert stats[-1].record(0.2, 1, 0, 0, 12.5) is not None


def test_the_place_of_a_slow_call_is_looked_for_when_it_ends() -> None:
    found: list[str | None] = ["deep.py:7", None, None]
    profile = profile_with(find_place=lambda: found.pop(0), log_every_s=0)
    stats = profile.read_stats(point_read())
    stats.note_place("app.py:1")
    lines = [stats.record(0.2, 1, 0, 0, 2.0), stats.record(0.2, 1, 0, 0, 3.0)]
    stats.note_place("app.py:2")
    lines.append(stats.record(0.2, 1, 0, 0, 4.0))
    places = [sample.place for sample in only_shape(profile).slow_samples]
    # Of several known places none is claimed to be this call's.
    assert places == ["deep.py:7", "app.py:1", None]
    assert lines[2] is not None
    assert lines[2].endswith("at one of app.py:1, app.py:2")


def test_a_shape_may_have_rules_of_its_own() -> None:
    profile = profile_with(slow_ms=100)
    rules = SlowRules(slow_s=1.0, log_every_s=10.0)
    assert profile.read_stats(point_read("a"), rules).record(0.5, 1, 0, 0, 2.0) is None
    assert profile.read_stats(point_read("b")).record(0.5, 1, 0, 0, 2.0) is not None
