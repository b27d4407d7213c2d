"""The cache, its index, its store and its trust, one rule at a time. Times are seconds."""

from __future__ import annotations

import gc
import struct
import sys
from contextlib import nullcontext
from typing import Any, NamedTuple

import bson
import pytest
from bson import ObjectId
from bson.raw_bson import RawBSONDocument

from qbmongo.core import invalidation as invalidation_module
from qbmongo.core.cache import Cache, Fill
from qbmongo.core.engine import ALONE, Engine, Join, Lead
from qbmongo.core.fills import ids_of
from qbmongo.core.frozen import EXACT_CODEC
from qbmongo.core.kept_forms import filter_of
from qbmongo.core.keys import key_of
from qbmongo.core.store import Budget, Entry, Store
from qbmongo.core.trust import Facts, Trust, facts_from
from qbmongo.core.values import canonical
from qbmongo.records import EVERYTHING, Effect, ReadOp
from qbmongo.settings import Settings

LEASE_S = 2.0
PLAIN = Facts(None, simple=True)


class Primary(NamedTuple):
    address: tuple[str, int]
    election_id: int


A1 = Primary(("a", 27017), 1)
B2 = Primary(("b", 27017), 2)


def new_cache(max_bytes: int = 1 << 20, *, budget: Budget | None = None) -> Cache:
    return Cache(
        max_bytes=max_bytes,
        lease_s=LEASE_S,
        max_age_s=600.0,
        unknown_s=60.0,
        budget=budget or Budget(nullcontext()),
    )


def trusted_cache() -> Cache:
    """A cache with a lease from 0 s, and the facts of d.c."""
    cache = new_cache()
    cache.lease("d", A1, 0.0)
    learn(cache)
    return cache


def learn(cache: Cache, facts: Facts = PLAIN, name: str = "d.c") -> None:
    cache.facts_read(cache.facts_stamp(name), facts)


def engine_of(cache: Cache) -> Engine:
    return Engine(
        Settings(),
        lock=nullcontext(),
        find_place=lambda: None,
        profile=None,
        cache=cache,
        mutable_ok=True,
    )


def by_id(identity: Any) -> ReadOp:
    return ReadOp("find_one", "d.c", {"_id": identity})


def by_group(group: int) -> ReadOp:
    return ReadOp("find", "d.c", {"g": group})


def begin(
    cache: Cache, op: ReadOp, now_s: float = 0.1, *, ttl_s: float | None = None, share: bool = True
) -> Fill:
    key = key_of(op, EXACT_CODEC)
    fill = cache.begin(key, op, now_s, ttl_s=ttl_s, max_bytes=10_000, share=share)
    assert isinstance(fill, Fill), fill
    return fill


def settle(
    cache: Cache, fill: Fill, *documents: dict[str, Any], now_s: float = 0.2, by: Primary = A1
) -> list[Any]:
    fill.address = by.address
    data = b"".join(map(bson.encode, documents))
    return cache.settle(fill, fill.generation, data, ids_of(fill, data), now_s)


def keep(cache: Cache, op: ReadOp, *documents: dict[str, Any]) -> Entry:
    settle(cache, begin(cache, op), *documents)
    entry = kept(cache, op)
    assert entry is not None
    return entry


def kept(cache: Cache, op: ReadOp) -> Entry | None:
    return cache.store.get(key_of(op, EXACT_CODEC))


def update(*ids: Any, paths: tuple[str, ...] = ("v",)) -> Effect:
    return Effect("update", "d.c", frozenset(map(canonical, ids)), frozenset(paths))


# Stamps


def test_an_answer_overtaken_by_an_own_write_is_not_kept() -> None:
    cache = trusted_cache()
    fill = begin(cache, by_id(1))
    cache.close([update(1)])
    settle(cache, fill, {"_id": 1})
    assert kept(cache, by_id(1)) is None
    assert cache.refused == {"overtaken": 1}


