"""Writes of clients used from many threads, sent from private copies.

What the command listener reads of a write must be what was sent. Another thread may change the
caller's dicts between the driver's encoding and the event, so filters and updates are copied here
(documents, and what holds types of the program's own, are encoded and sent as those bytes); what
cannot be encoded is left to the driver, which raises its own error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.results import InsertOneResult

from ..core.frozen import RAW_CODEC
from ..core.snapshots import private

__all__ = ["FREEZERS"]

_Arguments = tuple[tuple[Any, ...], dict[str, Any], Callable[[Any], Any] | None]
_Freezer = Callable[[CodecOptions[Any], tuple[Any, ...], dict[str, Any]], _Arguments]


def _raw(document: dict[str, Any], codec: CodecOptions[Any]) -> RawBSONDocument | None:
    try:
        return RawBSONDocument(bson.encode(document, codec_options=codec), RAW_CODEC)
    except Exception:
        return None  # the driver's own error follows


def _frozen_insert(
    codec: CodecOptions[Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> _Arguments:
    document = args[0] if args else kwargs.get("document")
    if type(document) is not dict:
        return args, kwargs, None
    # As the driver does: the caller finds the `_id` in its document.
    if "_id" not in document:
        document["_id"] = ObjectId()
    raw = _raw(document, codec)
    if raw is None:
        return args, kwargs, None
    inserted_id = document["_id"]

    def finish(result: Any) -> Any:
        return InsertOneResult(inserted_id, result.acknowledged)

    if args:
        return (raw, *args[1:]), kwargs, finish
    return args, {**kwargs, "document": raw}, finish


def _frozen(names: tuple[str, ...]) -> _Freezer:
    """Freezes the arguments of these names, which are a method's first ones."""

    def freeze(
        codec: CodecOptions[Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> _Arguments:
        positional = list(args)
        named = kwargs
        for position, name in enumerate(names):
            value = positional[position] if position < len(args) else kwargs.get(name)
            # An empty update or replacement is judged by the driver.
            if type(value) is not dict or not value:
                continue
            copy = private(value) or _raw(value, codec)
            if copy is None:
                continue
            if position < len(args):
                positional[position] = copy
            else:
                named = {**named, name: copy}
        return tuple(positional), named, None

    return freeze


FREEZERS: dict[str, _Freezer] = {
    "insert_one": _frozen_insert,
    "update_one": _frozen(("filter", "update")),
    "update_many": _frozen(("filter", "update")),
    "replace_one": _frozen(("filter", "replacement")),
    "delete_one": _frozen(("filter",)),
    "delete_many": _frozen(("filter",)),
    "find_one_and_update": _frozen(("filter", "update")),
    "find_one_and_replace": _frozen(("filter", "replacement")),
    "find_one_and_delete": _frozen(("filter",)),
}
