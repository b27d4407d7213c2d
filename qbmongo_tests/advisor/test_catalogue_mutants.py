"""Each rule is needed: without it a workload of the catalogue gets another answer.

A mutant takes one rule out of the running code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest

from qbmongo.advisor import accesses, cost, redundancy, selection, usability
from qbmongo.advisor.accesses import _Head
from qbmongo.advisor.candidates import Proposer
from qbmongo.advisor.collection_plan import CollectionPlan
from qbmongo.advisor.conjunctions import Bound
from qbmongo.advisor.cost import CostModel
from qbmongo.advisor.multikey import Arrays
from qbmongo.advisor.records import Rules
from qbmongo.advisor.write_load import WriteLoad

from .catalogue import CASES, differences
from .workloads import advise_purely

BY_NAME = {case.name: case for case in CASES}


def _always(owner: Any, name: str, value: Any) -> Any:
    return patch.object(owner, name, lambda *args, **options: value)


def _nothing(*args: Any, **options: Any) -> Any:
    return iter(())


MUTANTS: dict[str, tuple[Callable[[], Any], str]] = {
    "arrays beside each other": (
        lambda: patch.multiple(Arrays, parallel=lambda *a: False, root=lambda *a: None),
        "two arrays cannot stand in one index",
    ),
    "bounds of one element": (
        lambda: _always(Arrays, "root", None),
        "without $elemMatch only one path has bounds",
    ),
    "collation of an index": (
        lambda: _always(cost, "collation_fits", True),
        "another collation than the index's",
    ),
    "collation of a sort": (
        lambda: _always(cost, "collation_fits", True),
        "a sort under a collation",
    ),
    "numbers under a collation": (
        lambda: patch.object(Bound, "may_hold_strings", True),
        "numbers compare alike under every collation",
    ),
    "sparse indexes lack documents": (
        lambda: patch.object(Bound, "excludes_missing", True),
        "null needs an index that is not sparse",
    ),
    "partial indexes lack documents": (
        lambda: _always(usability, "implies", True),
        "a partial index that the query does not imply",
    ),
    "a constant implies a partial index": (
        lambda: _always(usability, "implies", False),
        "a partial index that the query implies",
    ),
    "hidden indexes serve nobody": (
        lambda: patch.object(selection, "_named", lambda candidate, info: candidate),
        "a hidden index is what is missing",
    ),
    "hints": (
        lambda: patch.multiple(
            CollectionPlan, hinted=lambda self: frozenset(), is_harmless=lambda self, gone: True
        ),
        "a hinted index stays",
    ),
    "wildcard projections": (
        lambda: _always(cost, "wildcard_holds", True),
        "a wildcard index without the path",
    ),
    "every branch needs an index": (
        lambda: patch.object(CostModel, "_branches", _one_branch_is_enough),
        "one branch has its index",
    ),
    "branches are proposed together": (
        lambda: patch.object(Proposer, "_for_branches", _nothing),
        "an index for each branch",
    ),
    "directions": (
        lambda: patch.object(CostModel, "_order", lambda *args: (True, True)),
        "an index of the wrong directions does not sort",
    ),
    "writes pay": (
        lambda: _always(WriteLoad, "seconds", 0.0),
        "one read among millions of writes",
    ),
    "only updates of a key pay": (
        lambda: patch.object(WriteLoad, "documents", lambda self, spec: 1e7),
        "updates of other paths cost an index nothing",
    ),
    "shortening": (
        lambda: patch.object(CollectionPlan, "_shorten", lambda self: None),
        "an equality that leaves nothing for a second key",
    ),
    "orders of other queries": (
        lambda: patch.object(
            Proposer, "_orders", lambda self, bounds: [tuple(sorted(b.path for b in bounds)[::-1])]
        ),
        "the order of equalities is that of the shorter query",
    ),
    "small collections": (
        lambda: patch.object(Rules, "__init__", _rules_without("min_examined", 0.0)),
        "a small collection",
    ),
    "partial candidates": (
        lambda: patch.object(Proposer, "_partial", _nothing),
        "a constant that few documents have, among many writes",
    ),
    "sparse candidates": (
        lambda: patch.object(Proposer, "_sparse", _nothing),
        "a rare path exists",
    ),
    "covering": (
        lambda: _always(Proposer, "_covering", None),
        "a covered query",
    ),
    "joins": (
        lambda: patch.object(accesses, "_of_join", _nothing),
        "both sides of a join",
    ),
    "what a stage has changed": (
        lambda: _always(_Head, "_is_changed", False),
        "a $match on what was computed does not",
    ),
    "behind a limit": (
        lambda: patch.object(_Head, "read", _forgets_the_limit),
        "a $match behind a $limit does not",
    ),
    "unique, TTL, sparse, partial, collated, hashed prefixes": (
        lambda: _always(redundancy, "why_not_replaced", None),
        "a unique prefix",
    ),
    "members that could not be asked": (
        lambda: patch.object(redundancy, "len", lambda items: 9, create=True),
        "a member that could not be asked",
    ),
}


def _one_branch_is_enough(self: CostModel, access: Any, indexes: Any) -> Any:
    for branches in access.where.alternatives:
        for branch in branches:
            for spec in indexes:
                scan = self._scan(access, branch, spec, True)
                if scan is not None:
                    yield self._union(access, [scan])


_READ = _Head.read


def _forgets_the_limit(self: _Head, stage: Any, at: int) -> None:
    _READ(self, stage, at)
    self.limited = False


def _rules_without(name: str, value: float) -> Any:
    original = Rules.__init__

    def begin(self: Rules, **more: Any) -> None:
        original(self, **{name: value, **more})

    return begin


@pytest.mark.parametrize("name", MUTANTS)
def test_without_a_rule_the_answer_is_another(name: str) -> None:
    mutant, case = MUTANTS[name]
    assert differences(BY_NAME[case], advise_purely(BY_NAME[case]))[0] == []
    with mutant():
        assert differences(BY_NAME[case], advise_purely(BY_NAME[case]))[0] != []