def test_an_answer_is_kept_when_a_later_write_touched_something_else() -> None:
    cache = trusted_cache()
    fill = begin(cache, by_id(1))
    cache.close([update(2)])
    settle(cache, fill, {"_id": 1})
    assert kept(cache, by_id(1)) is not None


def test_an_answer_is_not_kept_when_effects_had_to_be_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(invalidation_module, "LOG_LIMIT", 2)
    cache = trusted_cache()
    fill = begin(cache, by_id(1))
    cache.close([update(n) for n in (1, 2, 3)])
    settle(cache, fill, {"_id": 1})
    assert cache.refused == {"forgotten": 1}


def test_what_was_forgotten_is_never_remembered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invalidation_module, "LOG_LIMIT", 2)
    cache = trusted_cache()
    first = begin(cache, by_id(1))
    cache.close([update(8), update(9)])
    second = begin(cache, by_id(2))
    cache.close([Effect("database", "d"), update(9)])
    learn(cache)
    settle(cache, second, {"_id": 2})
    settle(cache, first, {"_id": 1})
    assert cache.refused == {"forgotten": 2}


@pytest.mark.parametrize(
    "effect", [EVERYTHING, Effect("database", "d"), Effect("namespace", "d.c")]
)
def test_a_clear_is_an_effect_on_what_is_under_way(effect: Effect) -> None:
    cache = trusted_cache()
    fill = begin(cache, by_id(1))
    cache.close([effect])
    learn(cache)
    settle(cache, fill, {"_id": 1})
    assert kept(cache, by_id(1)) is None


def test_an_answer_of_another_primary_is_not_kept() -> None:
    cache = trusted_cache()
    settle(cache, begin(cache, by_id(1)), {"_id": 1}, by=B2)
    assert cache.refused == {"primary": 1}


def test_whoever_answers_in_the_primarys_place_ends_the_trust() -> None:
    cache = trusted_cache()
    keep(cache, by_id(1), {"_id": 1})
    settle(cache, begin(cache, by_id(2)), {"_id": 2}, by=B2)
    assert kept(cache, by_id(1)) is None
    assert not cache.trust("d").trusted


@pytest.mark.parametrize(
    ("command", "is_trusted"),
    [
        ({"insert": "c", "documents": [{"_id": 1}]}, False),
        ({"aggregate": "c", "pipeline": [{"$out": "o"}], "cursor": {}}, False),
        ({"aggregate": "c", "pipeline": [{"$match": {}}], "cursor": {}}, True),
    ],
    ids=["insert", "aggregation that writes", "aggregation that may run on a secondary"],
)
def test_only_what_is_sent_to_a_primary_tells_who_it_is(
    command: dict[str, Any], is_trusted: bool
) -> None:
    cache = trusted_cache()
    engine = engine_of(cache)
    name = next(iter(command))
    engine.command_started(1, name, "d", command, 0.1)
    engine.command_succeeded(1, name, {"ok": 1}, B2.address, 0.2)
    assert cache.trust("d").trusted is is_trusted
    assert not engine.faults


def test_the_primary_itself_ends_nothing_by_an_answer_that_is_not_kept() -> None:
    cache = trusted_cache()
    keep(cache, by_id(1), {"_id": 1})
    fill = begin(cache, by_id(2))
    cache.close([update(2)])
    settle(cache, fill, {"_id": 2})
    assert kept(cache, by_id(1)) is not None


def test_an_answer_is_not_kept_when_trust_ended_and_began_again() -> None:
    cache = trusted_cache()
    fill = begin(cache, by_id(1))
    cache.trust("d").lost("gap")
    cache.lease("d", A1, 0.1)
    learn(cache)
    settle(cache, fill, {"_id": 1})
    assert cache.refused == {"trust": 1}


# Own events


def test_an_event_drops_only_what_had_not_seen_its_time() -> None:
    cache = trusted_cache()
    cache.observed(A1.address, 7)
    keep(cache, by_id(1), {"_id": 1})
    cache.event("d", [update(1)], 7)
    assert kept(cache, by_id(1)) is not None
    assert cache.own_events_spared == 1
    cache.event("d", [update(1)], 8)
    assert kept(cache, by_id(1)) is None


