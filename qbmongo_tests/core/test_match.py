"""The matcher after the manual, in Kleene's logic, and what it must leave open."""

from __future__ import annotations

import itertools
import math
import re
import uuid
from datetime import datetime, timezone
from typing import Any

import bson
import pytest
from bson import SON, Int64, ObjectId, Regex, Timestamp
from bson.binary import Binary
from bson.code import Code
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.raw_bson import RawBSONDocument
from hypothesis import given, settings
from hypothesis import strategies as st

from qbmongo.core.match import Matcher, matches
from qbmongo.core.truth import all_of, any_of, negate

YES, NO, OPEN = True, False, None
NOON = datetime(2024, 2, 29, 12)
OWNER = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")


class Custom:
    """A type that only the program's own codec knows."""

    def __repr__(self) -> str:
        return "Custom()"


def _truth(filter: Any, document: Any, *, simple: bool = True) -> bool | None:
    return matches(filter, {"_id": 1, **document}, simple=simple)


# Equality: https://www.mongodb.com/docs/manual/tutorial/query-documents/ and the pages on
# embedded documents, arrays, arrays of documents and null fields next to it.
EQUALITY = [
    ({}, {}, YES),
    ({"a": 5}, {"a": 5.0}, YES),
    ({"a": Decimal128("5.0")}, {"a": Int64(5)}, YES),
    ({"a": 1}, {"a": True}, NO),
    ({"a": "1"}, {"a": 1}, NO),
    ({"a": 0}, {"a": -0.0}, YES),
    ({"a": math.nan}, {"a": Decimal128("NaN")}, YES),
    ({"a": NOON}, {"a": NOON.replace(tzinfo=timezone.utc)}, YES),
    ({"a": b"x"}, {"a": Binary(b"x", 0)}, YES),
    ({"a": b"x"}, {"a": Binary(b"x", 5)}, NO),
    ({"a": MinKey()}, {}, NO),
    ({"a": Regex("x")}, {"a": Regex("x")}, OPEN),
    ({"a": {"$eq": Regex("x")}}, {"a": Regex("x")}, YES),
    ({"a": {"$eq": Regex("x")}}, {"a": "x"}, NO),
    ({"a": 5, "b": 6}, {"a": 5}, NO),
    ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 2}}, YES),
    ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}, NO),
    ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, NO),
    ({"a": {}}, {"a": {}}, YES),
    ({"a": {}}, {}, NO),
    ({"a.b": 1}, {"a": {"b": 1}}, YES),
    ({"a.b": 1}, {"a.b": 1}, NO),
    ({"a": 5}, {"a": [1, 5]}, YES),
    ({"a": [1, 5]}, {"a": [1, 5]}, YES),
    ({"a": [1, 5]}, {"a": [5, 1]}, NO),
    ({"a": [1, 5]}, {"a": [[1, 5], 2]}, YES),
    ({"a": 5}, {"a": [[5]]}, NO),
    ({"a": []}, {"a": []}, YES),
    ({"a": []}, {"a": [[]]}, YES),
    ({"a": []}, {"a": [1]}, NO),
    ({"a.b": 1}, {"a": [{"b": 2}, {"b": 1}]}, YES),
    ({"a.b": 1}, {"a": [{"b": [1, 2]}]}, YES),
    ({"a.b": 1}, {"a": [[{"b": 1}]]}, NO),
    ({"a.b.c": 1}, {"a": [{"b": [{"c": 1}]}]}, YES),
    ({"a.0": 5}, {"a": [5, 6]}, YES),
    ({"a.1": 5}, {"a": [5, 6]}, NO),
    ({"a.0": 5}, {"a": {"0": 5}}, YES),
    ({"a.0": 5}, {"a": [{"0": 5}]}, YES),
    ({"a.00": 5}, {"a": [5]}, NO),
    ({"a.0.b": 5}, {"a": [{"b": 5}]}, YES),
    ({"a.1.b": 5}, {"a": [{"b": 5}]}, NO),
    ({"a.0.b": 5}, {"a": [{"0": {"b": 5}}]}, YES),
    ({"a.0.1": 6}, {"a": [[5, 6]]}, YES),
    ({"a.0.b": 6}, {"a": [[{"b": 6}]]}, YES),
    ({"a.0": [5, 6]}, {"a": [[5, 6]]}, YES),
    ({"a": DBRef("c", 1)}, {"a": DBRef("c", 1)}, YES),
    ({"a": {"$ref": "c", "$id": 1}}, {"a": DBRef("c", 1)}, YES),
    ({"a.$id": 1}, {"a": DBRef("c", 1)}, YES),
    ({"a.$id": 1}, {"a": [DBRef("c", 2), DBRef("c", 1)]}, YES),
    ({"a": OWNER}, {"a": uuid.UUID(int=7)}, NO),
    ({"a": OWNER}, {"a": 5}, NO),
    ({"a": 5}, {"a": OWNER}, NO),
    ({"a": SON([("b", 1)])}, {"a": RawBSONDocument(bson.encode({"b": 1}))}, YES),
    ({"a.b": 1}, {"a": RawBSONDocument(bson.encode({"b": [1]}))}, YES),
    ({"_id": 1.0}, {}, YES),
    ({"_id": 2}, {}, NO),
]
# https://www.mongodb.com/docs/manual/tutorial/query-for-null-fields/
NULLS = [
    ({"a": None}, {}, YES),
    ({"a": None}, {"a": None}, YES),
    ({"a": None}, {"a": 0}, NO),
    ({"a": None}, {"a": [1, None]}, YES),
    ({"a": None}, {"a": []}, NO),
    ({"a": [None]}, {}, NO),
    ({"a.b": None}, {"a": 5}, YES),
    ({"a.b": None}, {"a": {}}, YES),
    ({"a.b": None}, {"a": {"b": 1}}, NO),
    ({"a.b": None}, {"a": [{"b": 1}, {}]}, YES),
    ({"a.b": None}, {"a": [{"b": 1}]}, NO),
    ({"a.b": None}, {"a": []}, OPEN),
    ({"a.b": None}, {"a": [1, 2]}, OPEN),
    ({"a.b": {"$ne": None}}, {"a": [1, {"b": 2}]}, OPEN),
    ({"a.1": None}, {"a": [{"1": 5}]}, OPEN),
    ({"a.0": None}, {"a": [{"0": 5}]}, OPEN),
    ({"a.0": None}, {"a": {"0": 5}}, NO),
    ({"a": {"$ne": None}}, {}, NO),
    ({"a": {"$in": [None, 3]}}, {}, YES),
    ({"a": {"$nin": [None, 3]}}, {}, NO),
    ({"a": {"$gte": None}}, {}, YES),
    ({"a": {"$gt": None}}, {"a": None}, NO),
    ({"a": {"$lte": None}}, {"a": 1}, NO),
    ({"a": {"$exists": True}}, {"a": None}, YES),
    ({"a": {"$exists": False}}, {"a": None}, NO),
    ({"a": {"$exists": False}}, {}, YES),
    ({"a": {"$exists": 1}}, {}, NO),
    ({"a.b": {"$exists": True}}, {"a": [{}, {"b": 1}]}, YES),
    ({"a.b": {"$exists": False}}, {"a": [1]}, YES),
    ({"a.1": {"$exists": True}}, {"a": [1]}, NO),
    ({"a.0": {"$exists": True}}, {"a": [1]}, YES),
]
# https://www.mongodb.com/docs/manual/reference/method/db.collection.find/#type-bracketing
ORDER = [
    ({"a": {"$gt": 5}}, {"a": 6}, YES),
    ({"a": {"$gt": 5}}, {"a": 5.0}, NO),
    ({"a": {"$gte": Decimal128("5")}}, {"a": 5}, YES),
    ({"a": {"$gt": 5}}, {"a": "6"}, NO),
    ({"a": {"$lt": 5}}, {}, NO),
    ({"a": {"$lt": 5}}, {"a": None}, NO),
    ({"a": {"$lt": 5}}, {"a": math.nan}, NO),
    ({"a": {"$gt": math.nan}}, {"a": 5}, NO),
    ({"a": {"$gte": math.nan}}, {"a": Decimal128("NaN")}, YES),
    ({"a": {"$lte": math.nan}}, {"a": 5}, NO),
    ({"a": {"$lt": 2**53 + 1}}, {"a": float(2**53)}, YES),
    ({"a": {"$gt": 5, "$lt": 3}}, {"a": [1, 9]}, YES),
    ({"a": {"$gt": "a"}}, {"a": "é"}, YES),
    ({"a": {"$lt": True}}, {"a": False}, YES),
    ({"a": {"$lt": 1}}, {"a": False}, NO),
    ({"a": {"$gt": NOON}}, {"a": NOON.replace(hour=13)}, YES),
    ({"a": {"$gt": ObjectId(b"0" * 12)}}, {"a": ObjectId(b"1" * 12)}, YES),
    ({"a": {"$gt": [1, 2]}}, {"a": [1, 3]}, YES),
    ({"a": {"$gt": [1, 2]}}, {"a": 9}, NO),
    ({"a": {"$lt": [5]}}, {"a": [[4], 9]}, YES),
    ({"a": {"$gt": {"b": 1}}}, {"a": {"b": 2}}, YES),
    ({"a": {"$gt": {"b": 1}}}, {"a": {"b": "x"}}, YES),
    ({"a": {"$gt": {"b": 1}}}, {"a": {"c": 0}}, YES),
    ({"a": {"$lt": {"b": "x"}}}, {"a": {"c": 0}}, YES),
    ({"a": {"$lt": MaxKey()}}, {"a": 5}, OPEN),
    ({"a": {"$gte": MinKey()}}, {}, OPEN),
    ({"a": {"$lt": Binary(b"abc")}}, {"a": b"zz"}, YES),
    ({"a": {"$lt": b"z"}}, {"a": OWNER}, OPEN),
    ({"a": {"$lt": "z"}}, {"a": Custom()}, OPEN),
]
# https://www.mongodb.com/docs/manual/reference/operator/query/
OPERATORS = [
    ({"a": {"$ne": 5}}, {"a": [1, 5]}, NO),
    ({"a": {"$ne": 5}}, {}, YES),
    ({"a": {"$in": [1, 5]}}, {"a": [5.0]}, YES),
    ({"a": {"$in": [[5]]}}, {"a": [5]}, YES),
    ({"a": {"$in": []}}, {"a": 1}, NO),
    ({"a": {"$nin": []}}, {"a": 1}, YES),
    ({"a": {"$in": [3, re.compile("^x")]}}, {"a": "xy"}, YES),
    ({"a": {"$nin": [Regex("^x")]}}, {"a": ["y", "xy"]}, NO),
    ({"a": {"$not": {"$gt": 5}}}, {}, YES),
    ({"a": {"$not": {"$gt": 5, "$lt": 9}}}, {"a": [3, 10]}, NO),
    ({"a": {"$not": re.compile("^x")}}, {"a": "y"}, YES),
    ({"a": {"$not": {"$not": {"$eq": 5}}}}, {"a": 5}, YES),
    ({"$and": [{"a": 1}, {"b": 2}]}, {"a": 1, "b": 2}, YES),
    ({"$or": [{"a": 1}, {"b": 2}]}, {"b": 2}, YES),
    ({"$nor": [{"a": 1}, {"b": 2}]}, {"a": 1}, NO),
    ({"$nor": [{"a": 1}, {"b": 2}]}, {}, YES),
    ({"a": {"$all": [1, 5]}}, {"a": [5, 1, 2]}, YES),
    ({"a": {"$all": [1, 5]}}, {"a": [1]}, NO),
    ({"a": {"$all": [5]}}, {"a": 5}, YES),
    ({"a": {"$all": [[1, 5]]}}, {"a": [1, 5]}, YES),
    ({"a": {"$all": []}}, {"a": []}, NO),
    ({"a": {"$all": [re.compile("^x"), 1]}}, {"a": [1, "xy"]}, YES),
    ({"a": {"$all": [{"$elemMatch": {"b": 1}}]}}, {"a": [{"b": 1}]}, YES),
    ({"a": {"$all": [{"$elemMatch": {"$gt": 1, "$lt": 3}}]}}, {"a": [1, 3]}, NO),
    ({"a": {"$size": 2}}, {"a": [1, 2]}, YES),
    ({"a": {"$size": 2}}, {"a": [[1, 2]]}, NO),
    ({"a": {"$size": 2.0}}, {"a": "ab"}, NO),
    ({"a.b": {"$size": 1}}, {"a": [{"b": []}, {"b": [1]}]}, YES),
    ({"a": {"$elemMatch": {"$gt": 5, "$lt": 9}}}, {"a": [3, 10]}, NO),
    ({"a": {"$elemMatch": {"$gt": 5, "$lt": 9}}}, {"a": [3, 7]}, YES),
    ({"a": {"$elemMatch": {"$gt": 5}}}, {"a": 7}, NO),
    ({"a": {"$elemMatch": {"$gt": 5}}}, {"a": [[7]]}, NO),
    ({"a": {"$elemMatch": {"$elemMatch": {"$gt": 5}}}}, {"a": [[7]]}, YES),
    ({"a": {"$elemMatch": {"$ne": 1}}}, {"a": [1, 2]}, YES),
    ({"a": {"$elemMatch": {"$exists": True}}}, {"a": []}, NO),
    ({"a": {"$elemMatch": {"b": 1, "c": 2}}}, {"a": [{"b": 1}, {"c": 2}]}, NO),
    ({"a": {"$elemMatch": {"b": 1, "c": 2}}}, {"a": [{"b": 1, "c": [2]}]}, YES),
    ({"a": {"$elemMatch": {"$or": [{"b": 1}, {"b": 2}]}}}, {"a": [{"b": 2}]}, YES),
    ({"a": {"$elemMatch": {"b": 1}}}, {"a": [[{"b": 1}]]}, NO),
    ({"a": {"$elemMatch": {"b": None}}}, {"a": [{}]}, YES),
    ({"a": {"$elemMatch": {"b": None}}}, {"a": [1]}, NO),
    ({"a": {"$elemMatch": {}}}, {"a": [1]}, NO),
    ({"a": {"$elemMatch": {"0": 7}}}, {"a": [[7]]}, OPEN),
    ({"a": {"$elemMatch": {"0": 7}}}, {"a": [[8]]}, NO),
    ({"a": {"$type": "number"}}, {"a": Decimal128("1")}, YES),
    ({"a": {"$type": "int"}}, {"a": 5}, YES),
    ({"a": {"$type": "int"}}, {"a": Int64(5)}, NO),
    ({"a": {"$type": "long"}}, {"a": 2**31}, YES),
    ({"a": {"$type": 1}}, {"a": 1.0}, YES),
    ({"a": {"$type": "bool"}}, {"a": 1}, NO),
    ({"a": {"$type": "array"}}, {"a": []}, YES),
    ({"a": {"$type": ["string", "null"]}}, {"a": [1, "x"]}, YES),
    ({"a": {"$type": "null"}}, {}, NO),
    ({"a": {"$type": "javascript"}}, {"a": Code("f")}, YES),
    ({"a": {"$type": "string"}}, {"a": Code("f")}, NO),
    ({"a": {"$type": "binData"}}, {"a": OWNER}, YES),
    ({"a": {"$type": "maxKey"}}, {"a": MaxKey()}, YES),
    ({"a": {"$mod": [4, 0]}}, {"a": 8}, YES),
    ({"a": {"$mod": [4, -1]}}, {"a": -5}, YES),
    ({"a": {"$mod": [4, 3]}}, {"a": -5}, NO),
    ({"a": {"$mod": [-4, 1]}}, {"a": 5}, YES),
    ({"a": {"$mod": [4, 1]}}, {"a": 5.9}, YES),
    ({"a": {"$mod": [4, 1]}}, {"a": Decimal128("5.9")}, YES),
    ({"a": {"$mod": [2, 1]}}, {"a": 2**63 - 1}, YES),
    ({"a": {"$mod": [3, 0]}}, {"a": 2**53 + 1}, YES),
    ({"a": {"$mod": [4, 0]}}, {"a": "8"}, NO),
    ({"a": {"$mod": [4, 0]}}, {"a": True}, NO),
    ({"a": {"$mod": [4, 0]}}, {"a": math.nan}, OPEN),
    ({"a": {"$mod": [4, 0]}}, {"a": 1e300}, OPEN),
    ({"a": {"$regex": "^x", "$options": "i"}}, {"a": "XY"}, YES),
    ({"a": {"$options": "i", "$regex": "^x"}}, {"a": ["a", "y"]}, NO),
    ({"a": {"$regex": re.compile("^x")}}, {"a": "xy"}, YES),
    ({"a": re.compile("^x")}, {"a": 5}, NO),
    ({"a": re.compile("^x")}, {}, NO),
    ({"a": {"$regex": "(?=x)"}}, {"a": "xy"}, OPEN),
    ({"a": {"$regex": "(?=x)"}}, {"a": 5}, NO),
    ({"a": 1, "$comment": "why"}, {"a": 1}, YES),
]
# What only the server can tell.
UNTOLD = [
    ({"$expr": {"$eq": ["$a", 1]}}, {"a": 1}, OPEN),
    ({"$where": "true"}, {}, OPEN),
    ({"$jsonSchema": {}}, {}, OPEN),
    ({"$text": {"$search": "x"}}, {}, OPEN),
    ({"a": {"$near": [0, 0]}}, {"a": [0, 0]}, OPEN),
    ({"a": {"$bitsAllSet": 1}}, {"a": 1}, OPEN),
    ({"a": {"$new": 1}}, {"a": 1}, OPEN),
    ({"a": 1, "$where": "true"}, {"a": 2}, NO),
    ({"$or": [{"a": 1}, {"$where": "true"}]}, {"a": 1}, YES),
    ({"$nor": [{"$where": "true"}]}, {}, OPEN),
    ({"a": Custom()}, {"a": 1}, OPEN),
    ({"a": Custom(), "b": 1}, {"a": 1, "b": 2}, NO),
    ({"a": {"$gt": Custom()}, "b": 1}, {"a": 1, "b": 2}, NO),
    ({"a": 1}, {"a": Custom()}, OPEN),
    ({"a.b": 1}, {"a": Custom()}, OPEN),
    ({"a.b": {"$exists": True}}, {"a": [Custom()]}, OPEN),
    ({"a": {"$exists": True}}, {"a": Custom()}, YES),
    ({"a": {"$size": 1}}, {"a": Custom()}, OPEN),
    ({"a": {"$elemMatch": {"$gt": 1}}}, {"a": Custom()}, OPEN),
    ({"a": {"$elemMatch": {"b": 1}}}, {"a": [Custom()]}, OPEN),
    ({"a": {"$elemMatch": {"b": 1}}}, {"a": [Custom(), {"b": 1}]}, YES),
    ({"a": {"$elemMatch": {"b": None}}}, {"a": [RawBSONDocument(b"\x08\0\0\0\x06b\0\0")]}, OPEN),
    ({"a": {"$elemMatch": {"$ref": "c", "$id": 1}}}, {"a": [DBRef("c", 1)]}, OPEN),
    ({"a": {"$type": 2}}, {"a": Custom()}, OPEN),
    ({"a": {"b": 1}}, {"a": {"b": Custom()}}, OPEN),
    ({"a": OWNER}, {"a": OWNER}, OPEN),
    ({"a": {"$in": [OWNER]}}, {"a": Binary(OWNER.bytes, 3)}, OPEN),
    ({"a": {"$lt": Timestamp(9, 9)}}, {"a": Timestamp(0, 0)}, OPEN),
    ({"a": Code("f", {"x": 1})}, {"a": Code("f", {"x": 1})}, OPEN),
    ({"a": None}, {"a": RawBSONDocument(b"\x08\0\0\0\x06b\0\0")}, OPEN),
    ({"a.b": None}, {"a": RawBSONDocument(b"\x08\0\0\0\x06b\0\0")}, OPEN),
    ({"a.0": 5}, {"a": [[5]]}, OPEN),
    ({"a.0": 5}, {"a": [[6]]}, NO),
]


