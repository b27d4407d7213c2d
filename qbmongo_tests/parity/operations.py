"""The one description of operations, as data, for all drivers.

A step is a short program: a tuple of calls. A call names its receiver ("client", "database", a
collection's name, or "$slot" for what an earlier call stored), a method and its arguments. Methods
that begin with @ stand for syntax that differs between drivers (`for` and `async for`, `with` and
`async with`, `next`, subscripts, reading an attribute).

Placeholders in arguments are replaced for each arm when the call is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bson import DBRef

from qbmongo_tests.parity import values as v
from qbmongo_tests.parity.choices import Build, Choices, among, built, constant

COLLECTIONS = ("c0", "c1")


@dataclass(frozen=True)
class Slot:
    """What an earlier call of the same step stored."""

    name: str


@dataclass(frozen=True)
class Namespace:
    """The full name of a collection in the arm's database."""

    collection: str


@dataclass(frozen=True)
class Handle:
    """The arm's own database ("database") or collection object."""

    name: str


@dataclass(frozen=True)
class Iterator:
    """An iterator over the elements: the driver may consume it."""

    elements: tuple[Any, ...]


@dataclass(frozen=True)
class Request:
    """An operation of a bulk write, or an index model, built anew for each arm."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Callback:
    """A function (a coroutine function for the async drivers) that makes the calls.

    It raises the first exception, or goes on where `stops` is False.
    """

    calls: tuple[Call, ...]
    stops: bool = True


@dataclass(frozen=True, repr=False)
class Call:
    """One call. `options` names the with_options to apply to the receiver; `timeout_s` runs it
    under pymongo.timeout; `store` keeps the result for later calls; `opaque` compares its
    type only.
    """

    receiver: str
    method: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: str | None = None
    timeout_s: float | None = None
    store: str | None = None
    opaque: bool = False

    def __repr__(self) -> str:
        told = [repr(value) for value in self.args]
        told += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        receiver = self.receiver + (f".with_options({self.options})" if self.options else "")
        text = f"{receiver}.{self.method}({', '.join(told)})"
        text = f"{self.store} = {text}" if self.store else text
        return f"<{text} within {self.timeout_s} s>" if self.timeout_s else f"<{text}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How hypothesis prints a failing example."""
        printer.text(repr(self))


Step = tuple[Call, ...]


@dataclass(frozen=True)
class Method:
    """How to make random arguments of a method: positional ones, and keyword options."""

    name: str
    args: tuple[Build, ...] = ()
    options: Mapping[str, Build] = field(default_factory=dict)
    opaque: bool = False


_flag = among(True, False)
_UPDATE_OPTIONS: dict[str, Build] = {
    "upsert": among(True, False, True, 1),
    "bypass_document_validation": _flag,
    "collation": v.collation,
    "hint": v.hint,
    "let": v.let,
    "comment": v.comment,
}
FIND_OPTIONS: dict[str, Build] = {
    "projection": v.projection, "sort": v.sort, "skip": among(1, 0, 2, -1), "limit": v.small,
    "collation": v.collation, "hint": v.hint, "let": v.let, "comment": v.comment,
    "max_time_ms": v.max_time_ms, "batch_size": v.batch_size, "no_cursor_timeout": _flag,
    "allow_partial_results": _flag, "return_key": _flag, "show_record_id": constant(False),
    "allow_disk_use": _flag, "min": among([("_id", 1)], {"_id": 1}, [("a", 0)]),
    "max": among([("_id", 4)], [("a", 2)]), "bogus": constant(1),
}  # fmt: skip
_MODIFY_OPTIONS: dict[str, Build] = {
    "projection": v.projection, "sort": v.sort, "hint": v.hint, "let": v.let, "comment": v.comment,
    "collation": v.collation, "maxTimeMS": v.max_time_ms,
}  # fmt: skip
_MODIFY_MORE: dict[str, Build] = {
    **_MODIFY_OPTIONS, "upsert": _flag, "return_document": among(True, False, 1),
}  # fmt: skip
_COUNT_OPTIONS: dict[str, Build] = {
    "skip": v.small, "limit": among(1, 2, 0, 100, -1), "collation": v.collation, "hint": v.hint,
    "maxTimeMS": v.max_time_ms, "comment": v.comment,
}  # fmt: skip
AGGREGATE_OPTIONS: dict[str, Build] = {
    "let": v.let, "comment": v.comment, "collation": v.collation, "hint": v.hint,
    "batchSize": v.batch_size, "maxTimeMS": v.max_time_ms, "allowDiskUse": _flag,
    "bypassDocumentValidation": _flag, "bogus": constant(1),
}  # fmt: skip


