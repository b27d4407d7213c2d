"""What one write's invalidation costs, by what is cached and by what is dropped.

Budget (DESIGN section 9): at most 8 us for a write by `_id` with 100,000 entries cached; it grows
with what is dropped, not with what is cached. Measured is everything that a write costs between
its two command events: reading the command, the ledger, the sequence, and the dropping.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from rich.console import Console

from bench.interleaved import Arm, Budget, Effort, Measured, Table, measure, number, show
from bench.kept import NAMESPACE, Kept, update_of
from bench.subjects import KINDS, document, filled, opened, settled_reads
from qbmongo import CacheSettings, Settings
from qbmongo.records import ReadOp

WRITES = 400
CACHED = (1_000, 10_000, 100_000)
DROPPED = (1, 10, 100)


def tables(uri: str, effort: Effort) -> Iterator[Table]:
    """Every table of this module."""
    yield by_cached(effort)
    yield by_dropped(effort)
    for kind in KINDS:
        yield through_client(kind, uri, effort)


def _point(identity: int) -> ReadOp:
    return ReadOp("find_one", NAMESPACE, {"_id": identity}, None, None, 0, -1)


def _grouped(group: int) -> ReadOp:
    return ReadOp("find", NAMESPACE, {"group": group})


def by_cached(effort: Effort, cached: Sequence[int] = CACHED) -> Table:
    """One entry dropped by `_id`, and none, with more and more entries cached."""
    arms = []
    updates = [update_of(i) for i in range(WRITES)]
    elsewhere = [update_of(-1 - i) for i in range(WRITES)]
    inserts = [
        {"insert": "things", "txnNumber": 1, "documents": [document(-1 - i, -1)]}
        for i in range(WRITES)
    ]
    for count in cached:
        kept = Kept()
        for i in range(count):
            kept.keep(_point(i), [document(i)])
        arms += [
            _arm(f"update drops 1 of {count:,}", kept, "update", updates, _refill(kept)),
            _arm(f"update drops none of {count:,}", kept, "update", elsewhere, None),
            _arm(f"insert drops none of {count:,}", kept, "insert", inserts, None),
        ]
    measured = measure(arms, effort)
    dropping = measured[f"update drops 1 of {cached[-1]:,}"].cpu.median
    return _table(
        "a write's invalidation, entries cached by _id",
        measured,
        budgets=(Budget(f"invalidation by _id, {cached[-1]:,} cached, CPU", 8, dropping, "us"),),
    )


def by_dropped(effort: Effort, dropped: Sequence[int] = DROPPED, others: int = 10_000) -> Table:
    """One update of a document that many cached finds contain."""
    arms = []
    for count in dropped:
        kept = Kept()
        for i in range(others):
            kept.keep(_point(i + WRITES), [document(i + WRITES)])
        writes = max(4, WRITES // count)
        arms.append(
            _arm(
                f"update drops {count} of {others + writes * count:,}",
                kept,
                "update",
                [update_of(i) for i in range(writes)],
                _refill_finds(kept, count),
            )
        )
    return _table("a write's invalidation, finds that contain the document", measure(arms, effort))


def _refill(kept: Kept) -> Callable[[int], None]:
    def prepare(calls: int) -> None:
        for i in range(calls):
            kept.keep(_point(i), [document(i)])

    return prepare


def _refill_finds(kept: Kept, count: int) -> Callable[[int], None]:
    def prepare(calls: int) -> None:
        for i in range(calls):
            for j in range(count):
                kept.keep(_grouped(i * count + j), [document(i)])

    return prepare


def _arm(
    name: str,
    kept: Kept,
    command: str,
    commands: Sequence[Any],
    prepare: Callable[[int], None] | None,
) -> Arm:
    return Arm(name, kept.writes(command, commands), calls=len(commands), prepare=prepare)


def _table(title: str, measured: dict[str, Measured], budgets: tuple[Budget, ...] = ()) -> Table:
    rows = [
        (arm.name, number(arm.wall.median), str(arm.wall), number(arm.cpu.median))
        for arm in measured.values()
    ]
    return Table(title, ("write", "us", "quartiles", "CPU us"), rows, budgets=budgets)


def through_client(kind: str, uri: str, effort: Effort, cached: int = 100_000) -> Table:
    """A whole update_one through a client, with many entries cached and with hardly any."""
    roomy = Settings(cache=CacheSettings(max_bytes=1 << 30))
    with filled(uri, 1_000) as database, opened(kind, uri, database) as bench:
        arms = []
        for count in (100, cached):
            things = bench.ours(roomy)
            bench.warm(things, lambda things=things: things.find_one({"_id": 0}))  # type: ignore[misc]
            settled_reads(things, range(1_000, 1_000 + count))

            def call(things: Any = things) -> Any:
                return things.update_one({"_id": 7}, {"$inc": {"stock": 1}})

            arms.append(Arm(f"update_one, {count:,} cached", bench.repeat(call)))
        measured = measure(arms, effort, loop=bench.loop, cpu_clock=bench.cpu_clock)
    return _table(f"a write through a client ({kind})", measured)


def test_by_cached(capsys: Any) -> None:
    table = by_cached(Effort.quick(), (100, 1_000, 10_000))
    with capsys.disabled():
        show([table], Console())


def test_by_dropped(capsys: Any) -> None:
    table = by_dropped(Effort.quick(), (1, 10), 1_000)
    with capsys.disabled():
        show([table], Console())


@pytest.mark.parametrize("kind", KINDS)
def test_through_client(kind: str, server_uri: str, capsys: Any) -> None:
    table = through_client(kind, server_uri, Effort.quick(), 5_000)
    with capsys.disabled():
        show([table], Console())
