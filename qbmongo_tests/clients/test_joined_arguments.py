"""clients/joined_calls.py: which calls may travel with others, read from their arguments alone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from bson.codec_options import CodecOptions
from bson.int64 import Int64
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from bson.regex import Regex
from bson.son import SON

from qbmongo.clients.joined_calls import encoded, joinable
from qbmongo.records import JoinedWrite

ONE, SET = {"_id": 1}, {"$set": {"a": 1}}
CODEC: CodecOptions[Any] = CodecOptions()


def verdict(kind: Any, *args: Any, **kwargs: Any) -> Any:
    found = joinable(kind, args, kwargs, ("by",))
    return "joins" if type(found) is JoinedWrite else found


@pytest.mark.parametrize(
    ("kind", "args", "kwargs"),
    [
        ("insert_one", ({},), {}),
        ("insert_one", (), {"document": {"a": 1}}),
        ("insert_one", ({},), {"session": None, "comment": None}),
        ("update_one", (ONE, SET), {}),
        ("update_one", (ONE, SET, True), {}),
        ("update_one", (ONE,), {"update": SET, "upsert": True, "array_filters": [{"x": 1}]}),
        ("update_one", (), {"filter": ONE, "update": [{"$set": {"a": 1}}]}),
        ("update_one", ({"_id": {"a": 1}}, SET), {}),
        ("update_one", ({"_id": {}}, SET), {}),
        ("update_one", ({"_id": None}, SET), {}),
        ("update_one", ({"_id": ObjectId(), "version": {"$lt": 3}}, SET), {}),
        ("update_one", ({"by": Int64(1)}, SET), {}),
        ("replace_one", (ONE, {}), {}),
        ("replace_one", (ONE, {"a": 1}), {"upsert": False, "hint": None}),
        ("delete_one", (ONE,), {}),
        ("delete_one", (), {"filter": {"by": "x", "z": 1}}),
    ],
)
def test_these_join(kind: Any, args: Any, kwargs: Any) -> None:
    assert verdict(kind, *args, **kwargs) == "joins"


@pytest.mark.parametrize(
    ("kind", "args", "kwargs", "reason"),
    [
        ("insert_one", ({}, True), {}, "option"),
        ("insert_one", (SON(),), {}, "document"),
        ("insert_one", (RawBSONDocument(b"\x05\x00\x00\x00\x00"),), {}, "document"),
        ("insert_one", (), {}, "document"),
        ("insert_one", ({},), {"document": {}}, "arguments"),
        ("insert_one", ({},), {"session": object()}, "session"),
        ("insert_one", ({},), {"bypass_document_validation": False}, "bypass_document_validation"),
        ("insert_one", ({},), {"unheard": 1}, "arguments"),
        ("update_one", (ONE, SET, False, None), {}, "option"),
        ("update_one", ({}, SET), {}, "filter"),
        ("update_one", ({"a": 1}, SET), {}, "filter"),
        ("update_one", ({"by": {"$gt": 1}}, SET), {}, "filter"),
        ("update_one", ({"by": None}, SET), {}, "filter"),
        ("update_one", ({"by": {"a": 1}}, SET), {}, "filter"),
        ("update_one", ({"_id": {"$in": [1]}}, SET), {}, "filter"),
        ("update_one", ({"_id": [1]}, SET), {}, "filter"),
        ("update_one", ({"_id": re.compile("a")}, SET), {}, "filter"),
        ("update_one", ({"_id": Regex("a")}, SET), {}, "filter"),
        ("update_one", ({"_id": 1, "$where": "1"}, SET), {}, "filter"),
        ("update_one", ({"_id": 1, 5: 1}, SET), {}, "filter"),
        ("update_one", (SON(_id=1), SET), {}, "filter"),
        ("update_one", (None, SET), {}, "filter"),
        ("update_one", (ONE, {}), {}, "document"),
        ("update_one", (ONE, {"a": 1}), {}, "document"),
        ("update_one", (ONE, {5: 1}), {}, "document"),
        ("update_one", (ONE, []), {}, "document"),
        ("update_one", (ONE, [SON()]), {}, "document"),
        ("update_one", (ONE, SET), {"upsert": 1}, "arguments"),
        ("update_one", (ONE, SET), {"array_filters": {}}, "arguments"),
        ("update_one", (ONE, SET), {"let": {}}, "let"),
        ("update_one", (ONE, SET), {"collation": {"locale": "en"}}, "collation"),
        ("update_one", (ONE, SET), {"sort": {"a": 1}}, "sort"),
        ("replace_one", (ONE, {"$set": {}}), {}, "document"),
        ("replace_one", (ONE, [{"a": 1}]), {}, "document"),
        ("replace_one", (ONE, {"a": 1}), {"array_filters": []}, "arguments"),
        ("replace_one", (ONE, {"a": 1}), {"hint": "_id_"}, "hint"),
        ("delete_one", (ONE, None), {}, "option"),
        ("delete_one", (ONE,), {"comment": "x"}, "comment"),
        ("delete_one", (), {}, "filter"),
    ],
)
def test_these_go_straight_through(kind: Any, args: Any, kwargs: Any, reason: str) -> None:
    assert verdict(kind, *args, **kwargs) == reason


@pytest.mark.parametrize("shown", [True, False])
def test_what_will_be_sent_is_what_there_was_at_the_call(shown: bool) -> None:
    inner = [1]
    write = joinable("update_one", ({"_id": {"a": inner}}, {"$set": {"l": inner}}), {}, ())
    assert type(write) is JoinedWrite
    size = encoded(write, CODEC, shown=shown)
    assert size == len(write.filter.raw) + len(write.document.raw)
    inner.append(2)
    assert RawBSONDocument(write.filter.raw)["_id"]["a"] == [1]
    assert RawBSONDocument(write.document.raw)["$set"]["l"] == [1]
    assert (write.document.shown is not None) is shown
    if shown:
        assert write.document.shown == {"$set": {"l": [1]}}


@pytest.mark.parametrize("value", [object(), 1 << 70, {"a\0": 1}, "\ud800", {1: 1}])
def test_what_cannot_be_encoded_is_left_to_the_driver(value: Any) -> None:
    document = {"a": value}
    write = joinable("insert_one", (document,), {}, ())
    assert type(write) is JoinedWrite
    assert encoded(write, CODEC, shown=True) is None
    assert write.document is document
    assert "_id" in document, "as the driver leaves it"
