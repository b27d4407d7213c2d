"""OptimizedMongoClient: is-a pymongo.MongoClient. Used from many threads; blocks."""

from __future__ import annotations

import functools
import time
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pymongo.collection
import pymongo.database
from pymongo import MongoClient
from pymongo.typings import _DocumentType

from ..core.engine import Scope
from ..core.point_keys import plain_id
from ..records import ReadOp
from ..settings import Settings
from . import arguments
from .arguments import under_timeout
from .batch_threads import BatchThreads
from .coalesced import CLOSING_S
from .coalesced_sync import bring, flush, is_gone, observed_write, read_indexes, send
from .cursors import Reading, call_bypass, deliver, served_one
from .fresh_cursors import fresh_cursor, is_filter_alone
from .handle import SyncHandle
from .listener import CURRENT
from .opened import Checkout
from .parts import Parts, bound_sync_session
from .passed_reads import NOT_SIMPLE, pass_one
from .point_reads import point_op
from .read_errors import programs_errors
from .retried import retried
from .sync_cursors import CommandCursor, Cursor, ReplyCursor, decide
from .sync_point_reads import find_point, join_others
from .values import Aggregation, ValueRead, answered
from .writes import Write

__all__ = ["Collection", "CommandCursor", "Cursor", "Database", "OptimizedMongoClient"]

monotonic = time.monotonic
_Driver = pymongo.collection.Collection


def read_value(collection: Any, read: ValueRead, session: Any, call: Any) -> Any:
    """A read whose answer is a value: from memory, from another's flight, or from the driver.

    call: the driver's method, given the collection object to call it on and, where it is another
    than the program's, the filter to send.
    """
    scope: Scope = collection._qb
    started_s = monotonic()
    bypass = read.bypass(session, bound_sync_session())
    if bypass is None:
        entry = scope.hit(read.op, collection.codec_options, started_s)
        if entry is not None and (value := read.unpack(entry.data)) is not None:
            scope.served(entry, started_s, monotonic())
            return value[0]
    data, ticket = decide(
        scope, read.op, collection.codec_options, started_s, bypass, collection._timeout
    )
    if data is not None and (value := read.unpack(data)) is not None:
        scope.settle_read(ticket, monotonic(), documents=1, size=len(data))
        return value[0]
    return send_value(read, ticket, collection, call)


def send_value(read: ValueRead, ticket: Any, collection: Any, call: Any) -> Any:
    """Sends a value read under its ticket; blocks."""
    token = CURRENT.set(ticket)
    try:
        target = read.target(_Driver, collection, ticket)
        kept = None
        if target is not None:
            with programs_errors(read.codec):
                answer = call(target, ticket.send.filter)
            kept = read.kept(answer)
        value, data = (call(collection, *read.rewritten(ticket)), None) if kept is None else kept
    except BaseException as error:
        deliver(read.failed(ticket, error))
        raise
    finally:
        CURRENT.reset(token)
    deliver(read.settled(ticket, data))
    return value


