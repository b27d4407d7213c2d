"""Fills of point reads that are sent together end exactly as the same fills would one by one.

Two caches go through one random history: one begins, stamps and settles each fill by the general
way, the other by the short one. After each step they must hold, count and say the same.
"""

from __future__ import annotations

import inspect
import random
import textwrap
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import bson
import pytest
from bson import ObjectId

from qbmongo.core import cache as cache_module
from qbmongo.core.cache import Cache
from qbmongo.core.fills import Fill, PointFill, PointTerms
from qbmongo.core.frozen import EXACT_CODEC
from qbmongo.core.keys import key_of
from qbmongo.core.store import ENTRY_BYTES, Budget, Entry, Store
from qbmongo.core.trust import Facts
from qbmongo.records import Effect, ReadOp

from .test_cache import A1, B2, LEASE_S, PLAIN

IDS: tuple[Any, ...] = (*range(6), ObjectId(b"a" * 12), ObjectId(b"b" * 12))
KEPT_BYTES = 120
COLLATED, CAPPED = Facts(None, simple=False), Facts("capped", simple=True)


class General:
    """A cache whose fills take the general way."""

    def __init__(self, max_bytes: int, ttl_s: float | None) -> None:
        self.ttl_s = ttl_s
        self.budget = Budget(nullcontext())
        self.cache = Cache(
            max_bytes=max_bytes, lease_s=LEASE_S, max_age_s=60.0, unknown_s=3.0, budget=self.budget
        )
        self.waiting: list[Any] = []
        self.sent: list[list[Any]] = []
        self.said: Counter[str] = Counter()

    def begin(self, identity: Any, now_s: float) -> Any:
        """A read begins: what is said of it."""
        cache = self.cache
        op = ReadOp("find_one", "d.c", {"_id": identity}, None, None, 0, -1)
        key = key_of(op, EXACT_CODEC)
        assert key is not None
        flight = self.short(key, identity, now_s)
        if flight is None:
            flight = cache.flight(key, now_s, ttl=self.ttl_s is not None)
            if flight is not None:
                cache.join(flight, f"waiter {len(flight.waiters)}")
                return "joined"
            begun = cache.begin(key, op, now_s, ttl_s=self.ttl_s, max_bytes=KEPT_BYTES, share=True)
            if isinstance(begun, str):
                return begun
            flight = begun
        flight.stats = ("stats of", identity)
        self.waiting.append((flight, flight.generation, identity))
        return flight.shared, flight.seen

    def short(self, key: Any, identity: Any, now_s: float) -> Fill | None:
        return None

    def send(self) -> Any:
        """What waits is sent as one."""
        sent, self.waiting = self.waiting, []
        seen = self.stamp(sent)
        self.sent.append(sent)
        return seen

    def stamp(self, sent: list[Any]) -> int:
        for fill, generation, _ in sent:
            self.cache.stamp_again(fill, generation)
        current = [fill for fill, generation, _ in sent if generation == fill.generation]
        return max((fill.seen for fill in current if fill.open), default=0)

    def give_up(self, place: int) -> Any:
        """Who waits or is on the wire is cancelled: its flight ends, or somebody sends again."""
        fill, generation, identity = self._all()[place]
        heir = self.cache.hand_over(fill, generation)
        if heir is not None:
            self.sent.append([(fill, fill.generation, identity)])
        return heir

    def _all(self) -> list[Any]:
        return [each for some in (self.waiting, *self.sent) for each in some]

    def count(self) -> int:
        return len(self._all())

    def answer(self, place: int, found: set[Any], size: int, address: Any, now_s: float) -> Any:
        """A sending is answered, with documents for those of which there is one."""
        answers = []
        for fill, generation, identity in self.sent.pop(place):
            data = b""
            if identity in found:
                data = bson.encode({"_id": identity, "v": "x" * size})
            answers.append((fill, generation, data))
        return self.settle(answers, address, now_s)

    def settle(self, answers: list[Any], address: Any, now_s: float) -> list[Any]:
        told: list[Any] = []
        for fill, generation, data in answers:
            told += self.settle_one(fill, generation, data, address, now_s)
        return told

    def settle_one(
        self, fill: Any, generation: int, data: bytes, address: Any, now_s: float
    ) -> list[Any]:
        if fill.open and generation == fill.generation:
            fill.address = address
        ids = (fill.op.filter["_id"],) if data else ()
        waiters = self.cache.settle(fill, generation, data, ids, now_s)
        return [(fill.key, list(waiters))] if waiters else []

    def state(self) -> Any:
        """Everything that matters of the cache."""
        cache = self.cache
        namespaces = {
            name: (
                n.facts,
                n.fills,
                [number for number, _, _ in n.log],
                n.forgotten,
                set(n.index._by_id),
                [(key, len(group.members)) for key, group in n.index._groups.items()],
            )
            for name, n in cache._namespaces.items()
        }
        entries = [
            (e.key, e.data, e.ids, e.equality, e.filter, e.group.key, e.seen, e.size, e.stats)
            for e in cache.store.entries()
        ]
        times = [(e.stored_s, e.expires_s) for e in cache.store.entries()]
        return (
            namespaces,
            (entries, times),
            (cache.store.bytes, cache.store.evictions, self.budget.used_bytes),
            (cache.sequence, cache.fills_open, sorted(map(repr, cache._flights))),
            (+cache.refused, +cache.invalidated, cache.own_events_spared),
            [(t.database, t.trusted, t.epoch, t.lease_until_s) for t in cache.trusts()],
        )


