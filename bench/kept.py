"""A cache that is full of answers, filled as the engine fills it, without a server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import bson
from bson.codec_options import DEFAULT_CODEC_OPTIONS

from qbmongo import CacheSettings, Settings
from qbmongo.coherence.records import Primary
from qbmongo.core.cache import Cache
from qbmongo.core.engine import Engine, Lead
from qbmongo.core.store import Budget
from qbmongo.core.trust import Facts
from qbmongo.records import ReadOp

__all__ = ["NAMESPACE", "PRIMARY", "Kept", "update_of"]

NAMESPACE = "shop.things"
PRIMARY = Primary(("127.0.0.1", 27017), None)
LONG_S = 1e9


class Kept:
    """An engine with a cache that nothing but writes empties: a lease that does not end, no limit.

    lock: the engine's, that of a client used from threads by default.
    """

    def __init__(self, lock: Any = None) -> None:
        settings = Settings(profile=None, cache=CacheSettings(max_bytes=1 << 40))
        self.cache = Cache(
            max_bytes=1 << 40,
            lease_s=LONG_S,
            max_age_s=LONG_S,
            unknown_s=60.0,
            budget=Budget(nullcontext()),
        )
        self.engine = Engine(
            settings,
            lock=lock or threading.Lock(),
            find_place=lambda: None,
            profile=None,
            cache=self.cache,
            mutable_ok=True,
        )
        self.scope = self.engine.scope(NAMESPACE)
        self.cache.lease("shop", PRIMARY, 0.0)
        stamp = self.cache.facts_stamp(NAMESPACE)
        self.cache.facts_read(stamp, Facts(None, True))
        self._requests = 0

    def keep(self, op: ReadOp, documents: Sequence[Mapping[str, Any]]) -> None:
        """Keeps an answer, by the way a miss takes."""
        self.keep_data(op, b"".join(bson.encode(document) for document in documents))

    def keep_data(self, op: ReadOp, data: bytes) -> None:
        """Keeps an answer given as its documents' BSON."""
        lead = self.scope.begin_read(op, DEFAULT_CODEC_OPTIONS, 1.0, share=True)
        if type(lead) is not Lead:
            raise RuntimeError(f"not kept: {self.engine.bypassed}")
        lead.address = PRIMARY.address
        self.scope.settle_read(lead, 1.0, documents=1, size=len(data), data=data)

    def __len__(self) -> int:
        return len(self.cache.store)

    def write(self, name: str, command: Mapping[str, Any]) -> None:
        """A command goes over the wire: what the listener tells the engine of it."""
        self._requests += 1
        key = (PRIMARY.address, self._requests)
        self.engine.command_started(key, name, "shop", command, 1.0)
        self.engine.command_succeeded(key, name, {"ok": 1.0, "n": 1}, PRIMARY.address, 1.0)

    def writes(self, name: str, commands: Sequence[Mapping[str, Any]]) -> Callable[[int], None]:
        """Something that writes so many of the commands, in turn."""

        def run(calls: int) -> None:
            write = self.write
            for command in commands[:calls]:
                write(name, command)

        return run


def update_of(identity: Any) -> dict[str, Any]:
    """An update command of one document by `_id`, as the driver builds it."""
    return {
        "update": "things",
        "ordered": True,
        "txnNumber": 1,
        "updates": [{"q": {"_id": identity}, "u": {"$set": {"stock": 5}}}],
    }
