"""Three truth values: True, False and None for "cannot tell", in Kleene's strong logic."""

from __future__ import annotations

from collections.abc import Iterable

Truth = bool | None


def all_of(truths: Iterable[Truth]) -> Truth:
    """The conjunction; True for no operands. Stops at the first False."""
    unsure = False
    for truth in truths:
        if truth is False:
            return False
        unsure = unsure or truth is None
    return None if unsure else True


def any_of(truths: Iterable[Truth]) -> Truth:
    """The disjunction; False for no operands. Stops at the first True."""
    unsure = False
    for truth in truths:
        if truth:
            return True
        unsure = unsure or truth is None
    return None if unsure else False


def negate(truth: Truth) -> Truth:
    """The negation."""
    return None if truth is None else not truth
