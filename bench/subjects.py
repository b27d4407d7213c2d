"""The clients that are measured, plain and ours, behind one way to call them.

A `Bench` belongs to one kind of client: "sync" (PyMongo), "async" (PyMongo Async) or "motor". It
opens clients, waits for what they return, repeats a call, and closes everything at its end.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import bson
from bson.codec_options import DEFAULT_CODEC_OPTIONS
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient
from pymongo.monitoring import CommandListener

from qbmongo import OptimizedAsyncMongoClient, OptimizedClient, OptimizedMongoClient, Settings
from qbmongo.core.engine import Lead
from qbmongo.records import ReadOp

__all__ = [
    "DOCUMENT_BYTES",
    "KINDS",
    "Bench",
    "EmptyListener",
    "client_of",
    "document",
    "filled",
    "opened",
    "settled_reads",
]

KINDS = ("sync", "async", "motor")
DOCUMENT_BYTES = 150

_PLAIN = {"sync": MongoClient, "async": AsyncMongoClient, "motor": AsyncIOMotorClient}
_OURS = {
    "sync": OptimizedMongoClient,
    "async": OptimizedAsyncMongoClient,
    "motor": OptimizedClient,
}


class EmptyListener(CommandListener):
    """What any command listener costs, ours or another."""

    def started(self, event: Any) -> None:
        pass

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


def document(identity: Any, group: int = 0) -> dict[str, Any]:
    """A document of DOCUMENT_BYTES bytes of BSON."""
    made = {
        "_id": identity,
        "name": "blue kettle",
        "group": group,
        "price": 24.95,
        "stock": 117,
        "text": "",
    }
    made["text"] = "x" * (DOCUMENT_BYTES - len(bson.encode(made)))
    return made


@contextmanager
def filled(uri: str, count: int, name: str | None = None) -> Iterator[str]:
    """A database with `count` documents in its collection "things"; dropped at the end.

    Their `_id`s count from 0; 20 documents have each value of "group". name: the database's, or
    None for a new one.
    """
    name = name or f"qbmongo_{uuid.uuid4().hex[:12]}"
    with MongoClient[dict[str, Any]](uri) as client:
        things = client[name].things
        things.create_index("group")
        for start in range(0, count, 10_000):
            stop = min(start + 10_000, count)
            things.insert_many([document(i, i // 20) for i in range(start, stop)])
        try:
            yield name
        finally:
            client.drop_database(name)


class Bench:
    """One kind of client on one server."""

    def __init__(self, kind: str, uri: str, database: str) -> None:
        self.kind = kind
        self.uri = uri
        self.database = database
        self.loop = None if kind == "sync" else asyncio.new_event_loop()
        self._clients: list[Any] = []

    @property
    def cpu_clock(self) -> Callable[[], float]:
        """Motor's calls run in threads of its own: there, the whole process is measured."""
        return time.process_time if self.kind == "motor" else time.thread_time

    def plain(self, *listeners: CommandListener, uri: str | None = None) -> Any:
        """The collection "things" of a plain client."""
        client_type: Any = _PLAIN[self.kind]
        return self._open(client_type, uri, event_listeners=list(listeners))

    def ours(self, settings: Settings, uri: str | None = None) -> Any:
        """The collection "things" of one of our clients."""
        return self._open(_OURS[self.kind], uri, qb=settings)

    def _open(self, client_type: Any, uri: str | None, **options: Any) -> Any:
        if self.kind == "motor":
            options["io_loop"] = self.loop
        client = self._make(client_type, uri or self.uri, options)
        self._clients.append(client)
        return client[self.database].things

    def _make(self, client_type: Any, uri: str, options: dict[str, Any]) -> Any:
        if self.loop is None:
            return client_type(uri, **options)
        return self.loop.run_until_complete(_made(client_type, uri, options))

    def result(self, value: Any) -> Any:
        """A call's result: waits for it if it is a coroutine or a Future."""
        if self.loop is None or not inspect.isawaitable(value):
            return value
        return self.loop.run_until_complete(_awaited(value))

    def repeat(self, call: Callable[[], Any]) -> Callable[[int], Any]:
        """Something that calls so many times, waiting for each."""
        if self.loop is None:

            def run(calls: int) -> None:
                for _ in itertools.repeat(None, calls):
                    call()

            return run

        async def run_async(calls: int) -> None:
            for _ in itertools.repeat(None, calls):
                await call()

        return run_async

    def warm(self, collection: Any, call: Callable[[], Any]) -> None:
        """Calls until the call is a hit; the stream is trusted and facts are known from then on."""
        qb = client_of(collection).qb
        for _ in range(100):
            self.result(call())
            self.result(qb.caught_up())
            before = qb.stats().cache.hits
            self.result(call())
            if qb.stats().cache.hits > before:
                return
        raise RuntimeError(f"no hit: {qb.stats()}")

    def counter(self, collection: Any, name: str) -> Callable[[], int]:
        """What a client of ours has counted so far: its "hits" or "misses"."""
        engine = client_of(collection)._qb.engine

        def count() -> int:
            counted: int = getattr(engine, name)
            return counted

        return count

    def close(self) -> None:
        """Closes every client, and the loop."""
        for client in self._clients:
            self.result(client.close())
        if self.loop is not None:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()


async def _made(client_type: Any, uri: str, options: dict[str, Any]) -> Any:
    return client_type(uri, **options)


async def _awaited(value: Any) -> Any:
    return await value


def settled_reads(collection: Any, ids: Iterable[int]) -> None:
    """Keeps an answer to find_one by each `_id`, as if the server had sent it.

    The collection's client must have been warmed.
    """
    client = client_of(collection)
    engine = client._qb.engine
    name = f"{collection.database.name}.{collection.name}"
    scope = engine.scope(name, None, None)
    now_s = time.monotonic()
    for identity in ids:
        op = ReadOp("find_one", name, {"_id": identity}, None, None, 0, -1)
        lead = scope.begin_read(op, DEFAULT_CODEC_OPTIONS, now_s)
        if type(lead) is not Lead:
            raise RuntimeError(f"not kept: {client.qb.stats()}")
        data = bson.encode(document(identity))
        lead.address = scope.trust.primary.address
        scope.settle_read(lead, now_s, documents=1, size=len(data), data=data)


def client_of(collection: Any) -> Any:
    """The client a collection belongs to."""
    return collection.database.client


@contextmanager
def opened(kind: str, uri: str, database: str) -> Iterator[Bench]:
    """A Bench, closed at the end."""
    bench = Bench(kind, uri, database)
    try:
        yield bench
    finally:
        bench.close()
