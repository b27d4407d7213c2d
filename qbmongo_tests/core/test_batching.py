"""Whose each document of a joined find is."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import bson
import pytest
from bson.codec_options import DEFAULT_CODEC_OPTIONS
from bson.decimal128 import Decimal128
from bson.objectid import ObjectId

from qbmongo.core.batching import PlainBatch, PointBatch, PointRead, batch_of, documents_of
from qbmongo.core.point_keys import PointKey, point_key
from qbmongo.core.values import canonical
from qbmongo.records import ReadOp


def reads_of(*values: Any, path: str = "_id", simple: bool = True) -> list[PointRead]:
    reads = []
    for number, value in enumerate(values):
        op = ReadOp("find_one", "d.c", {path: value}, None, None, 0, -1)
        key = point_key(op, DEFAULT_CODEC_OPTIONS, simple=simple or None)
        assert isinstance(key, PointKey), key
        reads.append(PointRead(number, key, simple=simple))
    return reads


def answered(batch: PointBatch, *replies: list[Mapping[str, Any]]) -> dict[int, Any]:
    """What each read, by its place, has in the end: a document, None, or "alone"."""
    outcome: dict[int, Any] = {}
    for reply in replies:
        data = b"".join(map(bson.encode, reply))
        for read, document in batch.arrived(documents_of(data)):
            assert read.ticket not in outcome
            outcome[read.ticket] = bson.decode(document)
    missing, doubtful = batch.ended()
    for read in missing:
        assert outcome.setdefault(read.ticket) is None
    for read in doubtful:
        assert outcome.setdefault(read.ticket, "alone") == "alone"
    return outcome


def test_each_gets_its_own_document() -> None:
    identity = ObjectId()
    batch = batch_of(reads_of(1, "a", identity, b"x", {"k": 1}, 9))
    assert batch.filter == {"_id": {"$in": [1, "a", identity, b"x", {"k": 1}, 9]}}
    documents = [{"_id": v, "v": str(v)} for v in ({"k": 1}, b"x", identity, "a", 1)]
    outcome = answered(batch, documents[:2], documents[2:])
    assert outcome == {n: documents[4 - n] for n in range(5)} | {5: None}


def test_numbers_of_one_value_are_asked_for_once() -> None:
    batch = batch_of(reads_of(5, 5.0, Decimal128("5"), 5))
    assert batch.filter == {"_id": {"$in": [5]}}
    stored = {"_id": Decimal128("5.0"), "v": 1}
    assert answered(batch, [stored]) == dict.fromkeys(range(4), stored)


def test_true_is_not_one() -> None:
    batch = batch_of(reads_of(1, True, 0, False))
    assert answered(batch, [{"_id": True}, {"_id": 0}]) == {
        0: None,
        1: {"_id": True},
        2: {"_id": 0},
        3: None,
    }


def test_an_array_is_for_more_than_one() -> None:
    batch = batch_of(reads_of(1, 2, 3, path="k"))
    outcome = answered(batch, [{"_id": 7, "k": 3}, {"_id": 8, "k": [1, 2]}])
    assert outcome == {0: "alone", 1: "alone", 2: {"_id": 7, "k": 3}}


def test_what_a_collation_calls_equal_is_asked_for_again() -> None:
    # Nobody has told that the collection ignores case.
    batch = batch_of(reads_of("a", "A", 5, 6, simple=False))
    outcome = answered(batch, [{"_id": "a"}, {"_id": 5}])
    assert outcome == {0: {"_id": "a"}, 1: "alone", 2: {"_id": 5}, 3: None}
    batch = batch_of(reads_of("A", 6, simple=False))
    assert answered(batch, [{"_id": "a"}]) == {0: "alone", 1: "alone"}


def test_a_string_that_nothing_could_equal_is_missing() -> None:
    batch = batch_of(reads_of("a", 5, simple=False))
    assert answered(batch, [{"_id": 5}]) == {0: None, 1: {"_id": 5}}
    # Known to compare as they are: no doubt.
    batch = batch_of(reads_of("a", "b", simple=True))
    assert answered(batch, [{"_id": "a"}]) == {0: {"_id": "a"}, 1: None}


def test_strings_in_documents_are_strings_to_a_collation() -> None:
    batch = batch_of(reads_of({"k": "a"}, {"k": "A"}, simple=False))
    outcome = answered(batch, [{"_id": {"k": "a"}}])
    assert outcome == {0: {"_id": {"k": "a"}}, 1: "alone"}


def test_a_second_document_of_one_value_changes_nothing() -> None:
    # In a view, or on several shards.
    batch = batch_of(reads_of(1, 2))
    outcome = answered(batch, [{"_id": 1, "v": 1}], [{"_id": 1, "v": 2}, {"_id": 1.0, "v": 3}])
    assert outcome == {0: {"_id": 1, "v": 1}, 1: None}


def test_a_document_without_the_key_is_nobodys() -> None:
    batch = batch_of(reads_of(1, path="a.b"))
    assert answered(batch, [{"_id": 1, "a": {"c": 1}}]) == {0: "alone"}


def test_no_answer_leaves_everybody_with_none() -> None:
    assert answered(batch_of(reads_of(1, "a", simple=False))) == {0: None, 1: None}


def test_bytes_that_are_no_documents_are_an_error() -> None:
    with pytest.raises(ValueError, match="five bytes"):
        list(documents_of(b"\0\0\0\0\0\0\0\0"))


def _value(draw: random.Random) -> Any:
    """Few values, so that they collide."""
    kind = draw.randrange(7)
    number = draw.randrange(3)
    if kind == 0:
        return float(number)
    if kind == 1:
        return Decimal128(str(number))
    if kind == 2:
        return bool(number % 2)
    if kind == 3:
        return "aAbB"[draw.randrange(4)]
    if kind == 4:
        return {"k": draw.choice((number, "a", "A"))}
    return number


def _equal(left: Any, right: Any, *, ignores_case: bool) -> bool:
    """As the server compares, with a collation that ignores case or with none."""

    def folded(value: Any) -> Any:
        if isinstance(value, str):
            return value.lower()
        return {k: folded(v) for k, v in value.items()} if isinstance(value, dict) else value

    if ignores_case:
        left, right = folded(left), folded(right)
    return canonical(left) == canonical(right)


def _matches(stored: Any, asked: Any, *, ignores_case: bool) -> bool:
    elements = stored if isinstance(stored, list) else [stored]
    return any(_equal(element, asked, ignores_case=ignores_case) for element in elements)


def _plain_value(draw: random.Random) -> Any:
    return draw.choice((0, 1, 2, 2**40, ObjectId(b"a" * 12), ObjectId(b"b" * 12)))


def random_answers(count: int, seed: int, *, plain: bool = False) -> dict[str, int]:
    """Batches on collections of every kind: whoever is given something is given what a single read
    could have returned. Returns how often what came about."""
    draw = random.Random(seed)
    seen = {"documents": 0, "none": 0, "alone": 0}
    for _ in range(count):
        ignores_case = draw.random() < 0.4
        simple = not ignores_case and draw.random() < 0.5
        stored = [_value(draw) for _ in range(draw.randrange(5))]
        stored += [[_value(draw) for _ in range(2)] for _ in range(draw.randrange(2))]
        value = _plain_value if plain else _value
        values = [value(draw) for _ in range(1 + draw.randrange(6))]
        stored += [_plain_value(draw) for _ in range(draw.randrange(3) if plain else 0)]
        path = draw.choice(("_id", "k")) if plain else "k"
        found = [
            {"_id": v, "n": n} if path == "_id" else {"_id": n, "k": v}
            for n, v in enumerate(stored)
            if any(_matches(v, asked, ignores_case=ignores_case) for asked in values)
        ]
        draw.shuffle(found)
        cut = draw.randrange(len(found) + 1)
        batch = batch_of(reads_of(*values, path=path, simple=simple))
        assert type(batch) is PlainBatch or not plain
        outcome = answered(batch, found[:cut], found[cut:])
        assert len(outcome) == len(values)
        for number, asked in enumerate(values):
            right = [d for d in found if _matches(d[path], asked, ignores_case=ignores_case)]
            got = outcome[number]
            if got == "alone":
                seen["alone"] += 1
            elif got is None:
                seen["none"] += 1
                assert not right, (stored, values, asked)
            else:
                seen["documents"] += 1
                assert got in right, (stored, values, asked, got)
    return seen


@pytest.mark.parametrize("plain", [False, True])
def test_whoever_is_given_something_is_given_what_a_single_read_could_return(plain: bool) -> None:
    seen = random_answers(1_500, 5, plain=plain)
    assert min(seen.values()) > 100, seen


@pytest.mark.parametrize("rule", ["_strays", "_saw_string"])
def test_without_a_doubt_somebody_is_given_nothing_wrongly(
    rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutants: a document of nobody's, or a collation, raises no doubt."""
    original = PointBatch.ended

    def ended(batch: PointBatch) -> Any:
        setattr(batch, rule, False)
        return original(batch)

    monkeypatch.setattr(PointBatch, "ended", ended)
    with pytest.raises(AssertionError):
        random_answers(1_500, 5)


