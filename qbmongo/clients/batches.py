"""A batch as the driver's own call, and its outcome as what each caller is to be given.

Inserts travel as one unordered `insert_many`, everything else as one unordered, verbose
`client.bulk_write`; both are the driver's, with its retries. Their results and exceptions are read
as plain data (`reply_of`), judged by core.coalesce.settle, and made into the results and exceptions
of single calls (`answers`). Neither BulkWriteError nor ClientBulkWriteException reaches a caller.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ClientBulkWriteException,
    ConnectionFailure,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
    WriteError,
    WTimeoutError,
)
from pymongo.operations import DeleteOne, ReplaceOne, UpdateOne
from pymongo.results import DeleteResult, InsertOneResult, UpdateResult

from ..records import Batch, BatchReply, JoinedWrite, Verdict
from .listener import Wire
from .own_errors import copy_of

__all__ = [
    "SEND_ALONE",
    "Raised",
    "Told",
    "answers",
    "changed_by",
    "documents",
    "models",
    "plain_arguments",
    "plain_result",
    "reply_of",
    "untold",
]

# What says something of one operation, or of batches; not what all of a batch may be told.
_NOT_OF_ALL = (BulkWriteError, ClientBulkWriteException, WriteError)
# The driver's own rule for WTimeoutError.
_TIMED_OUT = 50


class Told:
    """What a caller is given that is no result."""

    __slots__ = ()


class _SendAlone(Told):
    """What a caller is given that must make its plain call."""

    __slots__ = ()


SEND_ALONE = _SendAlone()


class Raised(Told):
    """What a caller is given that must raise."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def documents(batch: Batch) -> list[Any]:
    """The documents of a batch of inserts."""
    return [own_document(write) for write in batch.slots]


def own_document(write: JoinedWrite) -> Any:
    """An inserted document as it is sent: a copy that nobody can change."""
    sent = write.document
    return RawBSONDocument(sent) if type(sent) is bytes else sent


def models(batch: Batch, namespace: str) -> list[Any]:
    """The requests of a batch of updates, replacements and deletes for `client.bulk_write`."""
    first, *others = [_model(write, namespace) for write in batch.slots]
    return [_Opening(first), *others]


class _Opening:
    """The first request of a batch: has the replies decoded as the driver decodes those of single
    writes, where what is no UTF-8 is replaced.

    A server cuts long values in the words of an error, also in the middle of a character. One such
    error would leave the outcome of the whole batch unknown, as `client.bulk_write` has nothing to
    say against it.

    Source: https://github.com/mongodb/mongo, src/mongo/bson/bsonelement.cpp, toString; PyMongo,
        Collection._write_response_codec_options
    """

    __slots__ = ("_request",)

    def __init__(self, request: Any) -> None:
        self._request = request

    def _add_to_client_bulk(self, bulk: Any) -> None:
        made: Any = type(bulk)
        # A driver that is made otherwise decodes as it does.
        if isinstance(getattr(made, "bulk_ctx_class", None), property):
            bulk.__class__ = _replacing(made)
        self._request._add_to_client_bulk(bulk)


@lru_cache(maxsize=4)
def _replacing(bulk_type: Any) -> Any:
    """The driver's class of a client's bulk write (there is one for each driver), but for how its
    replies are decoded."""

    def contexts(bulk: Any) -> Callable[..., Any]:
        made = bulk_type.bulk_ctx_class.fget(bulk)

        def make(*args: Any) -> Any:
            *others, codec = args
            return made(*others, codec.with_options(unicode_decode_error_handler="replace"))

        return make

    return type(bulk_type.__name__, (bulk_type,), {"bulk_ctx_class": property(contexts)})


def _model(write: JoinedWrite, namespace: str) -> Any:
    # upsert=False is what the server takes when nothing is said; it is not sent then.
    upsert = write.upsert or None
    if write.kind == "update_one":
        return UpdateOne(
            write.filter,
            write.document,
            upsert,
            array_filters=write.array_filters,
            namespace=namespace,
        )
    if write.kind == "replace_one":
        return ReplaceOne(write.filter, write.document, upsert, namespace=namespace)
    return DeleteOne(write.filter, namespace=namespace)


def reply_of(result: Any, error: BaseException | None, wire: Wire) -> BatchReply:
    """The outcome of a batch's driver call as plain data.

    result: what it returned, if it did. error: what it raised. wire: what was seen of its commands.
    """
    if error is None:
        if hasattr(result, "inserted_ids"):
            return BatchReply(None, {}, sent=wire.started)
        return _read(result.bulk_api_result, None, wire)
    if isinstance(error, BulkWriteError):
        details: Mapping[str, Any] = error.details
        errors = {item["index"]: item for item in details["writeErrors"]}
        return BatchReply(None, errors, _concern(details), sent=wire.started)
    if isinstance(error, ClientBulkWriteException):
        return _read(error.details, error.error, wire)
    if isinstance(error, ConnectionFailure) or not isinstance(error, Exception):
        # Interrupted is as lost: what was on its way may have arrived.
        return BatchReply({}, {}, None, "network", None, wire.started)
    if isinstance(error, OperationFailure):
        return BatchReply({}, {}, None, "command", error.code, wire.started)
    return BatchReply({}, {}, None, "other", None, wire.started)


