"""Writes of clients used from many threads, sent from private copies.

What the command listener reads of a write must be what was sent. Another thread may change the
caller's dicts between the driver's encoding and the event, so filters, updates and documents are
copied here (filters and updates that hold types of the program's own are encoded, and sent as those
bytes); what cannot be encoded is left to the driver, which raises its own error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument

from ..core.frozen import RAW_CODEC
from ..core.snapshots import Private, private

__all__ = ["FREEZERS", "Sent", "evident"]

# Of a statement that is sent as it is.
_SHOWN = frozenset({Private, type(None)})
_Arguments = tuple[tuple[Any, ...], dict[str, Any]]
_Freezer = Callable[[CodecOptions[Any], tuple[Any, ...], dict[str, Any]], _Arguments]


class Sent(dict[str, Any]):
    """What the program gave, to whoever looks at it (the driver's checks, the program's listeners),
    but encoded as bytes that were made before: bson takes it for a raw document by its marker.

    Only inside another document: at the top level of a document sequence (an inserted document) the
    driver takes it for the dict that it is. shown: a private copy, of which the bytes were made, or
    None.
    """

    __slots__ = ("raw", "shown")
    _type_marker = RawBSONDocument._type_marker

    def __init__(self, document: dict[str, Any], raw: bytes, shown: Private | None = None) -> None:
        dict.__init__(self, document)
        self.raw = raw
        self.shown = shown


def _sent(document: dict[str, Any], codec: CodecOptions[Any]) -> Sent | None:
    try:
        return Sent(document, bson.encode(document, codec_options=codec))
    except Exception:
        return None  # the driver's own error follows


def evident(name: str, command: Mapping[str, Any]) -> Mapping[str, Any]:
    """A started command with what was sent as private or raw documents, which count as evidence.

    name: of the command. Of a bulkWrite each operation is sent from copies, of one kind or the
    other, or none is; of other commands all statements are, or none.
    """
    if name == "findAndModify":
        return _evident(command)
    if name == "bulkWrite":
        operations = command["ops"]
        if any(type(operation.get("filter")) is Sent for operation in operations):
            return {**command, "ops": [_evident(operation) for operation in operations]}
        return command
    place = "updates" if name == "update" else "deletes" if name == "delete" else None
    if place is None:
        return command
    statement = command[place][0]
    if type(statement["q"]) is Private and type(statement.get("u")) in _SHOWN:
        return command
    shown = _evident(statement)
    return command if shown is statement else {**command, place: [shown]}


def _evident(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    sent: dict[str, Any] = {}
    for field, value in holder.items():
        if type(value) is Sent:
            sent[field] = _shown(value)
        elif type(value) is list and value and type(value[0]) is Sent:
            sent[field] = [_shown(item) for item in value]
    return {**holder, **sent} if sent else holder


def _shown(sent: Any) -> Any:
    return sent.shown if sent.shown is not None else RawBSONDocument(sent.raw, RAW_CODEC)


_INSERT_NAMES = ("document", "bypass_document_validation", "session", "comment")


def _is_insert_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the driver's insert_one takes these arguments; a call it refuses changes nothing."""
    return len(args) <= len(_INSERT_NAMES) and kwargs.keys() <= set(_INSERT_NAMES[len(args) :])


def _frozen_insert(
    codec: CodecOptions[Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> _Arguments:
    document = args[0] if args else kwargs.get("document")
    if type(document) is not dict or not _is_insert_call(args, kwargs):
        return args, kwargs
    # As the driver does: the caller finds the `_id` in its document.
    if "_id" not in document:
        document["_id"] = ObjectId()
    copy = private(document)
    if copy is None:
        return args, kwargs  # sent as it is, which is no evidence
    return ((copy, *args[1:]), kwargs) if args else (args, {**kwargs, "document": copy})


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
            copy = private(value) or _sent(value, codec)
            if copy is None:
                continue
            if position < len(args):
                positional[position] = copy
            else:
                named = {**named, name: copy}
        return tuple(positional), named

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
