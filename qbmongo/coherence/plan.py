"""What the watcher sends next, and what follows from the answers. No sockets, clock or asyncio.

One client, one connection, one command at a time, any number of databases with a change stream
each. A runner asks step(), executes the request (or sleeps), and answers with reply() or failed().

A lease is granted by a probe, in this order, all on one primary:
    1. the instant s is noted;
    2. hello on the primary gives its identity and its operation time T;
    3. a majority read with afterClusterTime T returns: T can no longer be rolled back, and no
       write before T is still missing from the oplog;
    4. a getMore of the database's stream that was sent after that comes back empty, or with an
       event later than T.
Then the stream has shown everything up to T, and the lease runs from s. One hello and one majority
read serve every stream that was open before them. Whatever breaks the chain (a failure, another
primary, a stream that had to be opened again) starts it anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from bson.datetime_ms import DatetimeMS

from qbmongo.coherence.facts import FactsReading
from qbmongo.coherence.failures import NO_REPLICA_SET, meaning_of, why_unsupported
from qbmongo.coherence.records import (
    Failure,
    Limits,
    Primary,
    Reply,
    Request,
    Sink,
    Sleep,
    WatcherState,
    WatcherStats,
)
from qbmongo.coherence.sent import Probe, Sent
from qbmongo.coherence.stream import EffectsOf, OpenCursor, Position, Stream, backoff_s

# Names no real collection: the read only has to wait for its read concern.
_PROBED_COLLECTION = "qbmongo.lease"
_CONFIRM_AWAIT_S = 0.001
_LEAST_AWAIT_S = 0.005
_REFUSED_RETRY_S = 30.0


class Plan:
    """The watcher of one client as a state machine.

    Args:
        sink: the cache; called from within watch(), reply(), failed() and step().
        effects_of: a change event as the manual describes it -> its effects.
        limits: durations and sizes.
    """

    def __init__(
        self,
        sink: Sink,
        effects_of: EffectsOf,
        limits: Limits | None = None,
    ) -> None:
        self._sink = sink
        self._effects_of = effects_of
        self._limits = limits or Limits()
        # Replaced, never changed in place: snapshot() and `databases` are read by other threads.
        self._streams: dict[str, Stream] = {}
        self._sent: Sent | None = None
        self._probe: Probe | None = None
        self._facts = FactsReading()
        self._facts_due_s = -math.inf
        self._verification: Any = None
        self._has_verified = False
        self._round = 0
        self._wanted_round = 0
        self._next_probe_s = -math.inf
        self._is_idle = False
        self._primary: Primary | None = None
        self._is_connected = False
        self._blocked_until_s = -math.inf
        self._retries = 0
        self._dropped: list[OpenCursor] = []
        self._server_clock_offset_s: float | None = None
        self._state: WatcherState = "idle"
        self._reason = ""
        self._commands = 0
        self._failures = 0
        self._probes = 0

    # What the runner is told to do.

    @property
    def databases(self) -> Mapping[str, Any]:
        """The watched databases by name; to be read only."""
        return self._streams

    @property
    def is_connected(self) -> bool:
        """The last command was answered by the primary."""
        return self._is_connected

    def watch(self, database: str, now_s: float) -> None:
        """Watch a database too. Harmless when it is watched already: it counts as a use."""
        stream = self._streams.get(database)
        if stream is None:
            stream = Stream(
                database, self._sink, self._effects_of, self._limits, self._dropped, now_s
            )
            self._streams = {**self._streams, database: stream}
            # What was cached of it under an earlier stream, if any, was not watched since.
            self._sink.lost(database, "opening")
            if self._state == "unsupported":
                stream.give_up("unsupported", self._reason, self._blocked_until_s)
            elif self._state == "idle":
                self._state = "connecting"
        stream.used_s = now_s

    def catch_up(self) -> int:
        """Ask for a probe that begins after this call; the ticket is for is_caught_up()."""
        self._wanted_round = self._round + 1
        return self._wanted_round

    def is_caught_up(self, ticket: int) -> bool:
        """Whether every database that is watched has had a lease from that probe or a later one,
        and the facts wanted are known.

        Databases that cannot be watched are not waited for: nothing of them is cached.
        """
        return all(
            stream.lease_round >= ticket for stream in self._streams.values() if stream.is_wanted
        ) and not self._facts.wanted(self._sink, self._streams)

    def step(self, now_s: float) -> Request | Sleep:
        """What to do now. After a Request, exactly one of reply() and failed() must follow."""
        assert self._sent is None
        if self._state == "unsupported":
            # Without change streams a time to live may still keep answers, and needs the facts.
            request = self._read_facts(now_s)
            if request is not None:
                return request
        if now_s < self._blocked_until_s:
            is_due_first = self._state == "unsupported" and now_s < self._facts_due_s
            return Sleep(self._facts_due_s if is_due_first else self._blocked_until_s)
        if self._state == "unsupported":
            self._retry_all(now_s)
        if not self._streams:
            return Sleep(math.inf)
        if not self._is_connected:
            return self._start_probe(now_s)
        # The majority read comes before anything is opened: whatever is open when it returns was
        # open before its hello.
        request = (
            self._majority_read()
            or self._confirm()
            or self._read_facts(now_s)
            or self._kill()
            or self._open(now_s)
            or self._due_probe(now_s)
            or self._verify()
            or self._poll(now_s)
        )
        return request or Sleep(self._next_instant_s())

    def farewell(self) -> list[Request]:
        """killCursors for all that is open, to be sent when the watcher closes."""
        if not self._is_connected:
            return []
        for stream in self._streams.values():
            stream.drop_cursor()
        requests = []
        while request := self._kill():
            requests.append(request)
        self._sent = None
        return requests

    def ended(self, state: Literal["fault", "closed"], reason: str) -> None:
        """Nothing is sent any more; a fault voids what was trusted."""
        self._state, self._reason = state, reason
        self._facts.abandon(self._sink)
        if state == "fault":
            self._sink.lost(None, "fault")

    def snapshot(self, now_s: float) -> WatcherStats:
        """The statistics. May be called from another thread."""
        return WatcherStats(
            state=self._state,
            reason=self._reason,
            primary=self._primary,
            commands=self._commands,
            failures=self._failures,
            probes=self._probes,
            databases=tuple(stream.stats(now_s) for stream in self._streams.values()),
        )

    # What the runner reports.

    def reply(self, now_s: float, reply: Reply, primary: Primary) -> None:
        """The request in flight succeeded.

        Args:
            now_s: the present instant.
            reply: the server's reply document.
            primary: who sent it, with the election that the driver knows of.
        """
        sent = self._take_sent()
        if sent.kind == "hello":
            self._hello(now_s, reply, primary.address)
            return
        if self._state != "unsupported" and self._is_another(primary):
            self._changed(now_s)
            return
        self._retries = 0
        if sent.kind == "facts":
            self._facts.reply(self._sink, reply)
            return
        if sent.kind == "verify":
            self._sink.verified(self._verification, reply, now_s)
            return
        if sent.kind == "majority":
            self._majority_reached()
        elif sent.kind == "open":
            assert sent.stream is not None
            sent.stream.opened(reply["cursor"], now_s, self._server_clock_s(now_s))
            self._next_probe_s = now_s
        elif sent.kind == "more":
            assert sent.stream is not None
            sent.stream.advanced(reply["cursor"], now_s, self._server_clock_s(now_s))

    def failed(self, now_s: float, failure: Failure) -> None:
        """The request in flight failed, or its outcome is unknown."""
        sent = self._take_sent()
        self._failures += 1
        self._drop_probes()
        meaning = meaning_of(failure)
        if sent.kind == "facts":
            self._facts.failed(self._sink, failure, meaning)
            # Facts that could not be read this time are wanted still.
            self._facts_due_s = now_s + self._limits.probe_period_s
            if meaning != "disconnected":
                return
        if sent.kind == "verify" and meaning != "disconnected":
            return
        is_stream = sent.kind in ("open", "more")
        if meaning == "disconnected":
            if is_stream and sent.stream is not None:
                sent.stream.drop_cursor()
            self._disconnected(now_s, failure.message)
        elif sent.kind == "hello":
            self._disconnected(now_s, failure.message, _REFUSED_RETRY_S)
        elif meaning == "no_replica_set":
            self._unsupported(now_s, NO_REPLICA_SET)
        elif sent.stream is None:
            return
        elif meaning == "unauthorized":
            # The server's own words repeat the command with its session and cluster time.
            reason = f"no privilege to watch database {sent.stream.database}"
            sent.stream.give_up("forbidden", reason, now_s + self._limits.forbidden_retry_s)
        elif is_stream:
            is_resumable = meaning == "resumable"
            sent.stream.failed(is_resumable, sent.kind == "open", failure.message, now_s)
        else:
            self._reason = f"no majority read: {failure.message}"

    # The connection.

    def _hello(self, now_s: float, reply: Reply, address: Any) -> None:
        probe = self._probe
        assert probe is not None
        reason = why_unsupported(reply)
        if reason is not None:
            self._unsupported(now_s, reason)
            return
        if not reply.get("isWritablePrimary"):
            self._disconnected(now_s, "the server that answers is no primary")
            return
        primary = Primary(address, reply.get("electionId"))
        if self._primary is not None and primary != self._primary:
            self._changed(now_s)
        self._primary = primary
        self._is_connected = True
        self._retries = 0
        self._state, self._reason = "running", ""
        local_time = reply.get("localTime")
        if isinstance(local_time, DatetimeMS):
            self._server_clock_offset_s = int(local_time) / 1000 - now_s
        if self._probe is not None:
            probe.time, probe.primary = reply["operationTime"], primary

    def _server_clock_s(self, now_s: float) -> float | None:
        offset_s = self._server_clock_offset_s
        return None if offset_s is None else now_s + offset_s

    def _is_another(self, primary: Primary) -> bool:
        """Another server, or a later election than the last hello knew of."""
        known = self._primary
        if known is None or primary.address != known.address:
            return True
        return (
            primary.election_id is not None
            and known.election_id is not None
            and primary.election_id > known.election_id
        )

    def _changed(self, now_s: float) -> None:
        """Another primary: what the last one applied may have been rolled back."""
        self._sink.lost(None, "primary changed")
        self._facts.abandon(self._sink)
        self._primary = None
        self._is_connected = False
        self._drop_probes()
        for stream in self._streams.values():
            if stream.is_wanted:
                stream.reopen("primary changed", now_s)
        # They were the other primary's.
        self._dropped.clear()

    def _disconnected(self, now_s: float, reason: str, least_s: float = 0.0) -> None:
        """Streams keep their tokens and cursors; who answers next must say who it is."""
        self._is_connected = False
        self._drop_probes()
        self._state, self._reason = "unreachable", reason
        self._blocked_until_s = now_s + max(backoff_s(self._retries), least_s)
        self._retries += 1

    def _unsupported(self, now_s: float, reason: str) -> None:
        self._drop_probes()
        self._is_connected = False
        self._state, self._reason = "unsupported", reason
        self._blocked_until_s = now_s + self._limits.forbidden_retry_s
        for stream in self._streams.values():
            stream.give_up("unsupported", reason, self._blocked_until_s)
        self._dropped.clear()

    def _retry_all(self, now_s: float) -> None:
        self._state = "connecting"
        for stream in self._streams.values():
            stream.state, stream.due_s = "opening", now_s

    # Probes.

    def _start_probe(self, now_s: float) -> Request:
        self._round += 1
        self._probe = Probe(self._round, now_s)
        self._next_probe_s = now_s + self._limits.probe_period_s
        return self._send(Sent("hello"), "admin", {"hello": 1})

    def _due_probe(self, now_s: float) -> Request | None:
        """A probe, if it is time, somebody reads from the cache, and a stream is open for it."""
        if not any(stream.cursor for stream in self._streams.values()):
            return None
        if self._wanted_round > self._round:
            return self._start_probe(now_s)
        if now_s < self._next_probe_s:
            return None
        self._note_use(now_s)
        last_used_s = max((stream.used_s for stream in self._streams.values()), default=-math.inf)
        is_unused = now_s - last_used_s >= self._limits.idle_after_s
        self._is_idle = is_unused and self.is_caught_up(self._wanted_round)
        if not self._is_idle:
            return self._start_probe(now_s)
        self._next_probe_s = now_s + self._limits.probe_period_s
        return None

    def _note_use(self, now_s: float) -> None:
        for database, stream in self._streams.items():
            if self._sink.in_use(database):
                stream.used_s = now_s
        forgotten = [
            stream
            for stream in self._streams.values()
            if now_s - stream.used_s >= self._limits.forget_after_s
        ]
        for stream in forgotten:
            stream.drop_cursor()
            self._sink.lost(stream.database, "not used")
        if forgotten:
            self._streams = {
                name: stream for name, stream in self._streams.items() if stream not in forgotten
            }

    def _read_facts(self, now_s: float) -> Request | None:
        if now_s < self._facts_due_s:
            return None
        wanted = self._facts.next(self._sink, self._streams)
        if wanted is None:
            return None
        database, command = wanted
        return self._send(Sent("facts"), database, command)

    def _verify(self) -> Request | None:
        """A hit that is to be read again, to be compared with what is kept; then a poll's turn."""
        if self._has_verified:
            return None
        for database in self._streams:
            item = self._sink.verification(database)
            if item is not None:
                self._verification, self._has_verified = item, True
                return self._send(Sent("verify"), database, item.command)
        return None

    def _majority_read(self) -> Request | None:
        probe = self._probe
        if probe is None or probe.time is None:
            return None
        for stream in self._streams.values():
            if stream.cursor is not None:
                command = {
                    "find": _PROBED_COLLECTION,
                    "filter": {},
                    "projection": {"_id": 1},
                    "limit": 1,
                    "singleBatch": True,
                    "readConcern": {"level": "majority", "afterClusterTime": probe.time},
                    "maxTimeMS": max(1, int(self._limits.lease_s * 500)),
                }
                return self._send(Sent("majority", stream), stream.database, command)
        self._probe = None
        return None

    def _majority_reached(self) -> None:
        probe, self._probe = self._probe, None
        assert probe is not None
        assert probe.time is not None
        assert probe.primary is not None
        self._probes += 1
        self._reason = ""
        position = Position(probe.round, probe.start_s, probe.time, probe.primary)
        for stream in self._streams.values():
            if stream.cursor is not None:
                stream.positions.append(position)

    def _drop_probes(self) -> None:
        self._probe = None
        for stream in self._streams.values():
            stream.positions.clear()

    # Streams.

    def _confirm(self) -> Request | None:
        waiting = [s for s in self._streams.values() if s.cursor is not None and s.positions]
        if not waiting:
            return None
        stream = min(waiting, key=lambda s: s.polled_s)
        return self._send_more(stream, _CONFIRM_AWAIT_S)

    def _poll(self, now_s: float) -> Request | None:
        is_open = [s for s in self._streams.values() if s.cursor is not None]
        ready = [s for s in is_open if s.due_s <= now_s]
        if not ready:
            return None
        stream = min(ready, key=lambda s: s.polled_s)
        others_s = min((s.due_s for s in self._streams.values() if s.due_s > now_s), default=now_s)
        round_s = self._limits.probe_period_s if self._is_idle else self._limits.await_s
        await_s = max(round_s / len(is_open), _LEAST_AWAIT_S)
        if self._has_verified:
            # There may be more to verify, which must not wait; nor must the events.
            self._has_verified, await_s = False, _CONFIRM_AWAIT_S
        if others_s > now_s:
            await_s = min(await_s, others_s - now_s)
        return self._send_more(stream, min(await_s, max(0.0, self._next_probe_s - now_s)))

    def _send_more(self, stream: Stream, await_s: float) -> Request:
        return self._send(Sent("more", stream), stream.database, stream.more_command(await_s))

    def _open(self, now_s: float) -> Request | None:
        for stream in self._streams.values():
            if stream.cursor is None and stream.due_s <= now_s:
                if not stream.is_wanted:
                    stream.state = "opening"
                return self._send(Sent("open", stream), stream.database, stream.open_command())
        return None

    # Requests.

    def _kill(self) -> Request | None:
        if not self._dropped:
            return None
        database, collection, cursor_id = self._dropped.pop()
        command = {"killCursors": collection, "cursors": [cursor_id]}
        return self._send(Sent("kill"), database, command)

    def _send(self, sent: Sent, database: str, command: dict[str, Any]) -> Request:
        self._sent = sent
        self._commands += 1
        return Request(database, command, self._limits.timeout_s)

    def _take_sent(self) -> Sent:
        sent, self._sent = self._sent, None
        assert sent is not None
        return sent

    def _next_instant_s(self) -> float:
        instants = [stream.due_s for stream in self._streams.values()]
        if any(stream.cursor for stream in self._streams.values()):
            instants.append(self._next_probe_s)
        return min(instants, default=math.inf)
