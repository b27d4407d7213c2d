"""`client.qb.stats()`: frozen records of what every part has done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..coherence.records import WatcherStats
from ..core.engine import Engine
from ..core.shape_forms import shape_text

__all__ = ["CacheStats", "DatabaseTrust", "RewriteStats", "Stats", "stats_of"]


@dataclass(frozen=True, slots=True)
class DatabaseTrust:
    """Whether a database's kept answers may be served. lease_s: seconds the lease still runs."""

    trusted: bool
    lease_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class CacheStats:
    """The cache of one client.

    hits, misses, joins: reads answered from memory, sent to be kept, answered by another's flight.
    bypassed: reads that went straight to the server, by reason. invalidated: entries dropped, by
    cause ("own" writes, "event" of other writers, ...). refused: answers not kept, by reason.
    spared: entries left by the event of a write they had already seen.
    hit_ratio_by_shape: hits / calls of each shape, by its text.
    """

    hits: int
    misses: int
    joins: int
    bypassed: Mapping[str, int]
    invalidated: Mapping[str, int]
    refused: Mapping[str, int]
    spared: int
    entries: int
    bytes: int
    evictions: int
    verified: int
    differences: int
    databases: Mapping[str, DatabaseTrust]
    watcher: WatcherStats | None
    off: str | None
    hit_ratio_by_shape: Mapping[str, float]

    @property
    def hit_ratio(self) -> float:
        """Hits as a share of all reads that came to the cache."""
        total = self.hits + self.misses + self.joins + sum(self.bypassed.values())
        return self.hits / total if total else 0.0


@dataclass(frozen=True, slots=True)
class RewriteStats:
    """Rewritten reads of one client. calls: how many; rules: how often each rule fired."""

    calls: int
    rules: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Stats:
    """Everything qbmongo counts for one client; None for a part that is off.

    faults: faults of ours by place; each call concerned went to the driver.
    """

    cache: CacheStats | None
    faults: Mapping[str, int]
    rewrite: RewriteStats | None = None


def stats_of(engine: Engine | None, watcher: Any, now_s: float) -> Stats:
    """A snapshot of the counters."""
    if engine is None:
        return Stats(None, {})
    rewrite = None
    if engine.settings.rewrite is not None:
        rewrite = RewriteStats(engine.rewritten_calls, dict(engine.rewritten))
    cache = engine.cache
    if cache is None:
        return Stats(None, dict(engine.faults), rewrite)
    # The profile has a lock of its own, and its quantiles take milliseconds.
    ratios = _hit_ratios(engine)
    with engine.lock:
        databases = {
            trust.database: DatabaseTrust(
                trust.trusted, max(0.0, trust.lease_until_s - now_s), trust.reason
            )
            for trust in cache.trusts()
        }
        return Stats(
            CacheStats(
                hits=engine.hits,
                misses=engine.misses,
                joins=engine.joins,
                bypassed=dict(engine.bypassed),
                invalidated=dict(cache.invalidated),
                refused=dict(cache.refused),
                spared=cache.own_events_spared,
                entries=len(cache.store),
                bytes=cache.store.bytes,
                evictions=cache.store.evictions,
                verified=engine.verifier.verified if engine.verifier is not None else 0,
                differences=engine.verifier.differences if engine.verifier is not None else 0,
                databases=databases,
                watcher=watcher.stats() if watcher is not None else None,
                off=cache.off_reason,
                hit_ratio_by_shape=ratios,
            ),
            dict(engine.faults),
            rewrite,
        )


def _hit_ratios(engine: Engine) -> dict[str, float]:
    if engine.profile is None:
        return {}
    ratios = {}
    for shape in engine.profile.snapshot()[0]:
        if shape.hits.count:
            ratios[shape_text(shape.shape)] = shape.hits.count / (shape.calls + shape.hits.count)
    return ratios
