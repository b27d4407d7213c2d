"""A collection in a few lines of Python, written from the manual and not from qbmongo.

It answers reads and applies write commands of `random_operations`, one document after another, so
that an answer before a write can be compared with the answer after it. A write that the server
would refuse changes nothing.
"""

from __future__ import annotations

import copy
from typing import Any

from qbmongo.records import ReadOp

MISSING = object()
TYPE_ORDER = {type(None): 1, int: 2, float: 2, str: 3, dict: 4, list: 5}


class Refused(Exception):
    """The server would answer with a write error."""


def leaves(value: Any, parts: list[str]) -> list[Any]:
    """Values at the end of a path; arrays on the way stand for their documents and positions."""
    if not parts:
        return [value]
    head, rest = parts[0], parts[1:]
    if isinstance(value, dict):
        return leaves(value[head], rest) if head in value else [MISSING]
    if not isinstance(value, list):
        return [MISSING]
    found: list[Any] = []
    if head.isdigit() and int(head) < len(value):
        found += leaves(value[int(head)], rest)
    for item in value:
        if isinstance(item, dict):
            found += leaves(item, parts)
    return found


def candidates(document: dict[str, Any], path: str) -> list[Any]:
    """The leaves of a path, and the elements of those that are arrays."""
    found = []
    for leaf in leaves(document, path.split(".")):
        found.append(leaf)
        if isinstance(leaf, list):
            found += leaf
    return found


def equal(value: Any, operand: Any) -> bool:
    if operand is None:
        return value is None or value is MISSING
    return value is not MISSING and value == operand


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def meets(document: dict[str, Any], path: str, condition: Any) -> bool:
    found = candidates(document, path)
    if not isinstance(condition, dict):
        return any(equal(value, condition) for value in found)
    (operator, operand), *_ = condition.items()
    if operator == "$gt":
        return any(is_number(value) and value > operand for value in found)
    if operator == "$lte":
        return any(is_number(value) and value <= operand for value in found)
    if operator in ("$in", "$nin"):
        inside = any(equal(value, each) for value in found for each in operand)
        return inside is (operator == "$in")
    if operator == "$ne":
        return not any(equal(value, operand) for value in found)
    ends = leaves(document, path.split("."))
    if operator == "$exists":
        return any(end is not MISSING for end in ends) is operand
    if operator == "$size":
        return any(isinstance(end, list) and len(end) == operand for end in ends)
    assert operator == "$elemMatch"
    return any(
        isinstance(item, dict) and matches(item, operand)
        for end in ends
        if isinstance(end, list)
        for item in end
    )


def matches(document: dict[str, Any], filter: dict[str, Any]) -> bool:
    for name, condition in filter.items():
        if name == "$or":
            if not any(matches(document, branch) for branch in condition):
                return False
        elif name == "$and":
            if not all(matches(document, branch) for branch in condition):
                return False
        elif not meets(document, name, condition):
            return False
    return True


def sort_key(document: dict[str, Any], path: str) -> tuple[int, str]:
    """Some order that depends on nothing but the values at the path."""
    found = candidates(document, path)
    keys = [(0, "") if v is MISSING else (TYPE_ORDER[type(v)], repr(v)) for v in found]
    return min(keys, default=(-1, ""))


def included(value: Any, parts: list[str]) -> Any:
    """What an inclusion of a path keeps of a value; MISSING for nothing."""
    if not parts:
        return value
    if isinstance(value, list):
        kept = [included(item, parts) for item in value if isinstance(item, (dict, list))]
        return [item for item in kept if item is not MISSING]
    if not isinstance(value, dict):
        return MISSING
    if parts[0] not in value:
        return {}
    inner = included(value[parts[0]], parts[1:])
    return {} if inner is MISSING else {parts[0]: inner}


def projected(document: dict[str, Any], projection: dict[str, Any] | None) -> dict[str, Any]:
    if projection is None:
        return document
    (path, keep), *_ = projection.items()
    if not keep:
        return {name: value for name, value in document.items() if name != path}
    return {"_id": document["_id"], **included(document, path.split("."))}


