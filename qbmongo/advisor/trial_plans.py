"""Runs of the workload's questions, and what two states of the indexes compare to. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .explains import Explained
from .records import PlanFigures, ShapeTrial

__all__ = ["Run", "Runs", "figures_of", "shapes_using", "trial_shapes"]


@dataclass(frozen=True, slots=True)
class Run:
    """One question explained. trusted: the explain's own count was the real one."""

    explained: Explained
    trusted: bool


#: Shape id -> the runs of its questions, in their order; None: the server refused to explain it.
Runs = Mapping[str, Sequence[Run | None]]


def figures_of(runs: Sequence[Run | None], others: Sequence[Run | None]) -> PlanFigures | None:
    """Totals over the questions that are trusted in both states.

    Args:
        runs: of one shape in the state wanted.
        others: of the same shape in the state that it is compared with.

    Returns:
        None where nothing was run. Not trusted: what was run is no evidence.
    """
    both = [
        (run, other)
        for run, other in zip(runs, others, strict=True)
        if run is not None and other is not None
    ]
    if not both:
        return None
    kept = [run.explained for run, other in both if run.trusted and other.trusted]
    trusted = bool(kept)
    if not kept:
        kept = [run.explained for run, _ in both]
    return PlanFigures(
        stages=kept[0].stages,
        indexes=tuple(dict.fromkeys(name for one in kept for name in one.indexes)),
        keys_examined=sum(one.keys_examined for one in kept),
        documents_examined=sum(one.documents_examined for one in kept),
        returned=sum(one.returned for one in kept),
        sorted_in_memory=any(one.sorted_in_memory for one in kept),
        time_ms=sum(one.time_ms for one in kept),
        value_sets=len(kept),
        trusted=trusted,
    )


def trial_shapes(before: Runs, after: Runs, index: str | None) -> tuple[ShapeTrial, ...]:
    """Every shape that was run in both states.

    Args:
        index: name of the index whose use is asked for; None: of none.
    """
    found = []
    for shape, runs in after.items():
        if shape not in before:
            continue
        figures_before = figures_of(before[shape], runs)
        figures_after = figures_of(runs, before[shape])
        if figures_before is None or figures_after is None:
            continue
        used = figures_after.trusted and index is not None and index in figures_after.indexes
        found.append(ShapeTrial(shape, figures_before, figures_after, used))
    return tuple(found)


def shapes_using(runs: Runs, index: str) -> list[str]:
    """Ids of the shapes of which a run used an index, whether it is trusted or not."""
    return [
        shape
        for shape, each in runs.items()
        if any(run is not None and index in run.explained.indexes for run in each)
    ]
