"""Calls that look like earlier ones: a second look at their names would find the same.

Programs make very many writes by few lines of code. Whether such a call may travel with others,
which shape it has, and how many bytes its names take depends on what its `skeleton` holds; only its
values are looked at each time.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bson.objectid import ObjectId

from ..core.shape_filters import CLASSES
from ..core.snapshots import Private
from ..records import JoinedWrite, WriteKind
from .joined_calls import EQUALITIES

__all__ = ["KnownCall", "KnownCalls", "copied", "private_arguments", "size_of"]

_Skeleton = tuple[Any, ...]

# Types of an `_id` by which a filter looks by equality, and whose class in a shape they tell.
_KNOWN_IDS = EQUALITIES & CLASSES.keys()
# Kept at most; a program that makes up names gains nothing, and begins anew.
_MAX_CALLS = 512
_MAX_FIELDS = 8
_MAX_NAME = 200
# An empty document; a field's type, and the end of its name.
_EMPTY, _FIELD = 5, 2


class KnownCall:
    """What calls with one skeleton have in common.

    stats: of their shape, or None where nobody keeps statistics. filter_bytes, document_bytes: of
    BSON without the values.
    """

    __slots__ = ("document_bytes", "filter_bytes", "stats")

    def __init__(self, stats: Any, filter_bytes: int, document_bytes: int) -> None:
        self.stats = stats
        self.filter_bytes = filter_bytes
        self.document_bytes = document_bytes


class KnownCalls:
    """Calls without options, on one namespace under one set of settings, that may join others."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: dict[_Skeleton, KnownCall] = {}

    def find(self, kind: WriteKind, args: tuple[Any, ...]) -> KnownCall | None:
        """What is known of a call; None if nothing is, or it has to be looked at anyway.

        kind, args: the method and what it was given, which may be anything.
        """
        skeleton = _skeleton(kind, args)
        return None if skeleton is None else self._calls.get(skeleton)

    def keep(self, kind: WriteKind, args: tuple[Any, ...], stats: Any) -> None:
        """Has a call known that may join others.

        stats: of its shape, or None where nobody keeps statistics.
        """
        skeleton = _skeleton(kind, args)
        if skeleton is None:
            return
        sizes = []
        for name in ("_id", *skeleton[2:]) if len(skeleton) > 1 else ():
            if type(name) is not str or len(name) > _MAX_NAME or "\0" in name:
                return
            try:
                sizes.append(_FIELD + len(name.encode()))
            except UnicodeEncodeError:
                return
        filter_bytes = document_bytes = 0
        if sizes:
            filter_bytes = _EMPTY + sizes[0]
        if len(sizes) > 1:
            document_bytes = _EMPTY + sizes[1] + _EMPTY + sum(sizes[2:])
        if len(self._calls) >= _MAX_CALLS:
            self._calls.clear()
        self._calls[skeleton] = KnownCall(stats, filter_bytes, document_bytes)


def _skeleton(kind: WriteKind, args: tuple[Any, ...]) -> _Skeleton | None:
    """Names and types on which it depends whether a call joins, and its shape; None for calls of
    which other things must be seen as well."""
    try:
        if kind == "insert_one":
            [document] = args
            return (kind,) if type(document) is dict else None
        update = None
        if kind == "update_one":
            filter, update = args
        elif kind == "delete_one":
            [filter] = args
        else:
            return None
        if type(filter) is not dict or len(filter) != 1:
            return None
        [path] = filter
        if type(path) is not str or path != "_id":
            return None
        of = type(filter[path])
        if of not in _KNOWN_IDS:
            return None
        if kind == "delete_one":
            return (kind, of)
        if type(update) is not dict or len(update) != 1:
            return None
        [(operator, fields)] = update.items()
        if type(fields) is not dict or len(fields) > _MAX_FIELDS or type(operator) is not str:
            return None
        return (kind, of, operator, *fields)
    except Exception:  # other arguments, or another thread changes them meanwhile
        return None


def copied(call: KnownCall, write: JoinedWrite, *, shown: bool) -> int | None:
    """Puts private copies of filter and update into a write, if all of their values are plain.

    Args:
        call: what is known of it.
        write: an update or delete, as it was given; changed in place.
        shown: whether the copies shall say for certain what is sent.

    Returns:
        Bytes that they will take; None: something is not plain, and must be encoded.
    """
    copies = _copies(write.filter, write.document)
    if copies is None:
        return None
    size, filter, document = copies
    if shown:
        filter = Private(filter)
        if document is not None:
            document = Private(document)
    write.filter = filter
    write.document = document
    return size + call.filter_bytes + (0 if document is None else call.document_bytes)


def private_arguments(args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Private copies of what a known update or delete was given, which say for certain what is
    sent; None: something is not plain."""
    copies = _copies(*args)
    if copies is None:
        return None
    _, filter, document = copies
    if document is None:
        return (Private(filter),)
    return Private(filter), Private(document)


def _copies(filter: Any, document: Any = None) -> tuple[int, Any, Any] | None:
    """Copies of filter and update of a known call, and the bytes that their values take, if all of
    these are plain: immutable, and surely encoded by every codec as what they look like."""
    [(path, value)] = filter.items()
    size = size_of(value)
    if size < 0 or type(path) is not str or path != "_id":
        return None
    if document is not None:
        [(operator, fields)] = document.items()
        # What is looked at is what will be sent, whatever another thread does to the caller's.
        fields = dict(fields)
        if len(fields) > _MAX_FIELDS:
            return None
        for name, item in fields.items():
            item_size = size_of(item)
            if item_size < 0 or type(name) is not str:
                return None
            size += item_size
        document = {operator: fields}
    return size, {path: value}, document


_FIXED: dict[type, int] = {float: 8, bool: 1, type(None): 0, ObjectId: 12}


def size_of(value: Any) -> int:
    """Bytes of a plain value in BSON; -1 if it is not plain.

    Source: https://bsonspec.org/spec.html
    """
    of = type(value)
    if of is int:
        if -0x8000_0000 <= value <= 0x7FFF_FFFF:
            return 4
        return 8 if -0x8000_0000_0000_0000 <= value <= 0x7FFF_FFFF_FFFF_FFFF else -1
    if of is str:
        return len(value) + 5 if value.isascii() else -1
    if of is datetime:
        return 8 if value.tzinfo is None else -1
    return _FIXED.get(of, -1)