def _read(details: Mapping[str, Any], error: Any, wire: Wire) -> BatchReply:
    """A client bulk write's result, or the details of its exception."""
    results: dict[int, Any] = {}
    for name in ("updateResults", "deleteResults"):
        results.update({place: result.raw_result for place, result in details[name].items()})
    errors = {item["idx"]: item for item in details["writeErrors"]}
    concern = _concern(details)
    if error is not None:
        failure: Any = "network" if isinstance(error, ConnectionFailure) else "command"
        code = getattr(error, "code", None)
        return BatchReply(results, errors, concern, failure, code, wire.started)
    if concern is not None and not results and not errors and wire.reply is not None:
        # After a retryable write concern error the driver does not read the results.
        for item in wire.reply.get("cursor", {}).get("firstBatch", ()):
            (results if item["ok"] else errors)[item["idx"]] = item
    return BatchReply(results, errors, concern, sent=wire.started)


def _concern(details: Mapping[str, Any]) -> Mapping[str, Any] | None:
    told = details["writeConcernErrors"]
    return told[-1] if told else None


def answers(batch: Batch, verdicts: list[Verdict], error: BaseException | None) -> list[Any]:
    """What each caller is given: a result, Raised, or SEND_ALONE.

    error: what the driver's call raised, or None. Every exception is its caller's own object.
    """
    whole = error
    if isinstance(error, ClientBulkWriteException):
        told = error.error
        whole = told if isinstance(told, BaseException) else None
    given: list[Any] = []
    for write, verdict in zip(batch.slots, verdicts, strict=True):
        if verdict.kind != "done":
            given.append(_unusual(verdict, whole))
        elif write.kind == "insert_one":
            given.append(InsertOneResult(write.identity, True))
        elif write.kind == "delete_one":
            given.append(DeleteResult(verdict.document, True))  # type: ignore[arg-type]
        else:
            given.append(UpdateResult(verdict.document, True))
    return given


def changed_by(write: JoinedWrite, result: Any) -> int:
    """How many documents a write's result says it changed: `arguments.changed`, of `answers`."""
    if write.kind == "insert_one":
        return 1
    document = result.raw_result
    if write.kind == "delete_one":
        return document["n"]  # type: ignore[no-any-return]
    return document["nModified"] + (document.get("upserted") is not None)  # type: ignore[no-any-return]


def _unusual(verdict: Verdict, whole: BaseException | None) -> Told:
    kind, document = verdict.kind, verdict.document
    if kind == "alone":
        return SEND_ALONE
    if kind == "failed":
        assert document is not None
        return Raised(_write_error(copy.deepcopy(document)))
    if kind == "concern":
        assert document is not None
        return Raised(_concern_error(copy.deepcopy(document)))
    if not isinstance(whole, PyMongoError) or isinstance(whole, _NOT_OF_ALL):
        return untold(whole)
    return Raised(copy_of(whole))


def untold(error: BaseException | None) -> Raised:
    """What a caller is given of whose operation nobody knows what became.

    error: what the driver's call raised, if it did.
    """
    made = AutoReconnect("the server did not tell the outcome of this operation")
    made.__cause__ = error
    return Raised(made)


def _write_error(details: Mapping[str, Any]) -> WriteError:
    code, message = details.get("code"), details.get("errmsg", "")
    if code == 11000:
        return DuplicateKeyError(message, code, details)
    return WriteError(message, code, details)


def _concern_error(details: Mapping[str, Any]) -> WriteConcernError:
    code, message = details.get("code"), details.get("errmsg", "")
    info = details.get("errInfo") or {}
    if code == _TIMED_OUT or info.get("wtimeout"):
        return WTimeoutError(message, code, details)
    return WriteConcernError(message, code, details)


def plain_arguments(write: JoinedWrite) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of the plain call of a gathered write, private as they are."""
    kind = write.kind
    if kind == "insert_one":
        return (own_document(write),), {}
    if kind == "delete_one":
        return (write.filter,), {}
    options: dict[str, Any] = {"upsert": write.upsert}
    if write.array_filters is not None:
        options["array_filters"] = write.array_filters
    return (write.filter, write.document), options


def plain_result(write: JoinedWrite, result: Any) -> Any:
    """The result of that call as the program's own call gives it."""
    if write.kind == "insert_one":
        # Of a raw document the driver tells no `_id`.
        return InsertOneResult(write.identity, result.acknowledged)
    return result
