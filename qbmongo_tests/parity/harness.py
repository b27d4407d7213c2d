"""The state machine that drives the plain driver and ours with the same operations.

Both arms work on one server, each in a database of its own. After each call the outcomes must be
equal (see equality.py), after each example the databases must be.

Another client may write in between (`interfere`): a plain client applies the same writes to both
databases, and the machine waits until our client has caught up before it goes on.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import bson
import hypothesis
from bson import CodecOptions, ObjectId
from bson.raw_bson import RawBSONDocument
from hypothesis import HealthCheck, Phase
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from pymongo import MongoClient, WriteConcern

from qbmongo_tests.parity import programs
from qbmongo_tests.parity import values as v
from qbmongo_tests.parity.drivers import Driver, Sync, caught_up
from qbmongo_tests.parity.equality import Comparison, Mismatch
from qbmongo_tests.parity.interpreter import Arm, Missing, Outcome, reproducible
from qbmongo_tests.parity.operations import COLLECTIONS, Call, Step
from qbmongo_tests.parity.programs import Beginning

STEPS_PER_EXAMPLE = 60


@dataclass
class Report:
    """How much was compared: steps, and calls by receiver and method.

    rewritten: what our client's own statistics say of rewriting, at the end.
    """

    steps: int = 0
    examples: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    rewritten: Any = None


class Pair:
    """The two arms, a third client that writes to both databases, and the report."""

    def __init__(
        self, driver: Driver, plain: Any, ours: Any, uri: str, *, watched: bool = True
    ) -> None:
        """ours may be a second plain client: then `watched` is False and nothing is waited for."""
        suffix = f"{driver.name}_{os.getpid()}"
        self.driver = driver
        self.plain = Arm(driver, plain, f"qbmongo_parity_{suffix}_a")
        self.ours = Arm(driver, ours, f"qbmongo_parity_{suffix}_b")
        self.report = Report()
        self.watched = watched
        self._other: MongoClient[Any] = MongoClient(uri)
        sync = Sync()
        self._others = [Arm(sync, self._other, arm.database_name) for arm in self.arms]
        self._comparison = self._new_comparison()

    @property
    def arms(self) -> tuple[Arm, Arm]:
        return self.plain, self.ours

    def close(self) -> None:
        for arm in self.arms:
            self._other.drop_database(arm.database_name)
            self.driver.close(arm.client)
        self._other.close()

    def begin(self, beginning: Beginning) -> None:
        """Empty both databases and fill them alike, by the other client."""
        self._comparison = self._new_comparison()
        for arm, other in zip(self.arms, self._others, strict=True):
            arm.forget()
            other.forget()
            database = self._other[arm.database_name]
            # Again where a reader was faster: secantusd-rs then leaves an empty collection behind.
            while names := database.list_collection_names():
                for name in names:
                    database.drop_collection(name)
            if beginning.creation is not None:
                database.create_collection("c0", **beginning.creation)
        for call in beginning.calls:
            self._both(call, self._others[0], self._others[1], None)
        self.report.examples += 1
        self.settle()

    def step(self, step: Step) -> None:
        """Make the calls of the step on both arms and compare after each."""
        self.report.steps += 1
        try:
            for call in step:
                self._both(call, self.plain, self.ours, self.report)
                if call.options == "unacknowledged":
                    self.settle()
        finally:
            self.plain.release()
            self.ours.release()

    def interfere(self, step: Step) -> None:
        """Another client writes the same to both databases."""
        for call in step:
            self._both(call, self._others[0], self._others[1], None)
        for other in self._others:
            other.release()
        self.settle()

    def settle(self) -> None:
        """Before anything is compared after another's write: our client must have seen it."""
        if self.watched:
            self.driver.run(caught_up(self.ours.client))

    def documents(self, arm: Arm) -> list[Any]:
        """What is in an arm's collection "c0", by the other client, as it is stored."""
        return list(self._stored(arm).find())

    def restore(self, arm: Arm, documents: list[Any]) -> None:
        """Puts that back."""
        collection = self._stored(arm)
        collection.delete_many({})
        if documents:
            collection.with_options(write_concern=WriteConcern(1)).insert_many(
                documents, bypass_document_validation=True
            )

    def _stored(self, arm: Arm) -> Any:
        database = self._other[arm.database_name]
        return database.get_collection("c0", codec_options=CodecOptions(RawBSONDocument))

    def compare_group(self, plain: list[Outcome], ours: list[Outcome], content: list[Any]) -> None:
        """Outcomes of calls made at the same time by ours, and the collection afterwards.

        plain: of the calls in some order. content: the documents of ours. Learns which ids that
        driver and server made up belong together only where all is equal.
        """
        comparison = self._comparison.copy()
        for one, other in zip(plain, ours, strict=True):
            _check(comparison.check, one, other, "")
        documents = self.documents(self.plain)
        # Which of those inserted at the same time comes first is nobody's promise.
        comparison.check(_ordered(documents), _ordered(content), "documents")
        self._comparison = comparison

    def compare_databases(self) -> None:
        """Equal collections, options, indexes and documents in their natural order."""
        contents = [self._content(arm.database_name) for arm in self.arms]
        self._comparison.check(contents[0], contents[1], "database")

    def _new_comparison(self) -> Comparison:
        return Comparison(
            (self.plain.database_name, self.ours.database_name), frozenset(v.OBJECT_IDS)
        )

    def _both(self, call: Call, first: Arm, second: Arm, report: Report | None) -> None:
        try:
            plain = first.run(call)
        except Missing:
            return
        ours = second.run(call)
        if report is not None:
            kind = _kind(call)
            report.calls[kind] += 1
            if plain.error is not None:
                report.errors[kind] += 1
        self._compare(call, plain, ours, first, second)

    def _compare(self, call: Call, plain: Outcome, ours: Outcome, one: Arm, other: Arm) -> None:
        check = self._comparison.check
        try:
            check(len(one.inner), len(other.inner), "calls inside")
            for at, (inner, another) in enumerate(zip(one.inner, other.inner, strict=True)):
                _check(check, inner, another, f"call {at} inside")
            if call.opaque and plain.error is None and ours.error is None:
                check(type(plain.value).__name__, type(ours.value).__name__, "type of the result")
            else:
                _check(check, plain, ours, "")
        except Mismatch as mismatch:
            raise Mismatch(f"{call!r}\n    {mismatch}") from (ours.error or plain.error)

    def _content(self, name: str) -> dict[str, Any]:
        database = self._other[name]
        content: dict[str, Any] = {}
        for info in sorted(database.list_collections(), key=lambda info: str(info["name"])):
            if info["name"].startswith("tmp.agg_out."):
                continue  # The server's own, of an $out that failed; gone when it gets round to it.
            collection = database[info["name"]]
            is_view = info.get("type") == "view"
            content[info["name"]] = {
                "options": info.get("options"),
                "documents": [] if is_view else list(collection.find()),
                "indexes": {} if is_view else collection.index_information(),
            }
        return content


