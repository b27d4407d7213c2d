"""Reading what a namespace is, on the watcher's connection: one collection at a time.

The facts (type, default collation, capped, indexes) decide whether and how it may be cached. The
sink stamps them as it stamps a fill: what changes the collection meanwhile voids them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qbmongo.coherence.failures import Meaning
from qbmongo.coherence.records import Failure, Reply, Sink

__all__ = ["FactsReading"]

_NO_NAMESPACE = 26


class FactsReading:
    """The facts being read, or nothing."""

    __slots__ = ("_collections", "_database", "_name", "_stamp")

    def __init__(self) -> None:
        self._name: str | None = None
        self._database = ""
        self._stamp: Any = None
        self._collections: list[Mapping[str, Any]] | None = None

    def wanted(self, sink: Sink, databases: Mapping[str, Any]) -> bool:
        """Whether anything is being read, or wants to be."""
        return self._name is not None or any(sink.wanted_facts(name) for name in databases)

    def next(self, sink: Sink, databases: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
        """The database and the command to send now, or None."""
        if self._name is None:
            for database in databases:
                for name in sink.wanted_facts(database):
                    self._name, self._database = name, database
                    self._stamp = sink.facts_stamp(name)
                    self._collections = None
                    break
                if self._name is not None:
                    break
            else:
                return None
        assert self._name is not None
        collection = self._name[len(self._database) + 1 :]
        if self._collections is None:
            # Of one name there is one document, so one batch holds it.
            return self._database, {
                "listCollections": 1,
                "filter": {"name": collection},
                "cursor": {},
            }
        # A collection has at most 64 indexes (the manual, "MongoDB Limits"): one batch.
        return self._database, {"listIndexes": collection, "cursor": {"batchSize": 1000}}

    def reply(self, sink: Sink, reply: Reply) -> None:
        """The command sent last succeeded."""
        documents = list(reply["cursor"]["firstBatch"])
        if self._collections is not None:
            self._read(sink, documents)
            return
        self._collections = documents
        if not documents or documents[0].get("type", "collection") != "collection":
            self._read(sink, [])

    def failed(self, sink: Sink, failure: Failure, meaning: Meaning) -> None:
        """The command sent last failed."""
        if failure.code == _NO_NAMESPACE and self._collections is not None:
            self._read(sink, [])
            return
        reason = None
        if meaning == "unauthorized":
            reason = "forbidden"
        elif meaning in ("final", "no_replica_set") and failure.kind == "command":
            reason = "unknown"
        self._end(sink, reason)

    def abandon(self, sink: Sink) -> None:
        """Another primary: what was read of the last one is worth nothing."""
        if self._name is not None:
            self._end(sink, None)

    def _read(self, sink: Sink, indexes: list[Mapping[str, Any]]) -> None:
        assert self._name is not None
        assert self._collections is not None
        sink.facts(self._name, self._stamp, self._collections, indexes)
        self._name = None

    def _end(self, sink: Sink, reason: str | None) -> None:
        assert self._name is not None
        sink.facts_failed(self._name, self._stamp, reason)
        self._name = None
