"""Calls that are passed through, and lone writes: what being watched costs.

Budgets (DESIGN section 9): a call that qbmongo does nothing for, 1.03 times the plain call (and
the price of an empty command listener where the cache is on); a lone write, the plain call and
25 us. Writes are measured on a server of each arm's own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from rich.console import Console

from bench.interleaved import (
    Arm,
    Budget,
    Effort,
    Measured,
    Table,
    compared,
    differences,
    measure,
    show,
)
from bench.subjects import KINDS, Bench, EmptyListener, client_of, document, filled, opened
from qbmongo import ProfileSettings, Settings
from qbmongo.local_server import LocalServer

OFF = Settings.preset("off")
PROFILE_ONLY = Settings(
    profile=ProfileSettings(), cache=None, coalesce=None, batch=None, rewrite=None
)
FILTER = {"_id": 7}
KEPT = 100
NEW_IDS = 1_000_000
WRITTEN = "qbmongo_bench_writes"
WRITE_ARMS = ("plain", "plain, empty listener", "qbmongo off", "qbmongo")


def tables(uri: str, effort: Effort) -> Iterator[Table]:
    """Every table of this module."""
    with filled(uri, 1_000) as database:
        for kind in KINDS:
            with opened(kind, uri, database) as bench:
                yield reads(bench, effort)
    for kind in KINDS:
        with write_servers() as uris:
            for part in (update_one, insert_one):
                yield part(kind, uris, effort)


def reads(bench: Bench, effort: Effort) -> Table:
    """find_one with a session, which is never cached, through clients with more and more on."""

    def call(things: Any) -> Callable[[], Any]:
        session = bench.result(client_of(things).start_session())
        return lambda: things.find_one(FILTER, session=session)

    whole = bench.ours(Settings())
    bench.warm(whole, lambda: whole.find_one(FILTER))
    subjects = {
        "plain": bench.plain(),
        "plain, empty listener": bench.plain(EmptyListener()),
        "qbmongo off": bench.ours(OFF),
        "qbmongo, profile only": bench.ours(PROFILE_ONLY),
        "qbmongo": whole,
    }
    arms = [Arm(name, bench.repeat(call(things))) for name, things in subjects.items()]
    measured = measure(arms, effort, loop=bench.loop, cpu_clock=bench.cpu_clock)
    what = f"pass-through ({bench.kind})"
    return compared(
        f"find_one with a session ({bench.kind})",
        measured,
        "plain",
        note="Added CPU per call, us: "
        + ", ".join(
            f"{name} {differences(arm, measured['plain']).median:.1f}"
            for name, arm in measured.items()
            if name != "plain"
        )
        + ".",
        budgets=(
            Budget(f"{what}, off", 1.03, _price(measured, "qbmongo off", "plain"), "x"),
            Budget(
                f"{what}, profile only",
                1.03,
                _price(measured, "qbmongo, profile only", "plain"),
                "x",
            ),
            Budget(
                f"{what}, all on, beside an empty listener",
                1.03,
                _price(measured, "qbmongo", "plain, empty listener"),
                "x",
            ),
        ),
    )


def _price(measured: dict[str, Measured], name: str, beside: str) -> float:
    """1 and what an arm adds to another's CPU, as a share of the plain call's wall time.

    Of the quicker quartile of it, so that a busy machine does not make the share look small.
    """
    added_us = differences(measured[name], measured[beside]).median
    return 1 + added_us / measured["plain"].wall.low


@contextmanager
def write_servers() -> Iterator[dict[str, str]]:
    """A server for each arm that writes: its URI by the arm's name, each with KEPT documents."""
    with ExitStack() as stack:
        uris = {arm: stack.enter_context(LocalServer()).uri for arm in WRITE_ARMS}
        for uri in uris.values():
            stack.enter_context(filled(uri, KEPT, WRITTEN))
        yield uris


def update_one(kind: str, uris: dict[str, str], effort: Effort) -> Table:
    """update_one by `_id`."""

    def call(things: Any) -> Callable[[], Any]:
        steps = itertools.count(1)
        return lambda: things.update_one(FILTER, {"$set": {"stock": next(steps)}})

    return _writes(kind, uris, effort, "update_one by _id", call)


def insert_one(kind: str, uris: dict[str, str], effort: Effort) -> Table:
    """insert_one of a 150-byte document."""

    def call(things: Any) -> Callable[[], Any]:
        ids = itertools.count(NEW_IDS)
        return lambda: things.insert_one(document(next(ids)))

    return _writes(kind, uris, effort, "insert_one", call)


def _writes(
    kind: str,
    uris: dict[str, str],
    effort: Effort,
    name: str,
    call: Callable[[Any], Callable[[], Any]],
) -> Table:
    """A lone write, with an answer kept for each of KEPT documents where there is a cache."""
    with opened(kind, uris["plain"], WRITTEN) as bench:
        ours = bench.ours(Settings(), uri=uris["qbmongo"])
        bench.warm(ours, lambda: ours.find_one(FILTER))
        for i in range(KEPT):
            bench.result(ours.find_one({"_id": i}))
        things = {
            "plain": bench.plain(),
            "plain, empty listener": bench.plain(
                EmptyListener(), uri=uris["plain, empty listener"]
            ),
            "qbmongo off": bench.ours(OFF, uri=uris["qbmongo off"]),
            "qbmongo": ours,
        }
        measured = measure(
            [Arm(arm, bench.repeat(call(things[arm]))) for arm in WRITE_ARMS],
            effort,
            loop=bench.loop,
            cpu_clock=bench.cpu_clock,
        )
    added = differences(measured["qbmongo"], measured["plain"])
    listener = differences(measured["plain, empty listener"], measured["plain"])
    return compared(
        f"{name}, lone ({kind})",
        measured,
        "plain",
        note=f"Added CPU per call: qbmongo {added.median:.1f} us ({added}), the empty listener"
        f" alone {listener.median:.1f} us ({listener}). The process's CPU includes the watcher.",
        budgets=(Budget(f"lone {name} ({kind}), added CPU", 25, added.median, "us"),),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_pass_through(kind: str, server_uri: str, capsys: Any) -> None:
    with filled(server_uri, 100) as database, opened(kind, server_uri, database) as bench:
        table = reads(bench, Effort.quick())
    with capsys.disabled():
        show([table], Console())


@pytest.mark.parametrize("part", [update_one, insert_one], ids=lambda part: part.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_lone_write(kind: str, part: Any, capsys: Any) -> None:
    with write_servers() as uris:
        table = part(kind, uris, Effort.quick())
    with capsys.disabled():
        show([table], Console())
