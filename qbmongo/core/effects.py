"""Commands on the wire and change-stream events, read as effects on what is cached.

Whatever cannot be read for certain widens the effect: an unknown `_id`, path or document is "any",
an unknown command is everything. None of these functions raises on a malformed command.

Evidence. A command-monitoring event holds the caller's own dicts. Where another thread may have
changed them since they were encoded (`mutable_ok=False`), only raw documents count, since their
bytes cannot change, and only where the driver itself put them in their place: a command with a
`txnNumber` outside a transaction was made by the driver's retryable writes, any other may be a raw
`command` whose every level is the caller's. The last stage of a pipeline must be private to the
call (whoever passes a caller's pipeline on passes a copy).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from bson.raw_bson import RawBSONDocument
from bson.timestamp import Timestamp

from ..records import EVERYTHING, Effect
from .events import effect_of_event
from .evidence import Evidence
from .ids import confined_ids, known_ids
from .lone_effects import lone_delete, lone_insert, lone_update
from .paths import update_paths
from .snapshots import Private, readable, snapshot

__all__ = ["READ_COMMANDS", "SESSION_COMMANDS", "effect_of_event", "effects_of"]

Effects = tuple[Effect, ...]
Ids = frozenset[Hashable] | None
Paths = frozenset[str] | None

NO_EFFECTS: Effects = ()
_ALL: Effects = (EVERYTHING,)

# Beyond these a command's effect is "any": reading it would cost more than what it would save.
_MAX_DOCUMENTS = 256
_MAX_IDS = 10_000

READ_COMMANDS = frozenset(
    {
        "authenticate",
        "availableQueryOptions",
        "buildInfo",
        "buildinfo",
        "collStats",
        "collstats",
        "connectionStatus",
        "count",
        "currentOp",
        "dataSize",
        "datasize",
        "dbHash",
        "dbStats",
        "dbhash",
        "dbstats",
        "distinct",
        "explain",
        "features",
        "find",
        "fsync",
        "fsyncUnlock",
        "geoSearch",
        "getClusterParameter",
        "getCmdLineOpts",
        "getDefaultRWConcern",
        "getLog",
        "getMore",
        "getParameter",
        "getnonce",
        "getShardMap",
        "getShardVersion",
        "hello",
        "hostInfo",
        "isMaster",
        "isdbgrid",
        "ismaster",
        "killAllSessions",
        "killAllSessionsByPattern",
        "killCursors",
        "killOp",
        "killSessions",
        "listCollections",
        "listCommands",
        "listDatabases",
        "listIndexes",
        "listSearchIndexes",
        "listShards",
        "lockInfo",
        "logRotate",
        "logout",
        "ping",
        "planCacheClear",
        "planCacheClearFilters",
        "planCacheListFilters",
        "planCacheSetFilter",
        "profile",
        "queryStats",
        "refreshSessions",
        "replSetGetConfig",
        "replSetGetStatus",
        "rolesInfo",
        "saslContinue",
        "saslStart",
        "serverStatus",
        "startSession",
        "top",
        "usersInfo",
        "whatsmyuri",
    }
)
"""Commands known to change no data and to end no transaction."""

SESSION_COMMANDS = frozenset({"abortTransaction", "commitTransaction", "endSessions"})
"""Commands without effects of their own that decide about those of a transaction."""


def effects_of(
    command_name: str, database: str, command: Mapping[str, Any], *, mutable_ok: bool
) -> Effects:
    """The effects that a command may have.

    Args:
        command_name: the command's first field, as in the command-monitoring event.
        database: the database the command runs in.
        command: the command as published when it started.
        mutable_ok: no other thread can have changed the caller's own dicts since they were encoded.

    Returns:
        Nothing for commands known not to write, everything for any that is not known.

    Source: https://www.mongodb.com/docs/manual/reference/command/
    """
    if command_name in READ_COMMANDS or command_name in SESSION_COMMANDS:
        return NO_EFFECTS
    read = _WRITERS.get(command_name)
    if read is None:
        return _ALL
    try:
        return read(database, command, Evidence(command, mutable_ok))
    except Exception:
        # A command that cannot be read (a raw `command` may hold anything) may write anything.
        return _ALL


class _Writes:
    """Effects of the operations of one command on one namespace, as few as say the same."""

    __slots__ = (
        "_deleted",
        "_deletes",
        "_inserts",
        "_namespace",
        "_updated",
        "_upserted",
        "_upserts",
    )

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._inserts: list[Any] = []
        self._updated: dict[Paths, set[Hashable] | None] = {}
        self._upserts = self._deletes = False
        self._upserted: set[Hashable] | None = set()
        self._deleted: set[Hashable] | None = set()

    def insert(self, document: Any) -> None:
        self._inserts.append(document)

    def update(self, filter: Any, change: Any, evidence: Evidence, *, simple: bool) -> None:
        filter = evidence.of(filter)
        ids = None if filter is None else confined_ids(filter, simple=simple)
        paths = update_paths(evidence.of(change))
        if paths in self._updated:
            self._updated[paths] = _union(self._updated[paths], ids)
        else:
            self._updated[paths] = _union(set(), ids)

    def upsert(self, filter: Any, change: Any, evidence: Evidence, *, simple: bool) -> None:
        """An upsert may insert a document of which only an `_id` by equality is known."""
        self._upserts = True
        filter, change = evidence.of(filter), evidence.of(change)
        certain = filter is not None and isinstance(change, Mapping)
        ids = _upserted_ids(filter, simple) if certain else None
        self._upserted = _union(self._upserted, ids)

    def delete(self, filter: Any, evidence: Evidence, *, simple: bool) -> None:
        filter = evidence.of(filter)
        ids = None if filter is None else confined_ids(filter, simple=simple)
        self._deletes = True
        self._deleted = _union(self._deleted, ids)

    def effects(self, evidence: Evidence) -> Iterable[Effect]:
        if self._inserts:
            yield _insert_effect(self._namespace, self._inserts, evidence)
        if self._upserts:
            yield Effect("insert", self._namespace, _frozen(self._upserted))
        for paths, ids in self._updated.items():
            yield Effect("update", self._namespace, _frozen(ids), paths)
        if self._deletes:
            yield Effect("delete", self._namespace, _frozen(self._deleted))


def _union(known: set[Hashable] | None, more: Ids) -> set[Hashable] | None:
    if known is None or more is None or len(known) + len(more) > _MAX_IDS:
        return None
    known |= more
    return known


def _frozen(ids: set[Hashable] | None) -> Ids:
    return None if ids is None else frozenset(ids)


def _upserted_ids(filter: Mapping[str, Any], simple: bool) -> Ids:
    """The `_id` of a document that an upsert with operators or a replacement may insert.

    Only one equality on the top-level `_id` fixes it: with `$in` or inside `$and` the server may
    take it from the update or make one.
    """
    condition = readable(filter.get("_id"))
    if isinstance(condition, Mapping) and "$in" in condition:
        return None
    return confined_ids({"_id": condition}, simple=simple) if "_id" in filter else None


def _insert_effect(namespace: str, documents: list[Any], evidence: Evidence) -> Effect:
    if len(documents) > _MAX_IDS:
        return Effect("insert", namespace)
    ids: set[Hashable] | None = set()
    copies: list[Mapping[str, Any]] | None = [] if len(documents) <= _MAX_DOCUMENTS else None
    for document in documents:
        if type(document) is Private or isinstance(document, RawBSONDocument):
            certain = evidence.placed
        else:
            certain = evidence.plain and isinstance(document, Mapping)
        # Where there is no `_id`, or an empty timestamp, the server puts in its own.
        if not certain or "_id" not in document or document["_id"] == _EMPTY_TIMESTAMP:
            return Effect("insert", namespace)
        ids = _union(ids, known_ids(document["_id"], simple=True))
        if copies is not None:
            copy = _inserted(document)
            if copy is None:
                copies = None
            else:
                copies.append(copy)
    return Effect(
        "insert", namespace, _frozen(ids), None, None if copies is None else tuple(copies)
    )


_EMPTY_TIMESTAMP = Timestamp(0, 0)


def _inserted(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A private copy of a document as it will be stored; None where that is not certain."""
    if Timestamp in map(type, document.values()) and any(
        type(value) is Timestamp and value == _EMPTY_TIMESTAMP for value in document.values()
    ):
        return None
    if type(document) is Private:
        return document
    try:
        copy: Mapping[str, Any] = snapshot(document)
    except TypeError:
        return None
    return copy


