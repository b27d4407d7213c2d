"""Random interleavings of writers that join, a driver, and a server that fails.

Nothing runs by itself: callers, commands on the wire and the server are generators, and the
explorer decides who goes next, from a seed. The driver is a model (one retry under a transaction
number, a reply that is lost, read in part, or is an error); lanes, batches and settlement are the
real ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from qbmongo.core.coalesce import UNSUPPORTED, Coalescer, Group, settle
from qbmongo.core.lanes import Lane, LaneLimits
from qbmongo.records import Batch, BatchReply, JoinedWrite, Sending, Verdict
from qbmongo_tests.core.machine.choices import Choices

from .operations import Operation, any_operation
from .oracle import Oracle, Violation
from .server import NAMESPACE, FakeServer, Refused

__all__ = ["OPERATIONS_OF_A_RUN", "Report", "explore", "first_violation", "run_once"]

OPERATIONS_OF_A_RUN = 200
_STEPS_OF_AN_OPERATION = 400
_IDS = 5
_CONCERN = {"code": 64, "errmsg": "waiting for replication timed out"}
_OVER = Verdict("done")
# How long the explorer's clock moves with each step.
_STEP_S = 0.001

Steps = Generator[Callable[[], bool] | None, None, Any]


@dataclass
class Report:
    """What was checked, and how often what happened."""

    operations: int = 0
    runs: int = 0
    counts: Counter[str] = field(default_factory=Counter)


class _Waiter:
    """A caller waiting for its verdict, or whoever waits for a flush."""

    def __init__(self) -> None:
        self.verdict: Any = None
        self.is_told = False
        self.is_gone = False

    def deliver(self, verdict: Any) -> None:
        if self.is_told:
            raise Violation("a caller is told twice")
        self.verdict, self.is_told = verdict, True


class _Joined(JoinedWrite):
    """A write that gathers, and the operation that it is."""

    __slots__ = ("operation",)

    operation: Operation


@dataclass(eq=False)
class _Actor:
    steps: Steps
    wait: Callable[[], bool] | None = None
    cancel: Callable[[], None] | None = None


class _Lost(Exception):
    """The connection broke."""


class _Failed(Exception):
    """The server's error of a whole command."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


