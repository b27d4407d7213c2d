"""OptimizedClient: is-a motor.motor_asyncio.AsyncIOMotorClient.

Methods return Futures and run even if nobody awaits them. The driver's calls run in executor
threads; the engine is asked in the loop's thread, so that a hit costs no thread.

Motor reached its end of life on 2026-05-14; this module and the other motor_*.py can be deleted
without touching others.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import motor.frameworks.asyncio as executor
import motor.motor_asyncio as driver
import pymongo.collection
import pymongo.database
from motor.core import AgnosticRawBatchCommandCursor, AgnosticRawBatchCursor
from motor.metaprogramming import (
    create_class_with_framework,
    unwrap_args_session,
    unwrap_kwargs_session,
)
from pymongo import MongoClient

from ..core.engine import Scope
from ..core.point_keys import plain_id
from ..records import ReadOp
from ..settings import Settings
from . import arguments
from .arguments import under_timeout
from .coalesced import CLOSING_S
from .coalesced_motor import bring, is_gone, observed_write, read_indexes, send
from .coalesced_sync import flush
from .cursors import Reading, call_bypass, served_one
from .fresh_cursors import fresh_cursor, is_filter_alone
from .handle import MotorHandle
from .motor_cursors import AsyncIOMotorCursor, AsyncIOMotorLatentCommandCursor
from .motor_futures import done, start
from .motor_point_reads import find_point, join_others
from .parts import LoopParts, bound_sync_session
from .passed_reads import NOT_SIMPLE, pass_one
from .point_reads import point_op
from .pymongo_sync import open_aggregation, send_value
from .sync_cursors import CommandCursor, Cursor, ReplyCursor
from .values import Aggregation, ValueRead, answered
from .writes import Write

__all__ = [
    "AsyncIOMotorCollection",
    "AsyncIOMotorCursor",
    "AsyncIOMotorDatabase",
    "AsyncIOMotorLatentCommandCursor",
    "OptimizedClient",
]

monotonic = time.monotonic

# Motor makes these classes at first use and names them after the module of whoever asked: they are
# the driver's, also where it is our collection that asks first.
for _driver_class in (AgnosticRawBatchCursor, AgnosticRawBatchCommandCursor):
    create_class_with_framework(_driver_class, executor, driver.__name__)
_Sync = pymongo.collection.Collection


class AsyncIOMotorCollection(driver.AsyncIOMotorCollection):  # type: ignore[type-arg]
    """A collection whose reads may be answered from memory, and whose calls are observed."""

    def __init__(self, database: Any, name: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(database, name, *args, **kwargs)
        engine = database.client._qb.engine
        delegate = self.delegate
        self._qb: Scope | None = (
            None
            if engine is None
            else engine.scope(
                delegate.full_name,
                arguments.read_variant(delegate.read_preference, delegate.read_concern),
                delegate.read_concern.level,
            )
        )

    def __getitem__(self, name: str) -> Any:
        return AsyncIOMotorCollection(
            self.database, self.name + "." + name, _delegate=self.delegate[name]
        )

    if not TYPE_CHECKING:
        # Type checkers see the driver's own signatures.

        @functools.wraps(driver.AsyncIOMotorCollection.find_one)
        def find_one(self, filter=None, *args, **kwargs):
            scope = self._qb
            if scope is None or not scope.active:
                return super().find_one(filter, *args, **kwargs)
            delegate = self.delegate
            codec = delegate._codec_options
            points = scope.points
            missed = False
            if type(filter) is dict and not args:
                if kwargs:
                    stats = scope.simple.begin(filter, kwargs)
                    if stats is not NOT_SIMPLE:
                        session = unwrap_kwargs_session(kwargs)["session"]
                        return self._qb_passed(scope, filter, session, stats)
                elif call_bypass(bound_sync_session()) is None:
                    started_s = monotonic()
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
                                return done(self, document)
                        missed = True
                    if (
                        asked is not None
                        and points is not None
                        and not under_timeout(delegate._timeout)
                    ):
                        future = join_others(self, points, scope, asked, started_s)
                        if future is not None:
                            return future
            if points is not None:
                op = point_op(
                    scope, points, filter, args, kwargs, bound_sync_session(), delegate._timeout
                )
                if op is not None:
                    return find_point(self, scope, op, args, kwargs, missed=missed)
            if scope.cache is None and not args and not kwargs and type(filter) is dict:
                stats = scope.simple.begin(filter, kwargs)
                if stats is not NOT_SIMPLE:
                    return self._qb_passed(scope, filter, None, stats)
            return self._qb_read_one(scope, filter, args, kwargs, missed)

        def _qb_passed(self, scope, filter, session, stats):
            """A find_one that is passed through, as a Future."""
            loop, delegate = self.get_io_loop(), self.delegate
            return executor.run_on_executor(
                loop, pass_one, ReplyCursor, delegate, scope, filter, session, stats
            )

        def _qb_read_one(self, scope, filter, args, kwargs, missed):
            """A find_one of any kind, by a cursor, as a Future. missed: a kept answer to this very
            read has just been asked for."""
            try:
                wanted = filter
                if filter is not None and not isinstance(filter, Mapping):
                    wanted = {"_id": filter}
                args_given, kwargs_given = unwrap_args_session(args), unwrap_kwargs_session(kwargs)
                cursor = Cursor(self.delegate, wanted, *args_given, **kwargs_given)
                cursor.limit(-1)
            except Exception:
                # Whatever is wrong with the arguments, the driver says it in its Future.
                return super().find_one(filter, *args, **kwargs)
            cursor._qb = reading = Reading(scope, "find_one")
            reading.consume = True
            reading.missed = missed

            def begin():
                join = reading.begin(cursor, bound_sync_session())
                reading.missed = False
                return reading.ticket if join is None else join

            def decode(data):
                count = reading.serve(cursor, data)
                return None if count is None else (cursor._data[0] if count else None, count)

            def job(ticket):
                reading.take(ticket)
                return next(cursor, None)

            decision = begin()
            if cursor._id == 0:
                return done(self, cursor._data[0] if cursor._data else None)
            if decision is None:
                return super().find_one(filter, *args, **kwargs)
            first = [decision]
            loop = self.get_io_loop()
            return start(loop, scope, lambda: first.pop() if first else begin(), decode, job)

        @functools.wraps(driver.AsyncIOMotorCollection.find)
        def find(self, *args, **kwargs):
            scope = self._qb
            active = scope is not None and scope.active
            if active and is_filter_alone(args, kwargs):
                cursor = fresh_cursor(Cursor, self.delegate, scope, args[0])
            else:
                cursor = Cursor(
                    self.delegate, *unwrap_args_session(args), **unwrap_kwargs_session(kwargs)
                )
            if active:
                cursor._qb = Reading(scope)
            return AsyncIOMotorCursor(cursor, self)

        def _qb_value(self, read, session, call):
            """A read whose answer is a value, as a Future. call: as in send_value."""
            scope = self._qb
            delegate = self.delegate
            codec = delegate.codec_options
            started_s = monotonic()
            bypass = read.bypass(session, bound_sync_session())
            if bypass is None:
                entry = scope.hit(read.op, codec, started_s)
                if entry is not None and (value := read.unpack(entry.data)) is not None:
                    scope.served(entry, started_s, monotonic())
                    return done(self, value[0])

            def decode(data):
                value = read.unpack(data)
                return None if value is None else (value[0], 1)

            return start(
                self.get_io_loop(),
                scope,
                lambda: scope.begin_read(
                    read.op,
                    codec,
                    started_s,
                    bypass=bypass,
                    share=not arguments.under_timeout(delegate._timeout),
                ),
                decode,
                lambda ticket: send_value(read, ticket, delegate, call),
            )

        @functools.wraps(driver.AsyncIOMotorCollection.count_documents)
        def count_documents(self, filter, session=None, comment=None, **kwargs):
            scope = self._qb
            if scope is None or not scope.active:
                return super().count_documents(filter, session, comment, **kwargs)
            read = ValueRead.count(scope, self.delegate.codec_options, filter, comment, kwargs)
            if read is None:
                return super().count_documents(filter, session, comment, **kwargs)
            given = getattr(session, "delegate", session)

            def call(target, filter=filter):
                return _Sync.count_documents(target, filter, given, comment, **kwargs)

            return self._qb_value(read, session, call)

        @functools.wraps(driver.AsyncIOMotorCollection.estimated_document_count)
        def estimated_document_count(self, comment=None, **kwargs):
            scope = self._qb
            if scope is None or not scope.active:
                return super().estimated_document_count(comment, **kwargs)
            kwargs = unwrap_kwargs_session(kwargs)
            read = ValueRead.estimate(scope, self.delegate.codec_options, comment, kwargs)

            def call(target):
                return _Sync.estimated_document_count(target, comment, **kwargs)

            return self._qb_value(read, None, call)

        @functools.wraps(driver.AsyncIOMotorCollection.distinct)
        def distinct(self, key, filter=None, session=None, comment=None, hint=None, **kwargs):
            filter = arguments.distinct_filter(filter, kwargs)
            scope = self._qb
            if scope is None or not scope.active:
                return super().distinct(key, filter, session, comment, hint, **kwargs)
            read = ValueRead.distinct(
                scope, self.delegate.codec_options, key, filter, comment, hint, kwargs
            )
            if read is None:
                return super().distinct(key, filter, session, comment, hint, **kwargs)
            given = getattr(session, "delegate", session)

            def call(target, filter=filter):
                return _Sync.distinct(target, key, filter, given, comment, hint, **kwargs)

            return self._qb_value(read, session, call)

        @functools.wraps(driver.AsyncIOMotorCollection.aggregate)
        def aggregate(self, pipeline, *args, **kwargs):
            return AsyncIOMotorLatentCommandCursor(
                self,
                self._async_aggregate,
                pipeline,
                *unwrap_args_session(args),
                **unwrap_kwargs_session(kwargs),
            )

        @functools.wraps(driver.AsyncIOMotorCollection._async_aggregate)
        def _async_aggregate(self, pipeline, session=None, let=None, comment=None, **kwargs):
            scope = self._qb
            aggregation = op = None
            if scope is not None and scope.active:
                aggregation = Aggregation(scope, pipeline, let, comment, kwargs)
                op = aggregation.op
            if op is None:
                return super()._async_aggregate(pipeline, session, let, comment, **kwargs)
            delegate = self.delegate
            codec = delegate.codec_options
            started_s = monotonic()
            bypass = aggregation.bypass(session, bound_sync_session())
            if bypass is None:
                entry = scope.hit(op, codec, started_s)
                if entry is not None:
                    cursor = answered(scope, CommandCursor, delegate, entry.data)
                    if cursor is not None:
                        scope.served(entry, started_s, monotonic())
                        return done(self, cursor)

            def call(target, pipeline=pipeline):
                return _Sync.aggregate(target, pipeline, session, let, comment, **kwargs)

            def decode(data):
                cursor = answered(scope, CommandCursor, delegate, data)
                return None if cursor is None else (cursor, len(cursor._data))

            return start(
                self.get_io_loop(),
                scope,
                lambda: scope.begin_read(
                    op,
                    codec,
                    started_s,
                    bypass=bypass,
                    share=not arguments.under_timeout(delegate._timeout),
                ),
                decode,
                lambda ticket: open_aggregation(delegate, aggregation, ticket, call),
            )

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


class AsyncIOMotorDatabase(driver.AsyncIOMotorDatabase):  # type: ignore[type-arg]
    """A database whose collections are ours."""

    def __getitem__(self, name: str) -> Any:
        return AsyncIOMotorCollection(self, name)

    def wrap(self, obj: Any) -> Any:
        if obj.__class__ is _Sync:
            return AsyncIOMotorCollection(self, obj.name, _delegate=obj)
        return super().wrap(obj)


class OptimizedClient(driver.AsyncIOMotorClient):  # type: ignore[type-arg]
    """An AsyncIOMotorClient whose reads may be answered from memory and whose calls are profiled.

    Takes what AsyncIOMotorClient takes, and qb: Settings, or None for those of the environment.
    Everything that is ours is behind the one attribute `qb`; a database of that name is
    client["qb"].
    """

    def __init__(self, *args: Any, qb: Settings | None = None, **kwargs: Any) -> None:
        self._qb = LoopParts(qb, args, kwargs, threads=True)
        super().__init__(*args, **kwargs)
        self._qb.attach(self.delegate)
        self._qb.watch_with(MongoClient)
        self._qb.send_with(send, bring, read_indexes, is_gone)

    @property
    def qb(self) -> MotorHandle:
        """Everything that qbmongo adds."""
        return MotorHandle(self._qb, self.get_io_loop)

    def __getitem__(self, name: str) -> Any:
        return AsyncIOMotorDatabase(self, name)

    def wrap(self, obj: Any) -> Any:
        if obj.__class__ is pymongo.database.Database:
            return AsyncIOMotorDatabase(self, obj.name, _delegate=obj)
        return super().wrap(obj)

    if not TYPE_CHECKING:

        def close(self):
            """Closes the driver's client and what we opened beside it. Twice is harmless."""
            try:
                if self._qb.sender is not None:
                    # What is sent is sent by threads, so that they come to an end meanwhile.
                    flush(self._qb.sender, CLOSING_S)
                if self._qb.watcher is not None:
                    self._qb.watcher.close(0)
            finally:
                self.delegate.close()
                self._qb.closed()

        @functools.wraps(driver.AsyncIOMotorClient.bulk_write)
        def bulk_write(self, *args, **kwargs):
            engine = self._qb.engine
            if engine is None:
                return super().bulk_write(*args, **kwargs)
            args = tuple(unwrap_args_session(args))
            kwargs = unwrap_kwargs_session(kwargs)
            models = args or (kwargs.get("models"),)
            write = Write(engine.scope(arguments.CLIENT_BULK), "bulk_write", models, kwargs)
            delegate = self.delegate

            def job():
                try:
                    result = delegate.bulk_write(*args, **kwargs)
                except BaseException:
                    write.failed()
                    raise
                write.done(result)
                return result

            return executor.run_on_executor(self.get_io_loop(), job)
