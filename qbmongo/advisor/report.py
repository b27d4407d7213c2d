"""What the advisor says: recommendations, findings, what was tried in vain, and what was read.

`Report.to_dict()` is the JSON form, `{"schema": 1, ...}`; docs/advisor.md gives it in full.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .index_documents import index_options, readable_value
from .records import Candidate, IndexSpec, PlanFigures, Trial

__all__ = [
    "SCHEMA",
    "SEVERITIES",
    "Figures",
    "Finding",
    "Inputs",
    "Recommendation",
    "Rejected",
    "Report",
    "ServedShape",
    "Severity",
]

SCHEMA = 1

Severity = Literal["high", "medium", "low"]
SEVERITIES: tuple[Severity, ...] = ("high", "medium", "low")


@dataclass(frozen=True, slots=True)
class ServedShape:
    """A shape of the workload as a recommendation or finding names it.

    share: of the time of the whole workload, 0 to 1. bins: its latency histogram
    (docs/profile.md). before, after: None where nothing was verified.
    """

    id: str
    text: str
    namespace: str
    calls: int
    total_s: float
    share: float
    documents: int = 0
    p50_s: float = 0.0
    p95_s: float = 0.0
    p99_s: float = 0.0
    bins: tuple[tuple[int, int], ...] = ()
    places: tuple[tuple[str, int], ...] = ()
    before: PlanFigures | None = None
    after: PlanFigures | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """The shapes of a recommendation taken together, weighed by their calls.

    Means per call. estimated_s: time of the workload's calls; before: as measured, after: by the
    share of what is examined.
    """

    keys_examined: float
    documents_examined: float
    returned: float
    sorted_in_memory: bool
    estimated_s: float
    stages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One thing to do.

    id: stable. action: "create", "unhide", "hide", "drop". spec: the index. verified: tried with
    the real queries on a sample, and it helped (or did no harm). before, after, sampled_documents:
    figures of the sample and its size; None where not verified.
    depends_on: ids of recommendations to carry out and check first. size_bytes: of the index, on
    the whole collection; insert_us: microseconds it adds to (or takes from) an insert.
    mongosh, pymongo: commands to paste; rollback: (mongosh, pymongo) that undo them.
    steps: the safe order in words.
    """

    id: str
    action: Literal["create", "unhide", "hide", "drop"]
    spec: IndexSpec
    severity: Severity
    verified: bool
    why: str
    saved_s: float = 0.0
    share: float = 0.0
    before: Figures | None = None
    after: Figures | None = None
    sampled_documents: int | None = None
    shapes: tuple[ServedShape, ...] = ()
    places: tuple[tuple[str, int], ...] = ()
    size_bytes: int | None = None
    insert_us_before: float | None = None
    insert_us_after: float | None = None
    mongosh: str = ""
    pymongo: str = ""
    rollback_mongosh: str = ""
    rollback_pymongo: str = ""
    depends_on: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that no index will save. kind: see docs/advisor.md."""

    kind: str
    severity: Severity
    text: str
    remedy: str
    shapes: tuple[ServedShape, ...] = ()
    places: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """A candidate that was tried, or not worth trying. trial: None where it was not tried."""

    candidate: Candidate
    reason: str
    trial: Trial | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was read.

    sources: one line for each profile, log or profiler collection. started_s, ended_s: time that
    the workload covers, wall clock. where: on what it was verified; why_not: why it was not.
    notes: what could not be read, or was left out, one line each.
    """

    sources: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    shapes: int = 0
    calls: int = 0
    total_s: float = 0.0
    started_s: float = 0.0
    ended_s: float = 0.0
    sampled_documents: int = 0
    members: tuple[str, ...] = ()
    where: str | None = None
    why_not: str | None = None
    elapsed_s: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """The advice. workload: every shape of it, by total time (for charts and tables)."""

    recommendations: tuple[Recommendation, ...] = ()
    findings: tuple[Finding, ...] = ()
    tried_and_rejected: tuple[Rejected, ...] = ()
    inputs: Inputs = field(default_factory=Inputs)
    workload: tuple[ServedShape, ...] = ()

    def worst(self) -> Severity | None:
        """The highest severity of recommendations and findings; None where there are none."""
        found = {item.severity for item in self.recommendations}
        found |= {item.severity for item in self.findings}
        return next((severity for severity in SEVERITIES if severity in found), None)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: dicts, lists, strings, numbers, booleans and None only."""
        return {
            "schema": SCHEMA,
            "recommendations": [_recommendation(item) for item in self.recommendations],
            "findings": [_finding(item) for item in self.findings],
            "tried_and_rejected": [_rejected(item) for item in self.tried_and_rejected],
            "inputs": _inputs(self.inputs),
            "workload": [_shape(shape) for shape in self.workload],
        }


def _recommendation(item: Recommendation) -> dict[str, Any]:
    return {
        "id": item.id,
        "action": item.action,
        "severity": item.severity,
        "verified": item.verified,
        **_spec(item.spec),
        "why": item.why,
        "rules": list(item.rules),
        "saved_s": item.saved_s,
        "share": item.share,
        "before": _figures(item.before),
        "after": _figures(item.after),
        "sampled_documents": item.sampled_documents,
        "size_bytes": item.size_bytes,
        "insert_us_before": item.insert_us_before,
        "insert_us_after": item.insert_us_after,
        "shapes": [_shape(shape) for shape in item.shapes],
        "places": _places(item.places),
        "commands": {"mongosh": item.mongosh, "pymongo": item.pymongo},
        "rollback": {"mongosh": item.rollback_mongosh, "pymongo": item.rollback_pymongo},
        "depends_on": list(item.depends_on),
        "steps": list(item.steps),
    }


def _finding(item: Finding) -> dict[str, Any]:
    return {
        "kind": item.kind,
        "severity": item.severity,
        "text": item.text,
        "remedy": item.remedy,
        "shapes": [_shape(shape) for shape in item.shapes],
        "places": _places(item.places),
    }


def _rejected(item: Rejected) -> dict[str, Any]:
    return {
        **_spec(item.candidate.spec),
        "shapes": list(item.candidate.shapes),
        "rules": list(item.candidate.rules),
        "reason": item.reason,
        "trial": None if item.trial is None else _trial(item.trial),
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "documents": trial.documents,
        "insert_us_before": trial.insert_us_before,
        "insert_us_after": trial.insert_us_after,
        "index_bytes_per_document": trial.index_bytes_per_document,
        "error": trial.error,
        "shapes": [
            {
                "id": shape.shape,
                "used": shape.used,
                "before": _plan(shape.before),
                "after": _plan(shape.after),
            }
            for shape in trial.shapes
        ],
    }


def _inputs(inputs: Inputs) -> dict[str, Any]:
    return {
        "sources": list(inputs.sources),
        "namespaces": list(inputs.namespaces),
        "shapes": inputs.shapes,
        "calls": inputs.calls,
        "total_s": inputs.total_s,
        "started_s": inputs.started_s,
        "ended_s": inputs.ended_s,
        "sampled_documents": inputs.sampled_documents,
        "members": list(inputs.members),
        "verified_on": inputs.where,
        "not_verified_because": inputs.why_not,
        "elapsed_s": inputs.elapsed_s,
        "notes": list(inputs.notes),
    }


def _shape(shape: ServedShape) -> dict[str, Any]:
    return {
        "id": shape.id,
        "text": shape.text,
        "namespace": shape.namespace,
        "calls": shape.calls,
        "total_s": shape.total_s,
        "share": shape.share,
        "documents": shape.documents,
        "p50_s": shape.p50_s,
        "p95_s": shape.p95_s,
        "p99_s": shape.p99_s,
        "bins": [list(pair) for pair in shape.bins],
        "places": _places(shape.places),
        "before": _plan(shape.before),
        "after": _plan(shape.after),
    }


def _plan(plan: PlanFigures | None) -> dict[str, Any] | None:
    if plan is None:
        return None
    return {
        "stages": list(plan.stages),
        "indexes": list(plan.indexes),
        "keys_examined": plan.keys_examined,
        "documents_examined": plan.documents_examined,
        "returned": plan.returned,
        "sorted_in_memory": plan.sorted_in_memory,
        "time_ms": plan.time_ms,
        "value_sets": plan.value_sets,
    }


def _figures(figures: Figures | None) -> dict[str, Any] | None:
    if figures is None:
        return None
    return {
        "keys_examined": figures.keys_examined,
        "documents_examined": figures.documents_examined,
        "returned": figures.returned,
        "sorted_in_memory": figures.sorted_in_memory,
        "estimated_s": figures.estimated_s,
        "stages": list(figures.stages),
    }


def _spec(spec: IndexSpec) -> dict[str, Any]:
    options: Mapping[str, Any] = index_options(spec)
    return {
        "namespace": spec.namespace,
        "name": spec.name,
        "keys": [list(pair) for pair in spec.keys],
        "options": {name: readable_value(value) for name, value in options.items()},
    }


def _places(places: tuple[tuple[str, int], ...]) -> list[dict[str, Any]]:
    return [{"place": place, "sampled": sampled} for place, sampled in places]
