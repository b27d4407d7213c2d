"""What an answer that may be kept says of the documents it was computed from."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import bson

from .cache import Fill
from .frozen import EXACT_CODEC
from .values import canonical

__all__ = ["give_up", "ids_of"]


def give_up(fill: Fill) -> list[Any]:
    """Closes a flight whose settlement failed; its waiters must not wait for ever."""
    fill.open = False
    waiters, fill.waiters = fill.waiters, []
    return waiters


def ids_of(fill: Fill, data: bytes) -> list[Hashable] | None:
    """Canonical `_id`s of every document of an answer; None where it does not carry them.

    Only a find's documents carry the `_id` they are computed from, and only where the projection
    leaves it as it is.
    """
    op = fill.op
    if op.kind not in ("find", "find_one"):
        return None
    projection = op.projection
    if projection is not None and "_id" in projection:
        kept = projection["_id"]
        if isinstance(kept, (dict, str)) or not kept:
            return None
    try:
        return [canonical(document["_id"]) for document in bson.decode_all(data, EXACT_CODEC)]
    except (KeyError, TypeError):
        return None
