"""Change-stream events, read as effects on what is cached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..records import EVERYTHING, Effect
from .ids import known_ids
from .paths import written_path

__all__ = ["effect_of_event"]

_ALL = (EVERYTHING,)

# Events about a collection as a whole.
_OF_COLLECTION = frozenset(
    {
        "create",
        "createIndexes",
        "drop",
        "dropIndexes",
        "modify",
        "refineCollectionShardKey",
        "rename",
        "reshardCollection",
        "shardCollection",
    }
)


def effect_of_event(event: Mapping[str, Any]) -> tuple[Effect, ...]:
    """The effects that a change-stream event tells of.

    Args:
        event: operationType, ns, to, documentKey and updateDescription as the stream sends them;
            the lists in updateDescription may be names alone, fullDocument may be missing.

    Returns:
        Everything for `invalidate`, for unknown types and for events that cannot be read.

    Source: https://www.mongodb.com/docs/manual/reference/change-events/
    """
    try:
        return _effects(event)
    except (AttributeError, KeyError, TypeError, ValueError):
        return _ALL


def _effects(event: Mapping[str, Any]) -> tuple[Effect, ...]:
    operation = event["operationType"]
    if operation == "dropDatabase":
        return (Effect("database", _name(event["ns"]["db"])),)
    if operation in _OF_COLLECTION:
        sources = [event["ns"], event["to"]] if operation == "rename" else [event["ns"]]
        return tuple(_whole(source["db"], source["coll"]) for source in sources)
    if operation not in ("insert", "update", "replace", "delete"):
        return _ALL
    database, collection = _name(event["ns"]["db"]), _name(event["ns"]["coll"])
    if collection.startswith("system."):
        return (Effect("database", database),)
    namespace = f"{database}.{collection}"
    key = event.get("documentKey")
    # A stored `_id` is what it is: no collation makes it another.
    ids = known_ids(key["_id"], simple=True) if key is not None and "_id" in key else None
    if operation == "insert":
        document = event.get("fullDocument")
        documents = (document,) if isinstance(document, Mapping) else None
        return (Effect("insert", namespace, ids, None, documents),)
    if operation == "update":
        return (Effect("update", namespace, ids, _changed_paths(event.get("updateDescription"))),)
    if operation == "replace":
        return (Effect("update", namespace, ids),)
    return (Effect("delete", namespace, ids),)


def _whole(database: Any, collection: Any) -> Effect:
    if _name(collection).startswith("system."):
        return Effect("database", _name(database))
    return Effect("namespace", f"{_name(database)}.{collection}")


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("a name is a string")
    return value


def _changed_paths(description: Any) -> frozenset[str] | None:
    """Paths of an updateDescription; None where not all three of its parts are certain.

    A path with a dot may also be one field with a dot in its name. Then what reads it at all reads
    the whole document or an expression, which both overlap with any path.
    """
    if not isinstance(description, Mapping) or "updatedFields" not in description:
        return None
    paths: set[str] = set()
    for part in ("updatedFields", "removedFields", "truncatedArrays"):
        for item in _items(description.get(part)):
            name = item.get("field", item.get("k")) if isinstance(item, Mapping) else item
            if not isinstance(name, str):
                return None
            paths.add(written_path(name))
    return None if "" in paths else frozenset(paths)


def _items(part: Any) -> Iterable[Any]:
    """The names of a part of an updateDescription; a missing part has none."""
    return () if part is None else part
