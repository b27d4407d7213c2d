"""Scratch databases: where indexes are tried, and how none is ever left behind or taken wrongly.

A scratch database is named `qbmongo_scratch_RUN` and holds, from its first moment to its last, one
owner document in the collection `qbmongo_owner`:

    {_id: "owner", run, host, pid, started_at, heartbeat_at}      times by the server's clock

A thread renews the heartbeat. The database is dropped when the block ends, however it ends; if the
process is killed, a later run drops it once the heartbeat is older than STALE_S. A database without
that document, or whose document names another run than its name does, is never touched.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo import MongoClient, ReadPreference, WriteConcern
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern

__all__ = ["PREFIX", "STALE_S", "Scratch", "ScratchLostError", "drop_abandoned", "left_behind"]

PREFIX = "qbmongo_scratch_"
OWNERS = "qbmongo_owner"
STALE_S = 3_600.0
HEARTBEAT_S = 60.0

Client = MongoClient[Any]


class ScratchLostError(Exception):
    """The scratch database's owner document is gone: another run took it for abandoned."""


class Scratch:
    """A scratch database of this run. Made by `Scratch.open`.

    database: the driver's object; everything in it but the owner document is the run's.
    """

    def __init__(self, client: Client, run: str, heartbeat_s: float) -> None:
        self.run = run
        self.name = f"{PREFIX}{run}"
        # Whatever the user's own options say: nothing here must survive a crash of the server.
        self.database: Database[Any] = client.get_database(
            self.name,
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern(),
            write_concern=WriteConcern(w=1),
        )
        self._client = client
        self._heartbeat_s = heartbeat_s
        self._ended = threading.Event()
        self._lost = False
        self._thread = threading.Thread(
            target=self._beat, name="qbmongo-scratch-heartbeat", daemon=True
        )

    @classmethod
    @contextmanager
    def open(cls, client: Client, *, heartbeat_s: float = HEARTBEAT_S) -> Iterator[Scratch]:
        """A scratch database that exists for the time of the block.

        Args:
            client: a plain driver client of the server to try on.
            heartbeat_s: seconds between two heartbeats.

        Raises:
            PyMongoError: it cannot be made.
        """
        scratch = cls(client, secrets.token_hex(6), heartbeat_s)
        try:
            scratch._begin()
            yield scratch
        finally:
            scratch._end()

    def check(self) -> None:
        """Raises ScratchLostError if the database is this run's no more."""
        if self._lost:
            raise ScratchLostError(f"{self.name} was dropped by another run")

    def _begin(self) -> None:
        taken = self._client.list_database_names()
        if self.name in taken:
            raise DuplicateKeyError(f"the database {self.name} exists already")
        _owners(self.database).update_one(
            {"_id": "owner"},
            {
                "$set": {"run": self.run, "host": socket.gethostname(), "pid": os.getpid()},
                "$currentDate": {"started_at": True, "heartbeat_at": True},
            },
            upsert=True,
        )
        self._thread.start()

    def _beat(self) -> None:
        while not self._ended.wait(self._heartbeat_s):
            with contextlib.suppress(PyMongoError):
                renewed = _owners(self.database).update_one(
                    {"_id": "owner", "run": self.run}, {"$currentDate": {"heartbeat_at": True}}
                )
                if not renewed.matched_count:
                    self._lost = True
                    return

    def _end(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if not self._lost:
            with contextlib.suppress(PyMongoError):
                _drop(self.database, self.run)


def drop_abandoned(client: Client, *, stale_s: float = STALE_S) -> list[str]:
    """Drops the scratch databases of runs that were killed.

    Args:
        client: a plain driver client of the server.
        stale_s: age of the heartbeat, by the server's clock, from which a run counts as dead.

    Returns:
        The names of the databases that were dropped. One that cannot be read is left alone.
    """
    dropped = []
    for name, owner in _owned(client):
        now: datetime.datetime = client.admin.command("hello")["localTime"]
        heartbeat = owner["heartbeat_at"]
        if (now - heartbeat).total_seconds() < stale_s:
            continue
        # Whoever changes the heartbeat first has it; its own run would find it changed too.
        claimed = _owners(client[name]).find_one_and_update(
            {"_id": "owner", "run": owner["run"], "heartbeat_at": heartbeat},
            {"$currentDate": {"heartbeat_at": True}},
        )
        if claimed is not None:
            _drop(client[name], owner["run"])
            dropped.append(name)
    return dropped


def left_behind(client: Client) -> list[str]:
    """Names of the scratch databases there, whoever's they are and whether alive or not."""
    return [name for name, _ in _owned(client)]


def _owned(client: Client) -> Iterator[tuple[str, Any]]:
    """The scratch databases that hold their owner document, with it."""
    for name in client.list_database_names():
        if not name.startswith(PREFIX):
            continue
        with contextlib.suppress(PyMongoError):
            owner = _owners(client[name]).find_one({"_id": "owner"})
            if (
                owner is not None
                and owner.get("run") == name[len(PREFIX) :]
                and isinstance(owner.get("heartbeat_at"), datetime.datetime)
            ):
                yield name, owner


def _drop(database: Database[Any], run: str) -> None:
    """The owner document goes last: a drop that is cut short leaves what a later run finds."""
    if _owners(database).find_one({"_id": "owner", "run": run}) is None:
        return
    for name in database.list_collection_names():
        if name != OWNERS and not name.startswith("system."):
            database.drop_collection(name)
    database.client.drop_database(database.name)


def _owners(database: Database[Any]) -> Collection[Any]:
    return database.get_collection(
        OWNERS,
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern(),
        write_concern=WriteConcern(w=1),
    )
