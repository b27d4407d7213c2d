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


class Frozen:
    """One read's arguments as bytes: op for analysis, and the parts to send."""

    __slots__ = ("_raw", "op")

    def __init__(self, op: ReadOp, raw: RawBSONDocument) -> None:
        self.op = op
        self._raw = raw

    @property
    def filter(self) -> Any:
        return self._raw["f"]

    @property
    def projection(self) -> Any:
        return self._raw.get("p")

    @property
    def pipeline(self) -> Any:
        return self._raw.get("l")

    @property
    def options(self) -> dict[str, Any]:
        return dict(self._raw.get("o") or {})


def frozen(op: ReadOp, codec_options: CodecOptions[Any]) -> Frozen:
    """A private copy of an operation; codec_options are those the driver would encode it with.

    Raises what bson.encode raises for arguments that cannot be encoded.
    """
    parts: dict[str, Any] = {"f": op.filter}
    if op.projection is not None:
        parts["p"] = op.projection
    if op.pipeline is not None:
        parts["l"] = op.pipeline
    if op.options:
        parts["o"] = op.options
    if op.sort:
        parts["s"] = op.sort
    data = bson.encode(parts, codec_options=codec_options)
    exact = bson.decode(data, codec_options=EXACT_CODEC)
    copy = ReadOp(
        op.kind,
        op.namespace,
        exact["f"],
        exact.get("p"),
        exact.get("s"),
        op.skip,
        op.limit,
        exact.get("o"),
        exact.get("l"),
        op.key,
    )
    return Frozen(copy, RawBSONDocument(data, codec_options=RAW_CODEC))
