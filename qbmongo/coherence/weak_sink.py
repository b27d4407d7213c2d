"""The sink as a plan sees it: not kept alive, and silent once its watcher is closed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bson.timestamp import Timestamp

from qbmongo.coherence.records import Primary, Sink
from qbmongo.records import Effect


class WeakSink:
    """Passes everything on to a sink that may disappear; on_gone is called when it does."""

    def __init__(self, sink: Sink, on_gone: Callable[[], None]) -> None:
        self._sink: Callable[[], Sink | None] = weakref.ref(sink, lambda _: on_gone())
        self._is_muted = False

    @property
    def is_gone(self) -> bool:
        return self._is_muted or self._sink() is None

    def target(self) -> Sink | None:
        """The sink itself, if it still exists."""
        return self._sink()

    def mute(self) -> None:
        """Tell it nothing any more."""
        self._is_muted = True

    def event(self, database: str, effects: tuple[Effect, ...], time: Timestamp) -> None:
        sink = self._live()
        if sink is not None:
            sink.event(database, effects, time)

    def lease(self, database: str, primary: Primary, start_s: float) -> None:
        sink = self._live()
        if sink is not None:
            sink.lease(database, primary, start_s)

    def lost(self, database: str | None, reason: str) -> None:
        sink = self._live()
        if sink is not None:
            sink.lost(database, reason)

    def unavailable(self, database: str, reason: str) -> None:
        sink = self._live()
        if sink is not None:
            sink.unavailable(database, reason)

    def in_use(self, database: str) -> bool:
        sink = self._live()
        return sink is not None and sink.in_use(database)

    def wanted_facts(self, database: str) -> Sequence[str]:
        sink = self._live()
        return () if sink is None else sink.wanted_facts(database)

    def facts_stamp(self, namespace: str) -> Any:
        sink = self._live()
        return None if sink is None else sink.facts_stamp(namespace)

    def facts(
        self,
        namespace: str,
        stamp: Any,
        collections: Sequence[Mapping[str, Any]],
        indexes: Sequence[Mapping[str, Any]],
    ) -> None:
        sink = self._live()
        if sink is not None:
            sink.facts(namespace, stamp, collections, indexes)

    def facts_failed(self, namespace: str, stamp: Any, reason: str | None) -> None:
        sink = self._live()
        if sink is not None:
            sink.facts_failed(namespace, stamp, reason)

    def verification(self, database: str) -> Any:
        sink = self._live()
        return None if sink is None else sink.verification(database)

    def verified(self, item: Any, reply: Mapping[str, Any], now_s: float) -> None:
        sink = self._live()
        if sink is not None:
            sink.verified(item, reply, now_s)

    def _live(self) -> Sink | None:
        return None if self._is_muted else self._sink()
