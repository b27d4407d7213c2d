"""Whether a trial speaks for a change: the one rule that verification and conclusions share."""

from __future__ import annotations

from .records import PlanFigures, Rules, ShapeTrial, Trial

__all__ = ["examined", "gain_of", "is_harmless", "is_worth", "why_not_worth"]


def examined(plan: PlanFigures) -> int:
    """Documents plus keys."""
    return plan.documents_examined + plan.keys_examined


def gain_of(trial: Trial) -> float:
    """Share of documents plus keys that the shapes using the index save; negative: it costs more.

    0 where no shape uses it.
    """
    used = [shape for shape in _trusted(trial) if shape.used]
    before = sum(examined(shape.before) for shape in used)
    after = sum(examined(shape.after) for shape in used)
    return (before - after) / before if before else 0.0


def is_worth(trial: Trial, rules: Rules) -> bool:
    """Whether a new index is used, saves enough and makes the workload no worse."""
    return why_not_worth(trial, rules) is None


def why_not_worth(trial: Trial, rules: Rules) -> str | None:
    """What speaks against a new index, as the rest of a sentence; None: nothing."""
    if trial.error is not None:
        return f"the server refused it: {trial.error}"
    shapes = _trusted(trial)
    used = [shape for shape in shapes if shape.used]
    if not used:
        return "the planner did not choose it"
    before = sum(examined(shape.before) for shape in shapes)
    after = sum(examined(shape.after) for shape in shapes)
    sorts = any(s.before.sorted_in_memory and not s.after.sorted_in_memory for s in used)
    if after > before:
        return f"all queries together would examine more: {after} keys and documents for {before}"
    gain = gain_of(trial)
    if gain < rules.min_gain and not sorts:
        return f"it saves {gain:.0%} of what is examined, less than {rules.min_gain:.0%}"
    return None


def is_harmless(trial: Trial) -> bool:
    """Whether without the index no shape examines more or sorts in memory."""
    return trial.error is None and not any(map(_is_worse, _trusted(trial)))


def _is_worse(shape: ShapeTrial) -> bool:
    if shape.after.sorted_in_memory and not shape.before.sorted_in_memory:
        return True
    # A longer index has a few keys more where a seek ends; that is no harm.
    allowed = 1.05 * examined(shape.before) + 2 * shape.before.value_sets
    return examined(shape.after) > allowed


def _trusted(trial: Trial) -> list[ShapeTrial]:
    return [shape for shape in trial.shapes if shape.before.trusted and shape.after.trusted]
