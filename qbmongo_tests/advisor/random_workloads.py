"""Random collections with random indexes and random queries, from a seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from .workloads import Document, Query

PATHS = ("a", "b", "c", "d", "e.x", "e.y", "t", "u", "l.k", "l.v", "s")
_DISTINCT = {"a": 4, "b": 40, "c": 400, "d": 2, "e.x": 20, "e.y": 300, "u": 10_000, "s": 60}


@dataclass(frozen=True)
class RandomWorkload:
    """Documents, existing indexes as (keys, options), and queries."""

    documents: tuple[Document, ...]
    indexes: tuple[tuple[tuple[tuple[str, int], ...], Mapping[str, Any]], ...]
    queries: tuple[Query, ...]


def random_workload(seed: int, documents: int = 400, queries: int = 6) -> RandomWorkload:
    """The workload of a seed."""
    draw = random.Random(seed)
    return RandomWorkload(
        tuple(_document(draw, i) for i in range(documents)),
        tuple(_index(draw) for _ in range(draw.randrange(4))),
        tuple(
            Query(partial(_command, draw.random()), draw.choice((1, 30, 1_000, 50_000)))
            for _ in range(draw.randrange(1, queries + 1))
        ),
    )


def _document(draw: random.Random, number: int) -> Document:
    """Missing paths, nulls, arrays of scalars and of documents, and values of several types."""
    document: Document = {"_id": number, "e": {}}
    for path in ("a", "b", "c", "d", "u"):
        kind = draw.random()
        if kind < 0.9:
            document[path] = draw.randrange(_DISTINCT[path])
        elif kind < 0.95:
            document[path] = None
    document["e"] = {"x": draw.randrange(20), "y": draw.randrange(300)}
    document["t"] = [draw.randrange(50) for _ in range(draw.randrange(4))]
    document["l"] = [
        {"k": draw.randrange(30), "v": draw.randrange(8)} for _ in range(draw.randrange(3))
    ]
    document["s"] = f"w{draw.randrange(60)}"
    return document


def _index(draw: random.Random) -> tuple[tuple[tuple[str, int], ...], Mapping[str, Any]]:
    while True:
        paths = draw.sample(PATHS, draw.randrange(1, 4))
        if len({path[0] for path in paths if path[0] in "tl"}) <= 1:
            break
    options: dict[str, Any] = {}
    kind = draw.random()
    if kind < 0.15:
        options["sparse"] = True
    elif kind < 0.3:
        options["partialFilterExpression"] = {"a": draw.randrange(4)}
    return tuple((path, draw.choice((1, -1))) for path in paths), options


def _command(seed: float, number: int) -> Mapping[str, Any]:
    """A command whose shape depends on the seed alone and its values on the number as well."""
    draw = random.Random(seed)
    values = random.Random(f"{seed} {number}")
    filter = _filter(draw, values)
    command: dict[str, Any] = {"find": "orders", "filter": filter}
    if draw.random() < 0.5:
        paths = draw.sample(("a", "b", "c", "u", "e.y", "s"), draw.randrange(1, 3))
        command["sort"] = {path: draw.choice((1, -1)) for path in paths}
    if draw.random() < 0.4:
        command["limit"] = draw.choice((1, 5, 20))
    if draw.random() < 0.2:
        command["projection"] = {"_id": 0, **dict.fromkeys(draw.sample(("a", "b", "c"), 2), 1)}
    return command


def _filter(draw: random.Random, values: random.Random) -> dict[str, Any]:
    filter = {}
    for path in draw.sample(PATHS, draw.choice((0, 1, 1, 2, 2, 3))):
        filter[path] = _condition(draw, values, path)
    if draw.random() < 0.15:
        branches = draw.sample(("b", "c", "u", "e.y", "s"), 2)
        filter["$or"] = [{path: _value(values, path)} for path in branches]
    return filter


def _condition(draw: random.Random, values: random.Random, path: str) -> Any:
    kind = draw.random()
    value = _value(values, path)
    if kind < 0.55:
        return value
    if kind < 0.7:
        size = draw.choice((2, 5, 30))
        return {"$in": [_value(values, path) for _ in range(size)]}
    if kind < 0.9:
        if isinstance(value, str) or draw.random() < 0.5:
            return {draw.choice(("$gt", "$lte")): value}
        return {"$gte": value, "$lt": value + draw.choice((2, 30))}
    if kind < 0.95:
        return {"$ne": value}
    return {"$exists": draw.random() < 0.5}


def _value(values: random.Random, path: str) -> Any:
    if path == "s":
        return f"w{values.randrange(60)}"
    return values.randrange({"t": 50, "l.k": 30, "l.v": 8}.get(path) or _DISTINCT[path])
