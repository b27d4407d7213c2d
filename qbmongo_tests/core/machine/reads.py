"""A client's read, step by step, as the cursors in qbmongo.clients make it."""

from __future__ import annotations

from typing import Any

from bson.codec_options import DEFAULT_CODEC_OPTIONS

from qbmongo.core.batching import PointRead
from qbmongo.core.engine import ALONE, Join, Lead, Scope
from qbmongo.core.lone_reads import LoneRead
from qbmongo.core.point_keys import plain_id
from qbmongo.core.point_reads import Direct

from .documents import Query
from .joined_finds import JoinedWaiter, send_joined, wait_joined
from .world import Actor, Cancelled, DriverError, Request, Steps, World

__all__ = ["Reader"]


class _Waiter:
    """Somebody who waits for a flight's answer."""

    __slots__ = ("answer",)

    def __init__(self) -> None:
        self.answer: Any = None

    def is_done(self) -> bool:
        return self.answer is not None

    def deliver(self, answer: Any) -> None:
        assert self.answer is None
        self.answer = answer


class Reader:
    """One task or thread that reads, again and again."""

    def __init__(self, world: World, name: str, queries: tuple[Query, ...]) -> None:
        self._world = world
        self._name = name
        self._queries = queries
        self._scopes = {q.namespace: world.engine.scope(q.namespace) for q in queries}
        self.actor: Actor = world.spawn(name, self._run())

    def _run(self) -> Steps:
        world, below = self._world, self._world.choices.below
        while True:
            query = self._queries[below(len(self._queries))]
            try:
                yield None
                self.actor.may_cancel = True
                yield from self._read(query)
            except (Cancelled, DriverError) as error:
                world.say(f"{self._name}: {type(error).__name__}")
                world.oracle.gave_up(self)
            self.actor.may_cancel = False

    def _read(self, query: Query) -> Steps:
        world, scope = self._world, self._scopes[query.namespace]
        oracle, clock, below = world.oracle, world.clock, world.choices.below
        start_s = oracle.began(self)
        op = query.make()
        entry = scope.hit(op, DEFAULT_CODEC_OPTIONS, start_s)
        if entry is not None:
            data = entry.data
            if below(4) == 3:
                yield None
            scope.served(entry, start_s, clock.now_s)
            world.say(f"{self._name}: {query} from memory")
            oracle.check(self, query, data)
            return
        share = below(6) != 5
        points = scope.points
        if points is not None and query.is_point and share and below(4) != 3:
            waiting = JoinedWaiter(query)
            asked = plain_id(dict(op.filter))
            assert asked is not None
            # A main thread can neither wait nor be waited for.
            new_waiter = None if below(8) == 7 else lambda: waiting
            read = points.join(scope, asked, DEFAULT_CODEC_OPTIONS, new_waiter, clock.now_s)
            if type(read) is LoneRead:
                world.counts["lone reads without a ticket"] += 1
                try:
                    yield from self._by_itself(query, read)
                finally:
                    send_joined(world, read.landed(clock.now_s))
                return
            if read is not None:
                world.counts["joins without a ticket"] += 1
                yield from self._together(scope, query, read, waiting)
                return
        is_again = False
        while True:
            decision = scope.begin_read(op, DEFAULT_CODEC_OPTIONS, clock.now_s, share=share)
            if type(decision) is not Join:
                ticket: Any = decision
                break
            yield None
            waiter = _Waiter()
            if not scope.join(decision, waiter):
                continue
            world.say(f"{self._name}: {query} joins")
            answer = yield from self._wait(scope, decision, waiter)
            if type(answer) is bytes:
                scope.settle_read(decision.ticket, clock.now_s, documents=1, size=len(answer))
                world.say(f"{self._name}: {query} from a flight")
                oracle.check(self, query, answer)
                return
            ticket = answer if type(answer) is Lead else decision.ticket
            is_again = True
            break
        if points is None or not query.is_point or is_again:
            yield from self._alone(scope, query, ticket)
            return
        waiting = JoinedWaiter(query)
        place = points.begin(ticket, DEFAULT_CODEC_OPTIONS, waiting, clock.now_s)
        if type(place) is Direct:
            try:
                yield from self._alone(scope, query, ticket)
            finally:
                send_joined(world, points.landed(place.gathering, place.place, clock.now_s))
            return
        if type(place) is PointRead:
            yield from self._together(scope, query, place, waiting)
            return
        yield from self._alone(scope, query, ticket)

    def _together(
        self, scope: Scope, query: Query, read: PointRead, waiting: JoinedWaiter
    ) -> Steps:
        """Waits for a joined find; sends the read by itself where that does not answer it."""
        world, points = self._world, scope.points
        assert points is not None
        world.say(f"{self._name}: {query} gathers")
        outcome = yield from wait_joined(world, points, read, waiting)
        if type(outcome) is bytes:
            world.counts["joined reads"] += 1
            world.say(f"{self._name}: {query} from a joined find")
            world.oracle.check_joined(self, query, outcome, waiting.executed_s)
            return
        world.counts["fallbacks"] += 1
        yield from self._alone(scope, query, read.ticket)

    def _by_itself(self, query: Query, read: LoneRead) -> Steps:
        """Sends a read that is on the wire by itself, and has no ticket."""
        world = self._world
        world.say(f"{self._name}: {query} is sent as LoneRead")
        request = Request()
        try:
            yield None
            yield from world.call(self._name, self._send_lone(query, read, request))
        except Cancelled as error:
            # A thread of Motor's goes on.
            is_motor = world.config.is_motor
            waiters = read.left() if is_motor else read.failed(error, world.clock.now_s)
            for waiter, answer in waiters:
                world.say(f"{self._name}: hands over")
                waiter.deliver(answer)
            raise
        world.oracle.check_sent(self, request.executed_s)

    def _send_lone(self, query: Query, read: LoneRead, result: Request) -> Steps:
        """As `_send`, of a read that has no ticket."""
        world = self._world
        clock, engine = world.clock, world.engine
        is_again = False
        while True:
            branch, request = world.selected, Request()
            world.send("find", request, world.read(branch, query, read.seen, request))
            yield request.answered
            if request.error is None:
                break
            world.failed(request.error)
            if is_again:
                error = DriverError(request.error)
                for waiter, answer in read.failed(error, clock.now_s):
                    waiter.deliver(answer)
                raise error
            is_again = True
        yield from world.on_its_way()
        address = branch.primary.address
        read.answerer.address = address
        reply = world.reply(request.time)
        engine.command_succeeded(world.next_key(), "find", reply, address, clock.now_s)
        yield from world.on_its_way()
        data = request.data if world.choices.below(8) != 7 else None
        for waiter, answer in read.answered(data, 1, len(request.data), clock.now_s):
            waiter.deliver(answer)
        result.executed_s = request.executed_s
        yield None

    def _alone(self, scope: Scope, query: Query, ticket: Any) -> Steps:
        """Sends a read by itself, under its ticket."""
        world = self._world
        world.say(f"{self._name}: {query} is sent as {type(ticket).__name__}")
        request = Request()
        try:
            yield None
            yield from world.call(self._name, self._send(scope, query, ticket, request))
        except Cancelled:
            heir = scope.cancel_read(ticket)
            if heir is not None:
                world.say(f"{self._name}: hands over")
                heir[0].deliver(heir[1])
            raise
        world.oracle.check_sent(self, request.executed_s)

    def _wait(self, scope: Scope, join: Join, waiter: _Waiter) -> Steps:
        try:
            yield waiter.is_done
        except Cancelled:
            scope.leave(join, waiter)
            if type(waiter.answer) is Lead:
                heir = scope.cancel_read(waiter.answer)
                if heir is not None:
                    heir[0].deliver(heir[1])
            raise
        return waiter.answer

    def _send(self, scope: Scope, query: Query, ticket: Any, result: Request) -> Steps:
        """The driver's part: sends, and sends again once if it may."""
        world = self._world
        clock, engine = world.clock, world.engine
        after = ticket.seen if type(ticket) is Lead else 0
        is_again = False
        while True:
            branch, request = world.selected, Request()
            world.send("find", request, world.read(branch, query, after, request))
            yield request.answered
            if request.error is None:
                break
            world.failed(request.error)
            if is_again:
                for waiter in scope.fail_read(ticket, clock.now_s):
                    waiter.deliver(ALONE)
                raise DriverError(request.error)
            is_again = True
        yield from world.on_its_way()
        address = branch.primary.address
        ticket.address = address
        reply = world.reply(request.time)
        engine.command_succeeded(world.next_key(), "find", reply, address, clock.now_s)
        yield from world.on_its_way()
        # A cursor that its caller closes before the end fills nothing.
        data = request.data if type(ticket) is Lead and ticket.fill.shared else None
        if data is None and world.choices.below(8) != 7:
            data = request.data
        waiters = scope.settle_read(
            ticket, clock.now_s, documents=1, size=len(request.data), data=data
        )
        for waiter, answer in waiters:
            waiter.deliver(answer)
        result.executed_s = request.executed_s
        yield None
