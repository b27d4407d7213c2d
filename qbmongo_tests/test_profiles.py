"""Profile files: read back as written, merged as one would have recorded, refused by name."""

from __future__ import annotations

import copy
import io
import itertools
import json
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from qbmongo.core.profile import Profile
from qbmongo.core.shape_forms import shape_form
from qbmongo.core.shape_profiles import Latency, ShapeProfile, SlowSample
from qbmongo.core.shapes import read_shape, write_shape
from qbmongo.errors import ProfileFileError, QbError
from qbmongo.number_text import duration_text
from qbmongo.profile_table import show
from qbmongo.profiles import SCHEMA, ProfileSnapshot, merge, sketch_scale
from qbmongo.records import ReadOp, WriteOp

NS = "shop.orders"

OPERATIONS: list[ReadOp | WriteOp] = [
    ReadOp("find_one", NS, {"_id": 1}),
    ReadOp(
        "find",
        NS,
        {
            "status": "x",
            "age": {"$gt": 1, "$in": [1, None], "$not": {"$lt": 2}},
            "laps": {"$elemMatch": {"time": 1}},
            "$or": [{"a": 1}, {"b": {"$exists": True}}],
            "$expr": {"$gt": ["$a", "$b"]},
            "$where": "x",
        },
        projection={"a": 1, "b": {"$slice": 1}},
        sort={"at": -1, "score": {"$meta": "textScore"}},
        skip=1,
        limit=5,
        options={"hint": {"a": 1}, "collation": {"locale": "en"}, "min": {"a": 1}},
    ),
    ReadOp("distinct", NS, {}, key="carrier", options={"hint": "carrier_1"}),
    ReadOp(
        "aggregate",
        NS,
        {},
        pipeline=[
            {"$match": {"a": 1}},
            {"$sort": {"b": 1}},
            {"$project": {"a": 1}},
            {"$addFields": {"c": 1}},
            {"$unwind": "$laps"},
            {"$geoNear": {"key": "place", "query": {"x": 1}}},
            {"$lookup": {"from": "o", "localField": "a", "foreignField": "b", "pipeline": [{}]}},
            {"$group": {"_id": "$a"}},
            {"$facet": {"one": [{"$match": {"a": 1}}], "two": []}},
            {"$merge": {"into": {"db": "x", "coll": "y"}}},
        ],
    ),
    WriteOp("update_one", NS, {"_id": 1}, {"$set": {"a": 1}}, options={"upsert": True}),
    WriteOp("insert_one", NS, None, {"a": 1}),
    WriteOp("bulk_write", NS, None, [WriteOp("delete_one", NS, {"a": 1})]),
]
FORMS = [
    shape_form(read_shape(op) if isinstance(op, ReadOp) else write_shape(op)) for op in OPERATIONS
]


def new_profile() -> Profile:
    return Profile(
        sketch_scale(),
        threading.Lock(),
        10.0,
        slow_ms=100,
        log_every_s=10,
        max_shapes=6,
        samples=4,
        place_every=10,
    )


def record_all(profile: Profile, calls: list[tuple[int, float]]) -> None:
    for i, (number, duration_s) in enumerate(calls):
        op = OPERATIONS[number]
        stats = profile.read_stats(op) if isinstance(op, ReadOp) else profile.write_stats(op)
        if stats.place_due:
            stats.note_place(f"app.py:{number}")
        stats.record(duration_s, 1, 100, 0, 20.0 + i, op, i % 5 == 0)
        stats.hit(duration_s / 100, 20.0 + i)


def random_calls(seed: int, count: int = 300) -> list[tuple[int, float]]:
    rng = random.Random(seed)
    return [(rng.randrange(len(OPERATIONS)), rng.lognormvariate(-4, 1.5)) for _ in range(count)]


def snapshot_of(calls: list[tuple[int, float]]) -> ProfileSnapshot:
    profile = new_profile()
    record_all(profile, calls)
    return ProfileSnapshot.take(profile, now_s=400.0, wall_s=1_000_400.0)


