"""Which `_id`s a filter confines an operation to, whatever the data is."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

from bson.dbref import DBRef
from bson.regex import Regex

from .snapshots import SCALARS, readable, snapshot
from .values import canonical_ids

__all__ = ["confined_ids", "known_ids"]

_PATTERNS = (Regex, re.Pattern)
_NO_VALUES = (DBRef, *_PATTERNS)
_VALUES = SCALARS - set(_PATTERNS)


def confined_ids(filter: Mapping[str, Any], *, simple: bool) -> frozenset[Hashable] | None:
    """Canonical `_id`s of every document that a filter can match; None where it could be any.

    Args:
        filter: a filter as sent.
        simple: strings are compared by simple binary comparison. Under a collation one string
            equals others, so that an `_id` with a string in it confines nothing.

    Returns:
        The `_id`s by equality on `_id`: a plain value, `$eq`, `$in`, also inside `$and`. An `_id`
        is never an array, so equality has no second meaning here.

    Source: https://www.mongodb.com/docs/manual/core/document/#the-_id-field
    """
    confined: frozenset[Hashable] | None = None
    if "_id" in filter:
        confined = _ids_of_condition(filter["_id"], simple)
    if "$and" in filter:
        for clause in filter["$and"]:
            clause = readable(clause)
            if isinstance(clause, Mapping):
                narrower = confined_ids(clause, simple=simple)
                if narrower is not None:
                    confined = narrower if confined is None else confined & narrower
    return confined


def known_ids(value: Any, *, simple: bool) -> frozenset[Hashable] | None:
    """Canonical forms that an `_id` given in Python may have; None where it could be any."""
    if type(value) not in SCALARS:
        try:
            value = snapshot(value)
        except TypeError:
            return None
    if not simple and _has_string(value):
        return None
    return canonical_ids(value)


def _ids_of_condition(value: Any, simple: bool) -> frozenset[Hashable] | None:
    if type(value) in _VALUES:
        return known_ids(value, simple=simple)
    if isinstance(value, _NO_VALUES):
        return None
    value = readable(value)
    if not isinstance(value, Mapping) or not _is_operators(value):
        return known_ids(value, simple=simple)
    confined: frozenset[Hashable] | None = None
    if "$eq" in value:
        confined = known_ids(value["$eq"], simple=simple)
    if "$in" in value:
        listed = _ids_of_list(value["$in"], simple)
        if listed is not None:
            confined = listed if confined is None else confined & listed
    return confined


def _ids_of_list(values: Any, simple: bool) -> frozenset[Hashable] | None:
    if not isinstance(values, (list, tuple)):
        return None
    ids: set[Hashable] = set()
    for value in values:
        known = None if isinstance(value, _PATTERNS) else known_ids(value, simple=simple)
        if known is None:
            return None
        ids |= known
    return frozenset(ids)


def _is_operators(condition: Mapping[str, Any]) -> bool:
    """The server takes a document for operators by its first field name."""
    return next(iter(condition), "").startswith("$")


def _has_string(value: Any) -> bool:
    value = readable(value)
    if isinstance(value, Mapping):
        return any(map(_has_string, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_has_string, value))
    return isinstance(value, str)
