"""Where writes through a collection object gather, and which of them can."""

from __future__ import annotations

from typing import Any

from ..core.coalesce import Coalescer
from ..core.engine import Scope
from ..core.lanes import Lane
from .known_calls import KnownCalls

__all__ = ["WriteLanes", "lanes_of"]


class WriteLanes:
    """The lanes of writes through collection objects with one write concern and codec, while the
    settings stay the same.

    calls: what is known of such writes.

    insert_reason, update_reason: why writes of that kind of command go straight through, or None.
    """

    __slots__ = (
        "calls",
        "codec",
        "concern",
        "insert",
        "insert_reason",
        "update",
        "update_reason",
        "version",
    )

    def __init__(self, concern: Any, codec: Any, version: int) -> None:
        self.concern = concern
        self.codec = codec
        self.version = version
        self.calls = KnownCalls()
        self.insert: Lane | None = None
        self.update: Lane | None = None
        self.insert_reason: str | None = None
        self.update_reason: str | None = None


def lanes_of(coalescer: Coalescer, scope: Scope, collection: Any) -> WriteLanes:
    """The lanes of writes through a collection object. Called under the client's lock."""
    concern, codec = collection.write_concern, collection.codec_options
    client = collection.database.client
    limits = scope.coalesce
    assert limits is not None
    lanes = WriteLanes(concern, codec, coalescer.version)
    default = client.write_concern
    if not concern.acknowledged:
        lanes.insert_reason = lanes.update_reason = "unacknowledged"
    elif concern.is_server_default and not default.is_server_default:
        # The driver would take the client's in its place.
        lanes.update_reason = "write_concern"
    if codec.document_class is not dict:
        lanes.insert_reason = lanes.insert_reason or "codec"
    if codec.document_class is not dict or codec != client.codec_options:
        lanes.update_reason = lanes.update_reason or "codec"
    variant = (concern, codec)
    lanes.insert = coalescer.lane(scope.namespace, "insert", variant, limits)
    lanes.update = coalescer.lane(scope.namespace, "update", variant, limits)
    return lanes