@pytest.fixture
def full(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A file that holds every field there is, and its content."""
    snapshot = snapshot_of([(n, 0.2) for n in range(len(OPERATIONS))] + random_calls(1))
    assert snapshot.other is not None
    path = tmp_path / "profile.json"
    snapshot.save(path)
    return path, json.loads(path.read_text("utf-8"))


# -- files --------------------------------------------------------------------------------------

TIMES = st.floats(0, 4e9)
DURATIONS = st.floats(0, 1e9)
COUNTS = st.integers(0, 2**60)
TEXTS = st.text(max_size=20)


@st.composite
def latencies(draw: st.DrawFn) -> Latency:
    bins = draw(st.dictionaries(st.integers(-4_000, 4_000), st.integers(1, 10**9), max_size=5))
    seconds = draw(st.lists(DURATIONS, min_size=5, max_size=5))
    return Latency(sum(bins.values()), *seconds, bins=tuple(sorted(bins.items())))


@st.composite
def rows(draw: st.DrawFn) -> ShapeProfile:
    latency = draw(latencies())
    sample = st.builds(SlowSample, TIMES, DURATIONS, COUNTS, st.none() | TEXTS, st.none() | TEXTS)
    return ShapeProfile(
        shape=draw(st.sampled_from(FORMS)),
        calls=latency.count,
        errors=draw(COUNTS),
        documents=draw(COUNTS),
        bytes=draw(COUNTS),
        getmores=draw(COUNTS),
        rewritten=draw(COUNTS),
        slow_calls=draw(COUNTS),
        first_seen_s=draw(TIMES),
        last_seen_s=draw(TIMES),
        latency=latency,
        hits=draw(latencies()),
        slow_samples=tuple(draw(st.lists(sample, max_size=3))),
        places=tuple(draw(st.lists(st.tuples(TEXTS, COUNTS), max_size=3))),
        repeats=tuple(draw(st.lists(st.tuples(TEXTS, COUNTS), max_size=3))),
    )


SNAPSHOTS = st.builds(
    ProfileSnapshot,
    st.lists(rows(), max_size=4).map(tuple),
    st.none() | rows(),
    TIMES,
    TIMES,
    st.integers(0, 1_000),
)


@settings(suppress_health_check=list(HealthCheck))
@given(snapshot=SNAPSHOTS)
def test_a_snapshot_is_read_back_as_it_was_saved(snapshot: ProfileSnapshot, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    snapshot.save(path)
    assert ProfileSnapshot.load(path) == snapshot


def test_a_recorded_profile_is_read_back_with_every_shape(tmp_path: Path) -> None:
    snapshot = snapshot_of(random_calls(3))
    snapshot.save(tmp_path / "profile.json")
    assert ProfileSnapshot.load(tmp_path / "profile.json") == snapshot
    assert snapshot.calls == 300
    assert (snapshot.started_s, snapshot.taken_s) == (1_000_010.0, 1_000_400.0)


def test_names_that_are_no_unicode_survive_a_file(tmp_path: Path) -> None:
    profile = new_profile()
    profile.read_stats(ReadOp("find", NS, {"\ud800": 1})).record(0.01, 1, 0, 0, 20.0)
    snapshot = ProfileSnapshot.take(profile, 20.0, 20.0)
    snapshot.save(tmp_path / "profile.json")
    assert ProfileSnapshot.load(tmp_path / "profile.json") == snapshot


def test_a_failed_save_leaves_the_earlier_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "profile.json"
    snapshot_of(random_calls(1)).save(path)
    before = path.read_bytes()

    def fail(fd: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        snapshot_of(random_calls(2)).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_fields_are_ignored(full: tuple[Path, dict[str, Any]]) -> None:
    path, content = full
    expected = ProfileSnapshot.load(path)
    content["new"] = content["shapes"][0]["new"] = {"x": 1}
    path.write_text(json.dumps(content))
    assert ProfileSnapshot.load(path) == expected


# -- refused files ------------------------------------------------------------------------------


def refused(path: Path, content: Any) -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProfileFileError) as caught:
        ProfileSnapshot.load(path)
    assert isinstance(caught.value, (QbError, ValueError))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_a_file_of_a_newer_schema_is_refused(full: tuple[Path, dict[str, Any]]) -> None:
    path, content = full
    content["schema"] = SCHEMA + 1
    assert "schema is 2, of a newer qbmongo; this one reads up to 1" in refused(path, content)
    content["schema"] = 0
    assert "schema is 0" in refused(path, content)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "is no JSON file"),
        ("{", "is no JSON file"),
        ("[" * 100_000, "is nested too deeply"),
        ("[]", "the file's content is []; allowed is an object"),
        ("{}", "schema is missing"),
        ('{"schema": NaN}', "NaN is no JSON number"),
        ('{"schema": true}', "schema is True"),
        ('{"schema": "1"}', "schema is '1'"),
    ],
)
def test_what_is_no_profile_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    assert problem in refused(tmp_path / "profile.json", content)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileFileError, match="cannot be read: No such file"):
        ProfileSnapshot.load(tmp_path / "none.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProfileFileError, match="is no JSON file"):
        ProfileSnapshot.load(tmp_path / "binary")


def places_in(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(content, dict):
        items = iter(content.items())
    elif isinstance(content, list):
        items = enumerate(content)
    for key, value in items:
        yield (*path, key)
        yield from places_in(value, (*path, key))


# Computed from the rest of the file when it is written, and not read.
DERIVED = {"id", "text", "instead"}


def test_a_file_with_any_one_field_broken_is_refused_by_name(
    full: tuple[Path, dict[str, Any]],
) -> None:
    path, content = full
    # One row stands for all where only numbers are concerned.
    fields = [
        place
        for place in places_in(content)
        if place[-1] not in DERIVED and ("shape" in place or place[1:2] in ((), (0,)))
    ]
    assert len(fields) > 300
    for place in fields:
        broken = copy.deepcopy(content)
        inner: Any = broken
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = {"of no": None}
        message = refused(path, broken)
        named = [key for key in place if isinstance(key, str) and key not in ("filter", "branches")]
        assert named[0] in message


@pytest.mark.parametrize("field", ["calls", "errors", "documents", "bytes", "getmores"])
@pytest.mark.parametrize("value", [-1, 1.5, None, True, "7"])
def test_a_count_that_cannot_be_is_refused(
    full: tuple[Path, dict[str, Any]], field: str, value: Any
) -> None:
    path, content = full
    content["shapes"][2][field] = value
    assert f"shapes[2].{field} is {value!r}" in refused(path, content)


@pytest.mark.parametrize(
    "bins", [[[1, 2], [1, 3]], [[5, 1], [4, 1]], [[1, 0]], [[1]], [[1.5, 1]], [[10**9, 1]], [1]]
)
def test_bins_that_cannot_be_are_refused(full: tuple[Path, dict[str, Any]], bins: Any) -> None:
    path, content = full
    content["shapes"][0]["latency"]["bins"] = bins
    assert "shapes[0].latency.bins" in refused(path, content)


def test_counts_that_contradict_each_other_are_refused(full: tuple[Path, dict[str, Any]]) -> None:
    path, content = full
    lost = copy.deepcopy(content)
    lost["shapes"][0]["latency"]["bins"].pop()
    assert "shapes[0].latency.bins hold" in refused(path, lost)
    content["shapes"][0]["calls"] += 1
    assert "shapes[0].latency.count is" in refused(path, content)


# -- merging ------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=3), st.randoms())
def test_merged_processes_equal_one_that_recorded_everything(seeds: list[int], rng: Any) -> None:
    parts = [[(n % 5, d) for n, d in random_calls(seed, 60)] for seed in seeds]
    merged = merge([snapshot_of(part) for part in parts])
    whole = snapshot_of([call for part in parts for call in part])
    by_id = {json.dumps(row.shape): row for row in whole.shapes}
    assert merged.calls == whole.calls
    assert merged.processes == len(parts)
    for row in merged.shapes:
        same = by_id.pop(json.dumps(row.shape))
        for field in ("calls", "documents", "bytes", "slow_calls"):
            assert getattr(row, field) == getattr(same, field)
        for ours, theirs in ((row.latency, same.latency), (row.hits, same.hits)):
            assert ours.bins == theirs.bins
            assert (ours.p50_s, ours.p95_s, ours.p99_s) == (
                theirs.p50_s,
                theirs.p95_s,
                theirs.p99_s,
            )
            assert ours.max_s == theirs.max_s
            assert ours.total_s == pytest.approx(theirs.total_s)
    assert by_id == {}


def test_merging_orders_by_total_time_and_spans_all_times() -> None:
    first, second = snapshot_of(random_calls(1)), snapshot_of(random_calls(2))
    merged = merge([first, second])
    totals = [row.latency.total_s for row in merged.shapes]
    assert totals == sorted(totals, reverse=True)
    assert all(len(row.slow_samples) <= 8 for row in merged.shapes)
    times = [
        (early.at_s, late.at_s)
        for row in merged.shapes
        for early, late in itertools.pairwise(row.slow_samples)
    ]
    assert times
    assert all(early <= late for early, late in times)
    assert merged.other is not None
    assert first.other is not None
    assert second.other is not None
    assert merged.other.calls == first.other.calls + second.other.calls


def test_nothing_to_merge_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        merge([])


# -- the table ----------------------------------------------------------------------------------


def printed(paths: list[Path], *, as_json: bool, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(paths, as_json, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_shows_each_shape_with_its_counts_and_place(tmp_path: Path) -> None:
    profile = new_profile()
    stats = profile.read_stats(ReadOp("find", NS, {"a[b]": 1}, sort={"at": -1}))
    stats.note_place("app/orders.py:31")
    for _ in range(1_234):
        stats.record(0.002, 2, 100, 0, 20.0)
    stats.record(0.25, 0, 0, 0, 20.0, None, True)
    profile.read_stats(ReadOp("find_one", NS, {"_id": 1})).record(0.0004, 1, 0, 0, 20.0)
    ProfileSnapshot.take(profile, 20.0, 0.0).save(tmp_path / "p.json")
    text = printed([tmp_path / "p.json"], as_json=False)
    for part in (
        "{a[b]: number} sort {at: -1}",
        "app/orders.py:31",
        "1,235",
        "2,468",
        "2.72 s",
        "250 ms",
        "{_id: number}",
        "2 shapes, 1,236 calls, 2.72 s in all; 1 process",
    ):
        assert part in text
    assert text.index("a[b]") < text.index("_id")


def test_names_steer_no_terminal(tmp_path: Path) -> None:
    profile = new_profile()
    stats = profile.read_stats(ReadOp("find", f"{NS}\x1b[2J", {"a\x1b[31m": 1, "_id": 1}))
    while stats.place_due:
        stats.note_place("app/\x1b[31m.py:31", "task")
    stats.record(0.002, 2, 100, 0, 20.0)
    ProfileSnapshot.take(profile, 20.0, 0.0).save(tmp_path / "p.json")
    text = printed([tmp_path / "p.json"], as_json=False)
    assert "\x1b" not in text
    assert r"a\x1b[31m" in text


def test_runs_are_shown_with_what_would_replace_them_and_add_up(tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path in paths:
        profile = new_profile()
        stats = profile.read_stats(ReadOp("find_one", NS, {"_id": 1}))
        while stats.place_due:
            stats.note_place("app/orders.py:31", "task")
        stats.record(0.002, 2, 100, 0, 20.0)
        ProfileSnapshot.take(profile, 20.0, 0.0).save(path)
    (row,) = merge(ProfileSnapshot.load(path) for path in paths).shapes
    assert row.repeats == (("app/orders.py:31", 2),)
    text = printed(paths, as_json=False)
    assert "again and again in one task at app/orders.py:31" in text
    assert "instead: one find {_id: {$in: [...]}}" in text


def test_files_of_several_processes_are_shown_as_one(tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for seed, path in enumerate(paths):
        snapshot_of(random_calls(seed)).save(path)
    assert "600 calls" in printed(paths, as_json=False)
    assert "beyond max_shapes" in printed(paths, as_json=False)


def test_json_output_is_a_profile_file_again(tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for seed, path in enumerate(paths):
        snapshot_of(random_calls(seed)).save(path)
    text = printed(paths, as_json=True, width=40)
    (tmp_path / "merged.json").write_text(text)
    expected = merge([ProfileSnapshot.load(path) for path in paths])
    assert ProfileSnapshot.load(tmp_path / "merged.json") == expected


def test_nothing_is_printed_when_one_file_is_refused(tmp_path: Path) -> None:
    snapshot_of(random_calls(1)).save(tmp_path / "a.json")
    console = Console(file=io.StringIO())
    with pytest.raises(ProfileFileError):
        show([tmp_path / "a.json", tmp_path / "none.json"], False, console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0"),
        (1.5e-6, "1.50 us"),
        (2e-8, "0.02 us"),
        (0.000_35, "350 us"),
        (0.001_234, "1.23 ms"),
        (0.0123, "12.3 ms"),
        (61.0, "61.0 s"),
        (12_345.0, "12,345 s"),
    ],
)
def test_durations_read_with_three_digits(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
