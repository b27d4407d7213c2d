"""Footprints, effects and filters in the form in which the cache keeps and compares them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

from ..records import Effect, Footprint
from .frozen import EXACT_CODEC
from .snapshots import readable
from .store import Entry
from .trust import Facts

__all__ = ["collated", "filter_bytes", "filter_of", "key_bytes", "private_effect"]


def filter_of(entry: Entry) -> Mapping[str, Any] | None:
    if entry.filter is None:
        return None
    return _decoded(entry.filter)


def _decoded(data: Any) -> dict[str, Any]:
    return bson.decode(data, codec_options=EXACT_CODEC)


def filter_bytes(filter: Any, key: Any) -> bytes:
    """A filter as it is kept: the key's own bytes where they are the same, not another copy."""
    encoded = bson.encode(filter, codec_options=EXACT_CODEC)
    if type(key) is tuple and encoded in key:
        return key[key.index(encoded)]  # type: ignore[no-any-return]
    return encoded


def key_bytes(key: Any) -> int:
    if type(key) is not tuple:
        return 0
    size = 0
    for part in key:
        if type(part) is bytes:
            size += len(part)
    return size


def _has_string(form: Any) -> bool:
    if isinstance(form, str):
        return True
    return isinstance(form, tuple) and any(_has_string(part) for part in form)


def collated(footprint: Footprint) -> Footprint:
    """Under a collation a string in an `_id` may stand for other strings: not confined to it."""
    bound = footprint.bound_ids
    if bound is not None and any(_has_string(form) for form in bound):
        footprint = replace(footprint, bound_ids=None)
    equality = footprint.equality
    if equality is not None and _has_string(equality[1]):
        footprint = replace(footprint, equality=None)
    return footprint


def private_effect(effect: Effect, facts: Facts | None) -> Effect:
    """An own effect as it may be kept: documents decoded, or unknown where that loses something;
    ids that a collation blurs made "any"."""
    ids = effect.ids
    # Facts that only a time to live vouches for are forgotten before the answers they let in.
    blurs = (facts is None or not facts.simple) and effect.kind != "insert"
    if blurs and ids is not None and any(_has_string(form) for form in ids):
        ids = None
    documents = effect.documents
    if documents is not None:
        for document in documents:
            if isinstance(document, RawBSONDocument):
                documents = _read(documents)
                break
    if ids is effect.ids and documents is effect.documents:
        return effect
    return replace(effect, ids=ids, documents=documents)


def _read(documents: tuple[Mapping[str, Any], ...]) -> tuple[Mapping[str, Any], ...] | None:
    """Documents without raw ones; None where what Python shows of one is not all that is stored."""
    try:
        return tuple(map(readable, documents))
    except TypeError:
        return None