def test_without_a_doubt_somebody_is_given_nothing_wrongly_in_a_plain_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A mutant: a document of nobody's raises no doubt."""
    original = PlainBatch.ended

    def ended(batch: PlainBatch) -> Any:
        batch._strays = False
        return original(batch)

    monkeypatch.setattr(PlainBatch, "ended", ended)
    with pytest.raises(AssertionError):
        random_answers(1_500, 5, plain=True)


def test_without_a_look_at_equal_values_they_are_strays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: bytes that nobody asked for are nobody's."""
    batch = batch_of(reads_of(5, 6))
    assert answered(batch, [{"_id": 5.0}, {"_id": 5}]) == {0: {"_id": 5.0}, 1: None}
    monkeypatch.setattr(PlainBatch, "_equal", lambda batch, document: None)
    batch = batch_of(reads_of(5, 6))
    assert answered(batch, [{"_id": 5.0}, {"_id": 6}]) == {0: "alone", 1: {"_id": 6}}


def test_a_first_field_of_another_name_is_not_the_key() -> None:
    batch = batch_of(reads_of(5, 7, path="k"))
    assert type(batch) is PlainBatch
    outcome = answered(batch, [{"_id": 5, "k": 7}, {"_id": 7, "k": 9}])
    assert outcome == {0: "alone", 1: {"_id": 5, "k": 7}}
