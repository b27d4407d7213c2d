"""verify_fraction on a real server: right answers are confirmed, a falsified one is found."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pymongo import MongoClient

from qbmongo import CacheSettings, OptimizedMongoClient, Settings
from qbmongo_tests.clients.sites import PATIENCE_S
from qbmongo_tests.waiting import wait_until


def wait_for(client: Any, reached: Any) -> None:
    def is_reached() -> bool:
        client.qb.caught_up(PATIENCE_S)
        return bool(reached(client.qb.stats().cache))

    assert wait_until(is_reached), client.qb.stats().cache


def test_hits_are_read_again_and_a_false_one_is_reported(
    server_uri: str, database_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with MongoClient(server_uri) as plain:
        plain[database_name].c.insert_many([{"_id": i, "a": i % 3} for i in range(20)])
    settings = Settings(cache=CacheSettings(verify_fraction=1.0, lease_s=60.0))
    with OptimizedMongoClient(server_uri, qb=settings) as client:
        collection = client[database_name].c

        def read_all() -> list[Any]:
            return [
                collection.find_one({"_id": 1}),
                list(collection.find({"a": 1}).sort("_id", -1).limit(2)),
                collection.count_documents({"a": 1}),
                collection.distinct("a"),
                list(collection.aggregate([{"$group": {"_id": "$a", "n": {"$sum": 1}}}])),
            ]

        def is_kept() -> bool:
            client.qb.caught_up(PATIENCE_S)
            hits = client.qb.stats().cache.hits
            read_all()
            return bool(client.qb.stats().cache.hits == hits + 5)

        assert wait_until(is_kept)
        first = read_all()
        assert sorted(map(str, read_all())) == sorted(map(str, first))
        wait_for(client, lambda cache: cache.verified >= 5)
        assert client.qb.stats().cache.differences == 0

        (entry,) = [e for e in client._qb.engine.cache.store.entries() if e.ids == (1,)]
        entry.data = entry.data.replace(b"\x01\x00\x00\x00", b"\x07\x00\x00\x00")
        collection.find_one({"_id": 1})
        with caplog.at_level(logging.ERROR, "qbmongo"):
            wait_for(client, lambda cache: cache.differences == 1)
        assert "no write explains" in caplog.text
        assert client.qb.stats().faults == {}
