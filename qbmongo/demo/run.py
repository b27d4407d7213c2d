"""The demo from beginning to end: servers, data, both arms, the tables."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from ..advisor.report import Report
from ..errors import QbError
from .advice import advice, create_advised, gains, show_advice
from .arms import ClientKind, open_arm
from .data import TOTAL_FLIGHTS, FlightsData
from .dataset import Timetable, load
from .errors import DemoError
from .operations import Slice, in_short, slices
from .replay import Contender, Outcome, replay
from .sites import Sites, given_sites, local_sites
from .table import DRIVERS, Result, show, show_verdict, side_by_side
from .wire import ListenerCount, WireCount, wire_counts

DEFAULT_FLIGHTS = 60_000
DEFAULT_SECONDS = 30.0
# Of the time, how much is played before there are indexes; and in how short slices, because each
# query reads whole collections then.
_UNADVISED_SHARE = 0.3
_UNADVISED_SLICE = 4
NO_INDEX = "no index but _id"

# airlines, airports, planes and hours of weather, which are always loaded in full.
_OTHER_DOCUMENTS = 16 + 1_458 + 3_322 + 26_115


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What `qbmongo demo` was asked for.

    uri: a running server, None starts two; flights: how many to load; seconds: how long to play,
    both arms together; client: which driver; folder: where the advisor's report is written.
    """

    uri: str | None = None
    flights: int = DEFAULT_FLIGHTS
    seconds: float = DEFAULT_SECONDS
    client: ClientKind = "motor"
    folder: Path = Path()


def run_demo(options: DemoOptions, output: Console, status: Console) -> bool:
    """Run the demo and print its tables.

    Args:
        options: see DemoOptions.
        output: where the tables go.
        status: where progress goes.

    Returns:
        Whether every answer of both arms was equal.

    Raises:
        DemoError: data or server missing, server unreachable or lost.
        KeyboardInterrupt: Ctrl-C; all that was started has ended and was removed.
    """
    data = FlightsData.find()
    flights = min(options.flights, TOTAL_FLIGHTS)
    with _ended_by_sigterm():
        status.print("starting ..." if options.uri is None else "connecting ...", style="dim")
        with local_sites() if options.uri is None else given_sites(options.uri) as sites:
            status.print(f"server: {sites.server}", style="dim", highlight=False)
            try:
                return _run(options, data, sites, flights, output, status)
            except PyMongoError as error:
                raise DemoError(" ".join(str(error).split())) from error


def _run(
    options: DemoOptions,
    data: FlightsData,
    sites: Sites,
    flights: int,
    output: Console,
    status: Console,
) -> bool:
    """As a program that nobody tuned: without indexes; then with those that the advisor names, on
    a copy. Returns whether every answer was equal."""
    timetable = _load(data, sites, flights, status)
    first, report = asyncio.run(_unadvised(options, sites, timetable, flights, status))
    output.print(side_by_side(first))
    if first.outcome.difference is not None:
        return show_verdict([first.outcome], output)
    created = 0
    copy = sites.copy()
    if report is not None:
        show_advice(report, options.folder, output, status)
        created = create_advised(report, [copy.plain.documents(), copy.qbmongo.documents()])
    timetable = _load(data, copy, flights, status)
    indexes = "the index advised" if created == 1 else f"the {created} indexes advised"
    indexes = indexes if created else NO_INDEX
    seconds = options.seconds * (1 - _UNADVISED_SHARE)
    second = asyncio.run(_play(options, copy, slices(timetable), seconds, flights, indexes, status))
    output.print()
    show(second, output)
    output.print()
    names = (f"plain {DRIVERS[options.client]}", "qbmongo")
    output.print(gains((first.plain, first.ours), (second.plain, second.ours), names))
    return show_verdict([first.outcome, second.outcome], output)


