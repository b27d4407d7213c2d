"""Private copies of what a caller gave, so that what is analysed and what is sent stay one.

A caller (another thread, another task) may change its dicts between our decision and the driver's
encoding. What may be kept or shared is therefore encoded once, analysed from those bytes, and sent
as those bytes (RawBSONDocument encodes to itself).
"""

from __future__ import annotations

from typing import Any

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.int64 import Int64
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument

from ..records import ReadOp

__all__ = ["EXACT_CODEC", "RAW_CODEC", "Frozen", "frozen"]

EXACT_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    document_class=dict,
    uuid_representation=UuidRepresentation.UNSPECIFIED,
    datetime_conversion=DatetimeConversion.DATETIME_MS,
)
RAW_CODEC: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument,
    uuid_representation=UuidRepresentation.UNSPECIFIED,
    datetime_conversion=DatetimeConversion.DATETIME_MS,
)


_CERTAIN = frozenset({bool, float, int, str, Int64, ObjectId})


class Frozen:
    """One read's arguments, private: op for analysis, filter, projection and pipeline to send.

    What is sent is op's own decoded copy where encoding it again gives the same bytes, and the
    bytes themselves (RawBSONDocument) otherwise.
    """

    __slots__ = ("filter", "op", "pipeline", "projection")

    def __init__(self, op: ReadOp, filter: Any, projection: Any, pipeline: Any) -> None:
        self.op = op
        self.filter = filter
        self.projection = projection
        self.pipeline = pipeline


def _point(filter: Any) -> dict[str, Any] | None:
    """A copy of a filter by one field with a value that nobody can change, whose encoding no codec
    changes; None for all others. Whether it can be encoded shows when it is."""
    if type(filter) is not dict or len(filter) != 1:
        return None
    for name, value in filter.items():
        if type(value) in _CERTAIN and type(name) is str:
            return {name: value}
    return None


def frozen(op: ReadOp, codec_options: CodecOptions[Any]) -> Frozen:
    """A private copy of an operation; codec_options are those the driver would encode it with.

    Raises what bson.encode raises for arguments that cannot be encoded; a lone value that cannot
    be may also pass here, and be refused when it is.
    """
    if op.projection is None and op.pipeline is None and op.options is None and op.sort is None:
        private = _point(op.filter)
        if private is not None:
            copy = ReadOp(
                op.kind, op.namespace, private, None, None, op.skip, op.limit, None, None, op.key
            )
            return Frozen(copy, private, None, None)
        data = bson.encode(op.filter, codec_options=codec_options)
        filter = bson.decode(data, codec_options=EXACT_CODEC)
        copy = ReadOp(
            op.kind, op.namespace, filter, None, None, op.skip, op.limit, None, None, op.key
        )
        if bson.encode(filter, codec_options=EXACT_CODEC) == data:
            return Frozen(copy, filter, None, None)
        return Frozen(copy, RawBSONDocument(data, codec_options=RAW_CODEC), None, None)
    parts = {
        name: part
        for name, part in (
            ("filter", op.filter),
            ("projection", op.projection),
            ("pipeline", op.pipeline),
            ("options", op.options),
            ("sort", op.sort),
        )
        if part is not None
    }
    data = bson.encode(parts, codec_options=codec_options)
    exact = bson.decode(data, codec_options=EXACT_CODEC)
    copy = ReadOp(
        op.kind,
        op.namespace,
        exact["filter"],
        exact.get("projection"),
        exact.get("sort"),
        op.skip,
        op.limit,
        exact.get("options"),
        exact.get("pipeline"),
        op.key,
    )
    send: Any = exact
    if bson.encode(exact, codec_options=EXACT_CODEC) != data:
        send = RawBSONDocument(data, codec_options=RAW_CODEC)
    return Frozen(copy, send["filter"], send.get("projection"), send.get("pipeline"))
