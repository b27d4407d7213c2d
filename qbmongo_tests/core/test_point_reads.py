"""Point reads that join others without a ticket: when, and what is known of them beforehand."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import bson
import pytest
from bson import Int64, ObjectId
from bson.codec_options import DEFAULT_CODEC_OPTIONS, CodecOptions

from qbmongo.core.batching import PlainRead, PointRead
from qbmongo.core.cache import Cache
from qbmongo.core.engine import Engine, Lead, Scope
from qbmongo.core.keys import key_of
from qbmongo.core.point_keys import id_filter, plain_id, point_key
from qbmongo.core.point_reads import Direct, PointReads
from qbmongo.core.profile import Profile
from qbmongo.core.store import Budget
from qbmongo.core.trust import Facts
from qbmongo.quantiles import DDSketchScale
from qbmongo.records import ReadOp
from qbmongo.settings import BatchSettings, CacheSettings, ProfileSettings, Settings

from .test_cache import A1, PLAIN

CODEC = DEFAULT_CODEC_OPTIONS
BATCH = BatchSettings(max_in_flight=1)


def by_id(value: Any) -> ReadOp:
    return ReadOp("find_one", "d.c", {"_id": value}, None, None, 0, -1)


def engine_of(settings: Settings, **profile: Any) -> Engine:
    kept: dict[str, Any] = {"max_shapes": 100, "place_every": 100, **profile}
    cache = None
    if settings.cache is not None:
        cache = Cache(
            max_bytes=1 << 20, lease_s=2, max_age_s=60, unknown_s=60, budget=Budget(nullcontext())
        )
        cache.lease("d", A1, 0.0)
        cache.facts_read(cache.facts_stamp("d.c"), PLAIN)
    return Engine(
        settings,
        lock=nullcontext(),
        find_place=lambda: "program.py:7",
        profile=Profile(
            DDSketchScale(), nullcontext(), 0.0, slow_ms=100, log_every_s=1, samples=1, **kept
        ),
        cache=cache,
        mutable_ok=True,
    )


UNCACHED = Settings(profile=ProfileSettings(), cache=None, coalesce=None, batch=BATCH)
CACHED = replace(UNCACHED, cache=CacheSettings())


class Gathered:
    """Point reads of a scope of which one is on the wire and another gathers."""

    def __init__(self, settings: Settings, *, concern: str | None = None, **profile: Any) -> None:
        self.engine = engine_of(settings, **profile)
        self.scope = self.engine.scope("d.c", None, concern)
        assert self.scope.points is not None
        self.points: PointReads = self.scope.points
        first = self.points.begin(self.ticket(-1), CODEC, "waiter", 0.0)
        assert type(first) is Direct
        self.first = first
        assert type(self.points.begin(self.ticket(-2), CODEC, "waiter", 0.0)) is PointRead

    def ticket(self, value: Any) -> Any:
        op = replace_options(by_id(value), self.scope)
        return self.scope.begin_read(op, CODEC, 0.0, share=True)

    def join(self, value: Any, now_s: float = 0.1, codec: Any = CODEC) -> PlainRead | None:
        asked = plain_id({"_id": value})
        assert asked is not None
        read = self.points.join(self.scope, asked, codec, lambda: "waiter", now_s)
        assert read is None or type(read) is PlainRead
        assert self.engine.faults == {}
        return read


def replace_options(op: ReadOp, scope: Scope) -> ReadOp:
    op.options = scope.options
    return op


def _values() -> Iterator[Any]:
    for power in (0, 7, 8, 15, 16, 31, 32, 62, 63):
        for near in (-1, 0, 1):
            for value in (2**power + near, -(2**power) + near):
                if -(2**63) <= value < 2**63:
                    yield value
    draw = random.Random(3)
    for _ in range(500):
        yield draw.randrange(-(2**63), 2**63) >> draw.randrange(64)
        yield ObjectId(draw.randbytes(12))
        yield "".join(draw.choices("aé\0😀$._ ", k=draw.randrange(12)))
    yield from ("a" * 255, "\uffff" * 255)


def test_a_plain_id_is_encoded_as_bson_does_and_its_key_is_the_exact_key() -> None:
    for value in _values():
        asked = plain_id({"_id": value})
        assert asked is not None
        assert asked[0] is value
        assert id_filter(asked[1]) == bson.encode({"_id": value})
        of_op = key_of(by_id(value), CODEC)
        assert ("find", "d.c", id_filter(asked[1]), 1) == of_op
        general = point_key(by_id(value), CODEC, simple=True)
        assert not isinstance(general, str)
        assert (general.element, general.form, general.value) == (asked[1], value, value)


class _Name(str):
    """A name that may be encoded as it likes."""


class _Number(int):
    """A number that another thread may change."""


@pytest.mark.parametrize(
    "filter",
    [
        {},
        {"_id": 1, "a": 1},
        {"a": 1},
        {"_id": True},
        {"_id": 1.0},
        {"_id": Int64(1)},
        {"_id": _Number(1)},
        {"_id": "a" * 300},
        {"_id": "\ud800"},
        {"_id": _Name("a")},
        {"_id": None},
        {"_id": {"$gt": 1}},
        {"_id": [1]},
        {"_id": 2**63},
        {"_id": -(2**63) - 1},
        {_Name("_id"): 1},
        {b"_id": 1},
        {1: 1},
    ],
    ids=repr,
)
def test_everything_else_is_no_plain_id(filter: dict[Any, Any]) -> None:
    assert plain_id(filter) is None


def test_a_name_that_was_put_together_is_one_too() -> None:
    assert plain_id({"".join(("_", "id")): 1}) is not None


@pytest.mark.parametrize("settings", [UNCACHED, CACHED], ids=["uncached", "cached"])
def test_a_read_joins_what_gathers(settings: Settings) -> None:
    gathered = Gathered(settings)
    read = gathered.join(5)
    assert read is not None
    assert read.waiter == "waiter"
    assert read.gathering is gathered.first.gathering
    assert gathered.engine.batched.pending == 2
    assert gathered.engine.misses == (3 if settings.cache else 0)
    find = gathered.points.landed(gathered.first.gathering, gathered.first.place, 0.2)
    assert find is not None
    assert find.filter == {"_id": {"$in": [-2, 5]}}
    # Nothing gathers any more.
    assert gathered.join(6) is None
    assert gathered.engine.batched.pending == 0


@pytest.mark.parametrize("settings", [UNCACHED, CACHED], ids=["uncached", "cached"])
def test_its_ticket_is_the_one_that_the_general_way_gives(settings: Settings) -> None:
    gathered = Gathered(settings)
    read = gathered.join(5)
    assert read is not None
    ticket = read.ticket
    assert read.ticket is ticket
    other = Gathered(settings).ticket(5)
    assert type(ticket) is type(other)
    for name in ("kind", "namespace", "filter", "projection", "sort", "skip", "limit", "options"):
        assert getattr(ticket.op, name) == getattr(other.op, name)
    assert (ticket.scope, ticket.started_s) == (gathered.scope, 0.1)
    assert str(ticket.stats.form) == str(other.stats.form)
    if type(other) is Lead:
        assert (ticket.generation, ticket.seen) == (other.generation, other.seen)
        assert ticket.send.filter == other.send.filter
        assert ticket.fill.footprint == other.fill.footprint
        assert ticket.fill.key == other.fill.key


def test_the_statistics_are_those_of_the_shape() -> None:
    gathered = Gathered(UNCACHED)
    profile = gathered.engine.profile
    assert profile is not None
    for value in (5, ObjectId(), 2**40, 6, ObjectId()):
        read = gathered.join(value)
        assert read is not None
        assert read.stats is profile.read_stats(by_id(value))


def test_beyond_the_shapes_that_are_told_apart_the_statistics_are_those_of_the_others() -> None:
    gathered = Gathered(UNCACHED, max_shapes=1)
    profile = gathered.engine.profile
    assert profile is not None
    for value in (5, ObjectId(), ObjectId()):
        read = gathered.join(value)
        assert read is not None
        assert read.stats is profile.read_stats(by_id(value))
    assert read is not None
    assert read.stats is profile._other


def test_the_calling_place_is_asked_for_when_it_is_due() -> None:
    gathered = Gathered(UNCACHED, place_every=1)
    read = gathered.join(5)
    assert read is not None
    stats = read.stats
    gathered.points.note_place(read)
    assert not stats.place_due
    stats.place_due = True
    other = gathered.join(6)
    assert other is not None
    gathered.points.note_place(other)
    assert not stats.place_due


def _off(engine: Engine) -> None:
    engine.configure(replace(UNCACHED, profile=None))


def _smaller(engine: Engine) -> None:
    cached = replace(CacheSettings(), max_result_bytes=64)
    engine.configure(replace(CACHED, cache=cached))


def test_settings_that_change_hold_for_the_next_read() -> None:
    gathered = Gathered(UNCACHED)
    assert gathered.join(5) is not None
    _off(gathered.engine)
    read = gathered.join(6)
    assert read is not None
    assert read.stats is None
    gathered = Gathered(CACHED)
    read = gathered.join(5)
    assert read is not None
    assert read.fill.max_bytes == CacheSettings().max_result_bytes
    _smaller(gathered.engine)
    read = gathered.join(6)
    assert read is not None
    assert read.fill.max_bytes == 64
    gathered.engine.configure(UNCACHED)
    read = gathered.join(7)
    assert read is not None
    assert read.fill is None


def test_without_forgetting_what_is_known_old_settings_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A mutant."""
    gathered = Gathered(UNCACHED)
    assert gathered.join(5) is not None
    monkeypatch.setattr(PointReads, "configure", lambda *args: None)
    _off(gathered.engine)
    read = gathered.join(6)
    assert read is not None
    assert read.stats is not None


