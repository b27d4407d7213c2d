"""Proof in production: a share of the hits is read again and compared.

A difference counts only if no write explains it. The second read may see a write whose effect has
not closed here yet, so a differing entry is a suspect until a lease proves that the stream has
shown everything up to after that read: one that is still kept then was wrong.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import bson

from ..records import ReadOp
from .frozen import EXACT_CODEC
from .store import Entry

__all__ = ["Verification", "Verifier", "command_of"]

_MAX_WAITING = 100
_COMMAND_OPTIONS = frozenset(
    {"collation", "hint", "maxTimeMS", "allowDiskUse", "readConcern", "comment"}
)


class Verification:
    """One hit to be read again: the command, and the entry it is compared with."""

    __slots__ = ("command", "database", "entry", "op", "read_s")

    def __init__(self, op: ReadOp, entry: Entry, command: dict[str, Any]) -> None:
        self.op = op
        self.entry = entry
        self.database = op.namespace.partition(".")[0]
        self.command = command
        self.read_s = 0.0


class Verifier:
    """What waits to be read again, and what differed. Called under the client's lock.

    is_kept: whether an entry is still the one that would be served.
    """

    __slots__ = ("_is_kept", "_suspects", "_waiting", "differences", "verified")

    def __init__(self, is_kept: Callable[[Entry], bool]) -> None:
        self._is_kept = is_kept
        self._waiting: deque[Verification] = deque(maxlen=_MAX_WAITING)
        self._suspects: list[Verification] = []
        self.verified = 0
        self.differences = 0

    def offer(self, op: ReadOp, entry: Entry) -> None:
        """A hit that may be read again; op is a private copy. The oldest waiting ones give way."""
        command = command_of(op)
        if command is not None:
            self._waiting.append(Verification(op, entry, command))

    def next(self, database: str) -> Verification | None:
        """A hit of the database that is still kept and is to be read again now."""
        for _ in range(len(self._waiting)):
            candidate = self._waiting.popleft()
            if not self._is_kept(candidate.entry):
                continue
            if candidate.database == database:
                return candidate
            self._waiting.append(candidate)
        return None

    def answered(self, item: Verification, documents: Sequence[Any], now_s: float) -> None:
        """What the server answered to the second read, decoded without loss."""
        self.verified += 1
        if not _equal(item, documents):
            item.read_s = now_s
            self._suspects.append(item)

    def proved(self, database: str, start_s: float) -> int:
        """The stream has shown everything up to start_s; returns how many hits were wrong."""
        wrong = 0
        left = []
        for item in self._suspects:
            if item.database != database or item.read_s > start_s:
                left.append(item)
            elif self._is_kept(item.entry):
                wrong += 1
        self._suspects = left
        self.differences += wrong
        return wrong


def command_of(op: ReadOp) -> dict[str, Any] | None:
    """The command of a cached read, answered in one batch; None where there is none."""
    collection = op.namespace.partition(".")[2]
    options = {k: v for k, v in (op.options or {}).items() if k in _COMMAND_OPTIONS}
    level = options.pop("readConcern", None)
    if level is not None:
        options["readConcern"] = {"level": level}
    if op.kind in ("find", "find_one"):
        command: dict[str, Any] = {"find": collection, "filter": op.filter, **options}
        if op.projection is not None:
            command["projection"] = op.projection
        if op.sort:
            command["sort"] = op.sort
        if op.skip:
            command["skip"] = op.skip
        if op.limit:
            command["limit"] = abs(op.limit)
        return {**command, "batchSize": 100_000}
    if op.kind == "distinct":
        return {"distinct": collection, "key": op.key, "query": op.filter, **options}
    if op.kind == "aggregate":
        pipeline: list[Any] = list(op.pipeline or ())
    elif op.kind == "count_documents":
        pipeline = [{"$match": op.filter}]
        if op.skip:
            pipeline.append({"$skip": op.skip})
        if op.limit:
            pipeline.append({"$limit": op.limit})
        pipeline.append({"$group": {"_id": 1, "n": {"$sum": 1}}})
    else:
        return None
    return {
        "aggregate": collection,
        "pipeline": pipeline,
        "cursor": {"batchSize": 100_000},
        **options,
    }


def documents_of(reply: Mapping[str, Any]) -> list[Any] | None:
    """The answer in a command's reply; None if it did not fit into one batch."""
    if "values" in reply:
        return list(reply["values"])
    cursor = reply["cursor"]
    return None if cursor["id"] else list(cursor["firstBatch"])


def _equal(item: Verification, documents: Sequence[Any]) -> bool:
    op = item.op
    if op.kind in ("count_documents", "distinct"):
        kept = bson.decode(item.entry.data, codec_options=EXACT_CODEC)["v"]
        if op.kind == "count_documents":
            return bool(kept == (documents[0]["n"] if documents else 0))
    else:
        kept = bson.decode_all(item.entry.data, EXACT_CODEC) if item.entry.data else []
    ours, theirs = _encoded(kept), _encoded(documents)
    # Without a sort the server promises no order.
    return ours == theirs if op.sort else sorted(ours) == sorted(theirs)


def _encoded(documents: Sequence[Any]) -> list[bytes]:
    return [bson.encode({"v": document}, codec_options=EXACT_CODEC) for document in documents]
