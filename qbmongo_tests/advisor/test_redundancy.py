"""What may replace what: one test for each line of the table in docs/advisor.md."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qbmongo.advisor.index_documents import index_from_document
from qbmongo.advisor.multikey import Arrays
from qbmongo.advisor.records import (
    Candidate,
    CollectionInfo,
    CollectionStatistics,
    ExistingIndex,
    IndexSpec,
    Keys,
    MemberAccesses,
    Rules,
)
from qbmongo.advisor.redundancy import removals, why_not_replaced

from .workloads import DAY_S, NOW_S, listed

NAMESPACE = "shop.orders"
DOCS = Path(__file__).parents[2] / "docs" / "advisor.md"


def spec(name: str, **options: Any) -> IndexSpec:
    return index_from_document(NAMESPACE, listed(name, **options)).spec


def arrays(*paths: str, sampled: int = 10) -> Arrays:
    statistics = CollectionStatistics(NAMESPACE, sampled, array_paths=frozenset(paths))
    return Arrays(CollectionInfo(NAMESPACE), statistics)


_PARTIAL = {"a": {"$gt": 5}}
_EN = {"locale": "en", "strength": 2}
_LONGER = spec("a_1_b_1")

# Line of the table, the index, the one that would replace it, whether it may.
LINES: tuple[tuple[str, IndexSpec, IndexSpec, bool], ...] = (
    ("prefix", spec("a_1"), _LONGER, True),
    ("prefix", spec("b_1"), _LONGER, False),
    ("prefix", spec("a_1_c_1"), _LONGER, False),
    ("prefix", _LONGER, spec("a_1"), False),
    ("direction", spec("a_-1"), _LONGER, True),
    ("direction", spec("a_1"), spec("a_-1"), True),
    ("direction", spec("a_-1_b_1"), spec("a_1_b_-1_c_1"), True),
    ("direction", spec("a_1_b_1"), spec("a_1_b_-1_c_1"), False),
    ("_id", spec("_id_", key={"_id": 1}), spec("x", key={"_id": 1, "a": 1}), False),
    (
        "clustered",
        spec("_id_", key={"_id": 1}, clustered=True),
        spec("x", key={"_id": 1, "a": 1}),
        False,
    ),
    ("unique", spec("a_1", unique=True), _LONGER, False),
    ("unique", spec("a_1", prepareUnique=True), _LONGER, False),
    ("unique", spec("a_1"), spec("a_1_b_1", unique=True), True),
    ("unique", spec("a_1"), spec("a_1", unique=True), True),
    ("TTL", spec("a_1", expireAfterSeconds=60), _LONGER, False),
    ("TTL", spec("a_1"), spec("a_1", expireAfterSeconds=60), True),
    ("sparse", spec("a_1", sparse=True), _LONGER, False),
    ("sparse", spec("a_1"), spec("a_1_b_1", sparse=True), False),
    ("sparse", spec("a_1", sparse=True), spec("a_1_b_1", sparse=True), False),
    ("sparse", spec("a_1", sparse=True), spec("a_-1", sparse=True), True),
    ("partial", spec("a_1", partialFilterExpression=_PARTIAL), _LONGER, False),
    ("partial", spec("a_1"), spec("a_1_b_1", partialFilterExpression=_PARTIAL), False),
    (
        "partial",
        spec("a_1", partialFilterExpression=_PARTIAL),
        spec("a_1_b_1", partialFilterExpression=_PARTIAL),
        True,
    ),
    (
        "partial",
        spec("a_1", partialFilterExpression={"c": True}),
        spec("a_1_b_1", partialFilterExpression={"c": 1}),
        False,
    ),
    ("collation", spec("a_1", collation=_EN), _LONGER, False),
    ("collation", spec("a_1"), spec("a_1_b_1", collation=_EN), False),
    ("collation", spec("a_1", collation=_EN), spec("a_1_b_1", collation=_EN), True),
    (
        "collation",
        spec("a_1", collation=_EN),
        spec("a_1_b_1", collation={**_EN, "caseLevel": False, "version": "57.1"}),
        True,
    ),
    ("hidden", spec("a_1"), spec("a_1_b_1", hidden=True), False),
    ("type", spec("a_hashed"), spec("a_1"), False),
    ("type", spec("a_1"), spec("a_hashed"), False),
    ("type", spec("a_1"), spec("a_1_b_2dsphere"), False),
    ("type", spec("a_1"), spec("a_1_b_text", weights={"b": 1}), False),
    ("type", spec("a_2dsphere"), spec("a_2dsphere_b_1"), False),
    ("type", spec("w", key={"a.$**": 1}), spec("x", key={"$**": 1}), False),
    ("options", spec("a_1", storageEngine={"x": {}}), _LONGER, False),
)


@pytest.mark.parametrize(
    ("line", "index", "by", "may"), LINES, ids=[f"{i} {line[0]}" for i, line in enumerate(LINES)]
)
def test_a_line_of_the_table(line: str, index: IndexSpec, by: IndexSpec, may: bool) -> None:
    assert (why_not_replaced(index, by, arrays()) is None) is may


def test_multikey() -> None:
    """A key for every element of `b` makes the longer index another one than that on `a`."""
    a, longer = spec("a_1"), spec("a_1_b_1")
    assert why_not_replaced(a, longer, arrays("b")) is not None
    assert why_not_replaced(a, longer, arrays("b.c")) is None
    assert why_not_replaced(a, longer, arrays("a")) is None
    assert why_not_replaced(a, longer, arrays(sampled=0)) is not None  # not known
    assert why_not_replaced(a, spec("a_-1"), arrays(sampled=0)) is None


def test_shard_key() -> None:
    a, longer = spec("a_1"), spec("a_1_b_1")
    key: Keys = (("a", 1),)
    assert why_not_replaced(a, longer, arrays(), key) is not None
    assert why_not_replaced(a, longer, arrays(), (("c", 1),)) is None


def test_every_line_of_the_table_is_tested() -> None:
    """docs/advisor.md's table, the lines' names in its first column."""
    section = DOCS.read_text(encoding="utf-8").partition("## What may replace what")[2]
    rows = re.findall(r"^\| ([^|]+?) \|.*\|$", section.partition("\n## ")[0], re.MULTILINE)
    named = {row.strip("`") for row in rows if row not in ("line", "---")}
    tested = {line[0] for line in LINES} | {"multikey", "shard key", "building", "hinted"}
    assert named == tested


def _removals(
    *indexes: ExistingIndex,
    chosen: tuple[Candidate, ...] = (),
    used: frozenset[IndexSpec] = frozenset(),
    hinted: frozenset[str] = frozenset(),
    harmless: bool = True,
    members: int = 1,
    shard_key: Keys | None = None,
) -> list[tuple[str, str | None]]:
    info = CollectionInfo(NAMESPACE, indexes=indexes, members=members, shard_key=shard_key)
    found = removals(info, chosen, arrays(), used, hinted, lambda specs: harmless, Rules(), NOW_S)
    return [(removal.kind, removal.index.spec.name) for removal in found]


def _existing(name: str, *operations: int, days: float = 40, **options: Any) -> ExistingIndex:
    accesses = tuple(
        MemberAccesses(f"m{number}:1", count, NOW_S - days * DAY_S)
        for number, count in enumerate(operations)
    )
    return replace(index_from_document(NAMESPACE, listed(name, **options)), accesses=accesses)


def test_of_two_equal_ones_the_less_used_goes() -> None:
    assert _removals(_existing("a_1", 5), _existing("a_-1", 9)) == [("duplicate", "a_1")]
    assert _removals(_existing("a_1", 9), _existing("a_-1", 5)) == [("duplicate", "a_-1")]


def test_only_one_of_three_equal_ones_stays() -> None:
    found = _removals(_existing("a_1", 1), _existing("a_-1", 2), _existing("a_1_b_1", 3))
    assert sorted(found) == [("duplicate", "a_1"), ("prefix", "a_-1")]


def test_building() -> None:
    """What is being built serves nobody yet, and does not go."""
    building = replace(_existing("a_1_b_1", 3), building=True)
    assert _removals(_existing("a_1", 1), building) == []
    assert _removals(replace(_existing("a_1", 1), building=True), _existing("a_1_b_1", 3)) == []


def test_hinted() -> None:
    pair = (_existing("a_1", 1), _existing("a_1_b_1", 3))
    assert _removals(*pair) == [("prefix", "a_1")]
    assert _removals(*pair, hinted=frozenset({"a_1"})) == []


def test_what_would_harm_stays() -> None:
    assert _removals(_existing("a_1", 1), _existing("a_1_b_1", 3), harmless=False) == []


def test_a_new_index_replaces_an_old_one() -> None:
    candidate = Candidate("c", spec("a_1_b_1"), ())
    assert _removals(_existing("a_1", 7), chosen=(candidate,)) == [("replaced", "a_1")]


@pytest.mark.parametrize(
    ("existing", "members", "goes"),
    [
        (_existing("a_1", 0), 1, True),
        (_existing("a_1", 0, 0, 0), 3, True),
        (_existing("a_1", 0, 1, 0), 3, False),
        (_existing("a_1", 0, 0), 3, False),
        (_existing("a_1"), 1, False),
        (_existing("a_1", 0, days=13), 1, False),
        (_existing("a_1", 0, unique=True), 1, False),
        (_existing("a_1", 0, prepareUnique=True), 1, False),
        (_existing("a_1", 0, expireAfterSeconds=60), 1, False),
        (_existing("_id_", 0, key={"_id": 1}), 1, False),
        (_existing("_id_", 0, key={"_id": 1}, clustered=True), 1, False),
        (_existing("a_hashed", 0), 1, True),
        (_existing("t", 0, key={"_fts": "text", "_ftsx": 1}, weights={"a": 1}), 1, True),
    ],
)
def test_unused(existing: ExistingIndex, members: int, goes: bool) -> None:
    kinds = [kind for kind, _ in _removals(existing, members=members)]
    assert kinds == (["unused"] if goes else [])


def test_the_index_of_the_shard_key_stays_though_unused() -> None:
    for name, key in (("a_1", (("a", 1),)), ("a_hashed", (("a", "hashed"),))):
        assert _removals(_existing(name, 0), shard_key=key) == []
        assert _removals(_existing(name, 0), shard_key=(("b", 1),)) == [("unused", name)]


def test_nothing_of_a_sharded_collection_goes_while_its_key_is_not_known() -> None:
    info = CollectionInfo(NAMESPACE, indexes=(_existing("a_1", 0),), sharded=True)
    found = removals(
        info, (), arrays(), frozenset(), frozenset(), lambda specs: True, Rules(), NOW_S
    )
    assert found == []


def test_the_shortest_time_of_all_members_counts() -> None:
    """A member that was restarted yesterday cannot tell of the days before."""
    existing = _existing("a_1", 0, 0)
    first, second = existing.accesses
    restarted = replace(existing, accesses=(first, replace(second, since_s=NOW_S - DAY_S)))
    assert _removals(restarted, members=2) == []


def test_unused_by_the_counts_but_used_by_the_workload() -> None:
    existing = _existing("a_1", 0)
    assert _removals(existing, used=frozenset({existing.spec})) == []


def test_hidden_for_long_is_dropped_and_never_hidden_again() -> None:
    assert _removals(_existing("a_1", 0, hidden=True)) == [("hidden", "a_1")]
    assert _removals(_existing("a_1", 0, hidden=True, days=3)) == []
    assert _removals(_existing("a_1", 0, hidden=True, days=3), _existing("a_1_b_1", 4)) == []
    assert _removals(_existing("a_1", hidden=True)) == []
