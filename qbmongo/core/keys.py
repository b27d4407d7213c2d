"""The exact key of a read: what the server would be asked, as bytes.

Two reads share a key only if every answer to one is an answer to the other. True is not 1, the
order of a subdocument's fields counts, and values are compared as the collection's codec options
encode them, so that one entry serves every codec.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.objectid import ObjectId

from ..records import ReadOp

__all__ = ["key_of"]

_encode = bson.encode
_MAX_SORTED = 1_000
_MAX_DEPTH = 20
# Types whose values are encoded alike if they are equal, and can be sorted.
_SORTED = (str, int, ObjectId)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*\Z")
_NO_CHOICE: dict[str, Any] = {"$in": []}
_NOTHING: dict[str, Any] = {"_id": _NO_CHOICE}


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
                    if op.projection is None or not _is_positional(op.projection):
                        filter = _canonical_filter(filter, 0)
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


def _is_positional(projection: Mapping[str, Any]) -> bool:
    """Whether a projection asks which element of an array matched: that may depend on how the
    filter is written."""
    return any(".$" in name for name in projection)


def _canonical_filter(filter: dict[str, Any], depth: int) -> dict[str, Any]:
    """A filter with the same meaning whose encoding is the same for more ways to write it."""
    canonical: dict[str, Any] = {}
    logical = False
    for name, value in filter.items():
        kind = type(value)
        if kind is dict:
            if name[:1] != "$":
                value = _canonical_condition(value)
        elif kind is list and depth < _MAX_DEPTH and (name == "$or" or name == "$and"):
            logical = True
            value = [
                _canonical_filter(branch, depth + 1) if type(branch) is dict else branch
                for branch in value
            ]
        canonical[name] = value
    if logical:
        canonical = _unwrapped(canonical)
    if _NO_CHOICE in canonical.values() and _is_empty(canonical):
        _encode(canonical)  # its values are left out: what cannot be encoded still has no key
        return _NOTHING
    return canonical


def _is_empty(filter: dict[str, Any]) -> bool:
    """Whether a filter is surely valid and met by no document: `$in` of nothing and equalities.

    Proof: no value is equal to one of none, and a conjunction with what is never true never is.
    """
    return all(
        _NAME.match(name) and (type(value) in _SORTED or value == _NO_CHOICE)
        for name, value in filter.items()
    )


def _unwrapped(filter: dict[str, Any]) -> dict[str, Any]:
    """Conjunctions, and disjunctions that are none, written without `$and` and `$or`.

    Proof: a disjunction of one condition is that condition; the fields of a filter are a
    conjunction, and so is `$and`: neither has an order. The inner fields take the operator's place
    only where no name is there twice, because a document cannot hold both.
    """
    for operator in ("$or", "$and"):
        branches = filter.get(operator)
        if type(branches) is not list or not branches:
            continue
        if operator == "$or" and len(branches) > 1:
            inner = _as_in(branches)
            branches = [] if inner is None else [inner]
        if len(branches) == 0 or any(type(branch) is not dict for branch in branches):
            continue
        parts = [{name: value for name, value in filter.items() if name != operator}, *branches]
        merged = {name: value for part in parts for name, value in part.items()}
        if len(merged) == sum(map(len, parts)):
            filter = merged
    return filter


def _as_in(branches: list[Any]) -> dict[str, Any] | None:
    """A disjunction of equalities of one field as `$in`; None for any other.

    Proof: `$in` asks whether the field equals any of the values, each as an equality would. Values
    of one plain type only: a regular expression is no equality, null is one with what is missing.

    Source: https://www.mongodb.com/docs/manual/reference/operator/query/or/#-or-versus--in
    """
    values = []
    path: str | None = None
    for branch in branches:
        if type(branch) is not dict or len(branch) != 1:
            return None
        for name, value in branch.items():
            if type(value) not in _SORTED or name[:1] == "$" or name != (path or name):
                return None
            path = name
            values.append(value)
    if path is None or len(set(map(type, values))) > 1:
        return None
    return {path: _canonical_condition({"$in": values})}


def _canonical_condition(condition: dict[str, Any]) -> Any:
    """A field's condition: `$in` with its values once and in one order, an equality without `$eq`.

    Proof: `$in` asks whether a field equals any of the values; "any of" has no order and no
    number. (The server sorts them when it reads the query.) Nor does it order the answer: without a
    sort every order of the answer is right. Only lists of one plain type are sorted, where sorting
    cannot fail or merge what is encoded differently. Being in a list of one is being equal.

    Source: https://www.mongodb.com/docs/manual/reference/operator/query/in/,
    https://www.mongodb.com/docs/manual/reference/operator/query/eq/
    """
    if len(condition) == 1 and "$eq" in condition:
        value = condition["$eq"]
        return value if type(value) in _SORTED else condition
    values = condition.get("$in")
    if type(values) is not list or not 0 < len(values) <= _MAX_SORTED:
        return condition
    kinds = set(map(type, values))
    if len(kinds) != 1 or not kinds.issubset(_SORTED) or next(iter(condition))[:1] != "$":
        return condition
    if len(values) > 1:
        if kinds == {ObjectId}:
            values = sorted(set(values), key=_object_id_bytes)
        else:
            values = sorted(set(values))
        condition = {**condition, "$in": values}
    return values[0] if len(values) == 1 and len(condition) == 1 else condition


def _object_id_bytes(value: ObjectId) -> bytes:
    return value.binary
