"""The what-if model follows the planner's rules."""

from __future__ import annotations

from typing import Any

import pytest

from qbmongo.advisor.accesses import accesses_of
from qbmongo.advisor.conjunctions import Bound, Conjunction
from qbmongo.advisor.cost import CostModel, Estimate, plan_us
from qbmongo.advisor.index_documents import index_from_document
from qbmongo.advisor.records import (
    CollectionInfo,
    CollectionStatistics,
    FieldStatistics,
    IndexSpec,
    PlanFigures,
)
from qbmongo.advisor.selectivity import Selectivity
from qbmongo.advisor.usability import implies, wildcard_holds
from qbmongo.records import ReadOp

from .test_accesses import shape
from .workloads import listed

COUNT = 100_000
ARRAYS = frozenset({"t", "l"})


def field(path: str, distinct: float, **more: Any) -> FieldStatistics:
    return FieldStatistics(path, distinct=distinct, **more)


STATISTICS = CollectionStatistics(
    "d.c",
    1_000,
    {
        "a": field("a", 100),
        "b": field("b", 10),
        "u": field("u", COUNT),
        "f": field("f", 2, common=((True, 0.01), (False, 0.99))),
        "n": field("n", 50, present=0.1),
        "t": field("t", 50, array=1.0, elements=3.0),
        "l.k": field("l.k", 50, array=1.0, elements=2.0),
        "l.v": field("l.v", 50, array=1.0, elements=2.0),
        "r": field("r", 1_000, ascending=tuple(range(0, 1_000, 10))),
    },
    ARRAYS,
)
MODEL = CostModel(CollectionInfo("d.c", count=COUNT), STATISTICS)


def spec(name: str, **options: Any) -> IndexSpec:
    return index_from_document("d.c", listed(name, **options)).spec


def estimate(op: ReadOp, *indexes: IndexSpec, model: CostModel = MODEL, **more: Any) -> Estimate:
    (access,) = accesses_of(shape(op, **more))
    return model.estimate(access, indexes)


def find(filter: dict[str, Any], **parts: Any) -> ReadOp:
    return ReadOp("find", "d.c", filter, **parts)


def uses(op: ReadOp, index: IndexSpec) -> bool:
    return bool(estimate(op, index).indexes)


def sorts(op: ReadOp, index: IndexSpec) -> bool:
    return estimate(op, index).sorts > 0


def test_a_collection_scan_reads_all_unless_it_stops_early() -> None:
    assert estimate(find({"a": 1})).documents == COUNT
    assert estimate(ReadOp("find_one", "d.c", {"a": 1})).documents == 100
    assert estimate(find({"a": 1}, sort={"b": 1}, limit=5), limits=(5,)).documents == COUNT


def test_equalities_narrow_keys_and_documents() -> None:
    one, both = estimate(find({"a": 1, "b": 1}), spec("a_1")), spec("a_1_b_1")
    assert (one.keys, one.documents) == (1_000, 1_000)
    assert estimate(find({"a": 1, "b": 1}), both).documents == 100


def test_the_planner_takes_an_index_though_a_scan_would_be_cheaper() -> None:
    assert estimate(find({"a": {"$ne": 1}}), spec("a_1")).indexes
    assert estimate(find({"a": {"$ne": 1}}), spec("a_1")).examined > COUNT


@pytest.mark.parametrize(
    ("op", "name", "sorted_in_memory"),
    [
        (find({}, sort={"a": 1}), "a_1", False),
        (find({}, sort={"a": -1}), "a_1", False),
        (find({}, sort={"a": 1, "b": -1}), "a_1_b_-1", False),
        (find({}, sort={"a": -1, "b": 1}), "a_1_b_-1", False),
        (find({}, sort={"a": 1, "b": 1}), "a_1_b_-1", True),
        (find({}, sort={"a": 1, "b": 1}), "a_1", True),
        (find({"a": 1}, sort={"b": 1}), "a_1_b_1", False),
        (find({"a": 1}, sort={"a": 1, "b": 1}), "a_1_b_1", False),
        (find({"a": 1}, sort={"b": 1, "a": -1}), "a_1_b_1", False),
        (find({"a": {"$gt": 1}}, sort={"b": 1}), "a_1_b_1", True),
        (find({"a": {"$gt": 1}}, sort={"a": 1}), "a_1_b_1", False),
        (find({"a": {"$in": [1, 2]}}, sort={"b": 1}), "a_1_b_1", False),
        (find({"a": {"$in": list(range(150))}}, sort={"b": 1}), "a_1_b_1", False),
        (find({"a": {"$in": list(range(300))}}, sort={"b": 1}), "a_1_b_1", True),
        (
            find({"a": {"$in": list(range(150))}, "u": {"$in": [1, 2, 3]}}, sort={"b": 1}),
            "a_1_u_1_b_1",
            True,
        ),
        (find({"t": 1}, sort={"a": 1}), "t_1_a_1", False),
        (find({"t": 1}, sort={"t": 1}), "t_1", True),
        (find({"l.k": 1}, sort={"l.v": 1}), "l.k_1_l.v_1", True),
    ],
)
def test_which_index_gives_which_order(op: ReadOp, name: str, sorted_in_memory: bool) -> None:
    assert sorts(op, spec(name)) is sorted_in_memory


