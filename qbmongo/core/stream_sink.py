"""What the watcher tells the cache: the engine's side of coherence.records.Sink."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..records import Effect
from .cache import Cache
from .trust import Facts, facts_from

if TYPE_CHECKING:
    from .verify import Verification, Verifier

__all__ = ["StreamSink"]

log = logging.getLogger("qbmongo")


class StreamSink:
    """Takes events, leases, gaps and facts under the client's lock.

    verifier: what waits to be read again, None where there is no cache.
    """

    def __init__(self, cache: Cache | None, lock: Any) -> None:
        self.cache = cache
        self.lock = lock
        self.verifier: Verifier | None = None
        if cache is not None:
            # Loaded with the first client, not with qbmongo.
            from .verify import Verifier

            self.verifier = Verifier(cache.is_kept)
        self._said: set[str] = set()

    def event(self, database: str, effects: tuple[Effect, ...], time: Any) -> None:
        """Effects of a change-stream event, at its cluster time."""
        cache = self.cache
        if cache is not None:
            with self.lock:
                cache.event(database, effects, time.time << 32 | time.inc)

    def lease(self, database: str, primary: Any, start_s: float) -> None:
        """Everything up to start_s has been told to `event`."""
        if self.cache is None or self.verifier is None:
            return
        with self.lock:
            self.cache.lease(database, primary, start_s)
            wrong = self.verifier.proved(database, start_s)
        if wrong:
            log.error(
                "qbmongo: %d kept answers of %s differ from the server's, and no write explains it",
                wrong,
                database,
            )

    def lost(self, database: str | None, reason: str) -> None:
        """The stream of a database (None: all) may have missed something."""
        if self.cache is not None:
            with self.lock:
                self.cache.lost(database, reason)

    def unavailable(self, database: str, reason: str) -> None:
        """The database cannot be watched."""
        if self.cache is not None:
            with self.lock:
                self.cache.lost(database, reason)
        if reason not in self._said:
            self._said.add(reason)
            log.warning("qbmongo: %s is not cached: %s", database, reason)

    def in_use(self, database: str) -> bool:
        """Whether the database's cache was asked since this was asked last."""
        if self.cache is None:
            return False
        trust = self.cache.trust(database)
        used, trust.used = trust.used, False
        return used

    def wanted_facts(self, database: str) -> list[str]:
        """Collections of a database whose facts (type, collation, indexes) are to be read next."""
        if self.cache is None:
            return []
        with self.lock:
            return self.cache.wanted_facts(database)

    def facts_stamp(self, namespace: str) -> Any:
        """To be taken before facts are read, and given back with them."""
        assert self.cache is not None
        with self.lock:
            return self.cache.facts_stamp(namespace)

    def facts(
        self,
        namespace: str,
        stamp: Any,
        collections: Sequence[Mapping[str, Any]],
        indexes: Sequence[Mapping[str, Any]],
    ) -> None:
        """A namespace's documents of listCollections and listIndexes."""
        assert self.cache is not None
        known = facts_from(collections, indexes)
        with self.lock:
            self.cache.facts_read(stamp, known)

    def facts_failed(self, namespace: str, stamp: Any, reason: str | None) -> None:
        """The facts could not be read: for good, with a reason, or (None) this time."""
        assert self.cache is not None
        known = None if reason is None else Facts(reason, simple=False)
        with self.lock:
            self.cache.facts_read(stamp, known)

    def verification(self, database: str) -> Verification | None:
        """A hit of the database that is to be read again now."""
        if self.verifier is None:
            return None
        with self.lock:
            return self.verifier.next(database)

    def verified(self, item: Verification, reply: Mapping[str, Any], now_s: float) -> None:
        """The server's reply to the second read, decoded without loss."""
        from .verify import documents_of

        documents = documents_of(reply)
        if documents is not None and self.verifier is not None:
            with self.lock:
                self.verifier.answered(item, documents, now_s)
