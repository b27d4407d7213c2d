"""The demo: its data, its stream of operations, and that no difference goes unnoticed."""

from __future__ import annotations

import asyncio
import json
import threading
from array import array
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pymongo
import pytest
from pymongo.errors import AutoReconnect, DuplicateKeyError
from pymongo.results import InsertOneResult
from rich.console import Console

from qbmongo.advisor.records import IndexSpec
from qbmongo.advisor.report import Recommendation, Report
from qbmongo.demo import run as demo_run
from qbmongo.demo.advice import advice, create_advised, gains, show_advice
from qbmongo.demo.arms import AsyncArm, Played, SyncArm, at_the_same_time, open_arm, play_sync
from qbmongo.demo.data import FlightsData
from qbmongo.demo.dataset import Timetable, load
from qbmongo.demo.errors import DemoError
from qbmongo.demo.operations import (
    FOREIGN_FLIGHTS,
    MINUTES_PER_BANK,
    MINUTES_PER_SLICE,
    WRITES,
    Operation,
    Slice,
    in_short,
    slices,
)
from qbmongo.demo.replay import Contender, Outcome, Tally, replay
from qbmongo.demo.run import DemoOptions, run_demo
from qbmongo.demo.sites import given_sites
from qbmongo.demo.table import Result, quantile, side_by_side
from qbmongo_tests.airport import FLIGHTS, FLIGHTS_A_DAY, write_airport


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> FlightsData:
    return FlightsData(write_airport(tmp_path_factory.mktemp("airport")))


class FakeCollection:
    def __init__(self) -> None:
        self.documents: list[dict[str, Any]] = []
        self.indexes: list[list[tuple[str, int]]] = []

    def insert_many(self, documents: list[Any]) -> None:
        self.documents += [dict(document) for document in documents]

    def create_index(self, keys: list[tuple[str, int]]) -> None:
        self.indexes.append(keys)


class FakeDatabase(dict[str, FakeCollection]):
    def __missing__(self, name: str) -> FakeCollection:
        return self.setdefault(name, FakeCollection())


@pytest.fixture(scope="module")
def timetable(data: FlightsData) -> Timetable:
    return load(data, [FakeDatabase()], FLIGHTS)


class TestData:
    def test_missing_values_become_none_and_times_follow_from_delays(
        self, data: FlightsData
    ) -> None:
        flights = list(data.flights())
        assert len(flights) == FLIGHTS
        gone, cancelled = flights[5], flights[7]
        assert gone.scheduled == datetime(2013, 1, 1, 10, 35)
        assert gone.departed == gone.scheduled + timedelta(minutes=5)
        assert gone.landed == gone.scheduled + timedelta(minutes=5 + 90 + 15)
        assert (cancelled.departed, cancelled.landed, cancelled.dep_delay) == (None, None, None)
        assert flights[3].tailnum is None

    def test_count_limits_the_flights(self, data: FlightsData) -> None:
        assert [flight.id for flight in data.flights(3)] == [0, 1, 2]

    def test_other_files_become_documents(self, data: FlightsData) -> None:
        assert {"_id": "UA", "name": "United"} in list(data.airlines())
        nowhere = list(data.airports())[1]
        assert nowhere["tzone"] is None
        assert nowhere["position"] == {"type": "Point", "coordinates": [2.5, 1.5]}
        plane = next(data.planes())
        assert plane["seats"] == 180
        assert "year" not in plane
        weather = next(data.weather())
        assert "wind_gust" not in weather
        assert weather["time_hour"] == datetime(2013, 1, 1, 6)

    def test_missing_package_is_one_readable_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(DemoError, match=r"pip install 'qbmongo\[demo\]'"):
            FlightsData.find()


class TestLoad:
    def test_every_database_gets_the_same_documents_and_indexes(self, data: FlightsData) -> None:
        one, other = FakeDatabase(), FakeDatabase()
        advanced: list[int] = []
        load(data, [one, other], FLIGHTS, advanced.append)
        assert sum(advanced) == sum(len(collection.documents) for collection in one.values())
        assert len(one["flights"].documents) == FLIGHTS
        for name in one:
            assert one[name].documents == other[name].documents

    def test_what_lies_behind_the_clock_is_known_and_the_rest_is_only_scheduled(
        self, data: FlightsData
    ) -> None:
        database = FakeDatabase()
        timetable = load(data, [database], FLIGHTS)
        assert timetable.start == datetime(2013, 1, 2)
        assert len(timetable.flights) == FLIGHTS - FLIGHTS_A_DAY
        for document in database["flights"].documents:
            if document["day"] < timetable.start:
                assert document["status"] in ("landed", "cancelled")
            else:
                assert document["status"] == "scheduled"
                assert document["dep_delay"] is document["departed"] is None