class Short(General):
    """A cache whose fills take the short way, where that is open."""

    def __init__(self, max_bytes: int, ttl_s: float | None) -> None:
        super().__init__(max_bytes, ttl_s)
        self._terms: PointTerms | None = None
        self._numbers: dict[int, object] = {}

    def short(self, key: Any, identity: Any, now_s: float) -> Fill | None:
        cache = self.cache
        if self._terms is None:
            self._terms = cache.point_terms("d.c", self.ttl_s, KEPT_BYTES)
        if self._terms is None:
            return None
        fill = cache.begin_point(self._terms, key, identity, now_s)
        if fill is None and self._terms.facts[0] is not cache.facts("d.c"):
            self._terms = None
        self.said["short" if fill is not None else "general"] += 1
        return fill

    def stamp(self, sent: list[Any]) -> int:
        cache, sending = self.cache, object()
        self._numbers[id(sent)] = sending
        seen = cache.stamp_points([f for f, _, _ in sent if type(f) is PointFill], sending)
        for fill, generation, _ in sent:
            if type(fill) is not PointFill:
                cache.stamp_again(fill, generation)
                if fill.open and generation == fill.generation:
                    seen = max(seen, fill.seen)
        return seen

    def answer(self, place: int, *args: Any) -> Any:
        self.sending = self._numbers.pop(id(self.sent[place]), None)
        return super().answer(place, *args)

    def settle(self, answers: list[Any], address: Any, now_s: float) -> list[Any]:
        """In the order in which the general way goes."""
        told: list[Any] = []
        together: list[tuple[PointFill, bytes]] = []
        for fill, generation, data in [*answers, (None, 0, b"")]:
            if type(fill) is PointFill and generation == 0:
                together.append((fill, data))
                continue
            fills, documents = [f for f, _ in together], [d for _, d in together]
            some = self.cache.settle_points(fills, documents, self.sending, address, now_s)
            told += [(waited.key, list(waiters)) for waited, waiters in some]
            together = []
            if fill is not None:
                told += self.settle_one(fill, generation, data, address, now_s)
        return told


_WEIGHTS = {
    "begin": 40,
    "send": 14,
    "answer": 14,
    "write": 5,
    "event": 5,
    "facts": 6,
    "lease": 4,
    "observed": 4,
    "touch": 4,
    "give up": 2,
    "lost": 0.6,
    "other": 0.6,
    "unknown": 0.6,
    "clear": 0.4,
    "primary": 0.4,
    "off": 0.02,
}
Step = Callable[[General], Any]


def _effect(draw: random.Random) -> Effect:
    kind: Any = draw.choice(("update", "update", "insert", "delete", "namespace"))
    if kind == "namespace" and draw.random() < 0.7:
        kind = "update"
    ids = None if draw.random() < 0.1 else frozenset(draw.sample(IDS, draw.randrange(1, 3)))
    paths = frozenset({"v"}) if kind == "update" else None
    documents = None
    if kind == "insert" and ids is not None and draw.random() < 0.7:
        documents = tuple({"_id": identity} for identity in ids)
    return Effect(kind, "d.c", None if kind == "namespace" else ids, paths, documents)


