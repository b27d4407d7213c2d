"""What is known of the order of a pipeline's answer, and of what a page in it holds."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Pages", "order_of", "pages_of"]

# Stages after which `_id` is no longer each document's own, or documents are made of it.
_NEW_IDS = frozenset(
    {"$count", "$facet", "$group", "$project", "$replaceRoot", "$sortByCount", "$unionWith"}
)


_PAGING = frozenset({"$limit", "$skip"})
# What comes out of them is as much as goes in, or depends on nothing but how much that is.
_STEADY = _PAGING | {"$addFields", "$count", "$lookup", "$project", "$set", "$sort", "$unset"}


class Pages(NamedTuple):
    """What the pages ($skip, $limit) of a pipeline leave to the server.

    ties: one of them is taken where documents tie, so that several parts of the whole are right.
    unordered: one is taken in no order at all. open_ended: what follows looks at what was taken,
    or at the order of ties, so that of two right answers nothing need be alike.
    """

    ties: bool
    unordered: bool
    open_ended: bool


def pages_of(pipeline: list[Any]) -> Pages:
    """What the pages of a pipeline leave to the server."""
    ties = unordered = open_ended = False
    for at, stage in enumerate(pipeline):
        name, value = next(iter(stage.items()), ("", None))
        if name in _PAGING:
            order = order_of(pipeline[:at])
            ties = ties or order != "total"
            unordered = unordered or order == "free"
        elif name not in _STEADY and not _counts(name, value):
            # A $group may push in the order in which documents come.
            loose = name == "$group" and order_of(pipeline[:at]) != "total"
            open_ended = open_ended or ties or loose
    return Pages(ties, unordered, open_ended)


def _counts(name: str, value: Any) -> bool:
    """Whether a stage makes one group of everything, with sums of constants."""
    if name != "$group" or not isinstance(value, dict) or value.get("_id", 0) is not None:
        return False
    sums = [made for field, made in value.items() if field != "_id"]
    return all(
        made == {"$count": {}}
        or (isinstance(made, dict) and isinstance(made.get("$sum"), (int, float)))
        for made in sums
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
