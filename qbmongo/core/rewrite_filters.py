"""Rules on filters: of find, find_one, count_documents, distinct, and of a pipeline's first $match.

Each changes the condition on one field; it holds wherever that condition stands, in `$and`, `$or`
and `$nor` too, because every document gives the same truth for both forms.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from typing import Any

from bson import Binary, DatetimeMS, Decimal128, Int64, ObjectId, Timestamp

from ..records import ReadOp
from .paths import FIELD_OPERATORS
from .rewrite_rule import Rule
from .trust import Facts

__all__ = ["FILTER_RULES", "with_filter", "with_pipeline"]

Condition = dict[str, Any]

_MAX_DEPTH = 8
_BRANCHES = ("$and", "$or", "$nor")

# Types whose equal values are encoded alike, and which equal no value of another of them.
_PLAIN = (str, int, ObjectId, uuid.UUID)
_MAX_LISTED = 10_000
_MAX_CHARACTERS = 1_000_000


def with_filter(op: ReadOp, filter: Any) -> ReadOp:
    """The same read with another filter."""
    return ReadOp(
        op.kind,
        op.namespace,
        filter,
        op.projection,
        op.sort,
        op.skip,
        op.limit,
        op.options,
        op.pipeline,
        op.key,
    )


def with_pipeline(op: ReadOp, pipeline: list[Any]) -> ReadOp:
    """The same aggregation with another pipeline."""
    return ReadOp(
        op.kind,
        op.namespace,
        op.filter,
        op.projection,
        op.sort,
        op.skip,
        op.limit,
        op.options,
        pipeline,
        op.key,
    )


def _on_conditions(
    change: Callable[[str, Condition], Condition | None],
) -> Callable[[ReadOp, Facts | None], ReadOp | None]:
    """A rule's `apply` from a change of one field's condition (path, condition -> condition)."""

    def apply(op: ReadOp, facts: Facts | None) -> ReadOp | None:
        pipeline = op.pipeline
        if pipeline is None:
            changed = _changed(op.filter, change, 0)
            return None if changed is None else with_filter(op, changed)
        first = pipeline[0] if pipeline else None
        if type(first) is not dict or len(first) != 1 or "$match" not in first:
            return None
        changed = _changed(first["$match"], change, 0)
        if changed is None:
            return None
        return with_pipeline(op, [{"$match": changed}, *pipeline[1:]])

    return apply


def _changed(filter: Any, change: Callable[[str, Condition], Any], depth: int) -> Any:
    """A filter with each condition changed that can be; None if there is none."""
    if type(filter) is not dict or depth > _MAX_DEPTH:
        return None
    result = None
    for name, value in filter.items():
        new = None
        if type(value) is dict:
            if name[:1] != "$" and value and FIELD_OPERATORS.issuperset(value):
                new = change(name, value)
        elif type(value) is list and name in _BRANCHES:
            branches = [_changed(branch, change, depth + 1) for branch in value]
            if any(branch is not None for branch in branches):
                new = [
                    old if branch is None else branch
                    for old, branch in zip(value, branches, strict=True)
                ]
        if new is not None:
            if result is None:
                result = dict(filter)
            result[name] = new
    return result


def _without_duplicates(path: str, condition: Condition) -> Condition | None:
    changed = None
    for operator in ("$in", "$nin"):
        values = condition.get(operator)
        if type(values) is not list or not 1 < len(values) <= _MAX_LISTED:
            continue
        try:
            if len(set(values)) == len(values):
                continue
        except TypeError:
            continue  # documents, lists
        kinds = set(map(type, values))
        if len(kinds) != 1 or not kinds.issubset(_PLAIN):
            continue
        distinct = dict.fromkeys(values)
        if kinds == {str} and sum(map(len, values)) > _MAX_CHARACTERS:
            continue
        changed = {**(changed or condition), operator: list(distinct)}
    return changed


# Values that a missing field is neither equal to nor compared with.
_VALUES = frozenset(
    {
        bool,
        bytes,
        float,
        int,
        str,
        Binary,
        DatetimeMS,
        Decimal128,
        Int64,
        ObjectId,
        Timestamp,
        datetime.datetime,
        uuid.UUID,
    }
)
_COMPARISONS = frozenset({"$eq", "$gt", "$gte", "$lt", "$lte"})


def _without_exists(path: str, condition: Condition) -> Condition | None:
    if condition.get("$exists") is not True:
        return None
    implied = False
    for operator, argument in condition.items():
        if operator in _COMPARISONS:
            if type(argument) not in _VALUES:
                return None
            implied = True
        elif operator == "$in":
            if type(argument) is not list or not _VALUES.issuperset(map(type, argument)):
                return None
            implied = True
        elif operator == "$ne":
            if type(argument) not in _VALUES:
                return None
        elif operator != "$exists":
            # A server may look at an operator's argument only for documents that have the field.
            return None
    if not implied:
        return None
    return {name: value for name, value in condition.items() if name != "$exists"}


FILTER_RULES: tuple[Rule, ...] = (
    Rule(
        name="in-duplicates",
        family="filters",
        what="values that a list of $in or $nin holds twice are sent once",
        condition="all values are strings, integers, ObjectIds or UUIDs, equal in every byte",
        gain="bytes on the wire, values the server parses and sorts",
        source="https://www.mongodb.com/docs/manual/reference/operator/query/in/",
        marks=(frozenset({"$in", "$nin"}),),
        by_shape=False,
        apply=_on_conditions(_without_duplicates),
    ),
    Rule(
        name="implied-exists",
        family="filters",
        what="$exists: true is left out beside a condition that no missing field meets",
        condition="$eq, $gt, $gte, $lt, $lte or $in with values that are not null, and nothing but"
        " $ne beside them",
        gain="an index can answer alone: $exists: true has every document fetched",
        source="https://www.mongodb.com/docs/manual/reference/operator/query/exists/; the same"
        " implications decide which partial indexes fit (expression_algo.cpp, isSubsetOf)",
        marks=(frozenset({"$exists"}), _COMPARISONS | {"$in"}),
        by_shape=False,
        apply=_on_conditions(_without_exists),
    ),
)
