"""One database's change stream: its commands, its position, what its replies mean. Pure.

Values never travel: the pipeline keeps ids, names, times and the names of changed fields. Resume
tokens are opaque, kept and sent back as they came.

Source: https://www.mongodb.com/docs/manual/changeStreams/ and
https://www.mongodb.com/docs/manual/reference/change-events/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bson.datetime_ms import DatetimeMS
from bson.timestamp import Timestamp

from qbmongo.coherence.records import DatabaseState, DatabaseWatch, Limits, Primary, Sink
from qbmongo.records import Effect

EffectsOf = Callable[[Mapping[str, Any]], tuple[Effect, ...]]
# A cursor that is open on the server: (database, collection, id).
OpenCursor = tuple[str, str, int]

_RETRY_S = 0.05
_MOST_RETRY_S = 2.0
_MOST_RETRIES = 16

# Names alone: an event stays small however large the document is.
_PROJECTION: dict[str, Any] = {
    "_id": 1,
    "operationType": 1,
    "clusterTime": 1,
    "wallTime": 1,
    "ns": 1,
    "to": 1,
    "documentKey._id": 1,
    "updated": {
        "$map": {
            "input": {"$objectToArray": "$updateDescription.updatedFields"},
            "as": "field",
            "in": "$$field.k",
        }
    },
    "removed": "$updateDescription.removedFields",
    "truncated": "$updateDescription.truncatedArrays.field",
}


@dataclass(frozen=True, slots=True)
class Position:
    """A probe whose majority read has returned: what a later getMore is to be compared with.

    round: number of the probe. start_s: instant before its first command was sent. time: the
    primary's operation time, majority committed by now. primary: who answered both.
    """

    round: int
    start_s: float
    time: Timestamp
    primary: Primary


def change_event(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A projected event in the form of the manual's change event, every value None.

    An update whose changed names did not all arrive has no updateDescription: any path.
    """
    event = {
        name: raw[name]
        for name in ("operationType", "clusterTime", "ns", "to", "documentKey")
        if raw.get(name) is not None
    }
    if raw["operationType"] == "update":
        updated, removed, truncated = raw.get("updated"), raw.get("removed"), raw.get("truncated")
        if isinstance(updated, list) and isinstance(removed, list):
            event["updateDescription"] = {
                "updatedFields": dict.fromkeys(updated),
                "removedFields": removed,
                "truncatedArrays": [{"field": name} for name in truncated or ()],
            }
    return event


def backoff_s(retries: int) -> float:
    """Seconds before the next try: none at first, then doubling up to a limit."""
    return min(_RETRY_S * ((1 << min(retries, _MOST_RETRIES)) - 1), _MOST_RETRY_S)