def test_times_of_another_primary_are_not_seen() -> None:
    cache = trusted_cache()
    cache.observed(B2.address, 7)
    assert begin(cache, by_id(1)).seen == 0


def test_an_event_about_a_namespace_is_never_spared() -> None:
    cache = trusted_cache()
    cache.observed(A1.address, 7)
    keep(cache, by_id(1), {"_id": 1})
    cache.event("d", [Effect("namespace", "d.c")], 7)
    assert kept(cache, by_id(1)) is None
    assert cache.namespace("d.c").facts is None


# Flights


def flight(cache: Cache, op: ReadOp, now_s: float = 0.1, *, ttl: bool = False) -> Fill | None:
    return cache.flight(key_of(op, EXACT_CODEC), now_s, ttl=ttl)


def test_a_flight_is_joined_only_under_a_lease() -> None:
    cache = trusted_cache()
    fill = begin(cache, by_group(1))
    assert flight(cache, by_group(1)) is fill
    assert flight(cache, by_group(1), LEASE_S) is None


def test_a_flight_counts_as_containing_any_document() -> None:
    cache = trusted_cache()
    begin(cache, by_group(1))
    cache.close([update(5)])
    assert flight(cache, by_group(1)) is None


def test_a_flight_begun_under_an_earlier_trust_is_not_joined() -> None:
    cache = trusted_cache()
    begin(cache, by_group(1))
    cache.trust("d").lost("gap")
    cache.lease("d", A1, 0.1)
    learn(cache)
    assert flight(cache, by_group(1)) is None


def test_a_leader_that_gave_up_settles_nothing_any_more() -> None:
    cache = trusted_cache()
    fill = begin(cache, by_id(1))
    cache.join(fill, "heir")
    cache.join(fill, "other")
    old = fill.generation
    assert cache.hand_over(fill, old) == "heir"
    assert cache.settle(fill, old, b"", [], 0.2) == []
    assert cache.abandon(fill, old) == []
    assert settle(cache, fill, {"_id": 1}) == ["other"]
    assert kept(cache, by_id(1)) is not None


@pytest.mark.parametrize(("by", "is_shared"), [(A1, True), (B2, False)])
def test_an_answer_of_another_primary_is_not_for_those_who_joined(
    by: Primary, is_shared: bool
) -> None:
    cache = trusted_cache()
    engine = engine_of(cache)
    scope = engine.scope("d.c")
    codec: Any = EXACT_CODEC
    lead = scope.begin_read(by_id(1), codec, 0.1, share=True)
    join = scope.begin_read(by_id(1), codec, 0.1, share=True)
    assert isinstance(lead, Lead)
    assert isinstance(join, Join)
    assert scope.join(join, "waiter")
    lead.address = by.address
    data = bson.encode({"_id": 1})
    waiters = scope.settle_read(lead, 0.2, documents=1, size=len(data), data=data)
    assert waiters == [("waiter", data if is_shared else ALONE)]


def test_a_sending_handed_over_is_stamped_anew() -> None:
    cache = trusted_cache()
    fill = begin(cache, by_id(1))
    cache.join(fill, "heir")
    cache.close([update(1)])
    cache.hand_over(fill, fill.generation)
    settle(cache, fill, {"_id": 1})
    assert kept(cache, by_id(1)) is not None


def test_a_sending_handed_over_in_a_namespace_that_became_another_is_not_kept() -> None:
    cache = trusted_cache()
    fill = begin(cache, ReadOp("find_one", "d.c", {"_id": "a"}))
    cache.join(fill, "heir")
    cache.close([Effect("namespace", "d.c")])
    learn(cache, Facts(None, simple=False))
    cache.hand_over(fill, fill.generation)
    assert flight(cache, by_id("a")) is None
    settle(cache, fill, {"_id": "A"})
    assert cache.refused == {"facts": 1}


