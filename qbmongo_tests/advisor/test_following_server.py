"""Following the advice: a real workload examines no more than before, and a second advice is empty.

Each run takes a few random workloads; QBMONGO_ADVICE_SEEDS=N in the environment takes N.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure

from qbmongo.advisor.advise import Options, Source, advise
from qbmongo.advisor.index_documents import name_of_index
from qbmongo.advisor.interruption import Stop
from qbmongo.advisor.places import VerifyOn
from qbmongo.advisor.report import Report
from qbmongo.advisor.verify import Effort

from .random_workloads import RandomWorkload, random_workload
from .workloads import CALLS_SEEN, shapes_of

pytestmark = pytest.mark.needs_explain

SEEDS = range(int(os.environ.get("QBMONGO_ADVICE_SEEDS", "4")))
EFFORT = Effort(inserts=50, rounds=1)


def _fill(collection: Collection[Any], workload: RandomWorkload) -> None:
    collection.insert_many([dict(document) for document in workload.documents])
    for number, (keys, options) in enumerate(workload.indexes):
        try:
            collection.create_index(list(keys), name=f"old_{number}", **options)
        except OperationFailure:  # the same index twice
            continue


def _examined(collection: Collection[Any], workload: RandomWorkload) -> int:
    """Documents plus keys of all calls, by the server's own count."""
    total = 0
    for query in workload.queries:
        for number in range(CALLS_SEEN):
            command = {**query.ask(number), "find": collection.name}
            answer = collection.database.command("explain", command, verbosity="executionStats")
            stats: Mapping[str, Any] = answer["executionStats"]
            total += query.calls * (stats["totalKeysExamined"] + stats["totalDocsExamined"])
    return total


def _answers(collection: Collection[Any], workload: RandomWorkload) -> list[Any]:
    """What every query without a limit finds, in no order."""
    found = []
    for query in workload.queries:
        command = query.ask(0)
        if "limit" not in command and "projection" not in command:
            documents = collection.find(command["filter"])
            found.append(sorted(document["_id"] for document in documents))
    return found


def _follow(database: Database[Any], report: Report) -> None:
    """In the order of the report: create, and hide what is replaced."""
    for item in report.recommendations:
        if item.action == "drop":
            database[item.spec.namespace.partition(".")[2]].drop_index(name_of_index(item.spec))
        else:
            exec(item.pymongo, {"client": database.client})


@pytest.fixture
def advised(server_uri: str, database: Database[Any]) -> Callable[[RandomWorkload], Report]:
    """Advice on the test's own database, tried on the same server."""

    def advise_on(workload: RandomWorkload) -> Report:
        sources = [Source("random", shapes_of(workload.queries, database.name))]
        options = Options((database.name,), VerifyOn("here"), effort=EFFORT)
        return advise(lambda **more: MongoClient(server_uri, **more), sources, options, Stop())

    return advise_on


@pytest.mark.parametrize("seed", SEEDS)
def test_following_advice_saves_and_leaves_nothing_to_say(
    seed: int, database: Database[Any], advised: Callable[[RandomWorkload], Report]
) -> None:
    workload = random_workload(seed)
    collection = database["orders"]
    _fill(collection, workload)
    before, answers = _examined(collection, workload), _answers(collection, workload)
    report = advised(workload)
    _follow(database, report)
    assert _examined(collection, workload) <= before
    assert _answers(collection, workload) == answers
    again = advised(workload)
    assert [(r.action, r.spec.keys) for r in again.recommendations] == []
