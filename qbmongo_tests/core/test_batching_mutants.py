"""Each rule of joined point reads is needed: without it the machine finds a wrong answer.

A mutant takes one rule out of the running code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest

from qbmongo.core.batching import PlainBatch, PointRead
from qbmongo.core.cache import Cache
from qbmongo.core.engine import Lead
from qbmongo.core.joined_finds import JoinedFind
from qbmongo.core.point_keys import PointKey, point_key
from qbmongo.core.point_reads import PointReads

from .machine.explorer import first_violation

READS = 100_000
SEED = 0
MUTANTS: dict[str, Callable[[], Any]] = {}
OFTEN: dict[str, tuple[str, ...]] = {
    "stamp_at_the_sending": ("batch", "delay", "no elect", "no clear", "no gap"),
}


def _around(owner: type, name: str, replacement: Callable[..., Any]) -> Any:
    """Replaces a method by one that is given the original first."""
    original = getattr(owner, name)

    def method(*args: Any, **kwargs: Any) -> Any:
        return replacement(original, *args, **kwargs)

    return patch.object(owner, name, method)


def _mutant(function: Callable[[], Any]) -> Callable[[], Any]:
    MUTANTS[function.__name__] = function
    return function


@_mutant
def stamp_at_the_sending() -> Any:
    """The fills of a joined find are stamped when its answer arrives."""

    def arrived(original: Any, find: JoinedFind, *args: Any) -> Any:
        cache: Cache = find.points.engine.cache  # type: ignore[assignment]
        for read in find.reads:
            fill, generation = read.fill, 0
            if fill is None and type(read.ticket) is Lead:
                fill, generation = read.ticket.fill, read.ticket.generation
            if fill is not None and fill.open:
                seen = fill.seen
                cache.stamp_again(fill, generation)
                fill.seen = seen
        return original(find, *args)

    return _around(JoinedFind, "arrived", arrived)


@_mutant
def joined_before_the_sending_only() -> Any:
    """A read joins a find that asks for the same document and is on the wire."""
    sent: list[JoinedFind] = []

    def landed(original: Any, points: PointReads, *args: Any) -> Any:
        find = original(points, *args)
        if find is not None:
            sent[:] = [find]
        return find

    def join(*args: Any) -> Any:
        return None  # `begin` is asked.

    def begin(original: Any, points: PointReads, ticket: Any, codec: Any, *args: Any) -> Any:
        for find in sent:
            if all(read.settled for read in find.reads) or find.points is not points:
                continue
            key = point_key(ticket.op, codec, simple=True)
            assert type(key) is PointKey
            batch: Any = find.batch
            other = batch._of_element.get(key.element)
            if other is not None:
                read = PointRead(ticket, key, simple=True)
                read.gathering, read.waiter = other.gathering, args[0]
                batch._more.setdefault(key.element, []).append(read)
                find.reads.append(read)
                return read
        return original(points, ticket, codec, *args)

    return _all(
        _around(PointReads, "landed", landed),
        _around(PointReads, "join", join),
        _around(PointReads, "begin", begin),
    )


@_mutant
def each_document_to_who_asked_for_it() -> Any:
    """Documents are given out in the order in which they were asked for."""

    def arrived(original: Any, batch: PlainBatch, documents: Any) -> Any:
        settled = []
        for document in documents:
            for element in list(batch._of_element)[:1]:
                settled.append((batch._of_element.pop(element), document))
                settled += [(read, document) for read in batch._more.pop(element, ())]
        return settled

    return _around(PlainBatch, "arrived", arrived)


@_mutant
def what_was_written_since_the_sending() -> Any:
    """An answer of a joined find is kept whatever was written meanwhile."""

    def refusal(original: Any, cache: Cache, fill: Any, of_sending: Any, *args: Any) -> Any:
        return of_sending

    return _around(Cache, "_refusal_of_point", refusal)


class _all:  # noqa: N801
    """Several patches as one."""

    def __init__(self, *patches: Any) -> None:
        self._patches = patches

    def __enter__(self) -> None:
        for each in self._patches:
            each.__enter__()

    def __exit__(self, *error: object) -> None:
        for each in reversed(self._patches):
            each.__exit__(*error)


@pytest.mark.parametrize("name", MUTANTS)
def test_without_the_rule_a_read_is_wrong(name: str) -> None:
    with MUTANTS[name]():
        found = first_violation(READS, SEED, OFTEN.get(name, ("batch",)))
    assert found is not None, f"{READS} reads show no need of it"


@pytest.mark.parametrize("often", sorted({("batch",), *OFTEN.values()}), ids=" ".join)
def test_with_every_rule_the_same_circumstances_show_nothing(often: tuple[str, ...]) -> None:
    found = first_violation(2_000, SEED, often)
    assert found is None, found
