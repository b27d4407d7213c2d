"""Cursors of finds by a filter alone, without the driver's constructor.

The constructor checks some twenty arguments and sets some forty attributes, which takes longer
than to look an answer up. For a find by a filter alone they are the same each time, but for the
collection, the filter and the documents to come: one cursor is made by the driver, and what that
one got is what others begin with.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from bson.codec_options import CodecOptions
from pymongo.read_concern import ReadConcern

from ..core.engine import Scope

__all__ = ["fresh_cursor", "is_filter_alone"]

# Types of values that cursors may share. Where a driver keeps others, it makes each cursor itself.
_SHARED = (type(None), bool, int, float, str, CodecOptions, ReadConcern)


def is_filter_alone(args: Any, kwargs: Any) -> bool:
    """Whether a find was given a filter, not empty, and nothing else."""
    return len(args) == 1 and not kwargs and type(args[0]) is dict and bool(args[0])


def fresh_cursor(cls: Any, collection: Any, scope: Scope, filter: dict[str, Any]) -> Any:
    """A cursor of this class and filter, as its constructor makes it.

    collection: the driver's own, or one of a class of ours.
    """
    # Collections of one scope may differ in how documents are decoded, and in nothing else.
    codec, state = scope.cursor_state or (None, None)
    if codec is not collection._codec_options:
        made = cls(collection, filter)
        scope.cursor_state = (made._codec_options, _shared_state(made))
        return made
    if state is None:
        return cls(collection, filter)
    cursor = cls.__new__(cls)
    attributes = cursor.__dict__
    attributes.update(state)
    attributes["_collection"] = collection
    attributes["_spec"] = filter
    attributes["_data"] = deque()
    return cursor


def _shared_state(cursor: Any) -> dict[str, Any] | None:
    """What the constructor gave a cursor, less what is its own; None where none may share it."""
    state = dict(vars(cursor))
    own = [state.pop(name, None) for name in ("_collection", "_spec", "_data")]
    if own[2] != deque() or not all(type(value) in _SHARED for value in state.values()):
        return None
    return state
