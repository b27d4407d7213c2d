"""core/index_names.py: fields by which a write surely finds its document quickly."""

from __future__ import annotations

from typing import Any

from qbmongo.core.index_names import IndexNames

INDEXES: list[dict[str, Any]] = [
    {"key": {"_id": 1}},
    {"key": {"a": 1, "b": 1}},
    {"key": {"down": -1.0}},
    {"key": {"unique": 1}, "unique": True, "sparse": True},
    {"key": {"partial": 1}, "partialFilterExpression": {"x": 1}},
    {"key": {"hidden": 1}, "hidden": True},
    {"key": {"collated": 1}, "collation": {"locale": "en"}},
    {"key": {"hashed": "hashed"}},
    {"key": {"$**": 1}},
]


def test_only_indexes_that_find_every_equal_value_count() -> None:
    names = IndexNames()
    names.read("db.c", INDEXES, 0.0)
    assert names.known("db.c", 1.0) == {"_id", "a", "down", "unique", "$**"}
    assert names.known("db.d", 1.0) == frozenset()


def test_they_are_read_when_such_writes_are_frequent_and_once() -> None:
    names = IndexNames()
    wanted = [names.is_wanted("db.c", 0.0) for _ in range(20)]
    assert wanted.count(True) == 1
    assert not wanted[0]
    names.read("db.c", INDEXES, 0.0)
    assert not any(names.is_wanted("db.c", 1.0) for _ in range(20))


def test_what_could_not_be_read_is_nothing() -> None:
    names = IndexNames()
    names.read("db.c", None, 0.0)
    assert names.known("db.c", 1.0) == frozenset()
    assert not any(names.is_wanted("db.c", 1.0) for _ in range(20))


def test_they_are_believed_for_minutes() -> None:
    names = IndexNames()
    names.read("db.c", INDEXES, 0.0)
    assert names.known("db.c", 599.0)
    assert not names.known("db.c", 600.0)
    assert sum(names.is_wanted("db.c", 600.0) for _ in range(20)) == 1
