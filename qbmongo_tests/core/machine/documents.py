"""Immutable states of a database, what is asked of them and what is written to them.

Two collections: "c", which everybody reads and writes, and "o", which aggregations look into. Few
documents, few values: collisions abound. "c" may also be a view of "o".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import bson

from qbmongo.records import ReadOp

__all__ = ["DATABASE", "IDS", "Changes", "Docs", "Document", "Query", "State", "queries"]

DATABASE = "d"
IDS = range(4)
# How many values the fields g (groups) and n (sorted by) take.
GROUPS = 2
NUMBERS = 3

Document = dict[str, Any]
Docs = dict[int, Document]
# By collection and `_id`: the document afterwards, None where it is gone.
Changes = dict[tuple[str, int], Document | None]


class State:
    """What a primary's database holds at one instant."""

    __slots__ = ("_answers", "docs", "is_view")

    def __init__(self, docs: Mapping[str, Docs], *, is_view: bool = False) -> None:
        self.docs = docs
        self.is_view = is_view
        self._answers: dict[Query, bytes] = {}

    def changed(self, changes: Changes) -> State:
        docs = dict(self.docs)
        for name in {name for name, _ in changes}:
            docs[name] = dict(docs[name])
        for (name, identity), document in changes.items():
            if document is None:
                docs[name].pop(identity, None)
            else:
                docs[name][identity] = document
        return State(docs, is_view=self.is_view)

    def readable(self, name: str) -> list[Document]:
        """A collection's documents, in the order of their `_id`s."""
        docs = self.docs["o" if name == "c" and self.is_view else name]
        return [docs[identity] for identity in sorted(docs)]

    def answer(self, query: Query) -> bytes:
        """The answer to a query, as BSON."""
        answer = self._answers.get(query)
        if answer is None:
            answer = self._answers[query] = query.evaluate(self)
        return answer


class Query:
    """A read: how it is asked, and what its answer is."""

    __slots__ = ("evaluate", "is_point", "make", "name", "namespace")

    def __init__(
        self, name: str, make: Callable[[], ReadOp], evaluate: Callable[[State], bytes]
    ) -> None:
        self.name = name
        self.make = make
        self.evaluate = evaluate
        op = make()
        self.namespace = op.namespace
        self.is_point = op.kind == "find_one" and set(op.filter) == {"_id"}

    def __repr__(self) -> str:
        return self.name


def _encoded(documents: Iterable[Document]) -> bytes:
    return b"".join(map(bson.encode, documents))


def _find(
    collection: str,
    filter: Document,
    matches: Callable[[Document], bool],
    *,
    kind: Any = "find",
    projection: Document | None = None,
    sort: Document | None = None,
    skip: int = 0,
    limit: int = 0,
) -> Query:
    """A find or a find_one; a projection shows the fields it names."""
    namespace = f"{DATABASE}.{collection}"
    most = abs(limit) or None

    def make() -> ReadOp:
        return ReadOp(kind, namespace, filter, projection, sort, skip, limit)

    def evaluate(state: State) -> bytes:
        found = [d for d in state.readable(collection) if matches(d)]
        if sort is not None:
            found.sort(key=lambda d: (d["n"], d["_id"]))
        found = found[skip:][:most]
        if projection is not None:
            shown = {"_id": 1} | projection
            found = [{k: v for k, v in d.items() if shown.get(k)} for d in found]
        return _encoded(found)

    text = f"{kind}({collection}, {filter}"
    for name, value in (("projection", projection), ("sort", sort), ("skip", skip)):
        text += f", {name}={value}" if value else ""
    return Query(text + (f", limit={limit})" if limit else ")"), make, evaluate)


def _count(filter: Document, matches: Callable[[Document], bool]) -> Query:
    def make() -> ReadOp:
        return ReadOp("count_documents", f"{DATABASE}.c", filter)

    def evaluate(state: State) -> bytes:
        return bson.encode({"v": sum(map(matches, state.readable("c")))})

    return Query(f"count({filter})", make, evaluate)


def _distinct(group: int) -> Query:
    def make() -> ReadOp:
        return ReadOp("distinct", f"{DATABASE}.c", {"g": group}, key="n")

    def evaluate(state: State) -> bytes:
        found = {d["n"] for d in state.readable("c") if d["g"] == group}
        return bson.encode({"v": sorted(found)})

    return Query(f"distinct(n, {{'g': {group}}})", make, evaluate)


def _lookup(group: int) -> Query:
    stage = {"from": "o", "localField": "n", "foreignField": "_id", "as": "j"}
    pipeline: list[Document] = [{"$match": {"g": group}}, {"$lookup": stage}]

    def make() -> ReadOp:
        return ReadOp("aggregate", f"{DATABASE}.c", {}, pipeline=pipeline)

    def evaluate(state: State) -> bytes:
        joined = state.docs["o"]
        return _encoded(
            {**d, "j": [joined[d["n"]]] if d["n"] in joined else []}
            for d in state.readable("c")
            if d["g"] == group
        )

    return Query(f"lookup({{'g': {group}}})", make, evaluate)


def _by_id(identity: int) -> Callable[[Document], bool]:
    return lambda document: document["_id"] == identity


def _by_group(group: int) -> Callable[[Document], bool]:
    return lambda document: document["g"] == group


def _every(_document: Document) -> bool:
    return True


def queries() -> tuple[Query, ...]:
    """Everything that readers ask."""
    order = {"n": 1, "_id": 1}
    found = [_find("c", {"_id": i}, _by_id(i), kind="find_one", limit=-1) for i in IDS]
    for g in range(GROUPS):
        found += [
            _find("c", {"g": g}, _by_group(g)),
            _find("c", {"g": g}, _by_group(g), projection={"n": 1}),
            _find("c", {"g": g}, _by_group(g), projection={"_id": 0, "v": 1}),
            _find("c", {"g": g}, _by_group(g), kind="find_one", limit=-1),
            _count({"g": g}, _by_group(g)),
            _distinct(g),
            _lookup(g),
        ]
    found += [
        _find("c", {"_id": {"$in": [0, 1]}}, lambda d: d["_id"] in (0, 1)),
        _find("c", {}, _every, sort=order, limit=2),
        _find("c", {}, _every, sort=order, skip=1, limit=1),
        _count({}, _every),
        _find("o", {"_id": 0}, _by_id(0), kind="find_one", limit=-1),
        _find("o", {}, _every),
    ]
    return tuple(found)
