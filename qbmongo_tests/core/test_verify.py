"""A share of the hits is read again; only what no write explains counts as a difference."""

from __future__ import annotations

from typing import Any

import bson
import pytest

from qbmongo.core.store import Entry
from qbmongo.core.verify import Verifier, command_of
from qbmongo.records import ReadOp

DOCUMENTS = [{"_id": 1, "a": 1}, {"_id": 2, "a": 1}]


def entry_of(data: bytes) -> Entry:
    return Entry("key", data, None, (), None, None, 0.0, 10.0, 0, None, 0)


def kept_documents() -> Entry:
    return entry_of(b"".join(bson.encode(document) for document in DOCUMENTS))


class Kept:
    """A store of which entries can be taken."""

    def __init__(self) -> None:
        self.dropped: set[int] = set()

    def __call__(self, entry: Entry) -> bool:
        return id(entry) not in self.dropped


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def verifier(kept: Kept) -> Verifier:
    return Verifier(kept)


def offered(verifier: Verifier, entry: Entry, **parts: Any) -> Any:
    verifier.offer(ReadOp("find", "db.c", {"a": 1}, **parts), entry)
    return verifier.next("db")


def test_an_equal_answer_is_no_difference_whatever_its_order(verifier: Verifier) -> None:
    item = offered(verifier, kept_documents())
    verifier.answered(item, DOCUMENTS[::-1], 1.0)
    assert verifier.proved("db", 2.0) == 0
    assert (verifier.verified, verifier.differences) == (1, 0)


def test_a_sorted_answer_in_another_order_is_a_difference(verifier: Verifier) -> None:
    item = offered(verifier, kept_documents(), sort={"_id": 1})
    verifier.answered(item, DOCUMENTS[::-1], 1.0)
    assert verifier.proved("db", 2.0) == 1


def test_a_difference_counts_once_the_stream_has_shown_everything_up_to_the_second_read(
    verifier: Verifier,
) -> None:
    item = offered(verifier, kept_documents())
    verifier.answered(item, DOCUMENTS[:1], 1.0)
    assert verifier.proved("db", 0.9) == 0
    assert verifier.proved("other", 2.0) == 0
    assert verifier.proved("db", 1.0) == 1
    assert verifier.proved("db", 3.0) == 0
    assert verifier.differences == 1


def test_a_write_that_arrived_meanwhile_explains_the_difference(
    verifier: Verifier, kept: Kept
) -> None:
    entry = kept_documents()
    item = offered(verifier, entry)
    verifier.answered(item, DOCUMENTS[:1], 1.0)
    kept.dropped.add(id(entry))
    assert verifier.proved("db", 2.0) == 0


def test_what_was_dropped_before_its_turn_is_not_read(verifier: Verifier, kept: Kept) -> None:
    entry = kept_documents()
    verifier.offer(ReadOp("find", "db.c", {}), entry)
    kept.dropped.add(id(entry))
    assert verifier.next("db") is None


def test_only_the_latest_hits_wait(verifier: Verifier) -> None:
    entries = [kept_documents() for _ in range(150)]
    for entry in entries:
        verifier.offer(ReadOp("find", "db.c", {}), entry)
    waiting = [verifier.next("db") for _ in range(100)]
    assert [item.entry for item in waiting if item is not None] == entries[50:]
    assert verifier.next("db") is None


def test_types_that_python_calls_equal_are_a_difference(verifier: Verifier) -> None:
    item = offered(verifier, entry_of(bson.encode({"_id": 1, "a": 1})))
    verifier.answered(item, [{"_id": 1, "a": True}], 1.0)
    assert verifier.proved("db", 2.0) == 1


@pytest.mark.parametrize(
    ("op", "kept_value", "documents", "wrong"),
    [
        (ReadOp("count_documents", "db.c", {}), 2, [{"_id": 1, "n": 2}], 0),
        (ReadOp("count_documents", "db.c", {}), 0, [], 0),
        (ReadOp("count_documents", "db.c", {}), 2, [], 1),
        (ReadOp("distinct", "db.c", {}, key="a"), [1, 2], [2, 1], 0),
        (ReadOp("distinct", "db.c", {}, key="a"), [1, 2], [1], 1),
    ],
)
def test_values_are_compared_by_kind(
    verifier: Verifier, op: ReadOp, kept_value: Any, documents: list[Any], wrong: int
) -> None:
    verifier.offer(op, entry_of(bson.encode({"v": kept_value})))
    item = verifier.next("db")
    assert item is not None
    verifier.answered(item, documents, 1.0)
    assert verifier.proved("db", 2.0) == wrong


@pytest.mark.parametrize(
    ("op", "command"),
    [
        (
            ReadOp("find_one", "db.c.d", {"_id": 1}, {"a": 1}, None, 0, -1),
            {
                "find": "c.d",
                "filter": {"_id": 1},
                "projection": {"a": 1},
                "limit": 1,
                "batchSize": 100_000,
            },
        ),
        (
            ReadOp("find", "db.c", {}, None, {"a": -1}, 2, 3, {"collation": {"locale": "de"}}),
            {
                "find": "c",
                "filter": {},
                "collation": {"locale": "de"},
                "sort": {"a": -1},
                "skip": 2,
                "limit": 3,
                "batchSize": 100_000,
            },
        ),
        (
            ReadOp(
                "distinct", "db.c", {"b": 1}, None, None, 0, 0, {"readConcern": "majority"}, key="a"
            ),
            {"distinct": "c", "key": "a", "query": {"b": 1}, "readConcern": {"level": "majority"}},
        ),
        (
            ReadOp("count_documents", "db.c", {"b": 1}, None, None, 1, 5),
            {
                "aggregate": "c",
                "pipeline": [
                    {"$match": {"b": 1}},
                    {"$skip": 1},
                    {"$limit": 5},
                    {"$group": {"_id": 1, "n": {"$sum": 1}}},
                ],
                "cursor": {"batchSize": 100_000},
            },
        ),
        (ReadOp("estimated_document_count", "db.c", {}), None),
    ],
)
def test_the_command_is_that_of_the_read(op: ReadOp, command: Any) -> None:
    assert command_of(op) == command
