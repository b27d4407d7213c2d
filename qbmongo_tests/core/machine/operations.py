"""Writes: the command on the wire, what it does to a state, the events it leaves in the oplog."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .choices import Choices
from .documents import DATABASE, GROUPS, IDS, NUMBERS, Changes, Document, State

__all__ = [
    "Event",
    "Operation",
    "any_operation",
    "dropping",
    "events_of",
    "foreign_operation",
    "unknown_operation",
]

# A change event without its clusterTime.
Event = Mapping[str, Any]
Evaluate = Callable[[State], Changes | None]


class Operation:
    """One write.

    command_name, database, command: as published when it starts.
    evaluate: the documents it changes in a state; None where the server refuses it.
    whole: what it makes of a state and the events it leaves, for writes to a collection as a whole.
    locks: documents it must have to itself, whether it changes them or not.
    is_retryable: the driver gives it a transaction number and sends it again after an error.
    is_definition: it changes what a namespace is.
    """

    __slots__ = (
        "command",
        "command_name",
        "database",
        "evaluate",
        "is_definition",
        "is_replacement",
        "is_retryable",
        "locks",
        "name",
        "whole",
    )

    def __init__(
        self,
        name: str,
        command: Document,
        evaluate: Evaluate | None = None,
        *,
        locks: tuple[tuple[str, int], ...] = (),
        is_retryable: bool = True,
        is_replacement: bool = False,
        is_definition: bool = False,
        whole: Callable[[State], tuple[State, list[Event]]] | None = None,
        database: str = DATABASE,
    ) -> None:
        self.name = name
        self.command_name = next(iter(command))
        self.database = database
        self.command = command
        self.evaluate = evaluate
        self.locks = locks
        self.is_retryable = is_retryable
        self.is_replacement = is_replacement
        self.is_definition = is_definition
        self.whole = whole

    def __repr__(self) -> str:
        return self.name

    def apply(self, state: State) -> State:
        """The state after it; the same where nothing changes."""
        if self.whole is not None:
            return self.whole(state)[0]
        assert self.evaluate is not None
        changes = self.evaluate(state)
        return state.changed(changes) if changes else state


def events_of(state: State, changes: Changes, *, is_replacement: bool) -> list[Event]:
    """The change events of a write to a state, as the watcher's projection leaves them."""
    events: list[Event] = []
    for (name, identity), after in changes.items():
        before = state.docs[name].get(identity)
        event = {"ns": {"db": DATABASE, "coll": name}, "documentKey": {"_id": identity}}
        if before is None:
            events.append({**event, "operationType": "insert"})
        elif after is None:
            events.append({**event, "operationType": "delete"})
        elif is_replacement:
            events.append({**event, "operationType": "replace"})
        else:
            updated = {k: None for k, v in after.items() if before.get(k) != v}
            description = {"updatedFields": updated, "removedFields": [], "truncatedArrays": []}
            events.append({**event, "operationType": "update", "updateDescription": description})
    return events


def _set(collection: str, identity: int, fields: Document, *, upsert: Document | None) -> Evaluate:
    def evaluate(state: State) -> Changes | None:
        if state.is_view and collection == "c":
            return None
        document = state.docs[collection].get(identity)
        if document is None:
            return {} if upsert is None else {(collection, identity): upsert}
        return {(collection, identity): {**document, **fields}}

    return evaluate


def _set_many(field: str, value: int, fields: Document) -> Evaluate:
    def evaluate(state: State) -> Changes | None:
        if state.is_view:
            return None
        found = [d for d in state.docs["c"].values() if d[field] == value]
        return {("c", d["_id"]): {**d, **fields} for d in found}

    return evaluate


def _set_first(group: int, fields: Document) -> Evaluate:
    many = _set_many("g", group, fields)

    def evaluate(state: State) -> Changes | None:
        changes = many(state)
        return dict(sorted(changes.items())[:1]) if changes else changes

    return evaluate


