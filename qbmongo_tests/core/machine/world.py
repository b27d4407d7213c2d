"""What a run is made of, and the network between: every step is taken by the scheduler alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from bson.timestamp import Timestamp

from qbmongo.core.cache import Cache
from qbmongo.core.engine import Engine
from qbmongo.core.store import Budget
from qbmongo.settings import BatchSettings, CacheSettings, Settings

from .choices import Choices
from .clock import Clock
from .documents import IDS, Query, State
from .operations import Operation
from .oracle import Oracle, OwnWrite
from .server import Branch, Entry

__all__ = ["Actor", "Cancelled", "Config", "DriverError", "Request", "Steps", "World"]

# What an actor yields: what it waits for, or None where it may go on at once.
Steps = Generator[Callable[[], bool] | None, None, Any]

LEASE_S = 2.0
# How late a driver may publish that it has selected another primary.
PUBLISHED_WITHIN_S = 1.0
# So small that it is exceeded in a run.
LOG_LIMIT = 3


class Cancelled(BaseException):
    """The caller of a call is interrupted."""


class DriverError(Exception):
    """What a driver's call raises."""


@dataclass(frozen=True)
class Config:
    """What is tried in a run.

    has_stream: there is a watcher. is_motor: driver calls run in threads that outlive their
    cancelled callers. is_told: the driver publishes who is primary; else the watcher's
    driver learns it no later than the client's. The rest is as in the settings.
    """

    ttl_s: float | None = None
    has_stream: bool = True
    is_motor: bool = False
    max_bytes: int = 1 << 20
    max_age_s: float = 600.0
    is_told: bool = True
    unknown_s: float = 4.0
    batch: BatchSettings | None = None

    @classmethod
    def chosen(cls, choices: Choices, often: frozenset[str]) -> Config:
        """What a run tries; with "ttl" often, a time to live and no stream."""
        kind = 9 if "ttl" in often else choices.below(10)
        return cls(
            ttl_s=1.0 if kind >= 8 else None,
            has_stream=kind != 9,
            is_motor=choices.below(3) == 2,
            max_bytes=(1 << 20, 1 << 20, 4096)[choices.below(3)],
            max_age_s=(600.0, 600.0, 3.0)[choices.below(3)],
            is_told=choices.below(3) < 2,
            unknown_s=(4.0, 0.0)[choices.below(2)],
            batch=_batch(choices) if "batch" in often else None,
        )


def _batch(choices: Choices) -> BatchSettings:
    return BatchSettings(
        max_in_flight=(1, 1, 2, 4)[choices.below(4)],
        max_batch_ids=2 + choices.below(3),
        max_joined_ms=(60_000, 200)[choices.below(2)],
    )


class Actor:
    """Somebody who goes on step by step.

    may_cancel: in the middle of a call that its caller can give up.
    """

    __slots__ = ("error", "is_done", "may_cancel", "name", "result", "steps", "wait")

    def __init__(self, name: str, steps: Steps) -> None:
        self.name = name
        self.steps = steps
        self.wait: Callable[[], bool] | None = None
        self.is_done = False
        self.may_cancel = False
        self.result: Any = None
        self.error: BaseException | None = None


class Request:
    """A command on its way. error: what the driver makes of it, "network" or "not_primary", or a
    server's error code. time: the reply's operation time."""

    __slots__ = ("data", "error", "executed_s", "is_answered", "time")

    def __init__(self) -> None:
        self.is_answered = False
        self.error: str | int | None = None
        self.data = b""
        self.time = 0
        self.executed_s = 0.0

    def answered(self) -> bool:
        return self.is_answered

    def answer(self, error: str | int | None = None, time: int = 0) -> None:
        if not self.is_answered:
            self.is_answered, self.error, self.time = True, error, time


