"""OptimizedAsyncMongoClient: is-a pymongo.AsyncMongoClient. One loop; methods are coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pymongo.asynchronous.collection
import pymongo.asynchronous.database
from pymongo import AsyncMongoClient
from pymongo.typings import _DocumentType

from ..core.engine import Scope
from ..core.lone_reads import LoneRead
from ..core.point_keys import plain_id
from ..records import ReadOp
from ..settings import Settings
from . import arguments
from .arguments import under_timeout
from .async_cursors import AsyncCommandCursor, AsyncCursor, AsyncReplyCursor, decide
from .async_point_reads import find_point, left, look_after, new_waiter, send_lone, settled
from .coalesced import CLOSING_S
from .coalesced_async import bring, flush, is_gone, observed_write, read_indexes, send
from .cursors import Reading, call_bypass, deliver, served_one
from .fresh_cursors import fresh_cursor, is_filter_alone
from .handle import AsyncHandle
from .listener import CURRENT
from .opened import AsyncCheckout
from .parts import LoopParts, bound_async_session
from .passed_reads import NOT_SIMPLE, pass_one_async
from .point_reads import point_op
from .read_errors import programs_errors
from .retried import retried_async
from .values import Aggregation, ValueRead, answered
from .writes import Write

__all__ = [
    "AsyncCollection",
    "AsyncCommandCursor",
    "AsyncCursor",
    "AsyncDatabase",
    "OptimizedAsyncMongoClient",
]

monotonic = time.monotonic
_Driver = pymongo.asynchronous.collection.AsyncCollection


async def read_value(collection: Any, read: ValueRead, session: Any, call: Any) -> Any:
    """A read whose answer is a value: from memory, from another's flight, or from the driver.

    call: the driver's method, given the collection object to call it on and, where it is another
    than the program's, the filter to send.
    """
    scope: Scope = collection._qb
    started_s = monotonic()
    bypass = read.bypass(session, bound_async_session())
    if bypass is None:
        entry = scope.hit(read.op, collection.codec_options, started_s)
        if entry is not None and (value := read.unpack(entry.data)) is not None:
            scope.served(entry, started_s, monotonic())
            if collection.database.client._qb.turn.over():
                await asyncio.sleep(0)
            return value[0]
    data, ticket = await decide(
        scope, read.op, collection.codec_options, started_s, bypass, collection._timeout
    )
    if data is not None and (value := read.unpack(data)) is not None:
        scope.settle_read(ticket, monotonic(), documents=1, size=len(data))
        return value[0]
    token = CURRENT.set(ticket)
    try:
        target = read.target(_Driver, collection, ticket)
        kept = None
        if target is not None:
            with programs_errors(read.codec):
                answer = await call(target, ticket.send.filter)
            kept = read.kept(answer)
        sent, data = (
            (await call(collection, *read.rewritten(ticket)), None) if kept is None else kept
        )
    except BaseException as error:
        deliver(read.failed(ticket, error))
        raise
    finally:
        CURRENT.reset(token)
    deliver(read.settled(ticket, data))
    return sent


async def open_aggregation(
    collection: Any, aggregation: Aggregation, ticket: Any, call: Any
) -> Any:
    """Sends an aggregation under its ticket and returns its cursor.

    call: the driver's method, given the collection object to call it on and, where it is another
    than the program's, the pipeline to send.
    """
    reading = aggregation.reading
    reading.take(ticket)
    token = CURRENT.set(ticket)
    started_s = monotonic()
    try:
        cursor = sent = None
        target = aggregation.target(_Driver, collection, ticket)
        if target is not None:
            with programs_errors(collection.codec_options):
                sent = await call(target, ticket.send.pipeline)
            cursor = aggregation.opened(sent, AsyncCommandCursor, collection, raw=True)
        if cursor is None:
            sent = await call(collection, *aggregation.rewritten(ticket))
            cursor = aggregation.opened(sent, AsyncCommandCursor, collection, raw=False)
    except BaseException as error:
        deliver(reading.failed(error, monotonic() - started_s))
        raise
    finally:
        CURRENT.reset(token)
    if cursor is None:
        deliver(reading.finish(complete=False))
        return sent
    deliver(reading.replied(cursor, monotonic() - started_s, len(cursor._data)))
    return cursor


class AsyncCollection(_Driver[_DocumentType]):
    """A collection whose reads may be answered from memory, and whose calls are observed."""

    _qb: Scope | None

    def __init__(self, database: Any, name: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(database, name, *args, **kwargs)
        engine = database.client._qb.engine
        self._qb = (
            None
            if engine is None
            else engine.scope(
                self._full_name,
                arguments.read_variant(self.read_preference, self.read_concern),
                self.read_concern.level,
            )
        )

    def __getitem__(self, name: str) -> AsyncCollection[_DocumentType]:
        return AsyncCollection(
            self._database,
            f"{self._name}.{name}",
            False,
            self.codec_options,
            self.read_preference,
            self.write_concern,
            self.read_concern,
        )

    if not TYPE_CHECKING:
        # Type checkers see the driver's own signatures.

        @functools.wraps(_Driver.with_options)
        def with_options(self, *args, **kwargs):
            return _ours(self._database, super().with_options(*args, **kwargs))

        @functools.wraps(_Driver.find_one)
        async def find_one(self, filter=None, *args, **kwargs):
            scope = self._qb
            if scope is None or not scope.active:
                return await super().find_one(filter, *args, **kwargs)
            points = scope.points
            missed = False
            if type(filter) is dict and not args:
                if kwargs:
                    stats = scope.simple.begin(filter, kwargs)
                    if stats is not NOT_SIMPLE:
                        session = kwargs["session"]
                        return await pass_one_async(
                            AsyncReplyCursor, self, scope, filter, session, stats
                        )
                elif call_bypass(bound_async_session()) is None:
                    started_s = monotonic()
                    codec = self._codec_options
                    asked = plain_id(filter) if scope.options is None else None
                    if scope.trust is not None:
                        if asked is not None:
                            entry = scope.hit_id(asked, codec, started_s)
                        else:
                            name, more = scope.namespace, scope.options
                            op = ReadOp("find_one", name, filter, None, None, 0, -1, more)
                            entry = scope.hit(op, codec, started_s)
                        if entry is not None:
                            try:
                                document = served_one(entry, codec)
                            except Exception as error:
                                scope.engine.fault("decode", error)
                            else:
                                scope.served(entry, started_s, monotonic())
                                if self._database.client._qb.turn.over():
                                    await asyncio.sleep(0)
                                return document
                        missed = True
                    if (
                        asked is not None
                        and points is not None
                        and not under_timeout(self._timeout)
                    ):
                        read = points.join(scope, asked, codec, new_waiter, started_s)
                        if type(read) is LoneRead:
                            return await send_lone(self, read)
                        if read is not None:
                            # What is kept while it waits is more for garbage collection to do.
                            asked = kwargs = None
                            try:
                                if read.gathering.timer is None:
                                    look_after(self, points, read.gathering)
                                if read.stats is not None and read.stats.place_due:
                                    points.note_place(read)
                                outcome = await read.waiter
                            except BaseException:
                                left(points, read)
                                raise
                            if type(outcome) is dict:
                                return outcome
                            if outcome == b"":
                                return None
                            return await settled(self, points, read, outcome, (), {})
            if points is not None:
                op = point_op(
                    scope, points, filter, args, kwargs, bound_async_session(), self._timeout
                )
                if op is not None:
                    return await find_point(self, scope, op, args, kwargs, missed=missed)
            if scope.cache is None and not args and not kwargs and type(filter) is dict:
                stats = scope.simple.begin(filter, kwargs)
                if stats is not NOT_SIMPLE:
                    return await pass_one_async(AsyncReplyCursor, self, scope, filter, None, stats)
            if filter is not None and not isinstance(filter, Mapping):
                filter = {"_id": filter}
            cursor = self.find(filter, *args, **kwargs)
            reading = cursor._qb
            if reading is not None:  # switched off in between
                reading.kind = "find_one"
                reading.consume = True
                reading.missed = missed
            async for document in cursor.limit(-1):
                return document
            return None

        @functools.wraps(_Driver.find)
        def find(self, *args, **kwargs):
            scope = self._qb
            if scope is None or not scope.active:
                return AsyncCursor(self, *args, **kwargs)
            if is_filter_alone(args, kwargs):
                cursor = fresh_cursor(AsyncCursor, self, scope, args[0])
            else:
                cursor = AsyncCursor(self, *args, **kwargs)
            cursor._qb = Reading(scope)
            cursor._qb_turn = self._database.client._qb.turn
            return cursor

        @functools.wraps(_Driver.count_documents)
        async def count_documents(self, filter, session=None, comment=None, **kwargs):
            def call(target, filter=filter):
                return _Driver.count_documents(target, filter, session, comment, **kwargs)

            scope = self._qb
            if scope is None or not scope.active:
                return await call(self)
            read = ValueRead.count(scope, self.codec_options, filter, comment, kwargs)
            if read is None:
                return await call(self)
            return await read_value(self, read, session, call)

        @functools.wraps(_Driver.estimated_document_count)
        async def estimated_document_count(self, comment=None, **kwargs):
            def call(target):
                return _Driver.estimated_document_count(target, comment, **kwargs)

            scope = self._qb
            if scope is None or not scope.active:
                return await call(self)
            read = ValueRead.estimate(scope, self.codec_options, comment, kwargs)
            return await read_value(self, read, None, call)

        @functools.wraps(_Driver.distinct)
        async def distinct(self, key, filter=None, session=None, comment=None, hint=None, **kwargs):
            filter = arguments.distinct_filter(filter, kwargs)

            def call(target, filter=filter):
                return _Driver.distinct(target, key, filter, session, comment, hint, **kwargs)

            scope = self._qb
            if scope is None or not scope.active:
                return await call(self)
            read = ValueRead.distinct(scope, self.codec_options, key, filter, comment, hint, kwargs)
            if read is None:
                return await call(self)
            return await read_value(self, read, session, call)

        @functools.wraps(_Driver.aggregate)
        async def aggregate(self, pipeline, session=None, let=None, comment=None, **kwargs):
            def call(target, pipeline=pipeline):
                return _Driver.aggregate(target, pipeline, session, let, comment, **kwargs)

            scope = self._qb
            if scope is None or not scope.active:
                return await call(self)
            aggregation = Aggregation(scope, pipeline, let, comment, kwargs)
            op = aggregation.op
            if op is None:
                return await call(self)
            started_s = monotonic()
            bypass = aggregation.bypass(session, bound_async_session())
            if bypass is None:
                entry = scope.hit(op, self.codec_options, started_s)
                if entry is not None:
                    cursor = answered(scope, AsyncCommandCursor, self, entry.data)
                    if cursor is not None:
                        scope.served(entry, started_s, monotonic())
                        if self._database.client._qb.turn.over():
                            await asyncio.sleep(0)
                        return cursor
            data, ticket = await decide(
                scope, op, self.codec_options, started_s, bypass, self._timeout
            )
            if data is not None:
                cursor = answered(scope, AsyncCommandCursor, self, data)
                if cursor is not None:
                    scope.settle_read(
                        ticket, monotonic(), documents=len(cursor._data), size=len(data)
                    )
                    return cursor
            return await open_aggregation(self, aggregation, ticket, call)

        insert_one = observed_write("insert_one")
        insert_many = observed_write("insert_many")
        update_one = observed_write("update_one")
        update_many = observed_write("update_many")
        replace_one = observed_write("replace_one")
        delete_one = observed_write("delete_one")
        delete_many = observed_write("delete_many")
        find_one_and_update = observed_write("find_one_and_update")
        find_one_and_replace = observed_write("find_one_and_replace")
        find_one_and_delete = observed_write("find_one_and_delete")
        bulk_write = observed_write("bulk_write")


def _ours(database: Any, made: Any) -> AsyncCollection[Any]:
    """A collection object of the driver's as one of ours."""
    return AsyncCollection(
        database,
        made.name,
        False,
        made.codec_options,
        made.read_preference,
        made.write_concern,
        made.read_concern,
    )


