"""What travels between the watcher's plan, the runners that do its IO, and the cache it serves.

Instants are seconds of one monotonic clock, the runner's, which the cache must share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from bson.objectid import ObjectId
from bson.timestamp import Timestamp

from qbmongo.records import Effect

Address = tuple[str, int | None]

DatabaseState = Literal[
    "opening", "probing", "trusted", "forbidden", "unsupported", "too_many_events"
]
WatcherState = Literal[
    "idle", "connecting", "running", "unreachable", "unsupported", "fault", "closed"
]


class Primary(NamedTuple):
    """One primary in one term: a server that was elected again is another primary.

    address: (host, port) as the driver names the server.
    election_id: the electionId of its hello; None where it is not known.
    """

    address: Address
    election_id: ObjectId | None


class Sink(Protocol):
    """What the watcher tells the cache, always from the runner's own thread or task.

    Instances must allow weak references: a runner does not keep its sink alive.
    """

    def event(self, database: str, effects: tuple[Effect, ...], time: Timestamp) -> None:
        """Somebody's write (perhaps our own) arrived; time is its cluster time."""

    def lease(self, database: str, primary: Primary, start_s: float) -> None:
        """Every write that this primary had applied at start_s has been told to event().

        The lease runs from start_s, which lies in the past, for lease_s. The first lease after
        lost(), unavailable() or the first watch is where trust begins.
        """

    def lost(self, database: str | None, reason: str) -> None:
        """Writes may have been missed: trust ends, and what is cached of it is worth nothing.

        database None means every database. Leases given before are void.
        """

    def unavailable(self, database: str, reason: str) -> None:
        """The database cannot be watched until a lease says otherwise; reason is for people."""

    def in_use(self, database: str) -> bool:
        """Whether the database's cache was read or filled since the last time this was asked."""

    def wanted_facts(self, database: str) -> Sequence[str]:
        """Namespaces of the database whose facts are to be read next; none: none is wanted."""

    def facts_stamp(self, namespace: str) -> Any:
        """Facts of this namespace are about to be read; facts() or facts_failed() follows."""

    def facts(
        self,
        namespace: str,
        stamp: Any,
        collections: Sequence[Mapping[str, Any]],
        indexes: Sequence[Mapping[str, Any]],
    ) -> None:
        """A namespace's documents of listCollections and listIndexes."""

    def facts_failed(self, namespace: str, stamp: Any, reason: str | None) -> None:
        """They could not be read: for good, with a reason, or (None) this time."""

    def verification(self, database: str) -> Any:
        """A kept answer that is to be read again by its `command`, or None."""

    def verified(self, item: Any, reply: Mapping[str, Any], now_s: float) -> None:
        """The server's reply to that command."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How the watcher spends its connection. All durations in seconds.

    lease_s: how long a lease runs; a probe is made every quarter of it while a database is used.
    max_events_per_s: events of one database in one second above which it is not watched.
    await_s: how long the getMores of one round over all databases wait for an event together.
    pace_s: least time between two getMores of a database that has just sent events, so that a
        stream of writes arrives in batches.
    idle_after_s: without use for so long, probing stops until the next use.
    forget_after_s: without use for so long, a database is no longer watched.
    forbidden_retry_s, flood_retry_s: when a database that could not be watched is tried again.
    timeout_s: how long an answer may take; a half-open connection is noticed after it.
    batch_events: events of one reply at most.
    """

    lease_s: float = 2.0
    max_events_per_s: int = 5000
    await_s: float = 0.1
    pace_s: float = 0.02
    idle_after_s: float = 10.0
    forget_after_s: float = 600.0
    forbidden_retry_s: float = 600.0
    flood_retry_s: float = 30.0
    timeout_s: float = 4.0
    batch_events: int = 100

    @property
    def probe_period_s(self) -> float:
        return self.lease_s / 4


@dataclass(frozen=True, slots=True)
class Request:
    """One command to send to the primary, in the watcher's session and an empty context."""

    database: str
    command: dict[str, Any]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """Nothing to send before this instant (infinity: before something is asked for)."""

    until_s: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no reply.

    kind: "network" (no answer, or none that can be relied on), "command" (the server's error) or
    "undecodable" (an answer that is not valid BSON for us). code and labels are the server's.
    """

    kind: Literal["network", "command", "undecodable"]
    message: str
    code: int | None = None
    labels: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class DatabaseWatch:
    """One database in the statistics.

    lag_s: age of the last event when it arrived, by the server's clock; None before the first.
    lease_remaining_s: 0.0 when there is no lease. reason: why it is not trusted, or "".
    """

    database: str
    state: DatabaseState
    reason: str
    lease_remaining_s: float
    lag_s: float | None
    events: int
    resumes: int
    gaps: int


@dataclass(frozen=True, slots=True)
class WatcherStats:
    """The watcher in the statistics: what it does, what it sent, and each database."""

    state: WatcherState
    reason: str
    primary: Primary | None
    commands: int
    failures: int
    probes: int
    databases: tuple[DatabaseWatch, ...]


Reply = Mapping[str, Any]
