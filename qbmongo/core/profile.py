"""Statistics per query shape: what is asked, how often, how fast, from where.

A `Profile` is told about each call and keeps, per shape, counts, latencies in logarithmic bins,
slow samples and calling places. It reads no clock and writes no log: it is given the time, and
hands back the line that is to be logged.

The hot path takes no lock: a call's row is appended to its shape's buffer (`list.extend` with a
tuple is one atomic step), and every FOLD_ROWS rows the buffer is folded into the counts under the
lock. Rows are appended at the end and removed from the front, so that no interleaving loses one.

Times are seconds on one clock of the caller's choice; a snapshot moves them to the wall clock.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..records import ReadOp, WriteOp
from .durations import Durations, Scale
from .pace import Pace
from .repeats import Run
from .shape_forms import OTHER_FORM, Form, shape_form, shape_text
from .shapes import ShapeKey, read_shape, write_shape
from .slow_values import values_text

if TYPE_CHECKING:
    # Imported with the first snapshot: making these classes takes as long as the rest.
    from .shape_profiles import ShapeProfile

FOLD_ROWS = 32
MAX_PLACES = 16  # calling places kept per shape
LINES_PER_PERIOD = 20  # slow lines of all shapes together in one log period

_COLUMNS = 5
_FULL = FOLD_ROWS * _COLUMNS
_HIT_COLUMNS = 2
_HIT_FULL = FOLD_ROWS * _HIT_COLUMNS


@dataclass(frozen=True, slots=True)
class SlowRules:
    """When a call is slow, and how often one shape's slow calls are logged; both in seconds."""

    slow_s: float
    log_every_s: float


class ShapeStats:
    """The handle of one shape. Whoever keeps it needs not compute the shape again.

    place_due: True when the next call should note its calling place. pace: whether calls of the
    shape hold up others; None where nobody asked.
    """

    __slots__ = (
        "_buffer",
        "_bytes",
        "_documents",
        "_durations",
        "_errors",
        "_first_s",
        "_getmores",
        "_hit_buffer",
        "_hits",
        "_key",
        "_last_s",
        "_next_line_s",
        "_place",
        "_places",
        "_profile",
        "_repeats",
        "_rewritten",
        "_rules",
        "_run",
        "_samples",
        "_slow_calls",
        "_slow_s",
        "_unlogged",
        "_until_place",
        "pace",
        "place_due",
    )

    def __init__(self, key: ShapeKey | None, profile: Profile, rules: SlowRules) -> None:
        self._key = key
        self._profile = profile
        self._rules = rules
        self._slow_s = rules.slow_s
        self.place_due = True
        self.pace: Pace | None = None
        self._buffer: list[Any] = []
        self._hit_buffer: list[float] | None = None
        self._durations: Durations | None = None
        self._hits: Durations | None = None
        self._errors = self._documents = self._bytes = self._getmores = 0
        self._rewritten = self._slow_calls = self._unlogged = self._until_place = 0
        self._first_s = self._last_s = self._next_line_s = 0.0
        self._place: str | None = None
        self._places: dict[str, int] | None = None
        self._run: Run | None = None
        self._repeats: dict[str, int] | None = None
        self._samples: list[tuple[float, float, int, str | None, str | None]] | None = None

    @property
    def form(self) -> Form:
        """The shape's JSON form."""
        return dict(OTHER_FORM) if self._key is None else shape_form(self._key)

    def record(
        self,
        duration_s: float,
        documents: int,
        size: int,
        getmores: int,
        now_s: float,
        op: ReadOp | WriteOp | None = None,
        error: bool = False,
    ) -> str | None:
        """Count one call that went to the server.

        Args:
            duration_s: from sending to the last answer, the caller's own time excluded.
            documents: returned by a read, changed by a write.
            size: bytes of the answer's documents, 0 where not known.
            getmores: further batches fetched.
            now_s: time of the call's end, on the profile's clock.
            op: the operation if values may be kept in slow samples, else None.
            error: whether the call failed.

        Returns:
            The line to be logged for a slow call, None for every other call.
        """
        buffer = self._buffer
        buffer.extend((duration_s, documents, size, getmores, now_s))
        if error:
            self._profile._count_error(self)
        if duration_s >= self._slow_s:
            return self._profile._slow(self, duration_s, documents, now_s, op)
        if len(buffer) >= _FULL:
            self._profile._fold(self)
        return None

    def record_joined(
        self, duration_s: float, documents: int, now_s: float, error: bool = False, size: int = 0
    ) -> None:
        """Count one call that travelled with others.

        As `record`, but however long it took it is no slow query: it waited for others.
        """
        buffer = self._buffer
        buffer.extend((duration_s, documents, size, 0, now_s))
        if error:
            self._profile._count_error(self)
        if len(buffer) >= _FULL:
            self._profile._fold(self)

    def record_batch(self, rows: Sequence[float], errors: int) -> None:
        """Count calls that travelled with others and were answered together.

        As so many calls of `record_joined`.

        Args:
            rows: of each call its duration_s, documents, size, 0 and now_s, one after another.
            errors: how many of them failed.
        """
        buffer = self._buffer
        buffer.extend(rows)
        if errors:
            self._profile._count_error(self, errors)
        if len(buffer) >= _FULL:
            self._profile._fold(self)

    def hit(self, duration_s: float, now_s: float) -> None:
        """Count one call that was answered without the server.

        Args:
            duration_s: what the caller waited.
            now_s: time of the call's end, on the profile's clock.
        """
        buffer = self._hit_buffer
        if buffer is None:
            buffer = self._profile._hit_buffer(self)
        buffer.extend((duration_s, now_s))
        if len(buffer) >= _HIT_FULL:
            self._profile._fold(self)

    def note_place(self, place: str | None, caller: Any = None) -> None:
        """Note a calling place ("file:line"); asked for by `place_due`, which it takes back, though
        not at once where caller (the task, compared with ==) is known: see core.repeats."""
        self._profile._note_place(self, place, caller)

    def count_rewritten(self) -> None:
        """Count one call whose query was rewritten before it was sent."""
        self._profile._count_rewritten(self)


