"""What a read may return: contracts 1 and 2 of DESIGN section 2, exactly.

Let the *timeline* be the states that the primary of the client's own driver went through, each with
the instant it became visible (another primary counts from the instant the driver selects it). A
read begins at `start` and returns at `end`.

- A read that was sent for this caller returns what a server answered to that sending, which was
  executed after `start`.
- A read answered from memory, or by another caller's sending, returns the answer to its query on
  some state S, where S is a state of the timeline that was current at an instant between
  `start - window` and `end`, upon which every *own* write acknowledged before `start` has been
  applied that S does not contain yet.

`window` is `lease_s`, or `ttl_s` where the user set it: by so much may others' writes, and own
writes whose outcome is not known, be missing; an own acknowledged write never is. (Own writes are
applied anew, as operations, because another writer's earlier write may be the one that is missing.)
A view that another client has put in a collection's place less than `window` before `start` is not
known as one: own writes to what it shows may be missing from it. An own write that a fail-over
rolled back is required of no read: the plain driver would not find it.
With `ttl_s` and no stream, own writes of unknown outcome that the server executes within
`unknown_s` of the error count as acknowledged, because what they touch is not cached for so long.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from .clock import Clock
from .documents import Query, State
from .operations import Operation

__all__ = ["Oracle", "OwnWrite", "Violation"]


class Violation(AssertionError):
    """A read returned what it must not."""


class OwnWrite:
    """A write of the client's, or a whole transaction.

    commits: per primary that holds it, how many commits that primary had seen with it.
    committed_s, acknowledged_s: the latest such instant; when its caller was told.
    """

    __slots__ = ("_clock", "acknowledged_s", "commits", "committed_s", "operations", "unknown_s")

    def __init__(self, operations: list[Operation], clock: Clock) -> None:
        self.operations = operations
        self.commits: dict[int, int] = {}
        self.committed_s = -math.inf
        self.acknowledged_s = math.inf
        self.unknown_s = math.inf
        self._clock = clock

    def committed(self, branch: int, commits: int) -> None:
        self.commits[branch] = commits
        self.committed_s = self._clock.now_s


class _Moment(NamedTuple):
    """From this instant on, the client's primary held this state."""

    instant_s: float
    state: State
    branch: int
    commits: int


