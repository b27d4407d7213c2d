"""OptimizedMongoClient: is-a pymongo.MongoClient. Used from many threads; blocks as the driver does."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pymongo.collection
import pymongo.database
from pymongo import MongoClient

from ..coherence.thread import ThreadWatcher
from ..core.engine import Join, Lead, Scope
from ..records import ReadOp, WriteKind
from ..settings import Settings
from . import arguments
from .cursors import Reading, call_bypass, deliver, served_one
from .frozen_writes import FREEZERS
from .handle import SyncHandle
from .listener import CURRENT, OPENED
from .parts import Parts, bound_sync_session
from .sync_cursors import CommandCursor, Cursor, ThreadWaiter
from .values import Aggregation, ValueRead, answered

__all__ = ["Collection", "CommandCursor", "Cursor", "Database", "OptimizedMongoClient"]

monotonic = time.monotonic
_Driver = pymongo.collection.Collection


def _observed_write(kind: WriteKind) -> Any:
    """A write method of the driver's that tells the engine before and after."""
    driver_method = getattr(_Driver, kind)
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
        try:
            result = driver_method(self, *args, **kwargs)
        except BaseException:
            scope.fail_write(ticket, monotonic())
            raise
        if finish is not None:
            result = finish(result)
        scope.settle_write(ticket, monotonic(), arguments.changed(result))
        return result

    return method


def decide(scope: Scope, op: ReadOp, codec: Any, started_s: float, bypass: Any, timeout: Any) -> Any:
    """What the engine says of a read that no kept answer serves; waits for a flight if there is
    one. Returns a flight's bytes with the ticket, or None and the ticket to send under."""
    while True:
        decision = scope.begin_read(
            op, codec, started_s, bypass=bypass, share=not arguments.under_timeout(timeout)
        )
        if type(decision) is not Join:
            return None, decision
        waiter = ThreadWaiter()
        if not scope.join(decision, waiter):
            continue
        try:
            answer = waiter.wait()
        except BaseException:
            scope.leave(decision, waiter)
            raise
        if type(answer) is bytes:
            return answer, decision.ticket
        return None, answer if type(answer) is Lead else decision.ticket


def read_value(
    collection: Any, read: ValueRead, *, session: Any, driver_call: Any, lead_call: Any
) -> Any:
    """A read whose answer is a value: from memory, from another's flight, or from the driver."""
    scope: Scope = collection._qb
    started_s = monotonic()
    bypass = read.bypass(session, bound_sync_session())
    if bypass is None:
        entry = scope.hit(read.op, collection.codec_options, started_s)
        if entry is not None:
            value = read.unpack(entry.data)
            scope.served(entry, started_s, monotonic())
            return value
    data, ticket = decide(
        scope, read.op, collection.codec_options, started_s, bypass, collection._timeout
    )
    if data is not None:
        value = read.unpack(data)
        scope.settle_read(ticket, monotonic(), documents=1, size=len(data))
        return value
    return send_value(read, ticket, driver_call, lead_call)


def send_value(read: ValueRead, ticket: Any, driver_call: Any, lead_call: Any) -> Any:
    """Sends a value read under its ticket; blocks."""
    token = CURRENT.set(ticket)
    data = None
    try:
        if type(ticket) is Lead:
            data = lead_call(ticket)
            value = read.unpack(data)
        else:
            value = driver_call()
    except BaseException as error:
        deliver(read.failed(ticket, error))
        raise
    finally:
        CURRENT.reset(token)
    deliver(read.settled(ticket, data))
    return value


def open_aggregation(collection: Any, aggregation: Aggregation, ticket: Any, driver_call: Any) -> Any:
    """Sends an aggregation under its ticket and returns its cursor; blocks."""
    reading = aggregation.reading
    reading.take(ticket)
    lead = type(ticket) is Lead
    token = CURRENT.set(ticket)
    started_s = monotonic()
    try:
        if lead:
            name, twin = collection.name, aggregation.twin(collection, ticket)
            target = _Driver(collection.database, name, False, *twin)
            cursor = driver_call(target, ticket.send.pipeline)
        else:
            cursor = driver_call(collection, None)
        elapsed_s = monotonic() - started_s
        cursor, waiters = aggregation.opened(cursor, CommandCursor, collection, elapsed_s)
    except BaseException as error:
        deliver(reading.failed(error, monotonic() - started_s))
        raise
    finally:
        CURRENT.reset(token)
    deliver(waiters)
    return cursor


