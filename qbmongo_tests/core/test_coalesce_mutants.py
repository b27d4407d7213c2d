"""Each rule of coalescing is needed: without it the machine finds a caller told something wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from qbmongo.core import coalesce
from qbmongo.core.coalesce import Coalescer
from qbmongo.core.lanes import Lane
from qbmongo.records import Batch, BatchReply, Verdict

from .joining import explorer
from .joining.explorer import first_violation

# What a mutant may cost; most are found within a tenth of it.
OPERATIONS = 20_000
SEED = 0

MUTANTS: dict[str, Callable[[], Any]] = {}


def _mutant(function: Callable[[], Any]) -> Callable[[], Any]:
    MUTANTS[function.__name__] = function
    return function


def _around(owner: Any, name: str, replacement: Callable[..., Any]) -> Any:
    """Replaces a method by one that is given the original first."""
    original = getattr(owner, name)

    def method(*args: Any, **kwargs: Any) -> Any:
        return replacement(original, *args, **kwargs)

    return patch.object(owner, name, method)


def _settled(change: Callable[[Batch, BatchReply], BatchReply]) -> Any:
    """settle is given another reply."""
    settle = coalesce.settle

    def changed(batch: Batch, reply: BatchReply) -> list[Verdict]:
        return settle(batch, change(batch, reply))

    return patch.object(explorer, "settle", changed)


@_mutant
def lost_replies_are_unknown() -> Any:
    """What was lost is sent again."""
    return _around(coalesce, "_is_unexecuted", lambda original, reply: reply.failure is not None)


@_mutant
def one_sending_before_a_refusal() -> Any:
    """A refusal is believed although the first sending may have been applied."""
    return _settled(lambda batch, reply: replace(reply, sent=min(reply.sent, 1)))


@_mutant
def refusals_that_precede_execution() -> Any:
    """Any error of the whole command counts as a refusal."""
    return patch.object(coalesce, "REFUSALS", range(1_000))


@_mutant
def nothing_sent_again_beside_results() -> Any:
    """Operations without a word are sent again although others have results."""

    def settle(original: Any, batch: Batch, reply: BatchReply) -> list[Verdict]:
        verdicts = original(batch, reply)
        if reply.failure is None:
            return verdicts
        return [Verdict("alone") if v.kind == "unknown" and reply.results else v for v in verdicts]

    original = coalesce.settle
    return patch.object(explorer, "settle", lambda batch, reply: settle(original, batch, reply))


@_mutant
def a_word_for_each_of_a_bulk_write() -> Any:
    """What a bulkWrite does not mention succeeded, as in an insert."""

    def settle(batch: Batch, reply: BatchReply) -> list[Verdict]:
        verdicts = original(batch, reply)
        return [Verdict("done") if v.kind == "unknown" and reply.results else v for v in verdicts]

    original = coalesce.settle
    return patch.object(explorer, "settle", settle)


@_mutant
def each_ones_own_result() -> Any:
    """Results by their order among the results, not by their place."""

    def change(batch: Batch, reply: BatchReply) -> BatchReply:
        if not reply.results:
            return reply
        return replace(reply, results=dict(enumerate(reply.results.values())))

    return _settled(change)


@_mutant
def each_ones_own_error() -> Any:
    """Errors by their order among the errors."""

    def change(batch: Batch, reply: BatchReply) -> BatchReply:
        return replace(reply, errors=dict(enumerate(reply.errors.values())))

    return _settled(change)


@_mutant
def errors_that_are_the_same_alone() -> Any:
    """Every error of an operation is handed on as the batch words it."""
    return patch.object(coalesce, "SAME_FORM", range(100_000))


@_mutant
def errors_before_the_concern() -> Any:
    """A write concern error takes precedence over an operation's own."""

    def settle(batch: Batch, reply: BatchReply) -> list[Verdict]:
        verdicts = original(batch, reply)
        concern = reply.concern
        if concern is None:
            return verdicts
        return [Verdict("concern", dict(concern)) for _ in verdicts]

    original = coalesce.settle
    return patch.object(explorer, "settle", settle)


