"""Random documents and filters over few names and values of every type: they meet often."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from bson import Int64, ObjectId, Regex, Timestamp
from bson.binary import Binary
from bson.code import Code
from bson.decimal128 import Decimal128
from bson.max_key import MaxKey
from bson.min_key import MinKey

_DAY = datetime(2024, 2, 29, 12, 30, 0, 123000)
OBJECT_IDS = [ObjectId(bytes([n] * 12)) for n in range(3)]
NUMBERS = [
    0, 1, 2, 3, 5, -1, -0.0, 0.0, 1.0, 2.5, 5.0, -3.5, 7, 10, math.nan, math.inf, -math.inf,
    Int64(1), Int64(5), 2**31, 2**53 + 1, float(2**53), -(2**63), 2**63 - 1, 1e300,
    Decimal128("1"), Decimal128("5.0"), Decimal128("2.50"), Decimal128("NaN"), Decimal128("-0"),
    Decimal128("Infinity"), Decimal128("0.1"), 0.1, Decimal128("1E+400"),
]  # fmt: skip
STRINGS = ["", "a", "b", "ab", "abc", "B", "x y", "é", "z\n", "a.b", "10", "𝄞"]
_OTHERS: list[Any] = [
    None, None, True, False, _DAY, _DAY + timedelta(milliseconds=1),
    _DAY.replace(tzinfo=timezone(timedelta(hours=2))), *OBJECT_IDS, b"", b"ab", Binary(b"ab", 0),
    Binary(b"ab", 5), Binary(b"abc", 128), Timestamp(5, 1), Timestamp(5, 2),
]  # fmt: skip
_RARE = [Regex("^a", "i"), Regex("b"), Code("f()"), MinKey(), MaxKey()]
NAMES = ["a", "b", "c", "0", "1"]
PATHS = [
    "a", "a", "b", "c", "a.b", "a.b", "a.c", "b.a", "a.0", "a.1", "a.b.c", "a.0.b", "a.b.0", "b.0",
    "a.0.1", "a.0.0.b", "c.1.b", "0", "a.0.0", "_id", "d", "a.d", "a.b.c.a", "b.1.0.a",
]  # fmt: skip
PATTERNS = [
    "^a", "b$", "a.c", "^$", "[ab]+", r"\d+", "^(?:a|b)", "a?b", "é", ".", r"\.", r"\bx", "A",
    "(a)(b)", "^.{2,3}$", "x*y", "[^a]",
]  # fmt: skip
_TYPES: list[Any] = [
    1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 16, 17, 18, 19, -1, 127, "number", "string", "array", "object",
    "int", "long", "double", "decimal", "null", "date", "objectId", "bool", "binData", "regex",
    ["string", "int"], [4, 10], 2.0,
]  # fmt: skip


_BINARY = re.compile(r"\bb'|\bBinary\(")


class Generator:
    """Random documents and filters over a few names, so that they meet often."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def scalar(self) -> Any:
        draw = self.random.random()
        if draw < 0.5:
            return self.random.choice(NUMBERS)
        if draw < 0.7:
            return self.random.choice(STRINGS)
        return self.random.choice(_OTHERS) if draw < 0.95 else self.random.choice(_RARE)

    def value(self, depth: int) -> Any:
        draw = self.random.random()
        if depth <= 0 or draw < 0.45:
            return self.scalar()
        if draw < 0.7:
            return self.fields(depth - 1, 2)
        return [self.value(depth - 1) for _ in range(self.random.choice((0, 1, 1, 2, 2, 3)))]

    def fields(self, depth: int, most: int) -> dict[str, Any]:
        names = self.random.sample(NAMES, self.random.randint(0, most))
        return {name: self.value(depth) for name in names}

    def document(self, number: int) -> dict[str, Any]:
        return {"_id": number, **self.fields(3, 4)}

    def filter(self, depth: int = 2) -> dict[str, Any]:
        clauses: dict[str, Any] = {}
        for _ in range(self.random.choice((1, 1, 1, 2))):
            draw = self.random.random()
            if depth and draw < 0.2:
                operator = self.random.choice(("$and", "$or", "$nor"))
                clauses[operator] = [self.filter(depth - 1) for _ in range(2)]
            elif draw < 0.5:
                clauses[self.random.choice(PATHS)] = self.value(2)
            else:
                clauses[self.random.choice(PATHS)] = self.operators(depth)
        return clauses

    def operators(self, depth: int) -> dict[str, Any]:
        chosen = self.random.choices(tuple(OPERATORS), k=self.random.choice((1, 1, 2)))
        return {name: OPERATORS[name](self, depth) for name in chosen}

    def listed(self, depth: int) -> list[Any]:
        return [self.value(depth) for _ in range(self.random.randint(0, 3))]

    def pattern(self) -> Any:
        pattern, options = (
            self.random.choice(PATTERNS),
            self.random.choice(("", "", "i", "s", "m")),
        )
        return Regex(pattern, options) if self.random.random() < 0.5 else pattern


def _in_order(generate: Generator, depth: int) -> Any:
    # A fault of the test servers: they order binary values without their subtype. They sort by
    # length, subtype and bytes:
    # https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/#binary-data
    while _BINARY.search(repr(value := generate.value(1))):
        pass
    return value


def _negated(generate: Generator, depth: int) -> Any:
    if depth and generate.random.random() < 0.8:
        return generate.operators(depth - 1)
    return Regex(generate.random.choice(PATTERNS))


def _elem_match(generate: Generator, depth: int) -> Any:
    if not depth:
        return {"$gt": generate.scalar()}
    if generate.random.random() < 0.5:
        # A fault of secantusd-rs: under $elemMatch, $mod looks into an array that is an element.
        # https://www.mongodb.com/docs/manual/reference/operator/query/elemMatch/
        while "$mod" in repr(operators := generate.operators(depth - 1)):
            pass
        return operators
    return generate.filter(depth - 1)


def _listed_or_regex(generate: Generator, depth: int) -> list[Any]:
    listed = generate.listed(1)
    return [*listed, Regex("^a")] if generate.random.random() < 0.15 else listed


OPERATORS: dict[str, Callable[[Generator, int], Any]] = {
    "$eq": lambda generate, depth: generate.value(2),
    "$ne": lambda generate, depth: generate.value(1),
    "$gt": _in_order,
    "$gte": _in_order,
    "$lt": _in_order,
    "$lte": _in_order,
    "$in": _listed_or_regex,
    "$nin": _listed_or_regex,
    "$exists": lambda generate, depth: generate.random.random() < 0.5,
    "$not": _negated,
    "$all": _listed_or_regex,
    "$size": lambda generate, depth: generate.random.randint(0, 3),
    "$elemMatch": _elem_match,
    "$type": lambda generate, depth: generate.random.choice(_TYPES),
    "$mod": lambda generate, depth: [
        generate.random.choice((2, 3, -2, 5)),
        generate.random.choice((0, 1, -1)),
    ],
    "$regex": lambda generate, depth: generate.pattern(),
}
