"""The watcher as the engine knows it, and the one who reads what namespaces are.

The order of a probe is that of DESIGN section 4: the instant, the primary's operation time, the
majority read, a getMore sent after it. (The real watcher's plan has tests of its own.)
"""

from __future__ import annotations

from collections.abc import Callable

from bson.timestamp import Timestamp

from qbmongo.core.effects import effect_of_event

from .documents import DATABASE
from .server import Branch
from .world import Actor, Steps, World

__all__ = ["FactsReader", "Watcher"]


class _Unreachable(Exception):
    """The primary that was asked answers no more, or is another one."""


class Watcher:
    """One client of its own, one connection, one command at a time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._position: int | None = None
        self.actor: Actor = world.spawn("watcher", self._run())

    def _run(self) -> Steps:
        world = self._world
        while True:
            yield None
            branch = world.watched
            if branch.is_dead:
                world.watched = world.newest
                continue
            try:
                if self._position is None:
                    yield from self._sent(branch)
                    # The oplog may have holes before the time it opens at.
                    later = world.choices.below(2) == 0
                    self._position = branch.last_applied if later else branch.majority
                    world.say("watcher: opens on primary", branch.number)
                while True:
                    if world.choices.below(3) == 2:
                        yield from self._more(branch)
                    else:
                        yield from self._probe(branch)
            except _Unreachable:
                if world.watched is not branch or world.newest is not branch:
                    self._changed()
                else:
                    yield from self._rest(0.2 if "gap" in world.often else 0.05)

    def _changed(self) -> None:
        """Another primary: what the last one applied may have been rolled back."""
        world = self._world
        world.watched = world.newest
        world.say("watcher: another primary")
        world.engine.lost(None, "primary changed")
        self._position = None

    def _sent(self, branch: Branch, until: Callable[[], bool] | None = None) -> Steps:
        """A command travels to the primary, and may have to wait there."""
        yield None
        if until is not None:
            yield lambda: branch.is_dead or self._world.watched is not branch or until()
        if branch.is_dead or self._world.watched is not branch:
            raise _Unreachable

    def _more(self, branch: Branch) -> Steps:
        """A getMore: whether it came back empty, and the time of its last event."""
        world, engine = self._world, self._world.engine
        yield from self._sent(branch)
        assert self._position is not None
        majority = branch.majority
        batch = branch.events_after(self._position, 1 + world.choices.below(4))
        yield None
        if world.is_gap:
            world.is_gap = False
            world.say("watcher: gap")
            self._position = None
            engine.lost(DATABASE, "gap")
            raise _Unreachable
        if branch is not world.watched:
            raise _Unreachable
        for time, events in batch:
            for event in events:
                effects = effect_of_event(event)
                world.say("watcher: told of", event["operationType"], "at", time)
                engine.event(DATABASE, effects, Timestamp(0, time))
                if world.choices.below(4) == 3:
                    yield None
        self._position = batch[-1][0] if batch else max(self._position, majority)
        return batch[-1][0] if batch else None

    def _probe(self, branch: Branch) -> Steps:
        world = self._world
        start_s = world.clock.now_s
        yield from self._sent(branch)
        time = branch.last_applied
        yield from self._sent(branch, lambda: branch.majority >= time)
        yield None
        while True:
            last = yield from self._more(branch)
            if last is None or last > time:
                break
        world.say(f"watcher: lease from {start_s:.3f}, everything up to {time}")
        world.engine.lease(DATABASE, branch.primary, start_s)
        yield from self._rest()

    def _rest(self, scale_s: float = 0.05) -> Steps:
        clock = self._world.clock
        until_s = clock.now_s + scale_s * self._world.choices.below(6)
        yield lambda: clock.now_s >= until_s


class FactsReader:
    """Reads what is wanted to be known of namespaces, on the watcher's connection."""

    def __init__(self, world: World) -> None:
        self.actor: Actor = world.spawn("facts", self._run(world))

    @staticmethod
    def _run(world: World) -> Steps:
        engine = world.engine
        while True:
            yield lambda: bool(engine.wanted_facts(DATABASE))
            for namespace in engine.wanted_facts(DATABASE):
                stamp = engine.facts_stamp(namespace)
                yield None
                branch = world.watched if world.config.has_stream else world.selected
                yield None
                if branch.is_dead:
                    engine.facts_failed(namespace, stamp, None)
                    continue
                is_view = branch.state.is_view and namespace == f"{DATABASE}.c"
                known = [{"type": "view" if is_view else "collection"}]
                yield None
                world.say("facts:", namespace, known)
                engine.facts(namespace, stamp, known, [])
