"""Random interleavings of one client, a replica set and everybody else, against contracts 1 and 2.

Nothing here runs by itself: every call is broken into its observable steps (a read: look up, begin,
send, the server executes, the event is published, settle, return; a write: started, send, a time is
taken in the oplog, commit, the event, return; the watcher: each command and each event), each step
is taken by somebody's generator, and the explorer decides who goes next, from a seed or a tape.
What a read may return is said in `oracle`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch

from qbmongo.core import invalidation as invalidation_module

from .choices import Choices, shorten
from .clock import STEP_S
from .documents import queries
from .joined_finds import timer
from .oracle import Violation
from .reads import Reader
from .watching import FactsReader, Watcher
from .world import LOG_LIMIT, Actor, Cancelled, Config, Steps, World
from .writes import OtherWriter, TransactionWriter, Writer

__all__ = ["CIRCUMSTANCES", "Report", "explain", "explore", "first_violation", "run_once"]

READS_OF_A_RUN = 300
_STEPS_OF_A_READ = 400
_QUERIES = queries()
# What is frequent in a run; nothing in particular in most of them.
CIRCUMSTANCES: tuple[tuple[str, ...], ...] = (
    *[()] * 8,
    ("ttl", "delay"),
    ("stale", "elect", "discover", "no watch", "no kill", "wait", "no clear", "no gap"),
    ("transactions", "loss"),
    ("gap", "delay"),
    ("cancel",),
    ("unknown",),
    ("batch",),
    ("batch", "delay", "cancel"),
    ("batch", "loss"),
)


@dataclass
class Report:
    """What was checked. counts: hits, joins and so on, of all runs together."""

    reads: int = 0
    runs: int = 0
    steps: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, world: World, steps: int) -> None:
        engine = world.engine
        cache = engine.cache
        assert cache is not None
        self.reads += world.oracle.checked
        self.runs += 1
        self.steps += steps
        self.counts.update(
            hits=engine.hits,
            joins=engine.joins,
            fills=engine.misses,
            spared=cache.own_events_spared,
        )
        self.counts.update(world.counts)
        for reason, count in cache.refused.items():
            self.counts[f"refused {reason}"] += count
        for reason, count in engine.bypassed.items():
            self.counts[f"bypassed {reason}"] += count
        for reason, count in cache.invalidated.items():
            self.counts[f"dropped {reason}"] += count


class _Chaos:
    """Everything that nobody asked for; how often, is decided anew for each run.

    often: what shall happen as often as it can, by name; as seldom as it can with "no" before.
    """

    def __init__(self, world: World, often: frozenset[str]) -> None:
        self._world = world
        below = world.choices.below
        self._actions: list[Callable[[], None]] = [self._go_on] * 80
        for action, counts in (
            (self._wait, (4, 1, 16)),
            (self._pause, (1, 4, 8)),
            (self._stall, (2, 0, 8)),
            (self._cancel, (6, 0, 24)),
            (self._gap, (0, 1, 4)),
            (self._clear, (0, 0, 2)),
            (self._elect, (0, 0, 2)),
            (self._discover, (4, 1, 2)),
            (self._watch, (4, 1, 0)),
            (self._kill, (2, 1, 0)),
        ):
            name = action.__name__.strip("_")
            count = max(counts) if name in often else counts[below(3)]
            self._actions += [action] * (min(counts) if f"no {name}" in often else count)
        self.actor: Actor = world.spawn("chaos", self._run())

    def _run(self) -> Steps:
        below, actions = self._world.choices.below, self._actions
        while True:
            yield None
            actions[below(len(actions))]()

    def _go_on(self) -> None:
        self._world.clock.move(0.003 * self._world.choices.below(8))

    def _wait(self) -> None:
        self._world.clock.move(0.5)

    def _pause(self) -> None:
        self._world.say("a long pause")
        self._world.clock.move((1.4, 2.5)[self._world.choices.below(2)])

    def _stall(self) -> None:
        self._world.is_stalled = not self._world.is_stalled

    def _gap(self) -> None:
        self._world.is_gap = True

    def _clear(self) -> None:
        self._world.say("clear")
        self._world.engine.clear()

    def _elect(self) -> None:
        self._world.elect()

    def _discover(self) -> None:
        self._world.discover()

    def _watch(self) -> None:
        self._world.watched = self._world.newest

    def _kill(self) -> None:
        for branch in self._world.old:
            branch.is_dead = True

    def _cancel(self) -> None:
        callers = [actor for actor in self._world.actors if actor.may_cancel]
        if callers:
            actor = callers[self._world.choices.below(len(callers))]
            _advance(self._world, actor, Cancelled())


def _replicate(world: World) -> Steps:
    """The secondaries follow, now and then not to the end."""
    while True:
        yield None
        if not world.is_stalled:
            newest = world.newest
            behind = newest.gapless - newest.majority
            if behind > 0:
                newest.replicate(newest.gapless - world.choices.below(2) * (behind // 2))


def _publish(world: World) -> Steps:
    """The driver publishes, later, that it selected another primary."""
    told = world.changes_told
    while True:
        yield lambda: bool(told)
        told.pop(0)
        world.say("client: told of the primary")
        world.engine.primary_changed()


def _advance(world: World, actor: Actor, error: BaseException | None = None) -> None:
    """One step of somebody's."""
    try:
        actor.wait = actor.steps.send(None) if error is None else actor.steps.throw(error)
        return
    except StopIteration as stop:
        actor.result = stop.value
    except (Violation, AssertionError):
        raise
    except (Exception, Cancelled) as raised:
        if not actor.name.endswith("thread"):
            raise
        actor.error = raised
    actor.is_done = True
    world.actors.remove(actor)


