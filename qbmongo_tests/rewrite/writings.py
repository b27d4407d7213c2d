"""A filter written in another way, by a program that means the same, or nearly."""

from __future__ import annotations

import dataclasses
from typing import Any

from bson import Int64

from qbmongo.records import ReadOp
from qbmongo_tests.rewrite.reads import Case, Reads

__all__ = ["another_writing"]


def another_writing(generate: Reads, case: Case) -> Case:
    """The same read with its filter written otherwise."""
    op = case.op
    changed = ReadOp(
        op.kind,
        op.namespace,
        _rewritten(generate, op.filter, 2),
        op.projection,
        op.sort,
        op.skip,
        op.limit,
        op.options,
        op.pipeline,
        op.key,
    )
    return dataclasses.replace(case, op=changed)


def _rewritten(generate: Reads, filter: Any, depth: int) -> dict[str, Any]:
    changed = {name: _condition(generate, name, value, depth) for name, value in filter.items()}
    draw = generate.random.random()
    if draw < 0.05:
        return {"$and": [changed, {name: _nearly(value) for name, value in changed.items()}]}
    if draw < 0.15:
        return {generate.random.choice(("$or", "$and")): [changed]}
    if draw < 0.3 and len(changed) > 1:
        return {"$and": [{name: value} for name, value in changed.items()]}
    if draw < 0.4 and len(changed) == 1:
        ((name, value),) = changed.items()
        if isinstance(value, dict) and list(value) == ["$in"]:
            return {"$or": [{name: listed} for listed in value["$in"]]}
    if draw < 0.5 and changed:
        name = generate.random.choice(list(changed))
        rest = {other: value for other, value in changed.items() if other != name}
        return {**rest, "$and": [{name: changed[name]}]} if "$and" not in rest else changed
    return changed


def _condition(generate: Reads, name: str, value: Any, depth: int) -> Any:
    draw = generate.random.random()
    if name in ("$or", "$and", "$nor"):
        if depth and isinstance(value, list):
            return [_rewritten(generate, branch, depth - 1) for branch in value]
        return value
    if name[:1] == "$" or draw < 0.2:
        return value
    if isinstance(value, dict) and "$in" in value:
        values = list(value["$in"])
        if draw < 0.5:
            generate.random.shuffle(values)
        elif draw < 0.7 and values:
            values.append(generate.random.choice(values))
        elif draw < 0.8:
            values = [_nearly(listed) for listed in values]
        return {**value, "$in": values}
    if not isinstance(value, dict):
        if draw < 0.4:
            return {"$eq": value}
        if draw < 0.6:
            return {"$in": [value]}
        if draw < 0.7:
            return _nearly(value)
    return value


def _nearly(value: Any) -> Any:
    """A value that Python calls equal and BSON encodes otherwise."""
    if type(value) is int:
        return float(value) if value % 2 else bool(value) if value in (0, 1) else Int64(value)
    if type(value) is bool:
        return int(value)
    return value
