"""Where each microsecond goes: the steps of a hit, of a miss and of a write, each on its own.

Each step is called as the client calls it, in a loop; the price of an empty call in that loop is
taken off. The steps of a path add up to less than the whole: what is missing is the method itself
and its arguments. "Least" is the quickest round's CPU time, which a busy machine disturbs least.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import bson
from bson.codec_options import DEFAULT_CODEC_OPTIONS as CODEC
from pymongo.cursor import Cursor as DriverCursor
from pymongo.results import UpdateResult
from rich.console import Console

from bench.interleaved import Arm, Budget, Effort, Table, measure, number, show
from bench.kept import NAMESPACE, PRIMARY, Kept, update_of
from bench.subjects import document, filled, opened
from qbmongo import Settings
from qbmongo.clients.cursors import Reading, call_bypass, decode_documents, served_one
from qbmongo.clients.fairness import LoopTurn
from qbmongo.clients.parts import bound_sync_session
from qbmongo.clients.reply_bytes import batch_of
from qbmongo.clients.writes import Write
from qbmongo.core.engine import Lead
from qbmongo.core.footprints import footprint_of
from qbmongo.core.frozen import EXACT_CODEC, frozen
from qbmongo.core.keys import key_of
from qbmongo.core.profile import Profile
from qbmongo.profiles import sketch_scale
from qbmongo.records import ReadOp

_EMPTY = "an empty call"
_WHOLE = "the whole call"
_FILTER = {"_id": 7}
_BLOCK = {"group": 3}

Steps = dict[str, Callable[[], Any]]


def tables(uri: str, effort: Effort) -> Iterator[Table]:
    """Every table of this module."""
    with filled(uri, 1_000) as database, opened("sync", uri, database) as bench:
        things = bench.ours(Settings())
        bench.warm(things, lambda: things.find_one(_FILTER))
        bench.warm(things, lambda: things.find(_BLOCK).to_list())
        hits = bench.counter(things, "hits")
        with closing(asyncio.new_event_loop()) as loop:
            steps = hit_steps(things, loop)
            yield _table("a find_one hit by _id, step by step", steps, effort, hits)
        yield _table("a find hit of 20, step by step", block_steps(things), effort, hits)
        yield _table("a find_one miss by _id, step by step", miss_steps(things), effort)
        yield _table("a write by _id, step by step", write_steps(things), effort)
        yield _profile(effort)


def _table(
    title: str, steps: Steps, effort: Effort, hits: Callable[[], int] | None = None
) -> Table:
    """hits: counts the hits of the step called _WHOLE."""
    arms = [
        Arm(name, _loop(call), hits if name == _WHOLE else None)
        for name, call in {_EMPTY: _nothing, **steps}.items()
    ]
    measured = measure(arms, effort)
    empty = measured.pop(_EMPTY)
    rows = [
        (
            name,
            number(max(0.0, arm.cpu.median - empty.cpu.median)),
            number(max(0.0, min(arm.cpu_us) - min(empty.cpu_us))),
        )
        for name, arm in measured.items()
    ]
    return Table(title, ("step", "CPU us", "least"), rows)


def _loop(call: Callable[[], Any]) -> Callable[[int], None]:
    def run(calls: int) -> None:
        for _ in range(calls):
            call()

    return run


def _nothing() -> None:
    pass


def hit_steps(things: Any, loop: asyncio.AbstractEventLoop) -> Steps:
    """Of the synchronous client; the last two are what the asyncio clients add."""
    scope = things._qb
    op = ReadOp("find_one", scope.namespace, _FILTER, None, None, 0, -1, scope.options)
    key = key_of(op, CODEC)
    lookup = scope.engine.get_entry
    entry = lookup(key)
    clock = time.monotonic
    trust = scope.trust
    turn = LoopTurn(64)
    idle: Any = _Idle()

    def lease() -> bool:
        now_s = clock()
        return bool(now_s < trust.lease_until_s and now_s < entry.expires_s)

    def future() -> Any:
        done = loop.create_future()
        done.set_result(None)
        return done

    def turned() -> None:
        turn.over(idle)
        turn._begin()

    return {
        _WHOLE: lambda: things.find_one(_FILTER),
        "bound session, uncached(): checks": lambda: call_bypass(bound_sync_session()),
        "the operation (ReadOp)": lambda: ReadOp(
            "find_one", scope.namespace, _FILTER, None, None, 0, -1, scope.options
        ),
        "the key": lambda: key_of(op, CODEC),
        "of it: bson.encode": lambda: bson.encode(_FILTER, False, CODEC),
        "the lookup": lambda: lookup(key),
        "lease and age, one clock read": lease,
        "decode": lambda: served_one(entry, CODEC),
        "of it: bson.decode": lambda: bson.decode(entry.data, CODEC),
        "counted and profiled": lambda: scope.served(entry, 1.0, 1.000_005),
        "a clock read": clock,
        "asyncio clients: fairness": turned,
        "Motor: a finished Future": future,
    }


class _Idle:
    """An event loop in which nothing runs."""

    def call_soon(self, callback: Any) -> None:
        pass


def block_steps(things: Any) -> Steps:
    """A find of 20 documents, synchronous client."""
    scope = things._qb
    entry = scope.engine.get_entry(key_of(ReadOp("find", scope.namespace, _BLOCK), CODEC))
    plain = _driver_collection(things)
    return {
        _WHOLE: lambda: things.find(_BLOCK).to_list(),
        "a cursor of ours": lambda: things.find(_BLOCK),
        "of it: the driver's": lambda: plain.find(_BLOCK),
        "what it keeps (Reading)": lambda: Reading(scope),
        "the key": lambda: key_of(ReadOp("find", scope.namespace, _BLOCK), CODEC),
        "decode": lambda: decode_documents(entry.data, CODEC),
    }


def _driver_collection(things: Any) -> Any:
    return type(things).__mro__[1](things.database, things.name)


def miss_steps(things: Any) -> Steps:
    """What is done beside the driver's work, without a server where it needs none."""
    kept = Kept()
    numbers = iter(range(1, 1 << 60))
    data = bson.encode(document(7))
    reply = bson.encode({"cursor": {"firstBatch": [document(7)], "id": 0, "ns": "a.b"}, "ok": 1.0})
    op = ReadOp("find_one", NAMESPACE, _FILTER, None, None, 0, -1)
    plain = _driver_collection(things)

    def begin_and_settle() -> None:
        each = ReadOp("find_one", NAMESPACE, {"_id": next(numbers)}, None, None, 0, -1)
        lead = kept.scope.begin_read(each, CODEC, 1.0, share=True)
        assert type(lead) is Lead
        lead.address = PRIMARY.address
        kept.scope.settle_read(lead, 1.0, documents=1, size=len(data), data=data)

    def looked_up() -> None:
        kept.scope.hit(op, CODEC, 1.0)

    return {
        "begin_read and settle_read": begin_and_settle,
        "of it: the private copy": lambda: frozen(op, CODEC),
        "of it: the key": lambda: key_of(op, EXACT_CODEC),
        "of it: the footprint": lambda: footprint_of(op),
        "of it: the answer's _ids": lambda: bson.decode_all(data, EXACT_CODEC),
        "the lookup that missed": looked_up,
        "the bytes of the reply": lambda: batch_of(reply),
        "a cursor of ours": lambda: things.find(_FILTER).limit(-1),
        "of it: the driver's": lambda: DriverCursor(plain, _FILTER).limit(-1),
    }


