"""A day at the airport as a stream of operations, the same for every arm and every run.

The stream is cut into slices, a slice into turns. The operations of one turn do not depend on each
other: a turn holds either reads alone or writes to different documents, so its answers are the same
in whatever order, or at the same time, it is played. Flights come and go in banks: what a bank
changes, and the journal entry for each change, are writes of many desks at the same time.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate, islice
from typing import Any, Literal

from bson import ObjectId

from .data import Flight
from .dataset import FLIGHTS, JOURNAL, PLANES, Timetable

Kind = Literal[
    "departure board",
    "plane",
    "next flights",
    "delay statistics",
    "status update",
    "journal entry",
]
Call = Literal["find", "find_one", "aggregate", "update_one", "insert_one"]

KINDS: tuple[Kind, ...] = (
    "departure board",
    "plane",
    "next flights",
    "delay statistics",
    "status update",
    "journal entry",
)

SEED = 2013
MINUTES_PER_SLICE = 8
# The desks write down what happened in so many minutes at the same time.
MINUTES_PER_BANK = 4
BOARD_LINES = 20
NEXT_FLIGHTS = 5
# Every so manieth flight is looked after by the other program, from check-in to landing.
FOREIGN_FLIGHTS = 4
REPEATED_ENTRIES_SHARE = 0.02

_ORIGINS = ("EWR", "JFK", "LGA")
_READS_PER_MINUTE = (16, 32)
_READ_MIX: tuple[tuple[Kind, int], ...] = (
    ("departure board", 50),
    ("plane", 22),
    ("next flights", 22),
    ("delay statistics", 6),
)
# How often people look at the hour that is so many hours from now.
_INTEREST_BY_HOURS_AHEAD = {-1: 1, 0: 6, 1: 8, 2: 4, 3: 2, 4: 1}
_BOARD_FIELDS = ("carrier", "number", "dest", "scheduled", "status", "gate", "dep_delay")
_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
# Before the first flights leave little happens; all of it falls into the clock's first minute.
_FIRST_HOUR = timedelta(minutes=75)
_NEW_YORK = timedelta(hours=-5)


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of the driver.

    document is what insert_one inserts, the update of update_one or the pipeline of aggregate.
    """

    kind: Kind
    collection: str
    call: Call
    filter: Mapping[str, Any] | None = None
    projection: Mapping[str, Any] | None = None
    sort: Sequence[tuple[str, int]] = ()
    limit: int = 0
    document: Any = None

    def __str__(self) -> str:
        said = [f"{name}={value!r}" for name, value in self._arguments() if value]
        return f"{self.kind}: {self.collection}.{self.call}({', '.join(said)})"

    def _arguments(self) -> Iterator[tuple[str, Any]]:
        for name in ("filter", "projection", "sort", "limit", "document"):
            yield name, getattr(self, name)


@dataclass(frozen=True, slots=True)
class Slice:
    """What one arm plays before the other one's turn comes.

    turns: groups of independent operations, to be played one group after the other; the writes of a
        group at the same time.
    foreign: writes that another program makes after it, one after the other.
    """

    turns: tuple[tuple[Operation, ...], ...]
    foreign: tuple[Operation, ...]

    @property
    def operations(self) -> list[Operation]:
        """All operations of the turns, in order."""
        return [operation for turn in self.turns for operation in turn]


WRITES: frozenset[Call] = frozenset({"update_one", "insert_one"})
"""Calls that change documents."""


def slices(timetable: Timetable, seed: int = SEED) -> Iterator[Slice]:
    """The stream: endless, and the same for the same timetable and seed.

    Raises:
        ValueError: no flight is still to come.
    """
    if not timetable.flights:
        raise ValueError("no flight is still to come: load more flights")
    return _Airport(timetable, random.Random(seed)).slices()


def in_short(pieces: Iterable[Slice], reads: int) -> Iterator[Slice]:
    """The same stream in slices of so many reads at most, or of one turn's writes."""
    for piece in pieces:
        parts: list[tuple[Operation, ...]] = []
        for turn in piece.turns:
            step = len(turn) if turn and turn[0].call in WRITES else reads
            parts += [turn[at : at + step] for at in range(0, len(turn), step)]
        for number, part in enumerate(parts, 1):
            yield Slice((part,), piece.foreign if number == len(parts) else ())


