"""Shape of the workload -> its accesses: each reads one collection once or more per call.

A find has one access; an aggregation one for the head of its pipeline and one for every collection
it joins; a bulk write one for each kind of request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .conjunctions import Bound, Conjunction, conjunction, index_path
from .records import Keys, WorkloadShape

__all__ = ["Access", "Sort", "accesses_of", "paths_of"]

Sort = tuple[tuple[str, int], ...]

_SINGLE = frozenset(
    {
        *("find_one", "update_one", "replace_one", "delete_one"),
        *("find_one_and_update", "find_one_and_replace", "find_one_and_delete"),
    }
)
_READS_WITH_PROJECTION = frozenset({"find", "find_one"})
_FILTERED = frozenset(
    {*_SINGLE, "find", "count_documents", "distinct", "update_many", "delete_many"}
)
# Kinds of bulk write requests, as the driver and as qbmongo name them.
_SINGLE_REQUESTS = frozenset({"UpdateOne", "ReplaceOne", "DeleteOne", *_SINGLE})
_USUAL_LIMIT = 20  # where a limit was seen to be there, but neither its value nor what came back
_RECURSIONS = 10  # lookups of one $graphLookup, if nothing tells


@dataclass(frozen=True, slots=True)
class Access:
    """One way a shape reads one collection.

    sort: () where there is none that an index could give. sorted: a sort is asked for. limit: the
    documents wanted, None: all. projection: the paths read, where nothing else is; None: the whole
    document. collation: as the program gave it, None: the collection's default.
    purpose: "read", "count", "distinct", "write" or "join". executions: per call.
    returned: documents that matched per execution, where that was seen. hint: as given.
    """

    shape: str
    namespace: str
    where: Conjunction
    calls: int
    sort: Sort = ()
    sorted: bool = False
    limit: int | None = None
    skip: int = 0
    projection: tuple[str, ...] | None = None
    collation: Mapping[str, Any] | None = field(default=None, hash=False)
    purpose: str = "read"
    key: str | None = None
    executions: float = 1.0
    returned: float | None = None
    hint: str | Keys | None = None


def accesses_of(shape: WorkloadShape) -> tuple[Access, ...]:
    """Every access of a shape; empty where nothing of it could use an index (inserts, "other")."""
    form = shape.shape
    operation = shape.operation
    if operation == "aggregate":
        return tuple(_of_pipeline(shape, form.get("pipeline") or {}, shape.namespace, 1.0))
    if operation == "bulk_write":
        return tuple(_of_requests(shape))
    if operation not in _FILTERED:
        return ()
    sort, is_sorted = _sort(form.get("sort"))
    limit = _limit(shape)
    purpose = {"count_documents": "count", "distinct": "distinct", "find": "read"}.get(
        operation, "read" if operation == "find_one" else "write"
    )
    return (
        Access(
            shape=shape.id,
            namespace=shape.namespace,
            where=conjunction(form.get("filter")),
            calls=shape.calls,
            sort=sort,
            sorted=is_sorted,
            limit=limit,
            skip=_middle(shape.skips) if form.get("skip") else 0,
            projection=_projected(form) if operation in _READS_WITH_PROJECTION else None,
            collation=form.get("collation"),
            purpose=purpose,
            key=form.get("key"),
            returned=_matched(shape, limit),
            hint=_hint(form.get("hint")),
        ),
    )


def paths_of(workload: Iterable[WorkloadShape]) -> dict[str, frozenset[str]]:
    """The paths that statistics are wanted for, by namespace, joined collections included."""
    found: dict[str, set[str]] = {}
    for shape in workload:
        for access in accesses_of(shape):
            paths = found.setdefault(access.namespace, set())
            _collect_paths(access.where, paths)
            paths.update(path for path, _ in access.sort)
            paths.update(access.projection or ())
            if access.key is not None:
                paths.add(access.key)
    return {namespace: frozenset(paths) for namespace, paths in found.items()}


def _collect_paths(where: Conjunction, paths: set[str]) -> None:
    paths.update(bound.path for bound in where.bounds)
    for branches in where.alternatives:
        for branch in branches:
            _collect_paths(branch, paths)


def _sort(pairs: Any) -> tuple[Sort, bool]:
    """The sort an index can give; of one with a score or an odd direction none."""
    if not pairs:
        return (), False
    if any(direction not in (1, -1) or not index_path(path) for path, direction in pairs):
        return (), True
    return tuple((path, int(direction)) for path, direction in pairs), True


def _limit(shape: WorkloadShape) -> int | None:
    if shape.operation in _SINGLE:
        return 1
    if not shape.shape.get("limit"):
        return None
    if shape.limits:
        return _middle(shape.limits)
    returned = shape.documents / shape.calls if shape.calls else 0
    return max(1, round(returned)) if shape.documents else _USUAL_LIMIT


def _middle(values: Sequence[int]) -> int:
    return sorted(values)[len(values) // 2] if values else 0


def _matched(shape: WorkloadShape, limit: int | None) -> float | None:
    """Documents that a call's filter selects, where what came back tells."""
    if limit is not None or shape.operation not in ("find", "update_many", "delete_many"):
        return None
    good = shape.calls - shape.errors
    return shape.documents / good if good > 0 and shape.documents else None


