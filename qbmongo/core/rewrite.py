"""Reads written another way, with the same answer, that cost the server less.

The rules are tried in their order, again and again until none fires. Which of them can fire at all
depends on the names of the operators and stages alone and is remembered; so is the shape of a
pipeline that none of its rules changed, if they decide by the shape alone. So a read that no rule
touches costs one look at its names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from itertools import chain
from marshal import dumps as _written
from operator import itemgetter
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
_MAX_SHAPES = 64
_MAX_SHAPE_BYTES = 4_000
_MAX_DEPTH = 8
_MAX_STAGES = 50
_VALUED = frozenset({"$limit", "$match", "$skip"})
# Between the names of a pipeline's stages and those within them.
_END = ""

# Where one of these is found nothing is rewritten: they see more than values of fields, or write.
_LEFT_ALONE = frozenset(
    {
        "$changeStream",
        "$function",
        "$geoIntersects",
        "$geoNear",
        "$geoWithin",
        "$merge",
        "$near",
        "$nearSphere",
        "$out",
        "$search",
        "$searchMeta",
        "$text",
        "$vectorSearch",
        "$where",
    }
)
# Options that change neither which documents there are nor how a query may be planned.
_OPTIONS = frozenset(
    {"allowDiskUse", "batchSize", "collation", "comment", "cursor", "maxTimeMS", "readConcern"}
)


class Rewriter:
    """The rules that are on, and what is remembered of reads that they cannot change.

    off: names of rules that are switched off.
    """

    __slots__ = ("_known", "rules")

    def __init__(self, off: Collection[str] = ()) -> None:
        self.rules = tuple(rule for rule in RULES if rule.name not in off)
        self._known: dict[tuple[str, ...], _Candidates] = {}

    def rewrite(self, op: ReadOp, facts: Facts | None) -> tuple[ReadOp, tuple[Step, ...]]:
        """A read with the same answer and the steps to it; without steps the read itself.

        Args:
            op: the read; never changed, the result may share parts with it.
            facts: what is known of its namespace, or None.
        """
        pipeline = op.pipeline
        if pipeline is None:
            try:
                found = _operators(op.filter, None, 0)
            except TypeError:
                return op, ()  # a name that is no string: the driver says so
            if found is None:
                return op, ()
            candidates = self._candidates(tuple(sorted(found)))
            shape = unchanged = None
        else:
            try:
                # A stage of several names, or of none, is refused by the server, and by each rule.
                names = tuple(chain.from_iterable(pipeline))
                candidates = self._known.get(names) or self._candidates(names)
                found = _operators(pipeline[0].get("$match"), None, 0)
                if found is not None or candidates.has_facet:
                    candidates = self._candidates(names, *_names_within(pipeline, found))
                if not candidates.rules:
                    return op, ()
            except (LookupError, TypeError):
                return op, ()
            try:
                shaping = candidates.shaping
                shape = None if shaping is None else _written(shaping(pipeline), 2)
            except (LookupError, ValueError):
                shape = None  # more than names, numbers and constants
            unchanged = candidates.unchanged if facts is None else candidates.unchanged_known
            if shape in unchanged:
                return op, ()
        rules = candidates.rules
        if not rules or (op.options is not None and not _OPTIONS.issuperset(op.options)):
            return op, ()
        if op.projection is not None:
            try:
                if any(".$" in name for name in op.projection):
                    return op, ()  # it asks which element matched: that may depend on the form
            except TypeError:
                return op, ()  # a name that is no string: the driver says so
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
        if steps or shape is None or unchanged is None:
            return op, tuple(steps)
        if len(shape) <= _MAX_SHAPE_BYTES:
            if len(unchanged) >= _MAX_SHAPES:
                unchanged.clear()
            unchanged.add(shape)
        return op, tuple(steps)

    def _candidates(self, names: tuple[str, ...], *within: str) -> _Candidates:
        key = (*names, _END, *within) if within else names
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            known = self._known[key] = _Candidates(self.rules, names, within)
        return known


class _Candidates:
    """The rules that reads with certain operators and stages may be for.

    shaping: takes the stages that are more than filters and windows out of a pipeline; None where a
    rule looks at those too, or where there are no others. unchanged, unchanged_known: what it took
    out of pipelines that none changed, without and with facts. has_facet: names in branches count.
    """

    __slots__ = ("has_facet", "rules", "shaping", "unchanged", "unchanged_known")

    def __init__(
        self, rules: tuple[Rule, ...], names: tuple[str, ...], within: tuple[str, ...]
    ) -> None:
        self.rules: tuple[Rule, ...] = ()
        self.has_facet = "$facet" in names
        present = frozenset((*names, *within))
        if _LEFT_ALONE.isdisjoint(present) and len(names) <= _MAX_STAGES:
            self.rules = tuple(rule for rule in rules if rule.may_fire(present))
        self.unchanged: set[bytes] = set()
        self.unchanged_known: set[bytes] = set()
        self.shaping: Callable[[Sequence[Any]], Any] | None = None
        places = [place for place, name in enumerate(names) if name not in _VALUED]
        if places and all(rule.by_shape for rule in self.rules):
            self.shaping = itemgetter(*places)


def _names_within(pipeline: Sequence[Any], found: set[str] | None) -> list[str]:
    """Names of the stages in the branches of each $facet, and of the operators found."""
    names = [
        name
        for stage in pipeline
        if "$facet" in stage and type(stage["$facet"]) is dict
        for branch in stage["$facet"].values()
        if type(branch) is list
        for inner in branch
        if type(inner) is dict
        for name in inner
    ]
    return names if found is None else [*names, *sorted(found)]


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
