"""Eligible misses, one after another: what keeping an answer costs beside the plain call.

Budget (DESIGN section 9): the plain call and 35 us, an empty command listener's price included.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.console import Console

from bench.interleaved import Arm, Budget, Effort, Table, compared, differences, measure, show
from bench.subjects import KINDS, Bench, EmptyListener, filled, opened
from qbmongo import CacheSettings, Settings

DOCUMENTS = 40_000
BLOCK = 20
# Never full, so that a miss is no eviction; misses of `_id`s asked for long ago stay misses because
# no arm comes round to them.
ROOMY = CacheSettings(max_bytes=1 << 30)


def tables(uri: str, effort: Effort) -> Iterator[Table]:
    """Every table of this module."""
    for kind in KINDS:
        with filled(uri, DOCUMENTS) as database, opened(kind, uri, database) as bench:
            yield find_one(bench, effort)
            yield find_block(bench, effort)


def find_one(bench: Bench, effort: Effort) -> Table:
    """find_one by `_id`, each time another one."""

    def call(things: Any) -> Callable[[], Any]:
        ids = itertools.count(1)
        return lambda: things.find_one({"_id": next(ids)})

    return _table(bench, effort, f"find_one by _id, miss ({bench.kind})", call, {"_id": 0}, 35)


def find_block(bench: Bench, effort: Effort) -> Table:
    """find of 20 documents read whole, each time others."""

    def call(things: Any) -> Callable[[], Any]:
        groups = itertools.count(1)
        return lambda: things.find({"group": next(groups)}).to_list()

    title = f"find of {BLOCK} documents, miss ({bench.kind})"
    return _table(bench, effort, title, call, {"group": 0}, None)


def _table(
    bench: Bench,
    effort: Effort,
    title: str,
    call: Callable[[Any], Callable[[], Any]],
    warm: dict[str, Any],
    limit_us: float | None,
) -> Table:
    arms = [
        Arm("plain", bench.repeat(call(bench.plain()))),
        Arm("plain, empty listener", bench.repeat(call(bench.plain(EmptyListener())))),
    ]
    for name, settings in {
        "qbmongo": Settings(cache=ROOMY),
        "qbmongo, profile off": Settings(cache=ROOMY, profile=None),
    }.items():
        things = bench.ours(settings)
        bench.warm(things, lambda things=things: things.find_one(warm))  # type: ignore[misc]
        arms.append(Arm(name, bench.repeat(call(things)), bench.counter(things, "misses")))
    measured = measure(arms, effort, loop=bench.loop, cpu_clock=bench.cpu_clock)
    added = differences(measured["qbmongo"], measured["plain"])
    listener = differences(measured["plain, empty listener"], measured["plain"])
    budgets: tuple[Budget, ...] = ()
    if limit_us is not None:
        what = f"find_one miss ({bench.kind}), added CPU"
        budgets = (Budget(what, limit_us, added.median, "us"),)
    return compared(
        title,
        measured,
        "plain",
        note=f"Added CPU per call: qbmongo {added.median:.1f} us ({added}),"
        f" the empty listener alone {listener.median:.1f} us ({listener}).",
        budgets=budgets,
    )


@pytest.mark.parametrize("part", [find_one, find_block], ids=lambda part: part.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_misses(kind: str, part: Any, server_uri: str, capsys: Any) -> None:
    with filled(server_uri, DOCUMENTS) as database, opened(kind, server_uri, database) as bench:
        table = part(bench, Effort.quick())
    with capsys.disabled():
        show([table], Console())
