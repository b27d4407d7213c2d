"""OptimizedClient: is-a motor.motor_asyncio.AsyncIOMotorClient.

Methods return Futures and run even if nobody awaits them. The driver's calls run in executor
threads; the engine is asked in the loop's thread, so that a hit costs no thread.

Motor reached its end of life on 2026-05-14; this module can be deleted without touching others.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import motor.frameworks.asyncio as executor
import motor.motor_asyncio as driver
import pymongo.collection
import pymongo.database
from motor.metaprogramming import unwrap_args_session, unwrap_kwargs_session
from pymongo import MongoClient

from ..coherence.thread import ThreadWatcher
from ..core.engine import Join, Lead, Scope
from ..records import ReadOp, WriteKind
from ..settings import Settings
from . import arguments
from .cursors import Reading, call_bypass, deliver, served_one
from .fairness import LoopTurn
from .frozen_writes import FREEZERS
from .handle import MotorHandle
from .parts import Parts, bound_sync_session
from .pymongo_sync import open_aggregation, send_value
from .sync_cursors import CommandCursor, Cursor
from .values import Aggregation, ValueRead, answered

__all__ = [
    "AsyncIOMotorCollection",
    "AsyncIOMotorCursor",
    "AsyncIOMotorDatabase",
    "AsyncIOMotorLatentCommandCursor",
    "OptimizedClient",
]

monotonic = time.monotonic
_Sync = pymongo.collection.Collection


class LoopWaiter:
    """A Future of the program's that a flight's answer will resolve; told from any thread."""

    __slots__ = ("_loop", "_resolve")

    def __init__(self, loop: asyncio.AbstractEventLoop, resolve: Callable[[Any], None]) -> None:
        self._loop = loop
        self._resolve = resolve

    def deliver(self, answer: Any) -> None:
        self._loop.call_soon_threadsafe(self._resolve, answer)


def _run(loop: Any, job: Callable[[Any], Any], ticket: Any) -> asyncio.Future[Any]:
    """Runs a blocking call under its ticket in an executor thread."""
    future: asyncio.Future[Any] = executor.run_on_executor(loop, job, ticket)
    if type(ticket) is Lead:
        # The thread outlives its cancelled caller, or never starts: whoever waits sends again, and
        # what an older sending brings settles nothing.
        def given_up(done: asyncio.Future[Any]) -> None:
            if done.cancelled():
                heir = ticket.scope.cancel_read(ticket)
                if heir is not None:
                    deliver([heir])

        future.add_done_callback(given_up)
    return future


def _copy(source: asyncio.Future[Any], target: asyncio.Future[Any]) -> None:
    """Makes one Future end as another does, and the other be cancelled with it."""

    def ended(done: asyncio.Future[Any]) -> None:
        if target.done():
            if not done.cancelled():
                done.exception()  # nobody else will ask
        elif done.cancelled():
            target.cancel()
        elif done.exception() is not None:
            target.set_exception(done.exception())  # type: ignore[arg-type]
        else:
            target.set_result(done.result())

    def cancelled(done: asyncio.Future[Any]) -> None:
        if done.cancelled():
            source.cancel()

    source.add_done_callback(ended)
    target.add_done_callback(cancelled)


def _start(
    loop: Any,
    scope: Scope,
    begin: Callable[[], Any],
    decode: Callable[[bytes], Any],
    job: Callable[[Any], Any],
) -> asyncio.Future[Any]:
    """A read that no kept answer serves: waits for a flight, or runs `job` under the ticket."""
    while True:
        decision = begin()
        if type(decision) is not Join:
            return _run(loop, job, decision)
        join = decision
        future: asyncio.Future[Any] = loop.create_future()

        def resolve(answer: Any, future: Any = future, join: Any = join) -> None:
            if future.done():
                if type(answer) is Lead:
                    heir = scope.cancel_read(answer)
                    if heir is not None:
                        deliver([heir])
            elif type(answer) is bytes:
                try:
                    future.set_result(decode(answer))
                except Exception as error:
                    future.set_exception(error)
                scope.settle_read(join.ticket, monotonic(), documents=1, size=len(answer))
            else:
                ticket = answer if type(answer) is Lead else join.ticket
                _copy(_run(loop, job, ticket), future)

        waiter = LoopWaiter(loop, resolve)
        if not scope.join(join, waiter):
            continue

        def left(done: Any, join: Any = join, waiter: Any = waiter) -> None:
            if done.cancelled():
                scope.leave(join, waiter)

        future.add_done_callback(left)
        return future


def _done(collection: Any, value: Any) -> asyncio.Future[Any]:
    """A Future that has its result; once a turn is over, one that gets it in the next."""
    loop = collection.get_io_loop()
    future: asyncio.Future[Any] = loop.create_future()
    if collection.database.client._qb.turn.over(loop):
        loop.call_soon(_set_result, future, value)
    else:
        future.set_result(value)
    return future


def _set_result(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _observed_write(kind: WriteKind) -> Any:
    """A write method of the driver's that tells the engine before and after."""
    driver_method = getattr(driver.AsyncIOMotorCollection, kind)
    sync_method = getattr(_Sync, kind)
    freeze = FREEZERS.get(kind)

    @functools.wraps(driver_method)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        scope = self._qb
        if scope is None or not scope.active:
            return driver_method(self, *args, **kwargs)
        finish = None
        op = arguments.write_op(kind, scope.namespace, args, kwargs)
        ticket = scope.begin_write(op, monotonic())
        if freeze is not None and scope.cache is not None:
            args, kwargs, finish = freeze(self.codec_options, args, kwargs)
        args = tuple(unwrap_args_session(args))
        kwargs = unwrap_kwargs_session(kwargs)
        delegate = self.delegate

        def job() -> Any:
            try:
                result = sync_method(delegate, *args, **kwargs)
            except BaseException:
                scope.fail_write(ticket, monotonic())
                raise
            if finish is not None:
                result = finish(result)
            scope.settle_write(ticket, monotonic(), arguments.changed(result))
            return result

        return executor.run_on_executor(self.get_io_loop(), job)

    return method