class _World:
    """One client, one server, and everybody who is on the way."""

    def __init__(self, choices: Choices, report: Report) -> None:
        below = choices.below
        self.below = below
        self.counts = report.counts
        self.now_s = 100.0
        self.limits = LaneLimits(
            max_in_flight=1 + below(3),
            max_ops=2 + below(8),
            max_bytes=(100_000, 40)[below(2)],
            patience_s=(1e9, 0.05)[below(2)],
            linger_s=(0.0, 0.0, 0.01)[below(3)],
        )
        self.fault_one_in = (10_000, 12, 4)[below(3)]
        self.retries = below(4) > 0
        self.flushes = below(4) == 0
        self.oracle = Oracle()
        self.server = FakeServer(follow=self.oracle.executed)
        self.coalescer = Coalescer((1_000_000, 200)[below(2)])
        self.actors: list[_Actor] = []
        self.running: set[Any] = set()
        self.begun = self.ended = self.sessions = 0
        self.sizes: dict[int, int] = {}

    def spawn(self, steps: Steps) -> _Actor:
        actor = _Actor(steps)
        self.actors.append(actor)
        return actor

    # A caller

    def caller(self, actor: list[_Actor]) -> Steps:
        """One write, as a client's method makes it."""
        operation = any_operation(self.below, self.begun, ids=_IDS, invalid=False)
        self.begun += 1
        size = self.sizes[operation.number] = 5 + self.below(30)
        group: Group = "insert" if operation.kind == "insert_one" else "update"
        coalescer = self.coalescer
        if group == "update" and not coalescer.can_bulk_write(self.now_s):
            coalescer.refused["unsupported"] += 1
            yield from self.alone(operation)
        elif not coalescer.has_space(size):
            self.counts["no space"] += 1
            yield from self.alone(operation)
        else:
            lane = coalescer.lane(NAMESPACE, group, "w1", self.limits)
            sending = lane.enter(self.now_s)
            if sending is not None:
                self.check_wire(lane)
                yield from self.alone(operation)
                self.landed(lane, group, sending)
            else:
                yield from self.join(lane, group, operation, size, actor[0])
        self.ended += 1

    def join(
        self, lane: Lane, group: Group, operation: Operation, size: int, actor: _Actor
    ) -> Steps:
        waiter = _Waiter()
        slot = _Joined(operation.kind)
        slot.operation = operation
        slot.size, slot.waiter, slot.gathered_s = size, waiter, self.now_s
        lane.put(slot)
        self.check_gathering(lane)

        def cancel() -> None:
            waiter.is_gone = True
            if lane.cancel(slot):
                self.counts["cancelled in time"] += 1
                self.oracle.not_applied(operation, "taken out")
                operation_is_out.append(True)
            else:
                self.counts["cancelled too late"] += 1

        operation_is_out: list[bool] = []
        actor.cancel = cancel
        yield lambda: waiter.is_told or waiter.is_gone
        actor.cancel = None
        if waiter.is_gone:
            if operation_is_out and slot.batch is not None:
                raise Violation(f"{operation} was taken out and is in a batch")
            return
        yield from self.told(operation, waiter.verdict)

    def told(self, operation: Operation, verdict: Any) -> Steps:
        """What the client makes of a verdict for its caller."""
        kind = verdict.kind
        if verdict is _OVER:
            return
        self.counts[kind] += 1
        oracle = self.oracle
        if kind == "done":
            oracle.done(operation, verdict.document)
        elif kind == "failed":
            oracle.failed(operation, verdict.document)
        elif kind == "concern":
            if verdict.document != _CONCERN:
                raise Violation(f"{operation}: another concern: {verdict.document}")
            oracle.done(operation, None)
        elif kind == "alone":
            oracle.not_applied(operation, "sent again")
            yield from self.alone(operation)
        else:
            oracle.unknown(operation)

    def alone(self, operation: Operation) -> Steps:
        """The plain driver's call."""
        command = _single(operation)
        try:
            yield from self.driver(command, self.spawn_attempt)
        except _Lost:
            self.oracle.unknown(operation)
        except _Failed as error:
            self.oracle.unknown(operation)
            if error.code in UNSUPPORTED:
                raise Violation("a single call is not supported") from error

    # A batch

    def landed(self, lane: Lane, group: Group, sending: Sending) -> None:
        batch = self.coalescer.landed(lane, sending, self.now_s)
        if batch is not None:
            self.send(lane, group, batch)
        if self.below(20) == 0 and self.coalescer.landed(lane, sending, self.now_s) is not None:
            raise Violation("one landing brings two batches")

    def send(self, lane: Lane, group: Group, batch: Batch) -> None:
        self.check_batch(lane, batch)
        self.spawn(self.batch(lane, group, batch))

    def batch(self, lane: Lane, group: Group, batch: Batch) -> Steps:
        """What the client does with a batch; one operation is sent as its plain call."""
        if len(batch.slots) == 1:
            slot = batch.slots[0]
            yield from self.alone(slot.operation)
            if not slot.waiter.is_gone:
                slot.waiter.deliver(_OVER)
            self.landed(lane, group, batch.sending)
            return
        reply = yield from self.reply(group, [slot.operation for slot in batch.slots])
        if group == "update":
            self.coalescer.bulk_write_answered(reply, self.now_s)
        verdicts = settle(batch, reply)
        if len(verdicts) != len(batch.slots):
            raise Violation("not a verdict each")
        self.coalescer.count(verdicts)
        for slot, verdict in zip(batch.slots, verdicts, strict=True):
            if slot.left:
                raise Violation("who was taken out is in a batch")
            if not slot.waiter.is_gone:
                slot.waiter.deliver(verdict)
            elif verdict.kind == "alone":
                # Its caller is gone after dispatch: the write goes on.
                self.oracle.not_applied(slot.operation, "sent again")
                self.spawn(self.alone(slot.operation))
        self.landed(lane, group, batch.sending)

    def reply(self, group: Group, operations: list[Operation]) -> Generator[Any, None, BatchReply]:
        """What the driver tells of a batch's command, as plain data."""
        if self.fault() and self.below(3) == 0:
            return BatchReply(None, {}, failure="other", sent=0)
        command = _insert(operations) if group == "insert" else _bulk_write(operations)
        sent = [0]

        def attempt(*args: Any) -> Any:
            sent[0] += 1
            return self.spawn_attempt(*args)

        concern = _CONCERN if self.below(12) == 0 else None
        try:
            answer = yield from self.driver(command, attempt)
        except _Lost:
            return BatchReply({}, {}, failure="network", sent=sent[0])
        except _Failed as error:
            return BatchReply({}, {}, failure="command", code=error.code, sent=sent[0])
        if group == "insert":
            errors = {e["index"]: e for e in answer.get("writeErrors", ())}
            return BatchReply(None, errors, concern, sent=sent[0])
        shown = answer["cursor"]["firstBatch"]
        failure: Any = None
        if self.fault() and len(shown) > 1:
            # The rest of the results was to come by a getMore, and did not.
            shown, failure = shown[: self.below(len(shown))], "network"
        return BatchReply(
            {r["idx"]: r for r in shown if r["ok"]},
            {r["idx"]: r for r in shown if not r["ok"]},
            None if failure else concern,
            failure,
            sent=sent[0],
        )

    # The driver and the wire

    def fault(self) -> bool:
        return self.below(self.fault_one_in) == 0

    def driver(self, command: Mapping[str, Any], attempt: Callable[..., Any]) -> Steps:
        """One command as the driver sends it: again, once, under the same transaction number."""
        self.sessions += 1
        session = self.sessions if self.retries else None
        try:
            return (yield from attempt(command, session))
        except (_Lost, _Failed) as error:
            if session is None or (isinstance(error, _Failed) and error.code != 91):
                raise
            self.counts["retried"] += 1
            yield None
            return (yield from attempt(command, session))

    def spawn_attempt(self, command: Mapping[str, Any], session: Any) -> Steps:
        """One sending: lost, executed in part or whole, its reply lost or not."""
        yield None
        if self.fault():
            raise _Lost  # before the server saw it
        box: dict[str, Any] = {}
        stops = self.fault() and self.below(2) == 0
        self.spawn(self.execution(command, session, box, stops=stops))
        if self.fault():
            raise _Lost  # while it is being executed
        yield lambda: "reply" in box or "error" in box
        if self.fault():
            raise _Lost  # the reply
        if "error" in box:
            raise _Failed(box["error"])
        return box["reply"]

    def execution(
        self, command: Mapping[str, Any], session: Any, box: dict[str, Any], *, stops: bool
    ) -> Steps:
        """The server's side: one execution of a session's number at a time."""
        yield lambda: session not in self.running
        if session is not None:
            self.running.add(session)
        try:
            for result in self.server.execute(command, session):
                if result is not None:
                    box["reply"] = result
                elif stops and self.below(2) == 0:
                    box["error"] = 91  # ShutdownInProgress, in the middle
                    return
                yield None
        except Refused as refusal:
            box["error"] = refusal.reply["code"]
        finally:
            self.running.discard(session)

    # Everybody else

    def timer(self) -> Steps:
        """Wakes lanes when they are due, as the clients' timers do."""
        while True:
            yield None
            for (_, group), lanes in self.coalescer._lanes.items():
                for _, lane in lanes:
                    due_s = lane.due_s(self.now_s)
                    if due_s is not None and self.now_s >= due_s:
                        batch = lane.overdue(self.now_s)
                        if batch is not None:
                            self.counts["overdue"] += 1
                            self.send(lane, group, batch)

    def chaos(self) -> Steps:
        """Cancellations, failovers, refusals, flushes, time."""
        while True:
            yield None
            chance = self.below(240)
            if chance < 6:
                may = [actor for actor in self.actors if actor.cancel is not None]
                if may:
                    cancel = may[self.below(len(may))].cancel
                    assert cancel is not None
                    cancel()
            elif chance == 6 and self.fault():
                self.server.has_bulk_write = not self.server.has_bulk_write
                self.coalescer.primary_changed()
                self.counts["failovers"] += 1
            elif chance == 7 and self.below(4) == 0:
                refusal = None if self.server.refusal else (13, 2, 73)[self.below(3)]
                self.server.refusal = refusal
            elif chance == 8:
                self.now_s += 0.1
            elif chance == 9 and self.flushes:
                self.flush()

    def flush(self) -> None:
        waiter = _Waiter()
        before = [sending for lane in self.coalescer.lanes() for sending in lane.sendings()]
        gathered = [slot for lane in self.coalescer.lanes() for slot in lane._pending]
        groups = {id(lane): key[1] for key, ls in self.coalescer._lanes.items() for _, lane in ls}
        batches = self.coalescer.flush(self.now_s, waiter)
        for lane, batch in batches:
            self.send(lane, groups[id(lane)], batch)
        if any(slot.batch is None for slot in gathered):
            raise Violation("a flush leaves operations behind")
        waited_for = {*before, *(batch.sending for _, batch in batches)}
        self.counts["flushes"] += 1
        self.spawn(self.flushing(waiter, waited_for))

    def flushing(self, waiter: _Waiter, waited_for: set[Sending]) -> Steps:
        yield lambda: waiter.is_told
        on_the_wire = {s for lane in self.coalescer.lanes() for s in lane.sendings()}
        if waited_for & on_the_wire:
            raise Violation("a flush is over before what it waited for has landed")

    # Invariants

    def check_gathering(self, lane: Lane) -> None:
        limits = self.limits
        fresh = [s for s in lane.sendings() if s.started_s > self.now_s - limits.patience_s]
        lingers = limits.linger_s and self.now_s < (lane.due_s(self.now_s) or 0.0)
        if len(fresh) < limits.max_in_flight and not lingers and len(lane._pending) == 1:
            due_s = lane.due_s(self.now_s)
            if due_s is None or due_s > self.now_s + limits.linger_s + limits.patience_s:
                raise Violation("gathers although there is room, and nobody will look")

    def check_batch(self, lane: Lane, batch: Batch) -> None:
        limits, slots = self.limits, batch.slots
        self.counts["batches"] += 1
        self.counts["joined"] += len(slots) if len(slots) > 1 else 0
        size = sum(self.sizes[slot.operation.number] for slot in slots)
        if not slots or len(slots) > limits.max_ops:
            raise Violation(f"a batch of {len(slots)} operations")
        if len(slots) > 1 and size > limits.max_bytes:
            raise Violation(f"a batch of {size} bytes")
        numbers = [slot.gathered_s for slot in slots]
        if numbers != sorted(numbers):
            raise Violation("a batch out of order")
        self.check_wire(lane)

    def check_wire(self, lane: Lane) -> None:
        limits, sendings = self.limits, len(lane.sendings())
        if sendings > limits.max_in_flight and limits.patience_s > 1e6 and not self.flushes:
            raise Violation(f"{sendings} sendings on the wire")

    def check_end(self) -> None:
        counts = self.coalescer.counts
        held = (counts.pending, counts.in_flight, counts.held_bytes)
        if held != (0, 0, 0) or not all(lane.is_idle for lane in self.coalescer.lanes()):
            raise Violation(f"all is over, and something is held: {held}")
        if self.ended != self.begun:
            raise Violation(f"{self.begun - self.ended} callers are never told")