class Collection(_Driver[Any]):
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

    def __getitem__(self, name: str) -> Any:
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
            missed = False
            if scope.trust is not None and not args and not kwargs and type(filter) is dict:
                if call_bypass(bound_sync_session()) is None:
                    started_s = monotonic()
                    op = ReadOp(
                        "find_one", scope.namespace, filter, None, None, 0, -1, scope.options
                    )
                    entry = scope.hit(op, self._codec_options, started_s)
                    if entry is not None:
                        document = served_one(entry, self._codec_options)
                        scope.served(entry, started_s, monotonic())
                        return document
                    missed = True
            if filter is not None and not isinstance(filter, Mapping):
                filter = {"_id": filter}
            cursor = self.find(filter, *args, **kwargs)
            reading = cursor._qb
            reading.kind = "find_one"
            reading.consume = True
            reading.missed = missed
            for document in cursor.limit(-1):
                return document
            return None

        @functools.wraps(_Driver.find)
        def find(self, *args, **kwargs):
            cursor = Cursor(self, *args, **kwargs)
            scope = self._qb
            if scope is not None and scope.active:
                cursor._qb = Reading(scope)
            return cursor

        @functools.wraps(_Driver.count_documents)
        def count_documents(self, filter, session=None, comment=None, **kwargs):
            def call(target=self, filter=filter):
                return _Driver.count_documents(target, filter, session, comment, **kwargs)

            scope = self._qb
            if scope is None or not scope.active:
                return call()
            read = ValueRead.count(scope, self.codec_options, filter, comment, kwargs)
            if read is None:
                return call()

            def lead_call(lead):
                twin = _Driver(self._database, self._name, False, *read.twin(self, lead))
                return read.pack(call(twin, lead.send.filter))

            return read_value(
                self, read, session=session, driver_call=call, lead_call=lead_call
            )

        @functools.wraps(_Driver.estimated_document_count)
        def estimated_document_count(self, comment=None, **kwargs):
            def call():
                return _Driver.estimated_document_count(self, comment, **kwargs)

            scope = self._qb
            if scope is None or not scope.active:
                return call()
            read = ValueRead.estimate(scope, self.codec_options, comment, kwargs)
            return read_value(self, read, session=None, driver_call=call, lead_call=None)

        @functools.wraps(_Driver.distinct)
        def distinct(self, key, filter=None, session=None, comment=None, hint=None, **kwargs):
            def call(target=self, filter=filter):
                return _Driver.distinct(target, key, filter, session, comment, hint, **kwargs)

            scope = self._qb
            if scope is None or not scope.active:
                return call()
            read = ValueRead.distinct(scope, self.codec_options, key, filter, comment, hint, kwargs)
            if read is None:
                return call()

            def lead_call(lead):
                twin = _Driver(self._database, self._name, False, *read.twin(self, lead))
                return read.pack(call(twin, lead.send.filter))

            return read_value(
                self, read, session=session, driver_call=call, lead_call=lead_call
            )

        @functools.wraps(_Driver.aggregate)
        def aggregate(self, pipeline, session=None, let=None, comment=None, **kwargs):
            def call(target=self, sent=None):
                return _Driver.aggregate(
                    target,
                    pipeline if sent is None else sent,
                    session,
                    let,
                    comment,
                    **kwargs,
                )

            scope = self._qb
            if scope is None or not scope.active:
                return call()
            aggregation = Aggregation(scope, pipeline, let, comment, kwargs)
            op = aggregation.op
            if op is None:
                return call()
            started_s = monotonic()
            bypass = aggregation.bypass(session, bound_sync_session())
            if bypass is None:
                entry = scope.hit(op, self.codec_options, started_s)
                if entry is not None:
                    cursor = answered(CommandCursor, self, entry.data)
                    scope.served(entry, started_s, monotonic())
                    return cursor
            data, ticket = decide(
                scope, op, self.codec_options, started_s, bypass, self._timeout
            )
            if data is not None:
                cursor = answered(CommandCursor, self, data)
                scope.settle_read(
                    ticket, monotonic(), documents=len(cursor._data), size=len(data)
                )
                return cursor
            return open_aggregation(self, aggregation, ticket, call)

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


def _ours(database: Any, made: Any) -> Collection:
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


def _our_database(client: Any, made: Any) -> Database:
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


class Database(_DriverDatabase[Any]):
    """A database whose collections are ours."""

    def __getitem__(self, name: str) -> Any:
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


class OptimizedMongoClient(MongoClient[Any]):
    """A pymongo.MongoClient whose reads may be answered from memory and whose calls are profiled.

    Takes what MongoClient takes, and qb: Settings, or None for those of the environment. Everything
    that is ours is behind the one attribute `qb`; a database of that name is client["qb"].
    """

    _qb: Parts

    def __init__(self, *args: Any, qb: Settings | None = None, **kwargs: Any) -> None:
        self._qb = Parts(qb, args, kwargs, threads=True)
        super().__init__(*args, **kwargs)
        self._qb.watch_with(ThreadWatcher, MongoClient)

    @property
    def qb(self) -> SyncHandle:
        """Everything that qbmongo adds."""
        return SyncHandle(self._qb)

    def __getitem__(self, name: str) -> Any:
        return Database(self, name)

    def close(self) -> None:
        if self._qb.watcher is not None:
            self._qb.watcher.close()
        super().close()

    if not TYPE_CHECKING:

        def _retry_internal(self, *args, **kwargs):
            """Every operation of the driver's passes here: closes what an interrupted one left."""
            engine = self._qb.engine
            if engine is None or engine.cache is None:
                return super()._retry_internal(*args, **kwargs)
            opened = set()
            token = OPENED.set(opened)
            try:
                return super()._retry_internal(*args, **kwargs)
            finally:
                OPENED.reset(token)
                if opened:
                    engine.abandoned(opened, monotonic())

        @functools.wraps(MongoClient.get_database)
        def get_database(self, *args, **kwargs):
            return _our_database(self, super().get_database(*args, **kwargs))

        @functools.wraps(MongoClient.get_default_database)
        def get_default_database(self, *args, **kwargs):
            return _our_database(self, super().get_default_database(*args, **kwargs))

        @functools.wraps(MongoClient.bulk_write)
        def bulk_write(self, models, *args, **kwargs):
            engine = self._qb.engine
            if engine is None or engine.profile is None:
                return super().bulk_write(models, *args, **kwargs)
            scope = engine.scope(arguments.CLIENT_BULK)
            op = arguments.write_op("bulk_write", scope.namespace, (models, *args), kwargs)
            ticket = scope.begin_write(op, monotonic())
            try:
                result = super().bulk_write(models, *args, **kwargs)
            except BaseException:
                scope.fail_write(ticket, monotonic())
                raise
            scope.settle_write(ticket, monotonic(), arguments.changed(result))
            return result
