"""What a server answers to a read, as bytes, and whether two answers to one read are both right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database
from pymongo.errors import OperationFailure

from qbmongo.core.values import canonical
from qbmongo.records import ReadOp
from qbmongo_tests.rewrite.orders import order_of
from qbmongo_tests.rewrite.reads import Case

__all__ = ["UNTOLD", "Answer", "ask", "command_of", "difference", "is_open"]

_RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)
_ALL = 100_000
# secantusd-rs says so of pipelines that are wrong, and where it meets values that it does not look
# up or compare: symbols, an `_id` that none can be.
_UNSUPPORTED = "the Rust server"


@dataclass(frozen=True, slots=True)
class Answer:
    """An error's code, or the documents (values of a distinct, the one of a count) as BSON."""

    code: int | None
    documents: tuple[bytes, ...] = ()


#: The server says that it cannot answer, and not why.
UNTOLD = Answer(0)


def command_of(op: ReadOp) -> dict[str, Any]:
    """The command that the driver sends for a read."""
    collection = op.namespace.partition(".")[2]
    options = dict(op.options or {})
    if op.kind in ("find", "find_one"):
        command: dict[str, Any] = {"find": collection, "filter": op.filter}
        for name in ("projection", "sort", "skip"):
            value = getattr(op, name)
            if value:
                command[name] = value
        if op.limit:
            command["limit"] = abs(op.limit)
        return {**command, "singleBatch": True, "batchSize": _ALL, **options}
    if op.kind == "distinct":
        return {"distinct": collection, "key": op.key, "query": op.filter, **options}
    if op.kind == "aggregate":
        pipeline: Any = op.pipeline
    else:
        assert op.kind == "count_documents"
        pipeline = [{"$match": op.filter}]
        if op.skip:
            pipeline.append({"$skip": op.skip})
        if op.limit:
            pipeline.append({"$limit": op.limit})
        pipeline.append({"$group": {"_id": 1, "n": {"$sum": 1}}})
    return {"aggregate": collection, "pipeline": pipeline, "cursor": {"batchSize": _ALL}, **options}


def ask(database: Database[Any], op: ReadOp) -> Answer:
    """Sends a read by the plain driver."""
    try:
        reply = database.command(command_of(op), codec_options=_RAW)
    except OperationFailure as error:
        return UNTOLD if _UNSUPPORTED in str(error) else Answer(error.code or -1)
    if op.kind == "distinct":
        return Answer(None, tuple(bson.encode({"": value}) for value in reply["values"]))
    return Answer(None, tuple(document.raw for document in reply["cursor"]["firstBatch"]))


def is_open(database: Database[Any], case: Case, one: Answer, other: Answer) -> bool:
    """Whether two different answers to one read may both be right, or nothing was told.

    database: asked whether an error is one that another page's documents may meet.
    """
    if UNTOLD in (one, other):
        return True
    if case.op.kind == "distinct" and one.code is other.code is None:
        # Of equal values (0.0 and Decimal128("-0")) it is the first one met that is told.
        return _values(one) == _values(other)
    if one.code == other.code:
        return case.open_ended
    if case.whole is None:
        return False
    code = ask(database, case.whole).code
    return code is not None and code in (one.code, other.code)


def _values(answer: Answer) -> Counter[Any]:
    return Counter(canonical(bson.decode(value)[""]) for value in answer.documents)


def difference(database: Database[Any], case: Case, one: Answer, other: Answer) -> str | None:
    """Why not both are right answers to one read; None where they are, or nothing was told.

    database: asked for the whole of which both may be a part.
    """
    if one == other or UNTOLD in (one, other):
        return None
    if one.code != other.code:
        return f"error {one.code} != error {other.code}"
    left, right = _facets_ordered(case.op, one), _facets_ordered(case.op, other)
    if case.order == "total" and left != right:
        return _told(left, right)
    if case.order == "ids" and list(map(_id_of, left)) != list(map(_id_of, right)):
        return _told(left, right)
    if Counter(left) == Counter(right):
        return None
    if case.whole is None or len(left) != len(right):
        return _told(left, right)
    whole = ask(database, case.whole)
    for part in (left, right):
        more = Counter(part) - Counter(whole.documents)
        if more:
            return f"not among what there is: {list(map(bson.decode, more))}"
    return None


def _told(left: tuple[bytes, ...], right: tuple[bytes, ...]) -> str:
    only, other = Counter(left) - Counter(right), Counter(right) - Counter(left)
    return (
        f"{len(left)} documents != {len(right)}, only here"
        f" {list(map(bson.decode, only))[:3]}, only there {list(map(bson.decode, other))[:3]}"
    )


def _id_of(document: bytes) -> bytes:
    return bson.encode({"": RawBSONDocument(document).get("_id")})


def _facets_ordered(op: ReadOp, answer: Answer) -> tuple[bytes, ...]:
    """The documents; what the branches of a $facet found in no certain order is put into one."""
    pipeline = op.pipeline or ()
    at = next((at for at, stage in enumerate(pipeline) if "$facet" in stage), None)
    if at is None or not isinstance(pipeline[at]["$facet"], Mapping):
        return answer.documents
    made = []
    for document in answer.documents:
        parts = dict(RawBSONDocument(document))
        for name, branch in pipeline[at]["$facet"].items():
            if name in parts and order_of([*pipeline[:at], *branch]) == "free":
                parts[name] = sorted(parts[name], key=lambda found: found.raw)
        made.append(bson.encode(parts))
    return tuple(made)
