"""Each rule of joined point reads is needed: without it the machine finds a wrong answer.

A mutant takes one rule out of the running code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest

from qbmongo.core.batching import PointBatch, PointRead
from qbmongo.core.cache import Cache
from qbmongo.core.engine import Lead
from qbmongo.core.point_keys import PointKey, point_key
from qbmongo.core.point_reads import JoinedFind, PointReads

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
        cache: Cache = find.points._engine.cache  # type: ignore[assignment]
        for read in find.reads:
            lead = read.ticket
            if type(lead) is Lead and lead.fill.open:
                seen = lead.fill.seen
                cache.stamp_again(lead.fill, lead.generation)
                lead.fill.seen = seen
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

    def begin(original: Any, points: PointReads, ticket: Any, codec: Any, *args: Any) -> Any:
        for find in sent:
            if not find._open or find.points is not points:
                continue
            key = point_key(ticket.op, codec, simple=True)
            assert type(key) is PointKey
            others = find.batch._by_form.get(key.form)
            if others:
                read = PointRead(ticket, key, simple=True)
                read.gathering, read.slot = others[0].gathering, _Slot(args[0])
                others.append(read)
                find.reads.append(read)
                find._open.add(read)
                return read
        return original(points, ticket, codec, *args)

    return _all(_around(PointReads, "landed", landed), _around(PointReads, "begin", begin))


class _Slot:
    """A place in a lane that nobody can be taken out of."""

    def __init__(self, waiter: Any) -> None:
        self.waiter = waiter
        self.batch = self
        self.left = False


@_mutant
def each_document_to_who_asked_for_it() -> Any:
    """Documents are given out in the order in which they were asked for."""

    def arrived(original: Any, batch: PointBatch, documents: Any) -> Any:
        settled = []
        for document in documents:
            for form in list(batch._by_form)[:1]:
                settled += [(read, document) for read in batch._by_form.pop(form)]
        return settled

    return _around(PointBatch, "arrived", arrived)


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
