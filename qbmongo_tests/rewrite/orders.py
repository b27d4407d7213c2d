"""What is known of the order of a pipeline's answer."""

from __future__ import annotations

from typing import Any

__all__ = ["order_of"]

# Stages after which `_id` is no longer each document's own, or documents are made of it.
_NEW_IDS = frozenset(
    {"$count", "$facet", "$group", "$project", "$replaceRoot", "$sortByCount", "$unionWith"}
)


def order_of(pipeline: list[Any]) -> str:
    """What the order of a pipeline's answer is told by."""
    order = "free"
    own_ids = True
    split = False
    for stage in pipeline:
        name, value = next(iter(stage.items()), ("", None))
        if name in _NEW_IDS or _writes_id(name, value):
            own_ids = False
        elif name == "$unwind":
            split = True
        elif name == "$sort":
            if not own_ids or not isinstance(value, dict) or "_id" not in value:
                order = "free"
            else:
                order = "ids" if split else "total"
    if order == "total" and split:
        order = "ids"  # unwound after the sort
    return order if own_ids else "free"


def _writes_id(name: str, value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    if name == "$lookup":
        return value.get("as") == "_id"
    if name == "$unwind":
        return value.get("includeArrayIndex") == "_id"
    return name in ("$addFields", "$set") and any(path.partition(".")[0] == "_id" for path in value)