def open_aggregation(collection: Any, aggregation: Aggregation, ticket: Any, call: Any) -> Any:
    """Sends an aggregation under its ticket and returns its cursor; blocks.

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
                sent = call(target, ticket.send.pipeline)
            cursor = aggregation.opened(sent, CommandCursor, collection, raw=True)
        if cursor is None:
            sent = call(collection, *aggregation.rewritten(ticket))
            cursor = aggregation.opened(sent, CommandCursor, collection, raw=False)
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


class Collection(_Driver[_DocumentType]):
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

    def __getitem__(self, name: str) -> Collection[_DocumentType]:
        return Collection(
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
        def find_one(self, filter=None, *args, **kwargs):
            scope = self._qb
            if scope is None or not scope.active:
                return super().find_one(filter, *args, **kwargs)
            points = scope.points
            missed = False
            if type(filter) is dict and not args:
                if kwargs:
                    stats = scope.simple.begin(filter, kwargs)
                    if stats is not NOT_SIMPLE:
                        return pass_one(ReplyCursor, self, scope, filter, kwargs["session"], stats)
                elif call_bypass(bound_sync_session()) is None:
                    started_s = monotonic()
                    asked = plain_id(filter) if scope.options is None else None
                    if scope.trust is not None:
                        if asked is not None:
                            entry = scope.hit_id(asked, self._codec_options, started_s)
                        else:
                            name, more = scope.namespace, scope.options
                            op = ReadOp("find_one", name, filter, None, None, 0, -1, more)
                            entry = scope.hit(op, self._codec_options, started_s)
                        if entry is not None:
                            try:
                                document = served_one(entry, self._codec_options)
                            except Exception as error:
                                scope.engine.fault("decode", error)
                            else:
                                scope.served(entry, started_s, monotonic())
                                return document
                        missed = True
                    if (
                        asked is not None
                        and points is not None
                        and not under_timeout(self._timeout)
                    ):
                        joined = join_others(self, points, scope, asked, started_s)
                        if joined is not None:
                            return joined[0]
            if points is not None:
                bound = bound_sync_session()
                op = point_op(scope, points, filter, args, kwargs, bound, self._timeout)
                if op is not None:
                    return find_point(self, scope, op, args, kwargs, missed=missed)
            if scope.cache is None and not args and not kwargs and type(filter) is dict:
                stats = scope.simple.begin(filter, kwargs)
                if stats is not NOT_SIMPLE:
                    return pass_one(ReplyCursor, self, scope, filter, None, stats)
            if filter is not None and not isinstance(filter, Mapping):
                filter = {"_id": filter}
            cursor = self.find(filter, *args, **kwargs)
            reading = cursor._qb
            if reading is not None:  # switched off in between
                reading.kind = "find_one"
                reading.consume = True
                reading.missed = missed
            for document in cursor.limit(-1):
                return document
            return None

        @functools.wraps(_Driver.find)
        def find(self, *args, **kwargs):
            scope = self._qb
            if scope is None or not scope.active:
                return Cursor(self, *args, **kwargs)
            if is_filter_alone(args, kwargs):
                cursor = fresh_cursor(Cursor, self, scope, args[0])
            else:
                cursor = Cursor(self, *args, **kwargs)
            cursor._qb = Reading(scope)
            return cursor

        @functools.wraps(_Driver.count_documents)
        def count_documents(self, filter, session=None, comment=None, **kwargs):
            def call(target, filter=filter):
                return _Driver.count_documents(target, filter, session, comment, **kwargs)

            scope = self._qb
            if scope is None or not scope.active:
                return call(self)
            read = ValueRead.count(scope, self.codec_options, filter, comment, kwargs)
            return call(self) if read is None else read_value(self, read, session, call)

        @functools.wraps(_Driver.estimated_document_count)
        def estimated_document_count(self, comment=None, **kwargs):
            def call(target):
                return _Driver.estimated_document_count(target, comment, **kwargs)

            scope = self._qb
            if scope is None or not scope.active:
                return call(self)
            read = ValueRead.estimate(scope, self.codec_options, comment, kwargs)
            return read_value(self, read, None, call)

        @functools.wraps(_Driver.distinct)
        def distinct(self, key, filter=None, session=None, comment=None, hint=None, **kwargs):
            filter = arguments.distinct_filter(filter, kwargs)

            def call(target, filter=filter):
                return _Driver.distinct(target, key, filter, session, comment, hint, **kwargs)

            scope = self._qb
            if scope is None or not scope.active:
                return call(self)
            read = ValueRead.distinct(scope, self.codec_options, key, filter, comment, hint, kwargs)
            return call(self) if read is None else read_value(self, read, session, call)

        @functools.wraps(_Driver.aggregate)
        def aggregate(self, pipeline, session=None, let=None, comment=None, **kwargs):
            def call(target, pipeline=pipeline):
                return _Driver.aggregate(target, pipeline, session, let, comment, **kwargs)

            scope = self._qb
            if scope is None or not scope.active:
                return call(self)
            aggregation = Aggregation(scope, pipeline, let, comment, kwargs)
            op = aggregation.op
            if op is None:
                return call(self)
            started_s = monotonic()
            bypass = aggregation.bypass(session, bound_sync_session())
            if bypass is None:
                entry = scope.hit(op, self.codec_options, started_s)
                if entry is not None:
                    cursor = answered(scope, CommandCursor, self, entry.data)
                    if cursor is not None:
                        scope.served(entry, started_s, monotonic())
                        return cursor
            data, ticket = decide(scope, op, self.codec_options, started_s, bypass, self._timeout)
            if data is not None:
                cursor = answered(scope, CommandCursor, self, data)
                if cursor is not None:
                    scope.settle_read(
                        ticket, monotonic(), documents=len(cursor._data), size=len(data)
                    )
                    return cursor
            return open_aggregation(self, aggregation, ticket, call)

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


def _ours(database: Any, made: Any) -> Collection[Any]:
    """A collection object of the driver's as one of ours."""
    return Collection(
        database,
        made.name,
        False,
        made.codec_options,
        made.read_preference,
        made.write_concern,
        made.read_concern,
    )


