"""One database's change stream: its commands, its position, its events. Pure; the plan drives it.

Values never travel: the pipeline keeps ids, names, times and the names of changed fields. Resume
tokens are opaque, kept and sent back as they came.

Source: https://www.mongodb.com/docs/manual/changeStreams/ and the change streams specification,
https://github.com/mongodb/specifications/blob/master/source/change-streams/change-streams.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson.timestamp import Timestamp

from qbmongo.coherence.records import DatabaseState, DatabaseWatch, Limits, Primary

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


class Stream:
    """State of one database's change stream. Only the plan changes it.

    A stream with a token resumes where it was, so that nothing is missed; one without a token opens
    at the server's present time and is not trusted before a probe that began after its opening.
    """

    __slots__ = (
        "cursor",
        "database",
        "due_s",
        "events",
        "gaps",
        "lag_s",
        "lease_round",
        "lease_start_s",
        "limits",
        "opened_s",
        "polled_s",
        "positions",
        "reason",
        "resumes",
        "retries",
        "state",
        "token",
        "used_s",
        "window_events",
        "window_start_s",
    )

    def __init__(self, database: str, limits: Limits, now_s: float) -> None:
        self.database = database
        self.limits = limits
        self.state: DatabaseState = "opening"
        self.reason = ""
        self.cursor: tuple[int, str] | None = None
        self.token: Mapping[str, Any] | None = None
        self.opened_s = now_s
        self.due_s = now_s
        self.polled_s = now_s
        self.used_s = now_s
        self.positions: list[Position] = []
        self.lease_start_s: float | None = None
        self.lease_round = -1
        self.window_start_s = now_s
        self.window_events = 0
        self.retries = 0
        self.events = 0
        self.resumes = 0
        self.gaps = 0
        self.lag_s: float | None = None

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
            "cursor": {"batchSize": self.limits.batch_events},
            "readConcern": {"level": "majority"},
        }

    def more_command(self, await_s: float) -> dict[str, Any]:
        assert self.cursor is not None
        cursor_id, collection = self.cursor
        return {
            "getMore": cursor_id,
            "collection": collection,
            "batchSize": self.limits.batch_events,
            "maxTimeMS": max(1, int(await_s * 1000)),
        }

    def opened(self, cursor: Mapping[str, Any], now_s: float) -> None:
        """The aggregate returned: events flow from the token, or from the server's present time."""
        if self.token is None:
            self.state = "probing"
            self.reason = ""
        else:
            self.resumes += 1
        self.opened_s = self.polled_s = self.due_s = now_s
        self.retries = 0
        self.positions.clear()
        self.advance(cursor, cursor.get("firstBatch") or ())

    def advance(self, cursor: Mapping[str, Any], batch: Sequence[Mapping[str, Any]]) -> None:
        """A batch was taken in whole: resume after it from now on."""
        token = cursor.get("postBatchResumeToken") or (batch[-1]["_id"] if batch else None)
        if token is not None:
            self.token = token
        cursor_id = int(cursor["id"])
        namespace = str(cursor.get("ns") or "")
        collection = namespace.partition(".")[2] or "$cmd.aggregate"
        self.cursor = (cursor_id, collection) if cursor_id else None

    def take_cursor(self) -> tuple[int, str] | None:
        """Give up the cursor (returned, to be killed); the token stays, so that it can resume."""
        cursor, self.cursor = self.cursor, None
        self.positions.clear()
        return cursor

    def shown(self, last: Timestamp | None, now_s: float) -> Position | None:
        """The latest position that a getMore sent after its majority read has passed.

        Args:
            last: cluster time of the reply's last event; None when it came back empty.
            now_s: the present instant.

        Returns:
            The position, which is then forgotten with all before it, or None.
        """
        passed: Position | None = None
        kept: list[Position] = []
        for position in self.positions:
            if last is None or last > position.time:
                passed = position
            elif position.start_s + self.limits.lease_s > now_s:
                kept.append(position)
        self.positions = kept
        return passed

    def is_flooded(self, count: int, now_s: float) -> bool:
        """Count events; whether this second had more than may be watched."""
        self.events += count
        if now_s - self.window_start_s >= 1.0:
            self.window_start_s = now_s
            self.window_events = 0
        self.window_events += count
        return self.window_events > self.limits.max_events_per_s

    def forget(self) -> None:
        """After a gap: nothing of the past counts, neither position nor trust."""
        self.token = None
        self.lease_start_s = None
        self.lease_round = -1
        self.positions.clear()

    def stats(self, now_s: float) -> DatabaseWatch:
        remaining_s = 0.0
        if self.lease_start_s is not None:
            remaining_s = max(0.0, self.lease_start_s + self.limits.lease_s - now_s)
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
