"""Effects of the writes that are most frequent: one statement, by a plain `_id`.

They are the same as `core.effects` reads from any command, in a tenth of the steps; whatever is not
of this form is left to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from bson.objectid import ObjectId
from bson.timestamp import Timestamp

from ..records import Effect
from .evidence import Evidence
from .paths import Paths, update_paths
from .snapshots import Private, snapshot

__all__ = ["lone_delete", "lone_insert", "lone_update"]

# Immutable types whose values are their own canonical form (core.values), under no collation but
# the collection's, which the cache looks at when an effect closes.
_OWN_FORM = frozenset({int, str, ObjectId})
_MAX_FIELDS = 8


def lone_update(
    database: str, collection: Any, statement: Mapping[str, Any], evidence: Evidence
) -> Effect | None:
    """The effect of an update command's only statement; None where it takes a closer look."""
    filter = statement["q"]
    if not _is_by_id(filter, statement, evidence) or statement.get("upsert"):
        return None
    change = statement["u"]
    if type(change) is not Private and (type(change) is not dict or not evidence.plain):
        return None
    names = []
    for operator, fields in change.items():
        if type(fields) is not dict or len(fields) > _MAX_FIELDS:
            return None
        names.append((operator, *fields))
    if len(names) > _MAX_FIELDS or not _is_plain(collection):
        return None
    return Effect(
        "update",
        f"{database}.{collection}",
        frozenset((filter["_id"],)),
        _paths_of(tuple(names)),
    )


def lone_delete(
    database: str, collection: Any, statement: Mapping[str, Any], evidence: Evidence
) -> Effect | None:
    """The effect of a delete command's only statement; None where it takes a closer look."""
    filter = statement["q"]
    if not _is_by_id(filter, statement, evidence) or not _is_plain(collection):
        return None
    return Effect("delete", f"{database}.{collection}", frozenset((filter["_id"],)))


def lone_insert(database: str, collection: Any, document: Any, evidence: Evidence) -> Effect | None:
    """The effect of an insert of one document; None where it takes a closer look."""
    kind = type(document)
    if kind is Private:
        if not evidence.placed:
            return None
    elif kind is not dict or not evidence.plain:
        return None
    identity = document.get("_id")
    if (
        type(identity) not in _OWN_FORM
        or Timestamp in map(type, document.values())
        or not _is_plain(collection)
    ):
        return None
    if kind is dict:
        try:
            document = snapshot(document)
        except TypeError:
            return None
    return Effect("insert", f"{database}.{collection}", frozenset((identity,)), None, (document,))


def _is_by_id(filter: Any, statement: Mapping[str, Any], evidence: Evidence) -> bool:
    """Whether a filter is a plain `_id` and nothing else, and surely what was sent."""
    if type(filter) is Private:
        if not evidence.placed:
            return False
    elif type(filter) is not dict or not evidence.plain:
        return False
    return (
        len(filter) == 1
        and type(filter.get("_id")) in _OWN_FORM
        and statement.get("collation") is None
    )


def _is_plain(collection: Any) -> bool:
    return type(collection) is str and collection != "" and not collection.startswith("system.")


@lru_cache(maxsize=1024)
def _paths_of(names: tuple[tuple[str, ...], ...]) -> Paths | None:
    """The paths of an update with these operators and fields; programs have few of them."""
    return update_paths({operator: dict.fromkeys(fields) for operator, *fields in names})
