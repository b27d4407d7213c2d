"""core/lanes.py: when something goes alone, gathers, and travels; limits, patience, counts."""

from __future__ import annotations

import math
import random

from qbmongo.core.lanes import Lane, LaneCounts, LaneLimits
from qbmongo.records import Batch, Gathered, Sending


def lane(
    max_in_flight: int = 2,
    max_ops: int = 100,
    max_bytes: int = 10_000,
    patience_s: float = math.inf,
    linger_s: float = 0.0,
) -> Lane:
    limits = LaneLimits(max_in_flight, max_ops, max_bytes, patience_s, linger_s)
    return Lane(limits, LaneCounts())


class Slot(Gathered):
    """item: what a test knows it by."""

    def __init__(self, item: object, size: int, gathered_s: float) -> None:
        self.item = item
        self.size = size
        self.gathered_s = gathered_s
        self.waiter = self.batch = None
        self.left = False


def gather(place: Lane, item: object, size: int, now_s: float) -> Slot:
    slot = Slot(item, size, now_s)
    place.put(slot)
    return slot


def items(batch: Batch | None) -> list[object]:
    return [] if batch is None else [slot.item for slot in batch.slots]


def entered(place: Lane, now_s: float = 0.0) -> Sending:
    sending = place.enter(now_s)
    assert sending is not None
    return sending


def test_so_many_go_alone_and_the_next_one_gathers() -> None:
    place = lane(max_in_flight=2)
    first = entered(place)
    entered(place)
    assert place.enter(0.0) is None
    gather(place, "a", 1, 0.0)
    gather(place, "b", 1, 0.0)
    assert place.ready(0.0) is None
    assert items(place.landed(first, 1.0)) == ["a", "b"]
    assert place.counts.direct == 2
    assert place.counts.waited_s == 2.0
    assert place.counts.waited_max_s == 1.0
    assert dict(place.counts.sizes) == {2: 1}


def test_nobody_overtakes_what_gathers() -> None:
    place = lane(max_in_flight=1, max_ops=2)
    first = entered(place)
    for item in "abc":
        gather(place, item, 1, 0.0)
    batch = place.landed(first, 0.0)
    assert items(batch) == ["a", "b"]
    assert batch is not None
    assert place.enter(0.0) is None
    assert items(place.landed(batch.sending, 0.0)) == ["c"]


def test_a_sending_lands_once() -> None:
    place = lane(max_in_flight=1)
    sending = entered(place)
    gather(place, "a", 1, 0.0)
    batch = place.landed(sending, 0.0)
    assert items(batch) == ["a"]
    gather(place, "b", 1, 0.0)
    assert place.landed(sending, 0.0) is None
    assert place.counts.in_flight == 1


def test_a_batch_holds_so_many_bytes_but_never_nothing() -> None:
    place = lane(max_in_flight=1, max_bytes=10)
    sending = entered(place)
    for item, size in (("large", 50), ("a", 6), ("b", 4), ("c", 1)):
        gather(place, item, size, 0.0)
    sent = []
    while (batch := place.landed(sending, 0.0)) is not None:
        sent.append(items(batch))
        sending = batch.sending
    assert sent == [["large"], ["a", "b"], ["c"]]
    assert place.is_idle
    assert place.counts.held_bytes == 0


def test_who_leaves_is_not_sent_and_only_before_dispatch() -> None:
    place = lane(max_in_flight=1)
    sending = entered(place)
    stays = gather(place, "stays", 1, 0.0)
    leaves = gather(place, "leaves", 1, 0.0)
    assert place.cancel(leaves)
    assert not place.cancel(leaves)
    assert items(place.landed(sending, 0.0)) == ["stays"]
    assert not place.cancel(stays)
    assert place.counts.left == 1
    assert place.counts.pending == 0


def test_behind_a_stalled_sending_nobody_waits_longer_than_the_patience() -> None:
    place = lane(max_in_flight=1, patience_s=5.0)
    stalled = entered(place, 0.0)
    gather(place, "a", 1, 1.0)
    assert place.due_s(1.0) == 6.0
    assert place.overdue(5.9) is not None, "the sending itself has stalled by then"
    gather(place, "b", 1, 6.0)
    assert place.due_s(6.0) == 11.0
    assert place.overdue(6.0) is None, "the second one has not"
    assert items(place.overdue(11.0)) == ["b"]
    assert place.landed(stalled, 12.0) is None
    assert place.due_s(12.0) is None


