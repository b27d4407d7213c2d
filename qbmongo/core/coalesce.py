"""Writes of one document that travel together: their lanes, and what each caller is given.

`Coalescer` holds the lanes of one client; `settle` reads a command's outcome as one verdict per
operation, equal to what its single call would have given. Where the server's answer cannot give
that, the verdict is "alone" (surely not applied: the plain call is made) or "unknown".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from ..records import Batch, BatchReply, Sending, Verdict, WriteKind
from ..settings import CoalesceSettings
from .index_names import IndexNames
from .lanes import Lane, LaneCounts, LaneLimits
from .pace import Pace, Paces

__all__ = [
    "NOT_APPLIED",
    "REFUSALS",
    "SAME_FORM",
    "STATES",
    "UNSUPPORTED",
    "Coalescer",
    "Group",
    "limits_of_writes",
    "settle",
]

Group = Literal["insert", "update"]
"""insert: one unordered insert command; update: one bulkWrite of updates, replacements, deletes."""

UNSUPPORTED = frozenset({59, 115, 323})
"""CommandNotFound, CommandNotSupported, APIStrictError: the server cannot bulkWrite (yet)."""

REFUSALS = UNSUPPORTED | {2, 9, 13, 15, 20, 22, 73, 166}
"""Refusals of a whole command that precede its execution: BadValue, FailedToParse, Unauthorized,
Overflow (a document nested too deeply), IllegalOperation, InvalidBSON, InvalidNamespace,
CommandNotSupportedOnView besides.

Source: https://github.com/mongodb/mongo, src/mongo/base/error_codes.yml
"""

SAME_FORM = frozenset({121, 11000})
"""Write errors (DocumentValidationFailure, DuplicateKey) that are the same, field by field, in a
batch and alone."""

NOT_APPLIED = frozenset(
    {2, 9, 13, 14, 20, 26, 28, 40, 52, 53, 54, 55, 56, 57, 66, 72, 73, 112, 115, 166, 241}
)
"""Write errors that say for certain that the operation was not applied, and that may look different
alone: there some are errors of the whole command, and an update that moves a document to another
shard succeeds only there. What the single call says is found out by making it. So are errors with
numbers from 10000 on, which come from the operation itself (its operators and expressions), but
for those of STATES.

Source: https://github.com/mongodb/mongo, src/mongo/base/error_codes.yml: BadValue, FailedToParse,
Unauthorized, TypeMismatch, IllegalOperation, NamespaceNotFound, PathNotViable,
ConflictingUpdateOperators, DollarPrefixedFieldName, InvalidIdField, NotSingleValueField,
InvalidDBRef, EmptyFieldName, DottedFieldName, ImmutableField, InvalidOptions, InvalidNamespace,
WriteConflict, CommandNotSupported, CommandNotSupportedOnView, ConversionFailure.
"""

STATES = frozenset({6, 7, 89, 91, 189, 9001, 10058, 10107, 11600, 11602, 13435, 13436})
"""Errors of the server's state or of the way to it, as the driver specifications list them. Behind
a router, nobody knows whether such an operation was applied.

Source: https://github.com/mongodb/specifications, retryable writes and server monitoring
"""

_INTERRUPTED = 11601
_FIRST_LOCATION = 10_000

_SYSTEM = frozenset({"admin", "config", "local"})
_PROBE_S = 3600.0
_ASK_AGAIN_S = 60.0
_UNAUTHORIZED = 13
_MAX_LANES = 2000
_ALONE = Verdict("alone")
_UNKNOWN = Verdict("unknown")
# What a result or error in a batch says of its place in it.
_PLACE_FIELDS = frozenset({"ok", "idx", "index", "n", "nModified", "op"})


def limits_of_writes(part: CoalesceSettings | None, namespace: str) -> LaneLimits | None:
    """The limits of lanes of a namespace's writes; None where they never travel together."""
    database, _, collection = namespace.partition(".")
    if part is None or database in _SYSTEM or collection.startswith("system."):
        return None
    return LaneLimits(
        part.max_in_flight,
        part.max_batch_ops,
        part.max_batch_bytes,
        part.max_joined_ms / 1_000,
        part.linger_s,
    )


