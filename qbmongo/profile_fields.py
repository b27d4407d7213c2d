"""Checked reading of a profile file: each wrong field is named with its file and its path."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .errors import ProfileFileError

__all__ = ["Fields", "check_shape"]

_MAX_BIN = 4_000  # bins of 1 % reach from 1e-34 s to 1e34 s
_MAX_DEPTH = 40


class Fields:
    """One JSON object of a file, at a path from the file's root."""

    __slots__ = ("_content", "_file", "_path")

    def __init__(self, file: str, path: str, content: Any) -> None:
        self._file = file
        self._path = path
        if not isinstance(content, dict):
            raise self.error("", f"is {_shown(content)}; allowed is an object")
        self._content: dict[str, Any] = content

    def error(self, name: str, problem: str) -> ProfileFileError:
        """The error for a field; for the object itself with an empty name."""
        path = ".".join(part for part in (self._path, name) if part) or "the file's content"
        return ProfileFileError(f"{self._file}: {path} {problem}")

    def __contains__(self, name: str) -> bool:
        return name in self._content

    @property
    def names(self) -> list[str]:
        return list(self._content)

    def get(self, name: str) -> Any:
        if name not in self._content:
            raise self.error(name, "is missing")
        return self._content[name]

    def integer(self, name: str) -> int:
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
            raise self.error(name, f"is {_shown(value)}; allowed is a whole number from 0 up")
        return value

    def number(self, name: str, low: float = -math.inf) -> float:
        value = self.get(name)
        try:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError
            number = float(value)
        except (TypeError, OverflowError):
            number = math.nan
        if not low <= number < math.inf:
            from_low = "" if low == -math.inf else f" from {low:g} up"
            raise self.error(name, f"is {_shown(value)}; allowed is a number{from_low}")
        return number

    def text(self, name: str) -> str:
        value = self.get(name)
        if not isinstance(value, str):
            raise self.error(name, f"is {_shown(value)}; allowed is a string")
        return value

    def text_or_none(self, name: str) -> str | None:
        return None if self.get(name) is None else self.text(name)

    def flag(self, name: str) -> bool:
        value = self.get(name)
        if not isinstance(value, bool):
            raise self.error(name, f"is {_shown(value)}; allowed is true or false")
        return value

    def items(self, name: str) -> list[Any]:
        value = self.get(name)
        if not isinstance(value, list):
            raise self.error(name, f"is {_shown(value)}; allowed is a list")
        return value

    def object(self, name: str) -> Fields:
        return Fields(self._file, f"{self._path}.{name}" if self._path else name, self.get(name))

    def objects(self, name: str) -> list[Fields]:
        return [self.item(name, i, value) for i, value in enumerate(self.items(name))]

    def item(self, name: str, index: int, value: Any) -> Fields:
        path = f"{self._path}.{name}" if self._path else name
        return Fields(self._file, f"{path}[{index}]", value)

    def texts(self, name: str) -> list[str]:
        values = self.items(name)
        for i, value in enumerate(values):
            if not isinstance(value, str):
                raise self.error(f"{name}[{i}]", f"is {_shown(value)}; allowed is a string")
        return values

    def pairs(self, name: str) -> list[list[Any]]:
        """A list of [path, direction]."""
        values = self.items(name)
        for i, pair in enumerate(values):
            if (
                not isinstance(pair, list)
                or len(pair) != 2
                or not isinstance(pair[0], str)
                or isinstance(pair[1], bool)
                or not isinstance(pair[1], (int, str))
            ):
                raise self.error(f"{name}[{i}]", f"is {_shown(pair)}; allowed is [path, direction]")
        return values

    def bins(self, name: str) -> tuple[tuple[int, int], ...]:
        """A list of [bin, count], by bin, each bin once."""
        bins: list[tuple[int, int]] = []
        for i, pair in enumerate(self.items(name)):
            if (
                not isinstance(pair, list)
                or len(pair) != 2
                or any(isinstance(part, bool) or not isinstance(part, int) for part in pair)
                or abs(pair[0]) > _MAX_BIN
                or pair[1] < 1
                or (bins and pair[0] <= bins[-1][0])
            ):
                problem = f"is {_shown(pair)}; allowed is [bin, count], bins ascending"
                raise self.error(f"{name}[{i}]", problem)
            bins.append((pair[0], pair[1]))
        return tuple(bins)