def test_nobody_is_left_when_the_last_waiter_leaves() -> None:
    cache = trusted_cache()
    fill = begin(cache, by_id(1))
    cache.join(fill, "waiter")
    cache.leave(fill, "waiter")
    assert cache.hand_over(fill, fill.generation) is None
    assert cache.fills_open == 0
    assert flight(cache, by_id(1)) is None


def test_an_interrupted_settlement_keeps_nothing_that_no_write_would_drop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = trusted_cache()
    fill = begin(cache, by_group(1))

    def interrupted(entry: Entry) -> bool:
        put(entry)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        put = cache.store.put
        patched.setattr(Store, "put", lambda _, entry: interrupted(entry))
        with pytest.raises(KeyboardInterrupt):
            settle(cache, fill, {"_id": 1, "g": 1})
    assert kept(cache, by_group(1)) is not None
    cache.close([update(1)])
    assert kept(cache, by_group(1)) is None


# A time to live


def ttl_cache() -> Cache:
    """A cache without a stream."""
    cache = new_cache()
    learn(cache)
    return cache


def test_an_answer_ages_from_its_sending() -> None:
    cache = ttl_cache()
    fill = begin(cache, by_id(1), 10.0, ttl_s=5.0)
    settle(cache, fill, {"_id": 1}, now_s=14.0)
    entry = kept(cache, by_id(1))
    assert entry is not None
    assert entry.expires_s == 15.0


def test_a_flight_older_than_the_time_to_live_is_not_joined() -> None:
    cache = ttl_cache()
    fill = begin(cache, by_id(1), 10.0, ttl_s=5.0)
    assert flight(cache, by_id(1), 14.9, ttl=True) is fill
    assert flight(cache, by_id(1), 15.0, ttl=True) is None


def test_what_a_time_to_live_let_in_ends_when_trust_begins() -> None:
    cache = ttl_cache()
    settle(cache, begin(cache, by_id(1), ttl_s=5.0), {"_id": 1})
    cache.lease("d", A1, 0.3)
    assert kept(cache, by_id(1)) is None
    assert cache.namespace("d.c").facts is None


def test_what_a_write_of_unknown_outcome_may_touch_is_not_cached_for_a_while() -> None:
    cache = ttl_cache()
    cache.close_unknown([update(1)], 10.0)
    assert cache.begin("k", by_id(1), 69.9, ttl_s=5.0, max_bytes=99, share=False) == (
        "unknown_outcome"
    )
    begin(cache, by_id(2), 11.0, ttl_s=5.0)
    learn(cache)
    begin(cache, by_id(1), 70.0, ttl_s=5.0)


def test_too_many_writes_of_unknown_outcome_count_as_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(invalidation_module, "LOG_LIMIT", 2)
    cache = ttl_cache()
    cache.close_unknown([update(n) for n in (1, 2, 3)], 10.0)
    assert cache.begin("k", by_id(9), 11.0, ttl_s=5.0, max_bytes=99, share=False) == (
        "unknown_outcome"
    )


def test_without_a_stream_facts_live_no_longer_than_answers() -> None:
    cache = new_cache()
    op = by_id(1)
    assert cache.begin("k", op, 10.0, ttl_s=5.0, max_bytes=99, share=False) == "facts"
    learn(cache)
    # However late the next read comes: they were read soon after they were asked for.
    assert cache.begin("k", op, 15.0, ttl_s=5.0, max_bytes=99, share=False) == "facts"
    learn(cache)
    begin(cache, op, 19.9, ttl_s=5.0)


def test_what_is_asked_while_facts_are_read_makes_them_no_younger() -> None:
    cache = new_cache()
    asked = {"ttl_s": 5.0, "max_bytes": 99, "share": False}
    assert cache.begin("k", by_id(1), 10.0, **asked) == "facts"
    stamp = cache.facts_stamp("d.c")
    assert cache.begin("k", by_id(1), 14.0, **asked) == "facts"
    cache.facts_read(stamp, PLAIN)
    begin(cache, by_id(1), 14.9, ttl_s=5.0)
    assert cache.begin("k", by_id(1), 15.0, **asked) == "facts"


