"""An operation's filter with its values, as bounded text for a slow sample.

Used only where the owner switched `keep_values` on: values may be private.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from bson import Regex, json_util

from ..records import ReadOp, WriteOp
from .shape_filters import type_class

MAX_TEXT = 1_000  # characters
_MAX_ITEMS = 20
_MAX_STRING = 200
_MAX_DEPTH = 6


def values_text(op: ReadOp | WriteOp) -> str:
    """The filter or pipeline of an operation as relaxed extended JSON, cut at MAX_TEXT characters.

    Never raises, and takes a time that does not grow with the filter.
    """
    asked: Any = op.filter
    if isinstance(op, ReadOp) and op.pipeline is not None:
        asked = op.pipeline
    try:
        text = json_util.dumps(_bounded(asked, 0), json_options=json_util.RELAXED_JSON_OPTIONS)
    except Exception:
        return "?"
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."


def _bounded(value: Any, depth: int) -> Any:
    if isinstance(value, (str, bytes)):
        return value if len(value) <= _MAX_STRING else f"... ({len(value)} long)"
    if isinstance(value, (dict, Mapping)):
        if depth >= _MAX_DEPTH:
            return "..."
        kept = {str(k)[:_MAX_STRING]: _bounded(v, depth + 1) for k, v in _first(value.items())}
        if len(value) > _MAX_ITEMS:
            kept["..."] = len(value) - _MAX_ITEMS
        return kept
    if isinstance(value, (list, tuple)):
        if depth >= _MAX_DEPTH:
            return "..."
        listed = [_bounded(item, depth + 1) for item in _first(value)]
        if len(value) > _MAX_ITEMS:
            listed.append(f"... ({len(value)} long)")
        return listed
    if isinstance(value, Regex):
        return {"$regex": _bounded(value.pattern, depth)}
    return f"({type(value).__name__})" if type_class(value) == "other" else value


def _first(items: Any) -> Any:
    return islice(items, _MAX_ITEMS)