def _delete(field: str, value: int) -> Evaluate:
    def evaluate(state: State) -> Changes | None:
        if state.is_view:
            return None
        return {("c", d["_id"]): None for d in state.docs["c"].values() if d[field] == value}

    return evaluate


def _insert(collection: str, document: Document) -> Evaluate:
    def evaluate(state: State) -> Changes | None:
        if state.is_view and collection == "c":
            return None
        identity = document["_id"]
        return {} if identity in state.docs[collection] else {(collection, identity): document}

    return evaluate


def _replace(document: Document) -> Evaluate:
    def evaluate(state: State) -> Changes | None:
        return None if state.is_view else {("c", document["_id"]): document}

    return evaluate


def _both(first: Evaluate, second: Evaluate) -> Evaluate:
    def evaluate(state: State) -> Changes | None:
        return (first(state) or {}) | (second(state) or {})

    return evaluate


def _update_command(filter: Document, change: Document, **options: Any) -> Document:
    return {"update": "c", "updates": [{"q": filter, "u": change, **options}]}


def _namespace_event(kind: str, collection: str, **more: Any) -> Event:
    return {"operationType": kind, "ns": {"db": DATABASE, "coll": collection}, **more}


def _dropped(state: State) -> tuple[State, list[Event]]:
    return State({**state.docs, "c": {}}), [_namespace_event("drop", "c")]


def _made_view(state: State) -> tuple[State, list[Event]]:
    events = [_namespace_event("drop", "c"), _namespace_event("create", "c")]
    return State({**state.docs, "c": {}}, is_view=True), events


def _modified(state: State) -> tuple[State, list[Event]]:
    return state, [_namespace_event("modify", "c")]


def _copied(state: State) -> tuple[State, list[Event]]:
    docs = {d["_id"]: d for d in state.readable("c")}
    to = {"db": DATABASE, "coll": "o"}
    event = _namespace_event("rename", "tmp", to=to)
    return State({**state.docs, "o": docs}, is_view=state.is_view), [event]


def _by_id(choices: Choices, version: int, kind: int) -> Operation:
    """A write to one document, found by its `_id`."""
    i = choices.below(len(IDS))
    g, n = choices.below(GROUPS), choices.below(NUMBERS)
    whole = {"_id": i, "g": g, "n": n, "v": version}
    fields = ({"v": version}, {"n": n, "v": version}, {"g": g, "v": version}, {"n": n})[kind % 4]
    lock = (("c", i),)
    upsert = None
    if kind < 4:
        command = _update_command({"_id": i}, {"$set": fields})
    elif kind < 6:
        command = {"insert": "c", "documents": [whole]}
        return Operation(f"insert({whole})", command, _insert("c", whole), locks=lock)
    elif kind == 6:
        command = {"delete": "c", "deletes": [{"q": {"_id": i}, "limit": 1}]}
        return Operation(f"delete(_id {i})", command, _delete("_id", i), locks=lock)
    elif kind == 7:
        command = _update_command({"_id": i}, {"g": g, "n": n, "v": version}, upsert=True)
        return Operation(
            f"replace({whole})", command, _replace(whole), locks=lock, is_replacement=True
        )
    else:
        upsert, fields = whole, {"g": g, "n": n, "v": version}
        command = _update_command({"_id": i}, {"$set": fields}, upsert=True)
    return Operation(
        f"update(_id {i}, {fields}{', upsert' if upsert else ''})",
        command,
        _set("c", i, fields, upsert=upsert),
        locks=lock,
    )


