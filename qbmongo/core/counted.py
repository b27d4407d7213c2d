"""The calls of one namespace, each counted once in the profile where one is kept.

A fault of ours never fails the caller's call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..records import ReadOp, WriteKind, WriteOp
from .profile import Profile, ShapeStats, SlowRules
from .tickets import Ticket

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["Counted", "log_slow"]

slow_log = logging.getLogger("qbmongo.slow")


def log_slow(line: str | None) -> None:
    """Logs what a record in the profile has returned, if anything."""
    if line is not None:
        slow_log.warning("%s", line)


class Counted:
    """What a Scope counts: a ticket's statistics, and all there is to a write.

    profile: None where none is kept here. keep_values: with the values of slow calls.
    """

    __slots__ = ("engine", "keep_values", "namespace", "profile", "rules")

    engine: Engine
    keep_values: bool
    namespace: str
    profile: Profile | None
    rules: SlowRules | None

    def _ticket(self, op: ReadOp, now_s: float) -> Ticket:
        """A ticket with the shape's statistics; notes the calling place where it is due."""
        scope: Any = self
        profile = self.profile
        if profile is None:
            return Ticket(scope, op, now_s, None)
        engine = self.engine
        try:
            stats = profile.read_stats(op, self.rules)
            if stats.place_due:
                stats.note_place(engine.find_place(), engine.find_caller())
            return Ticket(scope, op, now_s, stats)
        except Exception as error:
            engine.fault("profile", error)
            return Ticket(scope, op, now_s, None)

    def point_stats(self, op: ReadOp) -> ShapeStats | None:
        """The statistics that point reads of the same path and type have in common."""
        profile = self.profile
        return None if profile is None else profile.read_stats(op, self.rules)

    # Writes

    def begin_write(self, op: WriteOp) -> ShapeStats | None:
        """The statistics of a write's shape, None where nobody keeps them; notes the calling place
        where it is due."""
        profile = self.profile
        if profile is None:
            return None
        try:
            stats = profile.write_stats(op, self.rules)
        except Exception as error:
            self.engine.fault("profile", error)
            return None
        if stats.place_due:
            self.note_place(stats)
        return stats

    def joining_stats(
        self, kind: WriteKind, filter: Any, document: Any, options: Any
    ) -> ShapeStats | None:
        """Statistics of the shape of a write that may travel with others, or None where nobody
        keeps them. The calling place is noted apart: see `note_place`.

        options: the call's named arguments, a mapping.
        """
        profile = self.profile
        if profile is None:
            return None
        try:
            op = WriteOp(
                kind, self.namespace, filter, document, options.get("sort"), options or None
            )
            return profile.write_stats(op, self.rules)
        except Exception as error:
            self.engine.fault("profile", error)
            return None

    def note_place(self, stats: ShapeStats) -> None:
        """Notes the calling place of a shape, where `place_due`."""
        engine = self.engine
        try:
            stats.note_place(engine.find_place(), engine.find_caller())
        except Exception as error:
            engine.fault("profile", error)

    def end_write(
        self,
        stats: ShapeStats,
        op: Callable[[], WriteOp],
        started_s: float,
        now_s: float,
        documents: int,
        failed: bool,
    ) -> None:
        """A write that went alone changed so many documents, or failed. op: makes the operation."""
        try:
            kept = op() if self.keep_values else None
            log_slow(stats.record(now_s - started_s, documents, 0, 0, now_s, kept, failed))
        except Exception as error:
            self.engine.fault("profile", error)

    def joined_write(
        self, stats: ShapeStats, started_s: float, now_s: float, documents: int
    ) -> None:
        """A write that gathered with others was answered as a plain call after all."""
        try:
            stats.record_joined(now_s - started_s, documents, now_s)
        except Exception as error:
            self.engine.fault("profile", error)

    def record(
        self,
        ticket: Ticket,
        now_s: float,
        elapsed_s: float | None,
        documents: int,
        size: int,
        getmores: int,
        failed: bool,
    ) -> None:
        """Counts a call of which nothing is kept. elapsed_s: as for `settle_read`."""
        stats = ticket.stats
        if stats is None:
            return
        try:
            if elapsed_s is None:
                elapsed_s = now_s - ticket.started_s
            kept = ticket.op if self.keep_values else None
            log_slow(stats.record(elapsed_s, documents, size, getmores, now_s, kept, failed))
        except Exception as error:
            self.engine.fault("profile", error)