def _step(draw: random.Random, side: General, now_s: float) -> tuple[str, Step]:
    """Something that happens, to both."""
    kind = draw.choices(tuple(_WEIGHTS), tuple(_WEIGHTS.values()))[0]
    if kind == "begin":
        identity = draw.choice(IDS)
        return kind, lambda s: s.begin(identity, now_s)
    if kind == "send":
        return kind, lambda s: s.send()
    if kind == "answer" and side.sent:
        place = draw.randrange(len(side.sent))
        found = {identity for identity in IDS if draw.random() < 0.7}
        size = 200 if draw.random() < 0.05 else draw.randrange(40)
        address = draw.choices((A1.address, B2.address, None), (30, 1, 1))[0]
        return kind, lambda s: s.answer(place, found, size, address, now_s)
    if kind == "write":
        effect = _effect(draw)
        return kind, lambda s: s.cache.close([effect])
    if kind == "event":
        effect, time = _effect(draw), draw.randrange(1, 30)
        return kind, lambda s: s.cache.event("d", [effect], time)
    if kind == "unknown":
        effect = _effect(draw)
        return kind, lambda s: s.cache.close_unknown([effect], now_s)
    if kind == "facts":
        facts = draw.choices(
            (PLAIN, Facts(None, simple=True), COLLATED, CAPPED, None), (9, 4, 1, 1, 1)
        )
        return kind, lambda s: s.cache.facts_read(s.cache.facts_stamp("d.c"), facts[0])
    if kind == "lease":
        return kind, lambda s: s.cache.lease("d", A1, now_s)
    if kind == "lost":
        return kind, lambda s: s.cache.lost("d", "gap")
    if kind == "other":
        primary = draw.choice((A1, B2))
        return kind, lambda s: s.cache.lease("e", primary, now_s)
    if kind == "clear":
        return kind, lambda s: s.cache.clear("user")
    if kind == "observed":
        time = draw.randrange(1, 30)
        return kind, lambda s: s.cache.observed(A1.address, time)
    if kind == "primary":
        return kind, lambda s: s.cache.primary_changed()
    if kind == "give up" and side.count():
        place = draw.randrange(side.count())
        return kind, lambda s: s.give_up(place)
    if kind == "off":
        return kind, lambda s: s.cache.switch_off("fault")
    if kind == "touch":
        keys = [e.key for e in side.cache.store.entries()]
        key = draw.choice(keys) if keys else None
        return kind, lambda s: s.cache.store.get(key) is not None
    return "nothing", lambda s: None


def go_beside(
    run: int, draw: random.Random, general: Any, short: Any, next_step: Any, longest_s: float
) -> None:
    """One history for both; after each step they must say and hold the same.

    next_step: what happens next, and its name. longest_s: between two steps.
    """
    now_s = 0.0
    for side in (general, short):
        side.cache.lease("d", A1, now_s)
        side.cache.facts_read(side.cache.facts_stamp("d.c"), PLAIN)
    history = []
    for _ in range(120):
        now_s += draw.random() * longest_s
        name, step = next_step(draw, general, now_s)
        history.append(name)
        said = step(general)
        assert step(short) == said, (run, history)
        assert short.state() == general.state(), (run, history)


def compare(runs: int, seed: int) -> Counter[str]:
    """Random histories. Returns how often what came about.

    Raises AssertionError where the two differ.
    """
    seen: Counter[str] = Counter()
    for run in range(seed, seed + runs):
        draw = random.Random(run)
        max_bytes = draw.choice((1 << 20, 4 * (ENTRY_BYTES + 300), 1))
        ttl_s = draw.choice((None, None, 5.0))
        general, short = General(max_bytes, ttl_s), Short(max_bytes, ttl_s)
        go_beside(run, draw, general, short, _step, 0.2)
        seen += short.said
        seen += Counter({f"refused {r}": n for r, n in short.cache.refused.items()})
        seen["kept"] += len(short.cache.store)
        seen["evicted"] += short.cache.store.evictions
    return seen


def test_together_they_end_as_one_by_one() -> None:
    seen = compare(250, 0)
    for what in ("short", "general", "kept", "evicted"):
        assert seen[what] > 100, seen
    for reason in ("overtaken", "trust", "primary", "cleared", "facts", "too_large"):
        assert seen[f"refused {reason}"] > 10, seen


