"""Operation -> shape key: what is asked, with every value blanked.

A key is nested tuples and frozensets of strings and small integers. It is hashable, equal for
equal shapes, holds no value of the caller's and never keeps one alive. `core.shape_forms` turns a
key into the readable and the JSON form, so that a known shape costs its key and one lookup alone.

    key     = (namespace, operation, filter, rest)
    filter  = (path, predicate, path, predicate, ...) ordered by path; None: the operation has none
    rest    = ((part, value), ...) in the order of this module; None: nothing but a filter

A predicate is a type class ("number": equality) or a tuple of (operator, argument), ordered. An
argument is a type class or one of ("list", size class, type classes), ("filter", filter),
("operators", operators), ("branches", filters), ("expression", operators and field paths).
Logical operators stand in place of a path; `$and` is dissolved into the conjunction around it.

A shape is bounded whatever the caller sends: at most `shape_filters.MAX_NODES` parts are read,
names are cut at MAX_NAME characters, and what lies beyond shows as the path "$more". What cannot be
read is a shape of its own (the path "$invalid"). Nothing here raises.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import chain, islice
from typing import Any

from ..records import ReadOp, WriteOp
from .shape_filters import (
    CLASSES,
    DOCUMENT,
    INVALID,
    MAX_BRANCHES,
    MAX_NAME,
    MAX_NODES,
    SCALARS,
    Room,
    filter_key,
    name_of,
    projection_key,
    sort_key,
)
from .shape_pipelines import pipeline_key

ShapeKey = tuple[str, str, Any, Any]

_MAX_FIELDS = 32  # top-level fields named per update operator

_COLLATION_FIELDS = (
    "locale",
    "strength",
    "caseLevel",
    "caseFirst",
    "numericOrdering",
    "alternate",
    "maxVariable",
    "normalization",
    "backwards",
)


# Operators of an update, and fields of each, by which its key is looked up. Keys with so many
# characters in their names are remembered, so many of them.
_MAX_KNOWN = 8
_MAX_KNOWN_NAMES = 1_000
_MAX_KNOWN_UPDATES = 1_024
_Names = tuple[tuple[str, ...], ...]
_UpdateKey = tuple[tuple[str, tuple[str, ...]], ...]
_known_updates: dict[_Names, _UpdateKey] = {}


def read_shape(op: ReadOp) -> ShapeKey:
    """The shape key of a read.

    Args:
        op: the read as the program asked for it; its filter may be anything.

    Returns:
        A hashable key without any of the operation's values.
    """
    try:
        if (
            op.options is None
            and op.projection is None
            and op.sort is None
            and op.pipeline is None
            and op.key is None
            and not op.skip
            and (not op.limit or op.kind == "find_one")
        ):
            filter = op.filter
            if type(filter) is dict:
                # The same key as the general path gives, for the filters that are most frequent.
                # A path above "%" cannot begin with "$".
                size = len(filter)
                if size == 1:
                    for path, value in filter.items():
                        known = SCALARS.get(type(value))
                        if (
                            known is not None
                            and type(path) is str
                            and path > "%"
                            and len(path) <= MAX_NAME
                        ):
                            return (op.namespace, op.kind, (path, known), None)
                elif size == 2:
                    (path, value), (path_2, value_2) = filter.items()
                    known, known_2 = SCALARS.get(type(value)), SCALARS.get(type(value_2))
                    if (
                        known is not None
                        and known_2 is not None
                        and type(path) is str
                        and type(path_2) is str
                        and path > "%"
                        and path_2 > "%"
                        and len(path) + len(path_2) <= MAX_NAME
                    ):
                        if path < path_2:
                            return (op.namespace, op.kind, (path, known, path_2, known_2), None)
                        return (op.namespace, op.kind, (path_2, known_2, path, known), None)
        return _read_shape(op)
    except Exception:
        return (str(op.namespace), str(op.kind), (INVALID, "other"), None)


def _read_shape(op: ReadOp) -> ShapeKey:
    room = Room()
    rest: list[tuple[str, Hashable]] = []
    if op.sort:
        rest.append(("sort", sort_key(op.sort)))
    if op.projection:
        rest.append(("projection", projection_key(op.projection)))
    if op.skip:
        rest.append(("skip", 1))
    if op.limit and op.kind != "find_one":
        rest.append(("limit", 1))
    if op.key is not None:
        rest.append(("key", name_of(op.key)))
    if op.options:
        _add_options(op.options, rest)
    filter: Any = None
    if op.pipeline is not None:
        rest.append(("pipeline", pipeline_key(op.pipeline, room)))
    else:
        filter = filter_key(op.filter, room)
    return (op.namespace, op.kind, filter, tuple(rest) or None)


def write_shape(op: WriteOp) -> ShapeKey:
    """The shape key of a write: its filter as for a read, operators and fields of an update.

    Args:
        op: the write as the program asked for it; filter and document may be anything.

    Returns:
        A hashable key without any of the operation's values.
    """
    try:
        room = Room()
        rest: list[tuple[str, Hashable]] = []
        kind = op.kind
        if op.sort:
            rest.append(("sort", sort_key(op.sort)))
        if op.options:
            _add_options(op.options, rest)
        if kind == "bulk_write":
            rest.append(("requests", _requests_key(op.document, room)))
        elif op.document is not None and "update" in kind:
            rest.append(("update", _update_key(op.document)))
        filter = op.filter
        if type(filter) is dict and len(filter) == 1:
            # By far the most writes: one field, one plain value.
            [(path, value)] = filter.items()
            known = CLASSES.get(type(value))
            if known is not None and type(path) is str and path[:1] != "$":
                return (op.namespace, kind, (name_of(path), known), tuple(rest) or None)
        key = None if filter is None else filter_key(filter, room)
        return (op.namespace, kind, key, tuple(rest) or None)
    except Exception:
        return (str(op.namespace), str(op.kind), (INVALID, "other"), None)


def _add_options(options: Mapping[str, Any], rest: list[tuple[str, Hashable]]) -> None:
    collation = options.get("collation")
    if collation is not None:
        rest.append(("collation", _collation_key(collation)))
    hint = options.get("hint")
    if hint is not None:
        rest.append(("hint", name_of(hint) if isinstance(hint, str) else sort_key(hint)))
    rest.extend(
        (bound, tuple(path for path, _ in sort_key(options[bound])))
        for bound in ("min", "max")
        if options.get(bound)
    )
    if options.get("upsert"):
        rest.append(("upsert", 1))


def _collation_key(collation: Any) -> tuple[tuple[str, Any], ...]:
    document = collation if isinstance(collation, DOCUMENT) else collation.document
    return tuple(
        (field, _collation_value(document[field]))
        for field in _COLLATION_FIELDS
        if field in document
    )


def _collation_value(value: Any) -> Any:
    if isinstance(value, str):
        return name_of(value)
    return int(value) if isinstance(value, (bool, int)) else "other"


def _update_key(document: Any) -> _UpdateKey:
    """Operators of an update with the top-level fields each touches; a pipeline's stages alone."""
    if type(document) is dict and len(document) <= _MAX_KNOWN:
        names = []
        for operator, fields in document.items():
            if type(fields) is not dict or len(fields) > _MAX_KNOWN:
                break
            names.append((operator, *fields))
        else:
            known = tuple(names)
            return _known_updates.get(known) or _named_key(known)
    return _any_update_key(document)


