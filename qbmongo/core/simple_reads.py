"""find_one by one plain value that is passed through: counted with the least that counting takes.

A call that qbmongo does nothing for has no operation, no ticket and no shape of its own to pay for:
statistics are found by path and type, which is all that the shape of such a filter holds. No rule
of rewriting is for it: there is no operator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..records import ReadOp
from .counted import log_slow
from .profile import Profile, ShapeStats
from .shape_filters import MAX_NAME, SCALARS

if TYPE_CHECKING:
    from .scope import Scope

__all__ = ["NOT_SIMPLE", "SimpleReads"]

_MAX_KNOWN = 256

NOT_SIMPLE: Any = object()
"""What is said of a filter that is not by one plain value."""


class SimpleReads:
    """The simple reads of one scope, with the settings that hold there."""

    __slots__ = ("_known", "_profile", "_scope")

    def __init__(self, scope: Scope, profile: Profile | None) -> None:
        self._scope = scope
        self._profile = profile
        self._known: dict[tuple[str, type], ShapeStats | None] = {}

    def begin(self, filter: dict[Any, Any], options: dict[str, Any]) -> Any:
        """The statistics that a find_one is to be recorded in (ShapeStats); None: nobody counts.

        options: what it was given by name besides the filter. Returns NOT_SIMPLE for a call that is
        not by one plain value, or that has other options than a session.
        """
        if options and (len(options) > 1 or options.get("session") is None):
            return NOT_SIMPLE
        try:
            ((path, value),) = filter.items()
            stats = self._known[path, type(value)]
        except (LookupError, TypeError, ValueError):
            stats = self._look(filter)
            if stats is NOT_SIMPLE:
                return stats
        scope = self._scope
        if options:
            cache = scope.cache
            if cache is not None:
                scope.engine.bypassed[cache.off_reason or "session"] += 1
            elif scope.points is not None:
                scope.points.counts.refused["session"] += 1
        if stats is not None and stats.place_due:
            try:
                stats.note_place(scope.engine.find_place(), scope.engine.find_caller())
            except Exception as error:
                scope.engine.fault("profile", error)
        return stats

    def _look(self, filter: dict[Any, Any]) -> Any:
        if len(filter) != 1:
            return NOT_SIMPLE
        scope, profile = self._scope, self._profile
        try:
            ((path, value),) = filter.items()
            if (
                type(value) not in SCALARS
                or type(path) is not str
                or path[:1] == "$"
                or path == "query"  # an old form of a whole query; see arguments.cursor_bypass
                or len(path) > MAX_NAME
            ):
                return NOT_SIMPLE
            stats = None
            if profile is not None:
                op = ReadOp("find_one", scope.namespace, {path: value}, None, None, 0, -1)
                stats = profile.read_stats(op, scope.rules)
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[path, type(value)] = stats
        except Exception as error:
            scope.engine.fault("profile", error)
            return NOT_SIMPLE
        return stats

    def op(self, filter: dict[Any, Any]) -> ReadOp | None:
        """The operation, where its values are to be kept."""
        scope = self._scope
        if not scope.keep_values:
            return None
        return ReadOp("find_one", scope.namespace, filter, None, None, 0, -1)

    def failed(
        self, stats: ShapeStats | None, filter: dict[Any, Any], started_s: float, now_s: float
    ) -> None:
        """The driver raised."""
        if stats is None:
            return
        try:
            elapsed_s = now_s - started_s
            log_slow(stats.record(elapsed_s, 0, 0, 0, now_s, self.op(filter), True))
        except Exception as error:
            self._scope.engine.fault("profile", error)
