"""What an aggregation pipeline reads: paths of its own collection, and further collections.

None stands for "any path". Names that a stage makes are not told apart from the collection's own:
reading one too many is harmless.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .paths import NO_PATHS, Paths, filter_paths, sort_paths, strip_positions, top_level
from .snapshots import readable

__all__ = ["expression_paths", "foreign_namespaces", "leading_match", "pipeline_paths", "stages"]

_BOUND_TO_DOCUMENT = ("$$ROOT", "$$CURRENT")


def stages(pipeline: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """The stages of a pipeline as (name, specification).

    Raises:
        ValueError: a stage is not a document with exactly one field.
    """
    for stage in pipeline:
        stage = readable(stage)
        if not isinstance(stage, Mapping) or len(stage) != 1:
            raise ValueError("a stage has exactly one field")
        for name, specification in stage.items():
            yield name, readable(specification)


def leading_match(pipeline: Sequence[Any]) -> Mapping[str, Any] | None:
    """The filter of a first stage `$match`; None where there is none."""
    for name, specification in stages(pipeline):
        return specification if name == "$match" and isinstance(specification, Mapping) else None
    return None


def expression_paths(expression: Any) -> Paths | None:
    """Paths of the current document that an aggregation expression reads."""
    paths: set[str] = set()
    return frozenset(paths) if _collect(expression, paths) else None


def pipeline_paths(pipeline: Sequence[Any]) -> Paths | None:
    """Paths of the source documents that decide a pipeline's answer.

    Returns:
        The paths read until a stage forgets the source documents (`$group`, `$count`, ...); None if
        no stage does, or if a stage may read any.
    """
    paths: set[str] = set()
    for name, specification in stages(pipeline):
        if name == "$project":
            projected, forgets = _project_paths(specification)
        elif name in _READERS:
            projected, forgets = _READERS[name](specification), name in _FORGETTING
        else:
            return None
        if projected is None:
            return None
        paths |= projected
        if forgets:
            return frozenset(paths)
    return None


def foreign_namespaces(pipeline: Sequence[Any], database: str) -> frozenset[str] | None:
    """Further namespaces that a pipeline reads.

    Args:
        pipeline: the stages.
        database: the database that the aggregation runs in.

    Returns:
        "database.collection" of every `$lookup`, `$graphLookup` and `$unionWith`, also nested; None
        where a stage names its source in a form that is not known.

    Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/lookup/
    """
    found: set[str] = set()
    for name, specification in stages(pipeline):
        if name not in ("$lookup", "$graphLookup", "$unionWith", "$facet"):
            continue
        nested: list[Any] = []
        if name == "$unionWith" and isinstance(specification, str):
            found.add(f"{database}.{specification}")
        elif not isinstance(specification, Mapping):
            return None
        elif name == "$facet":
            nested = list(specification.values())
        else:
            source = specification.get("coll" if name == "$unionWith" else "from")
            if isinstance(source, str):
                found.add(f"{database}.{source}")
            elif source is not None or name == "$graphLookup":
                return None
            nested = [specification.get("pipeline", [])]
        for inner in nested:
            if not isinstance(inner, (list, tuple)):
                return None
            more = foreign_namespaces(inner, database)
            if more is None:
                return None
            found |= more
    return frozenset(found)


def _collect(expression: Any, paths: set[str]) -> bool:
    """Add the paths of an expression; False if it may read any.

    A variable's fields need no care: the expression that defines it is collected whole.
    """
    if isinstance(expression, str):
        return _collect_path(expression, paths)
    expression = readable(expression)
    if isinstance(expression, (list, tuple)):
        return all(_collect(item, paths) for item in expression)
    if not isinstance(expression, Mapping) or "$literal" in expression:
        return True
    if "$getField" in expression:
        return False
    return all(_collect(item, paths) for item in expression.values())


def _collect_path(text: str, paths: set[str]) -> bool:
    if text.startswith("$$"):
        return not text.startswith(_BOUND_TO_DOCUMENT)
    if text.startswith("$"):
        paths.add(strip_positions(text[1:]))
    return True


def _match_paths(specification: Any) -> Paths | None:
    return filter_paths(specification) if isinstance(specification, Mapping) else None


def _sort_stage_paths(specification: Any) -> Paths | None:
    return sort_paths(specification) if isinstance(specification, Mapping) else None


def _unwind_paths(specification: Any) -> Paths | None:
    if isinstance(specification, Mapping):
        specification = specification.get("path")
    return expression_paths(specification) if isinstance(specification, str) else None


def _lookup_paths(specification: Any) -> Paths | None:
    if not isinstance(specification, Mapping):
        return None
    local = specification.get("localField")
    variables = expression_paths(specification.get("let", {}))
    if variables is None or not (local is None or isinstance(local, str)):
        return None
    return variables if local is None else variables | {strip_positions(local)}


def _graph_lookup_paths(specification: Any) -> Paths | None:
    if not isinstance(specification, Mapping):
        return None
    return expression_paths(specification.get("startWith"))


def _replace_root_paths(specification: Any) -> Paths | None:
    return expression_paths(specification)


def _nothing(_specification: Any) -> Paths | None:
    return NO_PATHS


def _facet_paths(specification: Any) -> Paths | None:
    if not isinstance(specification, Mapping):
        return None
    paths: set[str] = set()
    for inner in specification.values():
        read = pipeline_paths(inner) if isinstance(inner, (list, tuple)) else None
        if read is None:
            return None
        paths |= read
    return frozenset(paths)


def _project_paths(specification: Any) -> tuple[Paths | None, bool]:
    """Paths of a `$project`, and whether it is an inclusion, after which nothing else is known."""
    if not isinstance(specification, Mapping):
        return None, False
    paths: set[str] = set()
    includes = excludes = False
    for name, value in specification.items():
        value = readable(value)
        if isinstance(value, (bool, int, float)):
            if value:
                paths.add(top_level(name))
                includes = True
            else:
                excludes = excludes or name != "_id"
            continue
        if isinstance(value, Mapping) and not next(iter(value), "").startswith("$"):
            return None, False
        if not _collect(value, paths):
            return None, False
        paths.add(top_level(name))
        includes = True
    if excludes and includes:
        return None, False
    return frozenset(paths), includes


_READERS = {
    "$addFields": expression_paths,
    "$bucket": expression_paths,
    "$bucketAuto": expression_paths,
    "$count": _nothing,
    "$facet": _facet_paths,
    "$graphLookup": _graph_lookup_paths,
    "$group": expression_paths,
    "$limit": _nothing,
    "$lookup": _lookup_paths,
    "$match": _match_paths,
    "$replaceRoot": _replace_root_paths,
    "$replaceWith": _replace_root_paths,
    "$set": expression_paths,
    "$skip": _nothing,
    "$sort": _sort_stage_paths,
    "$sortByCount": expression_paths,
    "$unionWith": _nothing,
    "$unset": _nothing,
    "$unwind": _unwind_paths,
}

_FORGETTING = frozenset(
    {
        "$bucket",
        "$bucketAuto",
        "$count",
        "$facet",
        "$group",
        "$replaceRoot",
        "$replaceWith",
        "$sortByCount",
    }
)