def _our_database(client: Any, made: Any) -> AsyncDatabase[Any]:
    """A database object of the driver's as one of ours."""
    return AsyncDatabase(
        client,
        made.name,
        made.codec_options,
        made.read_preference,
        made.write_concern,
        made.read_concern,
    )


_DriverDatabase = pymongo.asynchronous.database.AsyncDatabase


class AsyncDatabase(_DriverDatabase[_DocumentType]):
    """A database whose collections are ours."""

    def __getitem__(self, name: str) -> AsyncCollection[_DocumentType]:
        return AsyncCollection(self, name)

    if not TYPE_CHECKING:

        @functools.wraps(_DriverDatabase.get_collection)
        def get_collection(self, *args, **kwargs):
            return _ours(self, super().get_collection(*args, **kwargs))

        @functools.wraps(_DriverDatabase.create_collection)
        async def create_collection(self, *args, **kwargs):
            return _ours(self, await super().create_collection(*args, **kwargs))

        @functools.wraps(_DriverDatabase.with_options)
        def with_options(self, *args, **kwargs):
            return _our_database(self.client, super().with_options(*args, **kwargs))


class OptimizedAsyncMongoClient(AsyncMongoClient[_DocumentType]):
    """An AsyncMongoClient whose reads may be answered from memory and whose calls are profiled.

    Takes what AsyncMongoClient takes, and qb: Settings, or None for those of the environment.
    Everything that is ours is behind the one attribute `qb`; a database of that name is
    client["qb"].
    """

    _qb: LoopParts

    def __init__(self, *args: Any, qb: Settings | None = None, **kwargs: Any) -> None:
        self._qb = LoopParts(qb, args, kwargs, threads=False)
        super().__init__(*args, **kwargs)
        self._qb.attach(self)
        engine = self._qb.engine
        if engine is not None and engine.cache is not None:
            # In the place of the method, so that it costs nothing where there is no cache.
            self._retry_internal: Any = retried_async(AsyncMongoClient, engine, weakref.ref(self))
        self._qb.watch_with(AsyncMongoClient)
        self._qb.send_with(send, bring, read_indexes, is_gone)

    @property
    def qb(self) -> AsyncHandle:
        """Everything that qbmongo adds."""
        return AsyncHandle(self._qb)

    def __getitem__(self, name: str) -> AsyncDatabase[_DocumentType]:
        return AsyncDatabase(self, name)

    async def close(self) -> None:
        """Closes the driver's client and what we opened beside it. Twice is harmless."""
        try:
            if self._qb.sender is not None:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(flush(self._qb.sender), CLOSING_S)
            if self._qb.watcher is not None:
                await self._qb.watcher.close()
        finally:
            await super().close()
            self._qb.closed()

    if not TYPE_CHECKING:

        async def _conn_for_writes(self, *args, **kwargs):
            checkout = await super()._conn_for_writes(*args, **kwargs)
            engine = self._qb.engine
            return (
                checkout
                if engine is None or engine.cache is None
                else AsyncCheckout(engine, checkout)
            )

        async def _conn_for_reads(self, *args, **kwargs):
            checkout = await super()._conn_for_reads(*args, **kwargs)
            engine = self._qb.engine
            return (
                checkout
                if engine is None or engine.cache is None
                else AsyncCheckout(engine, checkout)
            )

        @functools.wraps(AsyncMongoClient.get_database)
        def get_database(self, *args, **kwargs):
            return _our_database(self, super().get_database(*args, **kwargs))

        @functools.wraps(AsyncMongoClient.get_default_database)
        def get_default_database(self, *args, **kwargs):
            return _our_database(self, super().get_default_database(*args, **kwargs))

        @functools.wraps(AsyncMongoClient.bulk_write)
        async def bulk_write(self, *args, **kwargs):
            engine = self._qb.engine
            if engine is None:
                return await super().bulk_write(*args, **kwargs)
            models = args or (kwargs.get("models"),)
            write = Write(engine.scope(arguments.CLIENT_BULK), "bulk_write", models, kwargs)
            try:
                result = await super().bulk_write(*args, **kwargs)
            except BaseException:
                write.failed()
                raise
            write.done(result)
            return result