@pytest.mark.parametrize(
    ("filter", "document", "truth"), EQUALITY + NULLS + ORDER + OPERATORS + UNTOLD, ids=repr
)
def test_a_document_matches_as_the_manual_says(filter: Any, document: Any, truth: Any) -> None:
    assert _truth(filter, document) is truth


@pytest.mark.parametrize(
    "filter",
    [
        {"$and": []}, {"$or": {}}, {"$nor": [1]}, {"a": {"$in": 5}}, {"a": {"$nin": {}}},
        {"a": {"$in": [{"$gt": 1}]}}, {"a": {"$not": 5}}, {"a": {"$not": {}}},
        {"a": {"$not": {"b": 1}}},
        {"a": {"$ne": re.compile("x")}}, {"a": {"$gt": re.compile("x")}}, {"a": {"$gt": 1, "b": 2}},
        {"a": {"$size": -1}}, {"a": {"$size": "2"}}, {"a": {"$size": 1.5}}, {"a": {"$size": True}},
        {"a": {"$size": math.nan}}, {"a": {"$type": "none"}}, {"a": {"$type": []}},
        {"a": {"$type": 0}},
        {"a": {"$type": True}}, {"a": {"$mod": [0, 1]}}, {"a": {"$mod": [2]}}, {"a": {"$mod": 2}},
        {"a": {"$mod": [math.nan, 0]}}, {"a": {"$options": "i"}}, {"a": {"$regex": 5}},
        {"a": {"$regex": "x", "$options": 5}}, {"a": {"$regex": Regex("x", "i"), "$options": "m"}},
        {"a": {"$elemMatch": 5}}, {"a": {"$elemMatch": {"$gt": 1, "b": 1}}}, {"a": {"$all": 5}},
        {"a": {"$all": [{"$elemMatch": {"b": 1}}, 5]}}, {"a": {"$gt": 1, "$or": [{"b": 1}]}},
        {"": 1}, {"a.": 1}, {"a..b": 1}, {"a.$b": 1}, {".".join("a" * 300): 1}, {5: 1}, 5, None, [],
    ],
    ids=repr,
)  # fmt: skip
def test_a_filter_that_the_server_refuses_is_not_told(filter: Any) -> None:
    assert matches(filter, {"_id": 1, "a": 1}) is OPEN
    assert matches(filter, {"_id": 1}) is OPEN