def test_a_lone_call_does_not_wait_behind_a_stalled_sending() -> None:
    place = lane(max_in_flight=1, patience_s=5.0)
    entered(place, 0.0)
    assert place.enter(4.0) is None
    entered(place, 5.0)


def test_with_linger_even_a_lone_call_gathers_until_it_is_time_or_the_batch_is_full() -> None:
    place = lane(linger_s=2.0, max_ops=2)
    assert place.enter(0.0) is None
    gather(place, "a", 1, 0.0)
    assert place.ready(1.0) is None
    assert place.due_s(1.0) == 2.0
    assert items(place.ready(2.0)) == ["a"]
    gather(place, "b", 1, 3.0)
    gather(place, "c", 1, 3.0)
    assert items(place.ready(3.0)) == ["b", "c"]


def test_what_lingers_behind_a_full_wire_is_looked_at_when_it_has_lingered() -> None:
    """What lands before that sends nothing, and then nobody would look until patience ends."""
    place = lane(max_in_flight=1, patience_s=50.0, linger_s=2.0)
    gather(place, "a", 1, 0.0)
    first = place.overdue(2.0)
    assert first is not None
    gather(place, "b", 1, 3.0)
    assert place.due_s(3.0) == 5.0
    assert place.landed(first.sending, 4.0) is None
    assert items(place.overdue(5.0)) == ["b"]


def test_what_has_lingered_behind_a_full_wire_waits_until_something_lands() -> None:
    place = lane(max_in_flight=1, patience_s=50.0, linger_s=2.0)
    gather(place, "a", 1, 0.0)
    first = place.overdue(2.0)
    assert first is not None
    gather(place, "b", 1, 3.0)
    assert place.overdue(5.0) is None
    assert place.due_s(5.0) == 55.0
    assert items(place.landed(first.sending, 6.0)) == ["b"]


def test_everything_can_be_taken_at_once() -> None:
    place = lane(max_in_flight=1, max_ops=2)
    entered(place)
    for item in "abc":
        gather(place, item, 1, 0.0)
    assert [items(batch) for batch in place.take_all(0.0)] == [["a", "b"], ["c"]]
    assert place.counts.in_flight == 3


def test_whatever_happens_all_is_sent_once_and_counted() -> None:
    for seed in range(300):
        draw = random.Random(seed)
        place = lane(
            draw.choice([1, 2, 3]),
            draw.choice([2, 5]),
            draw.choice([10, 100]),
            draw.choice([math.inf, 4.0]),
            draw.choice([0.0, 0.0, 1.0]),
        )
        now_s = 0.0
        wire: list[Sending] = []
        sent: list[object] = []
        left: set[object] = set()
        gathering = []

        def dispatched(
            batch: Batch | None, wire: list[Sending] = wire, sent: list[object] = sent
        ) -> None:
            if batch is not None:
                assert batch.size == sum(slot.size for slot in batch.slots)
                wire.append(batch.sending)
                sent += items(batch)

        given = 0
        for _ in range(60):
            now_s += draw.random()
            step = draw.random()
            if step < 0.5:
                sending = place.enter(now_s)
                if sending is not None:
                    wire.append(sending)
                else:
                    gathering.append(gather(place, given, draw.randint(1, 9), now_s))
                    given += 1
                    dispatched(place.ready(now_s))
            elif step < 0.8 and wire:
                dispatched(place.landed(wire.pop(draw.randrange(len(wire))), now_s))
            elif step < 0.9 and gathering:
                slot = draw.choice(gathering)
                if place.cancel(slot):
                    left.add(slot.item)
            else:
                dispatched(place.overdue(now_s))
            assert place.counts.in_flight == len(wire)
        for batch in place.take_all(now_s):
            dispatched(batch)
        for sending in wire:
            assert place.landed(sending, now_s) is None
        assert sent == [n for n in range(given) if n not in left]
        assert place.is_idle
        counts = place.counts
        assert (counts.pending, counts.in_flight, counts.held_bytes) == (0, 0, 0)
        assert (counts.gathered, counts.left) == (len(sent), len(left))