class AsyncIOMotorCursor(driver.AsyncIOMotorCursor):
    """A cursor whose answer may come from memory, and is observed."""

    if not TYPE_CHECKING:

        def _refresh(self):
            delegate = self.delegate
            reading = delegate._qb
            if (
                reading is not None
                and reading.ticket is None
                and delegate._id is None
                and not delegate._killed
            ):
                reading.begin(delegate, bound_sync_session(), wait=False)
                if delegate._id == 0:
                    return _done(self.collection, len(delegate._data))
            return executor.run_on_executor(self.get_io_loop(), delegate._refresh)

        def _async_close(self):
            return executor.run_on_executor(self.get_io_loop(), self.delegate.close)

        @functools.wraps(driver.AsyncIOMotorCursor.to_list)
        def to_list(self, length=None):
            delegate = self.delegate
            reading = delegate._qb
            if (
                length is not None
                or reading is None
                or reading.ticket is not None
                or delegate._id is not None
                or delegate._query_flags
                or not self.alive
            ):
                return super().to_list(length)
            self.started = True
            reading.consume = True

            def begin():
                join = reading.begin(delegate, bound_sync_session())
                return reading.ticket if join is None else join

            def drained(_=None):
                documents = list(delegate._data)
                delegate._data.clear()
                return documents

            def decode(data):
                reading.serve(delegate, data)
                return drained()

            def job(ticket):
                reading.take(ticket)
                return list(delegate)

            decision = begin()
            if delegate._id == 0:
                return _done(self.collection, drained())
            if decision is None:
                return super().to_list(length)
            first = [decision]
            loop = self.get_io_loop()
            return _start(
                loop, reading.scope, lambda: first.pop() if first else begin(), decode, job
            )


class AsyncIOMotorLatentCommandCursor(driver.AsyncIOMotorLatentCommandCursor):
    """An aggregation's cursor, started by its first use."""

    if not TYPE_CHECKING:

        def _refresh(self):
            return executor.run_on_executor(self.get_io_loop(), self.delegate._refresh)

        def _async_close(self):
            return executor.run_on_executor(self.get_io_loop(), self.delegate.close)