class Coalescer:
    """The lanes of one client's writes, and counters. Called under the client's lock.

    refused: writes that went straight to the driver although the part is on, by reason.
    alone: operations of batches that were sent as plain calls after all. unknown: operations whose
    outcome nobody knows. off_reason: why nothing travels together any more, or None.
    indexes: fields that are the first one of an index. paces: how long things usually take.
    version: changes when lanes were forgotten, and must be asked for again.
    """

    def __init__(self, max_pending_bytes: int) -> None:
        self.max_pending_bytes = max_pending_bytes
        self.counts = LaneCounts()
        self.refused: Counter[str] = Counter()
        self.alone = 0
        self.unknown = 0
        self.indexes = IndexNames()
        self.paces = Paces()
        self.off_reason: str | None = None
        self.version = 0
        self._lanes: dict[tuple[str, Group], list[tuple[Any, Lane]]] = {}
        self._number = 0
        self._unsupported_until_s = -math.inf
        self._flushes: list[tuple[set[Sending], Any]] = []
        self._following: set[Sending] = set()

    def lane(self, namespace: str, group: Group, variant: Any, limits: LaneLimits) -> Lane:
        """The lane of writes of one kind to a namespace, sent with equal options.

        variant: write concern and codec options; those that are equal share a lane.
        """
        lanes = self._lanes.setdefault((namespace, group), [])
        for known, lane in lanes:
            if known == variant:
                lane.limits = limits
                return lane
        made = Lane(limits, self.counts)
        lanes.append((variant, made))
        self._number += 1
        if self._number > _MAX_LANES:
            self._forget_idle(made)
        return made

    def _forget_idle(self, but: Lane) -> None:
        kept: dict[tuple[str, Group], list[tuple[Any, Lane]]] = {}
        for key, lanes in self._lanes.items():
            busy = [item for item in lanes if item[1] is but or not item[1].is_idle]
            if busy:
                kept[key] = busy
        self._lanes = kept
        self._number = sum(map(len, kept.values()))
        self.version += 1

    def lanes(self) -> list[Lane]:
        """Every lane."""
        return [lane for lanes in self._lanes.values() for _, lane in lanes]

    def has_space(self, size: int) -> bool:
        """Whether an operation of so many bytes may be held."""
        return self.counts.held_bytes + size <= self.max_pending_bytes

    # Whether the server can bulkWrite

    def can_bulk_write(self, now_s: float) -> bool:
        """Whether bulkWrite is worth trying: not within an hour of a refusal."""
        return now_s >= self._unsupported_until_s

    def bulk_write_answered(self, reply: BatchReply, now_s: float) -> None:
        """A bulkWrite is over. The server may, at its present version or feature compatibility,
        have no such command; or the driver knows that, and has sent nothing."""
        if (reply.failure == "command" and reply.code in UNSUPPORTED) or (
            reply.failure == "other" and reply.sent == 0
        ):
            self._unsupported_until_s = now_s + _PROBE_S
        elif reply.failure == "command" and reply.code == _UNAUTHORIZED:
            # Perhaps only for these collections, perhaps for this command.
            self._unsupported_until_s = now_s + _ASK_AGAIN_S

    def primary_changed(self) -> None:
        """Another primary may have another version."""
        self._unsupported_until_s = -math.inf

    # Landing and flushing

    def follow(self, batch: Batch, now_s: float) -> Sending:
        """A plain call that follows a batch which has not landed yet, in no place of a lane: who
        flushes waits for it, too, until it has landed."""
        sending = Sending(now_s)
        self._following.add(sending)
        for waited_for, _ in self._flushes:
            if batch.sending in waited_for:
                waited_for.add(sending)
        return sending

    def landed(self, lane: Lane, sending: Sending, now_s: float) -> Batch | None:
        """As Lane.landed; flushes that waited for this sending are nearer their end."""
        self._following.discard(sending)
        if self._flushes:
            self._landed_for_flushes(sending)
        return lane.landed(sending, now_s)

    def flush(self, now_s: float, waiter: Any) -> list[tuple[Lane, Batch]]:
        """Batches to send now, of everything that gathers.

        waiter: its `deliver(None)` is called when these and what was on the wire before have
        landed; at once if there is nothing.
        """
        batches: list[tuple[Lane, Batch]] = []
        waited_for = set(self._following)
        for lane in self.lanes():
            batches += [(lane, batch) for batch in lane.take_all(now_s)]
            waited_for.update(lane.sendings())
        if waited_for:
            self._flushes.append((waited_for, waiter))
        else:
            waiter.deliver(None)
        return batches

    def _landed_for_flushes(self, sending: Sending) -> None:
        waiting = []
        for waited_for, waiter in self._flushes:
            waited_for.discard(sending)
            if waited_for:
                waiting.append((waited_for, waiter))
            else:
                waiter.deliver(None)
        self._flushes = waiting

    def pace(self, stats: Any) -> Pace:
        """The pace of a shape; stats: of the shape."""
        if stats.pace is None:
            stats.pace = Pace()
        return stats.pace  # type: ignore[no-any-return]

    def looked_at(self, pace: Pace, took_s: float, patience_s: float, now_s: float) -> None:
        """A call that went alone to be looked at is over."""
        pace.looked_at(took_s, self.paces.limit_s(patience_s), now_s)

    def arrived(self, batch: Batch, patience_s: float, now_s: float) -> None:
        """A batch came back."""
        # Looked at only after a slow one.
        paces = (stats.pace for write in batch.slots if (stats := write.stats) is not None)
        took_s = now_s - batch.sending.started_s
        self.paces.batch(took_s, filter(None, paces), patience_s, len(batch.slots))

    def count(self, verdicts: list[Verdict]) -> None:
        """Counts what is unusual among a batch's verdicts."""
        for verdict in verdicts:
            if verdict.kind == "alone":
                self.alone += 1
            elif verdict.kind == "unknown":
                self.unknown += 1

    def given_up(self, batch: Batch, slots: list[Any]) -> None:
        """Only these of a batch's operations are sent: the callers of the others gave up after it
        was dispatched, or nobody told."""
        self.counts.shrink(batch, slots)
        batch.slots = slots

    def after_fork(self) -> None:
        """In the child: what other threads had under way is theirs, in the parent."""
        self.counts = LaneCounts()
        for lane in self.lanes():
            lane.reset()
            lane.counts = self.counts
        self._flushes = []
        self._following = set()