def check_shape(fields: Fields) -> dict[str, Any]:
    """A shape's JSON form, checked so far that it can be read and computed with."""
    fields.text("namespace")
    fields.text("operation")
    _check_filter(fields, "filter", 0)
    for name in fields.names:
        check = _PARTS.get(name)
        if check is not None:
            check(fields, name)
    return fields._content


def _check_filter(fields: Fields, name: str, depth: int) -> None:
    if fields.get(name) is not None:
        for node in fields.objects(name):
            _check_node(node, depth + 1)


def _check_node(node: Fields, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise node.error("", "is nested too deeply")
    node.text("op")
    if "path" in node:
        node.text("path")
    if "types" in node:
        node.texts("types")
        node.text("size")
    elif "filter" in node:
        _check_filter(node, "filter", depth)
    elif "operators" in node:
        for inner in node.objects("operators"):
            _check_node(inner, depth + 1)
    elif "branches" in node:
        for i, branch in enumerate(node.items("branches")):
            _check_filter(node.item("branches", i, {"filter": branch}), "filter", depth)
    elif "uses" in node:
        node.texts("uses")
    else:
        node.text("type")


def _check_pipeline(fields: Fields, name: str, depth: int) -> None:
    pipeline = fields.object(name)
    if depth > _MAX_DEPTH:
        raise pipeline.error("", "is nested too deeply")
    pipeline.integer("head")
    for stage in pipeline.objects("stages"):
        stage.text("stage")
        for part in stage.names:
            if part == "filter":
                _check_filter(stage, part, depth)
            elif part == "pipeline":
                _check_pipeline(stage, part, depth + 1)
            elif part == "pipelines":
                for i, branch in enumerate(stage.items(part)):
                    _check_pipeline(stage.item(part, i, {"branch": branch}), "branch", depth + 1)
            else:
                _STAGE_PARTS.get(part, _ignore)(stage, part)


def _check_collation(fields: Fields, name: str) -> None:
    collation = fields.object(name)
    for field in collation.names:
        value = collation.get(field)
        if not isinstance(value, (str, int)):
            raise collation.error(field, f"is {_shown(value)}; allowed is a string or a number")


def _check_hint(fields: Fields, name: str) -> None:
    if not isinstance(fields.get(name), str):
        fields.pairs(name)


def _check_update(fields: Fields, name: str) -> None:
    update = fields.object(name)
    for operator in update.names:
        update.texts(operator)


def _check_requests(fields: Fields, name: str) -> None:
    for request in fields.objects(name):
        request.text("kind")
        _check_filter(request, "filter", 0)


def _ignore(fields: Fields, name: str) -> None:
    """An unknown part: of a later minor version, kept as it is."""


_PARTS: dict[str, Callable[[Fields, str], Any]] = {
    "sort": Fields.pairs,
    "projection": Fields.pairs,
    "skip": Fields.flag,
    "limit": Fields.flag,
    "upsert": Fields.flag,
    "key": Fields.text,
    "collation": _check_collation,
    "hint": _check_hint,
    "min": Fields.texts,
    "max": Fields.texts,
    "update": _check_update,
    "requests": _check_requests,
    "pipeline": lambda fields, name: _check_pipeline(fields, name, 0),
}

_STAGE_PARTS: dict[str, Callable[[Fields, str], Any]] = {
    "sort": Fields.pairs,
    "projection": Fields.pairs,
    "fields": Fields.texts,
    "by": Fields.texts,
    "path": Fields.text,
    "key": Fields.text,
    "from": Fields.text,
    "into": Fields.text,
    "local_field": Fields.text,
    "foreign_field": Fields.text,
    "type": Fields.text,
}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
