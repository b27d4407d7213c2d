"""`client.qb.explain_rewrite(...)`: how a query would be rewritten, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.rewrite import Rewriter
from ..records import ReadKind, ReadOp
from ..settings import Settings

__all__ = ["RewriteExplanation", "RewriteStep", "explain_rewrite"]

# Keyword arguments of the driver's methods -> the command's names.
_FIELDS = {"allow_disk_use": "allowDiskUse", "batch_size": "batchSize", "max_time_ms": "maxTimeMS"}


@dataclass(frozen=True, slots=True)
class RewriteStep:
    """One rule that fires.

    what, condition, gain: what the rule does, when that is an equivalence, what the server is
    spared. source: what it rests on. query: the filter or pipeline after it.
    """

    rule: str
    what: str
    condition: str
    gain: str
    source: str
    query: Any


@dataclass(frozen=True, slots=True)
class RewriteExplanation:
    """What is sent for a query.

    query: as it was given; sent: as it is sent (the same object where nothing fires). off: rules
    that are switched off in this namespace, or None where rewriting is off altogether.
    """

    namespace: str
    query: Any
    sent: Any
    steps: tuple[RewriteStep, ...]
    off: tuple[str, ...] | None

    def __str__(self) -> str:
        if self.off is None:
            return f"{self.namespace}: rewriting is off; sent as written"
        if not self.steps:
            return f"{self.namespace}: no rule fires; sent as written"
        lines = [f"{self.namespace}: {self.query!r}"]
        for step in self.steps:
            lines += [
                f"  {step.rule}: {step.what}",
                f"    equal if: {step.condition}",
                f"    spares: {step.gain}",
                f"    source: {step.source}",
                f"    -> {step.query!r}",
            ]
        return "\n".join(lines)


def explain_rewrite(
    settings: Settings, collection: Any, query: Any, options: Mapping[str, Any]
) -> RewriteExplanation:
    """See `client.qb.explain_rewrite`."""
    namespace = getattr(collection, "full_name", collection)
    if not isinstance(namespace, str) or "." not in namespace.strip("."):
        raise ValueError(f"collection is {collection!r}; allowed is 'database.collection'")
    kind: ReadKind
    if isinstance(query, Mapping):
        kind, filter, pipeline = "find", query, None
    elif isinstance(query, Sequence) and not isinstance(query, (str, bytes)):
        kind, filter, pipeline = "aggregate", {}, query
    else:
        raise TypeError(f"query is {query!r}; allowed is a filter or a pipeline")
    part = settings.for_namespace(namespace).rewrite
    if part is None:
        return RewriteExplanation(namespace, query, query, (), None)
    given = {_FIELDS.get(name, name): it for name, it in options.items() if it is not None}
    given.pop("session", None)  # sees the same documents for both forms
    op = ReadOp(
        kind,
        namespace,
        filter,
        given.pop("projection", None),
        given.pop("sort", None),
        given.pop("skip", 0),
        given.pop("limit", 0),
        given or None,
        pipeline,
    )
    _, steps = Rewriter(part.off).rewrite(op, None)
    explained = tuple(
        RewriteStep(
            step.rule.name,
            step.rule.what,
            step.rule.condition,
            step.rule.gain,
            step.rule.source,
            step.op.filter if pipeline is None else step.op.pipeline,
        )
        for step in steps
    )
    sent = explained[-1].query if explained else query
    return RewriteExplanation(namespace, query, sent, explained, part.off)
