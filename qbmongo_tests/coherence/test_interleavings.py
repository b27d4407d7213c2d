"""No lease promises what was not told: random interleavings of writes, faults and elections.

Each safeguard is taken out in turn, and the same search must then find a broken promise.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbmongo.coherence.plan import Plan
from qbmongo.coherence.records import Limits, Sleep
from qbmongo.coherence.stream import Position, Stream
from qbmongo_tests.coherence.model import Violation, World, Write

DATABASES = ("p", "q")
_LIMITS = Limits(batch_events=2, pace_s=0.002, max_events_per_s=10_000)


class Walk:
    """One random run. choose(n) gives the next decision, a number below n."""

    def __init__(self, choose: Callable[[int], int]) -> None:
        self.choose = choose
        self.world = World(_LIMITS)
        self.world.watch(*DATABASES)
        self.holes: list[Write] = []
        self.steps: list[Callable[[], None]] = [
            *[self.advance] * 24,
            *[self.write] * 6,
            self.open_hole,
            self.close_hole,
            self.close_hole,
            self.lose,
            self.stall,
            self.unstall,
            self.unstall,
            self.elect,
            self.lose_history,
            self.drop_database,
            self.kill_cursor,
            self.wait,
        ]

    def run(self, length: int) -> None:
        for _ in range(length):
            self.steps[self.choose(len(self.steps))]()
        # What is left over must come right when the faults end.
        self.world.server.is_stalled = False
        for hole in self.holes:
            self.world.server.end_write(hole)
        if self.world.in_flight is not None:
            self.world.lose()
        self.world.settle()
        self.world.settle()

    def advance(self) -> None:
        """The next of: ask, execute, answer; most often all that is left of one command."""
        world = self.world
        is_whole = self.choose(3) > 0
        if world.in_flight is None:
            action = world.ask()
            if isinstance(action, Sleep):
                self.wait()
                return
            if not is_whole:
                return
        if world.outcome is None:
            world.execute()
            if not is_whole:
                return
        world.answer()

    def database(self) -> str:
        return DATABASES[self.choose(len(DATABASES))]

    def write(self) -> None:
        self.world.server.write(self.database())

    def open_hole(self) -> None:
        self.holes.append(self.world.server.begin_write(self.database()))

    def close_hole(self) -> None:
        if self.holes:
            self.world.server.end_write(self.holes.pop(self.choose(len(self.holes))))

    def lose(self) -> None:
        if self.world.in_flight is not None:
            self.world.lose()

    def stall(self) -> None:
        self.world.server.is_stalled = True

    def unstall(self) -> None:
        self.world.server.is_stalled = False
        self.world.server.replicate()

    def elect(self) -> None:
        server = self.world.server
        self.world.driver_knows = server.primary if self.choose(2) else None
        server.elect("ab"[self.choose(2)], keep_cursors=bool(self.choose(2)))
        self.holes = [hole for hole in self.holes if hole in server.oplog]

    def lose_history(self) -> None:
        self.world.server.history_lost_before = self.world.server.time
        self.kill_cursor()

    def drop_database(self) -> None:
        self.world.server.write(self.database(), "dropDatabase")

    def kill_cursor(self) -> None:
        cursors = self.world.server.cursors
        if cursors:
            del cursors[sorted(cursors)[self.choose(len(cursors))]]

    def wait(self) -> None:
        self.world.server.tick((0.003, 0.1, 0.6)[self.choose(3)])


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_every_lease_keeps_its_promise(data: st.DataObject) -> None:
    choices = iter(data.draw(st.lists(st.integers(0, 2**16), min_size=200, max_size=600)))
    Walk(lambda n: next(choices, 0) % n).run(120)


def search(seeds: range, length: int = 150) -> int:
    """How many of these runs broke a promise."""
    broken = 0
    for seed in seeds:
        try:
            Walk(random.Random(seed).randrange).run(length)
        except Violation:
            broken += 1
    return broken


def test_many_random_runs_break_no_promise() -> None:
    assert search(range(400)) == 0


def _lease_without_majority_read(patch: pytest.MonkeyPatch) -> None:
    def reached_at_once(plan: Any) -> None:
        if plan._probe is not None and plan._probe.time is not None:
            plan._majority_reached()

    patch.setattr(Plan, "_majority_read", reached_at_once)


def _lease_without_a_later_get_more(patch: pytest.MonkeyPatch) -> None:
    reached = Plan._majority_reached

    def lease_now(plan: Any) -> None:
        reached(plan)
        for stream in plan._streams.values():
            position = stream._passed(None, 0.0)
            if position is not None:
                stream.state = "trusted"
                stream.lease_round = position.round
                plan._sink.lease(stream.database, position.primary, position.start_s)

    patch.setattr(Plan, "_majority_reached", lease_now)


def _lease_from_now(patch: pytest.MonkeyPatch) -> None:
    passed = Stream._passed

    def later(stream: Any, last: Any, now_s: float) -> Any:
        position = passed(stream, last, now_s)
        if position is None:
            return None
        return Position(position.round, now_s, position.time, position.primary)

    patch.setattr(Stream, "_passed", later)


def _any_batch_proves(patch: pytest.MonkeyPatch) -> None:
    passed = Stream._passed
    patch.setattr(Stream, "_passed", lambda stream, last, now_s: passed(stream, None, now_s))


def _primary_not_compared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Plan, "_is_another", lambda plan, primary: False)
    hello = Plan._hello

    def forgetful(plan: Any, *arguments: Any) -> None:
        plan._primary = None
        hello(plan, *arguments)

    patch.setattr(Plan, "_hello", forgetful)


def _cursor_kept_after_a_lost_reply(patch: pytest.MonkeyPatch) -> None:
    disconnected = Plan._disconnected
    drop = Stream.drop_cursor

    def keep(plan: Any, *arguments: Any) -> None:
        disconnected(plan, *arguments)
        for stream in plan._streams.values():
            stream.cursor = stream.cursor or kept.get(stream)

    kept: dict[Any, Any] = {}

    def remember(stream: Any) -> None:
        kept[stream] = stream.cursor
        drop(stream)

    patch.setattr(Plan, "_disconnected", keep)
    patch.setattr(Stream, "drop_cursor", remember)


def _failed_resume_is_no_gap(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Stream, "gap", lambda stream, reason, now_s: stream.reopen(reason, now_s))


def _resumes_at_the_present(patch: pytest.MonkeyPatch) -> None:
    command = Stream.open_command

    def forgetful(stream: Any) -> dict[str, Any]:
        opened: dict[str, Any] = command(stream)
        opened["pipeline"][0]["$changeStream"].pop("resumeAfter", None)
        return opened

    patch.setattr(Stream, "open_command", forgetful)


@pytest.mark.parametrize(
    "take_out",
    [
        _lease_without_majority_read,
        _lease_without_a_later_get_more,
        _lease_from_now,
        _any_batch_proves,
        _primary_not_compared,
        _cursor_kept_after_a_lost_reply,
        _failed_resume_is_no_gap,
        _resumes_at_the_present,
    ],
)
def test_each_safeguard_is_needed(
    take_out: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    take_out(monkeypatch)
    found = 0
    for start in range(0, 2000, 50):
        found = search(range(start, start + 50))
        if found:
            break
    assert found