class Oracle:
    """The timeline of one run, and the check.

    Args:
        clock: the run's.
        window_s: `lease_s` or `ttl_s`.
        covered_s: `unknown_s` with `ttl_s` and no stream; None otherwise.
    """

    def __init__(self, clock: Clock, window_s: float, covered_s: float | None) -> None:
        self._clock = clock
        self._window_s = window_s
        self._covered_s = covered_s
        self._timeline: list[_Moment] = []
        self._acknowledged: list[OwnWrite] = []
        self._unknown: list[OwnWrite] = []
        self._starts: dict[object, float] = {}
        self._prune_at = 64
        self.checked = 0

    def became(self, state: State, branch: int, commits: int) -> None:
        """The client's primary is in another state, or is another one."""
        self._timeline.append(_Moment(self._clock.now_s, state, branch, commits))

    def acknowledge(self, write: OwnWrite) -> None:
        """The caller of a write is about to be told that it happened."""
        write.acknowledged_s = self._clock.now_s
        self._acknowledged.append(write)

    def unknown(self, write: OwnWrite, first_error_s: float) -> None:
        """The caller of a write is about to be told an error that leaves its outcome open."""
        if self._covered_s is not None:
            write.unknown_s = first_error_s
            write.acknowledged_s = self._clock.now_s
            self._unknown.append(write)

    def began(self, caller: object) -> float:
        """A read begins; returns the instant."""
        self._starts[caller] = now_s = self._clock.now_s
        return now_s

    def gave_up(self, caller: object) -> None:
        """A read was cancelled or failed."""
        self._starts.pop(caller, None)

    def check(self, caller: object, query: Query, data: bytes) -> None:
        """A read that was answered from memory or by another's sending is about to return.

        Raises:
            Violation: it may not return that.
        """
        self.checked += 1
        if len(self._timeline) > self._prune_at:
            self._prune()
        start_s = self._starts.pop(caller)
        timeline = self._timeline
        if timeline[-1].state.answer(query) == data:
            return
        since_s = start_s - self._window_s
        required = self._required(start_s)
        for moment in reversed(timeline):
            state = moment.state
            missing = [
                write
                for write in required
                if write.commits.get(moment.branch, math.inf) > moment.commits
            ]
            if not missing:
                if state.answer(query) == data:
                    return
            elif _applied(state, missing).answer(query) == data or (
                state.is_view and self._was_made_view(since_s) and state.answer(query) == data
            ):
                return
            if moment.instant_s <= since_s:
                break
        raise Violation(self._explain(query, data, start_s, required))

    def _was_made_view(self, since_s: float) -> bool:
        """Whether there was a collection at an instant since then."""
        for moment in reversed(self._timeline):
            if not moment.state.is_view:
                return True
            if moment.instant_s <= since_s:
                break
        return False

    def check_sent(self, caller: object, executed_s: float) -> None:
        """A read that was sent for this caller is about to return its own answer."""
        self.checked += 1
        start_s = self._starts.pop(caller)
        if executed_s < start_s:
            raise Violation(f"executed at {executed_s:.3f}, asked for at {start_s:.3f}")

    def check_joined(self, caller: object, query: Query, data: bytes, executed_s: float) -> None:
        """A read that a joined find answered is about to return.

        Raises:
            Violation: that find read too early, or this is not the answer to this query.
        """
        start_s = self._starts[caller]
        self.check_sent(caller, executed_s)
        held = [m for m in self._timeline if m.instant_s <= executed_s]
        while held and held[-1].state.answer(query) != data:
            # Another primary than the one selected by then may have been read.
            held.pop()
        if not held:
            raise Violation(self._explain(query, data, start_s, []))

    def _required(self, start_s: float) -> list[OwnWrite]:
        """Own writes that the read must have seen: acknowledged, and held by each primary that the
        driver had selected while the read ran."""
        branches = set()
        for moment in reversed(self._timeline):
            branches.add(moment.branch)
            if moment.instant_s <= start_s:
                break
        found = [write for write in self._acknowledged if write.acknowledged_s <= start_s]
        covered_s = self._covered_s
        if covered_s is not None:
            found += [
                write
                for write in self._unknown
                if max(write.acknowledged_s, write.committed_s) <= start_s
                and write.committed_s <= write.unknown_s + covered_s
            ]
        found = [write for write in found if branches <= write.commits.keys()]
        return sorted(found, key=lambda write: write.committed_s)

    def _prune(self) -> None:
        """Forgets what no read under way can be compared with."""
        oldest_s = min(self._starts.values(), default=self._clock.now_s) - self._window_s
        oldest_s = min(oldest_s, self._clock.now_s - self._window_s)
        keep = 0
        for index, moment in enumerate(self._timeline):
            if moment.instant_s > oldest_s:
                break
            keep = index
        self._timeline = self._timeline[keep:]
        horizon_s = self._timeline[0].instant_s - self._window_s
        self._acknowledged = [w for w in self._acknowledged if w.committed_s >= horizon_s]
        self._unknown = [
            w for w in self._unknown if w.committed_s >= horizon_s or w.committed_s == -math.inf
        ]
        self._prune_at = max(64, 2 * len(self._timeline))

    def _explain(self, query: Query, data: bytes, start_s: float, required: list[OwnWrite]) -> str:
        import bson

        lines = [
            (
                f"{query} began at {start_s:.3f}, returned at {self._clock.now_s:.3f}: "
                f"{bson.decode_all(data)}"
            ),
            "acknowledged before:",
        ]
        lines += [
            f"  {write.operations} committed {write.committed_s:.3f} "
            f"acknowledged {write.acknowledged_s:.3f} on {write.commits}"
            for write in required
            if write.committed_s >= start_s - 2 * self._window_s
        ]
        lines.append("answers of the timeline:")
        lines += [
            f"  {m.instant_s:.3f} primary {m.branch}: {bson.decode_all(m.state.answer(query))}"
            for m in self._timeline
            if m.instant_s >= start_s - 2 * self._window_s
        ]
        return "\n".join(lines)


def _applied(state: State, writes: list[OwnWrite]) -> State:
    for write in writes:
        for operation in write.operations:
            state = operation.apply(state)
    return state
