"""Commands to paste, for mongosh and for PyMongo, and what undoes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from bson import Decimal128, Int64, ObjectId, json_util

from .index_documents import default_name, index_options, name_of_index
from .records import CollectionInfo, IndexSpec

__all__ = ["creation_options", "mongosh_value", "pymongo_value", "write_commands"]


def creation_options(spec: IndexSpec, info: CollectionInfo | None) -> dict[str, Any]:
    """The options to create an index with on a collection, name included where it is its own.

    On a collection with a default collation an index without one would get it, so that simple
    comparison has to be asked for. Source: MongoDB manual, createIndexes, "Collation".
    """
    options = index_options(spec)
    if spec.name is not None and spec.name != default_name(spec.keys):
        options = {"name": spec.name, **options}
    if spec.collation is None and info is not None and info.options.get("collation"):
        options["collation"] = {"locale": "simple"}
    if "collation" in options:
        collation = options["collation"]
        options["collation"] = {k: v for k, v in collation.items() if k != "version"}
    return options


def write_commands(
    action: str, spec: IndexSpec, info: CollectionInfo | None
) -> tuple[str, str, str, str]:
    """The commands of a recommendation.

    Args:
        action: "create", "unhide", "hide" or "drop" (of a hidden index).
        spec: the index.
        info: facts of its collection, if known.

    Returns:
        mongosh, PyMongo, and what undoes them: mongosh, PyMongo.
    """
    name = name_of_index(spec)
    if action == "create":
        return (*_create(spec, info), *_drop(spec, name))
    if action == "hide":
        return (*_hide(spec, name, True), *_hide(spec, name, False))
    if action == "unhide":
        return (*_hide(spec, name, False), *_hide(spec, name, True))
    restored = replace(spec, name=name, hidden=True)
    return (*_drop(spec, name), *_create(restored, info))


def _place(spec: IndexSpec) -> tuple[str, str]:
    database, _, collection = spec.namespace.partition(".")
    return (
        f"db.getSiblingDB({json.dumps(database)}).getCollection({json.dumps(collection)})",
        f"client[{database!r}][{collection!r}]",
    )


def _create(spec: IndexSpec, info: CollectionInfo | None) -> tuple[str, str]:
    shell, python = _place(spec)
    options = creation_options(spec, info)
    keys, text_options = _text_keys(spec)
    options = {**options, **text_options}
    arguments = f", {mongosh_value(options)}" if options else ""
    keywords = "".join(f", {_keyword(name, value)}" for name, value in options.items())
    pairs = ", ".join(f"({path!r}, {direction!r})" for path, direction in keys)
    return (
        f"{shell}.createIndex({mongosh_value(dict(keys))}{arguments})",
        f"{python}.create_index([{pairs}]{keywords})",
    )


def _keyword(name: str, value: Any) -> str:
    """One option as an argument in Python; some names of the server's are no names there."""
    written = pymongo_value(value)
    return f"{name}={written}" if name.isidentifier() else f"**{{{name!r}: {written}}}"


def _text_keys(spec: IndexSpec) -> tuple[list[tuple[str, Any]], dict[str, Any]]:
    """Keys as createIndexes takes them: of a text index the fields themselves.

    Source: MongoDB manual, "Text Indexes"; listIndexes shows `_fts` and `_ftsx` in their place.
    """
    if spec.weights is None:
        return list(spec.keys), {}
    keys: list[tuple[str, Any]] = []
    for path, direction in spec.keys:
        if path == "_fts":
            keys.extend((field, "text") for field in spec.weights)
        elif path != "_ftsx":
            keys.append((path, direction))
    return keys, {}


def _drop(spec: IndexSpec, name: str) -> tuple[str, str]:
    shell, python = _place(spec)
    return f"{shell}.dropIndex({json.dumps(name)})", f"{python}.drop_index({name!r})"


def _hide(spec: IndexSpec, name: str, hidden: bool) -> tuple[str, str]:
    shell, _ = _place(spec)
    database, _, collection = spec.namespace.partition(".")
    verb = "hideIndex" if hidden else "unhideIndex"
    index = f"{{'name': {name!r}, 'hidden': {hidden!r}}}"
    return (
        f"{shell}.{verb}({json.dumps(name)})",
        f"client[{database!r}].command('collMod', {collection!r}, index={index})",
    )


def mongosh_value(value: Any) -> str:
    """A BSON value in mongosh's own notation."""
    if isinstance(value, Mapping):
        pairs = (f"{_key(name)}: {mongosh_value(item)}" for name, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(mongosh_value, value)) + "]"
    if isinstance(value, Int64):
        return f'NumberLong("{int(value)}")'
    if value is None or isinstance(value, (bool, int, float, str)):
        return json.dumps(value)
    if isinstance(value, ObjectId):
        return f'ObjectId("{value}")'
    if isinstance(value, Decimal128):
        return f'NumberDecimal("{value}")'
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)
        return f'ISODate("{aware.astimezone(timezone.utc).isoformat()}")'
    return f"EJSON.deserialize({json_util.dumps(value)})"


def _key(name: str) -> str:
    plain = name.isidentifier() and name.isascii()
    return name if plain else json.dumps(name)


def pymongo_value(value: Any) -> str:
    """A BSON value as Python source; dates and ids need the usual imports."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k!r}: {pymongo_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(pymongo_value, value)) + "]"
    if isinstance(value, Int64):
        return f"Int64({int(value)})"
    return repr(value)