def place(document: dict[str, Any], path: str, *, create: bool) -> tuple[Any, Any] | None:
    """The container and key that a written path names; makes parents where it may."""
    container: Any = document
    parts = path.split(".")
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        if isinstance(container, list):
            if not part.isdigit():
                if create:
                    raise Refused
                return None
            key: Any = int(part)
            if key >= len(container):
                if not create:
                    return None
                container += [None] * (key - len(container)) + [MISSING]
        elif isinstance(container, dict):
            key = part
        elif create:
            raise Refused
        else:
            return None
        if following is None:
            return container, key
        present = container[key] if isinstance(container, list) else container.get(key, MISSING)
        if present is MISSING:
            if not create:
                return None
            container[key] = present = {}
        container = present
    raise AssertionError("a path has a last part")


def at(spot: tuple[Any, Any]) -> Any:
    container, key = spot
    return container[key] if isinstance(container, list) else container.get(key, MISSING)


def apply(document: dict[str, Any], operator: str, path: str, operand: Any) -> None:
    if operator == "$rename":
        if path in document:
            document[operand] = document.pop(path)
        return
    if operator == "$unset":
        spot = place(document, path, create=False)
        if spot is not None and at(spot) is not MISSING:
            if isinstance(spot[0], list):
                spot[0][spot[1]] = None
            else:
                del spot[0][spot[1]]
        return
    spot = place(document, path, create=True)
    assert spot is not None
    now = at(spot)
    if operator == "$set":
        new = operand
    elif operator == "$push":
        new = [*([] if now is MISSING else now), operand] if isinstance(now, list) else None
        new = [operand] if now is MISSING else new
    elif operator == "$inc":
        new = 1 if now is MISSING else now + operand if is_number(now) else None
    else:
        assert operator == "$max"
        new = operand if now is MISSING else max(now, operand) if is_number(now) else None
    if new is None and operator != "$set":
        raise Refused
    spot[0][spot[1]] = copy.deepcopy(new)


def changed(document: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    if not next(iter(change), "").startswith("$"):
        return {"_id": document["_id"], **copy.deepcopy(change)}
    document = copy.deepcopy(document)
    for operator, changes in change.items():
        for path, operand in changes.items():
            apply(document, operator, path, operand)
    return document


class NaiveCollection:
    def __init__(self, documents: list[dict[str, Any]]) -> None:
        self.documents = {document["_id"]: copy.deepcopy(document) for document in documents}

    def answer(self, op: ReadOp) -> Any:
        found = [d for d in self.documents.values() if matches(d, op.filter)]
        if op.kind == "count_documents":
            return len(found)
        if op.kind == "distinct":
            assert op.key is not None
            present = [v for d in found for v in candidates(d, op.key) if v is not MISSING]
            return sorted(set(map(repr, present)))
        for path, way in reversed((op.sort or {}).items()):
            found.sort(key=lambda d, path=path: sort_key(d, path), reverse=way < 0)
        found = found[op.skip :]
        found = found[: abs(op.limit)] if op.limit else found
        return copy.deepcopy([projected(document, op.projection) for document in found])

    def write(self, command: dict[str, Any]) -> None:
        try:
            if "insert" in command:
                self._insert(command["documents"][0])
            elif "delete" in command:
                statement = command["deletes"][0]
                for document in self._found(statement["q"], one=statement["limit"] == 1):
                    del self.documents[document["_id"]]
            else:
                self._update(command["updates"][0])
        except Refused:
            return

    def _found(self, filter: dict[str, Any], *, one: bool) -> list[dict[str, Any]]:
        found = [d for d in self.documents.values() if matches(d, filter)]
        return found[:1] if one else found

    def _insert(self, document: dict[str, Any]) -> None:
        if document["_id"] not in self.documents:
            self.documents[document["_id"]] = copy.deepcopy(document)

    def _update(self, statement: dict[str, Any]) -> None:
        found = self._found(statement["q"], one=not statement["multi"])
        for document in found:
            self.documents[document["_id"]] = changed(document, statement["u"])
        if statement["upsert"] and not found:
            base = {n: c for n, c in statement["q"].items() if n in ("_id", "a", "b", "n")}
            base = {n: c for n, c in base.items() if not isinstance(c, dict)}
            self._insert(changed({"_id": 100, **base}, statement["u"]))