def _namespace(database: str, collection: Any) -> str:
    if not isinstance(collection, str) or not collection:
        raise TypeError("a collection's name is a string")
    return f"{database}.{collection}"


def _whole(database: str, collection: Any) -> Effect:
    """Anything in a collection, its facts included; a system collection concerns its database."""
    namespace = _namespace(database, collection)
    if collection.startswith("system."):
        return Effect("database", database)
    return Effect("namespace", namespace)


def _collected(database: str, collection: Any, writes: _Writes, evidence: Evidence) -> Effects:
    if collection.startswith("system."):
        return (Effect("database", database),)
    return tuple(writes.effects(evidence))


def _is_simple(statement: Mapping[str, Any]) -> bool:
    return statement.get("collation") is None


def _insert(database: str, command: Mapping[str, Any], evidence: Evidence) -> Effects:
    collection = command["insert"]
    documents = command["documents"]
    if len(documents) == 1:
        effect = lone_insert(database, collection, documents[0], evidence)
        if effect is not None:
            return (effect,)
    writes = _Writes(_namespace(database, collection))
    for document in documents:
        writes.insert(document)
    return _collected(database, collection, writes, evidence)


def _update(database: str, command: Mapping[str, Any], evidence: Evidence) -> Effects:
    collection = command["update"]
    if len(command["updates"]) == 1:
        effect = lone_update(database, collection, command["updates"][0], evidence)
        if effect is not None:
            return (effect,)
    namespace = _namespace(database, collection)
    if not evidence.placed:
        return (_anything_in(database, collection),)
    writes = _Writes(namespace)
    for statement in command["updates"]:
        simple = _is_simple(statement)
        writes.update(statement["q"], statement["u"], evidence, simple=simple)
        if statement.get("upsert"):
            writes.upsert(statement["q"], statement["u"], evidence, simple=simple)
    return _collected(database, collection, writes, evidence)


