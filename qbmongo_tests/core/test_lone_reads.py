"""Reads by a plain `_id` that go alone by the short way end exactly as by the general one.

Two engines go through one random history: one begins, answers and gives up each read as any other
find_one, the other by the short way. After each step they must hold, count and say the same.
"""

from __future__ import annotations

import inspect
import random
import textwrap
from collections import Counter
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import bson
import pytest
from bson.codec_options import DEFAULT_CODEC_OPTIONS
from bson.timestamp import Timestamp

from qbmongo.core import cache as cache_module
from qbmongo.core import index as index_module
from qbmongo.core import lone_reads as lone_reads_module
from qbmongo.core import point_reads as point_reads_module
from qbmongo.core.cache import Cache
from qbmongo.core.engine import Engine, Join, Lead
from qbmongo.core.index import NamespaceIndex
from qbmongo.core.lone_reads import LoneRead
from qbmongo.core.point_keys import plain_id
from qbmongo.core.point_reads import Direct, PointReads
from qbmongo.core.profile import Profile
from qbmongo.core.store import ENTRY_BYTES, Budget
from qbmongo.core.tickets import ALONE
from qbmongo.core.trust import Facts
from qbmongo.quantiles import DDSketchScale
from qbmongo.records import Effect, ReadOp
from qbmongo.settings import BatchSettings, CacheSettings, ProfileSettings, Settings

from .test_cache import A1, B2, LEASE_S, PLAIN
from .test_point_fills import COLLATED, IDS, _effect, go_beside

CODEC = DEFAULT_CODEC_OPTIONS
NAMES = ("name", "Name", "größe")


class Interrupted(BaseException):
    """A caller is cancelled, or a thread interrupted."""


class General:
    """An engine whose reads take the general way, and what is on the wire of it."""

    def __init__(self, *, is_kept: bool, max_bytes: int, ttl_s: float | None) -> None:
        cache = CacheSettings(ttl_s=ttl_s, max_result_bytes=120) if is_kept else None
        self.cache = Cache(
            max_bytes=max_bytes,
            lease_s=LEASE_S,
            max_age_s=60.0,
            unknown_s=3.0,
            budget=Budget(nullcontext()),
        )
        self.engine = Engine(
            Settings(
                profile=ProfileSettings(keep_values=True, slow_ms=10, log_every_s=1e6),
                cache=cache,
                coalesce=None,
                batch=BatchSettings(max_in_flight=8),
            ),
            lock=nullcontext(),
            find_place=lambda: "program.py:7",
            profile=Profile(
                DDSketchScale(), nullcontext(), 0.0, slow_ms=10, log_every_s=1e6, samples=4,
                max_shapes=9, place_every=7,
            ),
            cache=self.cache if is_kept else None,
            mutable_ok=True,
        )  # fmt: skip
        self.scope = self.engine.scope("d.c")
        self.wanted: list[str] = []
        self.engine.want = self.wanted.append
        self.sent: list[Any] = []
        self.told: list[Any] = []
        self.ways: Counter[str] = Counter()

    def begin(self, identity: Any, now_s: float) -> Any:
        """A read begins: what is said of it."""
        op = ReadOp("find_one", "d.c", {"_id": identity}, None, None, 0, -1)
        entry = self.scope.hit(op, CODEC, now_s)
        if entry is not None:
            return entry.data
        return self.short(identity, now_s) or self._general(op, now_s)

    def short(self, identity: Any, now_s: float) -> Any:
        return None

    def _general(self, op: ReadOp, now_s: float) -> Any:
        decision = self.scope.begin_read(op, CODEC, now_s, share=True)
        if type(decision) is Join:
            assert self.scope.join(decision, _Waiter(self.told, len(self.told)))
            return "joins"
        points = self.scope.points
        assert points is not None
        place = points.begin(decision, CODEC, "waiter", now_s)  # type: ignore[arg-type]
        assert type(place) in (Direct, type(None))
        self.sent.append((decision, place))
        return "goes", getattr(decision, "seen", 0)

    def answer(
        self, at: int, found: bool, size: int, address: Any, time: int, now_s: float
    ) -> None:
        """A read on the wire is answered; the listener hears of it if something may be kept."""
        read, place = self.sent.pop(at)
        identity = _identity(read)
        data = bson.encode({"_id": identity, "v": "x" * size}) if found else b""
        if self.engine.cache is not None:
            self.heard(read, address)
            reply = {"operationTime": Timestamp(time, 1)}
            self.engine.command_succeeded(("k", at), "find", reply, address, now_s)
        self.answered(read, None if size == 13 else data, int(found), len(data), now_s)
        self.landed(read, place, now_s)

    def heard(self, read: Any, address: Any) -> None:
        read.address = address

    def answered(self, read: Any, data: Any, documents: int, size: int, now_s: float) -> None:
        self.tell(self.scope.settle_read(read, now_s, documents=documents, size=size, data=data))

    def fail(self, at: int, error: BaseException, now_s: float) -> None:
        """The driver raises, or the caller gives up."""
        read, place = self.sent.pop(at)
        self.failed(read, error, now_s)
        self.landed(read, place, now_s)

    def failed(self, read: Any, error: BaseException, now_s: float) -> None:
        if not isinstance(error, Exception):
            heir = self.scope.cancel_read(read)
            if heir is not None:
                self.tell([heir])
                return
        self.tell([(waiter, ALONE) for waiter in self.scope.fail_read(read, now_s)])

    def landed(self, read: Any, place: Any, now_s: float) -> None:
        points = self.scope.points
        if place is not None:
            assert points is not None
            assert points.landed(place.gathering, place.place, now_s) is None

    def tell(self, waiters: list[Any]) -> None:
        for waiter, answer in waiters:
            waiter.deliver("takes over" if type(answer) is Lead else answer)
            if type(answer) is Lead:
                self.sent.append((answer, None))

    def state(self) -> Any:
        """Everything that matters."""
        cache, engine = self.cache, self.engine
        assert engine.faults == {}
        namespaces = {
            name: (n.facts, n.fills, [number for number, _, _ in n.log], n.forgotten)
            for name, n in cache._namespaces.items()
        }
        indexes = {
            name: (set(n.index._by_id), {k: len(g.members) for k, g in n.index._groups.items()})
            for name, n in cache._namespaces.items()
        }
        entries = [
            (e.key, e.data, e.ids, e.filter, e.group.key, e.seen, e.size, e.stored_s, e.expires_s)
            for e in cache.store.entries()
        ]
        counts = engine.batched
        assert engine.profile is not None
        return (
            (namespaces, indexes, entries, self.told),
            (cache.sequence, cache.fills_open, sorted(map(repr, cache._flights))),
            (+cache.refused, +cache.invalidated, cache.store.bytes, cache.store.evictions),
            (engine.hits, engine.misses, engine.joins, +engine.bypassed),
            (counts.direct, counts.in_flight, counts.pending, +counts.refused),
            repr(engine.profile.snapshot()),
            [(t.database, t.trusted, t.used, t.lease_until_s) for t in cache.trusts()],
            (dict(cache._seen), self.wanted),
        )


