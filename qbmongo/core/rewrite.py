"""Reads written another way, with the same answer, that cost the server less.

The rules are tried in their order, again and again until none fires. Which of them can fire at all
depends on the names of the operators and stages alone and is remembered for each set of names, so
that a read that no rule can touch costs one look at its names.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

from ..records import ReadOp
from .rewrite_filters import FILTER_RULES
from .rewrite_pipelines import PIPELINE_RULES
from .rewrite_rule import Rule, Step
from .trust import Facts

__all__ = ["RULES", "Rewriter", "Rule", "Step", "rewrite"]

RULES: tuple[Rule, ...] = (*FILTER_RULES, *PIPELINE_RULES)

_MAX_STEPS = 32
_MAX_REMEMBERED = 1_000
_MAX_DEPTH = 8
_NO_NAMES: frozenset[str] = frozenset()
_FILTERED = frozenset({"find", "find_one", "count_documents", "distinct"})


class Rewriter:
    """The rules that are on, and which of them each set of names can be one for.

    off: names of rules that are switched off.
    """

    __slots__ = ("_known", "rules")

    def __init__(self, off: Collection[str] = ()) -> None:
        self.rules = tuple(rule for rule in RULES if rule.name not in off)
        self._known: dict[Any, tuple[Rule, ...]] = {}

    def rewrite(self, op: ReadOp, facts: Facts | None) -> tuple[ReadOp, tuple[Step, ...]]:
        """A read with the same answer and the steps to it; without steps the read itself.

        Args:
            op: the read; never changed, the result may share parts with it.
            facts: what is known of its namespace, or None.
        """
        rules = self._candidates(op)
        if not rules:
            return op, ()
        steps: list[Step] = []
        while len(steps) < _MAX_STEPS:
            for rule in rules:
                changed = rule.apply(op, facts)
                if changed is not None:
                    op = changed
                    steps.append(Step(rule, op))
                    break
            else:
                break
        return op, tuple(steps)

    def _candidates(self, op: ReadOp) -> tuple[Rule, ...]:
        pipeline = op.pipeline
        names: Any
        if pipeline is None:
            filter = op.filter
            if type(filter) is not dict:
                return ()
            found = _operators(filter, None, 0)
            if found is None:
                return ()
            names = frozenset(found)
        else:
            names = tuple([name for stage in pipeline for name in stage])
            if pipeline and type(pipeline[0]) is dict and "$match" in pipeline[0]:
                found = _operators(pipeline[0]["$match"], None, 0)
                if found is not None:
                    names = (*names, *sorted(found))
        rules = self._known.get(names)
        if rules is None:
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            present = frozenset(names)
            rules = tuple(rule for rule in self.rules if rule.may_fire(present))
            self._known[names] = rules
        return rules


def _operators(filter: Any, found: set[str] | None, depth: int) -> set[str] | None:
    """Names of a filter's operators; None where there is none."""
    if type(filter) is not dict or depth > _MAX_DEPTH:
        return found
    for name, value in filter.items():
        kind = type(value)
        if kind is dict:
            for operator in value:
                if operator[:1] == "$":
                    if found is None:
                        found = set()
                    found.add(operator)
        if name[:1] == "$":
            if found is None:
                found = set()
            found.add(name)
            if kind is list:
                for branch in value:
                    found = _operators(branch, found, depth + 1)
    return found


@lru_cache(maxsize=64)
def _rewriter(off: frozenset[str]) -> Rewriter:
    return Rewriter(off)


def rewrite(
    op: ReadOp, facts: Facts | None = None, off: Collection[str] = ()
) -> tuple[ReadOp, tuple[Step, ...]]:
    """`Rewriter.rewrite` with the rules that are not switched off."""
    return _rewriter(frozenset(off)).rewrite(op, facts)