def _our_database(client: Any, made: Any) -> Database[Any]:
    """A database object of the driver's as one of ours."""
    return Database(
        client,
        made.name,
        made.codec_options,
        made.read_preference,
        made.write_concern,
        made.read_concern,
    )


_DriverDatabase = pymongo.database.Database


class Database(_DriverDatabase[_DocumentType]):
    """A database whose collections are ours."""

    def __getitem__(self, name: str) -> Collection[_DocumentType]:
        return Collection(self, name)

    if not TYPE_CHECKING:

        @functools.wraps(_DriverDatabase.get_collection)
        def get_collection(self, *args, **kwargs):
            return _ours(self, super().get_collection(*args, **kwargs))

        @functools.wraps(_DriverDatabase.create_collection)
        def create_collection(self, *args, **kwargs):
            return _ours(self, super().create_collection(*args, **kwargs))

        @functools.wraps(_DriverDatabase.with_options)
        def with_options(self, *args, **kwargs):
            return _our_database(self.client, super().with_options(*args, **kwargs))


class OptimizedMongoClient(MongoClient[_DocumentType]):
    """A pymongo.MongoClient whose reads may be answered from memory and whose calls are profiled.

    Takes what MongoClient takes, and qb: Settings, or None for those of the environment. Everything
    that is ours is behind the one attribute `qb`; a database of that name is client["qb"].
    """

    _qb: Parts

    def __init__(self, *args: Any, qb: Settings | None = None, **kwargs: Any) -> None:
        self._qb = Parts(qb, args, kwargs, threads=True)
        super().__init__(*args, **kwargs)
        self._qb.attach(self)
        engine = self._qb.engine
        if engine is not None and engine.cache is not None:
            # In the place of the method, so that it costs nothing where there is no cache.
            self._retry_internal: Any = retried(MongoClient, engine, weakref.ref(self))
        self._qb.watch_with(MongoClient)
        self._qb.send_with(send, bring, read_indexes, is_gone, BatchThreads())

    @property
    def qb(self) -> SyncHandle:
        """Everything that qbmongo adds."""
        return SyncHandle(self._qb)

    def __getitem__(self, name: str) -> Database[_DocumentType]:
        return Database(self, name)

    def close(self) -> None:
        """Closes the driver's client and what we opened beside it. Twice is harmless."""
        try:
            if self._qb.sender is not None:
                flush(self._qb.sender, CLOSING_S)
            if self._qb.watcher is not None:
                self._qb.watcher.close()
        finally:
            super().close()
            self._qb.closed()

    if not TYPE_CHECKING:

        def _conn_for_writes(self, *args, **kwargs):
            checkout = super()._conn_for_writes(*args, **kwargs)
            engine = self._qb.engine
            return (
                checkout if engine is None or engine.cache is None else Checkout(engine, checkout)
            )

        def _conn_for_reads(self, *args, **kwargs):
            checkout = super()._conn_for_reads(*args, **kwargs)
            engine = self._qb.engine
            return (
                checkout if engine is None or engine.cache is None else Checkout(engine, checkout)
            )

        @functools.wraps(MongoClient.get_database)
        def get_database(self, *args, **kwargs):
            return _our_database(self, super().get_database(*args, **kwargs))

        @functools.wraps(MongoClient.get_default_database)
        def get_default_database(self, *args, **kwargs):
            return _our_database(self, super().get_default_database(*args, **kwargs))

        @functools.wraps(MongoClient.bulk_write)
        def bulk_write(self, *args, **kwargs):
            engine = self._qb.engine
            if engine is None:
                return super().bulk_write(*args, **kwargs)
            models = args or (kwargs.get("models"),)
            write = Write(engine.scope(arguments.CLIENT_BULK), "bulk_write", models, kwargs)
            try:
                result = super().bulk_write(*args, **kwargs)
            except BaseException:
                write.failed()
                raise
            write.done(result)
            return result
