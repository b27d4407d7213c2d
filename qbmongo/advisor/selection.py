"""One set of indexes for the whole workload: greedy by time saved, then shortened and merged.

What counts is the time that the workload's calls lose with the indexes that are there, against the
time that its writes lose with those that are proposed. Every choice made here is tried afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from .accesses import accesses_of
from .collection_plan import CollectionPlan
from .index_documents import default_name, name_of_index
from .records import (
    Candidate,
    CollectionInfo,
    CollectionStatistics,
    IndexSpec,
    Proposal,
    Removal,
    Rules,
    WorkloadShape,
)
from .redundancy import is_same_index, removals

__all__ = ["candidate_id", "propose"]

_SYSTEM = frozenset({"admin", "config", "local"})


def propose(
    workload: Sequence[WorkloadShape],
    collections: Mapping[str, CollectionInfo],
    statistics: Mapping[str, CollectionStatistics],
    rules: Rules | None = None,
    now_s: float = 0.0,
) -> Proposal:
    """The indexes to try for a workload, and the existing ones that could go.

    Args:
        workload: all shapes.
        collections: facts by namespace; what has none is left alone.
        statistics: of samples, by namespace; may lack some.
        rules: thresholds.
        now_s: wall clock, for the age of index statistics.

    Returns:
        The proposal, most time saved first.
    """
    rules = rules or Rules()
    touching = _by_namespace(workload)
    chosen: list[Candidate] = []
    alternatives: list[Candidate] = []
    going: list[Removal] = []
    for namespace, info in sorted(collections.items()):
        if not _is_advised(info):
            continue
        plan = CollectionPlan(info, statistics.get(namespace), touching.get(namespace, ()), rules)
        plan.choose()
        own = [_named(candidate, info) for candidate in plan.candidates(candidate_id)]
        going_here = removals(
            info,
            own,
            plan.model.arrays,
            plan.used_existing(),
            plan.hinted(),
            plan.is_harmless,
            rules,
            now_s,
        )
        chosen.extend(_with_replaced(candidate, going_here) for candidate in own)
        alternatives.extend(
            _named(candidate, info) for candidate in plan.alternatives(candidate_id)
        )
        going.extend(going_here)
    chosen.sort(key=lambda c: (-c.gain_s, c.spec.namespace, c.id))
    alternatives.sort(key=lambda c: (-c.gain_s, c.spec.namespace, c.id))
    return Proposal(tuple(chosen), tuple(alternatives), tuple(going))


def candidate_id(spec: IndexSpec) -> str:
    """A short name of an index, the same in every process."""
    text = repr(
        (
            spec.namespace,
            spec.keys,
            spec.unique,
            spec.sparse,
            sorted((spec.partial_filter or {}).items(), key=repr),
            sorted((spec.collation or {}).items(), key=repr),
        )
    )
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _by_namespace(workload: Iterable[WorkloadShape]) -> dict[str, list[WorkloadShape]]:
    """Shapes by every namespace that they read or write."""
    found: dict[str, list[WorkloadShape]] = {}
    for shape in workload:
        namespaces = {shape.namespace, *(access.namespace for access in accesses_of(shape))}
        for namespace in namespaces:
            found.setdefault(namespace, []).append(shape)
    return found


def _is_advised(info: CollectionInfo) -> bool:
    """Whether its indexes are ours to think of; views have none, the server's own are its own.

    Source: MongoDB manual, "Views", "Time Series Collections" (secondary indexes have limits of
    their own; none is proposed).
    """
    database, _, name = info.namespace.partition(".")
    return info.kind == "collection" and database not in _SYSTEM and not name.startswith("system.")


def _named(candidate: Candidate, info: CollectionInfo) -> Candidate:
    """The candidate with a name of its own where the default one is or may be another's.

    Source: MongoDB manual, createIndexes: indexes on the same keys that differ in sparse, unique,
    partialFilterExpression or collation may stand side by side under different names.
    """
    spec = candidate.spec
    plain = default_name(spec.keys)
    name = plain
    if spec.partial_filter is not None:
        name = f"{plain}_partial_" + "_".join(spec.partial_filter)
    elif spec.sparse:
        name = f"{plain}_sparse"
    elif spec.collation is not None:
        name = f"{plain}_{spec.collation.get('locale')}"
        if "strength" in spec.collation:
            name = f"{name}_{spec.collation['strength']}"
    taken = {index.spec.name for index in info.indexes}
    hidden = next(
        (
            index.spec.name
            for index in info.indexes
            if index.spec.hidden and is_same_index(spec, index.spec)
        ),
        None,
    )
    if hidden is not None:
        return replace(candidate, unhides=hidden, spec=replace(spec, name=hidden))
    at = 2
    while name in taken:
        name, at = f"{plain}_{at}", at + 1
    return candidate if name == plain else replace(candidate, spec=replace(spec, name=name))


def _with_replaced(candidate: Candidate, going: Iterable[Removal]) -> Candidate:
    names = tuple(
        name_of_index(removal.index.spec) for removal in going if removal.candidate == candidate.id
    )
    return replace(candidate, replaces=names) if names else candidate