class World:
    """One run: engine, oracle, primaries, and what each client's driver believes.

    newest: the latest primary. selected: the one that the client's driver sends to. watched: the
    one that the watcher's driver sends to. trace: what happened, in words, or None.
    """

    def __init__(
        self, choices: Choices, config: Config, often: frozenset[str] = frozenset(), *, trace: bool
    ) -> None:
        self.choices = choices
        self.config = config
        self.often = often
        self.trace: list[str] | None = [] if trace else None
        self.clock = Clock()
        covered_s = None if config.ttl_s is None or config.has_stream else config.unknown_s
        self.oracle = Oracle(self.clock, config.ttl_s or LEASE_S, covered_s)
        self.actors: list[Actor] = []
        self.is_stalled = False
        self.is_gap = False
        # How eagerly everybody writes, how slow answers are, how many commands get lost.
        self._pace_s = (0.1, 0.02, 0.3, 1.0)[3 if "quiet" in often else choices.below(4)]
        self._delay_s = (0.0, 0.02, 0.06)[2 if "delay" in often else choices.below(3)]
        self._fates = (32, 200, 10)[2 if "loss" in often else choices.below(3)]
        self.version = 0
        self.keys = 0
        self.counts: Counter[str] = Counter()
        self.changes_told: list[float] = self.clock.deadlines
        docs = {i: {"_id": i, "g": i % 2, "n": i % 3, "v": -i} for i in IDS}
        state = State({"c": docs, "o": {0: {"_id": 0, "g": 0, "n": 0, "v": -9}}})
        self.newest = Branch(1, "a", state, 10, self._committed)
        self.selected = self.watched = self.newest
        self.old: list[Branch] = []
        self.oracle.became(state, 1, 0)
        self.engine = self._engine()

    def _engine(self) -> Engine:
        config = self.config
        settings = CacheSettings(ttl_s=config.ttl_s)
        cache = Cache(
            max_bytes=config.max_bytes,
            lease_s=LEASE_S,
            max_age_s=config.max_age_s,
            unknown_s=config.unknown_s,
            budget=Budget(nullcontext()),
        )
        return Engine(
            Settings(profile=None, cache=settings, coalesce=None, batch=config.batch),
            lock=nullcontext(),
            find_place=lambda: None,
            profile=None,
            cache=cache,
            mutable_ok=True,
        )

    def say(self, *words: object) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.clock.now_s:8.3f} {' '.join(map(str, words))}")

    def next_version(self) -> int:
        self.version += 1
        return self.version

    def next_key(self) -> int:
        self.keys += 1
        return self.keys

    def spawn(self, name: str, steps: Steps) -> Actor:
        actor = Actor(name, steps)
        self.actors.append(actor)
        return actor

    def pause(self) -> Steps:
        """Somebody does something else for a while."""
        clock = self.clock
        until_s = clock.now_s + self._pace_s * self.choices.below(16)
        yield lambda: clock.now_s >= until_s

    def on_its_way(self) -> Steps:
        """An answer takes its time."""
        clock = self.clock
        times = self.choices.below(8)
        if times == 7:
            times *= 8
        until_s = clock.now_s + self._delay_s * times
        yield lambda: clock.now_s >= until_s

    def call(self, name: str, steps: Steps) -> Steps:
        """A driver's call: in the caller's own time, or in a thread that outlives its caller."""
        if not self.config.is_motor:
            return (yield from steps)
        thread = self.spawn(f"{name}'s thread", steps)
        yield lambda: thread.is_done
        if thread.error is not None:
            raise thread.error
        return thread.result

    # Who is primary

    def _committed(self, branch: Branch, entry: Entry) -> None:
        if entry.owner is not None:
            entry.owner.committed(branch.number, branch.commits)
        if branch is self.selected:
            self.oracle.became(branch.state, branch.number, branch.commits)
        elif entry.owner is not None:
            # Sent to it before the driver selected another one: visible to what was sent as well.
            self.oracle.became(branch.state, branch.number, branch.commits)
            self._select(self.selected)

    def _select(self, branch: Branch) -> None:
        self.selected = branch
        self.oracle.became(branch.state, branch.number, branch.commits)

    def discover(self) -> None:
        """The client's driver learns who is primary; the event about it comes later."""
        if self.selected is not self.newest:
            self.say("client: selects primary", self.newest.number)
            self._select(self.newest)
            if self.config.is_told:
                self.changes_told.append(self.clock.now_s + PUBLISHED_WITHIN_S)
            else:
                self.watched = self.newest

    def failed(self, error: str | int | None) -> None:
        """A command was answered with an error, which may say that who answered is no primary."""
        if error == "not_primary":
            self.engine.primary_changed()
            self.discover()

    def elect(self) -> None:
        """Another primary, or the same server in another term."""
        old, below = self.newest, self.choices.below
        stays = "stale" in self.often
        if stays:
            # All it has is safe, so that it can go on proving that to the watcher.
            old.replicate(old.gapless)
        kept = old.majority + below(old.gapless - old.majority + 1)
        host = old.primary.address[0]
        if not stays and below(3) == 2:
            old.is_dead = True
        else:
            host = "b" if host == "a" else "a"
            for other in self.old:
                # It cannot be a stale primary and the new one.
                other.is_dead = other.is_dead or other.primary.address[0] == host
            old.is_dead = not stays and below(2) == 1
        self.newest = old.elect(old.number + 1, host, kept)
        self.old.append(old)
        self.say("election:", self.newest.primary, "has all up to", self.newest.majority)

    # The network

    def send(self, name: str, request: Request, steps: Steps) -> Request:
        """Sends a command: it arrives, or it is lost, or its reply is, or it arrives late."""
        fate = self._fates - 1 - self.choices.below(self._fates)
        if fate == 0:
            self.say(name, "is lost")
            request.answer("network")
        elif fate == 1:
            self.say(name, "is late")
            request.answer("network")
            self.spawn(f"late {name}", steps)
        elif fate == 2:
            self.spawn(name, self._without_reply(name, request, steps))
        else:
            self.spawn(name, steps)
        return request

    def _without_reply(self, name: str, request: Request, steps: Steps) -> Steps:
        yield from steps
        self.say(name, "has its reply lost")
        request.error = "network"

    def read(self, branch: Branch, query: Query, after: int, request: Request) -> Steps:
        """A server executes a read."""
        yield None
        if after and not branch.is_dead:
            yield lambda: branch.is_dead or branch.wait_until(after)
        if branch.is_dead:
            request.answer("not_primary")
            return
        request.data = branch.state.answer(query)
        request.executed_s = self.clock.now_s
        self.say("server", branch.number, "answers", query)
        request.answer(time=branch.last_applied)

    def write(
        self,
        branch: Branch,
        operation: Operation,
        owner: OwnWrite,
        session: object,
        request: Request,
        *,
        is_majority: bool,
    ) -> Steps:
        """A server executes a write; only once for a session, if there is one."""
        yield None
        under_way = branch.under_way
        yield (
            lambda: (
                branch.is_dead
                or (session not in under_way and not branch.is_blocked(operation, owner))
            )
        )
        if branch.is_dead:
            request.answer("not_primary")
            return
        entry = branch.retried.get(session)
        if entry is None:
            try:
                entry = branch.reserve(operation, owner)
            except ValueError:
                self.say("server", branch.number, "refuses", operation)
                request.answer(166, branch.last_applied)
                return
            if entry is None:
                owner.committed(branch.number, branch.commits)
                self.say("server", branch.number, "has nothing to do for", operation)
                request.answer(time=branch.last_applied)
                return
            entry.session = session
            if operation.whole is None:
                if session is not None:
                    under_way.add(session)
                yield None
                if session is not None:
                    under_way.discard(session)
            if branch.is_dead:
                request.answer("not_primary")
                return
            branch.commit(entry)
            self.say("server", branch.number, "commits", operation, "at", entry.time)
        if is_majority:
            time = entry.time
            yield lambda: branch.is_dead or branch.majority >= time
            if branch.is_dead:
                request.answer("not_primary")
                return
        request.answer(time=entry.time)

    @staticmethod
    def reply(time: int) -> dict[str, Any]:
        return {"ok": 1.0, "operationTime": Timestamp(0, time)}

    def check_bounds(self) -> None:
        """At the end of a run: no fault of ours, and nothing kept that no write would find."""
        engine, cache = self.engine, self.engine.cache
        assert cache is not None
        assert not engine.faults, engine.faults
        assert cache.off_reason is None
        kept = set(cache.store.entries())
        indexed = [e for n in cache._namespaces.values() for e in n.index.entries()]
        assert len(indexed) == len(set(indexed))
        assert kept == set(indexed)
        assert cache.store.bytes == sum(entry.size for entry in kept)
        assert cache.fills_open >= 0
        counts = engine.batched
        assert counts.pending >= 0
        assert counts.in_flight >= 0
        assert all(n.fills >= 0 for n in cache._namespaces.values())