def _special(choices: Choices, version: int, kind: int) -> Operation:
    """A write by a filter, to several collections, or by a command that few know."""
    i, g, n = choices.below(len(IDS)), choices.below(GROUPS), choices.below(NUMBERS)
    fields = {"v": version}
    if kind == 0:
        command = _update_command({"g": g}, {"$set": fields}, multi=True)
        name = f"update_many(g {g}, {fields})"
        return Operation(name, command, _set_many("g", g, fields), is_retryable=False)
    if kind == 1:
        command = _update_command({"n": n}, {"$set": {"g": g}}, multi=True)
        name = f"update_many(n {n}, g {g})"
        return Operation(name, command, _set_many("n", n, {"g": g}), is_retryable=False)
    if kind == 2:
        command = {"delete": "c", "deletes": [{"q": {"g": g}, "limit": 0}]}
        return Operation(f"delete_many(g {g})", command, _delete("g", g), is_retryable=False)
    if kind == 3:
        fields = {"n": n, "v": version}
        command = {"findAndModify": "c", "query": {"g": g}, "update": {"$set": fields}}
        command["sort"] = {"_id": 1}
        return Operation(f"find_one_and_update(g {g}, {fields})", command, _set_first(g, fields))
    other = {"_id": i, "g": g, "n": n, "v": version}
    if kind == 4:
        change = {"update": 0, "filter": {"_id": i}, "updateMods": {"$set": fields}}
        insert = {"insert": 1, "document": other}
        names = [{"ns": f"{DATABASE}.c"}, {"ns": f"{DATABASE}.o"}]
        command = {"bulkWrite": 1, "ops": [change, insert], "nsInfo": names}
        evaluate = _both(_set("c", i, fields, upsert=None), _insert("o", other))
        name, locks = f"bulk(_id {i}, {fields}; o {other})", (("c", i), ("o", i))
        return Operation(name, command, evaluate, locks=locks, database="admin")
    if kind == 5:
        return unknown_operation(i, version)
    return foreign_operation(other)


def _definition(choices: Choices, *, is_own: bool) -> Operation:
    """A write to a collection as a whole."""
    kind = choices.below(4)
    if kind == 0:
        return Operation("coll_mod(c)", {"collMod": "c"}, whole=_modified, is_retryable=False)
    if kind == 1:
        pipeline = [{"$match": {}}, {"$out": "o"}]
        command = {"aggregate": "c", "pipeline": pipeline, "cursor": {}}
        return Operation("out(c, o)", command, whole=_copied, is_retryable=False)
    if kind == 2 or is_own:
        return dropping()
    return Operation(
        "view(c)", {"create": "c"}, whole=_made_view, is_retryable=False, is_definition=True
    )


def foreign_operation(document: Document) -> Operation:
    """An upsert into the collection that aggregations look into."""
    i = document["_id"]
    fields = {name: value for name, value in document.items() if name != "_id"}
    change = {"q": {"_id": i}, "u": {"$set": fields}, "upsert": True}
    return Operation(
        f"update(o, _id {i}, {fields})",
        {"update": "o", "updates": [change]},
        _set("o", i, fields, upsert=document),
        locks=(("o", i),),
    )


def unknown_operation(identity: int, version: int) -> Operation:
    """A command that nobody knows, which writes: everything may have changed."""
    command = {"frobnicate": "c", "with": identity}
    fields = {"v": version}
    return Operation(
        f"unknown(_id {identity}, {fields})",
        command,
        _set("c", identity, fields, upsert=None),
        locks=(("c", identity),),
        is_retryable=False,
    )


def dropping() -> Operation:
    """The collection goes, or the view."""
    return Operation(
        "drop(c)", {"drop": "c"}, whole=_dropped, is_retryable=False, is_definition=True
    )


def any_operation(
    choices: Choices, version: int, *, is_own: bool, definitions: bool = True
) -> Operation:
    """A write, mostly to one document.

    Args:
        version: a number that no other write has; it is put into what is written.
        is_own: made by the client itself.
        definitions: also those that change what a namespace is.
    """
    which = choices.below(32)
    if which < 20:
        return _by_id(choices, version, which % 9)
    if which < 31:
        return _special(choices, version, which % 7)
    operation = _definition(choices, is_own=is_own)
    if operation.is_definition and not definitions:
        return _by_id(choices, version, 0)
    return operation
