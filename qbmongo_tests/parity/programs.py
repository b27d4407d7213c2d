"""Steps: calls put together from the description of operations, as hypothesis strategies.

Each family is one rule of the state machine, so that hypothesis also tries examples without any
schema change, without any transaction and so on.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bson import SON, Decimal128
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion, TypeCodec, TypeRegistry
from bson.raw_bson import RawBSONDocument
from hypothesis import strategies as st
from pymongo import ReadPreference, WriteConcern
from pymongo.client_session import TransactionOptions  # type: ignore[attr-defined]
from pymongo.read_concern import ReadConcern

from qbmongo_tests.parity import operations as o
from qbmongo_tests.parity import values as v
from qbmongo_tests.parity.choices import CHOICES_PER_STEP, Choices, among
from qbmongo_tests.parity.operations import Call, Callback, Method, Slot, Step


class _DecimalCodec(TypeCodec):
    python_type = decimal.Decimal
    bson_type = Decimal128

    def transform_python(self, value: Any) -> Any:
        return Decimal128(value)

    def transform_bson(self, value: Any) -> Any:
        return value.to_decimal()


# What with_options is given, by name.
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "raw": {"codec_options": CodecOptions(RawBSONDocument)},
    "son": {"codec_options": CodecOptions(SON)},
    "document": {"codec_options": CodecOptions(v.Document)},
    "tz_aware": {"codec_options": CodecOptions(tz_aware=True)},
    "milliseconds": {
        "codec_options": CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
    },
    "uuid": {"codec_options": CodecOptions(uuid_representation=UuidRepresentation.STANDARD)},
    "decimal": {"codec_options": CodecOptions(type_registry=TypeRegistry([_DecimalCodec()]))},
    "replace": {"codec_options": CodecOptions(unicode_decode_error_handler="replace")},
    "majority": {
        "read_concern": ReadConcern("majority"),
        "write_concern": WriteConcern("majority", wtimeout=60_000),
    },
    "journaled": {"write_concern": WriteConcern(1, j=True)},
    "unacknowledged": {"write_concern": WriteConcern(0)},
    "too_many": {"write_concern": WriteConcern(2, wtimeout=1)},
    "local": {"read_concern": ReadConcern("local")},
    "available": {"read_concern": ReadConcern("available")},
    "linearizable": {"read_concern": ReadConcern("linearizable")},
    "snapshot": {"read_concern": ReadConcern("snapshot")},
    "bogus": {"read_concern": ReadConcern("bogus")},
    "primary_preferred": {"read_preference": ReadPreference.PRIMARY_PREFERRED},
    "secondary_preferred": {"read_preference": ReadPreference.SECONDARY_PREFERRED},
    "nearest": {"read_preference": ReadPreference.NEAREST},
    "wrong": {"codec_options": 5},
}
_OPTION_NAMES = tuple(OPTIONS)


def call(choices: Choices, receiver: str, method: Method, store: str | None = None) -> Call:
    """A random call of the method; now and then with a wrong argument, options or a timeout."""
    args = tuple(build(choices) for build in method.args)
    made = Call(
        receiver, method.name, args, choices.options(method.options), None, None, store,
        method.opaque,
    )  # fmt: skip
    special = choices.index(32)
    if special >= 30:
        made = _wrong(choices, made)
    elif special >= 26 and receiver != "client":
        made = replace(made, options=choices.one(_OPTION_NAMES))
    elif special == 25:
        made = replace(made, timeout_s=60.0)
    return made


def _wrong(choices: Choices, made: Call) -> Call:
    place = choices.index(len(made.args) + 2)
    wrong = choices.one(v.WRONG)
    if place < len(made.args):
        args = (*made.args[:place], wrong, *made.args[place + 1 :])
        return replace(made, args=args)
    if place == len(made.args) and made.args:
        return replace(made, args=made.args[:-1])
    # Not "session": a cursor with a wrong session would fail once more when it is collected.
    name = choices.one(tuple(made.kwargs) or ("unknown",))
    return replace(made, kwargs={**made.kwargs, name: wrong})


def _collection(choices: Choices) -> str:
    return "c1" if choices.chance(25) else "c0"


def _read_call(choices: Choices) -> Call:
    return call(choices, _collection(choices), choices.one(o.READS))


def _write_call(choices: Choices) -> Call:
    return call(choices, _collection(choices), choices.one(o.WRITES))


def read(choices: Choices) -> Step:
    return (_read_call(choices),)


def write(choices: Choices) -> Step:
    return (_write_call(choices),)


_HOT_READS = (
    Method("find_one", (v.filter_,)),
    Method("find_one", (v.filter_,), {"sort": v.sort_list, "projection": v.projection}),
    Method("count_documents", (v.filter_,), {"skip": v.small, "limit": among(1, 2)}),
    Method("distinct", (v.path, v.filter_)),
    Method("find", (v.filter_,), {
        "sort": v.sort_list, "projection": v.projection, "limit": among(1, 2, 5), "skip": among(1),
    }),
    Method("aggregate", (v.pipeline,)),
)  # fmt: skip
_HOT_WRITES = tuple(method for method in o.WRITES if method.name != "insert_many")


def _hot_write(choices: Choices, name: str, filter: Any) -> Call:
    """A write that is likely to change what was read: into the same documents, or one more."""
    if choices.chance(30):
        return Call(name, "insert_one", (v.document(choices),))
    made = call(choices, name, choices.one(_HOT_WRITES))
    if made.method != "insert_one" and made.args and choices.chance(50):
        made = replace(made, args=(filter, *made.args[1:]))
    return made


def write_then_read(choices: Choices) -> Step:
    """The same question before and after a write: what a cache must not get wrong."""
    name = _collection(choices)
    method = choices.one(_HOT_READS)
    options = choices.options(method.options, 2)
    asked = Call(name, method.name, tuple(build(choices) for build in method.args), options)
    read: Step = (asked,)
    if method.name in ("find", "aggregate"):
        read = (replace(asked, store="cursor"), Call("$cursor", "to_list", (100,)))
    filter = asked.args[-1] if isinstance(asked.args[-1], dict) else {}
    written = [_hot_write(choices, name, filter) for _ in range(1 + choices.index(2))]
    return (*read, *written, *read)


def bulk(choices: Choices) -> Step:
    if choices.chance(35):
        return (call(choices, "client", o.CLIENT_BULK_WRITE),)
    return (call(choices, _collection(choices), o.BULK_WRITE),)


def schema(choices: Choices) -> Step:
    return (call(choices, _collection(choices), choices.one(o.SCHEMA)),)


def handles(choices: Choices) -> Step:
    """The database, the client and the objects they hand out, used once more."""
    receiver, methods = choices.one(
        (("database", o.DATABASE), ("client", o.CLIENT), (_collection(choices), o.COLLECTION))
    )
    made = call(choices, receiver, choices.one(methods), "made")
    if made.method in ("get_collection", "create_collection", "with_options", "@getitem"):
        found = {"get_database": "list_collection_names"}.get(made.method, "find_one")
        return (made, Call("$made", found))
    if made.method in ("get_database", "get_default_database"):
        return (made, Call("$made", "list_collection_names"), Call("$made", "@get", ("c0",)))
    return (made,)


_CHAIN = (
    Method("sort", (v.sort_list,)), Method("sort", (v.path, among(1, -1, 5))),
    Method("limit", (v.small,)), Method("skip", (among(1, 0, 2, -1),)),
    Method("batch_size", (v.batch_size,)), Method("hint", (v.hint,)),
    Method("comment", (v.comment,)), Method("collation", (v.collation,)),
    Method("max_time_ms", (v.max_time_ms,)), Method("allow_disk_use", (among(True, 5),)),
    Method("max_scan", (among(5),)), Method("min", (among([("_id", 1)], 5),)),
    Method("max", (among([("_id", 4)], 5),)),
    Method("where", (among("true", 5),)), Method("max_await_time_ms", (among(5, "x"),)),
    Method("add_option", (among(16, "x"),)), Method("remove_option", (among(16, "x"),)),
    Method("clone"), Method("@copy"), Method("@deepcopy"), Method("rewind"),
    Method("@getitem", (among(slice(1, 3), slice(0, 0), 0, 1, slice(2, None), slice(-1, 2), 99),)),
)  # fmt: skip
_CURSOR_STATE = among("alive", "retrieved", "session", "collection", "started", "fetch_next")
_CONSUME = (
    Method("@iterate"), Method("to_list"), Method("to_list", (among(2, 1, 100, None, 0, -1, "x"),)),
    Method("@next"), Method("next"), Method("try_next"),
    Method("@get", (_CURSOR_STATE,)), Method("close"), Method("rewind"), Method("next_object"),
)  # fmt: skip
_CURSOR_ENDS = tuple(map(Method, ("distinct", "explain", "@enter", "@exit", "close", "try_next")))
_WHOLE = (Method("@iterate"), Method("to_list", (among(None, 3, 100),)), Method("@each"))
_FINDS = (
    Method("find", (v.filter_,), o.FIND_OPTIONS), Method("find", (v.filter_,)),
    Method("find", (v.filter_, v.projection), o.FIND_OPTIONS), Method("find"),
    Method("find_raw_batches", (v.filter_,), o.FIND_OPTIONS),
)  # fmt: skip
_AGGREGATES = (
    Method("aggregate", (v.pipeline,), o.AGGREGATE_OPTIONS),
    Method("aggregate", (v.pipeline,)),
    Method("aggregate_raw_batches", (v.pipeline,), {"batchSize": v.batch_size}),
)
_LISTINGS = (
    Method("list_indexes", (), {"comment": v.comment}),
    Method("list_search_indexes", (), {"name": among("x")}),
)
_DATABASE_CURSORS = (
    Method("list_collections", (), {"filter": among({"name": "c0"})}),
    Method("aggregate", (among([{"$documents": [{"a": 1}]}], [{"$currentOp": {}}], [], 5),)),
    Method("cursor_command", (among("find", {"find": "c0"}, {"ping": 1}, 5),)),
)


def _consumption(choices: Choices, most: int) -> list[Call]:
    """Some calls on the cursor, with a write in between now and then, and the rest at the end."""
    made: list[Call] = []
    for _ in range(choices.index(most + 1)):
        made.append(call(choices, "$cursor", choices.one(_CONSUME)))
        if choices.chance(15):
            made.append(_write_call(choices))
    made.append(call(choices, "$cursor", choices.one(_WHOLE)))
    return made


def find_cursor(choices: Choices) -> Step:
    made = [call(choices, _collection(choices), choices.one(_FINDS), "cursor")]
    chain = choices.some(lambda choices: choices.one(_CHAIN), 2)
    made.extend([call(choices, "$cursor", method, "cursor") for method in chain])
    ending = choices.index(16)
    if ending == 15:
        made.append(call(choices, "$cursor", Method("distinct", (v.path,))))
    elif ending == 14:
        made.append(Call("$cursor", "explain", opaque=True))
    elif ending == 13:
        inner = (Call("$cursor", "@enter"), Call("$cursor", "@next"), Call("$cursor", "@exit"))
        made.extend((*inner, Call("$cursor", "@iterate")))
    else:
        made.extend(_consumption(choices, 3 if ending > 7 else 0))
    return tuple(made)


def aggregate_cursor(choices: Choices) -> Step:
    method = choices.one(_LISTINGS if choices.chance(8) else _AGGREGATES)
    made = [call(choices, _collection(choices), method, "cursor")]
    if choices.chance(10):
        made.append(call(choices, "$cursor", Method("batch_size", (v.batch_size,)), "cursor"))
    return (*made, *_consumption(choices, 2 if choices.chance(30) else 0))


def other_cursor(choices: Choices) -> Step:
    kind = choices.index(4)
    if kind == 3:
        listing = Method("list_databases", (), {"filter": among({"name": "qbmongo_absent"})})
        return (call(choices, "client", listing, "cursor"), Call("$cursor", "close"))
    if kind == 2:
        return _watch(choices)
    opened = call(choices, "database", choices.one(_DATABASE_CURSORS), "cursor")
    opaque = opened.args == ([{"$currentOp": {}}],)
    return (opened, *(replace(made, opaque=opaque) for made in _consumption(choices, 1)))


def _watch(choices: Choices) -> Step:
    receiver = choices.one(("c0", "database"))
    watch = Method("watch", (), {
        "pipeline": among([{"$match": {"operationType": "insert"}}], 5),
        "full_document": among("updateLookup", "bogus"), "comment": v.comment,
        "batch_size": v.batch_size,
    })  # fmt: skip
    opened = call(choices, receiver, watch, "cursor")
    opened = replace(opened, timeout_s=None, kwargs={**opened.kwargs, "max_await_time_ms": 1})
    return (
        opened,
        Call("$cursor", "try_next"),
        _write_call(choices),
        Call("$cursor", "try_next"),
        Call("$cursor", "@get", ("alive",)),
        Call("$cursor", "close"),
    )


def _in_session(made: Call) -> Call:
    if "session" in made.kwargs or made.method == "estimated_document_count":
        return made
    return replace(made, kwargs={**made.kwargs, "session": Slot("session")})


_TRANSACTION_OPTIONS = {
    "read_concern": among(ReadConcern("local"), ReadConcern("snapshot"), 5),
    "write_concern": among(WriteConcern(1), WriteConcern("majority"), WriteConcern(0)),
    "read_preference": among(ReadPreference.PRIMARY, ReadPreference.NEAREST),
    "max_commit_time_ms": among(60_000),
}
_START_SESSION = Method("start_session", (), {
    "causal_consistency": among(True, False), "snapshot": among(True, False, False),
    "default_transaction_options": among(TransactionOptions(write_concern=WriteConcern(1)), 5),
})  # fmt: skip


def _body(choices: Choices) -> list[Call]:
    """Calls inside of a transaction; those without its session read only (a write would wait)."""
    made: list[Call] = []
    for _ in range(1 + choices.index(3)):
        if choices.chance(20):
            made.append(_read_call(choices))
            continue
        kind = choices.index(8)
        if kind == 7:
            inner = call(choices, "c0", o.BULK_WRITE)
        elif kind >= 4:
            inner = _read_call(choices)
        else:
            inner = _write_call(choices)
        inside = _in_session(inner)
        made.append(replace(inside, options=None) if inside.options == "unacknowledged" else inside)
    return made


def session(choices: Choices) -> Step:
    start = call(choices, "client", _START_SESSION, "session")
    start = replace(start, timeout_s=None)
    kind = choices.index(8)
    if kind == 0:
        plain = [_in_session(_write_call(choices)), _in_session(_read_call(choices))]
        state = Call("$session", "@get", (choices.one(("has_ended", "in_transaction", "client")),))
        return (start, *plain, state, Call("$session", "end_session"), plain[-1])
    if kind == 1:
        body = Callback(tuple(_body(choices)))
        options = choices.options(_TRANSACTION_OPTIONS, 1)
        return (start, Call("$session", "with_transaction", (body,), options))
    begin = Call(
        "$session", "start_transaction", (), choices.options(_TRANSACTION_OPTIONS, 1), store="txn"
    )
    if kind == 2:
        inside = (Call("$txn", "@enter"), *_body(choices), Call("$txn", "@exit"))
        return (start, begin, *inside, _read_call(choices))
    if kind == 3:
        both = Callback((_write_call(choices), _read_call(choices)), stops=False)
        return (start, Call("$session", "@bound", (both,)))
    endings = ("commit_transaction", "abort_transaction", "end_session")
    ends = [Call("$session", choices.one(endings)) for _ in range(1 + choices.index(2))]
    return (start, begin, *_body(choices), *ends, _read_call(choices))


def gridfs(choices: Choices) -> Step:
    name = choices.one(("f", "g", ""))
    data = choices.one((b"", b"abc", b"x" * 5000))
    made = [Call("gridfs", "upload_from_stream", (name, data), store="id")]
    if choices.chance(50):
        made.append(Call("gridfs", "open_download_stream_by_name", (name,), store="stream"))
        made.append(Call("$stream", "read"))
    if choices.chance(30):
        made.append(Call("gridfs", "rename", (Slot("id"), "h")))
    if choices.chance(50):
        made.append(Call("gridfs", "delete", (Slot("id"),)))
    return (*made, Call("gridfs", "find", ({},), store="cursor"), Call("$cursor", "to_list", (9,)))


FAMILIES: Mapping[str, Callable[[Choices], Step]] = {
    "read": read,
    "write": write,
    "write_then_read": write_then_read,
    "find_cursor": find_cursor,
    "aggregate_cursor": aggregate_cursor,
    "bulk": bulk,
    "schema": schema,
    "handles": handles,
    "session": session,
    "other_cursor": other_cursor,
    "gridfs": gridfs,
}
# How many rules of the state machine each family has.
WEIGHTS: Mapping[str, int] = {
    "read": 4, "write": 4, "write_then_read": 4, "find_cursor": 3, "aggregate_cursor": 2, "bulk": 2,
    "schema": 1, "handles": 2, "session": 1, "other_cursor": 1, "gridfs": 1,
}  # fmt: skip


def described_methods() -> frozenset[str]:
    """Every receiver.method that the families name: what a long run must reach."""
    methods = {
        "collection": (*o.READS, *o.WRITES, o.BULK_WRITE, *o.SCHEMA, *o.COLLECTION, *_FINDS,
                       *_AGGREGATES, *_LISTINGS, Method("watch")),
        "database": (*o.DATABASE, *_DATABASE_CURSORS, Method("watch")),
        "client": (*o.CLIENT, o.CLIENT_BULK_WRITE, _START_SESSION, Method("list_databases")),
        "cursor": (*_CHAIN, *_CONSUME, *_WHOLE, *_CURSOR_ENDS),
        "session": tuple(map(Method, (
            "start_transaction", "commit_transaction", "abort_transaction", "end_session",
            "with_transaction", "@bound", "@get",
        ))),
        "gridfs": tuple(map(Method, (
            "upload_from_stream", "open_download_stream_by_name", "rename", "delete", "find",
        ))),
    }  # fmt: skip
    return frozenset(
        f"{receiver}.{method.name}" for receiver, known in methods.items() for method in known
    )


_SOURCES = st.binary(min_size=CHOICES_PER_STEP, max_size=CHOICES_PER_STEP)


@st.composite
def steps(draw: st.DrawFn, family: str) -> Step:
    """Random steps of a family."""
    return FAMILIES[family](Choices(draw(_SOURCES)))


@dataclass(frozen=True)
class Beginning:
    """What both databases hold when an example begins."""

    creation: dict[str, Any] | None
    calls: Step


_CREATIONS: tuple[dict[str, Any] | None, ...] = (
    None, None, {}, {"collation": {"locale": "en", "strength": 2}},
    {"capped": True, "size": 100_000, "max": 5}, {"validator": {"a": {"$ne": 3}}},
)  # fmt: skip
_INDEXES: tuple[Call, ...] = (
    Call("c0", "create_index", ("a",)),
    Call("c0", "create_index", ("a",), {"unique": True}),
    Call("c0", "create_index", ([("b", -1), ("a", 1)],)),
    Call("c0", "create_index", ("arr",)),
    Call("c0", "create_index", ("a",), {"sparse": True, "unique": True}),
    Call("database", "create_collection", ("view",), {"viewOn": "c0", "pipeline": []}),
)


@st.composite
def beginnings(draw: st.DrawFn) -> Beginning:
    return beginning(Choices(draw(_SOURCES)))


def beginning(choices: Choices) -> Beginning:
    """What an example begins with."""
    creation = choices.one(_CREATIONS)
    documents = choices.some(v.document, 7)
    inserts = [Call(_collection(choices), "insert_one", (document,)) for document in documents]
    indexes = [choices.one(_INDEXES) for _ in range(choices.index(3))]
    return Beginning(creation, (*inserts, *indexes))
