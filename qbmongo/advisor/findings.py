"""Queries that no index will save, and what to do about them.

docs/advisor.md lists the kinds with the page of the manual behind each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from .accesses import Access, accesses_of
from .conjunctions import Conjunction
from .records import CollectionInfo, PlanFigures, Rules, WorkloadShape
from .report import Finding, ServedShape, Severity

__all__ = ["Described", "find_problems"]

#: What a finding needs of a shape: how the report shows it.
Described = Callable[[WorkloadShape], ServedShape]

_SERVING = frozenset({"point", "null", "in", "range", "prefix", "geo"})
# What names a shard by the first field of a shard key; of a hashed one only equality does.
_TARGETING = frozenset({"point", "null", "in"})
_TARGETING_RANGED = _TARGETING | {"range", "prefix"}
_SEVERITY_ORDER = {"high": 0, "medium": 1, "low": 2}


def find_problems(
    workload: Sequence[WorkloadShape],
    collections: Mapping[str, CollectionInfo],
    plans: Mapping[str, PlanFigures],
    describe: Described,
    severity_of: Callable[[float], Severity],
    rules: Rules,
) -> list[Finding]:
    """The findings of a workload, worst first.

    Args:
        workload: all shapes.
        collections: facts by namespace; may lack some.
        plans: explained executions by shape, with the indexes as they are or as recommended.
        describe: a shape as the report shows it.
        severity_of: severity of a share of the workload's time.
        rules: thresholds.
    """
    found: list[Finding] = []
    for shape in workload:
        if not shape.calls:
            continue
        described = describe(shape)
        severity = severity_of(described.share)
        for kind, text in _problems(shape, collections, plans.get(shape.id), rules):
            places = described.places
            found.append(Finding(kind, severity, text, _REMEDIES[kind], (described,), places))
    found.sort(key=lambda f: (_SEVERITY_ORDER[f.severity], -f.shapes[0].total_s, f.kind, f.text))
    return found


_Problem = tuple[str, str]

_REMEDIES = {
    "unbounded": (
        "ask for a page at a time (limit, and a range on the sort's path for the next page), or "
        "count and sum on the server"
    ),
    "large_skip": "go on from the last value seen: a range on the sort's path in place of skip",
    "unanchored_regex": (
        "anchor it (^) and keep the case, keep a lower-cased copy, use a collation of strength 2 "
        "for equality without case, or a search index for words"
    ),
    "negation": (
        "ask for the values that are wanted ($in), or keep a flag that says so and make a partial "
        "index on it"
    ),
    "where": "write it with query operators or $expr",
    "n_plus_one": (
        "read all at once with $in, or join with $lookup; write all at once with insert_many or "
        "bulk_write"
    ),
    "large_documents": "name the fields that are needed in a projection",
    "slow_but_indexed": (
        "look at the network, at document size and batches, at locks and at what else the server "
        "does at that time"
    ),
    "broadcast": (
        "name a value of the shard key's first field in the filter as well, and keep it wherever "
        "the _id alone is kept"
    ),
    "geo_index": (
        'create one: "2dsphere" for GeoJSON, "2d" for flat coordinates (which of the two cannot '
        "be seen from the query alone)"
    ),
}


def _problems(
    shape: WorkloadShape,
    collections: Mapping[str, CollectionInfo],
    plan: PlanFigures | None,
    rules: Rules,
) -> Iterator[_Problem]:
    yield from _unbounded(shape, rules)
    yield from _large_skip(shape, rules)
    yield from _scans(shape, collections, rules)
    yield from _javascript(shape)
    yield from _repeated(shape)
    yield from _large_documents(shape, rules)
    yield from _slow_but_indexed(shape, plan, rules)
    yield from _geo(shape, collections)
    yield from _broadcast(shape, collections)


def _unbounded(shape: WorkloadShape, rules: Rules) -> Iterator[_Problem]:
    """Source: MongoDB manual, "Optimize Query Performance", "Limit the Number of Results"."""
    if shape.operation not in ("find", "aggregate") or shape.shape.get("limit"):
        return
    stages = (shape.shape.get("pipeline") or {}).get("stages", ())
    if any(stage["stage"] in ("$limit", "$out", "$merge") for stage in stages):
        return
    returned = shape.documents / max(1, shape.calls - shape.errors)
    if returned >= rules.unbounded_documents:
        yield (
            "unbounded",
            f"returns {returned:,.0f} documents a call, without a limit",
        )


def _large_skip(shape: WorkloadShape, rules: Rules) -> Iterator[_Problem]:
    """Source: MongoDB manual, cursor.skip(), "Pagination Example", "Using Range Queries"."""
    largest = max(shape.skips, default=0)
    if largest >= rules.large_skip:
        yield (
            "large_skip",
            f"skips up to {largest:,} documents, each of which is read and thrown away",
        )


def _scans(
    shape: WorkloadShape, collections: Mapping[str, CollectionInfo], rules: Rules
) -> Iterator[_Problem]:
    """Conditions that leave an index nothing to seek to, where nothing else does.

    Sources: MongoDB manual, "Create Queries that Ensure Selectivity"; $ne; $nin; $regex, "Index
    Use"; $not.
    """
    for access in accesses_of(shape):
        info = collections.get(access.namespace)
        if info is not None and (info.count or 0) < rules.min_examined:
            continue
        for where in _alternatives(access.where):
            if any(bound.kind in _SERVING for bound in where.bounds):
                continue
            paths = {bound.path: bound for bound in where.bounds if bound.kind == "scan"}
            patterns = sorted(p for p, b in paths.items() if _is_pattern(shape, p, b.types))
            others = sorted(set(paths) - set(patterns))
            if patterns:
                yield (
                    "unanchored_regex",
                    (
                        f"looks through every value of {', '.join(patterns)} with a regular "
                        "expression that has no fixed beginning, or ignores case"
                    ),
                )
            if others:
                yield (
                    "negation",
                    (
                        f"asks only for what {', '.join(others)} is not ($ne, $nin, $not), "
                        "which is nearly everything"
                    ),
                )


def _is_pattern(shape: WorkloadShape, path: str, types: frozenset[str]) -> bool:
    return any(
        node.get("path", "") == path
        and (node["op"] == "$regex" or "regex" in (node.get("type"), *node.get("types", ())))
        for node in _nodes(shape.shape)
        if node["op"] not in ("$ne", "$nin", "$not")
    )


def _alternatives(where: Conjunction) -> Iterable[Conjunction]:
    """The conjunctions that are looked up one by one."""
    if not where.alternatives:
        return [where]
    if any(bound.kind in _SERVING for bound in where.bounds):
        return []
    return [branch for branches in where.alternatives for branch in branches]


def _javascript(shape: WorkloadShape) -> Iterator[_Problem]:
    """Source: MongoDB manual, $where, "Behavior"; $function."""
    used = {node["op"] for node in _nodes(shape.shape) if node["op"] == "$where"}
    uses = {use for node in _nodes(shape.shape) for use in node.get("uses", ())}
    used |= uses & {"$function", "$accumulator"}
    if used:
        names = ", ".join(sorted(used))
        yield (
            "where",
            f"runs JavaScript on the server for every document ({names})",
        )


def _repeated(shape: WorkloadShape) -> Iterator[_Problem]:
    if shape.repeats:
        places = ", ".join(place for place, _ in shape.repeats[:3])
        yield "n_plus_one", f"is called again and again by one task, from {places}"


def _large_documents(shape: WorkloadShape, rules: Rules) -> Iterator[_Problem]:
    """Source: MongoDB manual, "Project Fields to Return from Query"."""
    if shape.operation not in ("find", "find_one") or shape.shape.get("projection"):
        return
    if not shape.documents or not shape.bytes:
        return
    mean = shape.bytes / shape.documents
    if mean >= rules.large_document_bytes:
        yield (
            "large_documents",
            f"fetches whole documents of {mean / 1024:,.0f} KiB",
        )


def _slow_but_indexed(
    shape: WorkloadShape, plan: PlanFigures | None, rules: Rules
) -> Iterator[_Problem]:
    """Slow although hardly more is examined than returned."""
    if shape.p95_s < rules.slow_s or plan is None or not plan.trusted:
        return
    if plan.sorted_in_memory or "COLLSCAN" in plan.stages:
        return
    examined = max(plan.documents_examined, plan.keys_examined)
    if examined > 3 * plan.returned + 10 * plan.value_sets:
        return
    mean = shape.bytes / shape.documents if shape.documents and shape.bytes else 0
    size = f" of {mean / 1024:,.0f} KiB" if mean >= 1024 else ""
    returned = shape.documents / shape.calls
    yield (
        "slow_but_indexed",
        (
            "is well served by its index, and yet 5 % of its calls take "
            f"{shape.p95_s * 1e3:,.0f} ms or more, for {returned:,.1f} documents{size} a call"
        ),
    )


def _geo(shape: WorkloadShape, collections: Mapping[str, CollectionInfo]) -> Iterator[_Problem]:
    """Source: MongoDB manual, "Geospatial Queries", "Geospatial Indexes"."""
    for access in accesses_of(shape):
        info = collections.get(access.namespace)
        if info is None:
            continue
        for path in _places(access):
            served = any(
                key == path and direction in ("2dsphere", "2d")
                for index in info.indexes
                if not index.spec.hidden
                for key, direction in index.spec.keys
            )
            if not served:
                yield (
                    "geo_index",
                    f"asks for places in {path}, which has no geospatial index",
                )


def _broadcast(
    shape: WorkloadShape, collections: Mapping[str, CollectionInfo]
) -> Iterator[_Problem]:
    """Source: MongoDB manual, mongos, "Targeted Operations vs. Broadcast Operations"."""
    for access in accesses_of(shape):
        info = collections.get(access.namespace)
        if info is None or not info.shard_key:
            continue
        first, direction = info.shard_key[0]
        kinds = _TARGETING if direction == "hashed" else _TARGETING_RANGED
        if not _names(access.where, first, kinds):
            asked = {bound.path for bound in access.where.bounds}
            only_id = ": an _id alone names no shard" if asked == {"_id"} else ""
            yield (
                "broadcast",
                (
                    f"asks every shard, because it names no value of {first}, the first field of"
                    f" the shard key{only_id}"
                ),
            )


def _names(where: Conjunction, path: str, kinds: frozenset[str]) -> bool:
    """Whether every document that matches has one of some known values at a path."""
    if any(bound.path == path and bound.kind in kinds for bound in where.bounds):
        return True
    return any(
        all(_names(branch, path, kinds) for branch in branches) for branches in where.alternatives
    )


def _places(access: Access) -> list[str]:
    return sorted({b.path for b in access.where.bounds if b.kind == "geo" and b.path})


def _nodes(part: Any) -> Iterator[Mapping[str, Any]]:
    """Every node of every filter in a shape."""
    if isinstance(part, Mapping):
        if "op" in part:
            yield part
        for value in part.values():
            yield from _nodes(value)
    elif isinstance(part, (list, tuple)):
        for value in part:
            yield from _nodes(value)