class TestStream:
    def test_same_seed_gives_the_same_operations(self, timetable: Timetable) -> None:
        def first(seed: int) -> list[Slice]:
            return list(islice(slices(timetable, seed), 5))

        assert first(1) == first(1)
        assert first(1) != first(2)

    def test_operations_of_one_turn_do_not_depend_on_each_other(self, timetable: Timetable) -> None:
        for piece in islice(slices(timetable), 40):
            for turn in piece.turns:
                writes = [op for op in turn if op.call in ("update_one", "insert_one")]
                assert len(writes) in (0, len(turn))
                written = [(op.collection, str(op.filter or op.document["_id"])) for op in writes]
                assert len(set(written)) == len(written)

    def test_short_slices_are_the_same_stream(self, timetable: Timetable) -> None:
        whole = list(islice(slices(timetable), 3))
        short = list(in_short(iter(whole), 4))
        reads = [piece for piece in short if piece.operations[0].call not in WRITES]
        assert max(len(piece.operations) for piece in reads) == 4
        for name in ("operations", "foreign"):
            joined = [op for piece in short for op in getattr(piece, name)]
            assert joined == [op for piece in whole for op in getattr(piece, name)]

    def test_a_share_of_the_updates_comes_from_the_other_program(
        self, timetable: Timetable
    ) -> None:
        pieces = list(islice(slices(timetable), 60))
        foreign = sum(len(piece.foreign) for piece in pieces)
        own = sum(op.kind == "status update" for piece in pieces for op in piece.operations)
        assert foreign / (foreign + own) == pytest.approx(1 / FOREIGN_FLIGHTS, abs=0.05)

    def test_flights_pass_through_their_states_in_order(self, timetable: Timetable) -> None:
        states: dict[int, list[str]] = {}
        for piece in islice(slices(timetable), 150):
            for op in (*piece.operations, *piece.foreign):
                if op.kind == "status update":
                    assert op.filter is not None
                    states.setdefault(op.filter["_id"], []).append(op.document["$set"]["status"])
        gone = [
            lives
            for flight in timetable.flights
            if flight.departed and (lives := states.get(flight.id, [])).count("check-in") == 1
        ]
        assert len(gone) > 100
        order = ("check-in", "delayed", "boarding", "departed", "landed")
        for lives in gone:
            assert lives[0] == "check-in"
            ranks = [order.index(state) for state in lives if state != "delayed"]
            assert ranks == sorted(ranks)

    def test_boards_show_flights_that_are_updated(self, timetable: Timetable) -> None:
        hours = {flight.id: (flight.origin, flight.hour) for flight in timetable.flights}
        shown, updated = set(), set()
        for piece in islice(slices(timetable), 60):
            for op in piece.operations:
                if op.kind == "departure board" and op.filter:
                    shown.add((op.filter["origin"], op.filter["hour"]))
                elif op.kind == "status update" and op.filter:
                    updated.add(hours[op.filter["_id"]])
        assert len(shown & updated) >= 0.9 * len(updated)

    def test_the_stream_never_ends(self, timetable: Timetable) -> None:
        few = Timetable(timetable.start, timetable.flights[:20])
        first = few.flights[0].id
        check_ins = 0
        for piece in islice(slices(few), 60):
            for op in (*piece.operations, *piece.foreign):
                if op.filter == {"_id": first} and op.kind == "status update":
                    check_ins += op.document["$set"]["status"] == "check-in"
        assert check_ins >= 2

    def test_no_flight_to_come_is_refused(self) -> None:
        with pytest.raises(ValueError, match="load more flights"):
            slices(Timetable(datetime(2013, 1, 1), []))