def _delete(database: str, command: Mapping[str, Any], evidence: Evidence) -> Effects:
    collection = command["delete"]
    if len(command["deletes"]) == 1:
        effect = lone_delete(database, collection, command["deletes"][0], evidence)
        if effect is not None:
            return (effect,)
    writes = _Writes(_namespace(database, collection))
    for statement in command["deletes"]:
        writes.delete(statement["q"], evidence, simple=_is_simple(statement))
    return _collected(database, collection, writes, evidence)


def _find_and_modify(database: str, command: Mapping[str, Any], evidence: Evidence) -> Effects:
    collection = command.get("findAndModify", command.get("findandmodify"))
    writes = _Writes(_namespace(database, collection))
    if not evidence.placed:
        return (_anything_in(database, collection),)
    filter, simple = command.get("query", {}), _is_simple(command)
    if command.get("remove"):
        writes.delete(filter, evidence, simple=simple)
    else:
        writes.update(filter, command["update"], evidence, simple=simple)
        if command.get("upsert"):
            writes.upsert(filter, command["update"], evidence, simple=simple)
    return _collected(database, collection, writes, evidence)


def _bulk_write(_database: str, command: Mapping[str, Any], evidence: Evidence) -> Effects:
    names = [info["ns"].split(".", 1) for info in command["nsInfo"]]
    if not evidence.placed:
        return tuple(_anything_in(database, collection) for database, collection in names)
    writes = [_Writes(_namespace(database, collection)) for database, collection in names]
    for operation in command["ops"]:
        kind = next(iter(operation))
        target, simple = writes[operation[kind]], _is_simple(operation)
        if kind == "insert":
            target.insert(operation["document"])
        elif kind == "update":
            target.update(operation["filter"], operation["updateMods"], evidence, simple=simple)
            if operation.get("upsert"):
                target.upsert(operation["filter"], operation["updateMods"], evidence, simple=simple)
        elif kind == "delete":
            target.delete(operation["filter"], evidence, simple=simple)
        else:
            return _ALL
    return tuple(
        effect
        for (database, collection), target in zip(names, writes, strict=True)
        for effect in _collected(database, collection, target, evidence)
    )


