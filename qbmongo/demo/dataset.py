"""What the airport's database holds, and how it gets there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

from .data import TOTAL_FLIGHTS, Flight, FlightsData

FLIGHTS = "flights"
PLANES = "planes"
JOURNAL = "journal"

# One third of January lies behind the airport's clock when it starts; all that follows is still to
# come. The file begins with January, so later rows are never earlier than the clock.
_JANUARY_FLIGHTS = 27_004
_LIVE_DAYS = 14
_BATCH_DOCUMENTS = 2_000


@dataclass(slots=True)
class Timetable:
    """The flights the airport is about to handle, in the order they are scheduled.

    start is the local day on which the airport's clock starts.
    """

    start: datetime
    flights: list[Flight]


def flight_document(flight: Flight, *, over: bool) -> dict[str, Any]:
    """The document of a flight.

    Args:
        flight: as it really went.
        over: whether it lies behind the airport's clock; otherwise only its schedule is known.
    """
    status = "scheduled"
    if over:
        status = "cancelled" if flight.departed is None else "landed"
    return {
        "_id": flight.id,
        "carrier": flight.carrier,
        "number": flight.number,
        "tailnum": flight.tailnum,
        "origin": flight.origin,
        "dest": flight.dest,
        "day": flight.day,
        "hour": flight.hour,
        "scheduled": flight.scheduled,
        "distance": flight.distance,
        "status": status,
        "gate": None,
        "departed": flight.departed if over else None,
        "landed": flight.landed if over else None,
        "dep_delay": flight.dep_delay if over else None,
        "arr_delay": flight.arr_delay if over else None,
        "revision": 0,
    }


def load(
    data: FlightsData,
    databases: Sequence[Any],
    flights: int,
    advance: Callable[[int], None] = lambda documents: None,
) -> Timetable:
    """Fill each database with the same documents; it has no index but those of `_id`.

    Args:
        data: the CSV files.
        databases: of the synchronous driver, empty.
        flights: how many flights to load.
        advance: called with the number of documents that every database has acknowledged since.

    Returns:
        The flights that are still to come.
    """
    flights = min(flights, TOTAL_FLIGHTS)
    timetable = Timetable(datetime.min, [])
    sources: tuple[tuple[str, Iterable[dict[str, Any]]], ...] = (
        ("airlines", data.airlines()),
        ("airports", data.airports()),
        (PLANES, data.planes()),
        ("weather", data.weather()),
        (FLIGHTS, _flight_documents(data, flights, timetable)),
    )
    with ThreadPoolExecutor(len(databases)) as writers:
        for name, documents in sources:
            for batch in _batches(documents):

                def insert(database: Any, name: str = name, batch: list[Any] = batch) -> None:
                    database[name].insert_many(batch)

                list(writers.map(insert, databases))
                advance(len(batch))

    timetable.flights.sort(key=lambda flight: (flight.scheduled, flight.id))
    return timetable


def _flight_documents(
    data: FlightsData, count: int, timetable: Timetable
) -> Iterator[dict[str, Any]]:
    """The documents of the flights; fills the timetable on the way."""
    behind = min(count, _JANUARY_FLIGHTS) // 3
    start: datetime | None = None
    until = datetime.max
    day: datetime | None = None
    for flight in data.flights(count):
        if start is None and flight.id >= behind and day is not None and flight.day != day:
            start = timetable.start = flight.day
            until = start + timedelta(days=_LIVE_DAYS)
        day = flight.day
        over = start is None
        if not over and flight.day < until:
            timetable.flights.append(flight)
        yield flight_document(flight, over=over)


def _batches(documents: Iterable[dict[str, Any]]) -> Iterator[list[RawBSONDocument]]:
    """Encoded once, however many databases they go to."""
    batch: list[RawBSONDocument] = []
    for document in documents:
        batch.append(RawBSONDocument(bson.encode(document)))
        if len(batch) == _BATCH_DOCUMENTS:
            yield batch
            batch = []
    if batch:
        yield batch
