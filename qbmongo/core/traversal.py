"""Which elements of a document a dotted path leads to, as the server's matcher visits them.

Source: https://www.mongodb.com/docs/manual/core/document/#dot-notation
        https://www.mongodb.com/docs/manual/tutorial/query-array-of-documents/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bson.dbref import DBRef
from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp

from .values import decode_exactly, type_order


class Mark:
    """What a path leads to when it leads to no value."""

    __slots__ = ()


class Perhaps(Mark):
    """An element that some servers visit and others do not."""

    __slots__ = ("element",)

    def __init__(self, element: Any) -> None:
        self.element = element


MISSING = Mark()
# A value that is not known here, or that only the server will fill in.
UNSURE = Mark()
# An array on the way holds something else than documents, or not the index asked for: whether the
# field is missing there, as a comparison with null asks, differs between servers (SERVER-36681).
_PERHAPS_MISSING = Perhaps(MISSING)


def plain(value: Any) -> Any:
    """A value with a raw document or DBRef replaced by the document it is encoded as.

    Raises:
        TypeError: a raw document has no exact Python form.
    """
    if isinstance(value, RawBSONDocument):
        return decode_exactly(value)
    return value.as_doc() if isinstance(value, DBRef) else value


def as_stored(document: Any) -> Mapping[str, Any]:
    """The document as the server will hold it: it fills in an `_id` and empty timestamps."""
    document = plain(document)
    filled_in = {
        name: UNSURE
        for name, value in document.items()
        if isinstance(value, Timestamp) and value.time == 0 and value.inc == 0
    }
    if "_id" not in document:
        filled_in["_id"] = UNSURE
    return {**document, **filled_in} if filled_in else document


def walk(
    document: Mapping[str, Any], parts: Sequence[str], start: int, into_arrays: bool
) -> Iterator[Any]:
    """The elements that a path leads to.

    Args:
        document: where to begin.
        parts: the names of the path.
        start: the index of the first name that is still to be followed.
        into_arrays: an array at the end of the path stands for its items, too.

    Returns:
        Values, documents and arrays as plain Python objects, and marks.
    """
    last = len(parts) - 1
    while True:
        value = _stored(document.get(parts[start], MISSING))
        if isinstance(value, list | tuple):
            yield from _walk_array(value, parts, start + 1, into_arrays)
            return
        if start == last or isinstance(value, Mark):
            yield value
            return
        if not isinstance(value, Mapping):
            yield MISSING if is_scalar(value) else UNSURE
            return
        document, start = value, start + 1


def items(element: Any) -> Sequence[Any]:
    """The items of an array; none of what is known to be no array.

    Raises:
        TypeError: a type that is not known here, which may be encoded as an array.
    """
    if isinstance(element, list | tuple):
        return [_stored(item) for item in element]
    if element is not MISSING:
        type_order(element)
    return ()


def is_scalar(value: Any) -> bool:
    """Whether a value is surely encoded as neither a document nor an array."""
    try:
        return type_order(value) not in (20, 25)
    except TypeError:
        return False


def _walk_array(
    array: Sequence[Any], parts: Sequence[str], start: int, into_arrays: bool
) -> Iterator[Any]:
    if start == len(parts):
        if into_arrays:
            yield from map(_stored, array)
        yield array
        return
    last = start == len(parts) - 1
    only_documents = bool(array)
    for index, item in enumerate(map(_stored, array)):
        here = parts[start] == str(index)
        if isinstance(item, Mapping):
            # A number in a path is a field's name and an array's index, whichever leads on.
            yield from walk(item, parts, start, into_arrays)
            if here and not last:
                yield from walk(item, parts, start + 1, into_arrays)
        else:
            only_documents = False
            if isinstance(item, list | tuple):
                if here and not last:
                    yield from _walk_array(item, parts, start + 1, into_arrays)
            elif not is_scalar(item):
                yield UNSURE
        if here and last:
            yield item
            if into_arrays and isinstance(item, list | tuple):
                # MongoDB does not look into an array that an index led to, yet an index on the path
                # holds its items; no page of the manual says which.
                yield from map(Perhaps, map(_stored, item))
    if not only_documents or parts[start].isdigit():
        yield _PERHAPS_MISSING


def _stored(value: Any) -> Any:
    try:
        return plain(value)
    except TypeError:
        return UNSURE