def _populate(world: World, often: frozenset[str]) -> None:
    below = world.choices.below
    first, count = below(len(_QUERIES)), 1 + below(6)
    asked = tuple(_QUERIES[(first + 5 * n) % len(_QUERIES)] for n in range(count))
    if "foreign" in often:
        asked = tuple(query for query in _QUERIES if query.name.startswith("lookup"))
    if "batch" in often:
        asked = tuple(query for query in _QUERIES if query.is_point)
        points = world.engine.scope("d.c").points
        assert points is not None
        world.spawn("timer", timer(world, points))
    for number in range(8 if "batch" in often else 2 + below(4)):
        Reader(world, f"reader {number}", asked)
    for number in range(1 + below(2)):
        Writer(world, f"writer {number}")
    for number in range(2 if "transactions" in often else below(3)):
        TransactionWriter(world, f"transactions {number}", is_busy="transactions" in often)
    for number in range(1 + below(2)):
        OtherWriter(world, f"other {number}")
    if world.config.has_stream:
        # Whoever is in the list twice goes twice as often.
        world.actors.append(Watcher(world).actor)
    FactsReader(world)
    world.spawn("replication", _replicate(world))
    world.spawn("topology", _publish(world))
    _Chaos(world, often)


@contextmanager
def _small_log() -> Iterator[None]:
    with patch.object(invalidation_module, "LOG_LIMIT", LOG_LIMIT):
        yield


def run_once(
    choices: Choices,
    report: Report,
    *,
    reads: int = READS_OF_A_RUN,
    often: Iterable[str] = (),
    trace: bool = False,
) -> World:
    """One run of so many checked reads, or to the tape's end.

    Args:
        choices: decide everything.
        report: what was checked is added to it.
        reads: how many.
        often: what shall happen as often as it can: "gap", "clear", "elect", "discover", "watch",
            "kill", "stall", "cancel", "pause", "wait", "transactions", "loss", "delay", "quiet",
            "ttl", "unknown" (commands), "stale" (primaries), "foreign" (collections),
            "batch" (point reads that travel together);
            "no gap" and so on: as seldom as it can.
        trace: keep what happens, in words.

    Raises:
        Violation: a read returned what it must not.
        AssertionError: something else is wrong, a fault or what is counted.
    """
    often = frozenset(often)
    world = World(choices, Config.chosen(choices, often), often, trace=trace)
    world.say(world.config)
    steps = 0
    try:
        with _small_log():
            _populate(world, often)
            actors, clock, below, oracle = world.actors, world.clock, choices.below, world.oracle
            most = reads * _STEPS_OF_A_READ
            while oracle.checked < reads and steps < most and not choices.is_spent:
                steps += 1
                clock.now_s += STEP_S
                count = len(actors)
                first = below(count)
                for offset in range(count):
                    actor = actors[(first + offset) % count]
                    wait = actor.wait
                    if wait is None or wait():
                        _advance(world, actor)
                        break
            world.check_bounds()
    except AssertionError as error:
        if world.trace is not None:
            error.trace = world.trace  # type: ignore[attr-defined]
        raise
    report.add(world, steps)
    return world


def explore(reads: int, seed: int, report: Report | None = None) -> Report:
    """Runs until so many reads are checked, in ordinary and in special circumstances by turns.

    Raises:
        Violation: with the seed of the run, its circumstances and its shortest trace.
    """
    report = report or Report()
    while report.reads < reads:
        seed += 1
        often = CIRCUMSTANCES[seed % len(CIRCUMSTANCES)]
        try:
            run_once(Choices(seed), report, often=often)
        except AssertionError as error:
            trace = explain(seed, often)
            raise Violation(f"seed {seed}, often {often}: {error}\n\n{trace}") from error
    return report


def first_violation(reads: int, seed: int, often: Iterable[str] = ()) -> AssertionError | None:
    """What the first run after a seed finds, if any does within so many reads."""
    report = Report()
    while report.reads < reads:
        seed += 1
        try:
            run_once(Choices(seed), report, often=often)
        except AssertionError as error:
            return error
    return None


def explain(seed: int, often: Iterable[str] = (), *, attempts: int = 2_000) -> str:
    """The shortest trace found of a seed whose run violates in these circumstances."""

    def fails(choices: Choices) -> bool:
        try:
            run_once(choices, Report(), often=often)
        except AssertionError:
            return True
        return False

    choices = Choices(seed, record=True)
    if not fails(choices):
        return "not repeatable"
    tape = shorten(choices.taken, lambda tape: fails(Choices(tape=tape)), attempts=attempts)
    try:
        run_once(Choices(tape=tape), Report(), often=often, trace=True)
    except AssertionError as error:
        trace = getattr(error, "trace", [])
        return "\n".join([f"tape of {len(tape)} decisions", *trace, str(error)])
    return "not repeatable"
