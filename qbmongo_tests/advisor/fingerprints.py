"""What a user's databases are: equal before and after, or something was damaged."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from qbmongo.advisor.scratch import PREFIX

_SYSTEM = ("admin", "local", "config")


def fingerprint(client: MongoClient[Any], databases: Collection[str]) -> dict[str, Any]:
    """Everything in these databases: options, indexes, documents' bytes, profiling level."""
    found: dict[str, Any] = {}
    for name in databases:
        database = client[name]
        found[name] = {
            "profiling": bson.encode(
                {
                    k: v
                    for k, v in database.command({"profile": -1}).items()
                    if k in ("was", "slowms")
                }
            ),
            "collections": {
                listed["name"]: (
                    bson.encode(listed["options"]),
                    [bson.encode(index) for index in database[listed["name"]].list_indexes()],
                    _content(database[listed["name"]]),
                )
                for listed in sorted(database.list_collections(), key=lambda c: str(c["name"]))
            },
        }
    return found


def other_databases(client: MongoClient[Any], known: Collection[str]) -> set[str]:
    """Databases that are neither known, nor the server's own, nor scratch databases."""
    return {
        name
        for name in client.list_database_names()
        if name not in (*known, *_SYSTEM) and not name.startswith(PREFIX)
    }


def scratch_databases(client: MongoClient[Any]) -> list[str]:
    """Names of the scratch databases there."""
    return [name for name in client.list_database_names() if name.startswith(PREFIX)]


def _content(collection: Any) -> str:
    raw = collection.with_options(codec_options=bson.CodecOptions(document_class=RawBSONDocument))
    digest = hashlib.sha256()
    for document in raw.find(sort=[("_id", 1)]):
        digest.update(document.raw)
    return digest.hexdigest()
