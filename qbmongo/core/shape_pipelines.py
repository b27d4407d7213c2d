"""Pipeline -> pipeline key: the part that indexes can serve, and every join.

    pipeline = (head, stages): the first `head` stages see documents of the collection itself
    stage    = (name, (part, value), ...)

Of stages in the head the filters, sorts and paths are kept; of later ones the names alone, except
what they read elsewhere ($lookup, $graphLookup, $unionWith, $facet), which is always kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .shape_filters import (
    DOCUMENT,
    INVALID,
    MAX_DEPTH,
    MORE,
    Room,
    filter_key,
    name_of,
    projection_key,
    sort_key,
    type_class,
)

MAX_STAGES = 50

# Stages whose output documents still carry the collection's own paths, so that the server may move
# a $match or $sort in front of them. Source: MongoDB manual, "Aggregation Pipeline Optimization".
_STREAMING = frozenset(
    {
        "$match",
        "$sort",
        "$limit",
        "$skip",
        "$project",
        "$addFields",
        "$set",
        "$unset",
        "$unwind",
        "$lookup",
        "$graphLookup",
        "$geoNear",
        "$redact",
    }
)

Stage = tuple[Any, ...]
PipelineKey = tuple[int, tuple[Stage, ...]]


def pipeline_key(pipeline: Any, room: Room, depth: int = 0) -> PipelineKey:
    """The key of a pipeline; of whatever else the caller gave, that it is invalid."""
    if not isinstance(pipeline, (list, Sequence)) or isinstance(pipeline, (str, bytes)):
        return (0, ((INVALID, ("type", type_class(pipeline))),))
    if depth > MAX_DEPTH:
        return (0, ((MORE,),))
    stages: list[Stage] = []
    head = 0
    in_head = True
    for stage in pipeline[:MAX_STAGES]:
        if room.left <= 0:
            stages.append((MORE,))
            break
        room.left -= 1
        if not isinstance(stage, DOCUMENT) or len(stage) != 1:
            stages.append((INVALID, ("type", type_class(stage))))
            in_head = False
            continue
        for stage_name, argument in stage.items():
            name = name_of(stage_name)
            in_head_now = in_head
            in_head = in_head and name in _STREAMING
            head += in_head
            stages.append((name, *_parts(name, argument, in_head_now, room, depth)))
    return (head, tuple(stages))


def _parts(
    name: str, argument: Any, in_head: bool, room: Room, depth: int
) -> tuple[tuple[str, Any], ...]:
    """What is kept of a stage. in_head: its input documents are the collection's own."""
    foreign = _FOREIGN.get(name)
    if foreign is not None:
        return foreign(argument, room, depth)
    if not in_head:
        return ()
    if name == "$match":
        return (("filter", filter_key(argument, room, depth)),)
    if name == "$sort" and isinstance(argument, DOCUMENT):
        return (("sort", sort_key(argument)),)
    if name in ("$project", "$unset"):
        return (("projection", projection_key(argument)),)
    if name in ("$addFields", "$set") and isinstance(argument, DOCUMENT):
        return (("fields", tuple(sorted(path for path, _ in projection_key(argument)))),)
    if name == "$unwind":
        path = argument.get("path") if isinstance(argument, DOCUMENT) else argument
        return (("path", name_of(path)),)
    if name == "$group" and isinstance(argument, DOCUMENT):
        return (("by", _group_paths(argument.get("_id"))),)
    if name == "$geoNear" and isinstance(argument, DOCUMENT):
        query = argument.get("query")
        kept = (("key", name_of(argument.get("key"))),) if "key" in argument else ()
        return kept if query is None else (*kept, ("filter", filter_key(query, room, depth)))
    return ()


def _group_paths(by: Any) -> tuple[str, ...]:
    """The field paths a group is made by; a computed part shows as "computed"."""
    if by is None:
        return ()
    parts = list(by.values())[:32] if isinstance(by, DOCUMENT) else [by]
    is_path = [isinstance(part, str) and part[:1] == "$" and part[:2] != "$$" for part in parts]
    found = {name_of(part) if ok else "computed" for part, ok in zip(parts, is_path, strict=True)}
    return tuple(sorted(found))


def _lookup(argument: Any, room: Room, depth: int) -> tuple[tuple[str, Any], ...]:
    if not isinstance(argument, DOCUMENT):
        return ()
    kept: list[tuple[str, Any]] = [
        (part, _namespace(argument[field]))
        for part, field in (
            ("from", "from"),
            ("local_field", "localField"),
            ("foreign_field", "foreignField"),
        )
        if field in argument
    ]
    if argument.get("pipeline"):
        kept.append(("pipeline", pipeline_key(argument["pipeline"], room, depth + 1)))
    return tuple(kept)


def _graph_lookup(argument: Any, room: Room, depth: int) -> tuple[tuple[str, Any], ...]:
    if not isinstance(argument, DOCUMENT):
        return ()
    kept: list[tuple[str, Any]] = [
        (part, _namespace(argument[field]))
        for part, field in (
            ("from", "from"),
            ("local_field", "connectFromField"),
            ("foreign_field", "connectToField"),
        )
        if field in argument
    ]
    restriction = argument.get("restrictSearchWithMatch")
    if restriction:
        kept.append(("filter", filter_key(restriction, room, depth + 1)))
    return tuple(kept)


def _union_with(argument: Any, room: Room, depth: int) -> tuple[tuple[str, Any], ...]:
    if not isinstance(argument, DOCUMENT):
        return (("from", _namespace(argument)),)
    kept: tuple[tuple[str, Any], ...] = ()
    if "coll" in argument:
        kept = (("from", _namespace(argument["coll"])),)
    if argument.get("pipeline"):
        kept = (*kept, ("pipeline", pipeline_key(argument["pipeline"], room, depth + 1)))
    return kept


def _facet(argument: Any, room: Room, depth: int) -> tuple[tuple[str, Any], ...]:
    if not isinstance(argument, DOCUMENT):
        return ()
    branches = list(argument.values())[:MAX_STAGES]
    return (("pipelines", frozenset(pipeline_key(b, room, depth + 1) for b in branches)),)


def _target(argument: Any, room: Room, depth: int) -> tuple[tuple[str, Any], ...]:
    into = argument.get("into", argument) if isinstance(argument, DOCUMENT) else argument
    return (("into", _namespace(into)),)


def _namespace(value: Any) -> str:
    """A collection's name, "database.collection" where both are given."""
    if isinstance(value, DOCUMENT):
        parts = [name_of(value[part]) for part in ("db", "coll") if part in value]
        return ".".join(parts) if parts else INVALID
    return name_of(value)


_FOREIGN = {
    "$lookup": _lookup,
    "$graphLookup": _graph_lookup,
    "$unionWith": _union_with,
    "$facet": _facet,
    "$out": _target,
    "$merge": _target,
}
