"""What a pipeline's stages do to the documents that pass: what rules on pipelines ask.

Everything here is an allow-list. A stage or an expression is called *harmless* if it is surely
valid and cannot fail for any document: then it does not matter for how many it is computed.
"""

from __future__ import annotations

import datetime
import re
import uuid
from functools import lru_cache
from typing import Any

from bson import Binary, DatetimeMS, Decimal128, Int64, ObjectId, Timestamp

__all__ = [
    "SCALARS",
    "adds_fields",
    "counts_only",
    "drops_fields",
    "is_path",
    "leading_matches",
    "sorted_fields",
    "stage_of",
    "whole",
]

_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*\Z")
_MAX_PATH = 200
_MAX_DEPTH = 16
_MAX_WHOLE = 2**31 - 1

#: Types of plain values, strings apart.
SCALARS = frozenset(
    {
        bool,
        int,
        float,
        type(None),
        bytes,
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

# Comparisons and choices take values of every type. Each with the fewest and most arguments.
# Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/
_TOTAL = {
    "$and": (0, 100),
    "$cmp": (2, 2),
    "$cond": (3, 3),
    "$eq": (2, 2),
    "$gt": (2, 2),
    "$gte": (2, 2),
    "$ifNull": (2, 2),
    "$lt": (2, 2),
    "$lte": (2, 2),
    "$ne": (2, 2),
    "$not": (1, 1),
    "$or": (0, 100),
}
# They fail for what is no array.
_OF_ARRAYS = frozenset({"$first", "$last", "$size"})
_ADDING = frozenset({"$addFields", "$set"})
_LOOKUP = frozenset({"from", "localField", "foreignField", "as"})


def stage_of(stage: Any) -> tuple[str, Any]:
    """Name and specification of a stage; "" for what is none."""
    if type(stage) is dict and len(stage) == 1:
        for name, specification in stage.items():
            return name, specification
    return "", None


def is_path(text: Any) -> bool:
    """Whether this is a plain dotted path, valid wherever a path may stand."""
    return type(text) is str and len(text) <= _MAX_PATH and _is_path(text)


@lru_cache(maxsize=4096)
def _is_path(text: str) -> bool:
    return _PATH.match(text) is not None


def whole(value: Any, low: int) -> bool:
    """Whether this is a valid $skip (low 0) or $limit (low 1)."""
    return type(value) in (int, Int64) and low <= value <= _MAX_WHOLE


def leading_matches(pipeline: list[Any]) -> int:
    """How many $match stages a pipeline begins with."""
    count = 0
    for stage in pipeline:
        if type(stage) is not dict or len(stage) != 1 or "$match" not in stage:
            break
        count += 1
    return count


def sorted_fields(specification: Any) -> frozenset[str] | None:
    """Top-level fields that a $sort reads; None for what is no plain sort by values."""
    if type(specification) is not dict or not 1 <= len(specification) <= 32:
        return None
    for path, direction in specification.items():
        if type(direction) is not int or direction not in (1, -1) or not is_path(path):
            return None
        if any(map(str.isdigit, path.split("."))):
            return None  # the server refuses documents where it is both a position and a name
    return frozenset([path.partition(".")[0] for path in specification])


def _plain_lookup(specification: Any) -> str | None:
    """The field that a harmless $lookup by equality of two fields makes; None for another one."""
    if type(specification) is not dict or specification.keys() != _LOOKUP:
        return None
    source = specification["from"]
    if type(source) is not str or not source or "\0" in source or "$" in source:
        return None
    made: str = specification["as"]
    paths = (made, specification["localField"], specification["foreignField"])
    return made if all(map(is_path, paths)) else None


def adds_fields(name: str, specification: Any, arrays: set[str]) -> frozenset[str] | None:
    """Top-level fields that a harmless stage adds to each document; None for any other stage.

    Such a stage lets every document pass, once and in order.

    Args:
        name, specification: the stage.
        arrays: fields that surely hold arrays; kept up to date.
    """
    if name == "$lookup":
        made = _plain_lookup(specification)
        if made is None:
            return None
        top = made.partition(".")[0]
        _forget(arrays, top)
        if made == top:
            arrays.add(made)
        return frozenset((top,))
    if name not in _ADDING or type(specification) is not dict or not specification:
        return None
    tops = set()
    for path, value in specification.items():
        if not is_path(path) or not _harmless(value, arrays, 0):
            return None
        tops.add(path.partition(".")[0])
    if len(tops) != len(specification):
        return None  # "a" and "a.b" together are refused by the server
    for top in tops:
        _forget(arrays, top)
    return frozenset(tops)


def drops_fields(name: str, specification: Any, arrays: set[str]) -> bool:
    """Whether a stage is a harmless $project or $unset: one smaller document of each, in order.

    Args:
        name, specification: the stage.
        arrays: fields that surely hold arrays; kept up to date.
    """
    if name == "$unset":
        paths = specification if type(specification) is list else [specification]
        if not paths or not all(map(is_path, paths)):
            return False
        arrays.clear()
        return True
    if name != "$project" or type(specification) is not dict or not specification:
        return False
    kept = set()
    for path, value in specification.items():
        if not is_path(path):
            return False
        if type(value) in (bool, int):
            if value:
                kept.add(path)
        elif not _harmless(value, arrays, 0):
            return False
    arrays.intersection_update(kept)
    return True


def _forget(arrays: set[str], top: str) -> None:
    arrays.difference_update([a for a in arrays if a.partition(".")[0] == top])


def _harmless(expression: Any, arrays: set[str], depth: int) -> bool:
    kind = type(expression)
    if kind is str:
        return expression[:1] != "$" or is_path(expression[1:])
    if kind in SCALARS:
        return True
    if depth > _MAX_DEPTH:
        return False
    if kind is list:
        return all(_harmless(item, arrays, depth + 1) for item in expression)
    if kind is not dict or not expression:
        return False
    first = next(iter(expression))
    if first[:1] == "$":
        return len(expression) == 1 and _harmless_call(first, expression[first], arrays, depth + 1)
    return all(
        is_path(name) and "." not in name and _harmless(value, arrays, depth + 1)
        for name, value in expression.items()
    )


def _harmless_call(operator: str, argument: Any, arrays: set[str], depth: int) -> bool:
    if operator in _OF_ARRAYS:
        if type(argument) is list and len(argument) == 1:
            argument = argument[0]
        return _is_array(argument, arrays)
    if operator == "$arrayElemAt":
        return (
            type(argument) is list
            and len(argument) == 2
            and _is_array(argument[0], arrays)
            and type(argument[1]) is int
            and abs(argument[1]) <= _MAX_WHOLE
        )
    bounds = _TOTAL.get(operator)
    if bounds is None:
        return False
    if type(argument) is list:
        return bounds[0] <= len(argument) <= bounds[1] and _harmless(argument, arrays, depth)
    return bounds == (1, 1) and _harmless(argument, arrays, depth)


def _is_array(argument: Any, arrays: set[str]) -> bool:
    return type(argument) is str and argument[:1] == "$" and argument[1:] in arrays


def counts_only(name: str, specification: Any) -> frozenset[str] | None:
    """Fields that a stage makes whose answer is how many documents reach it; None for another.

    `$count`; `$group` of everything into one, with sums of whole constants (whose order does not
    matter, as it does for sums of doubles).
    """
    if name == "$count":
        if not is_path(specification) or "." in specification:
            return None
        return frozenset((specification,))
    if name != "$group" or type(specification) is not dict:
        return None
    if specification.get("_id", 0) is not None:
        return None
    for field, accumulator in specification.items():
        if field == "_id":
            continue
        if not is_path(field) or "." in field:
            return None
        operator, argument = stage_of(accumulator)
        if operator == "$sum":
            if type(argument) is not int or abs(argument) > 1_000_000:
                return None
        elif operator != "$count" or argument != {}:
            return None
    return frozenset(specification)
