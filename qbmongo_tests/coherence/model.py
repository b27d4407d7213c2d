"""A replica set in memory for the watcher's plan: oplog with holes, majority point, elections.

Time is counted in ticks: everything that happens takes at least one, so that "before" is certain.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bson.datetime_ms import DatetimeMS
from bson.objectid import ObjectId
from bson.timestamp import Timestamp

from qbmongo.coherence.plan import Plan
from qbmongo.coherence.records import Failure, Limits, Primary, Request, Sleep
from qbmongo.records import Effect

TICK_S = 0.001


def election(number: int) -> ObjectId:
    return ObjectId(f"7fffffff{number:016x}")


@dataclass(slots=True)
class Write:
    """One write. Before acked_s it is a hole: its time is taken, its entry not yet there."""

    number: int
    database: str
    time: int
    kind: str = "update"
    acked_s: float | None = None


@dataclass(slots=True)
class Cursor:
    database: str
    position: int
    is_invalidated: bool = False


@dataclass(slots=True)
class Outcome:
    reply: dict[str, Any] | None
    primary: Primary
    failure: Failure | None = None


class Server:
    """The replica set's present primary, and what it can be made to do."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.time = 0
        self.oplog: list[Write] = []
        self.history: list[Write] = []
        self.majority = 0
        self.is_stalled = False
        self.term = 1
        self.host = "a"
        self.cursors: dict[int, Cursor] = {}
        self.history_lost_before = 0
        self.is_primary = True
        self.is_sharded = False
        self.is_standalone = False
        self.forbidden: set[str] = set()
        self.batch: int | None = None
        self.collections: list[dict[str, Any]] = []
        self.seen: list[Request] = []
        self._numbers = itertools.count(1)

    # What others do.

    def tick(self, seconds: float = TICK_S) -> None:
        self.now_s += seconds

    def begin_write(self, database: str, kind: str = "update") -> Write:
        self.time += 1
        write = Write(next(self._numbers), database, self.time, kind)
        self.oplog.append(write)
        self.history.append(write)
        return write

    def end_write(self, write: Write) -> None:
        if write in self.oplog:
            write.acked_s = self.now_s
        self.tick()
        self.replicate()

    def write(self, database: str, kind: str = "update") -> Write:
        write = self.begin_write(database, kind)
        self.end_write(write)
        return write

    def replicate(self) -> None:
        """Move the majority point as far as it goes: never past a hole."""
        if self.is_stalled:
            return
        holes = [write.time for write in self.oplog if write.acked_s is None]
        self.majority = max(self.majority, min(holes, default=self.time + 1) - 1)

    def elect(self, host: str, keep_cursors: bool) -> None:
        """Another term; what was not majority committed is rolled back."""
        self.term += 1
        self.oplog = [write for write in self.oplog if write.time <= self.majority]
        self.time += 1
        if host != self.host or not keep_cursors:
            self.cursors.clear()
        self.host = host
        self.replicate()

    @property
    def primary(self) -> Primary:
        return Primary((self.host, 27017), election(self.term))

    # What the watcher sends.

    def execute(self, request: Request) -> Outcome:
        self.seen.append(request)
        self.tick()
        command = request.command
        name = next(iter(command))
        handler = getattr(self, f"_{name}".lower())
        try:
            reply = handler(request.database, command)
        except CommandError as error:
            failure = Failure("command", error.message, error.code)
            return Outcome(None, self.primary, failure)
        return Outcome({**reply, "operationTime": Timestamp(self.time, 1)}, self.primary)

    def _hello(self, database: str, command: Mapping[str, Any]) -> dict[str, Any]:
        reply: dict[str, Any] = {
            "isWritablePrimary": self.is_primary,
            "maxWireVersion": 25,
            "localTime": DatetimeMS(int(self.now_s * 1000)),
        }
        if self.is_sharded:
            return {**reply, "msg": "isdbgrid"}
        if not self.is_standalone:
            reply |= {"setName": "rs", "electionId": election(self.term)}
        return reply

    def _find(self, database: str, command: Mapping[str, Any]) -> dict[str, Any]:
        assert command["readConcern"]["level"] == "majority"
        self._authorize(database)
        self.replicate()
        if self.majority < command["readConcern"]["afterClusterTime"].time:
            raise CommandError(50, "operation exceeded time limit")
        return {"cursor": {"firstBatch": [], "id": 0}}

    def _aggregate(self, database: str, command: Mapping[str, Any]) -> dict[str, Any]:
        self._authorize(database)
        options = command["pipeline"][0]["$changeStream"]
        assert options["showExpandedEvents"] is True
        position = self.time
        if "resumeAfter" in options:
            position = options["resumeAfter"]["token"]
            if position < self.history_lost_before:
                raise CommandError(286, "resume point may no longer be in the oplog")
        cursor_id = next(self._numbers)
        self.cursors[cursor_id] = Cursor(database, position)
        return self._batch(cursor_id, "firstBatch", command["cursor"]["batchSize"])

    def _getmore(self, database: str, command: Mapping[str, Any]) -> dict[str, Any]:
        cursor = self.cursors.get(command["getMore"])
        if cursor is None or cursor.database != database:
            raise CommandError(43, "cursor not found")
        assert command["collection"] == "$cmd.aggregate"
        self._authorize(database)
        reply = self._batch(command["getMore"], "nextBatch", command["batchSize"])
        if not reply["cursor"]["nextBatch"]:
            self.tick(command["maxTimeMS"] / 1000)
        return reply

    def _killcursors(self, database: str, command: Mapping[str, Any]) -> dict[str, Any]:
        for cursor_id in command["cursors"]:
            self.cursors.pop(cursor_id, None)
        return {}

    def _listcollections(self, database: str, command: Mapping[str, Any]) -> dict[str, Any]:
        self._authorize(database)
        name = command["filter"]["name"]
        found = [info for info in self.collections if info["name"] == name]
        return {"cursor": {"id": 0, "firstBatch": found}}

    def _listindexes(self, database: str, command: Mapping[str, Any]) -> dict[str, Any]:
        if not any(info["name"] == command["listIndexes"] for info in self.collections):
            raise CommandError(26, "ns does not exist")
        return {"cursor": {"id": 0, "firstBatch": [{"name": "_id_", "key": {"_id": 1}}]}}

    def _count(self, database: str, command: Mapping[str, Any]) -> dict[str, Any]:
        return {"n": 0}

    def _authorize(self, database: str) -> None:
        if database in self.forbidden:
            raise CommandError(13, "not authorized")

    def _batch(self, cursor_id: int, name: str, size: int) -> dict[str, Any]:
        cursor = self.cursors[cursor_id]
        size = min(size, self.batch or size)
        shown = [
            write
            for write in self.oplog
            if cursor.position < write.time <= self.majority and write.database == cursor.database
        ][:size]
        drops = [i for i, write in enumerate(shown) if write.kind == "dropDatabase"]
        if drops:
            shown = shown[: drops[0] + 1]
        batch = [self._event(write) for write in shown]
        if drops:
            batch.append({**batch[-1], "operationType": "invalidate"})
            del self.cursors[cursor_id]
        if len(shown) == size:
            cursor.position = shown[-1].time
        elif not drops:
            cursor.position = max(cursor.position, self.majority)
        return {
            "cursor": {
                "id": 0 if drops else cursor_id,
                "ns": f"{cursor.database}.$cmd.aggregate",
                name: batch,
                "postBatchResumeToken": {"token": cursor.position},
            }
        }

    def _event(self, write: Write) -> dict[str, Any]:
        return {
            "_id": {"token": write.time},
            "operationType": write.kind,
            "clusterTime": Timestamp(write.time, 1),
            "wallTime": DatetimeMS(int((write.acked_s or 0) * 1000)),
            "ns": {"db": write.database, "coll": "c"},
            "documentKey": {"_id": write.number},
            "updated": ["x"],
            "removed": [],
        }


