"""Values in the order in which an index holds them, as far as Python can tell."""

from __future__ import annotations

import contextlib
import datetime
import math
from bisect import bisect_left
from collections.abc import Sequence
from decimal import InvalidOperation
from typing import Any

from bson import Decimal128

from ..core.shape_filters import type_class
from .field_values import values_at

__all__ = ["next_to", "rank_of", "rankable", "sorted_values"]

_LARGEST = 2**63 - 1


def sorted_values(documents: Sequence[Any], path: str, kind: str) -> list[Any]:
    """Values of a type class, ascending; none where they cannot be ordered here."""
    values = [v for d in documents for v in values_at(d, path) if type_class(v) == kind]
    try:
        values.sort(key=rankable)
        if values:
            # Nothing compares a value that is alone.
            rankable(values[0]) < rankable(values[-1])  # noqa: B015
    except (TypeError, InvalidOperation):
        return []
    return values


def rankable(value: Any) -> Any:
    """What a value is compared by; NaN stands below all other numbers, as in an index."""
    if isinstance(value, Decimal128):
        value = value.to_decimal()
        return -math.inf if value.is_nan() else value
    return -math.inf if isinstance(value, float) and math.isnan(value) else value


def rank_of(ranks: Sequence[Any], value: Any) -> int:
    """The place of a value among others that are ascending; the last one if it is beyond them, the
    first one where there is no telling."""
    try:
        return min(bisect_left(ranks, rankable(value)), len(ranks) - 1)
    except (TypeError, InvalidOperation):
        return 0


def next_to(value: Any, step: int) -> Any:
    """A value beyond the last one that occurs; the value itself where there is no telling."""
    if type_class(value) == "number" and not isinstance(value, Decimal128):
        # One step beyond the largest integer is nothing that BSON can hold.
        return (
            value + step if not isinstance(value, int) or -_LARGEST <= value < _LARGEST else value
        )
    if isinstance(value, datetime.datetime):
        with contextlib.suppress(OverflowError):
            return value + datetime.timedelta(seconds=step)
    return value