def _single(operation: Operation) -> dict[str, Any]:
    if operation.kind == "insert_one":
        return _insert([operation])
    if operation.kind == "delete_one":
        return {"delete": "c", "deletes": [{"q": operation.filter, "limit": 1}]}
    update = {"q": operation.filter, "u": operation.document, "upsert": operation.upsert}
    return {"update": "c", "updates": [update]}


def _insert(operations: list[Operation]) -> dict[str, Any]:
    return {"insert": "c", "documents": [operation.document for operation in operations]}


def _bulk_write(operations: list[Operation]) -> dict[str, Any]:
    ops: list[dict[str, Any]] = []
    for operation in operations:
        if operation.kind == "delete_one":
            ops.append({"delete": 0, "filter": operation.filter, "multi": False})
        else:
            op = {"update": 0, "filter": operation.filter, "updateMods": operation.document}
            ops.append({**op, "upsert": operation.upsert, "multi": False})
    return {"bulkWrite": 1, "ops": ops, "errorsOnly": False, "ordered": False}


def run_once(choices: Choices, report: Report, operations: int = OPERATIONS_OF_A_RUN) -> None:
    """One run of so many writes. Raises Violation."""
    world = _World(choices, report)
    below, actors = world.below, world.actors
    for forever in (world.timer(), world.chaos()):
        world.spawn(forever)
    most = operations * _STEPS_OF_AN_OPERATION
    callers = 1 + below(30)
    for _ in range(most):
        world.now_s += _STEP_S
        if world.begun - world.ended < callers and world.begun < operations and below(4) == 0:
            box: list[_Actor] = []
            box.append(world.spawn(world.caller(box)))
        if world.begun == operations and len(actors) == 2:
            break
        first = below(len(actors))
        for offset in range(len(actors)):
            actor = actors[(first + offset) % len(actors)]
            if actor.wait is None or actor.wait():
                try:
                    actor.wait = actor.steps.send(None)
                except StopIteration:
                    actors.remove(actor)
                break
    world.check_end()
    report.operations += world.begun
    report.runs += 1


def explore(operations: int, seed: int, report: Report | None = None) -> Report:
    """Runs until so many operations were made. Raises Violation, with its seed."""
    report = report or Report()
    while report.operations < operations:
        seed += 1
        try:
            run_once(Choices(seed), report)
        except Violation as violation:
            raise Violation(f"seed {seed}: {violation}") from violation
    return report


def first_violation(operations: int, seed: int) -> AssertionError | None:
    """What the first run after a seed finds, if any does within so many operations."""
    try:
        explore(operations, seed)
    except Violation as violation:
        return violation
    return None