class _Waiter:
    """Somebody who waits for a flight's answer."""

    def __init__(self, told: list[Any], number: int) -> None:
        self._told = told
        self._number = number

    def deliver(self, answer: Any) -> None:
        self._told.append((self._number, "alone" if answer is ALONE else answer))


def _identity(read: Any) -> Any:
    return read.value if type(read) is LoneRead else read.op.filter["_id"]


class Short(General):
    """An engine whose reads take the short way, where that is open."""

    def short(self, identity: Any, now_s: float) -> Any:
        asked, points = plain_id({"_id": identity}), self.scope.points
        assert asked is not None
        assert points is not None
        read = points.join(self.scope, asked, CODEC, lambda: None, now_s)
        self.ways["general" if read is None else "short"] += 1
        if read is None:
            return None
        assert type(read) is LoneRead
        points.note_place(read)
        self.sent.append((read, None))
        return "goes", read.seen

    def heard(self, read: Any, address: Any) -> None:
        if type(read) is LoneRead:
            read.answerer.address = address
        else:
            super().heard(read, address)

    def answered(self, read: Any, data: Any, documents: int, size: int, now_s: float) -> None:
        if type(read) is LoneRead:
            self.tell(read.answered(data, documents, size, now_s))
        else:
            super().answered(read, data, documents, size, now_s)

    def failed(self, read: Any, error: BaseException, now_s: float) -> None:
        if type(read) is LoneRead:
            self.tell(read.failed(error, now_s))
        else:
            super().failed(read, error, now_s)

    def landed(self, read: Any, place: Any, now_s: float) -> None:
        if type(read) is LoneRead:
            assert read.landed(now_s) is None
        else:
            super().landed(read, place, now_s)


_WEIGHTS = {
    "begin": 50,
    "answer": 40,
    "fail": 8,
    "write": 5,
    "event": 5,
    "facts": 3,
    "lease": 5,
    "lost": 0.5,
    "unknown": 0.4,
    "clear": 0.4,
    "primary": 0.4,
    "groups": 0.3,
}