class AsyncIOMotorCollection(driver.AsyncIOMotorCollection):
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
            self.database, f"{self.name}.{name}", _delegate=self.delegate[name]
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
            if scope.trust is not None and not args and not kwargs and type(filter) is dict:
                if call_bypass(bound_sync_session()) is None:
                    started_s = monotonic()
                    op = ReadOp(
                        "find_one", scope.namespace, filter, None, None, 0, -1, scope.options
                    )
                    entry = scope.hit(op, codec, started_s)
                    if entry is not None:
                        document = served_one(entry, codec)
                        scope.served(entry, started_s, monotonic())
                        return _done(self, document)
            try:
                wanted = filter
                if filter is not None and not isinstance(filter, Mapping):
                    wanted = {"_id": filter}
                cursor = Cursor(
                    delegate, wanted, *unwrap_args_session(args), **unwrap_kwargs_session(kwargs)
                )
                cursor.limit(-1)
            except Exception:
                # Whatever is wrong with the arguments, the driver says it in its Future.
                return super().find_one(filter, *args, **kwargs)
            cursor._qb = reading = Reading(scope, "find_one")
            reading.consume = True

            def begin():
                join = reading.begin(cursor, bound_sync_session())
                return reading.ticket if join is None else join

            def decode(data):
                reading.serve(cursor, data)
                return cursor._data[0] if cursor._data else None

            def job(ticket):
                reading.take(ticket)
                return next(cursor, None)

            decision = begin()
            if cursor._id == 0:
                return _done(self, cursor._data[0] if cursor._data else None)
            if decision is None:
                return super().find_one(filter, *args, **kwargs)
            first = [decision]
            loop = self.get_io_loop()
            return _start(loop, scope, lambda: first.pop() if first else begin(), decode, job)

        @functools.wraps(driver.AsyncIOMotorCollection.find)
        def find(self, *args, **kwargs):
            cursor = Cursor(
                self.delegate, *unwrap_args_session(args), **unwrap_kwargs_session(kwargs)
            )
            scope = self._qb
            if scope is not None and scope.active:
                cursor._qb = Reading(scope)
            return AsyncIOMotorCursor(cursor, self)

        def _qb_value(self, read, session, driver_call, lead_call):
            """A read whose answer is a value, as a Future."""
            scope = self._qb
            codec = self.delegate.codec_options
            started_s = monotonic()
            bypass = read.bypass(session, bound_sync_session())
            if bypass is None:
                entry = scope.hit(read.op, codec, started_s)
                if entry is not None:
                    value = read.unpack(entry.data)
                    scope.served(entry, started_s, monotonic())
                    return _done(self, value)
            return _start(
                self.get_io_loop(),
                scope,
                lambda: scope.begin_read(
                    read.op,
                    codec,
                    started_s,
                    bypass=bypass,
                    share=not arguments.under_timeout(self.delegate._timeout),
                ),
                read.unpack,
                lambda ticket: send_value(read, ticket, driver_call, lead_call),
            )

        def _qb_twin(self, read, lead):
            delegate = self.delegate
            return _Sync(delegate.database, delegate.name, False, *read.twin(delegate, lead))

        @functools.wraps(driver.AsyncIOMotorCollection.count_documents)
        def count_documents(self, filter, session=None, comment=None, **kwargs):
            scope = self._qb
            if scope is None or not scope.active:
                return super().count_documents(filter, session, comment, **kwargs)
            delegate = self.delegate
            read = ValueRead.count(scope, delegate.codec_options, filter, comment, kwargs)
            if read is None:
                return super().count_documents(filter, session, comment, **kwargs)
            given = getattr(session, "delegate", session)

            def call(target=delegate, filter=filter):
                return _Sync.count_documents(target, filter, given, comment, **kwargs)

            return self._qb_value(
                read,
                session,
                call,
                lambda lead: read.pack(call(self._qb_twin(read, lead), lead.send.filter)),
            )

        @functools.wraps(driver.AsyncIOMotorCollection.estimated_document_count)
        def estimated_document_count(self, comment=None, **kwargs):
            scope = self._qb
            if scope is None or not scope.active:
                return super().estimated_document_count(comment, **kwargs)
            delegate = self.delegate
            kwargs = unwrap_kwargs_session(kwargs)
            read = ValueRead.estimate(scope, delegate.codec_options, comment, kwargs)
            return self._qb_value(
                read,
                None,
                lambda: _Sync.estimated_document_count(delegate, comment, **kwargs),
                None,
            )

        @functools.wraps(driver.AsyncIOMotorCollection.distinct)
        def distinct(self, key, filter=None, session=None, comment=None, hint=None, **kwargs):
            scope = self._qb
            if scope is None or not scope.active:
                return super().distinct(key, filter, session, comment, hint, **kwargs)
            delegate = self.delegate
            read = ValueRead.distinct(
                scope, delegate.codec_options, key, filter, comment, hint, kwargs
            )
            if read is None:
                return super().distinct(key, filter, session, comment, hint, **kwargs)
            given = getattr(session, "delegate", session)

            def call(target=delegate, filter=filter):
                return _Sync.distinct(target, key, filter, given, comment, hint, **kwargs)

            return self._qb_value(
                read,
                session,
                call,
                lambda lead: read.pack(call(self._qb_twin(read, lead), lead.send.filter)),
            )

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
                    cursor = answered(CommandCursor, delegate, entry.data)
                    scope.served(entry, started_s, monotonic())
                    return _done(self, cursor)

            def call(target, sent):
                stages = pipeline if sent is None else sent
                return _Sync.aggregate(target, stages, session, let, comment, **kwargs)

            return _start(
                self.get_io_loop(),
                scope,
                lambda: scope.begin_read(
                    op,
                    codec,
                    started_s,
                    bypass=bypass,
                    share=not arguments.under_timeout(delegate._timeout),
                ),
                lambda data: answered(CommandCursor, delegate, data),
                lambda ticket: open_aggregation(delegate, aggregation, ticket, call),
            )

        insert_one = _observed_write("insert_one")
        insert_many = _observed_write("insert_many")
        update_one = _observed_write("update_one")
        update_many = _observed_write("update_many")
        replace_one = _observed_write("replace_one")
        delete_one = _observed_write("delete_one")
        delete_many = _observed_write("delete_many")
        find_one_and_update = _observed_write("find_one_and_update")
        find_one_and_replace = _observed_write("find_one_and_replace")
        find_one_and_delete = _observed_write("find_one_and_delete")
        bulk_write = _observed_write("bulk_write")


