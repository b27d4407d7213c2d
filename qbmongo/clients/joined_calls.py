"""Which calls may travel with others, and what they look like then.

`joinable` reads a method's arguments: what is anything but plain goes straight to the driver, which
also says what is wrong with it. `encoded` makes the bytes that will be sent, so that a later change
by the caller changes nothing, and a document that cannot be encoded concerns its own caller only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.objectid import ObjectId
from bson.regex import Regex

from ..core.snapshots import SCALARS, private
from ..records import JoinedWrite, WriteKind
from .frozen_writes import Sent

__all__ = ["EQUALITIES", "JOINED_KINDS", "encoded", "joinable"]

JOINED_KINDS = frozenset({"insert_one", "update_one", "replace_one", "delete_one"})
"""Methods whose calls may travel together."""

# What a method's positional arguments are, as far as they may be given by position.
_POSITIONAL: dict[str, tuple[str, ...]] = {
    "insert_one": ("document",),
    "update_one": ("filter", "update", "upsert"),
    "replace_one": ("filter", "replacement", "upsert"),
    "delete_one": ("filter",),
}
# How many of these a call without options has.
_PLAIN = {"insert_one": 1, "update_one": 2, "replace_one": 2, "delete_one": 1}
_DOCUMENT = {"insert_one": "document", "update_one": "update", "replace_one": "replacement"}
# Options that send a call straight to the driver unless they are None.
_OPTIONS: dict[str, frozenset[str]] = {
    "insert_one": frozenset({"bypass_document_validation", "session", "comment"}),
    "update_one": frozenset(
        {"bypass_document_validation", "collation", "hint", "session", "let", "sort", "comment"}
    ),
    "replace_one": frozenset(
        {"bypass_document_validation", "collation", "hint", "session", "let", "sort", "comment"}
    ),
    "delete_one": frozenset({"collation", "hint", "session", "let", "comment"}),
}

EQUALITIES = SCALARS - {Regex, re.Pattern}
"""Types of values for which a filter by `_id` looks by equality."""


def joinable(
    kind: WriteKind,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    indexed: Collection[str],
) -> JoinedWrite | str:
    """A call as it would travel with others, not encoded yet; or why it goes straight through.

    indexed: fields beside `_id` that are the first one of an index.
    """
    if kwargs or len(args) != _PLAIN[kind]:
        return _with_options(kind, args, kwargs, indexed)
    if kind == "insert_one":
        document = args[0]
        return JoinedWrite(kind, None, document, False) if type(document) is dict else "document"
    return _fit(kind, args[0], None if kind == "delete_one" else args[1], indexed)


def _with_options(
    kind: WriteKind,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    indexed: Collection[str],
) -> JoinedWrite | str:
    names = _POSITIONAL[kind]
    if len(args) > len(names):
        return "option"
    given = dict(zip(names, args))  # noqa: B905 - the rest may be named
    array_filters = None
    for name, value in kwargs.items():
        if name in names:
            if name in given:
                return "arguments"
            given[name] = value
        elif name == "array_filters" and kind == "update_one":
            array_filters = value
        elif name not in _OPTIONS[kind]:
            return "arguments"
        elif value is not None:
            return name
    upsert = given.get("upsert", False)
    if upsert is not True and upsert is not False:
        return "arguments"
    if array_filters is not None and not _is_documents(array_filters):
        return "arguments"
    write = _fit(kind, given.get("filter"), given.get(_DOCUMENT.get(kind, "")), indexed)
    if type(write) is JoinedWrite:
        write.upsert = upsert
        write.array_filters = array_filters
    return write


def _fit(
    kind: WriteKind, filter: Any, document: Any, indexed: Collection[str]
) -> JoinedWrite | str:
    if kind != "insert_one":
        reason = _unfit_filter(filter, indexed)
        if reason is not None:
            return reason
    if kind != "delete_one" and not _is_fit_document(kind, document):
        return "document"
    return JoinedWrite(kind, filter, document, False)


def _unfit_filter(filter: Any, indexed: Collection[str]) -> str | None:
    """Why a filter does not surely find its document by an index; None if it does."""
    if type(filter) is not dict:
        return "filter"
    found = False
    for name, value in filter.items():
        if type(name) is not str or name[:1] == "$":
            return "filter"
        if name == "_id":
            found = found or type(value) in EQUALITIES or _is_document(value)
        elif not found and name in indexed:
            found = type(value) in EQUALITIES and value is not None
    return None if found else "filter"


def _is_document(value: Any) -> bool:
    """Whether an `_id` is a document that is looked for, no operators."""
    return type(value) is dict and not any(str(name)[:1] == "$" for name in value)


def _is_fit_document(kind: WriteKind, document: Any) -> bool:
    """Whether the driver would surely take a document, replacement or update."""
    if kind == "update_one" and type(document) is list:
        return bool(document) and _is_documents(document)
    if type(document) is not dict:
        return False
    if kind == "insert_one":
        return True
    if not document:
        return kind == "replace_one"
    first = next(iter(document))
    if type(first) is not str:
        return False
    return (first[:1] == "$") is (kind == "update_one")


def _is_documents(value: Any) -> bool:
    return type(value) is list and all(type(item) is dict for item in value)


def encoded(write: JoinedWrite, codec: CodecOptions[Any], *, shown: bool) -> int | None:
    """Puts private, encoded copies into a write.

    An inserted document is given its `_id` as the driver does: the caller finds it there.

    Args:
        write: as `joinable` made it; changed in place.
        codec: of the call's collection.
        shown: whether the copies shall say what they hold without being decoded.

    Returns:
        Bytes of the copies; None: something has no encoding, which is for the driver to say.
    """
    try:
        document = write.document
        if write.kind == "insert_one":
            if "_id" not in document:
                document["_id"] = ObjectId()
            write.identity = document["_id"]
            copy = private(document) if shown else None
            raw = bson.encode(document if copy is None else copy, codec_options=codec)
            write.document = raw if copy is None else copy
            return len(raw)
        conditions = write.array_filters
        size = 0
        if conditions is not None:
            conditions, size = _each_sent(conditions, codec)
        if type(document) is dict:
            filter, document, more = _both_sent(write.filter, document, codec, shown)
            size += more
        else:
            filter = _sent(write.filter, codec, shown)
            if document is not None:  # a pipeline
                document, more = _each_sent(document, codec)
                size += more
            size += len(filter.raw)
    except Exception:
        return None  # the driver's own error follows
    write.filter, write.document, write.array_filters = filter, document, conditions
    return size


def _sent(value: dict[str, Any], codec: CodecOptions[Any], shown: bool) -> Sent:
    """A document as it will be sent."""
    # Bytes and copy are of the same content, whatever another thread does to the caller's.
    copy = private(value) if shown else None
    return Sent(value, bson.encode(value if copy is None else copy, codec_options=codec), copy)


def _each_sent(documents: list[Any], codec: CodecOptions[Any]) -> tuple[list[Sent], int]:
    """Each of a list of documents as it will be sent; and the bytes of all."""
    sent = [_sent(document, codec, shown=False) for document in documents]
    return sent, sum(len(one.raw) for one in sent)


# Where "q" begins in an encoded {"q": ..., "u": ...}: behind the length, and its own type and name.
_FIRST = 7


def _both_sent(
    filter: dict[str, Any], document: dict[str, Any], codec: CodecOptions[Any], shown: bool
) -> tuple[Sent, Sent, int]:
    """A filter and its document as they will be sent, encoded at once; and the bytes of both.

    Inside another document, as the driver's own command would encode them.

    Source: https://bsonspec.org/spec.html
    """
    looked_for = changed = None
    if shown:
        looked_for, changed = private(filter), private(document)
    raw = bson.encode(
        {
            "q": filter if looked_for is None else looked_for,
            "u": document if changed is None else changed,
        },
        codec_options=codec,
    )
    end = _FIRST + int.from_bytes(raw[_FIRST : _FIRST + 4], "little")
    sent = Sent(filter, raw[_FIRST:end], looked_for)
    # The type and name of "u", and the end of the whole.
    return sent, Sent(document, raw[end + 3 : -1], changed), len(raw) - _FIRST - 4