def test_an_order_that_is_given_stops_early() -> None:
    op = find({"a": 1}, sort={"u": 1}, limit=10)
    given = estimate(op, spec("a_1_u_1"), limits=(10,))
    assert (given.keys, given.documents) == (10, 10)
    assert estimate(op, spec("a_1"), limits=(10,)).documents == 1_000


def test_one_element_has_both_bounds() -> None:
    index = spec("l.k_1_l.v_1")
    together = estimate(find({"l": {"$elemMatch": {"k": 1, "v": 2}}}), index)
    apart = estimate(find({"l.k": 1, "l.v": 2}), index)
    assert together.documents < apart.documents == pytest.approx(COUNT * 2 / 50)


def test_a_range_on_an_array_has_one_end() -> None:
    scalar = MODEL.selectivity.of_bound(Bound("r", "range", two_sided=True), "s")
    assert scalar < MODEL.selectivity.of_bound(
        Bound("r", "range", two_sided=True), "s", one_sided=True
    )


@pytest.mark.parametrize(
    ("op", "name", "covered"),
    [
        (find({"a": 1}, projection={"_id": 0, "b": 1}), "a_1_b_1", True),
        (find({"a": 1}, projection={"b": 1}), "a_1_b_1", False),
        (find({"a": 1, "u": 1}, projection={"_id": 0, "b": 1}), "a_1_b_1", False),
        (find({"a": None}, projection={"_id": 0, "b": 1}), "a_1_b_1", False),
        (find({"a": 1}, projection={"_id": 0, "t": 1}), "a_1_t_1", False),
        (find({"a": 1}), "a_1", False),
        (ReadOp("count_documents", "d.c", {"a": 1}), "a_1", True),
        (ReadOp("count_documents", "d.c", {"a": 1, "b": 1}), "a_1", False),
        (ReadOp("count_documents", "d.c", {"t": 1}), "t_1", False),
        (ReadOp("count_documents", "d.c", {"a": None}), "a_1", False),
        (ReadOp("distinct", "d.c", {}, key="a"), "a_1", True),
        (ReadOp("distinct", "d.c", {}, key="t"), "t_1", False),
        (ReadOp("distinct", "d.c", {"b": 1}, key="a"), "b_1_a_1", True),
        (ReadOp("distinct", "d.c", {"b": {"$gt": 1}}, key="a"), "b_1_a_1", False),
    ],
)
def test_when_no_document_is_fetched(op: ReadOp, name: str, covered: bool) -> None:
    assert (estimate(op, spec(name)).documents == 0) is covered


@pytest.mark.parametrize(
    ("op", "index", "used"),
    [
        (find({"b": 1}), spec("a_1_b_1"), False),
        (find({"a": 1}), spec("a_1", hidden=True), False),
        (find({"n": 1}), spec("n_1", sparse=True), True),
        (find({"n": None}), spec("n_1", sparse=True), False),
        (find({"n": {"$ne": 1}}), spec("n_1", sparse=True), False),
        (find({}, sort={"n": 1}), spec("n_1", sparse=True), False),
        (find({"n": {"$exists": True}}), spec("n_1", sparse=True), True),
        (find({"a": 1}), spec("a_hashed"), True),
        (find({"a": {"$in": [1, 2]}}), spec("a_hashed"), True),
        (find({"a": {"$gt": 1}}), spec("a_hashed"), False),
        (find({}, sort={"a": 1}), spec("a_hashed"), False),
        (find({"x.y": 1}), spec("w", key={"x.$**": 1}), True),
        (find({"z": 1}), spec("w", key={"x.$**": 1}), False),
        (find({"z": 1}), spec("w", key={"$**": 1}), True),
        (find({"z": None}), spec("w", key={"$**": 1}), False),
        (find({}, sort={"z": 1}), spec("w", key={"$**": 1}), False),
        (find({"$text": {"$search": "x"}}), spec("a_1"), False),
        (find({"a": 1}), spec("a_1", partialFilterExpression={"b": 1}), False),
        (
            find({"n": 1}),
            spec("n_1", partialFilterExpression={"n": {"$exists": True}}),
            True,
        ),
        (
            find({"n": None}),
            spec("n_1", partialFilterExpression={"n": {"$exists": True}}),
            False,
        ),
        (find({"a": "x"}), spec("a_1", collation={"locale": "en"}), False),
        (find({"a": 1}), spec("a_1", collation={"locale": "en"}), True),
        (
            find({"a": "x"}, options={"collation": {"locale": "en"}}),
            spec("a_1", collation={"locale": "en", "strength": 3, "version": "57.1"}),
            True,
        ),
        (
            find({"a": "x"}, options={"collation": {"locale": "en", "strength": 1}}),
            spec("a_1", collation={"locale": "en"}),
            False,
        ),
        (find({"$or": [{"a": 1}, {"b": 1}]}), spec("a_1"), False),
        (find({"$nor": [{"a": 1}]}), spec("a_1"), False),
        (find({"a": 1}, options={"hint": "b_1"}), spec("a_1"), False),
        (find({"a": 1}, options={"hint": "a_1"}), spec("a_1"), True),
        (find({"a": 1}, options={"hint": {"$natural": 1}}), spec("a_1"), False),
    ],
)
def test_whether_an_index_may_be_used(op: ReadOp, index: IndexSpec, used: bool) -> None:
    assert uses(op, index) is used