def test_an_own_write_drops_by_collation_also_while_facts_are_asked_for_again() -> None:
    cache = new_cache()
    op = ReadOp("find_one", "d.c", {"_id": "a"})
    assert cache.begin("k", op, 10.0, ttl_s=5.0, max_bytes=99, share=False) == "facts"
    learn(cache, Facts(None, simple=False))
    settle(cache, begin(cache, op, 14.0, ttl_s=5.0), {"_id": "A"}, now_s=14.1)
    assert cache.begin("k", by_id(2), 15.0, ttl_s=5.0, max_bytes=99, share=False) == "facts"
    entry = kept(cache, op)
    assert entry is not None
    assert entry.expires_s == 19.0
    cache.close([Effect("delete", "d.c", frozenset({"a"}))])
    assert kept(cache, op) is None


# Forks


def test_in_a_forked_child_a_fill_of_the_parent_hides_no_effect() -> None:
    cache = ttl_cache()
    parents = begin(cache, by_id(1), ttl_s=5.0, share=False)
    cache.after_fork()
    cache.abandon(parents, parents.generation)
    assert cache.fills_open == 0
    learn(cache)
    fill = begin(cache, by_id(1), ttl_s=5.0)
    cache.close([update(1)])
    settle(cache, fill, {"_id": 1})
    assert cache.refused == {"overtaken": 1}


def test_in_a_forked_child_facts_read_for_the_parent_are_nobodys() -> None:
    cache = new_cache()
    stamp = cache.facts_stamp("d.c")
    cache.after_fork()
    cache.facts_read(stamp, PLAIN)
    namespace = cache.namespace("d.c")
    assert namespace.facts is None
    assert namespace.fills == 0


# The index


def test_an_answer_read_again_is_still_found_by_writes_that_do_not_name_it() -> None:
    cache = trusted_cache()
    keep(cache, by_group(1), {"_id": 1, "g": 1})
    keep(cache, by_group(1), {"_id": 1, "g": 1})
    cache.close([update(2, paths=("g",))])
    assert kept(cache, by_group(1)) is None


def test_answers_of_many_shapes_are_found_after_most_of_them_went() -> None:
    cache = trusted_cache()
    for number in range(600):
        op = ReadOp("find", "d.c", {f"f{number}": 1})
        entry = keep(cache, op, {"_id": number})
        if number != 3:
            cache.store.remove(entry)
    cache.close([update(9, paths=("f3",))])
    assert len(cache.store) == 0


def test_an_insert_drops_only_what_its_document_may_match() -> None:
    cache = trusted_cache()
    keep(cache, by_group(1))
    keep(cache, by_group(2))
    above, below = (ReadOp("find", "d.c", {"g": {op: 1}}) for op in ("$gte", "$lt"))
    keep(cache, above)
    keep(cache, below)
    document = {"_id": 5, "g": 1}
    cache.close([Effect("insert", "d.c", frozenset({canonical(5)}), None, (document,))])
    assert [kept(cache, op) is None for op in (by_group(1), by_group(2), above, below)] == [
        True,
        False,
        True,
        False,
    ]


def test_an_insert_drops_the_absence_of_its_document() -> None:
    cache = trusted_cache()
    keep(cache, by_id(5))
    cache.close([Effect("insert", "d.c", frozenset({canonical(5.0)}))])
    assert kept(cache, by_id(5)) is None


@pytest.mark.parametrize(
    "elements",
    [b"\x10g\0\x01\0\0\0\x10g\0\x02\0\0\0", b"\x0eg\0\x02\0\0\0x\0", b"\x06g\0"],
    ids=["a field twice", "a symbol", "undefined"],
)
def test_an_inserted_raw_document_that_python_cannot_show_may_match(elements: bytes) -> None:
    cache = trusted_cache()
    content = b"\x10_id\0\x09\0\0\0" + elements + b"\0"
    document = RawBSONDocument(struct.pack("<i", 4 + len(content)) + content)
    keep(cache, by_group(1))
    keep(cache, by_id(5))
    cache.close([Effect("insert", "d.c", frozenset({9}), None, (document,))])
    assert kept(cache, by_group(1)) is None
    assert kept(cache, by_id(5)) is not None


