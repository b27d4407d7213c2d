"""Command document -> operation, as a client of qbmongo would have recorded it.

Source: MongoDB manual, "Database Commands"; for the single statements that the profiler and the log
show of writes, "Database Profiler Output" (`command`) and "Log Messages" ("Logging Slow
Operations").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ..core.shape_forms import shape_form
from ..core.shapes import read_shape, write_shape
from ..records import ReadOp, WriteOp

__all__ = ["command_shape", "limit_and_skip", "operation_of"]

_LARGEST = 2**63 - 1
_FIND_OPTIONS = ("collation", "hint", "min", "max")


def command_shape(
    namespace: str, command: Mapping[str, Any], kind: str = "command"
) -> dict[str, Any] | None:
    """The shape of a command in its JSON form; None for what is no query.

    Args:
        namespace: "database.collection", as the source says; its collection may be "$cmd".
        command: the command's document, or one statement of an update or remove.
        kind: "update" or "remove" where `command` is such a statement; else anything.
    """
    operation = operation_of(namespace, command, kind)
    if operation is None:
        return None
    key = read_shape(operation) if isinstance(operation, ReadOp) else write_shape(operation)
    return shape_form(key)


def operation_of(
    namespace: str, command: Mapping[str, Any], kind: str = "command"
) -> ReadOp | WriteOp | None:
    """The operation of a command; arguments as for `command_shape`."""
    if "q" in command and kind in ("update", "remove", "delete"):
        return _statement(namespace, command, kind != "update")
    name = next(iter(command), "")
    builder = _COMMANDS.get(name)
    if builder is None:
        return None
    collection = command[name]
    database = str(command.get("$db") or namespace.partition(".")[0])
    if isinstance(collection, str):
        namespace = f"{database}.{collection}"
    elif name != "aggregate":
        return None
    return builder(namespace, command)


def limit_and_skip(command: Mapping[str, Any]) -> tuple[int, int]:
    """How many documents a command asks for and skips, its pipeline's $limit and $skip included."""
    limit, skip = _whole(command.get("limit")), _whole(command.get("skip"))
    pipeline = command.get("pipeline")
    if isinstance(pipeline, (list, tuple)):
        for stage in pipeline:
            if isinstance(stage, Mapping):
                if "$group" in stage:
                    break
                limit = _whole(stage.get("$limit")) or limit
                skip = _whole(stage.get("$skip")) or skip
    return limit, skip


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_finite(value):
        return 0
    return min(abs(int(value)), _LARGEST)


def _is_finite(value: int | float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def _options(command: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any] | None:
    found = {name: command[name] for name in names if command.get(name)}
    return found or None


def _find(namespace: str, command: Mapping[str, Any]) -> ReadOp:
    limit = _whole(command.get("limit"))
    one = limit == 1 and bool(command.get("singleBatch"))
    return ReadOp(
        "find_one" if one else "find",
        namespace,
        command.get("filter") or {},
        command.get("projection") or None,
        command.get("sort") or None,
        _whole(command.get("skip")),
        limit,
        _options(command, _FIND_OPTIONS),
    )


def _count(namespace: str, command: Mapping[str, Any]) -> ReadOp:
    return ReadOp(
        "count_documents",
        namespace,
        command.get("query") or {},
        skip=_whole(command.get("skip")),
        limit=_whole(command.get("limit")),
        options=_options(command, ("collation", "hint")),
    )


def _distinct(namespace: str, command: Mapping[str, Any]) -> ReadOp:
    return ReadOp(
        "distinct",
        namespace,
        command.get("query") or {},
        key=str(command.get("key", "")),
        options=_options(command, ("collation", "hint")),
    )


def _aggregate(namespace: str, command: Mapping[str, Any]) -> ReadOp | None:
    pipeline = command.get("pipeline")
    if not isinstance(pipeline, (list, tuple)):
        return None
    return ReadOp(
        "aggregate",
        namespace,
        {},
        options=_options(command, ("collation", "hint")),
        pipeline=pipeline,
    )


def _find_and_modify(namespace: str, command: Mapping[str, Any]) -> WriteOp:
    update = command.get("update")
    options = _options(command, ("collation", "hint", "upsert"))
    filter, sort = command.get("query") or {}, command.get("sort") or None
    if command.get("remove"):
        return WriteOp("find_one_and_delete", namespace, filter, None, sort, options)
    if _is_update(update):
        return WriteOp("find_one_and_update", namespace, filter, update, sort, options)
    return WriteOp("find_one_and_replace", namespace, filter, update, sort, options)


def _insert(namespace: str, command: Mapping[str, Any]) -> WriteOp:
    documents = command.get("documents")
    one = isinstance(documents, (list, tuple)) and len(documents) == 1
    return WriteOp("insert_one" if one else "insert_many", namespace)


def _update(namespace: str, command: Mapping[str, Any]) -> WriteOp | None:
    return _of_statements(namespace, command.get("updates"), False)


def _delete(namespace: str, command: Mapping[str, Any]) -> WriteOp | None:
    return _of_statements(namespace, command.get("deletes"), True)


def _of_statements(namespace: str, statements: Any, removes: bool) -> WriteOp | None:
    if not isinstance(statements, (list, tuple)) or not statements:
        return None
    writes = [_statement(namespace, s, removes) for s in statements if isinstance(s, Mapping)]
    if len(writes) == 1:
        return writes[0]
    return WriteOp("bulk_write", namespace, document=writes) if writes else None


def _statement(namespace: str, statement: Mapping[str, Any], removes: bool) -> WriteOp:
    filter = statement.get("q") or {}
    options = _options(statement, ("collation", "hint", "upsert"))
    if removes:
        one = _whole(statement.get("limit")) == 1
        return WriteOp("delete_one" if one else "delete_many", namespace, filter, options=options)
    update = statement.get("u", statement.get("updateobj"))
    if not _is_update(update):
        return WriteOp("replace_one", namespace, filter, update, options=options)
    many = bool(statement.get("multi"))
    kind: Any = "update_many" if many else "update_one"
    return WriteOp(kind, namespace, filter, update, statement.get("sort") or None, options)


def _is_update(update: Any) -> bool:
    """Whether it is operators or a pipeline, not a whole document."""
    if isinstance(update, (list, tuple)):
        return True
    return isinstance(update, Mapping) and any(str(name)[:1] == "$" for name in update)


_COMMANDS: dict[str, Callable[[str, Mapping[str, Any]], ReadOp | WriteOp | None]] = {
    "find": _find,
    "count": _count,
    "distinct": _distinct,
    "aggregate": _aggregate,
    "findAndModify": _find_and_modify,
    "findandmodify": _find_and_modify,
    "insert": _insert,
    "update": _update,
    "delete": _delete,
}
