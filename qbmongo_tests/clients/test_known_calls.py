"""clients/known_calls.py beside the close look at each call: the same shape, the same bytes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime, timezone
from typing import Any
from unittest.mock import patch
from uuid import UUID

import bson
import pytest
from bson.codec_options import CodecOptions
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from bson.son import SON

from qbmongo.clients import known_calls
from qbmongo.clients.frozen_writes import FREEZERS
from qbmongo.clients.joined_calls import JOINED_KINDS, joinable
from qbmongo.clients.known_calls import KnownCalls, copied, private_arguments
from qbmongo.core.profile import Profile
from qbmongo.core.snapshots import Private
from qbmongo.quantiles import DDSketchScale
from qbmongo.records import JoinedWrite, WriteOp

CALLS = 12_000
NS = "d.c"
CODECS: tuple[CodecOptions[Any], ...] = (
    CodecOptions(),
    CodecOptions(tz_aware=True, uuid_representation=4),
)


class Name(str):
    """A str, but not exactly."""

    __slots__ = ()


class Impostor:
    """Equal to a name that programs use, and no name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return other == self.name

    def __hash__(self) -> int:
        return hash(self.name)


NAMES: tuple[Any, ...] = (
    *("n", "n", "n", "m", "a.b", "größe", "_id", "", "$n", "x" * 300, "a\0b", "\ud800"),
    *(Name("n"), Impostor("n"), 1),
)
OPERATORS: tuple[Any, ...] = (
    *("$set", "$set", "$set", "$inc", "$unset", "set", "", "$a\0", Name("$set"), 1),
)
IDS: tuple[Any, ...] = (*["_id"] * 20, Name("_id"), Impostor("_id"))
VALUES: tuple[Callable[[random.Random], Any], ...] = (
    lambda r: r.choice((0, 1, -1, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, r.randint(0, 99))),
    lambda r: r.choice((2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 1 << 70)),
    lambda r: r.choice(("", "text", "tëxt", "\ud800", "a\0b", Name("text"))),
    lambda r: r.choice((1.5, float("nan"), True, False, None)),
    lambda r: r.choice((ObjectId(b"0" * 12), Int64(5), Decimal128("1.5"), UUID(int=1), b"bytes")),
    lambda r: datetime(2020, 1, r.randint(1, 28), tzinfo=r.choice((None, timezone.utc))),
    lambda r: r.choice(([1], {"a": 1}, {"$gt": 1}, {}, object(), SON(a=1), RawBSONDocument)),
)


def any_value(r: random.Random) -> Any:
    return r.choice(VALUES[: r.choice((1, 1, 3, len(VALUES)))])(r)


def any_document(r: random.Random, most: int) -> Any:
    if r.random() < 0.03:
        return r.choice((None, [], SON(_id=1), [{"$set": {"n": 1}}], "text"))
    names = r.choice((NAMES[:5], NAMES))
    return {r.choice(names): any_value(r) for _ in range(r.randint(0, most))}


def any_call(r: random.Random) -> tuple[Any, tuple[Any, ...]]:
    kind: Any = r.choice((*sorted(JOINED_KINDS), "update_one", "update_one", "update_one"))
    filter = any_document(r, 2) if r.random() < 0.2 else {r.choice(IDS): any_value(r)}
    if kind == "insert_one":
        args: tuple[Any, ...] = (any_document(r, 5),)
    elif kind == "delete_one":
        args = (filter,)
    elif kind == "replace_one":
        args = (filter, any_document(r, 3))
    else:
        update = {
            r.choice(OPERATORS): any_document(r, r.choice((1, 2, 10)))
            for _ in range(r.choice((0, 1, 1, 1, 1, 2)))
        }
        args = (filter, any_document(r, 2) if r.random() < 0.05 else update)
    if r.random() < 0.02:
        args = r.choice((args[:-1], (*args, True)))
    return kind, args


