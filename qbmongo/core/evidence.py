"""Which parts of a published command say for certain what was sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson.raw_bson import RawBSONDocument

from .snapshots import Private, readable

__all__ = ["Evidence"]


class Evidence:
    """Which parts of a command say for certain what was sent.

    plain: its plain dicts do. placed: what stands where in its lists does, and so do the private
    and raw documents there.
    """

    __slots__ = ("placed", "plain")

    def __init__(self, command: Mapping[str, Any], mutable_ok: bool) -> None:
        self.plain = mutable_ok
        self.placed = mutable_ok or ("txnNumber" in command and "autocommit" not in command)

    def of(self, value: Any) -> Any:
        """The value if it is certain, otherwise None; a raw document is read from its bytes."""
        if type(value) is Private:
            return value if self.placed else None
        if isinstance(value, RawBSONDocument):
            return readable(value) if self.placed else None
        return value if self.plain else None