def _step(draw: random.Random, general: General, now_s: float) -> tuple[str, Any]:
    """Something that happens, to both."""
    kind = draw.choices(tuple(_WEIGHTS), tuple(_WEIGHTS.values()))[0]
    on_the_wire = len(general.sent)
    if kind == "begin" and on_the_wire < 7:
        identity = draw.choice((*IDS, *NAMES))
        return kind, lambda s: s.begin(identity, now_s)
    if kind == "answer" and on_the_wire:
        at, found = draw.randrange(on_the_wire), draw.random() < 0.8
        size = 200 if draw.random() < 0.05 else draw.randrange(40)
        address = draw.choices((A1.address, B2.address), (30, 1))[0]
        time = draw.randrange(1, 30)
        return kind, lambda s: s.answer(at, found, size, address, time, now_s)
    if kind == "fail" and on_the_wire:
        at = draw.randrange(on_the_wire)
        error = draw.choice((Interrupted(), ValueError("the driver's")))
        return kind, lambda s: s.fail(at, error, now_s)
    effect = _effect(draw)
    if draw.random() < 0.2:
        effect = Effect("delete", "d.c", frozenset({draw.choice(NAMES)}))
    if kind == "write":
        return kind, lambda s: s.cache.close([effect])
    if kind == "event":
        time = draw.randrange(1, 30)
        return kind, lambda s: s.cache.event("d", [effect], time << 32)
    if kind == "unknown":
        return kind, lambda s: s.cache.close_unknown([effect], now_s)
    if kind == "facts":
        facts = draw.choices((PLAIN, Facts(None, simple=True), COLLATED, None), (9, 4, 1, 1))[0]
        return kind, lambda s: s.cache.facts_read(s.cache.facts_stamp("d.c"), facts)
    if kind == "lease":
        return kind, lambda s: s.cache.lease("d", A1, now_s)
    if kind == "lost":
        return kind, lambda s: s.cache.lost("d", "gap")
    if kind == "clear":
        return kind, lambda s: s.cache.clear("user")
    if kind == "primary":
        return kind, lambda s: s.cache.primary_changed()
    if kind == "groups":
        # So many kinds of answers that the index gives up those of which there is none.
        effect = Effect("update", "d.c", None, frozenset({"v"}))
        return kind, lambda s: (s.cache.close([effect]), _crowd(s.cache))
    return "nothing", lambda s: None


def _crowd(cache: Cache) -> None:
    index = cache.namespace("d.c").index
    index._groups = {key: group for key, group in index._groups.items() if group.members}


def compare(runs: int, seed: int) -> Counter[str]:
    """Random histories. Returns how often what came about.

    Raises AssertionError where the two differ.
    """
    seen: Counter[str] = Counter()
    for run in range(seed, seed + runs):
        draw = random.Random(run)
        chosen: dict[str, Any] = {
            "is_kept": draw.random() < 0.8,
            "max_bytes": draw.choice((1 << 20, 4 * (ENTRY_BYTES + 300))),
            "ttl_s": draw.choice((None, None, 5.0)),
        }
        general, short = General(**chosen), Short(**chosen)
        go_beside(run, draw, general, short, _step, 0.1)
        seen += short.ways
        seen += Counter({f"refused {r}": n for r, n in short.cache.refused.items()})
        seen += Counter(answer for _, answer in short.told if type(answer) is str)
        seen["answers of flights"] += sum(type(answer) is bytes for _, answer in short.told)
        seen["kept"] += len(short.cache.store)
    return seen


def test_they_end_as_by_the_general_way() -> None:
    seen = compare(150, 0)
    for what in ("short", "general", "kept", "answers of flights", "alone", "takes over"):
        assert seen[what] > 20, seen
    for reason in ("overtaken", "trust", "primary", "facts", "too_large"):
        assert seen[f"refused {reason}"] > 5, seen


MUTANTS: dict[str, tuple[ModuleType, type, str, str, str]] = {
    "what it is sent after": (
        point_reads_module, PointReads, "_go_alone", "lone.seen = fill.seen", "pass"),
    "misses": (point_reads_module, PointReads, "_go_alone", "engine.misses += 1", "pass"),
    "the flight's statistics": (
        point_reads_module, PointReads, "_go_alone", "lone.fill = fill", "pass"),
    "lease": (
        point_reads_module, PointReads, "_begun", " or now_s >= trust.lease_until_s", ""),
    "who answered": (
        lone_reads_module, LoneRead, "_settled",
        "data is not None and fill.is_for_waiters(address)", "data is not None"),
    "no bytes": (lone_reads_module, LoneRead, "_settled", "data is None", "False"),
    "who waits": (lone_reads_module, LoneRead, "_settled", "told = some[0][1]", "pass"),
    "handing over": (
        lone_reads_module, LoneRead, "failed", "not isinstance(error, Exception)", "False"),
    "values of slow calls": (
        lone_reads_module, LoneRead, "answered", "self._op() if scope.keep_values else None",
        "None"),
    "place on the wire": (
        lone_reads_module, LoneRead, "landed", "None if place is None else", "None if 1 else"),
    "group that is asked": (
        index_module, NamespaceIndex, "has_group",
        "group is not None and self._groups.get(group.key) is group", "group is not None"),
    "group of the first": (
        cache_module, Cache, "settle_points", "not index.has_group(group)", "group is None"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_without_the_rule_they_end_otherwise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, owner, method, old, new = MUTANTS[name]
    source = textwrap.dedent(inspect.getsource(getattr(owner, method)))
    assert source.count(old) == 1, f"{method} is written otherwise by now"
    names = dict(vars(module))
    exec(source.replace(old, new), names)
    monkeypatch.setattr(owner, method, names[method])
    with pytest.raises((AssertionError, AttributeError, KeyError, IndexError, TypeError)):
        compare(400, 0)
