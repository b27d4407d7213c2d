"""What a caller may be told, by what the server did.

A mirror of the server executes every statement at the instant the server does, each as the single
command that the plain driver would have sent. So the server's order is the serial order, and the
mirror's answers are what the callers' single calls would have given in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .operations import Operation
from .server import FakeServer, tag_of

__all__ = ["Oracle", "Violation", "single_answer"]


class Violation(AssertionError):
    """A caller was told what it must not be told, or an operation was applied twice."""


class Oracle:
    """Follows a server's history and judges outcomes."""

    def __init__(self) -> None:
        self._mirror = FakeServer()
        # By tag: what each execution of the operation gave as a single call, in order.
        self._answers: dict[int, list[Mapping[str, Any]]] = {}
        self._changes: dict[int, int] = {}
        self.judged = 0

    def executed(self, statement: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """The server executed a statement."""
        tag = tag_of(statement)
        answer = single_answer(self._mirror, statement)
        self._answers.setdefault(tag, []).append(answer)
        changes = bool(result.get("wrote") or result.get("nModified") or result.get("upserted"))
        count = self._changes[tag] = self._changes.get(tag, 0) + changes
        if count > 1:
            raise Violation(f"operation {tag} was applied {count} times")

    def done(self, operation: Operation, document: Mapping[str, Any] | None) -> None:
        """Its caller got a result; document is None for an insert."""
        answer = self._last(operation, "a result")
        if "writeErrors" in answer or (document is not None and dict(document) != answer):
            raise Violation(f"{operation}: given {document}, alone {answer}")

    def failed(self, operation: Operation, error: Mapping[str, Any]) -> None:
        """Its caller got a write error."""
        answer = self._last(operation, "a write error")
        if answer.get("writeErrors") != [dict(error)]:
            raise Violation(f"{operation}: given {dict(error)}, alone {answer}")

    def not_applied(self, operation: Operation, why: str) -> None:
        """Its caller was told that it surely was not, or it is going to be sent (again)."""
        if self._changes.get(operation.number):
            raise Violation(f"{operation}: {why}, but it was applied")

    def unknown(self, operation: Operation) -> None:
        """Its caller was told nothing certain: at most once, which `executed` sees to."""
        self.judged += 1

    def _last(self, operation: Operation, what: str) -> Mapping[str, Any]:
        self.judged += 1
        answers = self._answers.get(operation.number)
        if not answers:
            raise Violation(f"{operation}: {what}, but it was never executed")
        return answers[-1]


def single_answer(server: FakeServer, statement: Mapping[str, Any]) -> dict[str, Any]:
    """What the driver makes of a single command's reply: see PyMongo's Collection._update."""
    if statement["kind"] == "insert":
        return server.run({"insert": "c", "documents": [statement["document"]]})
    if statement["kind"] == "delete":
        reply = server.run({"delete": "c", "deletes": [{"q": statement["filter"], "limit": 1}]})
        return reply if "writeErrors" in reply else {"n": reply["n"], "ok": 1.0}
    update = {
        "q": statement["filter"],
        "u": statement["update"],
        "upsert": statement.get("upsert", False),
    }
    reply = server.run({"update": "c", "updates": [update]})
    if "writeErrors" in reply:
        return reply
    answer: dict[str, Any] = {"n": reply["n"], "nModified": reply["nModified"], "ok": 1.0}
    if "upserted" in reply:
        answer["upserted"] = reply["upserted"][0]["_id"]
    answer["updatedExisting"] = bool(reply["n"]) and "upserted" not in reply
    return answer
