"""Both arms play the same stream in turn, slice by slice, and every answer is compared."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from time import monotonic, perf_counter_ns
from typing import Any

from pymongo.errors import ConnectionFailure, PyMongoError

from ..errors import QbTimeoutError
from .arms import Arm, Played, play_sync
from .dataset import FLIGHTS, JOURNAL
from .digest import fingerprint
from .errors import DemoError
from .operations import KINDS, WRITES, Kind, Operation, Slice
from .sites import Site
from .wire import WireCount

_SHOWN_CHARACTERS = 600


@dataclass(slots=True)
class Tally:
    """What one arm's operations took.

    latencies_ns: per kind, nanoseconds of each operation; elapsed_ns: of all slices together.
    slice_rates: operations per second of each slice.
    """

    latencies_ns: dict[Kind, array[int]] = field(
        default_factory=lambda: {kind: array("q") for kind in KINDS}
    )
    elapsed_ns: int = 0
    operations: int = 0
    slice_rates: list[float] = field(default_factory=list)

    def add(self, operations: Sequence[Operation], played: Played) -> None:
        """Count a slice."""
        for operation, latency_ns in zip(operations, played.latencies_ns, strict=True):
            self.latencies_ns[operation.kind].append(latency_ns)
        self.elapsed_ns += played.elapsed_ns
        self.operations += len(played.answers)
        self.slice_rates.append(len(played.answers) / (played.elapsed_ns / 1e9))


@dataclass(slots=True)
class Contender:
    """An arm with its place, its count of commands and its tally."""

    arm: Arm
    site: Site
    wire: WireCount
    tally: Tally = field(default_factory=Tally)

    async def play(self, piece: Slice) -> Played:
        """Play a slice and count it."""
        self.wire.begin()
        played = await self.arm.play(piece)
        self.wire.end()
        self.tally.add(piece.operations, played)
        return played

    def play_foreign(self, operations: Sequence[Operation]) -> Played:
        """What another program writes meanwhile, through a plain client of its own."""
        return play_sync(self.site.documents(), operations)


@dataclass(slots=True)
class Outcome:
    """What the comparison found.

    compared: answers compared; digest: of all answers that were equal, in order.
    difference: the first difference in words, None if there is none.
    foreign: writes by the other program; caught_up_ns: time spent until our arm knew of them.
    exposed: entries in our cache, summed up over all writes: what a cache that drops everything at
    each write would have dropped.
    """

    compared: int = 0
    digest: str = ""
    difference: str | None = None
    foreign: int = 0
    caught_up_ns: int = 0
    exposed: int = 0
    slices: int = 0


async def replay(
    pieces: Iterator[Slice],
    plain: Contender,
    ours: Contender,
    seconds: float,
    advance: Callable[[float], None] = lambda played_s: None,
) -> Outcome:
    """Play until the time is over or an answer differs.

    Args:
        pieces: the stream.
        plain: the reference.
        ours: what is compared with it.
        seconds: how long to play, both arms together.
        advance: called with the seconds played so far.

    Raises:
        DemoError: a server went away.
    """
    outcome = Outcome()
    state = blake2b(digest_size=16)
    start_s = monotonic()
    while outcome.difference is None:
        piece = next(pieces)
        first, second = (plain, ours) if outcome.slices % 2 == 0 else (ours, plain)
        played = {id(first): await first.play(piece)}
        # Ctrl-C is delivered where the task suspends, which a synchronous arm never does.
        await asyncio.sleep(0)
        played[id(second)] = await second.play(piece)
        _compare(piece.operations, plain, ours, played[id(plain)], played[id(ours)], outcome, state)
        if piece.foreign and not outcome.difference:
            await _let_others_write(piece.foreign, plain, ours, outcome, state)
        outcome.exposed += _cached_entries(ours.arm) * _writes_in(piece)
        outcome.slices += 1
        played_s = monotonic() - start_s
        advance(played_s)
        if played_s >= seconds:
            break
        await asyncio.sleep(0)
    if not outcome.difference and contents(plain.site) != contents(ours.site):
        outcome.difference = "all answers were equal, but the collections are not"
    outcome.digest = state.hexdigest()
    return outcome


async def _let_others_write(
    operations: Sequence[Operation],
    plain: Contender,
    ours: Contender,
    outcome: Outcome,
    state: Any,
) -> None:
    answers = [contender.play_foreign(operations) for contender in (plain, ours)]
    outcome.foreign += len(operations)
    _compare(operations, plain, ours, answers[0], answers[1], outcome, state)
    begun_ns = perf_counter_ns()
    try:
        await ours.arm.caught_up()
    except QbTimeoutError as error:
        outcome.difference = outcome.difference or f"another program's writes stay unknown: {error}"
    outcome.caught_up_ns += perf_counter_ns() - begun_ns


def _compare(
    operations: Sequence[Operation],
    plain: Contender,
    ours: Contender,
    expected: Played,
    given: Played,
    outcome: Outcome,
    state: Any,
) -> None:
    pairs = zip(operations, expected.answers, given.answers, strict=True)
    for operation, plain_answer, our_answer in pairs:
        _still_there((plain, plain_answer), (ours, our_answer))
        mark = fingerprint(plain_answer, plain.site.database)
        if mark != fingerprint(our_answer, ours.site.database):
            outcome.difference = (
                f"answer {outcome.compared + 1:,} differs\n{operation}\n"
                f"plain:   {_shown(plain_answer)}\nqbmongo: {_shown(our_answer)}"
            )
            return
        state.update(mark)
        outcome.compared += 1


def _cached_entries(arm: Arm) -> int:
    cache = None if arm.handle is None else arm.handle.stats().cache
    return 0 if cache is None else int(cache.entries)


def _writes_in(piece: Slice) -> int:
    own = sum(operation.call in WRITES for operation in piece.operations)
    return own + len(piece.foreign)


def _still_there(*answers: tuple[Contender, Any]) -> None:
    """A lost server is the end of the demo, not an answer."""
    for contender, answer in answers:
        if isinstance(answer, ConnectionFailure):
            try:
                contender.site.control.admin.command("ping")
            except PyMongoError as error:
                raise DemoError(f"the server went away: {' '.join(str(answer).split())}") from error


def _shown(answer: Any) -> str:
    text = f"{type(answer).__name__} {answer!r}"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def contents(site: Site) -> bytes:
    """A digest of every document that the operations wrote, as it is stored."""
    state = blake2b(digest_size=16)
    documents = site.documents()
    for name, changed in ((FLIGHTS, {"revision": {"$gt": 0}}), (JOURNAL, {})):
        for batch in documents[name].find_raw_batches(changed).sort("_id", 1):
            state.update(batch)
        state.update(b"\0")
    return state.digest()
