"""`client.qb.stats()`: frozen records of what every part has done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..coherence.records import WatcherStats
from ..core.engine import Engine
from ..core.shape_forms import shape_text

__all__ = [
    "BatchStats",
    "CacheStats",
    "CoalesceStats",
    "DatabaseTrust",
    "RewriteStats",
    "Stats",
    "stats_of",
]


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
class CoalesceStats:
    """Writes that travel together, of one client.

    direct: writes that could have joined others and went alone at once. batches, gathered: batches
    dispatched, and the writes in them; sizes: batches by their number of writes, as the power of
    two that is not smaller (a batch of one is sent as its plain call). refused: writes that went
    straight to the driver, by reason. left: writes taken out by their callers. alone: writes of
    batches sent as plain calls after all. unknown: writes whose outcome the server did not tell.
    bytes: sent in batches. waited_s, waited_max_s: what writes waited for their batch, in all and
    at the longest. pending, in_flight, held_bytes: writes that gather now; batches and lone writes
    on the wire; bytes held of both. off: why nothing travels together any more, or None.
    """

    direct: int
    batches: int
    gathered: int
    sizes: Mapping[int, int]
    refused: Mapping[str, int]
    left: int
    alone: int
    unknown: int
    bytes: int
    waited_s: float
    waited_max_s: float
    pending: int
    in_flight: int
    held_bytes: int
    off: str | None


@dataclass(frozen=True, slots=True)
class BatchStats:
    """Point reads that travel together, of one client.

    direct: reads by a key that went alone at once. batches, gathered: joined finds sent, and the
    reads in them; sizes: joined finds by their number of reads, as the power of two that is not
    smaller. joined: reads that they answered. refused: calls of find_one that could not travel with
    others, by reason. left: reads taken out by their callers. fallbacks: reads of a joined find
    that made their own call after all, by reason. waited_s, waited_max_s: what reads waited for
    their find to be sent, in all and at the longest. pending, in_flight: reads that gather now;
    joined finds and lone reads on the wire.
    """

    direct: int
    batches: int
    gathered: int
    joined: int
    sizes: Mapping[int, int]
    refused: Mapping[str, int]
    left: int
    fallbacks: Mapping[str, int]
    waited_s: float
    waited_max_s: float
    pending: int
    in_flight: int


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
    coalesce: CoalesceStats | None = None
    batch: BatchStats | None = None
    rewrite: RewriteStats | None = None


def stats_of(engine: Engine | None, watcher: Any, now_s: float) -> Stats:
    """A snapshot of the counters."""
    if engine is None:
        return Stats(None, {})
    rewrite = None
    if engine.settings.rewrite is not None:
        rewrite = RewriteStats(engine.rewritten_calls, dict(engine.rewritten))
    cache = engine.cache
    coalesce = _coalesce_stats(engine)
    batch = _batch_stats(engine)
    if cache is None:
        return Stats(None, dict(engine.faults), coalesce, batch, rewrite)
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
            coalesce,
            batch,
            rewrite,
        )


def _batch_stats(engine: Engine) -> BatchStats | None:
    if engine.settings.batch is None:
        return None
    counts = engine.batched
    with engine.lock:
        return BatchStats(
            direct=counts.direct,
            batches=counts.batches,
            gathered=counts.gathered,
            joined=counts.joined,
            sizes=dict(counts.sizes),
            refused=dict(counts.refused),
            left=counts.left,
            fallbacks={reason: count for reason, count in counts.fallbacks.items() if count},
            waited_s=counts.waited_s,
            waited_max_s=counts.waited_max_s,
            pending=counts.pending,
            in_flight=counts.in_flight,
        )


def _coalesce_stats(engine: Engine) -> CoalesceStats | None:
    coalescer = engine.coalescer
    if coalescer is None:
        return None
    with engine.lock:
        counts = coalescer.counts
        return CoalesceStats(
            direct=counts.direct,
            batches=counts.batches,
            gathered=counts.gathered,
            sizes={size: count for size, count in counts.sizes.items() if count},
            refused=dict(coalescer.refused),
            left=counts.left,
            alone=coalescer.alone,
            unknown=coalescer.unknown,
            bytes=counts.bytes,
            waited_s=counts.waited_s,
            waited_max_s=counts.waited_max_s,
            pending=counts.pending,
            in_flight=counts.in_flight,
            held_bytes=counts.held_bytes,
            off=coalescer.off_reason,
        )


def _hit_ratios(engine: Engine) -> dict[str, float]:
    if engine.profile is None:
        return {}
    ratios = {}
    for shape in engine.profile.snapshot()[0]:
        if shape.hits.count:
            ratios[shape_text(shape.shape)] = shape.hits.count / (shape.calls + shape.hits.count)
    return ratios
