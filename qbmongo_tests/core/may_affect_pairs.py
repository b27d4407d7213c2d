"""Pairs of a read and a write, and short ways to write them down."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from qbmongo.records import ReadOp

NS = "bank.accounts"
ANY: Iterable[Any] | None = None


class Pair(NamedTuple):
    """A read, the `_id`s of its answer (ANY: the answer does not tell them), a write, a verdict."""

    name: str
    read: ReadOp
    ids: Iterable[Any] | None
    write: tuple[str, dict[str, Any]]
    verdict: str


def find(filter: Any, **more: Any) -> ReadOp:
    return ReadOp("find", NS, filter, **more)


def find_one(filter: Any, **more: Any) -> ReadOp:
    return ReadOp("find_one", NS, filter, limit=-1, **more)


def count(filter: Any, **more: Any) -> ReadOp:
    return ReadOp("count_documents", NS, filter, **more)


def distinct(key: str, filter: Any) -> ReadOp:
    return ReadOp("distinct", NS, filter, key=key)


def aggregate(*stages: Any, **options: Any) -> ReadOp:
    return ReadOp("aggregate", NS, {}, pipeline=list(stages), options=options or None)


def command(command: dict[str, Any], database: str = "bank") -> tuple[str, dict[str, Any]]:
    return database, command


def update(q: Any, u: Any, **more: Any) -> tuple[str, dict[str, Any]]:
    statement = {"q": q, "u": u, "multi": False, "upsert": False, **more}
    return command({"update": "accounts", "ordered": True, "updates": [statement]})


def delete(q: Any, limit: int = 1, **more: Any) -> tuple[str, dict[str, Any]]:
    return command({"delete": "accounts", "deletes": [{"q": q, "limit": limit, **more}]})


def insert(*documents: Any) -> tuple[str, dict[str, Any]]:
    return command({"insert": "accounts", "ordered": True, "documents": list(documents)})


def modify(query: Any, **more: Any) -> tuple[str, dict[str, Any]]:
    return command({"findAndModify": "accounts", "query": query, "new": False, **more})


def event(operation: str, identity: Any = None, **more: Any) -> tuple[str, dict[str, Any]]:
    body = {"operationType": operation, "ns": {"db": "bank", "coll": "accounts"}, **more}
    return "", {**body, "documentKey": {"_id": identity}} if identity is not None else body


BY_STATUS = find({"status": "open"})
TOP = find({"status": "open"}, sort={"balance": -1}, limit=3)
PAGE = find({"status": "open"}, sort={"name": 1}, skip=2, limit=2)
SET_BALANCE = update({"_id": 7}, {"$set": {"balance": 5}})
ORDERS = {"from": "orders", "localField": "_id", "foreignField": "account", "as": "orders"}
