"""Reads whose answer is a value or an aggregation: what the driver has no raw form of.

They are kept as BSON like all others. distinct and aggregate are read through a collection object
whose codec loses nothing, and decoded again with the program's codec.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument

from ..core.engine import ALONE, Lead, Scope, Ticket
from ..core.frozen import RAW_CODEC
from ..records import ReadOp
from . import arguments
from .cursors import Reading, call_bypass, decode_documents, read_concern_after

__all__ = ["Aggregation", "ValueRead", "answered"]


def _twin(driver_class: Any, collection: Any, lead: Lead, codec: Any) -> Any:
    """A plain collection object that sends what the lead must send."""
    concern = collection.read_concern
    if lead.seen:
        concern = read_concern_after(lead.scope.concern, lead.seen)
    return driver_class(
        collection.database,
        collection.name,
        False,
        codec,
        collection.read_preference,
        collection.write_concern,
        concern,
    )


def _hinted(options: Mapping[str, Any]) -> str | None:
    """A hint could change under way, unless it is a name."""
    hint = options.get("hint")
    return None if hint is None or isinstance(hint, str) else "hint"


def _decoders(codec: CodecOptions[Any]) -> str | None:
    """Decoded and encoded again a value might not be what the server sent."""
    lossy = codec.unicode_decode_error_handler != "strict" or codec.type_registry._decoder_map
    return "codec" if lossy else None


def _unclear(scope: Scope) -> None:
    """Arguments that only the driver can judge: the call is the driver's own."""
    if scope.cache is not None:
        scope.engine.bypassed["arguments"] += 1


class ValueRead:
    """One count_documents, estimated_document_count or distinct.

    codec: the collection's codec options. exact: the codec it is read and kept with.
    """

    __slots__ = ("_exact", "_reason", "_scope", "codec", "op")

    def __init__(
        self,
        scope: Scope,
        op: ReadOp,
        codec: CodecOptions[Any],
        exact: CodecOptions[Any],
        reason: str | None,
    ) -> None:
        self.op = op
        self.codec = codec
        self._scope = scope
        self._exact = exact
        self._reason = reason

    @classmethod
    def count(
        cls, scope: Scope, codec: Any, filter: Any, comment: Any, kwargs: Mapping[str, Any]
    ) -> ValueRead | None:
        """A count_documents; None where only the driver can tell what is meant."""
        try:
            op = arguments.count_op(scope, filter, {**kwargs, "comment": comment})
            if op is None:
                _unclear(scope)
                return None
            return cls(scope, op, codec, codec, _decoders(codec) or _hinted(kwargs))
        except Exception as error:
            scope.engine.fault("arguments", error)
            return None

    @classmethod
    def estimate(
        cls, scope: Scope, codec: Any, comment: Any, kwargs: Mapping[str, Any]
    ) -> ValueRead:
        """An estimated_document_count: from the collection's metadata, so never kept."""
        op = ReadOp("estimated_document_count", scope.namespace, {}, options=dict(kwargs) or None)
        return cls(scope, op, codec, codec, "estimate")

    @classmethod
    def distinct(
        cls,
        scope: Scope,
        codec: CodecOptions[Any],
        key: Any,
        filter: Any,
        comment: Any,
        hint: Any,
        kwargs: Mapping[str, Any],
    ) -> ValueRead | None:
        """A distinct; None where only the driver can tell what is meant."""
        try:
            options = {**kwargs, "comment": comment, "hint": hint}
            op = arguments.distinct_op(scope, key, filter, options)
            if op is None:
                _unclear(scope)
                return None
            exact = codec.with_options(
                document_class=RawBSONDocument,
                tz_aware=False,
                tzinfo=None,
                datetime_conversion=DatetimeConversion.DATETIME_MS,
            )
            return cls(scope, op, codec, exact, _decoders(codec) or _hinted(options))
        except Exception as error:
            scope.engine.fault("arguments", error)
            return None

    def bypass(self, session: Any, bound: Any) -> str | None:
        """Why this call is not cached, or None."""
        return "session" if session is not None else call_bypass(bound) or self._reason

    @staticmethod
    def rewritten(ticket: Ticket) -> tuple[Any, ...]:
        """The filter to send in place of the program's own, if there is another."""
        return () if ticket.sent is None else (ticket.sent.filter,)

    def target(self, driver_class: Any, collection: Any, ticket: Ticket) -> Any:
        """The plain collection object to send a Lead with; None for another ticket."""
        if type(ticket) is not Lead:
            return None
        try:
            return _twin(driver_class, collection, ticket, self._exact)
        except Exception as error:
            self._scope.engine.fault("prepare", error)
            return None

    def kept(self, value: Any) -> tuple[Any, bytes] | None:
        """What a lead's call returned: as the program shall have it, and as BSON. None: it must be
        asked for as the program wants it."""
        try:
            data = bson.encode({"v": value}, codec_options=self._exact)
            return self._decode(data), data
        except Exception as error:
            self._scope.engine.fault("decode", error)
            return None

    def unpack(self, data: bytes) -> tuple[Any] | None:
        """The value as the driver would have built it; None if it cannot be decoded."""
        try:
            return (self._decode(data),)
        except Exception as error:
            self._scope.engine.fault("decode", error)
            return None

    def _decode(self, data: bytes) -> Any:
        return bson.decode(data, codec_options=self.codec)["v"]

    def settled(self, ticket: Ticket, data: bytes | None) -> list[Any]:
        """The driver answered. Returns waiters with what each is given."""
        size = 0 if data is None else len(data)
        return self._scope.settle_read(ticket, time.monotonic(), documents=1, size=size, data=data)

    def failed(self, ticket: Ticket, error: BaseException) -> list[Any]:
        """The driver raised. Returns waiters with what each is given."""
        scope = self._scope
        if not isinstance(error, Exception):
            heir = scope.cancel_read(ticket)
            if heir is not None:
                return [heir]
        return [(waiter, ALONE) for waiter in scope.fail_read(ticket, time.monotonic())]