def test_ids_of_an_answer_are_any_where_it_does_not_carry_them() -> None:
    cache = trusted_cache()
    data = bson.encode({"_id": 1})
    shown = begin(cache, ReadOp("find", "d.c", {}, {"v": 1}))
    hidden = begin(cache, ReadOp("find", "d.c", {}, {"_id": 0, "v": 1}))
    count = begin(cache, ReadOp("count_documents", "d.c", {}))
    assert ids_of(shown, data) == [canonical(1)]
    assert ids_of(hidden, data) is None
    assert ids_of(count, data) is None


@pytest.mark.parametrize(
    "projection",
    [
        {"_id.a": 1},
        {"_id.a": 0},
        {"v": 1, "_id.a": 1},
        {"_id": ObjectId(), "v": 1},
        {"_id": ["$v"], "v": 1},
        {"_id": None, "v": 1},
    ],
)
def test_ids_that_a_projection_changes_say_nothing(projection: dict[str, Any]) -> None:
    fill = begin(trusted_cache(), ReadOp("find", "d.c", {}, projection))
    assert ids_of(fill, bson.encode({"_id": {"a": 1}})) is None


def test_a_string_that_is_no_utf8_is_no_fault() -> None:
    fill = begin(trusted_cache(), by_group(1))
    data = bson.encode({"_id": 1, "s": "ab"}).replace(b"ab\0", b"\xff\xfe\0")
    assert ids_of(fill, data) is None


# The store


def entry_of(key: str, size: int = 100) -> Entry:
    return Entry(key, b"x" * size, None, (), None, None, 0.0, 1.0, 0, None, 0)


def test_the_least_recently_used_goes_first() -> None:
    gone: list[Entry] = []
    one = entry_of("one").size
    store = Store(2 * one, Budget(nullcontext()), gone.append)
    first, second, third = entry_of("1"), entry_of("2"), entry_of("3")
    store.put(first)
    store.put(second)
    store.get("1")
    store.put(third)
    assert gone == [second]
    assert store.evictions == 1
    assert store.bytes == 2 * one


def test_an_entry_that_does_not_fit_is_refused() -> None:
    store = Store(1_000, Budget(nullcontext()), lambda entry: None)
    store.put(entry_of("small"))
    assert not store.put(entry_of("large", 2_000))
    assert store.get("small") is not None


def test_a_key_holds_one_entry_and_its_bytes_once() -> None:
    gone: list[Entry] = []
    store = Store(10_000, Budget(nullcontext()), gone.append)
    old, new = entry_of("k"), entry_of("k", 50)
    store.put(old)
    store.put(new)
    assert gone == [old]
    assert store.bytes == new.size
    store.remove(old)
    assert store.get("k") is new


@pytest.mark.parametrize("kind", ["find", "count_documents"])
def test_a_filter_is_held_once_where_the_key_is_written_alike(kind: str) -> None:
    cache = trusted_cache()
    written = {"g": 1, "h": {"$gt": 2.5}}
    entry = keep(cache, ReadOp(kind, "d.c", written), {"_id": 1, "v": 1})
    assert filter_of(entry) == written
    assert any(part is entry.filter for part in entry.key)

    ordered = keep(cache, ReadOp(kind, "d.c", {"g": {"$in": [2, 1]}}), {"_id": 1, "v": 1})
    assert not any(part is ordered.filter for part in ordered.key)
    assert filter_of(ordered) == {"g": {"$in": [2, 1]}}


