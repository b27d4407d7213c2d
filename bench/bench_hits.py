"""Hits: what a kept answer costs, beside the plain driver, the floor, and hand-made caches.

Budgets (DESIGN section 9): find_one by `_id` of a 150-byte document at most 8 us and at least 40
times the plain driver; find of 20 documents at most twice of decoding their bytes.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import aiocache  # type: ignore[import-untyped, unused-ignore]
import bson
import cachetools
import pytest
from bson.codec_options import DEFAULT_CODEC_OPTIONS
from lru import LRU
from rich.console import Console

from bench.interleaved import Arm, Budget, Effort, Measured, Table, compared, measure, ratios, show
from bench.subjects import KINDS, Bench, document, filled, opened
from qbmongo import Settings

WITHOUT_PROFILE = Settings(profile=None)
FILTER = {"_id": 7}
GROUP = {"group": 3}
BLOCK = 20
PIPELINE = [{"$match": GROUP}, {"$group": {"_id": "$stock", "n": {"$sum": 1}}}]


def tables(uri: str, effort: Effort) -> Iterator[Table]:
    """Every table of this module."""
    with filled(uri, 1_000) as database:
        for kind in KINDS:
            with opened(kind, uri, database) as bench:
                yield _find_one(bench, effort)
        for kind in KINDS:
            with opened(kind, uri, database) as bench:
                yield _find_block(bench, effort)
                yield _values(bench, effort)


def _hit_arm(
    bench: Bench, name: str, settings: Settings, call: Callable[[Any], Callable[[], Any]]
) -> Arm:
    """An arm whose calls are all hits; `call` makes the call of a collection."""
    things = bench.ours(settings)
    bench.warm(things, call(things))
    return Arm(name, bench.repeat(call(things)), bench.counter(things, "hits"))


def _floor(bench: Bench, decode: Callable[[bytes], Any], data: bytes, name: str) -> Arm:
    """Encode the key, one lookup, decode the bytes: what nobody can beat."""
    store: Any = LRU(1_000)
    store[bson.encode(FILTER)] = data
    encode = bson.encode

    def run(calls: int) -> None:
        for _ in range(calls):
            decode(store[encode(FILTER)])

    async def run_async(calls: int) -> None:
        run(calls)

    return Arm(name, run if bench.loop is None else run_async)


def _find_one(bench: Bench, effort: Effort) -> Table:
    plain = bench.plain()
    decode = functools.partial(bson.decode, codec_options=DEFAULT_CODEC_OPTIONS)

    def call(things: Any) -> Callable[[], Any]:
        return lambda: things.find_one(FILTER)

    arms = [
        Arm("plain", bench.repeat(call(plain))),
        _hit_arm(bench, "qbmongo", Settings(), call),
        _hit_arm(bench, "qbmongo, profile off", WITHOUT_PROFILE, call),
        _floor(bench, decode, bson.encode(document(7)), "floor: key, lookup, decode"),
        *_hand_made(bench, plain),
    ]
    measured = measure(arms, effort, loop=bench.loop, cpu_clock=bench.cpu_clock)
    speed_up = ratios(measured["plain"], measured["qbmongo"]).median
    return compared(
        f"find_one by _id, 150 bytes, hit ({bench.kind})",
        measured,
        "plain",
        budgets=(
            _at_most_us(f"find_one hit ({bench.kind}), CPU", 8, measured["qbmongo"]),
            Budget(f"find_one hit ({bench.kind}), faster", 40, speed_up, "x", at_most=False),
        ),
    )


def _at_most_us(what: str, limit_us: float, arm: Measured) -> Budget:
    return Budget(what, limit_us, arm.cpu.median, "us")


def _hand_made(bench: Bench, plain: Any) -> list[Arm]:
    """What a user would write instead. None of them is told of a write."""
    kept: Any = cachetools.TTLCache(maxsize=1_000, ttl=600)
    find_one = plain.find_one
    if bench.loop is None:

        def shared(identity: int) -> Any:
            found = kept.get(identity)
            if found is None:
                found = kept[identity] = find_one({"_id": identity})
            return found

        def copied(identity: int) -> Any:
            return copy.deepcopy(shared(identity))

        return [
            Arm("cachetools.TTLCache, shared dict", bench.repeat(lambda: shared(7))),
            Arm("cachetools.TTLCache, deepcopy", bench.repeat(lambda: copied(7))),
        ]

    async def shared_async(identity: int) -> Any:
        found = kept.get(identity)
        if found is None:
            found = kept[identity] = await find_one({"_id": identity})
        return found

    async def copied_async(identity: int) -> Any:
        return copy.deepcopy(await shared_async(identity))

    @aiocache.cached(ttl=600)  # type: ignore[untyped-decorator, unused-ignore]
    async def decorated(identity: int) -> Any:
        return await find_one({"_id": identity})

    return [
        Arm("cachetools.TTLCache, shared dict", bench.repeat(lambda: shared_async(7))),
        Arm("cachetools.TTLCache, deepcopy", bench.repeat(lambda: copied_async(7))),
        Arm("aiocache.cached, shared dict", bench.repeat(lambda: decorated(7))),
    ]


def _find_block(bench: Bench, effort: Effort) -> Table:
    data = b"".join(bson.encode(document(i, 3)) for i in range(60, 60 + BLOCK))
    plain = bench.plain()

    def call(things: Any) -> Callable[[], Any]:
        return lambda: things.find(GROUP).to_list()

    def decode_block(calls: int) -> None:
        for _ in range(calls):
            bson.decode_all(data, DEFAULT_CODEC_OPTIONS)

    async def decode_block_async(calls: int) -> None:
        decode_block(calls)

    arms = [
        Arm("plain", bench.repeat(call(plain))),
        _hit_arm(bench, "qbmongo", Settings(), call),
        Arm("floor: decode", decode_block if bench.loop is None else decode_block_async),
    ]
    measured = measure(arms, effort, loop=bench.loop, cpu_clock=bench.cpu_clock)
    hit, floor = measured["qbmongo"], measured["floor: decode"]
    decoded = hit.cpu.median / floor.cpu.median
    return compared(
        f"find of {BLOCK} documents, hit ({bench.kind})",
        measured,
        "plain",
        budgets=(
            Budget(f"find of {BLOCK}, hit ({bench.kind}), of decoding, CPU", 2, decoded, "x"),
        ),
    )


def _values(bench: Bench, effort: Effort) -> Table:
    plain, ours = bench.plain(), bench.ours(Settings())

    async def aggregate_async(things: Any) -> Any:
        return await (await things.aggregate(PIPELINE)).to_list()

    def aggregate(things: Any) -> Any:
        if bench.kind == "async":
            return aggregate_async(things)
        cursor = things.aggregate(PIPELINE)
        return cursor.to_list(None) if bench.kind == "motor" else cursor.to_list()

    calls: dict[str, Callable[[Any], Any]] = {
        "count_documents": lambda things: things.count_documents(GROUP),
        "distinct": lambda things: things.distinct("stock", GROUP),
        "aggregate": aggregate,
    }
    arms = []
    for name, call in calls.items():
        bench.warm(ours, functools.partial(call, ours))
        hits = bench.repeat(functools.partial(call, ours))
        arms += [
            Arm(f"{name}, plain", bench.repeat(functools.partial(call, plain))),
            Arm(f"{name}, qbmongo", hits, bench.counter(ours, "hits")),
        ]
    measured = measure(arms, effort, loop=bench.loop, cpu_clock=bench.cpu_clock)
    rows = []
    for name in calls:
        before, after = measured[f"{name}, plain"], measured[f"{name}, qbmongo"]
        rows.append(
            (
                name,
                f"{before.wall.median:,.0f}",
                f"{after.wall.median:.1f}",
                str(after.wall),
                f"{after.cpu.median:.1f}",
                f"{ratios(before, after).median:.0f}x",
            )
        )
    columns = ("hit", "plain us", "qbmongo us", "quartiles", "CPU us", "faster")
    return Table(f"hits of values and aggregations ({bench.kind})", columns, rows)


@pytest.mark.parametrize("part", [_find_one, _find_block, _values], ids=lambda part: part.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_hits(kind: str, part: Any, server_uri: str, capsys: Any) -> None:
    with filled(server_uri, 1_000) as database, opened(kind, server_uri, database) as bench:
        table = part(bench, Effort.quick())
    with capsys.disabled():
        show([table], Console())
