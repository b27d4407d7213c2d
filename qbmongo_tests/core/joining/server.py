"""A replica set's primary for writes: documents, a unique index, retryable writes, its versions.

It executes commands as they are on the wire, one statement at a time, and tells a follower what
each did. Every statement bears a tag of its own (the operation's number), so that the follower
knows how often an operation was applied, and to what effect.

Source: https://www.mongodb.com/docs/manual/reference/command/bulkWrite/ and .../insert/,
.../update/, .../delete/; the driver specification "Retryable Writes".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["NAMESPACE", "FakeServer", "Refused", "tag_of"]

NAMESPACE = "d.c"
# Field names: the operation's tag, a counter, the unique field, a validated one.
_TAG, _COUNT, _UNIQUE, _VALID = "tag", "n", "u", "v"
_MOST_VALID = 10
_TYPE_MISMATCH = 14


class Refused(Exception):
    """The server refuses a whole command before it executes anything of it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.reply = {"ok": 0, "code": code, "errmsg": message}


@dataclass(slots=True)
class FakeServer:
    """The data outlives a change of primary; what the new one understands need not.

    has_bulk_write: a member of this version and feature compatibility takes bulkWrite.
    refusal: refuse every write command with this code, as a server does to a revoked role.
    follow: told of each statement that is executed, with its result.
    """

    documents: dict[Any, dict[str, Any]] = field(default_factory=dict)
    commands: list[tuple[str, int]] = field(default_factory=list)
    has_bulk_write: bool = True
    refusal: int | None = None
    follow: Callable[[Mapping[str, Any], Mapping[str, Any]], None] | None = None
    _retryable: dict[Any, list[dict[str, Any]]] = field(default_factory=dict)

    def execute(self, command: Mapping[str, Any], session: Any = None) -> Iterator[Any | None]:
        """Executes a command, a statement at each step; the last thing yielded is the reply.

        session: (lsid, txnNumber) of a retryable write. Raises Refused.
        """
        name = next(iter(command))
        statements = _statements(command)
        self.commands.append((name, len(statements)))
        if self.refusal is not None:
            raise Refused(self.refusal, "refused")
        if name == "bulkWrite" and not self.has_bulk_write:
            raise Refused(59, "no such command: 'bulkWrite'")
        known = self._retryable.setdefault(session, []) if session is not None else []
        for at, statement in enumerate(statements):
            if at >= len(known):
                result = self.apply(statement)
                known.append(result)
                if self.follow is not None:
                    self.follow(statement, result)
                yield None
        yield _REPLIES[name](known)

    def run(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Executes a command at once. Raises Refused."""
        *_, reply = self.execute(command)
        assert isinstance(reply, dict)
        return reply

    def look(self, statement: Mapping[str, Any]) -> dict[str, Any]:
        """What a statement would give now."""
        documents = dict(self.documents)
        try:
            return self.apply(statement)
        finally:
            self.documents = documents

    def apply(self, statement: Mapping[str, Any]) -> dict[str, Any]:
        """Executes one statement."""
        kind = statement["kind"]
        if kind == "insert":
            result = self._insert(statement["document"])
        elif kind == "delete":
            result = self._delete(statement["filter"])
        else:
            result = self._update(statement)
        return result

    def _insert(self, document: Mapping[str, Any]) -> dict[str, Any]:
        error = _not_valid(document)
        if error is None and document["_id"] in self.documents:
            error = _duplicate("_id", document["_id"])
        error = error or self._taken(document)
        if error is not None:
            return error
        self.documents[document["_id"]] = dict(document)
        return {"n": 1, "wrote": True}

    def _delete(self, filter: Mapping[str, Any]) -> dict[str, Any]:
        gone = self.documents.pop(filter["_id"], None)
        return {"n": 0} if gone is None else {"n": 1, "wrote": True}

    def _update(self, statement: Mapping[str, Any]) -> dict[str, Any]:
        identity, update = statement["filter"]["_id"], statement["update"]
        document = self.documents.get(identity)
        if document is None and not statement.get("upsert"):
            return {"n": 0, "nModified": 0}
        changed = {"_id": identity} if document is None else dict(document)
        if any(name[0] == "$" for name in update):
            changed |= update.get("$set", {})
            for name, amount in update.get("$inc", {}).items():
                value = changed.get(name, 0)
                if isinstance(value, str):
                    return {
                        "n": 0,
                        "code": _TYPE_MISMATCH,
                        "errmsg": f"cannot $inc {name} of {identity}",
                    }
                changed[name] = value + amount
        else:
            changed = {"_id": identity, **update}
        error = _not_valid(changed) or self._taken(changed)
        if error is not None:
            return error
        self.documents[identity] = changed
        if document is None:
            return {"n": 1, "nModified": 0, "upserted": {"_id": identity}}
        return {"n": 1, "nModified": int(changed != document)}

    def _taken(self, document: Mapping[str, Any]) -> dict[str, Any] | None:
        unique = document.get(_UNIQUE)
        if unique is not None:
            for other in self.documents.values():
                if other.get(_UNIQUE) == unique and other["_id"] != document["_id"]:
                    return _duplicate(_UNIQUE, unique)
        return None


def _not_valid(document: Mapping[str, Any]) -> dict[str, Any] | None:
    value = document.get(_VALID, 0)
    if value <= _MOST_VALID:
        return None
    info = {"failingDocumentId": document["_id"], "details": {"v": value}}
    return {"n": 0, "code": 121, "errmsg": "Document failed validation", "errInfo": info}


def _duplicate(name: str, value: Any) -> dict[str, Any]:
    return {
        "n": 0,
        "code": 11000,
        "errmsg": f"E11000 duplicate key error dup key: {{ {name}: {value} }}",
        "keyPattern": {name: 1},
        "keyValue": {name: value},
    }


def tag_of(statement: Mapping[str, Any]) -> int:
    """The operation a statement belongs to."""
    if statement["kind"] == "insert":
        return int(statement["document"][_TAG])
    if statement["kind"] == "delete":
        return int(statement["filter"][_TAG]["$ne"])
    update = statement["update"]
    if "$max" in update:
        return -1 - int(update["$max"][_TAG])
    return int(update.get("$set", update)[_TAG])


def _statements(command: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A command's statements, in one form."""
    if "bulkWrite" in command:
        return [_statement(op) for op in command["ops"]]
    if "insert" in command:
        return [{"kind": "insert", "document": d} for d in command["documents"]]
    if "delete" in command:
        return [{"kind": "delete", "filter": d["q"]} for d in command["deletes"]]
    return [
        {"kind": "update", "filter": u["q"], "update": u["u"], "upsert": u.get("upsert", False)}
        for u in command["updates"]
    ]


def _statement(op: Mapping[str, Any]) -> dict[str, Any]:
    if "update" in op:
        update = {"filter": op["filter"], "update": op["updateMods"]}
        return {"kind": "update", **update, "upsert": op.get("upsert", False)}
    if "delete" in op:
        return {"kind": "delete", "filter": op["filter"]}
    return {"kind": "insert", "document": op["document"]}


def _error(result: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in result.items() if k not in ("n", "nModified", "wrote")}


def _command_reply(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of insert, update and delete."""
    reply: dict[str, Any] = {"ok": 1, "n": sum(r["n"] for r in results)}
    if any("nModified" in r for r in results):
        reply["nModified"] = sum(r.get("nModified", 0) for r in results)
    upserted = [{"index": at, **r["upserted"]} for at, r in enumerate(results) if "upserted" in r]
    errors = [{"index": at, **_error(r)} for at, r in enumerate(results) if "code" in r]
    if upserted:
        reply["upserted"] = upserted
    if errors:
        reply["writeErrors"] = errors
    return reply


def _bulk_reply(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of bulkWrite with errorsOnly: false."""
    shown = []
    for at, result in enumerate(results):
        one = {k: v for k, v in result.items() if k != "wrote"}
        if result.get("code") == _TYPE_MISMATCH:
            # Some errors are worded otherwise in a batch.
            one["errmsg"] += ", in a bulkWrite"
        shown.append({"ok": 0 if "code" in result else 1, "idx": at, **one})
    return {
        "ok": 1,
        "cursor": {"id": 0, "firstBatch": shown, "ns": "admin.$cmd.bulkWrite"},
        "nErrors": sum("code" in r for r in results),
    }


_REPLIES: dict[str, Any] = {
    "insert": _command_reply,
    "update": _command_reply,
    "delete": _command_reply,
    "bulkWrite": _bulk_reply,
}