class TestBanks:
    """The writes of a turn are made at the same time, whatever the client."""

    def test_a_bank_has_a_journal_entry_for_each_change(self, timetable: Timetable) -> None:
        sizes = []
        for piece in islice(slices(timetable), 40):
            operations = piece.operations
            entries = sum(op.kind == "journal entry" for op in operations)
            updates = sum(op.kind == "status update" for op in operations)
            assert entries == updates + MINUTES_PER_SLICE // MINUTES_PER_BANK
            sizes += [len(turn) for turn in piece.turns if at_the_same_time(turn)]
        assert max(sizes) > 10

    async def test_an_async_arm_awaits_none_before_all_are_called(self) -> None:
        waiting: list[asyncio.Future[int]] = []

        class Meeting:
            def insert_one(self, document: Any) -> asyncio.Future[int]:
                waiting.append(asyncio.get_running_loop().create_future())
                if len(waiting) == 5:
                    for number, future in enumerate(waiting):
                        future.set_result(number)
                return waiting[-1]

        arm = AsyncArm(_client(Meeting()), "airport")
        played = await arm.play(_bank(5))
        assert played.answers == [0, 1, 2, 3, 4]
        assert len(played.latencies_ns) == 5

    async def test_a_sync_arm_has_a_thread_for_each(self) -> None:
        meeting = threading.Barrier(5, timeout=30)

        class Meeting:
            def insert_one(self, document: Any) -> Any:
                meeting.wait()
                return document["_id"]

        arm = SyncArm(_client(Meeting()), "airport")
        played = await arm.play(_bank(5))
        assert played.answers == [0, 1, 2, 3, 4]
        await arm.close()


def _client(collection: Any) -> Any:
    class Client(dict[str, Any]):
        def close(self) -> None: ...

    return Client(airport=dict.fromkeys(("flights", "planes", "journal"), collection))


def _bank(count: int) -> Slice:
    entries = [
        Operation("journal entry", "journal", "insert_one", document={"_id": number})
        for number in range(count)
    ]
    return Slice((tuple(entries),), ())


class FakeArm:
    """Answers by a function of the operation's number in the stream."""

    def __init__(self, answer: Any, log: list[str], name: str) -> None:
        self._answer, self._log, self._name = answer, log, name
        self._number = 0
        self.caught_up_calls = 0
        cache = SimpleNamespace(entries=7)
        self.handle = SimpleNamespace(stats=lambda: SimpleNamespace(cache=cache))

    async def play(self, piece: Slice) -> Played:
        self._log.append(self._name)
        count = len(piece.operations)
        answers = [self._answer(self._number + n) for n in range(count)]
        self._number += count
        return Played(answers, [1000] * count, 1000 * count)

    async def caught_up(self) -> None:
        self.caught_up_calls += 1


class FakeWire:
    commands = 0

    def begin(self) -> None:
        self.commands += 1

    def end(self) -> None: ...


LOOKUP = Operation("plane", "planes", "find_one", filter={"_id": "N1"})
UPDATE = Operation("status update", "flights", "update_one", {"_id": 1}, document={"$set": {}})


