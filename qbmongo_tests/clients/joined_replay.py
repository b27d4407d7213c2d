"""Random concurrent writes, and a serial replay of them as single calls that must explain them.

A change stream tells the order of the writes that changed something. A second collection is written
by single calls of the plain driver in that order; each must give what its caller was given. A write
that changed nothing has no event: it is made where a model of the server (which is then held to the
real one's answer) says that it gives what its caller was given, at some place of its round.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pymongo.errors
from pymongo import MongoClient
from pymongo.results import DeleteResult, InsertOneResult, UpdateResult

from qbmongo_tests.clients.callers import awaited
from qbmongo_tests.clients.joined import outcome_of
from qbmongo_tests.core.joining.operations import Operation, any_operation
from qbmongo_tests.core.joining.server import FakeServer
from qbmongo_tests.parity.equality import Comparison, Mismatch

__all__ = ["Checked", "Replay", "Round", "make_round", "prepare"]

_VALIDATOR = {"$or": [{"v": {"$exists": False}}, {"v": {"$lte": 10}}]}


@dataclass(frozen=True)
class Round:
    """Writes made at the same time, and what each caller was given."""

    operations: Sequence[Operation]
    outcomes: Sequence[Any]


@dataclass
class Checked:
    """How much was compared."""

    operations: int = 0
    changed: int = 0
    failed: int = 0
    unsent: int = 0
    contended: int = 0
    unknown: int = 0


def prepare(database: Any) -> None:
    """The collection "c", by a plain synchronous client."""
    database.create_collection("c", validator=_VALIDATOR)
    database.c.create_index("u", unique=True, sparse=True)


def make_round(
    rng: random.Random, first: int, count: int, ids: int, only: Any = None
) -> list[Operation]:
    """So many random writes, numbered from `first`; see any_operation."""

    def below(n: int) -> int:
        return int(rng.random() * n)

    return [any_operation(below, first + at, ids=ids, only=only) for at in range(count)]


def is_change(outcome: Any) -> bool:
    """Whether a write has an event."""
    if isinstance(outcome, InsertOneResult):
        return True
    if isinstance(outcome, UpdateResult):
        return bool(outcome.modified_count or outcome.did_upsert)
    return isinstance(outcome, DeleteResult) and outcome.deleted_count == 1


@dataclass
class Replay:
    """The plain driver's side.

    client: a plain synchronous client; names: the databases of ours and of the replay.
    """

    client: MongoClient[dict[str, Any]]
    names: tuple[str, str]
    checked: Checked = field(default_factory=Checked)

    def __post_init__(self) -> None:
        self._ours = self.client[self.names[0]]
        self._plain = self.client[self.names[1]].c
        self._model = FakeServer()
        self._same = Comparison((self.names[1], self.names[0]), frozenset())
        self._stream = self._ours.watch()

    def close(self) -> None:
        """Closes the change stream."""
        self._stream.close()

    def check(self, made: Round) -> None:
        """Holds a round against the replay. Raises AssertionError."""
        events = self._events()
        waiting: dict[Any, list[int]] = defaultdict(list)
        changed: dict[int, int] = {}
        deleted: dict[Any, list[int]] = defaultdict(list)
        for at, (operation, outcome) in enumerate(zip(made.operations, made.outcomes, strict=True)):
            if _is_unknown(outcome):
                self.checked.unknown += 1
                changed[operation.number] = at
            elif is_change(outcome):
                if operation.kind == "delete_one":
                    deleted[operation.identity].append(at)
                else:
                    changed[operation.number] = at
            else:
                waiting[operation.identity].append(at)
        self._place(made, waiting, list(waiting))
        for event in events:
            identity = event["documentKey"]["_id"]
            if event["operationType"] == "delete":
                at = deleted[identity].pop()
            else:
                at = changed.pop(_tag(event))
            self._make(made, at)
            self._model.apply(made.operations[at].statement())
            # Another document's unique value may have been set free or taken.
            self._place(made, waiting, list(waiting))
        left = []
        for at in [at for ats in waiting.values() for at in ats]:
            if self._contended(made.operations[at], made.outcomes[at]):
                self.checked.contended += 1
            else:
                left.append(made.operations[at])
        assert not left, f"no place in the order explains {[(o, _of(made, o)) for o in left]}"
        changed = {n: at for n, at in changed.items() if not _is_unknown(made.outcomes[at])}
        assert not changed, f"acknowledged, and no event: {changed}"
        assert not any(deleted.values()), f"acknowledged, and no event: {dict(deleted)}"
        self._compare_collections()

    def _events(self) -> list[Any]:
        """What the change stream shows up to now."""
        self._ours.marks.insert_one({})
        events = []
        for event in self._stream:
            if event["ns"]["coll"] == "marks":
                return events
            if event["operationType"] in ("insert", "update", "replace", "delete"):
                events.append(event)
        raise AssertionError("the change stream ended")

    def _place(self, made: Round, waiting: dict[Any, list[int]], identities: list[Any]) -> None:
        """Makes those writes without an event that may have been made at this place."""
        for identity in identities:
            still = []
            for at in waiting[identity]:
                if self._fits(made, at):
                    self._make(made, at)
                else:
                    still.append(at)
            if still:
                waiting[identity] = still
            else:
                del waiting[identity]

    def _fits(self, made: Round, at: int) -> bool:
        operation, outcome = made.operations[at], made.outcomes[at]
        if operation.invalid:
            self.checked.unsent += 1
            return True
        result = self._model.look(operation.statement())
        if isinstance(outcome, pymongo.errors.WriteError):
            same = result.get("code") == outcome.code
            known = result.get("keyValue") == (outcome.details or {}).get("keyValue")
            return same and known
        if "code" in result:
            return False
        if isinstance(outcome, UpdateResult):
            return (result["n"], result.get("nModified")) == (outcome.matched_count, 0) and (
                "upserted" not in result
            )
        return isinstance(outcome, DeleteResult) and result["n"] == 0

    @staticmethod
    def _contended(operation: Operation, outcome: Any) -> bool:
        """Whether the server refused a unique value, for the sake of a write at the same time.

        Servers other than MongoDB do that although the other one fails or its document goes, to
        single calls as well, and may report it as the command's failure ("ok": 0). No order of the
        calls explains it; how often it may happen is limited.
        """
        if not isinstance(outcome, pymongo.errors.DuplicateKeyError):
            return False
        value = operation.document.get("$set", operation.document).get("u")
        return value is not None and (outcome.details or {}).get("keyValue") == {"u": value}

    def _make(self, made: Round, at: int) -> None:
        """The single call; it must give what the caller was given."""
        operation = made.operations[at]
        try:
            expected: Any = operation.call(self._plain)
        except Exception as error:
            expected = error
        self.checked.operations += 1
        self.checked.changed += is_change(expected)
        self.checked.failed += isinstance(expected, Exception)
        if _is_unknown(made.outcomes[at]):
            return
        if (
            self._contended(made.operations[at], made.outcomes[at])
            and "ok" in made.outcomes[at].details
        ):
            assert type(expected) is type(made.outcomes[at])
            self.checked.contended += 1
            return
        try:
            self._same.check(expected, made.outcomes[at], str(operation))
        except Mismatch as mismatch:
            raise AssertionError(str(mismatch)) from mismatch

    def _compare_collections(self) -> None:
        ours, plain = [
            sorted(c.find(), key=lambda d: d["_id"]) for c in (self._ours.c, self._plain)
        ]
        assert ours == plain


def _of(made: Round, operation: Operation) -> Any:
    return made.outcomes[made.operations.index(operation)]


def _is_unknown(outcome: Any) -> bool:
    """Whether its caller was told that nobody knows what became of it."""
    return isinstance(outcome, pymongo.errors.ConnectionFailure)


def _tag(event: Any) -> int:
    if event["operationType"] == "update":
        return int(event["updateDescription"]["updatedFields"]["tag"])
    return int(event["fullDocument"]["tag"])


async def played(
    site: Any, collection: Any, operations: Sequence[Operation], pool: ThreadPoolExecutor | None
) -> list[Any]:
    """Makes the calls at the same time: tasks, or threads of a pool."""
    if pool is None:
        import asyncio

        calls = [awaited(lambda o=o: outcome_of(o.call, collection)) for o in operations]  # type: ignore[misc]
        return list(await asyncio.gather(*calls))

    def call(operation: Operation) -> Any:
        return site.run(outcome_of(operation.call, collection))

    return list(pool.map(call, operations))