class AsyncIOMotorDatabase(driver.AsyncIOMotorDatabase):
    """A database whose collections are ours."""

    def __getitem__(self, name: str) -> Any:
        return AsyncIOMotorCollection(self, name)

    def wrap(self, obj: Any) -> Any:
        if obj.__class__ is _Sync:
            return AsyncIOMotorCollection(self, obj.name, _delegate=obj)
        return super().wrap(obj)


class OptimizedClient(driver.AsyncIOMotorClient):
    """An AsyncIOMotorClient whose reads may be answered from memory and whose calls are profiled.

    Takes what AsyncIOMotorClient takes, and qb: Settings, or None for those of the environment.
    Everything that is ours is behind the one attribute `qb`; a database of that name is
    client["qb"].
    """

    def __init__(self, *args: Any, qb: Settings | None = None, **kwargs: Any) -> None:
        self._qb = MotorParts(qb, args, kwargs, threads=True)
        super().__init__(*args, **kwargs)
        self._qb.watch_with(ThreadWatcher, MongoClient)

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
            if self._qb.watcher is not None:
                self._qb.watcher.close(0)
            self.delegate.close()

        @functools.wraps(driver.AsyncIOMotorClient.bulk_write)
        def bulk_write(self, models, *args, **kwargs):
            engine = self._qb.engine
            if engine is None:
                return super().bulk_write(models, *args, **kwargs)
            args = tuple(unwrap_args_session(args))
            kwargs = unwrap_kwargs_session(kwargs)
            scope = engine.scope(arguments.CLIENT_BULK)
            op = arguments.write_op("bulk_write", scope.namespace, (models, *args), kwargs)
            ticket = scope.begin_write(op, monotonic())
            delegate = self.delegate

            def job():
                try:
                    result = delegate.bulk_write(models, *args, **kwargs)
                except BaseException:
                    scope.fail_write(ticket, monotonic())
                    raise
                scope.settle_write(ticket, monotonic(), arguments.changed(result))
                return result

            return executor.run_on_executor(self.get_io_loop(), job)


class MotorParts(Parts):
    """The parts of a Motor client."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cache = self.settings.cache
        self.turn = LoopTurn(cache.hits_per_turn if cache is not None else 64)
