"""The arms: the same operations on the plain driver and on qbmongo's client of the same kind."""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import perf_counter_ns
from typing import Any, Literal

from .operations import WRITES, Operation, Slice

ClientKind = Literal["motor", "async", "sync"]
Make = Literal["plain", "qbmongo"]
# The synchronous program's.
THREADS = 32

_PATIENCE_S = 60.0  # A busy machine is no reason to end the demo.


@dataclass(slots=True)
class Played:
    """What an arm got for the operations of one slice, in their order.

    answers: what was returned, or the exception that was raised.
    latencies_ns: nanoseconds of each operation; elapsed_ns: of all of them, with the time between.
    """

    answers: list[Any]
    latencies_ns: list[int]
    elapsed_ns: int

    def add(self, ended: Iterable[tuple[Any, int]]) -> None:
        """Operations have ended: the answer and the nanoseconds of each."""
        for answer, latency_ns in ended:
            self.answers.append(answer)
            self.latencies_ns.append(latency_ns)


class Arm(ABC):
    """One client and the database it works in."""

    def __init__(self, client: Any, database: str) -> None:
        self.client = client
        self.database_name = database
        self._collections = {
            name: client[database][name] for name in ("flights", "planes", "journal")
        }

    @property
    def handle(self) -> Any:
        """The client's `qb`; None for a plain client, where `qb` would be a database."""
        return self.client.qb if hasattr(type(self.client), "qb") else None

    @abstractmethod
    async def ping(self) -> None:
        """Connect."""

    @abstractmethod
    async def play(self, piece: Slice) -> Played:
        """Play a slice."""

    @abstractmethod
    async def close(self) -> None:
        """Close the client."""

    async def caught_up(self) -> None:
        """Wait until this client knows of what others wrote before; nothing for a plain client."""
        wait = getattr(self.handle, "caught_up", None)
        if wait is not None:
            waiting = wait(_PATIENCE_S)
            if inspect.isawaitable(waiting):
                await waiting


class AsyncArm(Arm):
    """Motor and PyMongo Async: they differ in what `aggregate` and `close` return."""

    async def ping(self) -> None:
        await self.client.admin.command("ping")

    async def close(self) -> None:
        closing = self.client.close()
        if inspect.isawaitable(closing):
            await closing

    async def play(self, piece: Slice) -> Played:
        played = Played([], [], 0)
        started_ns = perf_counter_ns()
        for turn in piece.turns:
            if at_the_same_time(turn):
                ended = await asyncio.gather(*[self._timed(operation) for operation in turn])
            else:
                ended = [await self._timed(operation) for operation in turn]
            played.add(ended)
        played.elapsed_ns = perf_counter_ns() - started_ns
        return played

    async def _timed(self, operation: Operation) -> tuple[Any, int]:
        begun_ns = perf_counter_ns()
        try:
            answer: Any = await self._perform(operation)
        except Exception as error:
            answer = error
        return answer, perf_counter_ns() - begun_ns

    async def _perform(self, operation: Operation) -> Any:
        begun = start(self._collections[operation.collection], operation)
        if inspect.isawaitable(begun):
            begun = await begun
        return await begun.to_list(None) if operation.call == "aggregate" else begun


class SyncArm(Arm):
    """PyMongo: every call blocks, and the event loop around it waits.

    What happens at the same time has a thread each, up to THREADS.
    """

    def __init__(self, client: Any, database: str) -> None:
        super().__init__(client, database)
        self._pool = ThreadPoolExecutor(THREADS)

    async def ping(self) -> None:
        self.client.admin.command("ping")

    async def close(self) -> None:
        self._pool.shutdown()
        self.client.close()

    async def play(self, piece: Slice) -> Played:
        played = Played([], [], 0)
        perform = partial(_timed_sync, self._collections)
        started_ns = perf_counter_ns()
        for turn in piece.turns:
            mapped = self._pool.map if at_the_same_time(turn) else map
            played.add(mapped(perform, turn))
        played.elapsed_ns = perf_counter_ns() - started_ns
        return played


def at_the_same_time(turn: Sequence[Operation]) -> bool:
    """Whether the operations of a turn are played at the same time: writes are."""
    return len(turn) > 1 and turn[0].call in WRITES


def play_sync(collections: Any, operations: Sequence[Operation]) -> Played:
    """Play operations one after the other on collections of the synchronous driver."""
    played = Played([], [], 0)
    started_ns = perf_counter_ns()
    played.add(_timed_sync(collections, operation) for operation in operations)
    played.elapsed_ns = perf_counter_ns() - started_ns
    return played


def _timed_sync(collections: Any, operation: Operation) -> tuple[Any, int]:
    begun_ns = perf_counter_ns()
    try:
        answer = start(collections[operation.collection], operation)
        if operation.call == "aggregate":
            answer = answer.to_list()
    except Exception as error:
        answer = error
    return answer, perf_counter_ns() - begun_ns


def start(collection: Any, operation: Operation) -> Any:
    """Make the call; what it returns is the driver's own (a value, a future, a cursor)."""
    call = operation.call
    if call == "find":
        cursor = collection.find(operation.filter, operation.projection)
        return cursor.sort(list(operation.sort)).limit(operation.limit).to_list(operation.limit)
    if call == "find_one":
        return collection.find_one(operation.filter)
    if call == "aggregate":
        return collection.aggregate(operation.document)
    if call == "update_one":
        return collection.update_one(operation.filter, operation.document)
    # The driver may write into what it inserts; each arm has its own.
    return collection.insert_one(dict(operation.document))


def open_arm(
    kind: ClientKind, make: Make, uri: str, database: str, listeners: Sequence[Any] = ()
) -> Arm:
    """Open a client of this kind and make; it connects with its first operation.

    Args:
        kind: which driver.
        make: the driver itself or qbmongo's class in its place.
        uri: the server.
        database: name of the database to work in.
        listeners: event listeners for the client.
    """
    client = _client_class(kind, make)(uri, event_listeners=list(listeners))
    return (SyncArm if kind == "sync" else AsyncArm)(client, database)


def _client_class(kind: ClientKind, make: Make) -> Any:
    if make == "qbmongo":
        import qbmongo

        names = {
            "motor": "OptimizedClient",
            "async": "OptimizedAsyncMongoClient",
            "sync": "OptimizedMongoClient",
        }
        return getattr(qbmongo, names[kind])
    if kind == "motor":
        from motor.motor_asyncio import AsyncIOMotorClient

        return AsyncIOMotorClient
    import pymongo

    return pymongo.AsyncMongoClient if kind == "async" else pymongo.MongoClient
