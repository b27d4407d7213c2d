"""Index documents of the server <-> IndexSpec, default names, and values as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bson import json_util

from .records import Direction, ExistingIndex, IndexSpec, Keys

__all__ = [
    "SIMPLE",
    "default_name",
    "index_from_document",
    "index_options",
    "keys_from",
    "keys_text",
    "name_of_index",
    "readable_value",
]

SIMPLE = "simple"
_KNOWN = frozenset(
    {
        *("v", "key", "name", "ns", "unique", "sparse", "partialFilterExpression", "collation"),
        *("expireAfterSeconds", "hidden", "wildcardProjection", "weights", "clustered"),
        *("background", "buildUUID", "spec", "prepareUnique"),
    }
)


def index_from_document(namespace: str, document: Mapping[str, Any]) -> ExistingIndex:
    """One document of listIndexes.

    Args:
        namespace: "database.collection".
        document: as the server sent it; an index under construction has `buildUUID`, or with
            `includeBuildUUIDs` its document under `spec`.

    Source: MongoDB manual, listIndexes, "Output"; createIndexes, "Options".
    """
    building = "buildUUID" in document or "indexBuildInfo" in document
    if "spec" in document:
        document = document["spec"]
    collation = document.get("collation")
    if collation is not None and collation.get("locale") == SIMPLE:
        collation = None
    spec = IndexSpec(
        namespace=namespace,
        keys=keys_from(document["key"]),
        name=document.get("name"),
        unique=bool(document.get("unique")),
        sparse=bool(document.get("sparse")),
        partial_filter=document.get("partialFilterExpression"),
        collation=collation,
        expire_after_s=_seconds(document.get("expireAfterSeconds")),
        hidden=bool(document.get("hidden")),
        wildcard_projection=document.get("wildcardProjection"),
        weights=document.get("weights"),
        clustered=bool(document.get("clustered")),
        other={
            name: value
            for name, value in document.items()
            if name not in _KNOWN or (name == "prepareUnique" and value)
        },
    )
    return ExistingIndex(spec, building=building)


def keys_from(key: Mapping[str, Any]) -> Keys:
    """Key pattern -> keys; a number counts by its sign, as the server reads it."""
    return tuple((str(path), _direction(value)) for path, value in key.items())


def _direction(value: Any) -> Direction:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return 1
    number = float(str(value))
    return -1 if number < 0 else 1


def _seconds(value: Any) -> float | None:
    if value is None or isinstance(value, bool):
        return None
    number = float(str(value))
    return int(number) if number.is_integer() else number


def index_options(spec: IndexSpec) -> dict[str, Any]:
    """The options of createIndexes, by the server's own names, without key and name."""
    options: dict[str, Any] = {}
    if spec.unique:
        options["unique"] = True
    if spec.sparse:
        options["sparse"] = True
    if spec.partial_filter is not None:
        options["partialFilterExpression"] = dict(spec.partial_filter)
    if spec.collation is not None:
        options["collation"] = dict(spec.collation)
    if spec.expire_after_s is not None:
        options["expireAfterSeconds"] = spec.expire_after_s
    if spec.hidden:
        options["hidden"] = True
    if spec.wildcard_projection is not None:
        options["wildcardProjection"] = dict(spec.wildcard_projection)
    if spec.weights is not None:
        options["weights"] = dict(spec.weights)
    options.update(spec.other)
    return options


def default_name(keys: Keys) -> str:
    """The name that drivers and server give an index: `a_1_b_-1`."""
    return "_".join(f"{path}_{direction}" for path, direction in keys)


def name_of_index(spec: IndexSpec) -> str:
    return spec.name if spec.name is not None else default_name(spec.keys)


def keys_text(keys: Keys) -> str:
    """`{a: 1, b: -1}`, for sentences."""
    return "{" + ", ".join(f"{path}: {direction}" for path, direction in keys) + "}"


def readable_value(value: Any) -> Any:
    """A BSON value as relaxed extended JSON: what `json.dumps` takes."""
    text = json_util.dumps(value, json_options=json_util.RELAXED_JSON_OPTIONS)
    return json.loads(text)
