"""Point reads that travel together, step by step, as qbmongo.clients sends them."""

from __future__ import annotations

from typing import Any

from qbmongo.core.batching import PointRead
from qbmongo.core.engine import ALONE
from qbmongo.core.joined_finds import JoinedFind
from qbmongo.core.point_reads import PointReads

from .documents import Query
from .server import Branch
from .world import Cancelled, DriverError, Request, Steps, World

__all__ = ["JoinedWaiter", "give", "send_joined", "timer", "wait_joined"]


class JoinedWaiter:
    """Somebody who waits for what a joined find brings. executed_s: when the server read it."""

    __slots__ = ("executed_s", "is_gone", "outcome", "query")

    def __init__(self, query: Query) -> None:
        self.query = query
        self.outcome: Any = None
        self.is_gone = False
        self.executed_s = 0.0

    def is_done(self) -> bool:
        return self.outcome is not None

    def deliver(self, outcome: Any) -> bool:
        assert self.outcome is None, "told twice"
        if self.is_gone:
            return False
        self.outcome = outcome
        return True


def wait_joined(world: World, points: PointReads, read: PointRead, waiter: JoinedWaiter) -> Steps:
    """Waits for the outcome: bytes or ALONE. Raises what the joined find raised."""
    try:
        yield waiter.is_done
    except Cancelled:
        waiter.is_gone = True
        if waiter.outcome is None:
            _deliver(points.withdraw(read, world.clock.now_s))
        elif waiter.outcome is ALONE:
            _deliver(points.refused(read, world.clock.now_s))
        raise
    if isinstance(waiter.outcome, BaseException):
        raise waiter.outcome
    return waiter.outcome


def _deliver(waiters: list[tuple[Any, Any]]) -> None:
    for waiter, answer in waiters:
        waiter.deliver(answer)


def give(world: World, points: PointReads, told: tuple[Any, Any]) -> None:
    outcomes, waiters = told
    for read, outcome in outcomes:
        if not read.waiter.deliver(outcome) and outcome is ALONE:
            _deliver(points.refused(read, world.clock.now_s))
    _deliver(waiters)


def send_joined(world: World, find: JoinedFind | None) -> None:
    """A task or thread of its own sends it."""
    if find is not None:
        world.say("joined:", [read.waiter.query for read in find.reads], "is sent")
        world.counts["joined finds"] += 1
        world.spawn("joined find", _sending(world, find))


def _sending(world: World, find: JoinedFind) -> Steps:
    """The driver's part: sends, and sends again once if it may; then replies one by one."""
    points, clock = find.points, world.clock
    yield None
    reads = list(find.reads)
    cut = world.choices.below(len(reads) + 1) if world.choices.below(3) == 2 else len(reads)
    is_again = False
    while True:
        branch = world.selected
        request = Request()
        world.send("find", request, _execute(world, branch, reads[:cut], find, request))
        yield request.answered
        if request.error is None and cut < len(reads):
            yield from _replied(world, find, branch, request)
            # The rest comes with a getMore, which is never sent again.
            request = Request()
            world.send("getMore", request, _execute(world, branch, reads[cut:], find, request))
            yield request.answered
            is_again = True
        if request.error is None:
            break
        world.failed(request.error)
        if is_again:
            if request.error == "network":
                told = find.failed(clock.now_s, lambda: DriverError("network"))
            else:
                told = find.alone("error"), []
            give(world, points, told)
            send_joined(world, find.landed(clock.now_s))
            return
        is_again = True
    yield from _replied(world, find, branch, request)
    give(world, points, find.ended(clock.now_s))
    send_joined(world, find.landed(clock.now_s))


def _execute(
    world: World, branch: Branch, reads: list[PointRead], find: JoinedFind, request: Request
) -> Steps:
    """A server reads some of the documents, all at one instant."""
    yield None
    after = find.seen
    if after and not branch.is_dead:
        yield lambda: branch.is_dead or branch.wait_until(after)
    if branch.is_dead:
        request.answer("not_primary")
        return
    if world.choices.below(24) == 23:
        request.answer(1)
        return
    asked = find.filter["_id"]["$in"]
    found = {}
    for read in reads:
        waiter = read.waiter
        assert read.value in asked
        found[read.value] = branch.state.answer(waiter.query)
    request.data = b"".join(found.values())
    request.executed_s = world.clock.now_s
    request.answer(time=branch.last_applied)


def _replied(world: World, find: JoinedFind, branch: Branch, request: Request) -> Steps:
    yield from world.on_its_way()
    address = branch.primary.address
    find.answerer.address = address
    reply = world.reply(request.time)
    world.engine.command_succeeded(world.next_key(), "find", reply, address, world.clock.now_s)
    yield from world.on_its_way()
    for read in find.reads:
        if not read.waiter.is_done():
            read.waiter.executed_s = request.executed_s
    give(world, find.points, find.arrived(request.data, world.clock.now_s))


def timer(world: World, points: PointReads) -> Steps:
    """Asks for what has waited for too long."""

    def is_due() -> bool:
        for gathering in points._gatherings.values():
            due_s = points.due_s(gathering)
            if due_s is not None and world.clock.now_s >= due_s:
                return True
        return False

    while True:
        yield is_due
        for gathering in list(points._gatherings.values()):
            send_joined(world, points.overdue(gathering, world.clock.now_s))