def settle(batch: Batch, reply: BatchReply) -> list[Verdict]:
    """What each operation of a batch is to be given, in the order of its slots.

    An operation with an error that says that it was not applied is sent "alone", unless its error
    is the same there. One without a word is "unknown" if the command may have been executed, and
    "alone" if it surely was not: it was never sent, or was refused as a whole the only time it was
    sent.
    """
    results, errors = reply.results, reply.errors
    rest = _UNKNOWN
    if reply.failure is None:
        if results is None:
            rest = _of_insert(reply)
    elif not results and not errors and _is_unexecuted(reply):
        rest = _ALONE
    if not results and not errors:
        return [rest] * len(batch.slots)
    verdicts = []
    concern = reply.concern
    for place, write in enumerate(batch.slots):
        if errors and (error := errors.get(place)) is not None:
            verdicts.append(_of_error(error))
        elif not results or (result := results.get(place)) is None:
            verdicts.append(rest)
        elif concern is not None:
            verdicts.append(Verdict("concern", dict(concern)))
        else:
            verdicts.append(Verdict("done", _single_result(write.kind, result)))
    return verdicts


def _of_error(error: Mapping[str, Any]) -> Verdict:
    code = error.get("code")
    if code in SAME_FORM and not _is_short(error):
        return Verdict("failed", _single_error(error))
    if code in STATES:
        return _UNKNOWN
    if (
        code in NOT_APPLIED
        or code in SAME_FORM
        or (isinstance(code, int) and code >= _FIRST_LOCATION and code != _INTERRUPTED)
    ):
        return _ALONE
    # As the single call would tell it, whether it was applied or not.
    return Verdict("failed", _single_error(error))


def _is_short(error: Mapping[str, Any]) -> bool:
    """Whether a duplicate key's error tells less than alone: of an index with a collation it names
    the collation and says which values are its keys, which not every bulkWrite does."""
    return "collation" not in error and " collation: {" in error.get("errmsg", "")


def _is_unexecuted(reply: BatchReply) -> bool:
    if reply.sent == 0:
        return reply.failure == "other"
    return reply.failure == "command" and reply.sent == 1 and reply.code in REFUSALS


def _of_insert(reply: BatchReply) -> Verdict:
    if reply.concern is not None:
        return Verdict("concern", dict(reply.concern))
    return Verdict("done")


def _single_result(kind: WriteKind, result: Mapping[str, Any]) -> dict[str, Any]:
    """One operation's result in a bulkWrite as the reply of its single command."""
    n = int(result.get("n", 0))
    if kind == "delete_one":
        return {"n": n, "ok": 1.0}
    upserted = result.get("upserted")
    single: dict[str, Any] = {"n": n}
    if upserted is not None:
        single["upserted"] = upserted["_id"]
    single["nModified"] = int(result.get("nModified", 0))
    single["ok"] = 1.0
    single["updatedExisting"] = bool(n) and upserted is None
    return single


def _single_error(error: Mapping[str, Any]) -> dict[str, Any]:
    """One operation's error in a batch as the single command's write error."""
    told = {name: value for name, value in error.items() if name not in _PLACE_FIELDS}
    return {"index": 0, **told}
