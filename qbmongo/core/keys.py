"""The exact key of a read: what the server would be asked, as bytes.

Two reads share a key only if every answer to one is an answer to the other. True is not 1, the
order of a subdocument's fields counts, and values are compared as the collection's codec options
encode them, so that one entry serves every codec.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.objectid import ObjectId

from ..records import ReadOp

__all__ = ["key_of"]

_encode = bson.encode
_MAX_SORTED = 1_000


def key_of(op: ReadOp, codec_options: CodecOptions[Any]) -> Hashable | None:
    """The exact key of a read.

    Args:
        op: a read.
        codec_options: those of the collection, by which the driver encodes the command.

    Returns:
        A hashable key; None where the arguments cannot be encoded (the driver then says why).
    """
    filter = op.filter
    try:
        if type(filter) is dict:
            for name, value in filter.items():
                if type(value) is dict or name[:1] == "$":
                    filter = _canonical_filter(filter)
                    break
        encoded = _encode(filter, False, codec_options)
        if (
            op.projection is None
            and op.options is None
            and op.sort is None
            and not op.skip
            and op.pipeline is None
            and op.key is None
        ):
            kind = op.kind
            if kind == "find_one":
                return "find", op.namespace, encoded, 1
            if kind == "find":
                limit = op.limit
                return "find", op.namespace, encoded, 1 if limit == -1 else limit
        return _full_key(op, encoded, codec_options)
    except Exception:
        # Whatever is wrong with the arguments, the driver's own call tells it to its caller.
        return None


def _full_key(op: ReadOp, encoded: bytes, codec_options: CodecOptions[Any]) -> Hashable:
    rest: dict[str, Any] = {}
    if op.projection is not None:
        rest["projection"] = op.projection
    if op.sort is not None:
        rest["sort"] = op.sort
    if op.skip:
        rest["skip"] = op.skip
    if op.options:
        # A command's fields have no order among themselves, unlike the documents in them.
        rest["options"] = {name: op.options[name] for name in sorted(op.options)}
    if op.pipeline is not None:
        rest["pipeline"] = op.pipeline
    if op.key is not None:
        rest["key"] = op.key
    kind: str = op.kind
    limit = op.limit
    if kind == "find_one":
        kind, limit = "find", 1
    elif kind == "find" and limit == -1:
        limit = 1
    if not rest:
        return kind, op.namespace, encoded, limit
    return kind, op.namespace, encoded, limit, _encode(rest, False, codec_options)


def _canonical_filter(filter: Mapping[str, Any]) -> Mapping[str, Any]:
    """A filter with the same meaning whose encoding is the same for more ways to write it."""
    return {
        name: _ordered_in(value) if type(value) is dict else value
        for name, value in _unwrapped(filter).items()
    }


def _unwrapped(filter: Mapping[str, Any]) -> Mapping[str, Any]:
    """`$or` and `$and` of a single filter, written without them.

    Proof: a disjunction or conjunction of one condition is that condition, and the fields of a
    filter are a conjunction, whose order does not matter. The inner fields take the operator's
    place only where no name is there twice, because a document cannot hold both.
    """
    for operator in ("$or", "$and"):
        branches = filter.get(operator)
        if type(branches) is list and len(branches) == 1 and type(branches[0]) is dict:
            inner = branches[0]
            outer = {name: value for name, value in filter.items() if name != operator}
            if outer.keys().isdisjoint(inner):
                filter = {**outer, **inner}
    return filter


def _ordered_in(condition: dict[str, Any]) -> dict[str, Any]:
    """`$in` with its values in one order.

    Proof: `$in` asks whether a field equals any of the values; "any of" has no order. (The server
    sorts them when it reads the query.) Nor does it order the answer: without a sort every order
    of the answer is right. Only lists of one plain type are sorted, where sorting cannot fail or
    merge what is encoded differently: all are str, all ObjectId, or all int and not bool.

    Source: https://www.mongodb.com/docs/manual/reference/operator/query/in/
    """
    values = condition.get("$in")
    if type(values) is not list or not 1 < len(values) <= _MAX_SORTED:
        return condition
    kinds = set(map(type, values))
    if kinds == {int} or kinds == {str}:
        return {**condition, "$in": sorted(values)}
    if kinds == {ObjectId}:
        return {**condition, "$in": sorted(values, key=_object_id_bytes)}
    return condition


def _object_id_bytes(value: ObjectId) -> bytes:
    return value.binary