@pytest.mark.parametrize("document", [None, 5, [], Custom(), "x"], ids=repr)
def test_what_is_no_document_is_not_told(document: Any) -> None:
    assert matches({"a": 1}, document) is OPEN


def test_an_id_that_is_not_there_yet_may_become_anything() -> None:
    assert matches({"_id": 1}, {"a": 1}) is OPEN
    assert matches({"_id": 1, "a": 2}, {"a": 1}) is NO
    assert matches({"a": 1}, {"a": 1}) is YES


def test_a_raw_document_matches_as_what_it_encodes() -> None:
    raw = RawBSONDocument(bson.encode({"_id": 1, "a": [1, {"b": "x"}]}))
    assert matches({"a.b": "x"}, raw) is YES
    assert matches(RawBSONDocument(bson.encode({"a": 2})), raw) is NO


# https://www.mongodb.com/docs/manual/reference/collation/
@pytest.mark.parametrize(
    ("filter", "document", "truth"),
    [
        ({"a": "x"}, {"a": "X"}, OPEN),
        ({"a": "x"}, {"a": "x"}, OPEN),
        ({"a": "x"}, {"a": 5}, NO),
        ({"a": {"$in": [5, "x"]}}, {"a": 5}, YES),
        ({"a": {"$in": [5, "x"]}}, {"a": "y"}, OPEN),
        ({"a": {"$gt": "x"}}, {"a": "a"}, OPEN),
        ({"a": {"$gt": "x"}}, {"a": 5}, NO),
        ({"a": {"b": "x"}}, {"a": {"b": "X"}}, OPEN),
        ({"a": ["x"]}, {"a": ["X"]}, OPEN),
        ({"a": re.compile("x")}, {"a": "x"}, OPEN),
        ({"a": 5}, {"a": 5.0}, YES),
        ({"a": {"$ne": 5}}, {"a": "x"}, YES),
    ],
    ids=repr,
)
def test_under_a_collation_no_string_comparison_is_told(
    filter: Any, document: Any, truth: Any
) -> None:
    assert _truth(filter, document, simple=False) is truth


