"""One set for a whole workload, by the figures of the cost model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from qbmongo.advisor.accesses import paths_of
from qbmongo.advisor.collection_plan import CollectionPlan
from qbmongo.advisor.index_documents import default_name, index_options, name_of_index
from qbmongo.advisor.records import (
    CollectionInfo,
    CollectionStatistics,
    ExistingIndex,
    IndexSpec,
    Proposal,
    Rules,
    WorkloadShape,
)
from qbmongo.advisor.sampling import SampleCounts
from qbmongo.advisor.selection import propose

from .random_workloads import RandomWorkload, random_workload
from .workloads import NOW_S, shapes_of

NAMESPACE = "shop.orders"
SEEDS = (*range(40), 241)


def facts(workload: RandomWorkload) -> CollectionInfo:
    indexes = [ExistingIndex(IndexSpec(NAMESPACE, (("_id", 1),), "_id_"))]
    for number, (keys, options) in enumerate(workload.indexes):
        spec = IndexSpec(
            NAMESPACE,
            keys,
            f"old_{number}",
            sparse=bool(options.get("sparse")),
            partial_filter=options.get("partialFilterExpression"),
        )
        if not any(_same(spec, other.spec) for other in indexes):
            indexes.append(ExistingIndex(spec))
    return CollectionInfo(NAMESPACE, count=len(workload.documents), indexes=tuple(indexes))


def _same(one: IndexSpec, other: IndexSpec) -> bool:
    return (one.keys, index_options(one)) == (other.keys, index_options(other))


def statistics(
    workload: RandomWorkload, shapes: list[WorkloadShape], info: CollectionInfo
) -> CollectionStatistics:
    paths = set(paths_of(shapes).get(NAMESPACE, ()))
    paths.update(path for index in info.indexes for path, _ in index.spec.keys)
    counts = SampleCounts(NAMESPACE, paths)
    for document in workload.documents:
        counts.add(document, 200)
    return counts.statistics(len(workload.documents))


def applied(info: CollectionInfo, proposal: Proposal) -> CollectionInfo:
    """The collection after the advice was followed: created, then hidden."""
    gone = {name_of_index(removal.index.spec) for removal in proposal.removals}
    unhidden = {candidate.unhides for candidate in proposal.chosen}
    indexes = [
        replace(
            index,
            spec=replace(
                index.spec,
                hidden=(index.spec.hidden or name_of_index(index.spec) in gone)
                and index.spec.name not in unhidden,
            ),
        )
        for index in info.indexes
    ]
    indexes += [
        ExistingIndex(replace(c.spec, name=c.spec.name or default_name(c.spec.keys)))
        for c in proposal.chosen
        if c.unhides is None
    ]
    return replace(info, indexes=tuple(indexes))


def examined(
    info: CollectionInfo, known: CollectionStatistics, shapes: list[WorkloadShape]
) -> float:
    """Documents plus keys of the whole workload, by the model."""
    plan = CollectionPlan(info, known, shapes, Rules())
    return sum(
        plan.model.estimate(access, plan.existing).examined * access.calls
        for access in plan.accesses
    )


def first_and_second(seed: int) -> tuple[Proposal, Proposal, float, float]:
    """Two advices, the second after the first was followed; what is examined before and after."""
    workload = random_workload(seed)
    shapes = shapes_of(workload.queries)
    info = facts(workload)
    known = statistics(workload, shapes, info)
    first = propose(shapes, {NAMESPACE: info}, {NAMESPACE: known}, now_s=NOW_S)
    after = applied(info, first)
    second = propose(shapes, {NAMESPACE: after}, {NAMESPACE: known}, now_s=NOW_S)
    return first, second, examined(info, known, shapes), examined(after, known, shapes)


@pytest.mark.parametrize("seed", SEEDS)
def test_advice_is_stable_and_saves(seed: int) -> None:
    """A second advice is empty, and following the first examines no more than before."""
    _, second, before, after = first_and_second(seed)
    assert [candidate.spec.keys for candidate in second.chosen] == []
    assert [removal.id for removal in second.removals] == []
    assert after <= before * (1 + 1e-9)


def test_the_workloads_ask_for_advice() -> None:
    """Nothing would be shown by workloads that need none."""
    firsts = [first_and_second(seed)[0] for seed in SEEDS[:12]]
    assert sum(len(first.chosen) for first in firsts) >= 12
    assert sum(len(first.removals) for first in firsts) >= 1


MUTANTS: dict[str, tuple[Callable[[], Any], int]] = {
    "the least gain is a share of what was lost at the beginning": (
        lambda: patch.object(
            CollectionPlan,
            "_least_s",
            lambda self, estimates: self.rules.min_saved_share * self._total_s,
        ),
        4,
    ),
    "prefixes of others are kept": (
        lambda: patch.object(CollectionPlan, "_drop_prefixes", lambda self: None),
        241,
    ),
    "whatever saves time is worth it": (
        lambda: patch.object(CollectionPlan, "_is_worth", lambda self, *more: True),
        13,
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_without_a_rule_advice_is_not_stable(name: str) -> None:
    mutant, seed = MUTANTS[name]
    with mutant():
        _, second, before, after = first_and_second(seed)
    assert second.chosen or second.removals or after > before * (1 + 1e-9)
