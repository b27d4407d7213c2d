"""The arms: the same operations on the plain driver and on qbmongo's client of the same kind."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any, Literal

from .operations import Operation, Slice

ClientKind = Literal["motor", "async", "sync"]
Make = Literal["plain", "qbmongo"]

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
            for operation in turn:
                begun_ns = perf_counter_ns()
                try:
                    answer: Any = await self._perform(operation)
                except Exception as error:
                    answer = error
                played.latencies_ns.append(perf_counter_ns() - begun_ns)
                played.answers.append(answer)
        played.elapsed_ns = perf_counter_ns() - started_ns
        return played

    async def _perform(self, operation: Operation) -> Any:
        begun = start(self._collections[operation.collection], operation)
        if inspect.isawaitable(begun):
            begun = await begun
        return await begun.to_list(None) if operation.call == "aggregate" else begun


class SyncArm(Arm):
    """PyMongo: every call blocks, and the event loop around it waits."""

    async def ping(self) -> None:
        self.client.admin.command("ping")

    async def close(self) -> None:
        self.client.close()

    async def play(self, piece: Slice) -> Played:
        return play_sync(self._collections, piece.operations)


def play_sync(collections: Any, operations: Sequence[Operation]) -> Played:
    """Play operations one after the other on collections of the synchronous driver."""
    played = Played([], [], 0)
    started_ns = perf_counter_ns()
    for operation in operations:
        begun_ns = perf_counter_ns()
        try:
            answer = start(collections[operation.collection], operation)
            if operation.call == "aggregate":
                answer = answer.to_list()
        except Exception as error:
            answer = error
        played.latencies_ns.append(perf_counter_ns() - begun_ns)
        played.answers.append(answer)
    played.elapsed_ns = perf_counter_ns() - started_ns
    return played


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