def check(calls: int, seed: int) -> Counter[str]:
    """Random calls; what is known of each is what a close look finds."""
    r = random.Random(seed)
    known, seen = KnownCalls(), Counter[str]()
    profile = Profile(
        DDSketchScale(),
        nullcontext(),
        0.0,
        slow_ms=1e9,
        log_every_s=1.0,
        max_shapes=100,
        samples=1,
        place_every=1000,
    )
    for _ in range(calls):
        kind, args = any_call(r)
        found = joinable(kind, args, {}, ())
        call = known.find(kind, args)
        if type(found) is not JoinedWrite:
            assert call is None, "what goes alone is never known"
            continue
        stats = profile.write_stats(WriteOp(kind, NS, found.filter, found.document))
        if call is None:
            known.keep(kind, args, stats)
            continue
        seen["known"] += 1
        assert call.stats is stats, (kind, args)
        if kind != "insert_one":
            seen[_check_copies(r, call, kind, args)] += 1
    return seen


def _check_copies(r: random.Random, call: Any, kind: Any, args: tuple[Any, ...]) -> str:
    write = JoinedWrite(kind, *args)
    shown = r.random() < 0.5
    size = copied(call, write, shown=shown)
    # Of a call that goes alone: what is sent says for certain what it is, as by the general way.
    alone = private_arguments(args)
    assert (alone is None) == (size is None)
    if alone is not None:
        general, _ = FREEZERS[kind](CODECS[0], args, {})
        assert alone == general
        assert [type(part) for part in alone] == [type(part) for part in general]
    if size is None:
        assert (write.filter, write.document) == (args[0], args[1] if len(args) > 1 else None)
        return "not plain"
    sent = [part for part in (write.filter, write.document) if part is not None]
    assert {type(part) for part in sent} == {Private if shown else dict}
    for codec in CODECS:
        given = [bson.encode({"": part}, codec_options=codec) for part in args]
        assert [bson.encode({"": part}, codec_options=codec) for part in sent] == given
        assert size == sum(len(data) - 7 for data in given)
    # What the caller changes afterwards changes nothing.
    before = bson.encode({"": sent})
    for part in args:
        _change(part)
    assert bson.encode({"": sent}) == before
    return "plain"


def _change(value: Any) -> None:
    """Changes a dict, and the dicts in it."""
    if type(value) is dict:
        for item in value.values():
            _change(item)
        value["other"] = 1


@pytest.mark.parametrize("seed", range(3))
def test_what_is_known_of_a_call_is_what_a_close_look_finds(seed: int) -> None:
    seen = check(CALLS, seed)
    assert seen["known"] > CALLS / 5, seen
    assert seen["plain"] > CALLS / 20, seen
    assert seen["not plain"] > CALLS / 100, seen


def test_names_that_a_program_makes_up_are_not_kept_without_end() -> None:
    known = KnownCalls()
    for number in range(5_000):
        args: Any = ({"_id": 1}, {"$set": {f"of user {number}": 1}})
        known.keep("update_one", args, None)
        assert known.find("update_one", args) is not None
        assert len(known._calls) <= known_calls._MAX_CALLS
    long: Any = ({"_id": 1}, {"$set": {"x" * 201: 1}})
    known.keep("update_one", long, None)
    assert known.find("update_one", long) is None


def _skeletons(change: Callable[[Any], Any]) -> Any:
    original = known_calls._skeleton

    def skeleton(kind: Any, args: Any) -> Any:
        found = original(kind, args)
        return None if found is None else change(found)

    return patch.object(known_calls, "_skeleton", skeleton)


def _sizes(change: Callable[[Any, int], int]) -> Any:
    original = known_calls.size_of
    return patch.object(known_calls, "size_of", lambda value: change(value, original(value)))


MUTANTS: dict[str, Callable[[], Any]] = {
    # What a shape depends on.
    "type of the value": lambda: _skeletons(lambda s: (*s[:1], 0, *s[2:])),
    "operator": lambda: _skeletons(lambda s: (*s[:2], "", *s[3:])),
    "fields": lambda: _skeletons(lambda s: s[:3]),
    # What a plain value is.
    "range of numbers": lambda: _sizes(lambda v, size: 8 if type(v) is int and size < 0 else size),
    "width of numbers": lambda: _sizes(lambda v, size: 8 if size == 4 else size),
    "text": lambda: _sizes(lambda v, size: len(v) + 5 if type(v) is str else size),
    "immutable": lambda: _sizes(lambda v, size: 5 if v == {} else size),
    # What a name takes.
    "end of a name": lambda: patch.object(known_calls, "_FIELD", 1),
    "an empty document": lambda: patch.object(known_calls, "_EMPTY", 4),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_without_it_a_difference_is_found(name: str) -> None:
    with MUTANTS[name](), pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is
        check(CALLS, 0)
