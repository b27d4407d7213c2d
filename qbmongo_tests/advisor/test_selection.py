"""One set for a whole workload, by the figures of the cost model."""

from __future__ import annotations

from dataclasses import replace

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


@pytest.mark.parametrize("seed", SEEDS)
def test_advice_is_stable_and_saves(seed: int) -> None:
    """A second advice is empty, and following the first examines no more than before."""
    workload = random_workload(seed)
    shapes = shapes_of(workload.queries)
    info = facts(workload)
    known = statistics(workload, shapes, info)
    proposal = propose(shapes, {NAMESPACE: info}, {NAMESPACE: known}, now_s=NOW_S)
    after = applied(info, proposal)
    again = propose(shapes, {NAMESPACE: after}, {NAMESPACE: known}, now_s=NOW_S)
    assert [candidate.spec.keys for candidate in again.chosen] == []
    assert [removal.id for removal in again.removals] == []
    assert examined(after, known, shapes) <= examined(info, known, shapes) * (1 + 1e-9)