def _documents(choices: Choices) -> Any:
    documents = choices.some(v.document, 3, 1)
    kind = choices.index(12)
    if kind == 11:
        return Iterator(tuple(documents))
    return tuple(documents) if kind == 10 else documents


def _document(choices: Choices) -> Any:
    return v.raw_document(choices) if choices.chance(5) else v.document(choices)


_BULK_MODELS = (
    Method("InsertOne", (v.document,)),
    Method("UpdateOne", (v.filter_, v.update), {
        "upsert": _flag, "collation": v.collation, "array_filters": v.array_filters,
        "hint": v.hint, "sort": v.sort,
    }),
    Method("UpdateMany", (v.filter_, v.update), {
        "upsert": _flag, "collation": v.collation, "array_filters": v.array_filters, "hint": v.hint,
    }),
    Method("ReplaceOne", (v.filter_, v.replacement), {
        "upsert": _flag, "collation": v.collation, "hint": v.hint, "sort": v.sort,
    }),
    Method("DeleteOne", (v.filter_,), {"collation": v.collation, "hint": v.hint}),
    Method("DeleteMany", (v.filter_,), {"collation": v.collation, "hint": v.hint}),
)  # fmt: skip


def _request(choices: Choices) -> Any:
    method = choices.one(_BULK_MODELS)
    options = choices.options(method.options, 1)
    return Request(method.name, tuple(build(choices) for build in method.args), options)


def _requests(choices: Choices) -> Any:
    requests = choices.some(_request, 3, 1)
    return choices.one(WRONG_REQUESTS) if choices.chance(4) else requests


WRONG_REQUESTS: tuple[Any, ...] = ([], [{"insert": 1}], 5, (), None, [Request("InsertOne", (5,))])


def _client_requests(choices: Choices) -> Any:
    if choices.chance(4):
        return choices.one(WRONG_REQUESTS)
    made = []
    for request in choices.some(_request, 3, 1):
        namespace = Namespace(choices.one(COLLECTIONS))
        made.append(replace(request, kwargs={**request.kwargs, "namespace": namespace}))
    return made


READS = (
    Method("find_one", (built(v.filter_, v.filter_, v.identifier, constant(None)),), FIND_OPTIONS),
    Method("find_one", (v.filter_, v.projection), FIND_OPTIONS),
    Method("find_one", (v.filter_,)),
    Method("find_one", (v.filter_,), {"sort": v.sort, "projection": v.projection}),
    Method("count_documents", (v.filter_,), _COUNT_OPTIONS),
    Method("estimated_document_count", (), {"comment": v.comment, "maxTimeMS": v.max_time_ms}),
    Method("distinct", (v.path,), {
        "filter": v.filter_, "comment": v.comment, "hint": v.hint, "collation": v.collation,
    }),
    Method("index_information", (), {"comment": v.comment}),
    Method("options", (), {"comment": v.comment}),
)  # fmt: skip
WRITES = (
    Method("insert_one", (_document,), {
        "bypass_document_validation": _flag, "comment": v.comment, "session": among(5, "x"),
    }),
    Method("insert_many", (_documents,), {
        "ordered": among(False, True), "comment": v.comment, "bypass_document_validation": _flag,
    }),
    Method("update_one", (v.filter_, v.update), {**_UPDATE_OPTIONS, "sort": v.sort}),
    Method("update_one", (v.filter_, v.update), {"upsert": constant(True)}),
    Method("update_many", (v.filter_, v.update), _UPDATE_OPTIONS),
    Method("replace_one", (v.filter_, v.replacement), {**_UPDATE_OPTIONS, "sort": v.sort}),
    Method("delete_one", (v.filter_,), {
        "collation": v.collation, "hint": v.hint, "let": v.let, "comment": v.comment,
    }),
    Method("delete_many", (v.filter_,), {
        "collation": v.collation, "hint": v.hint, "let": v.let, "comment": v.comment,
    }),
    Method("find_one_and_update", (v.filter_, v.update), {
        **_MODIFY_MORE, "array_filters": v.array_filters,
    }),
    Method("find_one_and_replace", (v.filter_, v.replacement), _MODIFY_MORE),
    Method("find_one_and_delete", (v.filter_,), _MODIFY_OPTIONS),
)  # fmt: skip
BULK_WRITE = Method("bulk_write", (_requests,), {
    "ordered": among(False, True), "comment": v.comment, "let": v.let,
    "bypass_document_validation": _flag,
})  # fmt: skip
CLIENT_BULK_WRITE = Method("bulk_write", (_client_requests,), {
    "ordered": among(False, True), "verbose_results": among(True, False), "comment": v.comment,
    "let": v.let, "bypass_document_validation": _flag,
})  # fmt: skip
_index_keys = among("a", [("a", 1)], [("b", -1), ("a", 1)], "arr", {"n.x": 1}, [], "s", [("a", 2)])
_INDEX_OPTIONS: dict[str, Build] = {
    "unique": _flag, "sparse": _flag, "name": among("named", "a_1"), "collation": v.collation,
    "partialFilterExpression": among({"a": {"$gt": 1}}, {"a": {"$bogus": 1}}), "hidden": _flag,
    "expireAfterSeconds": among(10**8), "comment": v.comment,
}  # fmt: skip