class Aggregation:
    """One aggregate of a collection, up to its cursor. op: None where only the driver can tell what
    is meant."""

    __slots__ = ("_reason", "op", "reading")

    def __init__(
        self, scope: Scope, pipeline: Any, let: Any, comment: Any, kwargs: Mapping[str, Any]
    ) -> None:
        self.op: ReadOp | None = None
        self.reading = Reading(scope, "aggregate")
        self._reason: str | None = None
        try:
            self._reason = _hinted(kwargs) or ("let" if let is not None else None)
            options = {**kwargs, "let": let, "comment": comment}
            self.op = arguments.aggregate_op(scope, pipeline, options)
            if self.op is None:
                _unclear(scope)
        except Exception as error:
            scope.engine.fault("arguments", error)

    def bypass(self, session: Any, bound: Any) -> str | None:
        """Why this call is not cached, or None."""
        return "session" if session is not None else call_bypass(bound) or self._reason

    @staticmethod
    def rewritten(ticket: Ticket) -> tuple[Any, ...]:
        """The pipeline to send in place of the program's own, if there is another."""
        return () if ticket.sent is None else (ticket.sent.pipeline,)

    def target(self, driver_class: Any, collection: Any, ticket: Ticket) -> Any:
        """The plain collection object to send a Lead with; None for another ticket."""
        if type(ticket) is not Lead:
            return None
        try:
            return _twin(driver_class, collection, ticket, RAW_CODEC)
        except Exception as error:
            ticket.scope.engine.fault("prepare", error)
            return None

    def opened(
        self, driver_cursor: Any, cursor_type: Any, collection: Any, *, raw: bool
    ) -> Any | None:
        """The first batch has come: the program's cursor. None: it must be asked for again.

        The driver's own cursor goes over into one of ours, whatever it holds; what is left of it
        has nothing to close. raw: it was sent with what `target` gave.
        """
        reading = self.reading
        try:
            documents = driver_cursor._data
            if not raw:
                reading.chunks = None
            else:
                data = b"".join(document.raw for document in documents)
                documents = deque(decode_documents(data, collection.codec_options))
                reading.arrived(data)
            cursor = cursor_type.__new__(cursor_type)
            cursor.__dict__.update(driver_cursor.__dict__)
            driver_cursor.__dict__.update(_id=0, _killed=True, _session=None, _sock_mgr=None)
            cursor._collection = collection
            cursor._data = documents
            cursor._qb = reading
            return cursor
        except Exception as error:
            reading.scope.engine.fault("decode", error)
            reading.chunks = None
            return None


def answered(scope: Scope, cursor_type: Any, collection: Any, data: bytes) -> Any | None:
    """A cursor over a kept aggregation; None if it cannot be decoded: then the driver says why."""
    try:
        info = {
            "id": 0,
            "firstBatch": decode_documents(data, collection.codec_options),
            "ns": collection.full_name,
        }
        return cursor_type(collection, info, None)
    except Exception as error:
        scope.engine.fault("decode", error)
        return None