class Fakes:
    """Two fake arms and a stream of slices of three lookups."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.stored = {"one": b"same", "two": b"same"}
        monkeypatch.setattr("qbmongo.demo.replay.contents", lambda site: self.stored[site.database])
        monkeypatch.setattr(
            "qbmongo.demo.replay.play_sync", lambda documents, ops: Played([1] * len(ops), [], 1)
        )

    def contender(self, name: str, answer: Any = lambda number: number) -> Contender:
        def unreachable(command: str) -> None:
            raise AutoReconnect("gone")

        control = SimpleNamespace(admin=SimpleNamespace(command=unreachable))
        site: Any = SimpleNamespace(database=name, control=control, documents=lambda: None)
        arm: Any = FakeArm(answer, self.log, name)
        return Contender(arm, site, FakeWire())

    def stream(self) -> Iterator[Slice]:
        while True:
            yield Slice(((LOOKUP, LOOKUP), (LOOKUP,)), (UPDATE,))


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    return Fakes(monkeypatch)


class TestReplay:
    async def test_arms_alternate_and_every_answer_is_counted(self, fakes: Fakes) -> None:
        plain, ours = fakes.contender("one"), fakes.contender("two")
        pieces = islice(fakes.stream(), 4)
        with pytest.raises(RuntimeError):  # The stream ends, as StopIteration in a coroutine.
            await replay(pieces, plain, ours, 1e9)
        assert fakes.log == ["one", "two", "two", "one", "one", "two", "two", "one"]
        assert plain.tally.operations == ours.tally.operations == 12
        assert len(plain.tally.latencies_ns["plane"]) == 12

    async def test_equal_answers_end_with_the_time(self, fakes: Fakes) -> None:
        plain, ours = fakes.contender("one"), fakes.contender("two")
        outcome = await replay(fakes.stream(), plain, ours, 0)
        assert (outcome.difference, outcome.slices, outcome.foreign) == (None, 1, 1)
        assert outcome.compared == 4
        assert outcome.exposed == 7
        arm: Any = ours.arm
        assert arm.caught_up_calls == 1

    async def test_first_differing_answer_ends_it_and_is_named(self, fakes: Fakes) -> None:
        plain = fakes.contender("one")
        ours = fakes.contender("two", lambda number: number if number < 4 else {"stale": number})
        outcome = await replay(islice(fakes.stream(), 10), plain, ours, 1e9)
        assert outcome.difference is not None
        # Three answers and one foreign write of the first slice, one answer of the second.
        assert "answer 6 differs" in outcome.difference
        assert "plane: planes.find_one(filter={'_id': 'N1'})" in outcome.difference
        assert "plain:   int 4" in outcome.difference
        assert "qbmongo: dict {'stale': 4}" in outcome.difference

    async def test_differing_collections_are_a_difference(self, fakes: Fakes) -> None:
        fakes.stored["two"] = b"other"
        outcome = await replay(fakes.stream(), fakes.contender("one"), fakes.contender("two"), 0)
        assert outcome.difference is not None
        assert "the collections are not" in outcome.difference

    async def test_lost_server_is_no_difference_but_the_end(self, fakes: Fakes) -> None:
        def lost(number: int) -> Any:
            return AutoReconnect("connection closed")

        with pytest.raises(DemoError, match="the server went away: connection closed"):
            await replay(fakes.stream(), fakes.contender("one"), fakes.contender("two", lost), 0)


def tally(latency_us: int) -> Tally:
    given = Tally()
    operations = [LOOKUP] * 100
    given.add(operations, Played([None] * 100, [latency_us * 1000] * 100, latency_us * 100_000))
    return given


def rendered(plain_us: int, ours_us: int) -> str:
    result = Result(
        server="server",
        client="sync",
        flights=1000,
        indexes="no index",
        outcome=Outcome(),
        plain=tally(plain_us),
        ours=tally(ours_us),
        plain_commands=300,
        our_commands=300 * ours_us // plain_us,
        counted_by_server=True,
        profile=None,
        stats=None,
    )
    console = Console(width=120, quiet=True)
    with console.capture() as capture:
        console.quiet = False
        console.print(side_by_side(result))
    return capture.get()


class TestTable:
    def test_gains_and_losses_are_said_alike(self) -> None:
        gain, loss = rendered(300, 100), rendered(100, 300)
        assert gain.count("3.00 x faster") == loss.count("3.00 x slower") == 5
        assert gain.count("3.00 x fewer") == loss.count("3.00 x more") == 1
        assert "slower" not in gain
        assert "faster" not in loss

    def test_ratio_is_ours_over_plain(self) -> None:
        row = next(line for line in rendered(100, 300).splitlines() if "plane (100)" in line)
        assert [cell.strip() for cell in row.split("│")[2:5]] == ["100 us", "300 us", "3.00"]

    def test_small_differences_are_called_equal(self) -> None:
        assert rendered(100, 103).count("about equal") == 6

    def test_quantiles_are_values_that_occurred(self) -> None:
        values = array("q", range(100, 0, -1))
        assert [quantile(values, percent) for percent in (50, 95, 99)] == [50, 95, 99]
        assert quantile(array("q", [7]), 99) == 7
        assert quantile(array("q"), 50) == 0


@pytest.mark.parametrize("client", ["motor", "async", "sync"])
def test_demo_on_a_given_server_finds_no_difference_and_drops_its_databases(
    client: Any,
    data: FlightsData,
    server_uri: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(FlightsData, "find", classmethod(lambda cls: data))
    output, status = Console(quiet=True, width=120), Console(quiet=True)
    options = DemoOptions(server_uri, FLIGHTS, 0.5, client, tmp_path)
    with output.capture() as capture:
        output.quiet = False
        assert run_demo(options, output, status)
    assert "equal:" in capture.get()
    assert "What the advised indexes changed" in capture.get()
    advice = json.loads((tmp_path / "qbmongo-demo-advice.json").read_text())
    assert advice["inputs"]["calls"] > 0
    assert (tmp_path / "qbmongo-demo-advice.html").read_text().startswith("<!doctype html>")
    with pymongo.MongoClient[dict[str, Any]](server_uri) as probe:
        assert not [name for name in probe.list_database_names() if "qbmongo_demo" in name]


class NeverForgets:
    """A collection whose find answers from memory whatever was written since."""

    def __init__(self, collection: Any) -> None:
        self._collection = collection
        self._kept: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    def find(self, filter: Any, projection: Any) -> Any:
        key = f"{filter}{projection}"
        if key in self._kept:
            return self._kept[key]
        return RememberingCursor(self._collection.find(filter, projection), self._kept, key)


class RememberingCursor:
    def __init__(self, cursor: Any, kept: dict[str, Any], key: str) -> None:
        self._cursor, self._kept, self._key = cursor, kept, key
        self._documents: list[Any] | None = None

    def sort(self, sort: Any) -> RememberingCursor:
        if self._documents is None:
            self._cursor.sort(sort)
        return self

    def limit(self, limit: int) -> RememberingCursor:
        if self._documents is None:
            self._cursor.limit(limit)
        return self

    def to_list(self, limit: int) -> list[Any]:
        if self._documents is None:
            self._documents = self._cursor.to_list()
            self._kept[self._key] = self
        return self._documents


def test_a_stale_answer_by_our_client_is_found(
    data: FlightsData, server_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FlightsData, "find", classmethod(lambda cls: data))

    real_open = demo_run.open_arm

    def open_arm(kind: Any, make: Any, *rest: Any) -> Any:
        arm = real_open(kind, "plain", *rest)
        if make == "qbmongo":
            arm._collections["flights"] = NeverForgets(arm._collections["flights"])
        return arm

    monkeypatch.setattr(demo_run, "open_arm", open_arm)
    output = Console(width=120, quiet=True)
    with output.capture() as capture:
        output.quiet = False
        assert not run_demo(
            DemoOptions(server_uri, FLIGHTS, 30, "sync"), output, Console(quiet=True)
        )
    assert "NOT EQUAL: answer" in capture.get()
    assert "flights.find(" in capture.get()


def test_databases_are_dropped_when_the_demo_fails(
    data: FlightsData, server_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def fail(data: Any, databases: list[Any], *rest: Any) -> None:
        for database in databases:
            database["x"].insert_one({})
            made.append(database.name)
        raise RuntimeError

    monkeypatch.setattr(FlightsData, "find", classmethod(lambda cls: data))
    monkeypatch.setattr(demo_run, "load", fail)
    with pytest.raises(RuntimeError):
        run_demo(DemoOptions(server_uri), Console(quiet=True), Console(quiet=True))
    assert len(made) == 2
    with pymongo.MongoClient[dict[str, Any]](server_uri) as probe:
        assert set(made).isdisjoint(probe.list_database_names())


def test_exceptions_are_answers_too(server_uri: str) -> None:
    with given_sites(server_uri) as sites:
        entry = Operation("journal entry", "journal", "insert_one", document={"_id": 1})
        played = play_sync(sites.plain.documents(), [entry, entry])
    assert isinstance(played.answers[0], InsertOneResult)
    assert isinstance(played.answers[1], DuplicateKeyError)


def test_password_is_not_shown_when_the_server_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("qbmongo.demo.sites.REACH_LIMIT_S", 0.05)
    uri = "mongodb://user:secret@127.0.0.1:1/"
    with pytest.raises(DemoError, match="no server answered") as caught, given_sites(uri):
        pass
    assert "secret" not in str(caught.value)
    assert "127.0.0.1:1" in str(caught.value)


class TestAdvice:
    def report(self) -> Report:
        def recommended(action: Any, *keys: tuple[str, int], **options: Any) -> Recommendation:
            spec = IndexSpec("airport.flights", keys, **options)
            return Recommendation(action, action, spec, "high", True, "")

        return Report(
            (
                recommended("create", ("origin", 1), ("hour", -1), unique=True),
                recommended("hide", ("dest", 1), name="dest_1"),
            )
        )

    def test_what_is_to_be_created_is_created_with_its_options(self, database: Any) -> None:
        assert create_advised(self.report(), [database]) == 1
        made = {index["name"]: index for index in database["flights"].list_indexes()}
        assert set(made) == {"_id_", "origin_1_hour_-1"}
        assert made["origin_1_hour_-1"]["unique"]

    def test_gains_name_both_arms_and_both_states(self) -> None:
        console = Console(width=120, quiet=True)
        with console.capture() as capture:
            console.quiet = False
            console.print(gains((tally(300), tally(200)), (tally(100), tally(50)), ("a", "b")))
        assert capture.get().count("3.00 x faster") == 2
        assert capture.get().count("4.00 x faster") == 2

    async def test_without_a_profile_there_is_no_advice(self, server_uri: str) -> None:
        arm = open_arm("async", "plain", server_uri, "airport")
        assert await advice(arm) is None
        await arm.close()

    def test_a_folder_that_cannot_be_written_to_is_said(self, tmp_path: Path) -> None:
        status = Console(width=120, quiet=True)
        with status.capture() as capture:
            status.quiet = False
            show_advice(self.report(), tmp_path / "none", Console(quiet=True), status)
        said = " ".join(capture.get().split())
        assert said.count("was not written: No such file") == 2
