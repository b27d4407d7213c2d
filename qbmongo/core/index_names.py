"""Which fields are the first one of an index, as far as writes that travel together need it.

A write whose filter has equality on such a field finds its document quickly. That is all that is
wanted here: what is believed wrongly, because an index was dropped meanwhile, makes a batch slow
and nothing else. So definitions are read once, when writes by other fields than `_id` are frequent,
and believed for some minutes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["IndexNames"]

_BELIEVED_S = 600.0
_WANTED_AFTER = 8  # writes by other fields
_MAX_NAMESPACES = 10_000
_NOTHING: frozenset[str] = frozenset()


class _Known:
    __slots__ = ("fields", "until_s", "writes")

    def __init__(self) -> None:
        self.fields = _NOTHING
        self.until_s = -math.inf
        self.writes = 0


class IndexNames:
    """By namespace, the first fields of its indexes. Shared by threads without a lock: each step
    is harmless if it is lost or done twice."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def known(self, namespace: str, now_s: float) -> frozenset[str]:
        """The fields known to be the first one of an index that finds any equal value."""
        known = self._known.get(namespace)
        return _NOTHING if known is None or now_s >= known.until_s else known.fields

    def is_wanted(self, namespace: str, now_s: float) -> bool:
        """Counts a write by another field than `_id`; True if the definitions shall be read now."""
        known = self._known.get(namespace)
        if known is None:
            if len(self._known) >= _MAX_NAMESPACES:
                self._known.clear()
            known = self._known[namespace] = _Known()
        if now_s < known.until_s:
            return False
        known.writes += 1
        return known.writes == _WANTED_AFTER

    def read(
        self, namespace: str, indexes: Sequence[Mapping[str, Any]] | None, now_s: float
    ) -> None:
        """The index definitions of a namespace; None if they could not be read."""
        known = self._known.setdefault(namespace, _Known())
        known.fields = frozenset(filter(None, map(_first_field, indexes or ())))
        known.until_s = now_s + _BELIEVED_S
        known.writes = 0


def _first_field(index: Mapping[str, Any]) -> str | None:
    """The first field of an index if it surely finds every document with an equal value there."""
    if index.get("hidden") or "partialFilterExpression" in index or "collation" in index:
        return None
    for name, direction in index.get("key", {}).items():
        return str(name) if direction in (1, -1) else None
    return None