@_mutant
def the_concern_for_everybody() -> Any:
    """A write concern error without its details."""

    def settle(batch: Batch, reply: BatchReply) -> list[Verdict]:
        return [
            Verdict("concern", {}) if v.kind == "concern" else v for v in original(batch, reply)
        ]

    original = coalesce.settle
    return patch.object(explorer, "settle", settle)


@_mutant
def matched_count_of_an_upsert() -> Any:
    """An upsert's document says that one was matched."""

    def single(original: Any, *args: Any) -> dict[str, Any]:
        document = dict(original(*args))
        if "upserted" in document:
            document["updatedExisting"] = True
        return document

    return _around(coalesce, "_single_result", single)


@_mutant
def details_of_an_error() -> Any:
    """keyPattern and keyValue are left out."""

    def single(original: Any, error: Any) -> dict[str, Any]:
        return {k: v for k, v in original(error).items() if not k.startswith("key")}

    return _around(coalesce, "_single_error", single)


@_mutant
def errors_of_place_zero() -> Any:
    """An error keeps its place in the batch as its index."""

    def single(original: Any, error: Any) -> dict[str, Any]:
        place = error.get("idx", error.get("index", 0))
        return {**original(error), "index": place}

    return _around(coalesce, "_single_error", single)


@_mutant
def dispatched_is_dispatched() -> Any:
    """Who cancels after dispatch is told that it was in time."""

    def cancel(original: Any, lane: Lane, slot: Any) -> bool:
        return bool(original(lane, slot)) or not slot.left

    return _around(Lane, "cancel", cancel)


@_mutant
def taken_out_of_what_gathers() -> Any:
    """Who cancels is told so, and stays in."""

    def cancel(original: Any, lane: Lane, slot: Any) -> bool:
        return slot.batch is None

    return _around(Lane, "cancel", cancel)


@_mutant
def a_batch_in_place_of_what_landed() -> Any:
    """Nobody sends what gathered when a sending lands."""

    def ready(original: Any, lane: Lane, now_s: float) -> None:
        return None

    return _around(Lane, "ready", ready)


@_mutant
def room_on_the_wire() -> Any:
    """Everybody goes at once although the wire is full."""
    return _around(Lane, "_has_room", lambda original, lane, now_s: True)


@_mutant
def limits_of_a_batch() -> Any:
    """All that gathers travels at once."""

    def dispatch(original: Any, lane: Lane, now_s: float) -> Batch:
        limits = lane.limits
        lane.limits = replace(limits, max_ops=10_000, max_bytes=1 << 30)
        try:
            batch: Batch = original(lane, now_s)
        finally:
            lane.limits = limits
        return batch

    return _around(Lane, "_dispatch", dispatch)


@_mutant
def what_is_overdue_is_sent() -> Any:
    """Behind a stalled sending everybody waits for ever, and nobody lingers to an end."""
    return _around(Lane, "overdue", lambda original, lane, now_s: None)


@_mutant
def a_flush_waits_for_what_is_on_the_wire() -> Any:
    """A flush is over as soon as everything was sent."""

    def flush(original: Any, coalescer: Coalescer, now_s: float, waiter: Any) -> Any:
        class Nobody:
            def deliver(self, verdict: Any) -> None:
                pass

        batches = original(coalescer, now_s, Nobody())
        waiter.deliver(None)
        return batches

    return _around(Coalescer, "flush", flush)


@_mutant
def a_flush_sends_what_gathers() -> Any:
    """A flush waits for what is on the wire, and leaves what gathers."""
    return _around(Lane, "take_all", lambda original, lane, now_s: [])


@_mutant
def held_bytes_are_given_back() -> Any:
    """What landed still counts as held."""

    def landed(original: Any, lane: Lane, sending: Any, now_s: float) -> Any:
        held = lane.counts.held_bytes
        batch = original(lane, sending, now_s)
        lane.counts.held_bytes = held
        return batch

    return _around(Lane, "landed", landed)


@pytest.mark.parametrize("name", MUTANTS)
def test_without_the_rule_a_caller_is_told_something_wrong(name: str) -> None:
    with MUTANTS[name]():
        found = first_violation(OPERATIONS, SEED)
    assert found is not None, f"{OPERATIONS} operations show no need of it"


def test_with_every_rule_the_same_runs_show_nothing() -> None:
    assert first_violation(1_000, SEED) is None