def _ordered(documents: list[Any]) -> list[Any]:
    return sorted(documents, key=lambda document: _without_new_ids(document.raw))


def _without_new_ids(raw: bytes) -> bytes:
    """A document's bytes with the `_id` left out where it was made up in the test."""
    document = bson.decode(raw)
    identity = document.get("_id")
    if type(identity) is ObjectId and identity not in v.OBJECT_IDS:
        return bytes(bson.encode({**document, "_id": None}))
    return raw


def _check(check: Callable[[Any, Any, str], None], plain: Outcome, ours: Outcome, at: str) -> None:
    if (plain.error is None) != (ours.error is None):
        raise Mismatch(
            f"{at} plain: {_told(plain)}\n    ours:  {_told(ours)}",
        )
    if plain.error is not None:
        check(plain.error, ours.error, f"{at} exception")
    else:
        check(plain.value, ours.value, f"{at} result")
    check(plain.answer, ours.answer, f"{at} awaitable")
    check(plain.arguments, ours.arguments, f"{at} arguments afterwards")


def _told(outcome: Outcome) -> str:
    if outcome.error is not None:
        return f"raised {outcome.error!r}"
    return f"returned {outcome.value!r}"


def _kind(call: Call) -> str:
    receiver = "collection" if call.receiver in COLLECTIONS else call.receiver.lstrip("$")
    return f"{receiver}.{call.method}"


def machine(pair: Pair, *, interference: bool) -> type[RuleBasedStateMachine]:
    """A state machine over the pair; with interference another client writes between steps."""

    class Parity(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self._failed = False

        @initialize(beginning=programs.beginnings())
        def begin(self, beginning: Beginning) -> None:
            pair.begin(beginning)

        def _do(self, action: Callable[[Step], None], step: Step) -> None:
            try:
                action(step)
            except BaseException:
                self._failed = True
                raise

        def teardown(self) -> None:
            if not self._failed:
                pair.compare_databases()

    def ruled(family: str, action: Callable[[Step], None]) -> Any:
        def run(self: Any, step: Step) -> None:
            self._do(action, step)

        return rule(step=programs.steps(family))(run)

    members = {
        f"{family}_{number}": ruled(family, pair.step)
        for family, weight in programs.WEIGHTS.items()
        for number in range(weight)
    }
    if interference:
        members["interfere"] = ruled("write", pair.interfere)
    return type("Parity", (Parity,), members)


def run_parity(
    pair: Pair, steps: int, *, seed: int = 0, interference: bool = False, shrink: bool = True
) -> Report:
    """Run at least `steps` steps; raises Mismatch (after shrinking) on the first difference."""
    report = pair.report
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    with reproducible():
        while report.steps < steps:
            cls = hypothesis.seed(seed + report.examples)(machine(pair, interference=interference))
            missing = steps - report.steps
            run_state_machine_as_test(
                cls,
                settings=hypothesis.settings(
                    max_examples=max(1, missing // STEPS_PER_EXAMPLE),
                    stateful_step_count=STEPS_PER_EXAMPLE,
                    deadline=None,
                    database=None,
                    derandomize=False,
                    print_blob=False,
                    report_multiple_bugs=False,
                    phases=phases,
                    suppress_health_check=list(HealthCheck),
                ),
            )
    return report