def _index_models(choices: Choices) -> Any:
    def model(choices: Choices) -> Request:
        return Request("IndexModel", (_index_keys(choices),), choices.options(_INDEX_OPTIONS, 1))

    return choices.some(model, 2, 1)


_index_name = among("a_1", "named", "arr_1", "b_-1_a_1", [("a", 1)], "nope", "_id_", "*")
SCHEMA = (
    Method("create_index", (_index_keys,), _INDEX_OPTIONS),
    Method("create_indexes", (_index_models,), {"comment": v.comment}),
    Method("drop_index", (_index_name,), {"comment": v.comment}),
    Method("drop_indexes", (), {"comment": v.comment}),
    Method("drop", (), {"comment": v.comment}),
    Method("rename", (among("c1", "c0", "made", "bad$name", "", 5),), {
        "dropTarget": _flag, "comment": v.comment,
    }),
    Method("create_search_index", (constant({"definition": {}}),)),
    Method("create_search_indexes", (constant([]),)),
    Method("drop_search_index", (constant("x"),)),
    Method("update_search_index", (constant("x"), constant({}))),
)  # fmt: skip
_name = among("c0", "c1", "made", "absent", Handle("c0"), "", 5)
_COLLECTION_OPTIONS: dict[str, Build] = {
    "capped": constant(True), "size": among(100_000, -1), "max": constant(3),
    "collation": v.collation, "validator": among({"a": {"$ne": 3}}, {"$bogus": 1}),
    "check_exists": _flag, "bogus": constant(1),
    "codec_options": constant(None), "write_concern": constant(None),
}  # fmt: skip
_command = among(
    "ping", {"ping": 1}, {"count": "c0"}, {"find": "c0", "limit": 2}, {"bogus": 1}, "bogus",
    {"distinct": "c0", "key": "a"}, {"insert": "c0", "documents": [{"_id": 6}]},
    {"update": "c0", "updates": [{"q": {"_id": 1}, "u": {"$set": {"a": 5}}}]},
    {"delete": "c0", "deletes": [{"q": {"_id": 1}, "limit": 1}]}, {},
    {"findAndModify": "c0", "query": {"_id": 1}, "remove": True}, {"drop": "absent"}, 5,
    {"aggregate": "c0", "pipeline": [], "cursor": {}}, {"listCollections": 1, "nameOnly": True},
)  # fmt: skip
DATABASE = (
    Method("command", (_command,), {"check": _flag, "comment": v.comment}),
    Method("create_collection", (_name,), _COLLECTION_OPTIONS),
    Method("drop_collection", (_name,), {"comment": v.comment}),
    Method("list_collection_names", (), {
        "filter": among({"name": "c0"}, {"type": "view"}, {}, 5), "comment": v.comment,
    }),
    Method("get_collection", (_name,)),
    Method("validate_collection", (_name,), {"full": _flag, "comment": v.comment}, opaque=True),
    Method("dereference", (among(DBRef("c0", 1), DBRef("c0", 1, "other"), 5),)),
    Method("with_options", (), {"codec_options": constant(None), "bogus": constant(1)}),
    Method("@get", (among("name", "client", "codec_options", "write_concern", "c0"),)),
    Method("@bool"), Method("@getitem", (_name,)), Method("__call__"),
)  # fmt: skip
CLIENT = (
    Method("server_info"), Method("get_database", (among(Handle("name"), None, "", 5),)),
    Method("get_default_database", (), {"default": constant(Handle("name"))}),
    Method("list_database_names", (), {"comment": v.comment}, opaque=True),
    Method("drop_database", (among("qbmongo_parity_absent", 5, None),)),
    Method("@get", (among(
        "address", "is_primary", "is_mongos", "nodes", "primary", "secondaries", "arbiters",
        "codec_options", "read_preference", "write_concern", "read_concern",
    ),)),
    Method("@bool"), Method("@getitem", (among(Handle("name"), "", 5),)),
)  # fmt: skip
COLLECTION = (
    Method("with_options", (), {"bogus": constant(1)}),
    Method("@get", (among(
        "name", "full_name", "database", "codec_options", "read_preference", "write_concern",
        "read_concern", "sub", "_private",
    ),)),
    Method("@bool"), Method("@getitem", (among("sub", "", 5),)), Method("__call__"),
    Method("@iterate"),
)  # fmt: skip