def _named_key(names: _Names) -> _UpdateKey:
    """The key of an update of these operators, each with its fields; programs have few of them."""
    key = _any_update_key({operator: dict.fromkeys(fields) for operator, *fields in names})
    held = list(chain.from_iterable(names))
    if set(map(type, held)) == {str} and sum(map(len, held)) <= _MAX_KNOWN_NAMES:
        if len(_known_updates) >= _MAX_KNOWN_UPDATES:
            _known_updates.clear()
        _known_updates[names] = key
    return key


def _any_update_key(document: Any) -> _UpdateKey:
    is_pipeline = isinstance(document, (list, tuple))
    if is_pipeline:
        document = {name: stage[name] for stage in document[:_MAX_FIELDS] for name in stage}
    parts = []
    for operator, fields in document.items():
        if not isinstance(fields, DOCUMENT):
            # Anything else is a value, and wrong, but the names that a stage leaves out.
            if not is_pipeline or operator != "$unset":
                fields = ()
            elif isinstance(fields, str):
                fields = (fields,)
            elif not isinstance(fields, (list, tuple)):
                fields = ()
        roots = {name_of(path).partition(".")[0] for path in islice(fields, MAX_NODES)}
        parts.append((name_of(operator), tuple(sorted(roots)[:_MAX_FIELDS])))
    if len(parts) > 1:
        parts.sort()
    return tuple(parts)


def _requests_key(requests: Any, room: Room) -> frozenset[tuple[str, Any]]:
    """The kinds of a bulk write's first requests, each with its filter's key.

    A request is a WriteOp or the driver's own request object, whose filter is its `_filter`.
    """
    found: set[tuple[str, Any]] = set()
    for request in requests[:MAX_BRANCHES]:
        if isinstance(request, WriteOp):
            kind, filter = str(request.kind), request.filter
        else:
            kind, filter = name_of(type(request).__name__), getattr(request, "_filter", None)
        found.add((kind, None if filter is None else filter_key(filter, room)))
    return frozenset(found)
