"""Pairs of a read and a write: which answers a write must drop, and which it must leave.

"drop": the write can change the answer. "keep": it cannot, and saying so is what makes the cache
worth having. "either": it cannot, but nobody could tell without looking at the data.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import bson
import pytest
from bson import ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from qbmongo.core.effects import effect_of_event, effects_of
from qbmongo.core.footprints import cacheable, footprint_of, may_affect, with_ids
from qbmongo.core.values import canonical
from qbmongo.records import Effect, ReadOp
from qbmongo_tests.core.may_affect_collections import COLLECTIONS
from qbmongo_tests.core.may_affect_documents import DOCUMENTS
from qbmongo_tests.core.may_affect_pairs import Pair, delete, find_one
from qbmongo_tests.core.may_affect_updates import UPDATES
from qbmongo_tests.core.naive_collection import NaiveCollection
from qbmongo_tests.core.random_operations import documents, reads, write_commands

TABLE = [*UPDATES, *DOCUMENTS, *COLLECTIONS]


def effects_of_write(write: tuple[str, dict[str, Any]]) -> tuple[Effect, ...]:
    database, body = write
    if "operationType" in body:
        return effect_of_event(body)
    return effects_of(next(iter(body)), database, body, mutable_ok=True)


def is_dropped(read: ReadOp, ids: Iterable[Any] | None, effects: tuple[Effect, ...]) -> bool:
    assert cacheable(read) is None
    known = None if ids is None else frozenset(map(canonical, ids))
    footprint = with_ids(footprint_of(read), known)
    return any(may_affect(effect, footprint) for effect in effects)


@pytest.mark.parametrize("pair", TABLE, ids=lambda pair: pair.name)
def test_a_write_drops_what_it_may_change_and_leaves_the_rest(pair: Pair) -> None:
    dropped = is_dropped(pair.read, pair.ids, effects_of_write(pair.write))
    assert pair.verdict == "either" or dropped is (pair.verdict == "drop")


def test_the_table_has_enough_pairs_of_each_verdict() -> None:
    verdicts = [pair.verdict for pair in TABLE]
    assert len(TABLE) >= 60
    assert verdicts.count("drop") >= 30
    assert verdicts.count("keep") >= 30
    assert len({pair.name for pair in TABLE}) == len(TABLE)


@settings(max_examples=1500, deadline=None)
@given(documents(), reads(), write_commands(), st.booleans())
def test_an_answer_that_changed_was_dropped(
    content: list[dict[str, Any]], read: ReadOp, write: dict[str, Any], known: bool
) -> None:
    """Reference: a naive collection that shares no code with qbmongo."""
    collection = NaiveCollection(content)
    before = collection.answer(read)
    tells_ids = known and read.kind in ("find", "find_one")
    ids = [document["_id"] for document in before] if tells_ids else None
    effects = effects_of(next(iter(write)), "db", write, mutable_ok=True)
    collection.write(write)
    if bson.encode({"answer": collection.answer(read)}) != bson.encode({"answer": before}):
        assert is_dropped(read, ids, effects)


def test_objects_of_the_driver_serve_as_ids() -> None:
    identity = ObjectId()
    read = find_one({"_id": identity})
    assert is_dropped(read, [identity], effects_of_write(delete({"_id": identity})))
    assert not is_dropped(read, [identity], effects_of_write(delete({"_id": ObjectId()})))
