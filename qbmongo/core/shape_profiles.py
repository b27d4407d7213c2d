"""What a profile says of each shape: frozen records, made when somebody asks.

Apart from what counts (profile.py), so that a program that never asks does not pay for them when
it starts.
"""

from __future__ import annotations

from dataclasses import dataclass

from .shape_forms import Form

__all__ = ["Latency", "ShapeProfile", "SlowSample"]


@dataclass(frozen=True, slots=True)
class Latency:
    """Durations of the calls of one shape, in seconds. bins: (bin number, count), ordered."""

    count: int = 0
    total_s: float = 0.0
    max_s: float = 0.0
    p50_s: float = 0.0
    p95_s: float = 0.0
    p99_s: float = 0.0
    bins: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class SlowSample:
    """One slow call. at_s: wall clock; place: "file:line"; filter: with values, only if kept."""

    at_s: float
    duration_s: float
    documents: int
    place: str | None = None
    filter: str | None = None


@dataclass(frozen=True, slots=True)
class ShapeProfile:
    """What is known of one shape.

    shape: its JSON form (docs/profile.md). calls: calls that went to the server, errors among
    them; hits: calls answered without it, with their own latency. documents: returned by reads,
    changed by writes. first_seen_s, last_seen_s: wall clock. places: ("file:line", times sampled),
    most frequent first. repeats: ("file:line", sampled runs of calls by one task), likewise.
    """

    shape: Form
    calls: int
    errors: int
    documents: int
    bytes: int
    getmores: int
    rewritten: int
    slow_calls: int
    first_seen_s: float
    last_seen_s: float
    latency: Latency
    hits: Latency
    slow_samples: tuple[SlowSample, ...] = ()
    places: tuple[tuple[str, int], ...] = ()
    repeats: tuple[tuple[str, int], ...] = ()
