"""Fingerprints of answers: equal exactly if the answers are, whatever the time and the database."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from bson import Int64, ObjectId
from bson.son import SON
from pymongo.errors import DuplicateKeyError
from pymongo.results import InsertOneResult, UpdateResult

from qbmongo.demo.digest import fingerprint


def duplicate(database: str, seconds: int) -> DuplicateKeyError:
    details = {
        "code": 11000,
        "errmsg": f"duplicate key in {database}.journal",
        "operationTime": seconds,
        "$clusterTime": {"clusterTime": seconds},
    }
    return DuplicateKeyError(f"E11000 {details}", 11000, details)


class TestFingerprint:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (1, Int64(1)),
            (2**40, Int64(2**40)),
            (1, 1.0),
            (1, True),
            ({"a": 1}, SON(a=1)),
            ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
            ([{"a": [2**40]}], [{"a": [Int64(2**40)]}]),
            ([], None),
            (UpdateResult({"n": 1, "nModified": 1}, True), UpdateResult({"n": 1}, True)),
            (InsertOneResult(1, True), InsertOneResult(2, True)),
            (duplicate("a", 1), DuplicateKeyError("E", 11001, {"code": 11001})),
            (duplicate("a", 1), {"code": 11000}),
            (TypeError("a"), TypeError("b")),
            (TypeError("a"), ValueError("a")),
        ],
    )
    def test_different_answers_have_different_fingerprints(self, one: Any, other: Any) -> None:
        assert fingerprint(one, "a") != fingerprint(other, "a")

    def test_equal_answers_have_equal_fingerprints(self) -> None:
        key = ObjectId()
        answer = [{"_id": key, "at": datetime(2013, 1, 1), "x": [1, {"y": None}]}]
        again = [{"_id": ObjectId(str(key)), "at": datetime(2013, 1, 1), "x": [1, {"y": None}]}]
        assert fingerprint(answer, "a") == fingerprint(again, "b")

    def test_time_and_database_name_are_no_difference(self) -> None:
        assert fingerprint(duplicate("one", 1), "one") == fingerprint(duplicate("two", 2), "two")
