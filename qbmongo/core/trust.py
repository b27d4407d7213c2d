"""How far the change stream of a database can be believed, and what namespaces are.

A cached value is served only under a lease: proof, not older than `lease_s`, that the stream has
shown everything up to some instant. The lease lapsing serves nothing and loses nothing; losing the
stream (a gap, another primary) is a clear.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Facts", "Trust", "facts_from"]

NEVER = -math.inf


class Trust:
    """What is known of one database's stream.

    lease_until_s: hits may be served until then.
    trusted: a probe has succeeded since the stream was (re)opened.
    epoch: changes whenever trust begins or ends, so that a fill can tell it lasted.
    primary: the primary that the stream and the probe were on.
    used: the cache was asked since the watcher looked last.
    """

    __slots__ = ("database", "epoch", "lease_until_s", "primary", "reason", "trusted", "used")

    def __init__(self, database: str) -> None:
        self.database = database
        self.lease_until_s = NEVER
        self.trusted = False
        self.epoch = 0
        self.primary: Any = None
        self.reason = "starting"
        self.used = False

    def renewed(self, primary: Any, until_s: float) -> None:
        """A probe succeeded on this primary; the lease runs until the instant given."""
        if not self.trusted or primary != self.primary:
            self.epoch += 1
            self.trusted = True
            self.primary = primary
            self.reason = ""
            self.lease_until_s = until_s
        elif until_s > self.lease_until_s:
            self.lease_until_s = until_s

    def lost(self, reason: str) -> None:
        """The stream may have missed something."""
        self.epoch += 1
        self.trusted = False
        self.primary = None
        self.lease_until_s = NEVER
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Facts:
    """What a namespace is, as listCollections and listIndexes said.

    refusal: why it is never cached ("view", "capped", "timeseries", ...), or None.
    simple: strings compare by simple binary comparison (no default collation).
    unique: key patterns of complete unique indexes (not partial, not sparse, same collation).
    indexed: first fields of the indexes that find any document by an equal value: not hidden, not
        partial, of the collection's own collation.
    """

    refusal: str | None
    simple: bool
    unique: tuple[tuple[str, ...], ...] = ()
    indexed: frozenset[str] = frozenset()


def facts_from(
    collections: Sequence[Mapping[str, Any]], indexes: Sequence[Mapping[str, Any]]
) -> Facts:
    """Facts of a namespace from its listCollections and listIndexes documents.

    No listCollections document means the namespace does not exist: an ordinary collection once it
    is created, which is a write that makes the facts unknown again.

    Source: https://www.mongodb.com/docs/manual/reference/command/listCollections/
    """
    if not collections:
        return Facts(None, True)
    info = collections[0]
    options = info.get("options") or {}
    kind = info.get("type", "collection")
    refusal = None
    if kind != "collection":
        refusal = str(kind)
    elif options.get("capped"):
        refusal = "capped"
    elif options.get("encryptedFields"):
        refusal = "encrypted"
    collation = options.get("collation")
    simple = not collation or collation.get("locale") == "simple"
    unique = []
    first = set()
    for index in indexes:
        keys = list(index.get("key", {}).items())
        if not keys or index.get("hidden"):
            continue
        own = index.get("collation")
        partial = index.get("partialFilterExpression")
        same = (not own and simple) or own == collation
        if keys[0][1] in (1, -1) and same and not partial:
            first.add(keys[0][0])
        complete = not (partial or index.get("sparse"))
        if index.get("unique") and complete and same:
            unique.append(tuple(name for name, _ in keys))
    return Facts(refusal, simple, tuple(unique), frozenset(first))