def test_nothing_raises_on_endless_values() -> None:
    endless: dict[str, Any] = {"_id": 1}
    endless["a"] = endless
    assert matches({"a": {"b": 1}}, endless) is OPEN
    assert matches({"a": endless}, {"_id": 1, "a": 1}) is OPEN
    deep: dict[str, Any] = {"a": 1}
    for _ in range(5000):
        deep = {"$nor": [deep]}
    assert matches(deep, {"_id": 1, "a": 1}) is OPEN


TRUTHS = st.sampled_from((YES, NO, OPEN))


def test_truth_tables_are_those_of_kleene() -> None:
    rank = {NO: 0, OPEN: 1, YES: 2}
    for left, right in itertools.product(rank, repeat=2):
        assert all_of((left, right)) is min(left, right, key=rank.__getitem__)
        assert any_of((left, right)) is max(left, right, key=rank.__getitem__)
    assert [negate(truth) for truth in (YES, OPEN, NO)] == [NO, OPEN, YES]
    assert all_of(()) is YES
    assert any_of(()) is NO


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from((math.nan, 0.5, "a", "b")),
    st.builds(Custom),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("a", "b", "0")), inner, max_size=2)
    ),
    max_leaves=5,
)
PATHS = st.sampled_from(("a", "b", "a.b", "a.0", "a.b.0"))
CLAUSES = st.one_of(
    st.tuples(PATHS, VALUES).map(lambda pair: {pair[0]: {"$eq": pair[1]}}),
    st.tuples(PATHS, st.sampled_from(("$gt", "$lte")), VALUES).map(
        lambda part: {part[0]: {part[1]: part[2]}}
    ),
    st.tuples(PATHS, st.booleans()).map(lambda pair: {pair[0]: {"$exists": pair[1]}}),
    st.just({"$where": "true"}),
)
DOCUMENTS = st.dictionaries(st.sampled_from(("a", "b")), VALUES, max_size=2).map(
    lambda fields: {"_id": 1, **fields}
)