def test_every_branch_has_its_index() -> None:
    op = find({"$or": [{"a": 1}, {"u": 1}]})
    both = estimate(op, spec("a_1"), spec("u_1"))
    assert {index.keys[0][0] for index in both.indexes} == {"a", "u"}
    assert both.documents == pytest.approx(1_001)


def test_what_a_partial_index_is_implied_by() -> None:
    where = Conjunction((Bound("f", "point", frozenset({"bool"})),))
    assert implies(where, {"f": True}, {"f": (True, True)})
    assert not implies(where, {"f": True}, {"f": (True, False)})
    assert not implies(where, {"f": True}, {"f": (1, 1)})
    assert not implies(where, {"f": True}, {})
    assert not implies(Conjunction(), {"f": True}, {"f": (True,)})
    assert implies(where, {"f": {"$gte": 3}}, {"f": (3, 9)})
    assert not implies(where, {"f": {"$gt": 3}}, {"f": (3, 9)})
    assert not implies(where, {"f": {"$type": "bool"}}, {"f": (True,)})


def test_wildcard_projections() -> None:
    kept = spec("w", key={"$**": 1}, wildcardProjection={"a": 1, "b.c": 1})
    left_out = spec("w", key={"$**": 1}, wildcardProjection={"a": 0})
    assert [wildcard_holds(kept, p) for p in ("a", "a.x", "b.c.d", "b.d", "z")] == [
        *(True, True, True, False, False)
    ]
    assert [wildcard_holds(left_out, p) for p in ("a", "a.x", "z")] == [False, False, True]


def test_shares_from_common_values_and_ranks() -> None:
    shares = Selectivity(STATISTICS, COUNT)
    point = Bound("f", "point", frozenset({"bool"}))
    assert shares.of_bound(point, "unknown") == pytest.approx(0.5)
    shares.learn("rare", {"f": (True,)})
    assert shares.of_bound(point, "rare") == pytest.approx(0.01)
    between = Bound("r", "range", frozenset({"number"}), two_sided=True)
    shares.learn("narrow", {"r range": ((("$gte", 100), ("$lt", 200)),)})
    assert shares.of_bound(between, "narrow") == pytest.approx(0.1)
    shares.learn("other type", {"r range": ((("$gte", "x"), ("$lt", "y")),)})
    assert shares.of_bound(between, "other type") == pytest.approx(0.1)
    assert shares.of_bound(Bound("n", "null"), "s") == pytest.approx(0.9)
    assert shares.of_bound(Bound("n", "exists"), "s") == pytest.approx(0.1)


def test_what_writing_an_index_costs() -> None:
    plain = MODEL.write_us(spec("a_1"), 1_000)
    assert MODEL.write_us(spec("a_1_b_1"), 1_000) == plain
    assert MODEL.write_us(spec("t_1"), 1_000) == 3 * plain
    partial = spec("a_1", partialFilterExpression={"f": True})
    assert MODEL.write_us(partial, 1_000) == pytest.approx(plain / 100)
    assert MODEL.write_us(spec("n_1", sparse=True), 1_000) == pytest.approx(plain / 10)


def test_a_plan_that_was_run_is_judged_by_what_it_examined() -> None:
    scanned = PlanFigures(("COLLSCAN",), (), 0, 1_000, 10, False, time_ms=9e9)
    fetched = PlanFigures(("FETCH", "IXSCAN"), ("a_1",), 10, 10, 10, False)
    in_memory = PlanFigures(("SORT", "FETCH", "IXSCAN"), ("a_1",), 10, 10, 10, True)
    assert plan_us(fetched) < plan_us(in_memory) < plan_us(scanned) < 10_000