async def _unadvised(
    options: DemoOptions, sites: Sites, timetable: Timetable, flights: int, status: Console
) -> tuple[Result, Report | None]:
    pieces = in_short(slices(timetable), _UNADVISED_SLICE)
    seconds = options.seconds * _UNADVISED_SHARE
    reports: list[Report | None] = []

    async def ask(ours: Contender) -> None:
        status.print("asking the advisor ...", style="dim")
        reports.append(await advice(ours.arm))

    result = await _play(options, sites, pieces, seconds, flights, NO_INDEX, status, ask)
    return result, reports[0] if reports else None


def _load(data: FlightsData, sites: Sites, flights: int, status: Console) -> Timetable:
    documents = flights + _OTHER_DOCUMENTS
    status.print(f"loading {documents:,} documents into each ...", style="dim", highlight=False)
    databases = [sites.plain.documents(), sites.qbmongo.documents()]
    with _progress(status, MofNCompleteColumn()) as progress:
        task = progress.add_task("loading", total=documents)
        timetable = load(data, databases, flights, lambda count: progress.advance(task, count))
    for site in (sites.plain, sites.qbmongo):
        # A storage engine reads pages it has not written yet faster than those it has: without a
        # checkpoint on both servers, chance would favour one arm by up to 30 %.
        if site.exclusive:
            with suppress(OperationFailure):
                site.control.admin.command("fsync")
    return timetable


async def _play(
    options: DemoOptions,
    sites: Sites,
    pieces: Iterator[Slice],
    seconds: float,
    flights: int,
    indexes: str,
    status: Console,
    then: Callable[[Contender], Awaitable[None]] | None = None,
) -> Result:
    """Play for so many seconds. then: done at the end, with our arm still open."""
    wires = wire_counts(sites)
    async with AsyncExitStack() as stack:
        plain, ours = [
            await _contender(options.client, make, site, wire, stack)
            for make, site, wire in (
                ("plain", sites.plain, wires[0]),
                ("qbmongo", sites.qbmongo, wires[1]),
            )
        ]
        status.print(f"playing for {seconds:g} s ({indexes}) ...", style="dim", highlight=False)
        # What was made so far lives until the end: a full collection must not fall into one arm.
        gc.collect()
        gc.freeze()
        with _progress(status, TaskProgressColumn()) as progress:
            task = progress.add_task("playing", total=seconds)
            outcome: Outcome = await replay(
                pieces,
                plain,
                ours,
                seconds,
                lambda played_s: progress.update(task, completed=played_s),
            )
        result = Result(
            server=sites.server,
            client=options.client,
            flights=flights,
            indexes=indexes,
            outcome=outcome,
            plain=plain.tally,
            ours=ours.tally,
            plain_commands=plain.wire.commands,
            our_commands=ours.wire.commands,
            counted_by_server=not isinstance(wires[0], ListenerCount),
            profile=_profile(ours.arm.handle),
            stats=None if ours.arm.handle is None else ours.arm.handle.stats(),
        )
        if then is not None and outcome.difference is None:
            await then(ours)
        return result


async def _contender(
    kind: ClientKind, make: Any, site: Any, wire: WireCount, stack: AsyncExitStack
) -> Contender:
    listeners = [wire] if isinstance(wire, ListenerCount) else []
    arm = open_arm(kind, make, site.uri, site.database, listeners)
    stack.push_async_callback(arm.close)
    await arm.ping()
    return Contender(arm, site, wire)


def _profile(handle: Any) -> Any:
    with suppress(QbError):  # Switched off by the environment.
        return None if handle is None else handle.profile()
    return None


@contextmanager
def _progress(status: Console, figures: Any) -> Iterator[Progress]:
    """A progress bar; where nobody would see it move, one that is never shown."""
    columns = (TextColumn("{task.description}"), BarColumn(), figures, TimeElapsedColumn())
    progress = Progress(*columns, console=status, transient=True, disable=not status.is_terminal)
    if not status.is_terminal:
        # Older versions of rich end the line of what was disabled.
        yield progress
        return
    with progress:
        yield progress


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the program as Ctrl-C does, with everything cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