def _projected(form: Mapping[str, Any]) -> tuple[str, ...] | None:
    pairs = form.get("projection")
    if not pairs:
        return None
    kept = [path for path, value in pairs if value == 1]
    if any(value == "computed" for _, value in pairs) or not kept:
        return None
    if not any(path == "_id" for path, _ in pairs):
        kept.append("_id")
    return tuple(kept)


def _hint(hint: Any) -> str | Keys | None:
    if hint is None or isinstance(hint, str):
        return hint
    return tuple((path, direction) for path, direction in hint)


def _of_requests(shape: WorkloadShape) -> Iterable[Access]:
    requests = [request for request in shape.shape.get("requests", ()) if request["filter"]]
    if not requests:
        return
    per_call = shape.documents / shape.calls if shape.calls else 1.0
    for request in requests:
        yield Access(
            shape=shape.id,
            namespace=shape.namespace,
            where=conjunction(request["filter"]),
            calls=shape.calls,
            limit=1 if request["kind"] in _SINGLE_REQUESTS else None,
            purpose="write",
            executions=max(1.0, per_call) / len(requests),
            collation=shape.shape.get("collation"),
        )


class _Head:
    """What the leading stages of a pipeline ask of the collection itself."""

    def __init__(self) -> None:
        self.where = Conjunction()
        self.sort: Sort = ()
        self.sorted = False
        self.limited = False
        self.changed: set[str] = set()  # paths whose values are no longer the documents' own
        self.opaque = False  # a stage after which nothing can be moved in front
        self.geo = False

    def read(self, stage: Mapping[str, Any], at: int) -> None:
        name = stage["stage"]
        if name == "$match":
            self._match(conjunction(stage.get("filter")))
        elif name == "$sort":
            if not self.opaque and not self.sorted and not self.limited:
                sort, self.sorted = _sort(stage.get("sort"))
                if not any(self._is_changed(path) for path, _ in sort):
                    self.sort = sort
        elif name in ("$limit", "$skip"):
            self.limited = True
        elif name in ("$project", "$unset"):
            pairs = stage.get("projection", ())
            if name == "$project" and any(value == 1 for path, value in pairs if path != "_id"):
                self.opaque = self.opaque or any(value == "computed" for _, value in pairs)
            self.changed.update(path for path, value in pairs if value != 1)
        elif name in ("$addFields", "$set"):
            self.changed.update(stage.get("fields", ()))
        elif name == "$unwind":
            self.changed.add(str(stage.get("path", "")).lstrip("$"))
        elif name == "$geoNear" and at == 0:
            self.geo = True
            self._match(conjunction(stage.get("filter")))
            bound = Bound(stage.get("key", ""), "geo")
            self.where = self.where.joined(Conjunction((bound,)))
        else:
            self.opaque = True

    def _match(self, found: Conjunction) -> None:
        if self.opaque or self.limited or any(map(self._is_changed, _paths(found))):
            return
        self.where = self.where.joined(found)

    def _is_changed(self, path: str) -> bool:
        return any(
            path == other or path.startswith(f"{other}.") or other.startswith(f"{path}.")
            for other in self.changed
        )


def _paths(where: Conjunction) -> set[str]:
    paths: set[str] = set()
    _collect_paths(where, paths)
    return paths