@settings(deadline=None)
@given(st.lists(CLAUSES, min_size=1, max_size=3), DOCUMENTS)
def test_logical_operators_combine_their_branches_by_kleene(
    clauses: list[Any], document: Any
) -> None:
    truths = [matches(clause, document) for clause in clauses]
    assert matches({"$and": clauses}, document) is all_of(truths)
    assert matches({"$or": clauses}, document) is any_of(truths)
    assert matches({"$nor": clauses}, document) is negate(any_of(truths))
    assert matches({"$nor": [{"$nor": clauses}]}, document) is any_of(truths)


@settings(deadline=None)
@given(PATHS, VALUES, VALUES, DOCUMENTS)
def test_operators_that_mean_the_same_are_told_the_same(
    path: str, value: Any, other: Any, document: Any
) -> None:
    equal = matches({path: {"$eq": value}}, document)
    assert matches({path: {"$in": [value]}}, document) is equal
    assert matches({path: {"$all": [value]}}, document) is equal
    assert matches({path: {"$ne": value}}, document) is negate(equal)
    assert matches({path: {"$not": {"$eq": value}}}, document) is negate(equal)
    either = any_of((equal, matches({path: {"$eq": other}}, document)))
    assert matches({path: {"$in": [value, other]}}, document) in (either, OPEN)
    assert matches({path: {"$nin": [value, other]}}, document) in (negate(either), OPEN)


@settings(deadline=None)
@given(st.lists(CLAUSES, min_size=1, max_size=3), DOCUMENTS)
def test_a_collation_only_takes_certainty_away(clauses: list[Any], document: Any) -> None:
    filter = {"$or": clauses}
    assert matches(filter, document, simple=False) in (matches(filter, document), OPEN)


def test_a_matcher_serves_many_documents() -> None:
    matcher = Matcher({"a": {"$gte": 2}})
    assert [matcher.matches({"_id": n, "a": n}) for n in range(4)] == [NO, NO, YES, YES]
