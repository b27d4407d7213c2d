"""The documents of a find or getMore reply, as the bytes the server sent.

The driver decodes a reply once, into the program's types; to keep its documents as bytes as well,
they are cut out of the reply, not decoded and encoded again.

Source: https://bsonspec.org/spec.html
"""

from __future__ import annotations

import struct

__all__ = ["batch_of"]

_INT32 = struct.Struct("<i")
_DOCUMENT = 0x03
_ARRAY = 0x04
# Bytes of a value by its type; strings, documents, arrays and binaries begin with their length.
_FIXED = {0x01: 8, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16}
_LENGTH_AND_MORE = {0x02: 4, 0x03: 0, 0x04: 0, 0x05: 5}


def _element(data: bytes, at: int, names: tuple[bytes, ...], kind: int) -> int | None:
    """Where the value of the first element with one of the names and this type begins.

    at: where the document begins. None where there is none, or a type that a reply has not.
    """
    (size,) = _INT32.unpack_from(data, at)
    end = at + size - 1
    at += 4
    while at < end:
        type_ = data[at]
        name_end = data.index(0, at + 1)
        value = name_end + 1
        if type_ == kind and data[at + 1 : name_end] in names:
            return value
        fixed = _FIXED.get(type_)
        if fixed is not None:
            at = value + fixed
            continue
        more = _LENGTH_AND_MORE.get(type_)
        if more is None:
            return None
        (length,) = _INT32.unpack_from(data, value)
        at = value + length + more
    return None


def batch_of(reply: bytes) -> bytes | None:
    """The documents of a reply's batch, one after another; None where that cannot be told.

    reply: the reply's document ({cursor: {firstBatch | nextBatch: [...]}, ...}).
    """
    cursor = _element(reply, 0, (b"cursor",), _DOCUMENT)
    if cursor is None:
        return None
    array = _element(reply, cursor, (b"firstBatch", b"nextBatch"), _ARRAY)
    if array is None:
        return None
    (size,) = _INT32.unpack_from(reply, array)
    at, end = array + 4, array + size - 1
    documents = []
    while at < end:
        if reply[at] != _DOCUMENT:
            return None
        value = reply.index(0, at + 1) + 1
        (length,) = _INT32.unpack_from(reply, value)
        at = value + length
        documents.append(reply[value:at])
    return documents[0] if len(documents) == 1 else b"".join(documents)
