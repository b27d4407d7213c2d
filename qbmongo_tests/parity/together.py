"""Calls made at the same time by ours, and one after the other by the plain driver: in some order
of theirs, every outcome and the databases must be the same.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bson import ObjectId

from qbmongo_tests.parity import values as v
from qbmongo_tests.parity.choices import CHOICES_PER_STEP, Choices, among
from qbmongo_tests.parity.equality import Mismatch
from qbmongo_tests.parity.harness import Pair
from qbmongo_tests.parity.interpreter import Arm, Outcome
from qbmongo_tests.parity.operations import Call, Method
from qbmongo_tests.parity.programs import Beginning, beginning, call

__all__ = ["GROUP", "Groups", "run_groups"]

# How many calls are made at the same time.
GROUP = (4, 5, 6)
_GROUPS_PER_EXAMPLE = 12
_UPSERT = {"upsert": among(True, False)}


def _by_id(choices: Choices) -> Any:
    return {"_id": choices.one(v.IDS[:12])}


def _by_id_and_more(choices: Choices) -> Any:
    """One document at most: which of several comes first depends on who was inserted first.

    No operators: the reference server says what is wrong with them in an update, and in a bulkWrite
    only if there is a document to look at.
    """
    return {choices.one(v.PATHS): v.scalar(choices), **_by_id(choices)}


_METHODS = (
    Method("update_one", (_by_id, v.update), _UPSERT),
    Method("update_one", (_by_id, v.update), {**_UPSERT, "array_filters": v.array_filters}),
    Method("update_one", (_by_id_and_more, v.update), _UPSERT),
    Method("replace_one", (_by_id, v.replacement), _UPSERT),
    Method("delete_one", (_by_id,)),
    Method("insert_one", (v.document,)),
)
_READS = (
    Method("find_one", (_by_id,)),
    Method("find_one", (_by_id, v.projection)),
)


@dataclass
class Groups:
    """What was compared: groups, calls, and orders that were tried."""

    groups: int = 0
    calls: int = 0
    orders: int = 0


def _group(choices: Choices) -> tuple[Call, ...]:
    """Calls of one kind on one collection, so that they travel together; now and then mixed."""
    count = choices.one(GROUP)
    reads = choices.index(4) == 3
    kinds = choices.index(3)
    first = choices.one(_READS if reads else _METHODS)
    made = []
    for _ in range(count):
        method = first if kinds == 0 else choices.one(_READS if reads else _METHODS)
        if kinds == 2 and choices.index(4) == 3:
            method = choices.one(_READS)
        one = call(choices, "c0", method)
        while not _is_settled(one):
            one = call(choices, "c0", method)
        # Whether it is acknowledged in time decides nothing here.
        unwanted = one.options in ("unacknowledged", "too_many", "snapshot")
        made.append(replace(one, options=None, timeout_s=None) if unwanted else one)
    return tuple(made)


def _is_settled(one: Call) -> bool:
    """Whether a call does not depend on which of several documents comes first."""
    if one.method == "insert_one":
        return True
    filter = one.args[0] if one.args else None
    return filter is not None and ("_id" in filter if isinstance(filter, Mapping) else True)


def run_groups(pair: Pair, groups: int, seed: int) -> Groups:
    """Compares so many groups. Raises Mismatch where no order of the plain calls explains ours."""
    done = Groups()
    rng = random.Random(seed)

    def choices() -> Choices:
        return Choices(rng.randbytes(CHOICES_PER_STEP * 2))

    while done.groups < groups:
        pair.begin(_beginning(choices()))
        # Which call gets which id is nobody's promise: none is there already.
        pair.plain._next_id = pair.ours._next_id = 10_000
        for _ in range(_GROUPS_PER_EXAMPLE):
            calls = _group(choices())
            ours = _at_the_same_time(pair.ours, calls)
            _explain(pair, calls, ours, done)
            done.groups += 1
            done.calls += len(calls)
    return done


def _beginning(choices: Choices) -> Beginning:
    made = beginning(choices)
    # Some servers refuse a unique value for the sake of a write at the same time that then fails.
    kept = tuple(one for one in made.calls if not one.kwargs.get("unique"))
    creation = made.creation
    if creation is not None and "capped" in creation:
        # What is pushed out depends on the order in more than one place.
        creation = None
    return Beginning(creation, kept)


def _at_the_same_time(arm: Arm, calls: Sequence[Call]) -> list[Outcome]:
    ObjectId._inc = arm._next_id
    outcomes: list[Any] = [None] * len(calls)
    if arm.driver.is_async:

        async def all_of_them() -> list[Outcome]:
            return list(await asyncio.gather(*[arm._perform(one) for one in calls]))

        outcomes = arm.driver.run(all_of_them())
    else:

        def work(place: int) -> None:
            outcomes[place] = arm.driver.run(arm._perform(calls[place]))

        threads = [threading.Thread(target=work, args=(at,)) for at in range(len(calls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    arm._next_id = ObjectId._inc
    return outcomes


def _explain(pair: Pair, calls: Sequence[Call], ours: Sequence[Outcome], done: Groups) -> None:
    """Finds an order in which the plain calls do the same."""
    before = pair.documents(pair.plain)
    content = pair.documents(pair.ours)
    first: Mismatch | None = None
    for order in itertools.permutations(range(len(calls))):
        done.orders += 1
        if first is not None:
            pair.restore(pair.plain, before)
        plain: list[Any] = [None] * len(calls)
        for place in order:
            plain[place] = pair.plain.run(calls[place])
        try:
            pair.compare_group(plain, ours, content)
            return
        except Mismatch as mismatch:
            first = first or mismatch
    told = "\n    ".join(map(repr, calls))
    raise Mismatch(f"no order explains\n    {told}\n    {first}") from first
