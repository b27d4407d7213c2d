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


def _twin_options(collection: Any, lead: Lead, codec: Any) -> tuple[Any, ...]:
    """Constructor arguments of a plain collection object that sends what the lead must send."""
    concern = collection.read_concern
    if lead.seen:
        concern = read_concern_after(lead.scope.concern, lead.seen)
    return (codec, collection.read_preference, collection.write_concern, concern)


def _hinted(options: Mapping[str, Any]) -> bool:
    """Whether there is a hint that could change under way; a name cannot."""
    hint = options.get("hint")
    return hint is not None and not isinstance(hint, str)


class ValueRead:
    """One count_documents, estimated_document_count or distinct.

    codec: the collection's codec options. exact: the codec it is read and kept with.
    """

    __slots__ = ("_reason", "codec", "exact", "op")

    def __init__(
        self, op: ReadOp, codec: CodecOptions[Any], exact: CodecOptions[Any], reason: str | None
    ) -> None:
        self.op = op
        self.codec = codec
        self.exact = exact
        self._reason = reason

    @classmethod
    def count(
        cls, scope: Scope, codec: Any, filter: Any, comment: Any, kwargs: Mapping[str, Any]
    ) -> ValueRead | None:
        """A count_documents; None where only the driver can tell what is meant."""
        op = arguments.count_op(scope, filter, {**kwargs, "comment": comment})
        if op is None:
            return None
        return cls(op, codec, codec, "hint" if _hinted(kwargs) else None)

    @classmethod
    def estimate(
        cls, scope: Scope, codec: Any, comment: Any, kwargs: Mapping[str, Any]
    ) -> ValueRead:
        """An estimated_document_count: from the collection's metadata, so never kept."""
        op = ReadOp("estimated_document_count", scope.namespace, {}, options=dict(kwargs) or None)
        return cls(op, codec, codec, "estimate")

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
        options = {**kwargs, "comment": comment, "hint": hint}
        op = arguments.distinct_op(scope, key, filter, options)
        if op is None:
            return None
        reason = "hint" if _hinted(options) else None
        if codec.unicode_decode_error_handler != "strict" or codec.type_registry._decoder_map:
            # Decoded and encoded again it might not be what the server sent.
            reason = "codec"
        exact = codec.with_options(
            document_class=RawBSONDocument,
            tz_aware=False,
            tzinfo=None,
            datetime_conversion=DatetimeConversion.DATETIME_MS,
        )
        return cls(op, codec, exact, reason)

    def bypass(self, session: Any, bound: Any) -> str | None:
        """Why this call is not cached, or None."""
        return "session" if session is not None else call_bypass(bound) or self._reason

    def twin(self, collection: Any, lead: Lead) -> tuple[Any, ...]:
        """Constructor arguments of the plain collection object to send with."""
        return _twin_options(collection, lead, self.exact)

    def pack(self, value: Any) -> bytes:
        """The value as BSON."""
        return bson.encode({"v": value}, codec_options=self.exact)

    def unpack(self, data: bytes) -> Any:
        """The value as the driver would have built it."""
        return bson.decode(data, codec_options=self.codec)["v"]

    def settled(self, ticket: Ticket, data: bytes | None) -> list[Any]:
        """The driver answered. Returns waiters with what each is given."""
        size = 0 if data is None else len(data)
        waiters = ticket.scope.settle_read(
            ticket, time.monotonic(), documents=1, size=size, data=data
        )
        return [(waiter, ALONE if data is None else data) for waiter in waiters]

    @staticmethod
    def failed(ticket: Ticket, error: BaseException) -> list[Any]:
        """The driver raised. Returns waiters with what each is given."""
        if not isinstance(error, Exception):
            heir = ticket.scope.cancel_read(ticket)
            if heir is not None:
                return [heir]
        waiters = ticket.scope.fail_read(ticket, time.monotonic())
        return [(waiter, ALONE) for waiter in waiters]


class Aggregation:
    """One aggregate of a collection, up to its cursor."""

    __slots__ = ("_reason", "op", "reading")

    def __init__(
        self,
        scope: Scope,
        pipeline: Any,
        let: Any,
        comment: Any,
        kwargs: Mapping[str, Any],
    ) -> None:
        options = {**kwargs, "let": let, "comment": comment}
        self.op = arguments.aggregate_op(scope, pipeline, options)
        self.reading = Reading(scope, "aggregate")
        self._reason = "hint" if _hinted(kwargs) else "let" if let is not None else None

    def bypass(self, session: Any, bound: Any) -> str | None:
        """Why this call is not cached, or None."""
        return "session" if session is not None else call_bypass(bound) or self._reason

    @staticmethod
    def twin(collection: Any, lead: Lead) -> tuple[Any, ...]:
        """Constructor arguments of the plain collection object to send with."""
        return _twin_options(collection, lead, RAW_CODEC)

    def opened(
        self, driver_cursor: Any, cursor_type: Any, collection: Any, elapsed_s: float
    ) -> tuple[Any, list[Any]]:
        """The first batch has come: the program's cursor, and waiters with what each is given.

        The driver's own cursor goes over into one of ours, whatever it holds; what is left of it
        has nothing to close.
        """
        reading = self.reading
        cursor = cursor_type.__new__(cursor_type)
        cursor.__dict__.update(driver_cursor.__dict__)
        driver_cursor.__dict__.update(_id=0, _killed=True, _session=None, _sock_mgr=None)
        if type(reading.ticket) is Lead:
            data = b"".join(document.raw for document in cursor._data)
            cursor._collection = collection
            cursor._data = deque(decode_documents(data, collection.codec_options))
            reading.arrived(data)
        cursor._qb = reading
        return cursor, reading.replied(cursor, elapsed_s, len(cursor._data))


def answered(cursor_type: Any, collection: Any, data: bytes) -> Any:
    """A cursor over a kept aggregation."""
    info = {
        "id": 0,
        "firstBatch": decode_documents(data, collection.codec_options),
        "ns": collection.full_name,
    }
    return cursor_type(collection, info, None)