def _anything_in(database: str, collection: str) -> Effect:
    """Any document of a collection may be new, changed or gone; its facts stay."""
    if collection.startswith("system."):
        return Effect("database", database)
    return Effect("insert", _namespace(database, collection))


def _aggregate(database: str, command: Mapping[str, Any], evidence: Evidence) -> Effects:
    effects: list[Effect] = []
    for stage in command["pipeline"]:
        for name in ("$out", "$merge"):
            if name in stage:
                certain = evidence.of(stage)
                if certain is None:
                    return _ALL
                target = readable(certain[name])
                if name == "$merge" and isinstance(target, Mapping):
                    target = readable(target["into"])
                effects.append(_target(database, target))
    return tuple(effects)


def _target(database: str, target: Any) -> Effect:
    if isinstance(target, Mapping):
        return _whole(target.get("db", database), target["coll"])
    return _whole(database, target)


def _map_reduce(database: str, command: Mapping[str, Any], evidence: Evidence) -> Effects:
    out = command["out"]
    if isinstance(out, str):
        return (_whole(database, out),)
    out = evidence.of(out)
    if out is None:
        return _ALL
    if "inline" in out:
        return NO_EFFECTS
    for action in ("replace", "merge", "reduce"):
        if action in out:
            return (_whole(out.get("db", database), out[action]),)
    return _ALL


def _of_collection(database: str, command: Mapping[str, Any], _evidence: Evidence) -> Effects:
    """Commands whose first field names the collection they change as a whole."""
    return (_whole(database, command[next(iter(command))]),)


def _clone_as_capped(database: str, command: Mapping[str, Any], _evidence: Evidence) -> Effects:
    source = command["cloneCollectionAsCapped"]
    return (_whole(database, source), _whole(database, command["toCollection"]))


def _rename(_database: str, command: Mapping[str, Any], _evidence: Evidence) -> Effects:
    source, target = command["renameCollection"], command["to"]
    return (_whole(*source.split(".", 1)), _whole(*target.split(".", 1)))


def _drop_database(database: str, _command: Mapping[str, Any], _evidence: Evidence) -> Effects:
    return (Effect("database", database),)


_WRITERS: dict[str, Callable[[str, Mapping[str, Any], Evidence], Effects]] = {
    "aggregate": _aggregate,
    "bulkWrite": _bulk_write,
    "cloneCollectionAsCapped": _clone_as_capped,
    "collMod": _of_collection,
    "compact": _of_collection,
    "convertToCapped": _of_collection,
    "create": _of_collection,
    "createIndexes": _of_collection,
    "createSearchIndexes": _of_collection,
    "delete": _delete,
    "deleteIndexes": _of_collection,
    "drop": _of_collection,
    "dropDatabase": _drop_database,
    "dropIndexes": _of_collection,
    "dropSearchIndex": _of_collection,
    "findAndModify": _find_and_modify,
    "findandmodify": _find_and_modify,
    "insert": _insert,
    "mapReduce": _map_reduce,
    "mapreduce": _map_reduce,
    "reIndex": _of_collection,
    "renameCollection": _rename,
    "update": _update,
    "updateSearchIndex": _of_collection,
    "validate": _of_collection,
}
