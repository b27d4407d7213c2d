"""Reads from a server what the advice rests on: collections, indexes, their use, samples.

Everything here only reads, with a time limit for each command and in small batches, documents
preferably from a secondary. What cannot be read is noted, and the rest goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import (
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.read_preferences import Nearest, SecondaryPreferred

from ..errors import ServerUnreadableError
from .collection_documents import collection_info
from .index_documents import keys_from
from .interruption import Stop
from .queries import split_namespace
from .records import CollectionInfo, CollectionStatistics, Keys
from .samples import RAW, READING, Sample
from .sampling import SampleCounts
from .trial_collection import reason_of

__all__ = ["DatabaseRefusedError", "Limits", "ServerReader", "connect"]

Client = MongoClient[Any]
ClientFactory = Callable[..., Client]

_SYSTEM_DATABASES = frozenset({"admin", "local", "config"})
_MAX_PROFILED = 5_000
_REACH_MS = 5_000


_UNAUTHORIZED = 13


class DatabaseRefusedError(ServerUnreadableError):
    """The user may not list the collections of a database."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is read.

    sample_documents: of each collection. sample_bytes: likewise. stratum_documents: of each filter
    that was kept with its values. max_time_ms: of one command; of one stratum's query.
    """

    sample_documents: int = 2_000
    sample_bytes: int = 32 << 20
    stratum_documents: int = 10
    batch_documents: int = 500
    max_time_ms: int = 30_000
    stratum_time_ms: int = 500


def connect(factory: ClientFactory, **options: Any) -> Client:
    """A plain client for reading, and an answer from its server.

    Args:
        factory: makes the client, with options added to those of the user.

    Raises:
        ServerUnreadableError: no server answers, or the options cannot be.
    """
    try:
        client = factory(serverSelectionTimeoutMS=_REACH_MS, appname="qbmongo advise", **options)
    except (PyMongoError, ValueError, TypeError) as error:
        raise ServerUnreadableError(reason_of(error)) from error
    try:
        client.admin.command("ping")
    except ServerSelectionTimeoutError as error:
        client.close()
        raise ServerUnreadableError(f"no server answered within {_REACH_MS / 1000:g} s") from error
    except PyMongoError as error:
        client.close()
        raise ServerUnreadableError(reason_of(error)) from error
    except BaseException:
        client.close()
        raise
    return client


class ServerReader:
    """Reads from one deployment.

    Args:
        client: a plain client of it.
        factory: makes further clients with the user's options, for the single members.
        note: told what could not be read, one line each.
    """

    def __init__(
        self,
        client: Client,
        factory: ClientFactory,
        limits: Limits,
        stop: Stop,
        note: Callable[[str], Any],
    ) -> None:
        self._client = client
        self._factory = factory
        self._limits = limits
        self._stop = stop
        self._note = note
        self._noted: set[str] = set()
        self.views: set[str] = set()
        with self._reading():
            self._hello: Mapping[str, Any] = client.admin.command("hello")
        self.members = self._find_members()
        self._readers: dict[str, Client] = {}
        self._silent: set[str] = set()

    def close(self) -> None:
        """Closes the clients of the members."""
        for client in self._readers.values():
            client.close()

    @property
    def is_sharded(self) -> bool:
        """Whether a router answers, not a server with data."""
        return self._hello.get("msg") == "isdbgrid"

    def databases(self, wanted: Sequence[str]) -> list[str]:
        """Names of the databases to advise on.

        Args:
            wanted: these; none: all that are no system databases.
        """
        if wanted:
            return list(dict.fromkeys(wanted))
        with self._reading():
            names = self._client.list_database_names()
        return [
            name
            for name in names
            if name not in _SYSTEM_DATABASES and not name.startswith("qbmongo_scratch_")
        ]

    def collections(self, database: str) -> list[CollectionInfo]:
        """Every collection of a database, with its indexes and their use on every member.

        Raises:
            DatabaseRefusedError: the user may not list them.
        """
        with self._reading(database):
            found = list(self._command_cursor(database, {"listCollections": 1}))
        infos = []
        for document in found:
            name = str(document["name"])
            if document.get("type", "collection") == "view":
                self.views.add(f"{database}.{name}")
                continue
            if name.startswith("system."):
                continue
            self._stop.check()
            info = self._collection(database, name, document)
            if info is not None:
                infos.append(info)
        return infos

    def has_profiler(self, database: str) -> bool:
        """Whether the server's profiler has written anything there.

        Raises:
            DatabaseRefusedError: the user may not ask.
        """
        with self._reading(database):
            names = self._command_cursor(
                database,
                {"listCollections": 1, "filter": {"name": "system.profile"}, "nameOnly": True},
            )
            return any(True for _ in names)

    def profiler_documents(self, database: str) -> list[dict[str, Any]]:
        """The latest documents of `system.profile`, oldest first."""
        try:
            profile = self._client[database].get_collection("system.profile", codec_options=READING)
            found = profile.find(
                {"ns": {"$not": {"$regex": r"\.system\."}}},
                sort=[("$natural", -1)],
                limit=_MAX_PROFILED,
                batch_size=self._limits.batch_documents,
                max_time_ms=self._limits.max_time_ms,
            )
            documents = list(found)
        except PyMongoError as error:
            self._could_not(f"{database}.system.profile", error)
            return []
        return documents[::-1]

    def sample(
        self,
        info: CollectionInfo,
        paths: Iterable[str],
        filters: Sequence[Mapping[str, Any]],
    ) -> tuple[Sample, CollectionStatistics]:
        """Random documents of a collection, and what they say of its fields.

        Some documents that kept filters select are added; the statistics are of the random ones.

        Args:
            paths: to count values of.
            filters: with their values.
        """
        sample = Sample(self._limits.sample_bytes)
        counts = SampleCounts(info.namespace, paths)
        try:
            for document in self._random(info):
                self._stop.check()
                raw = bytes(document.raw)
                if sample.add(raw, _identity(document)):
                    counts.add(bson.decode(raw, READING), len(raw))
                if sample.is_full:
                    break
        except PyMongoError as error:
            self._could_not(f"a sample of {info.namespace}", error)
        except BaseException:
            sample.close()
            raise
        for filter in filters:
            self._stop.check()
            try:
                for document in self._selected(info, filter):
                    sample.add(bytes(document.raw), _identity(document))
            except PyMongoError:
                continue  # slow or no longer valid: the random documents do
        return sample, counts.statistics(info.count)

    def _random(self, info: CollectionInfo) -> Iterator[RawBSONDocument]:
        limits = self._limits
        database, name = split_namespace(info.namespace)
        collection = self._client[database].get_collection(
            name, codec_options=RAW, read_preference=SecondaryPreferred()
        )
        if info.count is not None and info.count <= limits.sample_documents:
            yield from collection.find(
                limit=limits.sample_documents,
                batch_size=limits.batch_documents,
                max_time_ms=limits.max_time_ms,
            )
            return
        yield from collection.aggregate(
            [{"$sample": {"size": limits.sample_documents}}],
            batchSize=limits.batch_documents,
            maxTimeMS=limits.max_time_ms,
            allowDiskUse=True,
        )

    def _selected(
        self, info: CollectionInfo, filter: Mapping[str, Any]
    ) -> Iterator[RawBSONDocument]:
        database, name = split_namespace(info.namespace)
        collection = self._client[database].get_collection(
            name, codec_options=RAW, read_preference=SecondaryPreferred()
        )
        yield from collection.find(
            filter,
            limit=self._limits.stratum_documents,
            max_time_ms=self._limits.stratum_time_ms,
        )

    def _collection(
        self, database: str, name: str, document: Mapping[str, Any]
    ) -> CollectionInfo | None:
        namespace = f"{database}.{name}"
        is_timeseries = document.get("type") == "timeseries"
        try:
            indexes = list(self._command_cursor(database, {"listIndexes": name}))
        except PyMongoError as error:
            if isinstance(error, OperationFailure) and error.code == 26:  # NamespaceNotFound
                return None  # dropped meanwhile
            self._could_not(f"the indexes of {namespace}", error)
            return None
        stats = [] if is_timeseries else self._stats(database, name)
        uses = {} if is_timeseries else self._uses(database, name)
        return collection_info(
            namespace,
            document,
            indexes,
            stats,
            uses,
            members=max(1, len(self.members)),
            shard_key=self._shard_key(namespace) if self.is_sharded else None,
        )

    def _shard_key(self, namespace: str) -> Keys | None:
        """Source: MongoDB manual, Config Database, config.collections."""
        try:
            found = self._client.config.collections.find_one(
                {"_id": namespace}, max_time_ms=self._limits.max_time_ms
            )
        except PyMongoError as error:
            self._could_not(f"the shard key of {namespace}", error)
            return None
        return keys_from(found["key"]) if found and "key" in found else None

    def _stats(self, database: str, name: str) -> list[dict[str, Any]]:
        """The collection's `$collStats`, one document for each shard."""
        pipeline: list[dict[str, Any]] = [{"$collStats": {"storageStats": {}}}]
        try:
            return list(
                self._client[database][name].aggregate(pipeline, maxTimeMS=self._limits.max_time_ms)
            )
        except PyMongoError as error:
            self._could_not(f"the size of {database}.{name}", error)
            return []

    def _uses(self, database: str, name: str) -> dict[str, list[Mapping[str, Any]]]:
        """`$indexStats` by member."""
        uses: dict[str, list[Mapping[str, Any]]] = {}
        if self.is_sharded or len(self.members) <= 1:
            found = self._index_stats(self._client, database, name, "")
            for document in found or ():
                host = str(document.get("host", "")) if self.is_sharded else ""
                uses.setdefault(host or next(iter(self.members), ""), []).append(document)
            return uses
        for member in self.members:
            if member in self._silent:
                continue
            documents = self._index_stats(self._reader_of(member), database, name, member)
            if documents is not None:
                uses[member] = documents
        return uses

    def _index_stats(
        self, client: Client, database: str, name: str, member: str
    ) -> list[Mapping[str, Any]] | None:
        try:
            collection = client[database].get_collection(
                name, read_preference=Nearest() if member else client.read_preference
            )
            return list(
                collection.aggregate([{"$indexStats": {}}], maxTimeMS=self._limits.max_time_ms)
            )
        except PyMongoError as error:
            if member and isinstance(error, ConnectionFailure):
                # The others go on; nobody waits for this one again.
                self._silent.add(member)
                self._say(f"the use of indexes on {member} could not be read: it does not answer")
            else:
                self._could_not(f"the use of indexes on {member or 'the server'}", error)
            return None

    def _find_members(self) -> tuple[str, ...]:
        """Every member that may use an index, also those that drivers do not see."""
        hello = self._hello
        if self.is_sharded:
            try:
                shards = list(self._client.config.shards.find())
            except PyMongoError as error:
                self._could_not("the list of shards", error)
                return ()
            hosts = [str(shard.get("host", "")).rpartition("/")[2] for shard in shards]
            return tuple(host for group in hosts for host in group.split(",") if host)
        seen = tuple(map(str, (*hello.get("hosts", ()), *hello.get("passives", ()))))
        try:
            config = self._client.admin.command("replSetGetConfig")["config"]
            return (*seen, *(str(m["host"]) for m in config["members"] if m.get("hidden")))
        except (PyMongoError, KeyError):
            # A standalone server, no privilege: hidden members, if any, stay unknown.
            return seen or ("the server",)

    def _reader_of(self, member: str) -> Client:
        """A client that reads from this member alone, with the user's own options."""
        client = self._readers.get(member)
        if client is None:
            host, _, port = member.rpartition(":")
            wanted = (host.strip("[]"), int(port))

            def only_it(servers: list[Any]) -> list[Any]:
                return [server for server in servers if server.address == wanted]

            client = self._factory(serverSelectionTimeoutMS=_REACH_MS, server_selector=only_it)
            self._readers[member] = client
        return client

    def _command_cursor(self, database: str, command: dict[str, Any]) -> Iterator[Any]:
        limited = {**command, "maxTimeMS": self._limits.max_time_ms}
        yield from self._client[database].cursor_command(limited)

    @contextmanager
    def _reading(self, database: str | None = None) -> Iterator[None]:
        try:
            yield
        except PyMongoError as error:
            if database is not None and getattr(error, "code", None) == _UNAUTHORIZED:
                raise DatabaseRefusedError(reason_of(error)) from error
            raise ServerUnreadableError(reason_of(error)) from error

    def _could_not(self, what: str, error: PyMongoError) -> None:
        if isinstance(error, ConnectionFailure) and not isinstance(
            error, ServerSelectionTimeoutError
        ):
            raise ServerUnreadableError(reason_of(error)) from error
        self._say(f"{what} could not be read: {reason_of(error)}")

    def _say(self, line: str) -> None:
        if line not in self._noted:
            self._noted.add(line)
            self._note(line)


def _identity(document: RawBSONDocument) -> bytes:
    return bson.encode({"_id": document["_id"]})
