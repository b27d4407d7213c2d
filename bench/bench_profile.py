"""What one call's record costs. Budget: 1.5 us for a known point-read shape, 6 us for a new one.

Run: pytest bench/bench_profile.py --benchmark-columns=min,median,stddev,rounds

Each round makes CALLS records, so the figures are of CALLS calls: microseconds per call are
milliseconds per round here. "Two clock reads" and "DDSketch.add" are the floor beside it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from bson import ObjectId
from ddsketch import DDSketch

from qbmongo.clients.arguments import caller_of_call, place_of_call
from qbmongo.core.profile import Profile
from qbmongo.core.shapes import read_shape, write_shape
from qbmongo.profiles import sketch_scale
from qbmongo.records import ReadOp, WriteOp

CALLS = 1_000
ROUNDS = 200
DURATIONS = [0.000_3 + 0.000_001 * (i * 37 % 200) for i in range(CALLS)]

POINT_READ = ReadOp("find_one", "shop.orders", {"_id": ObjectId()})
TWO_FIELDS = ReadOp("find", "shop.orders", {"status": "open", "customer": 5})
BOARD = ReadOp(
    "find",
    "shop.flights",
    {"origin": "JFK", "at": {"$gte": 5, "$lt": 9}},
    sort={"at": 1},
    limit=20,
)
UPDATE = WriteOp("update_one", "shop.orders", {"_id": 5}, {"$set": {"status": "sent"}})


def new_profile(lock: Any = None, max_shapes: int = 1_000) -> Profile:
    return Profile(
        sketch_scale(),
        threading.Lock() if lock is None else lock,
        0.0,
        slow_ms=100,
        log_every_s=10,
        max_shapes=max_shapes,
        samples=8,
        place_every=100,
    )


def record_each(profile: Profile, ops: list[ReadOp]) -> None:
    """What the engine does for a call, between and around its two clock reads.

    All calls are one task's, from one place: a run, in which most places are looked up.
    """
    clock = time.monotonic
    read_stats = profile.read_stats
    for op, duration_s in zip(ops, DURATIONS, strict=True):
        clock()
        stats = read_stats(op)
        if stats.place_due:
            stats.note_place(place_of_call(), caller_of_call())
        stats.record(duration_s, 1, 150, 0, clock(), None, False)


@pytest.mark.parametrize(
    "lock", [threading.Lock(), nullcontext()], ids=["threading.Lock", "no-op lock"]
)
def test_known_point_read(benchmark: Any, lock: Any) -> None:
    benchmark.group = "record of a known shape, 1,000 calls"
    ops = [POINT_READ] * CALLS
    profile = new_profile(lock)
    benchmark.pedantic(record_each, (profile, ops), rounds=ROUNDS, warmup_rounds=5)


@pytest.mark.parametrize("op", [TWO_FIELDS, BOARD], ids=["two fields", "range, sort, limit"])
def test_known_shape(benchmark: Any, op: ReadOp) -> None:
    benchmark.group = "record of a known shape, 1,000 calls"
    profile = new_profile()
    benchmark.pedantic(record_each, (profile, [op] * CALLS), rounds=ROUNDS, warmup_rounds=5)


def test_new_point_read(benchmark: Any) -> None:
    benchmark.group = "record of a new shape, 1,000 calls"
    ops = [ReadOp("find_one", "shop.orders", {f"field{i}": 5}) for i in range(CALLS)]

    def setup() -> tuple[tuple[Profile, list[ReadOp]], dict[str, Any]]:
        return (new_profile(max_shapes=10_000), ops), {}

    benchmark.pedantic(record_each, setup=setup, rounds=ROUNDS, warmup_rounds=5)


def test_new_shape_with_sort(benchmark: Any) -> None:
    benchmark.group = "record of a new shape, 1,000 calls"
    ops = [
        ReadOp("find", "shop.flights", {"origin": "JFK", f"f{i}": {"$gte": 5}}, sort={"at": 1})
        for i in range(CALLS)
    ]

    def setup() -> tuple[tuple[Profile, list[ReadOp]], dict[str, Any]]:
        return (new_profile(max_shapes=10_000), ops), {}

    benchmark.pedantic(record_each, setup=setup, rounds=ROUNDS, warmup_rounds=5)


def test_hit(benchmark: Any) -> None:
    benchmark.group = "record of a cache hit, 1,000 calls"
    stats = new_profile().read_stats(POINT_READ)

    def hits() -> None:
        for duration_s in DURATIONS:
            stats.hit(duration_s, 5.0)

    benchmark.pedantic(hits, rounds=ROUNDS, warmup_rounds=5)


@pytest.mark.parametrize(
    ("shape_of", "op"),
    [
        (read_shape, POINT_READ),
        (read_shape, TWO_FIELDS),
        (read_shape, BOARD),
        (write_shape, UPDATE),
    ],
    ids=["point read", "two fields", "range, sort, limit", "update_one by _id"],
)
def test_shape_key(benchmark: Any, shape_of: Callable[[Any], Any], op: Any) -> None:
    benchmark.group = "shape key alone, 1,000 keys"

    def keys() -> None:
        for _ in range(CALLS):
            shape_of(op)

    benchmark.pedantic(keys, rounds=ROUNDS, warmup_rounds=5)


def test_two_clock_reads(benchmark: Any) -> None:
    benchmark.group = "floor, 1,000 calls"
    clock = time.monotonic

    def reads() -> None:
        for _ in DURATIONS:
            clock()
            clock()

    benchmark.pedantic(reads, rounds=ROUNDS, warmup_rounds=5)


def test_ddsketch_add(benchmark: Any) -> None:
    benchmark.group = "floor, 1,000 calls"
    sketch = DDSketch()

    def adds() -> None:
        for duration_s in DURATIONS:
            sketch.add(duration_s)

    benchmark.pedantic(adds, rounds=ROUNDS, warmup_rounds=5)