class CommandError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Violation(AssertionError):
    """A lease that promises what was not told."""


@dataclass(slots=True)
class _Trust:
    granted_s: float
    primary: Primary
    told: set[int] = field(default_factory=set)


class Checker:
    """A sink that checks every lease against what the server really has.

    An answer may be cached from the first lease's granting on; so every write acknowledged between
    that and a later lease's start, and still part of history, must have been told meanwhile.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.trust: dict[str, _Trust] = {}
        self.leases: list[tuple[str, Primary, float]] = []
        self.losses: list[tuple[str | None, str]] = []
        self.unavailable_reasons: dict[str, str] = {}
        self.told: list[tuple[str, int]] = []
        self.is_used = True
        self.wanted: list[str] = []
        self.known_facts: dict[str, tuple[list[Any], list[Any]]] = {}
        self.failed_facts: list[tuple[str, str | None]] = []
        self.to_verify: list[Any] = []
        self.verified_items: list[Any] = []

    def event(self, database: str, effects: tuple[Effect, ...], time: Timestamp) -> None:
        for effect in effects:
            for number in effect.ids or ():
                self.told.append((database, number))
                if database in self.trust:
                    self.trust[database].told.add(number)

    def lease(self, database: str, primary: Primary, start_s: float) -> None:
        self.leases.append((database, primary, start_s))
        self.unavailable_reasons.pop(database, None)
        trust = self.trust.get(database)
        if trust is None:
            self.trust[database] = _Trust(self.server.now_s, primary)
            return
        if trust.primary != primary:
            raise Violation("another primary, and nothing was lost")
        for write in self.server.oplog:
            if (
                write.database == database
                and write.acked_s is not None
                and trust.granted_s <= write.acked_s < start_s
                and write.number not in trust.told
            ):
                raise Violation(f"write {write.number} was acknowledged before, but never told")

    def lost(self, database: str | None, reason: str) -> None:
        self.losses.append((database, reason))
        if database is None:
            self.trust.clear()
        else:
            self.trust.pop(database, None)

    def unavailable(self, database: str, reason: str) -> None:
        self.unavailable_reasons[database] = reason
        self.trust.pop(database, None)

    def in_use(self, database: str) -> bool:
        return self.is_used

    def verification(self, database: str) -> Any:
        return self.to_verify.pop() if self.to_verify else None

    def verified(self, item: Any, reply: Any, now_s: float) -> None:
        self.verified_items.append(item)

    def wanted_facts(self, database: str) -> Sequence[str]:
        return [name for name in self.wanted if name.startswith(f"{database}.")]

    def facts_stamp(self, namespace: str) -> Any:
        return namespace

    def facts(
        self,
        namespace: str,
        stamp: Any,
        collections: Sequence[Mapping[str, Any]],
        indexes: Sequence[Mapping[str, Any]],
    ) -> None:
        assert stamp == namespace
        self.wanted.remove(namespace)
        self.known_facts[namespace] = (list(collections), list(indexes))

    def facts_failed(self, namespace: str, stamp: Any, reason: str | None) -> None:
        assert stamp == namespace
        self.failed_facts.append((namespace, reason))
        if reason is not None:
            self.wanted.remove(namespace)


def effects_of(event: Mapping[str, Any]) -> tuple[Effect, ...]:
    ids = frozenset({event["documentKey"]["_id"]})
    return (Effect("update", f"{event['ns']['db']}.{event['ns']['coll']}", ids),)


class World:
    """A plan, its server and its checker, stepped by hand."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.server = Server()
        self.checker = Checker(self.server)
        self.limits = limits or Limits()
        self.plan = Plan(self.checker, effects_of, self.limits)
        self.in_flight: Request | None = None
        self.outcome: Outcome | None = None
        self.asleep_s: float | None = None
        self.driver_knows: Primary | None = None

    def watch(self, *databases: str) -> None:
        for database in databases:
            self.plan.watch(database, self.server.now_s)

    def ask(self) -> Request | Sleep:
        assert self.in_flight is None
        action = self.plan.step(self.server.now_s)
        if isinstance(action, Sleep):
            self.asleep_s = action.until_s
        else:
            self.in_flight = action
        self.server.tick()
        return action

    def execute(self) -> None:
        assert self.in_flight is not None
        self.outcome = self.server.execute(self.in_flight)

    def answer(self) -> None:
        """Hand the outcome to the plan; without one, the connection broke before the server."""
        outcome, self.outcome, self.in_flight = self.outcome, None, None
        self.server.tick()
        if outcome is None:
            self.fail_network()
        elif outcome.failure is not None:
            self.plan.failed(self.server.now_s, outcome.failure)
        else:
            assert outcome.reply is not None
            primary = outcome.primary
            if self.driver_knows is not None:
                primary = Primary(primary.address, self.driver_knows.election_id)
            self.plan.reply(self.server.now_s, outcome.reply, primary)

    def lose(self) -> None:
        """The reply is lost, whether or not the server executed the command."""
        self.outcome = self.in_flight = None
        self.server.tick()
        self.fail_network()

    def fail_network(self) -> None:
        self.plan.failed(self.server.now_s, Failure("network", "connection closed"))

    def turn(self) -> str:
        """One command from question to answer, or one sleep; what it was."""
        action = self.ask()
        if isinstance(action, Sleep):
            limit_s = self.server.now_s + 1.0
            self.server.now_s = max(self.server.now_s, min(action.until_s, limit_s))
            return "sleep"
        self.execute()
        self.answer()
        return next(iter(action.command))

    def run(self, turns: int) -> list[str]:
        return [self.turn() for _ in range(turns)]

    def settle(self, turns: int = 200) -> None:
        """Run until a probe that begins now is through, for all that can be watched."""
        ticket = self.plan.catch_up()
        for _ in range(turns):
            if self.plan.is_caught_up(ticket):
                return
            self.turn()
        raise AssertionError(f"not caught up: {self.plan.snapshot(self.server.now_s)}")

    def state(self, database: str) -> str:
        stats = self.plan.snapshot(self.server.now_s)
        return next(watch.state for watch in stats.databases if watch.database == database)


def watching(*databases: str, limits: Limits | None = None) -> World:
    """A world in which these databases are trusted."""
    world = World(limits)
    world.watch(*databases)
    world.settle()
    return world


def run_until(world: World, name: str, turns: int = 50) -> None:
    """Run until this command is in flight."""
    for _ in range(turns):
        action = world.ask()
        if isinstance(action, Request) and next(iter(action.command)) == name:
            return
        if isinstance(action, Request):
            world.execute()
            world.answer()
        else:
            world.server.now_s = max(world.server.now_s, min(action.until_s, 1e9))
    raise AssertionError(f"no {name} was sent")


def refuse(world: World, name: str, failure: Failure) -> None:
    """Answer the next such command with a failure."""
    run_until(world, name)
    world.in_flight = None
    world.plan.failed(world.server.now_s, failure)


def sent(world: World, name: str) -> list[Request]:
    return [request for request in world.server.seen if name in request.command]


def names(world: World) -> list[str]:
    return [next(iter(request.command)) for request in world.server.seen]