class Profile:
    """Statistics of at most `max_shapes` shapes; the calls of further ones are counted together.

    Args:
        scale: bins and quantiles of durations.
        lock: guards the counts; held for a fold of FOLD_ROWS rows, never on the hot path.
        start_s: the time now, on the clock that records are given.
        slow_ms: calls of at least this many milliseconds are slow.
        log_every_s: at most one line about slow calls per shape in this many seconds, and
            LINES_PER_PERIOD for all shapes.
        max_shapes: shapes told apart.
        samples: slow calls kept per shape, the latest.
        place_every: about every how many calls of a shape its calling place is asked for.
        find_place: the calling place ("file:line") of the call that just ended, None where the
            program's own frame is not to be found; called for slow calls only.
    """

    def __init__(
        self,
        scale: Scale,
        lock: AbstractContextManager[Any],
        start_s: float,
        *,
        slow_ms: float,
        log_every_s: float,
        max_shapes: int,
        samples: int,
        place_every: int,
        find_place: Callable[[], str | None] | None = None,
    ) -> None:
        self._scale = scale
        self._lock = lock
        self._start_s = start_s
        self._rules = SlowRules(slow_ms / 1_000, log_every_s)
        self._max_shapes = max_shapes
        self._max_samples = samples
        self._place_every = place_every
        self._find_place = find_place
        self._table: dict[ShapeKey, ShapeStats] = {}
        self._other = ShapeStats(None, self, self._rules)
        self._period_end_s = start_s
        self._lines_left = LINES_PER_PERIOD

    @property
    def start_s(self) -> float:
        """When the profile began, on the clock that records are given."""
        return self._start_s

    def read_stats(self, op: ReadOp, rules: SlowRules | None = None) -> ShapeStats:
        """The handle of a read's shape, made if it is new. Never raises.

        rules: for a new shape, in place of the profile's own.
        """
        key = read_shape(op)
        stats = self._table.get(key)
        return self._new(key, rules) if stats is None else stats

    def write_stats(self, op: WriteOp, rules: SlowRules | None = None) -> ShapeStats:
        """The handle of a write's shape, made if it is new. Never raises.

        rules: for a new shape, in place of the profile's own.
        """
        key = write_shape(op)
        stats = self._table.get(key)
        return self._new(key, rules) if stats is None else stats

    def snapshot(
        self, epoch_s: float = 0.0
    ) -> tuple[tuple[ShapeProfile, ...], ShapeProfile | None]:
        """What was recorded so far.

        Args:
            epoch_s: wall clock minus the clock of the records, in seconds; added to every time.

        Returns:
            The shapes with calls or hits, by total time, longest first; and the calls beyond
            `max_shapes`, or None.
        """
        with self._lock:
            handles = [*self._table.values(), self._other]
        profiles = [self._freeze(stats, epoch_s) for stats in handles]
        other = profiles.pop()
        seen = [p for p in profiles if p.calls or p.hits.count]
        seen.sort(key=lambda p: p.latency.total_s, reverse=True)
        return tuple(seen), other if other.calls or other.hits.count else None

    def change_rules(self, rules_of: Callable[[str], SlowRules | None]) -> None:
        """Puts other rules into force for the shapes that are there.

        rules_of: those of a namespace; None leaves its shapes as they are.
        """
        with self._lock:
            found = {name: rules_of(name) for name in {key[0] for key in self._table}}
            for key, stats in self._table.items():
                rules = found[key[0]]
                if rules is not None and rules != stats._rules:
                    stats._rules = rules
                    stats._slow_s = rules.slow_s
                    stats._next_line_s = 0.0

    def _new(self, key: ShapeKey, rules: SlowRules | None) -> ShapeStats:
        with self._lock:
            stats = self._table.get(key)
            if stats is None:
                if len(self._table) >= self._max_shapes:
                    return self._other
                stats = self._table[key] = ShapeStats(key, self, rules or self._rules)
            return stats

    def _fold(self, stats: ShapeStats) -> None:
        with self._lock:
            self._fold_locked(stats)

    def _fold_locked(self, stats: ShapeStats) -> None:
        buffer = stats._buffer
        size = len(buffer) // _COLUMNS * _COLUMNS
        if size:
            rows = buffer[:size]
            del buffer[:size]
            durations = stats._durations
            if durations is None:
                durations = stats._durations = Durations()
            durations.add(rows[::_COLUMNS], self._scale)
            stats._documents += sum(rows[1::_COLUMNS])
            stats._bytes += sum(rows[2::_COLUMNS])
            stats._getmores += sum(rows[3::_COLUMNS])
            self._see(stats, rows[4::_COLUMNS])
            stats._until_place -= size // _COLUMNS
            if stats._until_place <= 0:
                stats.place_due = True
        hit_buffer = stats._hit_buffer
        if hit_buffer:
            size = len(hit_buffer) // _HIT_COLUMNS * _HIT_COLUMNS
            rows = hit_buffer[:size]
            del hit_buffer[:size]
            hits = stats._hits
            if hits is None:
                hits = stats._hits = Durations()
            hits.add(rows[::_HIT_COLUMNS], self._scale)
            self._see(stats, rows[1::_HIT_COLUMNS])

    @staticmethod
    def _see(stats: ShapeStats, times_s: list[float]) -> None:
        first, last = min(times_s), max(times_s)
        if not stats._first_s or first < stats._first_s:
            stats._first_s = first
        if last > stats._last_s:
            stats._last_s = last

    def _hit_buffer(self, stats: ShapeStats) -> list[float]:
        with self._lock:
            if stats._hit_buffer is None:
                stats._hit_buffer = []
            return stats._hit_buffer

    def _count_error(self, stats: ShapeStats, number: int = 1) -> None:
        with self._lock:
            stats._errors += number

    def _count_rewritten(self, stats: ShapeStats) -> None:
        with self._lock:
            stats._rewritten += 1

    def _note_place(self, stats: ShapeStats, place: str | None, caller: Any) -> None:
        with self._lock:
            run = stats._run
            if run is not None:
                is_run = run.go_on(place, caller)
                if is_run is None:
                    return
                if is_run:
                    repeats = stats._repeats
                    if repeats is None:
                        repeats = stats._repeats = {}
                    repeats[run.place] = repeats.get(run.place, 0) + 1
                stats._run = None
                stats.place_due = False
                return
            stats.place_due = False
            stats._until_place = self._place_every
            if place is None:
                return
            if caller is not None:
                stats._run = Run(place, caller)
                stats.place_due = True
            places = stats._places
            if places is None:
                places = stats._places = {}
            if place in places or len(places) < MAX_PLACES:
                # One string object per place, however many shapes and samples name it.
                stats._place = place = sys.intern(place)
                places[place] = places.get(place, 0) + 1

    def _slow(
        self,
        stats: ShapeStats,
        duration_s: float,
        documents: int,
        now_s: float,
        op: ReadOp | WriteOp | None,
    ) -> str | None:
        """Keep a sample of a slow call. Returns the line to be logged, if one is due."""
        values = None if op is None else values_text(op)
        found = None if self._find_place is None else self._find_place()
        with self._lock:
            self._fold_locked(stats)
            stats._slow_calls += 1
            places = stats._places or {}
            # A sampled place stands for this call only where the shape has no other.
            place = found if found is not None or len(places) > 1 else stats._place
            if self._max_samples:
                samples = stats._samples
                if samples is None:
                    samples = stats._samples = []
                elif len(samples) >= self._max_samples:
                    del samples[0]
                samples.append((now_s, duration_s, documents, place, values))
            rules = stats._rules
            if now_s < stats._next_line_s or not self._take_line(now_s):
                stats._unlogged += 1
                return None
            stats._next_line_s = now_s + rules.log_every_s
            unlogged, stats._unlogged = stats._unlogged, 0
            others = tuple(places)
        line = f"slow query: {duration_s * 1_000:.0f} ms, {documents} documents: "
        line += shape_text(stats.form)
        if place is not None:
            line += f" at {place}"
        elif others:
            line += f" at one of {', '.join(others[:3])}"
        if values is not None:
            line += f" values {values}"
        if unlogged:
            line += f" ({unlogged} more slow calls of this shape since the last line)"
        return line

    def _take_line(self, now_s: float) -> bool:
        if now_s >= self._period_end_s:
            self._period_end_s = now_s + self._rules.log_every_s
            self._lines_left = LINES_PER_PERIOD
        if self._lines_left <= 0:
            return False
        self._lines_left -= 1
        return True

    def _freeze(self, stats: ShapeStats, epoch_s: float) -> ShapeProfile:
        from .shape_profiles import Latency, ShapeProfile, SlowSample

        with self._lock:
            self._fold_locked(stats)
            durations, hits = stats._durations, stats._hits
            latency = durations.freeze(self._scale) if durations else Latency()
            places = _by_count(stats._places)
            return ShapeProfile(
                shape=stats.form,
                calls=latency.count,
                errors=stats._errors,
                documents=stats._documents,
                bytes=stats._bytes,
                getmores=stats._getmores,
                rewritten=stats._rewritten,
                slow_calls=stats._slow_calls,
                first_seen_s=stats._first_s + epoch_s,
                last_seen_s=stats._last_s + epoch_s,
                latency=latency,
                hits=hits.freeze(self._scale) if hits else Latency(),
                slow_samples=tuple(
                    SlowSample(at_s + epoch_s, duration_s, documents, place, values)
                    for at_s, duration_s, documents, place, values in stats._samples or ()
                ),
                places=places,
                repeats=_by_count(stats._repeats),
            )


def _by_count(counts: Mapping[str, int] | None) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((counts or {}).items(), key=lambda item: (-item[1], item[0])))