class Stream:
    """One database's change stream and what the sink is told of it. Only the plan calls it.

    A stream with a token resumes where it was, so that nothing is missed; one without a token opens
    at the server's present time and is not trusted before a probe that began after its opening.

    Args:
        database: its name.
        sink, effects_of, limits: the plan's.
        dropped: cursors given up are appended to it, to be killed.
        now_s: the present instant.
    """

    __slots__ = (
        "_dropped",
        "_effects_of",
        "_limits",
        "_retries",
        "_sink",
        "_window_events",
        "_window_start_s",
        "cursor",
        "database",
        "due_s",
        "events",
        "gaps",
        "lag_s",
        "lease_round",
        "lease_start_s",
        "polled_s",
        "positions",
        "reason",
        "resumes",
        "state",
        "token",
        "used_s",
    )

    def __init__(
        self,
        database: str,
        sink: Sink,
        effects_of: EffectsOf,
        limits: Limits,
        dropped: list[OpenCursor],
        now_s: float,
    ) -> None:
        self.database = database
        self.state: DatabaseState = "opening"
        self.reason = ""
        self.cursor: OpenCursor | None = None
        self.token: Mapping[str, Any] | None = None
        self.positions: list[Position] = []
        self.lease_start_s: float | None = None
        self.lease_round = -1
        self.due_s = self.polled_s = self.used_s = now_s
        self.events = self.resumes = self.gaps = 0
        self.lag_s: float | None = None
        self._sink = sink
        self._effects_of = effects_of
        self._limits = limits
        self._dropped = dropped
        self._retries = 0
        self._window_start_s = now_s
        self._window_events = 0

    @property
    def is_wanted(self) -> bool:
        """It is watched or about to be: catching up waits for it."""
        return self.state in ("opening", "probing", "trusted")

    def open_command(self) -> dict[str, Any]:
        options: dict[str, Any] = {"showExpandedEvents": True}
        if self.token is not None:
            options["resumeAfter"] = self.token
        return {
            "aggregate": 1,
            "pipeline": [{"$changeStream": options}, {"$project": _PROJECTION}],
            "cursor": {"batchSize": self._limits.batch_events},
            "readConcern": {"level": "majority"},
        }

    def more_command(self, await_s: float) -> dict[str, Any]:
        assert self.cursor is not None
        _, collection, cursor_id = self.cursor
        return {
            "getMore": cursor_id,
            "collection": collection,
            "batchSize": self._limits.batch_events,
            "maxTimeMS": max(1, int(await_s * 1000)),
        }

    def opened(self, cursor: Mapping[str, Any], now_s: float, server_clock_s: float | None) -> None:
        """The aggregate returned: events flow from the token, or from the server's present time."""
        if self.token is None:
            self.state, self.reason = "probing", ""
        else:
            self.resumes += 1
        self.polled_s = self.due_s = now_s
        self.positions.clear()
        self._take(cursor, cursor.get("firstBatch") or [], now_s, server_clock_s)

    def advanced(
        self, cursor: Mapping[str, Any], now_s: float, server_clock_s: float | None
    ) -> None:
        """A getMore returned; if it has passed a position, the lease begins there.

        Args:
            cursor: the reply's cursor document.
            now_s: the present instant.
            server_clock_s: the server's wall clock now, in seconds; None if not known.
        """
        batch = cursor.get("nextBatch") or []
        self.polled_s = now_s
        self._retries = 0
        if batch:
            self.due_s = now_s + self._limits.pace_s
        self._take(cursor, batch, now_s, server_clock_s)
        if self.cursor is None:
            # Closed, by the server or by us: what it has shown proves nothing.
            self.positions.clear()
            return
        position = self._passed(batch[-1]["clusterTime"] if batch else None, now_s)
        if position is not None:
            self.state = "trusted"
            self.lease_start_s, self.lease_round = position.start_s, position.round
            self._sink.lease(self.database, position.primary, position.start_s)

    def failed(self, is_resumable: bool, is_open: bool, reason: str, now_s: float) -> None:
        """Its aggregate (is_open) or its getMore was refused."""
        # A getMore that failed may have advanced its cursor: only the token is sure.
        self.drop_cursor()
        if is_resumable:
            self.due_s = now_s + backoff_s(self._retries)
            self._retries += 1
        elif is_open and self.token is None:
            reason = f"database {self.database} cannot be watched: {reason}"
            self.give_up("unsupported", reason, now_s + self._limits.forbidden_retry_s)
        else:
            self.gap(reason, now_s)

    def gap(self, reason: str, now_s: float) -> None:
        """Events may have been missed: trust ends, and the stream opens anew."""
        self._sink.lost(self.database, reason)
        self.reopen(reason, now_s)

    def reopen(self, reason: str, now_s: float) -> None:
        """After a gap that the sink was told of."""
        self._forget()
        self.gaps += 1
        self.state, self.reason, self.due_s = "opening", reason, now_s

    def give_up(
        self,
        state: Literal["forbidden", "unsupported", "too_many_events"],
        reason: str,
        until_s: float,
    ) -> None:
        """It is not watched before until_s; reason is for people."""
        self._sink.lost(self.database, reason)
        self._forget()
        self.state, self.reason, self.due_s = state, reason, until_s
        self._sink.unavailable(self.database, reason)

    def drop_cursor(self) -> None:
        """Give up the cursor; the token stays, so that the stream can resume."""
        if self.cursor is not None:
            self._dropped.append(self.cursor)
        self.cursor = None
        self.positions.clear()

    def stats(self, now_s: float) -> DatabaseWatch:
        remaining_s = 0.0
        if self.lease_start_s is not None:
            remaining_s = max(0.0, self.lease_start_s + self._limits.lease_s - now_s)
        return DatabaseWatch(
            database=self.database,
            state=self.state,
            reason=self.reason,
            lease_remaining_s=remaining_s,
            lag_s=self.lag_s,
            events=self.events,
            resumes=self.resumes,
            gaps=self.gaps,
        )

    def _forget(self) -> None:
        self.drop_cursor()
        self.token = None
        self.lease_start_s = None
        self.lease_round = -1

    def _take(
        self,
        cursor: Mapping[str, Any],
        batch: list[Mapping[str, Any]],
        now_s: float,
        server_clock_s: float | None,
    ) -> None:
        """Tell a batch; afterwards the stream resumes behind it, unless it had to be given up."""
        cursor_id = int(cursor["id"])
        collection = str(cursor.get("ns") or "").partition(".")[2] or "$cmd.aggregate"
        self.cursor = (self.database, collection, cursor_id) if cursor_id else None
        for raw in batch:
            if raw["operationType"] == "invalidate":
                self.gap("database dropped or renamed", now_s)
                return
            effects = self._effects_of(change_event(raw))
            self._sink.event(self.database, effects, raw["clusterTime"])
        token = cursor.get("postBatchResumeToken") or (batch[-1]["_id"] if batch else None)
        if token is not None:
            self.token = token
        if not batch:
            return
        wall_time = batch[-1].get("wallTime")
        if isinstance(wall_time, DatetimeMS) and server_clock_s is not None:
            self.lag_s = max(0.0, server_clock_s - int(wall_time) / 1000)
        if self._is_flooded(len(batch), now_s):
            most = self._limits.max_events_per_s
            reason = f"more than {most} events a second in database {self.database}"
            self.give_up("too_many_events", reason, now_s + self._limits.flood_retry_s)

    def _is_flooded(self, count: int, now_s: float) -> bool:
        self.events += count
        if now_s - self._window_start_s >= 1.0:
            self._window_start_s = now_s
            self._window_events = 0
        self._window_events += count
        return self._window_events > self._limits.max_events_per_s

    def _passed(self, last: Timestamp | None, now_s: float) -> Position | None:
        """The latest position passed by a getMore, all sent after their majority reads.

        last is the cluster time of its last event, None when it came back empty. A position that
        was passed is forgotten, with all before it and those whose lease would be over.
        """
        passed: Position | None = None
        kept: list[Position] = []
        for position in self.positions:
            if last is None or last > position.time:
                passed = position
            elif position.start_s + self._limits.lease_s > now_s:
                kept.append(position)
        self.positions = kept
        return passed