def test_a_cache_that_is_off_begins_nothing() -> None:
    side = Short(1 << 20, None)
    cache = side.cache
    cache.switch_off("fault")
    cache.lease("d", A1, 0.0)
    cache.facts_read(cache.facts_stamp("d.c"), PLAIN)
    terms = cache.point_terms("d.c", None, KEPT_BYTES)
    assert terms is not None
    assert cache.begin_point(terms, "key", 1, 0.1) is None


def _without(method: str, old: str, new: str) -> Any:
    """A method of the cache with a part of it put otherwise."""
    source = textwrap.dedent(inspect.getsource(getattr(Cache, method)))
    assert source.count(old) == 1, f"{method} is written otherwise by now"
    names = dict(vars(cache_module))
    exec(source.replace("@staticmethod\n", "").replace(old, new), names)
    return names[method]


MUTANTS = {
    "judged anew after a refusal": ("settle_points", "judged = None", "pass"),
    "size of each": ("settle_points", " or len(data) > fill.max_bytes", ""),
    "log of effects": ("_is_untouched", "not (log and log[-1][0] > fill.stamp)", "True"),
    "facts still the same": (
        "_is_untouched",
        "self._refusal_of_facts(fill, namespace, fill.facts[0]) is None",
        "True",
    ),
    "of the sending": ("settle_points", "of_sending is None and ", ""),
    "address that answered": ("settle_points", "fill.address = address", "pass"),
    "log as long as it is compared with": (
        "settle_points",
        "if not namespace.fills and namespace.log:",
        "if namespace.log:",
    ),
    "flights end": ("settle_points", "del flights[key]", "pass"),
    "generation": ("settle_points", "fill.generation or not fill.open", "not fill.open"),
    "what is there already": ("settle_points", "store.get(key) is not None", "False"),
    "room": ("settle_points", "entry.size > room or ", ""),
    "bytes counted": ("settle_points", "store.count()", "pass"),
    "age from the sending": ("settle_points", "fill.started_s + life_s", "now_s + life_s"),
    "index": ("settle_points", "index.add_point(entry, form)", "pass"),
    "trusted at the beginning": ("begin_point", "or not namespace.trust.trusted", ""),
    "same facts at the beginning": (
        "begin_point",
        "namespace.facts is not terms.facts[0]\n        or ",
        "",
    ),
    "one flight of a key": ("begin_point", "or key in self._flights", ""),
    "stamp at the sending": ("stamp_points", "fill.stamp = fill.checked = first.stamp", "pass"),
    "seen at the sending": ("stamp_points", "fill.seen = seen", "pass"),
    "epoch at the sending": ("stamp_points", "fill.epoch = first.epoch", "pass"),
    "collated facts": ("point_terms", " or not facts.simple", ""),
    "refused facts": ("point_terms", " or facts.refusal is not None", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_without_the_rule_they_end_otherwise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, old, new = MUTANTS[name]
    monkeypatch.setattr(Cache, method, _without(method, old, new))
    with pytest.raises((AssertionError, AttributeError, KeyError)):
        compare(1_000, 0)


def _entry(key: int) -> Entry:
    return Entry(key, b"x" * 20, None, (), None, None, 0.0, 1.0, 0, None, 0)


def test_bytes_that_are_counted_together_are_those_of_each() -> None:
    budget = Budget(nullcontext())
    left: list[Entry] = []
    size = _entry(0).size
    store, other = (Store(4 * size, budget, left.append) for _ in range(2))
    for key in range(3):
        store.put_new(_entry(key))
    assert (store.bytes, budget.used_bytes, store.room) == (3 * size, 0, size)
    store.count()
    store.count()
    assert (budget.used_bytes, store.room) == (3 * size, size)
    # Another client fills what is left: nothing is given up before something is kept here.
    for key in range(3):
        other.put_new(_entry(key))
    other.count()
    assert (other.evictions, budget.used_bytes) == (2, 4 * size)
    store.count()
    assert store.evictions == 0
    store.put_new(_entry(7))
    store.put_new(_entry(8))
    assert store.put(_entry(9))
    assert (store.evictions, len(store), budget.used_bytes) == (3, 3, 4 * size)
    assert len(left) == 5
    # What was never counted is not taken back.
    store.put_new(_entry(10))
    assert store.clear() == 4
    assert (store.bytes, budget.used_bytes) == (0, size)
    assert other.bytes == size