def _of_pipeline(
    shape: WorkloadShape, pipeline: Mapping[str, Any], namespace: str, executions: float
) -> Iterable[Access]:
    """The access of a pipeline's head, and those of everything it joins.

    Source: MongoDB manual, "Aggregation Pipeline Optimization": a $match moves in front of $sort,
    $project, $addFields and $unwind where it does not depend on what they compute.
    """
    stages = pipeline.get("stages", ())
    head = _Head()
    joins: list[Access] = []
    main = namespace == shape.namespace and executions == 1.0
    for at, stage in enumerate(stages):
        if at < pipeline.get("head", 0):
            head.read(stage, at)
    limit = None
    if head.limited:
        returned = shape.documents / shape.calls if shape.calls else 0
        whole = pipeline.get("head", 0) == len(stages)
        limit = _middle(shape.limits) or (
            max(1, round(returned)) if whole and main and returned else _USUAL_LIMIT
        )
    if not _starts_elsewhere(stages):
        yield Access(
            shape=shape.id,
            namespace=namespace,
            where=head.where,
            calls=shape.calls,
            sort=head.sort,
            sorted=head.sorted,
            limit=limit,
            collation=shape.shape.get("collation"),
            purpose="read" if main else "join",
            executions=executions,
            hint=_hint(shape.shape.get("hint")) if main else None,
        )
    for stage in _joining(stages):
        joins.extend(_of_join(shape, stage, executions, limit))
    yield from joins


def _starts_elsewhere(stages: Sequence[Mapping[str, Any]]) -> bool:
    return bool(stages) and stages[0]["stage"] in (
        *("$documents", "$collStats", "$indexStats", "$planCacheStats", "$currentOp"),
        *(
            "$changeStream",
            "$queryStats",
            "$searchMeta",
            "$search",
            "$vectorSearch",
            "$listSessions",
        ),
    )


def _joining(stages: Sequence[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    for stage in stages:
        if "from" in stage:
            yield stage
        for inner in stage.get("pipelines", ()):
            yield from _joining(inner.get("stages", ()))


def _of_join(
    shape: WorkloadShape, stage: Mapping[str, Any], executions: float, limit: int | None
) -> Iterable[Access]:
    """The foreign side of $lookup, $graphLookup and $unionWith.

    Source: MongoDB manual, $lookup, "Performance Considerations"; $graphLookup, connectToField.
    """
    database = shape.namespace.partition(".")[0]
    # A name with a dot is a collection's; other databases cannot be joined.
    namespace = f"{database}.{stage['from']}"
    pipeline = stage.get("pipeline") or {}
    if stage["stage"] == "$unionWith":
        yield from _of_pipeline(shape, pipeline, namespace, executions)
        return
    times = executions * (limit or _returned_per_call(shape))
    if stage["stage"] == "$graphLookup":
        times *= _RECURSIONS
    where = conjunction(stage.get("filter"))
    key = stage.get("foreign_field")
    if key is not None and index_path(key):
        where = Conjunction((Bound(key, "point", frozenset({"other"})),)).joined(where)
    stages = pipeline.get("stages", ())
    head = _Head()
    for at, inner in enumerate(stages[: pipeline.get("head", 0)]):
        if inner["stage"] == "$match" and not head.opaque:
            head.where = head.where.joined(_correlated(inner.get("filter", ())))
        head.read(inner, at)
    if where.bounds or head.where.bounds or head.where.alternatives:
        yield Access(
            shape=shape.id,
            namespace=namespace,
            where=where.joined(head.where),
            calls=shape.calls,
            sort=head.sort,
            sorted=head.sorted,
            limit=_USUAL_LIMIT if head.limited else None,
            collation=shape.shape.get("collation"),
            purpose="join",
            executions=times,
        )
    for inner in _joining(stages):
        yield from _of_join(shape, inner, times, None)


def _returned_per_call(shape: WorkloadShape) -> float:
    return max(1.0, shape.documents / shape.calls) if shape.calls else 1.0


def _correlated(nodes: Iterable[Mapping[str, Any]]) -> Conjunction:
    """`{$expr: {$eq: ["$field", "$$variable"]}}` in a joined pipeline is an equality.

    Only where the expression compares one field alone, so that it is certain which.

    Source: MongoDB manual, $lookup, "Correlated subqueries ... index use with $expr".
    """
    bounds = []
    for node in nodes:
        if node["op"] == "$expr":
            uses = set(node.get("uses", ()))
            fields = {use for use in uses if use[0] == "$" and "$$" not in use} - _OPERATORS
            variables = {use for use in uses if use[:2] == "$$"}
            compares = "$eq" in uses and not uses & {"$or", "$not", "$ne", "$in"}
            if compares and len(fields) == 1 and variables:
                path = fields.pop()[1:]
                if index_path(path):
                    bounds.append(Bound(path, "point", frozenset({"other"})))
    return Conjunction(tuple(bounds))


_OPERATORS = frozenset({"$eq", "$and", "$gt", "$gte", "$lt", "$lte", "$literal"})