Change = Callable[[Gathered], Any]
FACTS: dict[str, Change] = {
    "unknown": lambda g: g.engine.cache.clear("user"),  # type: ignore[union-attr]
    "refused": lambda g: _learn(g, Facts("capped", simple=True)),
    "collated": lambda g: _learn(g, Facts(None, simple=False)),
}


def _learn(gathered: Gathered, facts: Facts) -> None:
    cache = gathered.engine.cache
    assert cache is not None
    cache.namespace("d.c").facts = None
    cache.facts_read(cache.facts_stamp("d.c"), facts)


@pytest.mark.parametrize("change", FACTS)
@pytest.mark.parametrize("before", [False, True], ids=["first", "later"])
def test_facts_that_need_a_look_are_looked_at(change: str, before: bool) -> None:
    gathered = Gathered(CACHED)
    if before:
        assert gathered.join(5) is not None
    FACTS[change](gathered)
    assert gathered.join(6) is None
    assert gathered.join(7) is None
    _learn(gathered, PLAIN)
    assert gathered.join(8) is not None


def test_facts_are_looked_at_also_where_a_collection_alone_has_no_cache() -> None:
    gathered = Gathered(CACHED)
    gathered.engine.configure(CACHED.overridden("d.c", {"cache": None}))
    read = gathered.join(5)
    assert read is not None
    assert read.fill is None
    _learn(gathered, Facts("view", simple=True))
    assert gathered.join(6) is None
    assert gathered.join(7) is None


def test_what_has_to_be_looked_at_joins_nothing() -> None:
    gathered = Gathered(CACHED)
    assert gathered.join(-2) is None  # has a flight
    assert gathered.join(5, now_s=2.5) is None  # without a lease
    other: CodecOptions[Any] = CodecOptions(tz_aware=True)
    assert gathered.join(6, codec=other) is None  # another codec's gather elsewhere
    assert Gathered(replace(UNCACHED), concern="majority").join(7) is None
    assert gathered.engine.batched.pending == 1
    assert gathered.engine.misses == 2
    cache = gathered.engine.cache
    assert cache is not None
    assert cache.fills_open == 2