class _Airport:
    def __init__(self, timetable: Timetable, rng: random.Random) -> None:
        self._rng = rng
        self._flights = timetable.flights
        self._schedule = [flight.scheduled for flight in self._flights]
        self._departures = Counter((flight.origin, flight.hour) for flight in self._flights)
        carriers = Counter(flight.carrier for flight in self._flights)
        self._carriers = sorted(carriers)
        self._carrier_weights = list(accumulate(carriers[name] for name in self._carriers))
        self._read_weights = list(accumulate(weight for _, weight in _READ_MIX))
        self._events = _status_events(self._flights, rng)
        self._hour = datetime.min
        self._boards: list[tuple[str, datetime]] = []
        self._board_weights: list[int] = []
        self._tailnums: list[str] = []
        self._entries: list[ObjectId] = []

    def slices(self) -> Iterator[Slice]:
        minutes = self._minutes()
        while True:
            turns: list[tuple[Operation, ...]] = []
            foreign: list[Operation] = []
            for _ in range(MINUTES_PER_SLICE // MINUTES_PER_BANK):
                own: list[tuple[int, Operation]] = []
                bank = list(islice(minutes, MINUTES_PER_BANK))
                for now, updates in bank:
                    self._look_around(now)
                    turns.append(self._reads(now))
                    for flight, update in updates:
                        if flight % FOREIGN_FLIGHTS == 0:
                            foreign.append(update)
                        else:
                            own.append((flight, update))
                turns.extend(self._writes(bank[-1][0], own))
            yield Slice(tuple(turns), tuple(foreign))

    def _minutes(self) -> Iterator[tuple[datetime, list[tuple[int, Operation]]]]:
        """The airport's clock with the status updates of each minute; quiet hours are skipped.

        When all flights have landed the days begin again, with documents in their last state:
        every update still changes its document, because it counts the revision up.
        """
        while True:
            index = 0
            now = self._events[0][0] + _FIRST_HOUR
            while index < len(self._events):
                if self._events[index][0] >= now + _HOUR:
                    now = self._events[index][0]
                until = now + _MINUTE
                updates: list[tuple[int, Operation]] = []
                while index < len(self._events) and self._events[index][0] < until:
                    updates.append(self._events[index][1:])
                    index += 1
                yield now, updates
                now = until

    def _look_around(self, now: datetime) -> None:
        hour = now.replace(minute=0)
        if hour == self._hour:
            return
        self._hour = hour
        self._boards = []
        weights: list[int] = []
        for ahead, interest in _INTEREST_BY_HOURS_AHEAD.items():
            for origin in _ORIGINS:
                board = (origin, hour + ahead * _HOUR)
                self._boards.append(board)
                weights.append(interest * max(1, self._departures[board]))
        self._board_weights = list(accumulate(weights))
        first = bisect_left(self._schedule, hour - _HOUR)
        last = bisect_left(self._schedule, hour + 4 * _HOUR)
        near = self._flights[first:last] or self._flights
        known = {flight.tailnum: None for flight in near if flight.tailnum is not None}
        self._tailnums = list(known) or ["unknown"]
        self._rng.shuffle(self._tailnums)

    def _reads(self, now: datetime) -> tuple[Operation, ...]:
        count = self._rng.randint(*_READS_PER_MINUTE)
        mix = self._rng.choices(_READ_MIX, cum_weights=self._read_weights, k=count)
        return tuple(self._read(kind, now) for kind, _ in mix)

    def _read(self, kind: Kind, now: datetime) -> Operation:
        if kind == "departure board":
            origin, hour = self._rng.choices(self._boards, cum_weights=self._board_weights)[0]
            return Operation(
                kind,
                FLIGHTS,
                "find",
                filter={"origin": origin, "hour": hour},
                projection=dict.fromkeys(_BOARD_FIELDS, 1),
                sort=(("scheduled", 1), ("_id", 1)),
                limit=BOARD_LINES,
            )
        if kind == "delay statistics":
            carrier = self._rng.choices(self._carriers, cum_weights=self._carrier_weights)[0]
            local = now + _NEW_YORK
            return Operation(
                kind,
                FLIGHTS,
                "aggregate",
                document=_delays(carrier, datetime(local.year, local.month, local.day)),
            )
        tailnum = self._tailnum()
        if kind == "plane":
            return Operation(kind, PLANES, "find_one", filter={"_id": tailnum})
        return Operation(
            kind,
            FLIGHTS,
            "find",
            filter={"tailnum": tailnum, "scheduled": {"$gte": self._hour}},
            sort=(("scheduled", 1), ("_id", 1)),
            limit=NEXT_FLIGHTS,
        )

    def _tailnum(self) -> str:
        """One of the planes flying about now, a few of them much more often than the others."""
        return self._tailnums[int(len(self._tailnums) * self._rng.random() ** 3)]

    def _writes(
        self, now: datetime, updates: list[tuple[int, Operation]]
    ) -> Iterator[tuple[Operation, ...]]:
        """Turns in which no document is written twice; a flight's updates keep their order.

        Each update has its journal entry, and the bank has one.
        """
        turns: list[list[Operation]] = [self._book(now, 1 + len(updates))]
        used: list[set[int]] = [set()]
        for flight, update in updates:
            after = max((at + 1 for at, ids in enumerate(used) if flight in ids), default=0)
            if after == len(turns):
                turns.append([])
                used.append(set())
            turns[after].append(update)
            used[after].add(flight)
        return (tuple(turn) for turn in turns)

    def _book(self, now: datetime, count: int) -> list[Operation]:
        """Journal entries; now and then one is sent again later, and refused."""
        repeated = sum(self._rng.random() < REPEATED_ENTRIES_SHARE for _ in range(count))
        again = self._rng.sample(self._entries, min(repeated, len(self._entries)))
        new = [ObjectId(self._rng.randbytes(12)) for _ in range(count - len(again))]
        self._entries += new
        return [self._entry(now, key) for key in (*again, *new)]

    def _entry(self, now: datetime, key: ObjectId) -> Operation:
        desk = self._rng.randint(1, 40)
        document = {"_id": key, "at": now, "desk": desk, "board": self._boards[0][0]}
        return Operation("journal entry", JOURNAL, "insert_one", document=document)


def _delays(carrier: str, day: datetime) -> list[dict[str, Any]]:
    return [
        {"$match": {"carrier": carrier, "day": day}},
        {
            "$group": {
                "_id": "$origin",
                "flights": {"$sum": 1},
                "departed": {"$sum": {"$cond": [{"$eq": ["$dep_delay", None]}, 0, 1]}},
                "mean_delay": {"$avg": "$dep_delay"},
                "worst_delay": {"$max": "$dep_delay"},
            }
        },
        {"$sort": {"_id": 1}},
    ]


def _status_events(
    flights: Sequence[Flight], rng: random.Random
) -> list[tuple[datetime, int, Operation]]:
    """What happens to the flights: (when, flight, update), in order of time."""
    events: list[tuple[datetime, int, Operation]] = []
    for flight in flights:
        for when, fields in _life(flight, rng):
            update = {"$set": fields, "$inc": {"revision": 1}}
            operation = Operation(
                "status update", FLIGHTS, "update_one", filter={"_id": flight.id}, document=update
            )
            events.append((when, flight.id, operation))
    # The sort is stable: what happens to one flight at one time stays in the order of its life.
    events.sort(key=lambda event: event[:2])
    return events


def _life(flight: Flight, rng: random.Random) -> Iterator[tuple[datetime, dict[str, Any]]]:
    gate = f"{rng.choice('ABCD')}{rng.randint(1, 30)}"
    yield flight.scheduled - 45 * _MINUTE, {"status": "check-in", "gate": gate}
    if flight.departed is None:
        yield flight.scheduled, {"status": "cancelled"}
        return
    delay = flight.dep_delay
    if delay is not None and delay >= 15:
        yield flight.scheduled, {"status": "delayed", "dep_delay": delay}
    yield flight.departed - 20 * _MINUTE, {"status": "boarding"}
    yield (
        flight.departed,
        {"status": "departed", "departed": flight.departed, "dep_delay": delay},
    )
    if flight.landed is not None:
        yield (
            flight.landed,
            {"status": "landed", "landed": flight.landed, "arr_delay": flight.arr_delay},
        )