def write_steps(things: Any) -> Steps:
    """What is done beside the driver's work; the events are the driver's own price."""
    scope = things._qb
    result = UpdateResult({"n": 1, "nModified": 1}, True)
    kept = Kept()
    for i in range(1_000):
        kept.keep(ReadOp("find_one", NAMESPACE, {"_id": i}, None, None, 0, -1), [document(i)])
    change = {"$set": {"stock": 5}}
    command = update_of(-1)

    def observed() -> None:
        Write(scope, "update_one", (_FILTER, change), {}, CODEC).done(result)

    def observed_async() -> None:
        Write(scope, "update_one", (_FILTER, change), {}).done(result)

    return {
        "the method: profile and private copies": observed,
        "the method: profile alone (asyncio)": observed_async,
        "the engine, told of the command and its reply": lambda: kept.write("update", command),
    }


def _profile(effort: Effort) -> Table:
    """One call's record in the profile, for a known shape and for a new one."""
    profile = Profile(
        sketch_scale(),
        threading.Lock(),
        0.0,
        slow_ms=100,
        log_every_s=10,
        max_shapes=10_000_000,
        samples=8,
        place_every=100,
    )
    numbers = itertools.count()
    known = ReadOp("find_one", NAMESPACE, _FILTER, None, None, 0, -1)

    def record(op: ReadOp) -> None:
        stats = profile.read_stats(op)
        if stats.place_due:
            stats.note_place("app.py:1")
        stats.record(0.000_4, 1, 150, 0, 5.0)

    def record_new() -> None:
        record(ReadOp("find_one", NAMESPACE, {f"field{next(numbers)}": 5}, None, None, 0, -1))

    steps: Steps = {"a known shape": lambda: record(known), "a new shape": record_new}
    table = _table("a record in the profile", steps, effort)
    limits = {"a known shape": 1.5, "a new shape": 6.0}
    return replace(
        table,
        budgets=tuple(
            Budget(f"profile, {name}, CPU", limits[name], float(cpu_us), "us")
            for name, cpu_us, _ in table.rows
        ),
    )


def test_steps(server_uri: str, capsys: Any) -> None:
    with capsys.disabled():
        show(tables(server_uri, Effort.quick()), Console())
