"""Wrong rules: each is one of ours with a condition dropped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from qbmongo.core import rewrite_filters, rewrite_pipelines, rewrite_stages
from qbmongo.core.rewrite import RULES, Rewriter, Rule
from qbmongo.records import ReadOp

__all__ = ["MUTANTS", "alone", "mutated"]

Mutant = Callable[[Rule], Any]
MUTANTS: dict[str, tuple[str, Mutant]] = {}


def _of(rule: str) -> Callable[[Mutant], Mutant]:
    def keep(mutant: Mutant) -> Mutant:
        MUTANTS[mutant.__name__] = (rule, mutant)
        return mutant

    return keep


def alone(name: str) -> Rewriter:
    """A rewriter with one rule on."""
    return Rewriter([rule.name for rule in RULES if rule.name != name])


@contextmanager
def mutated(name: str) -> Iterator[Rewriter]:
    """A rewriter with one wrong rule and no other."""
    rule_name, mutant = MUTANTS[name]
    rewriter = alone(rule_name)
    (rule,) = rewriter.rules
    change = mutant(rule)
    if isinstance(change, Rule):
        rewriter.rules = (change,)
        yield rewriter
    else:
        with change:
            yield rewriter


@_of("in-duplicates")
def values_that_python_calls_equal(rule: Rule) -> Rule:
    """1, 1.0 and True are one value."""

    def change(path: str, condition: dict[str, Any]) -> dict[str, Any] | None:
        values = condition.get("$in")
        if type(values) is not list:
            return None
        distinct = [value for at, value in enumerate(values) if value not in values[:at]]
        return {**condition, "$in": distinct} if len(distinct) < len(values) else None

    return dataclasses.replace(rule, apply=rewrite_filters._on_conditions(change))


@_of("implied-exists")
def null_is_a_value(rule: Rule) -> Any:
    """A field that equals null is there."""
    values = rewrite_filters._VALUES | {type(None)}
    return patch.object(rewrite_filters, "_VALUES", values)


@_of("implied-exists")
def every_condition_needs_the_field(rule: Rule) -> Rule:
    """Whatever stands beside $exists implies it."""

    def change(path: str, condition: dict[str, Any]) -> dict[str, Any] | None:
        if condition.get("$exists") is not True or len(condition) < 2:
            return None
        return {name: value for name, value in condition.items() if name != "$exists"}

    return dataclasses.replace(rule, apply=rewrite_filters._on_conditions(change))


@_of("sort-before-fields")
def fields_that_are_sorted_by(rule: Rule) -> Any:
    """$sort passes a stage that writes what it sorts by."""
    return patch.object(rewrite_pipelines, "sorted_fields", _no_fields)


@_of("sort-before-fields")
def fields_that_may_fail(rule: Rule) -> Any:
    """$sort and $limit pass an expression that fails for some documents."""
    return patch.object(rewrite_stages, "_harmless", lambda *_: True)


@_of("page-before-unwind")
def an_array_that_is_sorted_by(rule: Rule) -> Any:
    """$sort passes the $lookup that makes what it sorts by."""
    return patch.object(rewrite_pipelines, "sorted_fields", _no_fields)


@_of("page-before-unwind")
def documents_that_unwind_to_none(rule: Rule) -> Any:
    """A $limit passes an $unwind that drops documents."""

    def unwound(specification: Any, arrays: set[str]) -> str | None:
        path = specification.get("path") if type(specification) is dict else specification
        return path[1:] if type(path) is str and path[1:] in arrays else None

    return patch.object(rewrite_pipelines, "_unwound", unwound)


@_of("page-before-unwind")
def a_page_without_what_is_skipped(rule: Rule) -> Any:
    """The $limit that goes first does not count the documents of the $skip."""
    window = rewrite_pipelines._window

    def narrow(pipeline: list[Any], at: int) -> Any:
        found = window(pipeline, at)
        return found if found is None else (0, *found[1:])

    return patch.object(rewrite_pipelines, "_window", narrow)


@_of("sort-before-count")
def sorts_that_fail(rule: Rule) -> Rule:
    """A $sort by any paths is dropped. (Two that are arrays in one document are refused by MongoDB
    and not by the test servers; both refuse some paths with numbers.)"""

    def apply(op: ReadOp, facts: Any) -> ReadOp | None:
        pipeline = list(op.pipeline or ())
        for at in range(1, len(pipeline)):
            counted = rewrite_pipelines.counts_only(*rewrite_pipelines.stage_of(pipeline[at]))
            sort = pipeline[at - 1].get("$sort")
            if (
                counted
                and sort
                and all(value in (1, -1) for value in sort.values())
                and "$a" not in sort
            ):
                rest = [*pipeline[: at - 1], *pipeline[at:]]
                return rewrite_pipelines.with_pipeline(op, rest)
        return None

    return dataclasses.replace(rule, apply=apply)


@_of("join-before-count")
def joins_after_what_may_fail(rule: Rule) -> Any:
    """A $lookup is not made, nor what fails for some documents."""
    return patch.object(rewrite_stages, "_harmless", lambda *_: True)


@_of("facet-common-match")
def branches_that_differ(rule: Rule) -> Any:
    """The first branch's $match goes first, whatever the others ask."""
    return patch.object(rewrite_pipelines, "_same", lambda left, right: True)


_sorted_fields = rewrite_stages.sorted_fields


def _no_fields(specification: Any) -> frozenset[str] | None:
    return None if _sorted_fields(specification) is None else frozenset()
