"""One write on its way through the engine, the same for every driver."""

from __future__ import annotations

import time
from typing import Any

from ..core.engine import Scope
from ..core.profile import ShapeStats
from ..records import JoinedWrite, WriteKind, WriteOp
from .arguments import changed, write_op
from .batches import plain_arguments, plain_result
from .frozen_writes import FREEZERS
from .known_calls import private_arguments

__all__ = ["Write"]

monotonic = time.monotonic


class Write:
    """Told to the engine before and after; nothing here fails the caller's call.

    args, kwargs: what the driver's method is to be called with. go: a place on the wire, `landed`
    when the driver's call is over, or None. codec: the collection's codec options where the driver
    call runs beside other threads, so that private copies must be sent.
    """

    __slots__ = (
        "_gathered",
        "_kind",
        "_pace",
        "_started_s",
        "_stats",
        "args",
        "go",
        "kwargs",
        "scope",
    )

    def __init__(
        self,
        scope: Scope,
        kind: WriteKind,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        codec: Any = None,
    ) -> None:
        self.args = args
        self.kwargs = kwargs
        self._kind = kind
        self.scope = scope
        self._stats: ShapeStats | None = None
        self._started_s = monotonic()
        self._pace: tuple[Any, float] | None = None
        self._gathered: JoinedWrite | None = None
        self.go: Any = None
        try:
            self._stats = scope.begin_write(self._op())
        except Exception as error:
            scope.engine.fault("begin_write", error)
        if codec is not None:
            self.freeze(codec)

    @classmethod
    def begun(
        cls,
        scope: Scope,
        kind: WriteKind,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        stats: Any,
        started_s: float,
    ) -> Write:
        """A write that was begun before. stats: of its shape, or None."""
        write = cls.__new__(cls)
        write.args = args
        write.kwargs = kwargs
        write.scope = scope
        write.go = None
        write._kind = kind
        write._started_s = started_s
        write._stats = stats
        write._pace = None
        write._gathered = None
        return write

    @classmethod
    def of(cls, joined: JoinedWrite) -> Write:
        """The plain call of a write that gathered with others."""
        args, kwargs = plain_arguments(joined)
        scope: Scope = joined.scope
        write = cls.begun(scope, joined.kind, args, kwargs, joined.stats, joined.started_s)
        write._gathered = joined
        return write

    def freeze(self, codec: Any, *, is_known: bool = False) -> None:
        """Puts private copies in the place of the arguments, where the cache needs them.

        is_known: such a call is known (clients.known_calls).
        """
        kind = self._kind
        freeze = FREEZERS.get(kind) if self.scope.cache is not None else None
        if freeze is None:
            return
        try:
            if is_known and kind != "insert_one":
                copies = private_arguments(self.args)
                if copies is not None:
                    self.args = copies
                    return
            self.args, self.kwargs = freeze(codec, self.args, self.kwargs)
        except Exception as error:
            self.scope.engine.fault("begin_write", error)

    def watch(self, pace: Any, patience_s: float) -> None:
        """How long this call takes says something of its shape's pace."""
        self._pace = (pace, patience_s)

    def finished(self, result: Any) -> Any:
        """The driver returned. Returns what the program's own call gives."""
        joined = self._gathered
        if joined is None:
            self.done(result)
            return result
        self._joined(result)
        return plain_result(joined, result)

    def done(self, result: Any) -> None:
        """The driver returned."""
        stats = self._stats
        if stats is None:
            return  # nobody keeps statistics
        started_s = self._started_s
        try:
            now_s = monotonic()
            if self._pace is not None:
                coalescer = self.scope.engine.coalescer
                if coalescer is not None:
                    pace, patience_s = self._pace
                    coalescer.looked_at(pace, now_s - started_s, patience_s, now_s)
            self.scope.end_write(stats, self._op, started_s, now_s, changed(result), False)
        except Exception as error:
            self.scope.engine.fault("settle_write", error)

    def _joined(self, result: Any) -> None:
        stats = self._stats
        if stats is None:
            return
        try:
            self.scope.joined_write(stats, self._started_s, monotonic(), changed(result))
        except Exception as error:
            self.scope.engine.fault("settle_write", error)

    def failed(self) -> None:
        """The driver raised."""
        stats = self._stats
        if stats is None:
            return
        self.scope.end_write(stats, self._op, self._started_s, monotonic(), 0, True)

    def _op(self) -> WriteOp:
        return write_op(self._kind, self.scope.namespace, self.args, self.kwargs)
