"""QBMONGO_DISABLE=1: the driver's own classes, whatever else the program says to qbmongo."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from qbmongo import SettingsError
from qbmongo.switch import is_disabled

PROGRAM = """
import asyncio, importlib, json, os, sys
import qbmongo
from qbmongo import CacheSettings, Settings

name, module, driver_name, uri, database = sys.argv[1:]
cls = getattr(qbmongo, name)
loaded = {m for m in ("motor", "gridfs") if m in sys.modules}
driver = getattr(importlib.import_module(module), driver_name)

async def ask(value):
    return await value if hasattr(value, "__await__") else value

async def run():
    settings = Settings(cache=CacheSettings(ttl_s=60.0))
    client = cls(uri, qb=settings, serverSelectionTimeoutMS=10000)
    plain = driver(uri)
    collection = client[database].c
    await ask(collection.insert_one({"_id": 1}))
    found = [await ask(collection.find_one({"_id": 1})) for _ in range(2)]
    with client.qb.uncached():
        await ask(client.qb.caught_up())
        client.qb.clear()
    answer = {
        "is_a": issubclass(cls, driver) and cls.__mro__[1] is driver,
        "of": cls.__module__,
        "subscripted": cls[dict] is cls,
        "types": [
            type(a) is type(b)
            for a, b in (
                (client[database], plain[database]),
                (client[database].c, plain[database].c),
                (client[database].c.find(), plain[database].c.find()),
                (client.get_database(database), plain.get_database(database)),
            )
        ],
        "found": found,
        "stats": [client.qb.stats().cache, client.qb.stats().faults, client.qb.stats().rewrite],
        "explained": client.qb.explain_rewrite("d.c", {"a": {"$in": [1, 1]}}).off,
        "profile": len(client.qb.profile().shapes),
        "settings": client.qb.settings == Settings.preset("off"),
        "options": client.qb.options("x", cache=CacheSettings()) == Settings.preset("off"),
        "qb_database": client["qb"].name,
        "listeners": "event_listeners" in repr(client),
        "loaded_ours": [m for m in sys.modules if m.startswith("qbmongo.clients.pymongo")],
        "loaded": sorted(loaded),
    }
    await ask(client.close())
    await ask(client.close())
    await ask(plain.close())
    print(json.dumps(answer))

if name == "OptimizedMongoClient":
    try:
        run().send(None)
    except StopIteration:
        pass
else:
    asyncio.run(run())
"""

CLIENTS = {
    "sync": ("OptimizedMongoClient", "pymongo", "MongoClient"),
    "async": ("OptimizedAsyncMongoClient", "pymongo", "AsyncMongoClient"),
    "motor": ("OptimizedClient", "motor.motor_asyncio", "AsyncIOMotorClient"),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_disabled_clients_are_the_drivers(name: str, server_uri: str, database_name: str) -> None:
    environment = {**os.environ, "QBMONGO_DISABLE": "1", "QBMONGO_CACHE_MAX_BYTES": "nonsense"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *CLIENTS[name], server_uri, database_name],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer == {
        "is_a": True,
        "of": "qbmongo.clients.disabled",
        "subscripted": True,
        "types": [True] * 4,
        "found": [{"_id": 1}] * 2,
        "stats": [None, {}, None],
        "explained": None,
        "profile": 0,
        "settings": True,
        "options": True,
        "qb_database": "qb",
        "listeners": False,
        "loaded_ours": [],
        "loaded": ["gridfs", "motor"] if name == "motor" else [],
    }


@pytest.mark.parametrize("value", ["1", "true", "ON", "yes"])
def test_yes_disables(value: str) -> None:
    assert is_disabled({"QBMONGO_DISABLE": value})


@pytest.mark.parametrize("environment", [{}, {"QBMONGO_DISABLE": ""}, {"QBMONGO_DISABLE": "0"}])
def test_no_and_nothing_do_not(environment: dict[str, str]) -> None:
    assert not is_disabled(environment)


def test_anything_else_is_refused() -> None:
    with pytest.raises(SettingsError, match="QBMONGO_DISABLE is 'maybe'; allowed is 1 or 0"):
        is_disabled({"QBMONGO_DISABLE": "maybe"})
