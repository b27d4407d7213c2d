"""What a read's answer depends on, and whether a write may have changed it.

`may_affect` may say yes too often and never says no wrongly. The argument for each "no":

- An entry confined to `_id`s by its filter computes nothing from any other document.
- What an `_id` is equal to never changes, so an update of other paths than those that filter and
  sort read leaves membership and order alone; then only answers that contain the document, and show
  a changed path, differ. (A replacement may make a number in it one of another type: 5 and 5.0.)
- A new document that the filter does not match enters no answer.
- A document that a complete answer does not contain was outside it: its deletion moves others in
  only if it was counted before them (skip). With a limit alone the answer is still the first N.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

from bson.objectid import ObjectId
from bson.regex import Regex

from ..records import Effect, Footprint, ReadOp
from .determinism import cacheable
from .ids import confined_ids, known_ids
from .match import matches
from .paths import (
    NO_PATHS,
    Paths,
    filter_paths,
    overlap,
    projected_paths,
    sort_paths,
    strip_positions,
)
from .pipelines import foreign_namespaces, leading_match, pipeline_paths
from .snapshots import SCALARS, readable, snapshot

__all__ = ["cacheable", "footprint_of", "may_affect", "with_ids"]

_ID_PATHS: Paths = frozenset({"_id"})
# A pattern is a condition, and null also equals a missing field.
_VALUES = SCALARS - {Regex, re.Pattern}
# Their canonical form is the value itself.
_OWN_FORM = frozenset({int, str, ObjectId})
_PLAIN_VALUES = _VALUES - {type(None)}
# Which documents are looked at then depends on an index: on its fields, sparseness and filter.
_NARROWING = frozenset({"hint", "max", "min"})


def footprint_of(op: ReadOp) -> Footprint:
    """The footprint of a read, with the `_id`s of its answer not known yet.

    Args:
        op: a read that `cacheable` has no objection to.

    Returns:
        A footprint that shares nothing mutable with the operation.

    Raises:
        TypeError, ValueError: arguments that `cacheable` objects to.
    """
    filter = op.filter
    if (
        op.sort is None
        and op.projection is None
        and op.options is None
        and op.kind in ("find_one", "find")
        and not op.skip
        and len(filter) == 1
        and "_id" in filter
        and type(filter["_id"]) in SCALARS
    ):
        return _point_footprint(op.namespace, filter["_id"])
    options = op.options or {}
    simple = options.get("collation") is None
    if op.pipeline is not None:
        footprint = _pipeline_footprint(op.namespace, op.pipeline, simple=simple)
    else:
        footprint = _of_filter(op.namespace, filter, simple=simple)
        footprint.sort_paths = sort_paths(op.sort)
        footprint.window = bool(op.skip)
        if op.kind in ("find", "find_one"):
            footprint.projected_paths = projected_paths(op.projection)
        elif op.key is not None:
            footprint.projected_paths = frozenset({strip_positions(op.key)})
    if not _NARROWING.isdisjoint(options):
        footprint.filter_paths = None
    return footprint


def with_ids(footprint: Footprint, ids: frozenset[Hashable] | None) -> Footprint:
    """A footprint whose answer is known.

    Args:
        footprint: the read's footprint.
        ids: canonical `_id`s of every document the answer was computed from; None where the answer
            does not tell them (counts, distinct values, aggregations, `{_id: 0}`).
    """
    return Footprint(
        footprint.namespace,
        footprint.filter,
        footprint.filter_paths,
        footprint.sort_paths,
        footprint.projected_paths,
        footprint.foreign,
        ids,
        footprint.bound_ids,
        footprint.window,
        footprint.equality,
        footprint.simple,
    )


def may_affect(effect: Effect, footprint: Footprint) -> bool:
    """Whether an effect may have changed the answer of a read.

    Args:
        effect: what a write may have done.
        footprint: what the answer depends on.

    Returns:
        False only where the answer is certainly one that the server could still give.
    """
    kind, namespace = effect.kind, effect.namespace
    if kind == "everything":
        return True
    if kind == "database":
        prefix = namespace + "."
        return footprint.namespace.startswith(prefix) or any(
            name.startswith(prefix) for name in footprint.foreign
        )
    if namespace in footprint.foreign:
        return True
    if namespace != footprint.namespace:
        return False
    if kind == "namespace":
        return True
    ids = effect.ids
    if ids is not None and footprint.bound_ids is not None and ids.isdisjoint(footprint.bound_ids):
        return False
    contained = ids is None or footprint.ids is None or not ids.isdisjoint(footprint.ids)
    if kind == "update":
        return _update_affects(effect.paths, footprint, contained)
    if kind == "delete":
        return contained or footprint.window
    return _insert_affects(effect, footprint, contained)


def _update_affects(paths: Paths | None, footprint: Footprint, contained: bool) -> bool:
    return (
        _changes(paths, footprint.filter_paths)
        or _changes(paths, footprint.sort_paths)
        or (contained and overlap(paths, footprint.projected_paths))
    )


def _changes(written: Paths | None, read: Paths | None) -> bool:
    """Whether an update may change what is compared: what the `_id` is equal to it never does."""
    return read != _ID_PATHS and overlap(written, read)


def _insert_affects(effect: Effect, footprint: Footprint, contained: bool) -> bool:
    documents, filter = effect.documents, footprint.filter
    if documents is None or filter is None:
        return True
    if contained and footprint.ids is not None:
        # An `_id` of the answer is inserted again: the document had gone before.
        return True
    simple = footprint.simple
    return any(matches(filter, document, simple=simple) is not False for document in documents)


def _point_footprint(namespace: str, identity: Any) -> Footprint:
    kind = type(identity)
    if kind in _OWN_FORM:
        bound: frozenset[Hashable] | None = frozenset((identity,))
    else:
        bound = known_ids(identity, simple=True) if kind in _VALUES else None
    return Footprint(
        namespace, {"_id": identity}, _ID_PATHS, NO_PATHS, None, frozenset(), None, bound
    )


def _of_filter(namespace: str, filter: Mapping[str, Any], *, simple: bool) -> Footprint:
    """What the filter says; order and projection of a count."""
    filter = readable(filter)
    bound = confined_ids(filter, simple=simple)
    return Footprint(
        namespace,
        _private(filter),
        filter_paths(filter),
        NO_PATHS,
        NO_PATHS,
        bound_ids=bound,
        equality=_equality(filter, simple) if bound is None else None,
        simple=simple,
    )


def _private(filter: Mapping[str, Any]) -> Mapping[str, Any] | None:
    try:
        copy: Mapping[str, Any] = snapshot(filter)
    except TypeError:
        return None
    return copy


def _equality(filter: Mapping[str, Any], simple: bool) -> tuple[str, Hashable] | None:
    """A plain value that a field of every matching document equals, or contains as an element."""
    for path, value in filter.items():
        if path.startswith("$") or type(value) not in _PLAIN_VALUES:
            continue
        forms = known_ids(value, simple=simple)
        if forms is not None and len(forms) == 1:
            return path, next(iter(forms))
    return None


def _pipeline_footprint(namespace: str, pipeline: Any, *, simple: bool) -> Footprint:
    """A `$match` that comes first is the filter; what later stages read counts as projected."""
    foreign = foreign_namespaces(pipeline, namespace.partition(".")[0])
    if foreign is None:
        raise ValueError("a pipeline whose sources are not known")
    filter = leading_match(pipeline)
    footprint = _of_filter(namespace, {} if filter is None else filter, simple=simple)
    footprint.projected_paths = pipeline_paths(pipeline if filter is None else pipeline[1:])
    footprint.foreign = foreign
    return footprint
