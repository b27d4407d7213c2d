"""Explain documents -> what a plan did: stages, indexes, keys, documents, sorts.

Understood are the answers to `explain` with `executionStats` of find, count, distinct, aggregate,
update, delete and findAndModify: the classic engine, the slot-based one (`winningPlan.queryPlan`),
pipelines whose head is executed by a `$cursor` stage, and the shards of a sharded cluster.

Source: https://www.mongodb.com/docs/manual/reference/explain-results/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["ExplainError", "Explained", "read_explain"]

_SCANS = frozenset({"COLLSCAN"})
_SORTS = frozenset({"SORT"})
# Of what a plan's root says, the first of these is the number of documents it dealt with; the
# stages that count or write return none.
_OUTCOMES = {
    "COUNT": ("nCounted",),
    "UPDATE": ("nMatched", "nWouldModify"),
    "DELETE": ("nWouldDelete",),
    "BATCHED_DELETE": ("nWouldDelete",),
}
# Stages of a pipeline after which its documents are no longer the collection's own.
_BLOCKING = frozenset({"$group", "$bucket", "$bucketAuto", "$sortByCount", "$facet", "$count"})


class ExplainError(ValueError):
    """A document that is no answer to explain with executionStats."""


@dataclass(frozen=True, slots=True)
class Explained:
    """One execution.

    stages: of the winning plan, outermost first, branches in their order. indexes: names, in
    order, each once. returned: documents that the plan matched, counted or would write.
    final: documents at the end of the pipeline; `returned` where there is none.
    """

    stages: tuple[str, ...]
    indexes: tuple[str, ...]
    keys_examined: int
    documents_examined: int
    returned: int
    final: int
    sorted_in_memory: bool
    scans_collection: bool
    time_ms: float


def read_explain(document: Mapping[str, Any]) -> Explained:
    """What an explain document says.

    Args:
        document: the server's answer to `explain` with verbosity executionStats or more.

    Raises:
        ExplainError: it holds no execution.
    """
    try:
        shards = document.get("shards")
        if isinstance(shards, Mapping):
            return _together([_read_pipeline(shard) for shard in shards.values()])
        return _read_pipeline(document)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ExplainError(f"no execution in the server's answer to explain: {error}") from error


def _read_pipeline(document: Mapping[str, Any]) -> Explained:
    stages = document.get("stages")
    if not stages:
        return _read_execution(document)
    head = _read_execution(stages[0]["$cursor"])
    last = stages[-1]
    final = int(last["nReturned"]) if "nReturned" in last else head.final
    found = _Found(list(head.stages), list(head.indexes))
    keys, documents = head.keys_examined, head.documents_examined
    is_head = True
    sorts, scans = head.sorted_in_memory, head.scans_collection
    for stage in stages[1:]:
        name = next(iter(stage))
        is_head = is_head and name not in _BLOCKING
        found.stages.append(name)
        sorts = sorts or (is_head and name == "$sort")
        keys += int(stage.get("totalKeysExamined", 0))
        documents += int(stage.get("totalDocsExamined", 0))
        scans = scans or bool(stage.get("collectionScans"))
        found.add_indexes(stage.get("indexesUsed", ()))
    return Explained(
        stages=tuple(found.stages),
        indexes=tuple(found.indexes),
        keys_examined=keys,
        documents_examined=documents,
        returned=head.returned,
        final=final,
        sorted_in_memory=sorts,
        scans_collection=scans,
        time_ms=head.time_ms,
    )


def _read_execution(document: Mapping[str, Any]) -> Explained:
    winner = document["queryPlanner"]["winningPlan"]
    execution = document["executionStats"]
    if not execution.get("executionSuccess", True):
        raise ExplainError(str(execution.get("errorMessage", "the execution failed")))
    shards = winner.get("shards")
    if shards:
        # mongos gives plans and executions of its shards in two lists, in the same order.
        runs = {run["shardName"]: run for run in execution["executionStages"]["shards"]}
        return _together(
            [
                _read_execution(
                    {
                        "queryPlanner": {"winningPlan": plan["winningPlan"]},
                        "executionStats": {
                            **execution,
                            **_totals(runs[plan["shardName"]]),
                            "executionStages": runs[plan["shardName"]]["executionStages"],
                        },
                    }
                )
                for plan in shards
            ]
        )
    found = _Found([], [])
    found.walk(winner.get("queryPlan", winner))
    root = execution.get("executionStages", {})
    returned = int(execution["nReturned"])
    for stage in _nodes(root):
        names = _OUTCOMES.get(str(stage.get("stage")), ())
        known = [int(stage[name]) for name in names if name in stage]
        if known:
            returned = max(known)
            break
    return Explained(
        stages=tuple(found.stages),
        indexes=tuple(found.indexes),
        keys_examined=int(execution["totalKeysExamined"]),
        documents_examined=int(execution["totalDocsExamined"]),
        returned=returned,
        final=returned,
        sorted_in_memory=bool(_SORTS.intersection(found.stages)),
        scans_collection=bool(_SCANS.intersection(found.stages)) or found.scans,
        time_ms=float(execution.get("executionTimeMillis", 0)),
    )


def _totals(run: Mapping[str, Any]) -> dict[str, Any]:
    names = ("nReturned", "totalKeysExamined", "totalDocsExamined", "executionTimeMillis")
    return {name: run[name] for name in names if name in run}


class _Found:
    """Stages and indexes of a plan, as they are met."""

    __slots__ = ("indexes", "scans", "stages")

    def __init__(self, stages: list[str], indexes: list[str]) -> None:
        self.stages = stages
        self.indexes = indexes
        self.scans = False

    def walk(self, plan: Mapping[str, Any]) -> None:
        for stage in _nodes(plan):
            if "stage" in stage:
                self.stages.append(str(stage["stage"]))
            if "indexName" in stage:
                self.add_indexes((stage["indexName"],))
            if stage.get("strategy") == "NestedLoopJoin":  # EQ_LOOKUP that scans the other side
                self.scans = True

    def add_indexes(self, names: Sequence[Any]) -> None:
        for name in names:
            if str(name) not in self.indexes:
                self.indexes.append(str(name))


def _nodes(plan: Any) -> Iterator[Mapping[str, Any]]:
    """A plan's stages, outermost first."""
    if not isinstance(plan, Mapping):
        return
    yield plan
    for name, value in plan.items():
        # inputStage, outerStage, innerStage, thenStage, elseStage, queryPlan ...; inputStages.
        if name.endswith("Stage") or name == "queryPlan":
            yield from _nodes(value)
        elif name == "inputStages" or (name == "shards" and isinstance(value, list)):
            for inner in value:
                yield from _nodes(inner)


def _together(parts: Sequence[Explained]) -> Explained:
    if not parts:
        raise ExplainError("no shard executed anything")
    found = _Found([], [])
    for part in parts:
        found.add_indexes(part.indexes)
    return Explained(
        stages=parts[0].stages,
        indexes=tuple(found.indexes),
        keys_examined=sum(part.keys_examined for part in parts),
        documents_examined=sum(part.documents_examined for part in parts),
        returned=sum(part.returned for part in parts),
        final=sum(part.final for part in parts),
        sorted_in_memory=any(part.sorted_in_memory for part in parts),
        scans_collection=any(part.scans_collection for part in parts),
        time_ms=max(part.time_ms for part in parts),
    )