def test_stores_share_a_budget_and_give_up_their_own_entries() -> None:
    budget = Budget(nullcontext())
    one = entry_of("one").size
    mine = Store(2 * one, budget, lambda entry: None)
    other = Store(2 * one, budget, lambda entry: None)
    mine.put(entry_of("1"))
    mine.put(entry_of("2"))
    assert not other.put(entry_of("3"))
    assert len(mine) == 2
    assert budget.used_bytes == 2 * one
    assert mine.clear() == 2
    assert budget.used_bytes == 0


# Trust and facts


def test_a_lease_is_never_shortened_by_an_older_probe() -> None:
    trust = Trust("d")
    trust.renewed(A1, 5.0)
    trust.renewed(A1, 4.0)
    assert trust.lease_until_s == 5.0
    assert trust.epoch == 1


def test_another_primary_is_another_trust() -> None:
    cache = trusted_cache()
    epoch = cache.trust("d").epoch
    keep(cache, by_id(1), {"_id": 1})
    cache.lease("d", A1._replace(election_id=2), 0.5)
    assert cache.trust("d").epoch > epoch
    assert kept(cache, by_id(1)) is None


def test_a_lost_stream_voids_the_lease() -> None:
    cache = trusted_cache()
    cache.lost("d", "gap")
    trust = cache.trust("d")
    assert not trust.trusted
    assert trust.lease_until_s < 0
    assert cache.begin("k", by_id(1), 0.1, ttl_s=None, max_bytes=99, share=False) == "untrusted"


def test_facts_are_not_kept_when_the_namespace_changed_while_they_were_read() -> None:
    cache = trusted_cache()
    cache.close([Effect("namespace", "d.c")])
    stamp = cache.facts_stamp("d.c")
    cache.event("d", [Effect("namespace", "d.c")], 3)
    cache.facts_read(stamp, PLAIN)
    assert cache.namespace("d.c").facts is None


def asked(cache: Cache, name: str, *, ttl_s: float | None = None) -> Fill | str:
    """What the cache says to a read of a collection."""
    op = ReadOp("find_one", name, {"_id": 1})
    return cache.begin(key_of(op, EXACT_CODEC), op, 0.1, ttl_s=ttl_s, max_bytes=10_000, share=False)


def all_facts_read(cache: Cache, database: str = "d") -> list[str]:
    """Reads facts for as long as any are wanted, as the watcher does; returns the collections."""
    names = []
    while wanted := cache.wanted_facts(database):
        names.append(wanted[0])
        learn(cache, name=wanted[0])
    return names


COLLECTIONS = [f"d.c{number}" for number in range(1_000)]


def cache_that_knows_many() -> Cache:
    """A trusted cache that was asked once for each of many collections."""
    cache = new_cache()
    cache.lease("d", A1, 0.0)
    for name in COLLECTIONS:
        assert asked(cache, name) == "facts"
    assert all_facts_read(cache) == COLLECTIONS
    return cache


@pytest.mark.parametrize("how", ["clear", "gap", "primary", "database"])
def test_after_a_clear_only_the_facts_of_what_is_read_again_are_wanted(how: str) -> None:
    cache = cache_that_knows_many()
    if how == "clear":
        cache.clear("user")
    elif how == "database":
        cache.clear_database("d", "own")
    elif how == "gap":
        cache.lost("d", "gap")
    else:
        cache.primary_changed()
    cache.lease("d", A1, 0.0)
    assert cache.wanted_facts("d") == []
    for name in ("d.c7", "d.c3"):
        assert asked(cache, name) == "facts"
    assert all_facts_read(cache) == ["d.c7", "d.c3"]
    assert isinstance(asked(cache, "d.c7"), Fill)
    assert asked(cache, "d.c8") == "facts"


def test_after_a_change_of_a_collection_its_facts_are_wanted_with_the_next_read() -> None:
    cache = cache_that_knows_many()
    cache.event("d", [Effect("namespace", "d.c5")], 3)
    assert cache.wanted_facts("d") == []
    assert asked(cache, "d.c5") == "facts"
    assert all_facts_read(cache) == ["d.c5"]


