"""Random single writes: as calls of a driver, and as statements for the fake server.

Few ids and few unique values, so that writes conflict. Each bears its number as a tag.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from qbmongo.records import WriteKind

__all__ = ["Operation", "any_operation"]

# How many values the field u (unique) takes, in a collection that begins with them untaken.
UNIQUES = 6


@dataclass(frozen=True, slots=True)
class Operation:
    """One write.

    number: its tag. document: what is inserted, the update or the replacement.
    invalid: the document cannot be encoded.
    """

    number: int
    kind: WriteKind
    identity: Any
    document: dict[str, Any]
    upsert: bool = False
    invalid: bool = False

    @property
    def filter(self) -> dict[str, Any]:
        """By `_id`; a delete bears its tag here."""
        if self.kind == "delete_one":
            return {"_id": self.identity, "tag": {"$ne": self.number}}
        return {"_id": self.identity}

    def statement(self) -> dict[str, Any]:
        """For FakeServer.apply."""
        if self.kind == "insert_one":
            return {"kind": "insert", "document": self.document}
        if self.kind == "delete_one":
            return {"kind": "delete", "filter": self.filter}
        update = {"filter": self.filter, "update": self.document, "upsert": self.upsert}
        return {"kind": "update", **update}

    def call(self, collection: Any) -> Any:
        """Makes the driver's call."""
        document = dict(self.document)
        if self.invalid:
            document["bad"] = object()
            document = {"$set": document} if self.kind == "update_one" else document
        if self.kind == "insert_one":
            return collection.insert_one(document)
        if self.kind == "delete_one":
            return collection.delete_one(self.filter)
        if self.kind == "replace_one":
            return collection.replace_one(self.filter, document, upsert=self.upsert)
        return collection.update_one(self.filter, document, upsert=self.upsert)


def any_operation(
    below: Callable[[int], int],
    number: int,
    *,
    ids: int,
    invalid: bool = True,
    only: Literal["insert", "update"] | None = None,
) -> Operation:
    """A random write.

    Args:
        below: below(n) chooses from 0 to n - 1.
        number: its tag.
        ids: how many `_id`s there are.
        invalid: some cannot be encoded.
        only: no others than inserts; or none of them.
    """
    identity, upsert = below(ids), below(3) == 0
    tag = {"tag": number}
    extra: dict[str, Any] = {}
    chance = below(8)
    if chance == 0:
        extra = {"u": below(UNIQUES)}
    elif chance == 1:
        extra = {"v": below(14)}
    if invalid and below(40) == 0:
        kinds: dict[Any, tuple[WriteKind, ...]] = {
            None: ("insert_one", "update_one", "replace_one"),
            "insert": ("insert_one",),
            "update": ("update_one", "replace_one"),
        }
        kind = kinds[only][below(len(kinds[only]))]
        return Operation(number, kind, identity, {"_id": identity, **tag}, invalid=True)
    which = 0 if only == "insert" else 4 + below(12) if only == "update" else below(16)
    if which < 4:
        inserted = {"_id": identity, "n": 1, "s": "text", **extra, **tag}
        return Operation(number, "insert_one", identity, inserted)
    if which < 6:
        replacement = {"n": 5, "s": "text", **extra, **tag}
        return Operation(number, "replace_one", identity, replacement, upsert)
    if which < 8:
        return Operation(number, "delete_one", identity, {})
    if which == 8:
        # Changes nothing: the tag of every document is larger.
        return Operation(number, "update_one", identity, {"$max": {"tag": -1 - number}})
    if which == 9:
        failing = {"$inc": {"s": 1}, "$set": tag}
        return Operation(number, "update_one", identity, failing)
    update = {"$inc": {"n": 1}, "$set": {**extra, **tag}}
    return Operation(number, "update_one", identity, update, upsert)
