"""Random documents and reads that the rules of rewriting fire on often, and just do not fire on.

Every condition of a rule is met and missed: values of each type where one type is asked for, paths
with dots and numbers, stages that may fail, fields that are written and sorted by.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from bson import Binary, Int64, MaxKey, MinKey, ObjectId, Regex
from bson.decimal128 import Decimal128
from bson.raw_bson import RawBSONDocument

from qbmongo.records import ReadKind, ReadOp
from qbmongo_tests.random_filters import NAMES, OPERATORS, PATHS, Generator

__all__ = ["OTHER", "Case", "Reads"]

#: The collection that is joined.
OTHER = "other"

_PLAIN_PATHS = ("a", "b", "c", "a.b", "b.a", "a.0", "0", "1", "_id", "d", "j", "a.b.c")
_TOP_PATHS = ("a", "b", "c", "0", "_id", "d", "j")
_MADE = ("j", "k", "a", "d", "b", "a.b", "j.x", "_id", "c")
_JOINED = ("j", "j", "j", "j", "k", "a", "b.j", "_id")
_ONE_TYPE = (
    ("a", "b", "ab", "", "é", "B"),
    (0, 1, 2, 3, 5, -1),
    (ObjectId(bytes(12)), ObjectId(bytes([1] * 12)), ObjectId(bytes([2] * 12))),
    tuple(Binary(uuid.UUID(int=number).bytes, 4) for number in range(3)),
)
_ALIKE = (1, 1.0, True, 0, False, 0.0, -0.0)
_MIXED: tuple[Any, ...] = (
    1, 1.0, True, Int64(1), Decimal128("1"), Decimal128("1.0"), 0, False, -0.0, 0.0, None, "a", [],
    [1], {}, {"a": 1}, Regex("^a"), float("nan"), Decimal128("NaN"), MinKey(), MaxKey(), [None],
)  # fmt: skip
_EXISTENCE: tuple[Any, ...] = (True, True, True, True, True, False, 1, 0, 1.0, None, "")
_ORDERS = ("$gt", "$gte", "$lt", "$lte", "$ne")
# Only what is valid: the test servers read an operand only when a document comes to it.
_OF_PRESENT: tuple[tuple[str, Any], ...] = (
    ("$elemMatch", {}), ("$elemMatch", {"$gt": 1}), ("$elemMatch", {"b": None}), ("$mod", [2, 0]),
    ("$regex", ""), ("$regex", "^a"), ("$size", 0), ("$size", 1), ("$all", []), ("$all", [None]),
    ("$all", [1]), ("$all", [[]]), ("$all", ["a", "a"]),
)  # fmt: skip
_ANCHORED = (
    "^a",
    "^ab",
    "^abc$",
    "^a$",
    "^$",
    "^a.*",
    "^a.*$",
    "^b",
    "^z$",
    "a",
    r"^a\.b$",
    "^ab?",
)


@dataclass(frozen=True, slots=True)
class Case:
    """One read, and which answers to it are right.

    order: "total": there is one right answer; "ids": documents of one `_id` come in any order;
        "free": in any order.
    whole: the read without $skip and $limit where it has them and leaves ties; any part of that
        answer is right.
    open_ended: a page of ties stands in front of stages that look at what was taken: two right
        answers may have nothing in common.
    """

    op: ReadOp
    order: str
    whole: ReadOp | None = None
    open_ended: bool = False


def undefined(number: int, name: str, kind: bytes, value: bytes = b"") -> RawBSONDocument:
    """A document with a field of a type that Python has no value for."""
    body = b"\x10_id\x00" + number.to_bytes(4, "little") + kind + name.encode() + b"\x00" + value
    return RawBSONDocument((len(body) + 5).to_bytes(4, "little") + body + b"\x00")


class Reads(Generator):
    """Random documents and reads of one namespace."""

    def __init__(self, seed: int, namespace: str) -> None:
        super().__init__(seed)
        self.namespace = namespace
        self.database, _, self.collection = namespace.partition(".")

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    # Documents

    def documents(self, count: int) -> list[Any]:
        """At most so many documents, their `_id`s counted from 0."""
        made: list[Any] = [self.document(number) for number in range(count - 3)]
        made.append(undefined(count - 3, "a", b"\x06"))
        made.append(undefined(count - 2, "b", b"\x06"))
        # Seldom: secantusd-rs cannot answer many a pipeline over symbols.
        if self.chance(0.1):
            made.append(undefined(count - 1, "a", b"\x0e", b"\x03\x00\x00\x00ab\x00"))
        return made

    def document(self, number: int) -> dict[str, Any]:
        made = super().document(number)
        draw = self.random.random()
        if draw < 0.25:
            made[self.random.choice(NAMES)] = self.random.choice(self.random.choice(_ONE_TYPE))
        elif draw < 0.32:
            made["a"] = self.random.choice(
                (
                    None,
                    [],
                    [[]],
                    [None],
                    Regex("^a"),
                    Regex("^a$"),
                    Regex("^abc$"),
                    {"b": []},
                    "a\n",
                )
            )
        elif draw < 0.36:
            made[self.random.choice(NAMES)] = self.random.choice(_ALIKE)
        elif draw < 0.42:
            made["a"] = [{"0": self.scalar()}, self.scalar()]
        elif draw < 0.46:
            made["a"] = self.listed(1)
            made["b"] = self.listed(1)
        return made

    # Filters

    def condition(self) -> dict[str, Any]:
        """A filter of one field, made for the rules on filters."""
        draw = self.random.random()
        path = self.random.choice(PATHS)
        if draw < 0.35:
            return {path: self.listing()}
        if draw < 0.85:
            return {path: self.existing()}
        if draw < 0.9:
            options = self.random.choice(("", "", "", "i", "m"))
            return {path: Regex(self.random.choice(_ANCHORED), options)}
        if draw < 0.93:
            return {"$or": [{path: self.scalar()} for _ in range(self.random.randint(1, 3))]}
        return self.filter(1)

    def listing(self) -> dict[str, Any]:
        """$in or $nin, with values that are there twice."""
        draw = self.random.random()
        if draw < 0.6:
            pool: tuple[Any, ...] = self.random.choice(_ONE_TYPE)
        elif draw < 0.7:
            pool = _ALIKE
        else:
            pool = (*self.random.choice(_ONE_TYPE)[:2], *self.random.choices(_MIXED, k=2))
        values = self.random.choices(pool, k=self.random.choice((0, 1, 2, 3, 3, 4, 6)))
        made: dict[str, Any] = {self.random.choice(("$in", "$in", "$nin")): values}
        if self.chance(0.15):
            made.update(self.operators(1))
        return made

    def existing(self) -> dict[str, Any]:
        """$exists beside other conditions."""
        made: dict[str, Any] = {"$exists": self.random.choice(_EXISTENCE)}
        for _ in range(self.random.choice((1, 1, 1, 2))):
            draw = self.random.random()
            if draw < 0.5:
                name = self.random.choice(("$eq", "$gt", "$gte", "$lt", "$lte", "$ne"))
                value = self.random.choice(_MIXED) if self.chance(0.3) else self.scalar()
                made[name] = value
            elif draw < 0.65:
                made.update(self.listing())
            elif draw < 0.7:
                name, value = self.random.choice(_OF_PRESENT)
                made[name] = value
            else:
                name = self.random.choice(tuple(OPERATORS))
                made[name] = OPERATORS[name](self, 1)
        made = _of_values(made)
        if self.chance(0.3):
            made = dict(self.random.sample(list(made.items()), len(made)))
        return made

    def operators(self, depth: int) -> dict[str, Any]:
        return _of_values(super().operators(depth))

    def rewritable(self, depth: int = 2) -> dict[str, Any]:
        """A filter with such conditions, alone or among others."""
        draw = self.random.random()
        if draw < 0.5 or not depth:
            return self.condition()
        if draw < 0.65:
            return {**self.condition(), **self.condition()}
        if draw < 0.85:
            branches = [self.rewritable(depth - 1) for _ in range(self.random.randint(1, 2))]
            if self.chance(0.3):
                branches.append(self.filter(1))
            return {self.random.choice(("$and", "$or", "$nor")): branches}
        if draw < 0.9:
            return {**self.filter(0), **self.condition()}
        inner = next(iter(self.condition().values()))
        if not isinstance(inner, dict) or next(iter(inner), "")[:1] != "$":
            inner = {"$eq": inner}
        name = "$elemMatch" if self.chance(0.5) else "$not"
        return {self.random.choice(PATHS): {name: inner}}

    # Reads by filter

    def filtered(self) -> Case:
        """find, find_one, count_documents, distinct or a pipeline that begins with a filter."""
        filter = self.rewritable()
        draw = self.random.random()
        options = None
        if self.chance(0.05):
            options = {"collation": {"locale": "en", "strength": 2}}
        if draw < 0.25:
            return Case(self._op("count_documents", filter, options=options), "total")
        if draw < 0.35:
            key = self.random.choice(_PLAIN_PATHS)
            return Case(self._op("distinct", filter, key=key, options=options), "free")
        if draw < 0.5:
            pipeline: list[Any] = [{"$match": filter}]
            if self.chance(0.5):
                pipeline += [{"$sort": {"_id": -1}}, {"$limit": 5}]
            order = "free" if len(pipeline) == 1 else "total"
            return Case(self._op("aggregate", {}, pipeline=pipeline, options=options), order)
        projection = {self.random.choice(_PLAIN_PATHS): 1} if self.chance(0.3) else None
        if draw < 0.75:
            sort = {"_id": self.random.choice((1, -1))}
            if self.chance(0.5):
                sort = {self.random.choice(_PLAIN_PATHS): self.random.choice((1, -1)), **sort}
            kind: ReadKind = "find_one" if self.chance(0.2) else "find"
            limit = -1 if kind == "find_one" else self.random.choice((0, 3))
            skip = self.random.choice((0, 0, 2))
            op = self._op(kind, filter, projection, sort, skip, limit, options)
            return Case(op, "total")
        return Case(self._op("find", filter, projection, options=options), "free")

    def keyed(self) -> Case:
        """A read whose filter may be written in several ways that have one key."""
        path = self.random.choice(("a", "a", "b", "a.b", "_id"))
        pool = (*self.random.choice(_ONE_TYPE)[:3], *_MIXED[:3], None, [1])
        if self.chance(0.6):
            pool = self.random.choice(_ONE_TYPE)[:3]
        draw = self.random.random()
        values = self.random.choices(pool, k=self.random.choice((0, 1, 1, 2, 3)))
        filter: dict[str, Any] = {path: {"$in": values}}
        if draw < 0.3:
            filter = {path: self.random.choice(pool)}
        elif draw < 0.45:
            filter = {"$or": [{path: value} for value in values] or [{path: 1}]}
        elif draw < 0.55:
            filter = {"$or": [filter, {self.random.choice(PATHS): self.random.choice(pool)}]}
        elif draw < 0.6:
            filter = {path: {self.random.choice(("$nin", "$all", "$not")): values}}
            if "$not" in filter[path]:
                filter = {path: {"$not": {"$in": values}}}
        elif draw < 0.65:
            filter = {"$nor": [filter]}
        if self.chance(0.35):
            filter = {**filter, self.random.choice(("b", "c", "a.0")): self.random.choice(pool)}
        if self.chance(0.1):
            filter = {**self.condition(), **filter}
        if self.chance(0.2):
            return Case(self._op("count_documents", filter), "total")
        sort = {"_id": 1} if self.chance(0.3) else None
        limit = self.random.choice((0, 2)) if sort else 0
        return Case(self._op("find", filter, None, sort, 0, limit), "total" if sort else "free")

    def _op(
        self,
        kind: ReadKind,
        filter: Any,
        projection: Any = None,
        sort: Any = None,
        skip: int = 0,
        limit: int = 0,
        options: Any = None,
        pipeline: Any = None,
        key: str | None = None,
    ) -> ReadOp:
        return ReadOp(
            kind, self.namespace, filter, projection, sort, skip, limit, options, pipeline, key
        )


def _of_values(condition: dict[str, Any]) -> dict[str, Any]:
    """The condition without a regex where only a value may stand."""
    return {
        name: "a" if name in _ORDERS and type(value) is Regex else value
        for name, value in condition.items()
    }