def test_facts_that_could_not_be_kept_are_wanted_still_and_come_last() -> None:
    cache = new_cache()
    cache.lease("d", A1, 0.0)
    for name in ("d.a", "d.b", "d.c"):
        asked(cache, name)
    cache.facts_read(cache.facts_stamp("d.a"), None)
    stamp = cache.facts_stamp("d.b")
    cache.close([Effect("namespace", "d.b")])
    cache.facts_read(stamp, PLAIN)
    assert all_facts_read(cache) == ["d.c", "d.a", "d.b"]


def test_facts_are_wanted_of_one_database_and_where_a_stream_or_a_time_to_live_lets_cache() -> None:
    cache = new_cache()
    assert asked(cache, "d.a") == "untrusted"
    assert asked(cache, "e.a") == "untrusted"
    assert cache.wanted_facts("d") == []
    assert asked(cache, "d.b", ttl_s=1.0) == "facts"
    assert cache.wanted_facts("d") == ["d.b"]
    cache.lease("d", A1, 0.0)
    assert all_facts_read(cache) == ["d.a", "d.b"]
    assert cache.wanted_facts("e") == []


def test_what_the_parent_of_a_fork_wanted_to_know_its_child_does_not() -> None:
    cache = new_cache()
    cache.lease("d", A1, 0.0)
    asked(cache, "d.a")
    stamp = cache.facts_stamp("d.a")
    cache.after_fork()
    cache.lease("d", A1, 0.0)
    assert cache.wanted_facts("d") == []
    asked(cache, "d.a")
    cache.facts_read(stamp, None)
    assert all_facts_read(cache) == ["d.a"]


def test_what_is_not_wanted_costs_the_watcher_nothing() -> None:
    def lines(collections: int, wanted: int) -> int:
        """Lines that run while what is wanted is read, the rest being known."""
        cache = new_cache()
        cache.lease("d", A1, 0.0)
        for name in COLLECTIONS[wanted:collections]:
            asked(cache, name)
        all_facts_read(cache)
        for name in COLLECTIONS[:wanted]:
            asked(cache, name)
        count = 0

        def traced(frame: Any, event: str, argument: Any) -> Any:
            nonlocal count
            count += event == "line"
            return traced

        before = sys.gettrace()
        gc.disable()  # what it would run counts, too
        sys.settrace(traced)
        try:
            assert len(all_facts_read(cache)) == wanted
        finally:
            sys.settrace(before)
            gc.enable()
        return count

    assert lines(1_000, 10) == lines(20, 10)
    # Nor does the number of those that are wanted make one of them dearer.
    assert lines(1_000, 800) < 100 * lines(1_000, 10)


@pytest.mark.parametrize(
    ("info", "refusal"),
    [
        ({"type": "view"}, "view"),
        ({"type": "timeseries"}, "timeseries"),
        ({"type": "collection", "options": {"capped": True}}, "capped"),
        ({"type": "collection", "options": {"encryptedFields": {}}}, None),
        ({"type": "collection", "options": {"encryptedFields": {"fields": []}}}, "encrypted"),
        ({"type": "collection"}, None),
    ],
)
def test_what_is_no_ordinary_collection_is_refused(
    info: dict[str, Any], refusal: str | None
) -> None:
    assert facts_from([info], []).refusal == refusal


def test_only_complete_unique_indexes_of_the_same_collation_count() -> None:
    indexes: list[dict[str, Any]] = [
        {"key": {"a": 1}, "unique": True},
        {"key": {"b": 1}, "unique": True, "sparse": True},
        {"key": {"c": 1}, "unique": True, "partialFilterExpression": {"c": 1}},
        {"key": {"d": 1}, "unique": True, "collation": {"locale": "en"}},
        {"key": {"e": 1}, "unique": True, "hidden": True},
        {"key": {"f": "2dsphere"}},
    ]
    facts = facts_from([{"type": "collection"}], indexes)
    assert facts.unique == (("a",),)
    assert facts.indexed == {"a", "b"}
    assert facts.simple
    assert not facts_from([{"options": {"collation": {"locale": "en"}}}], []).simple
