"""Concurrent joined writes are explained, caller by caller, by a serial replay of single calls.

QBMONGO_JOINED_WRITES sets how many writes each client makes (100,000 in the long run),
QBMONGO_JOINED_SEED which.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import DuplicateKeyError
from pymongo.results import InsertOneResult

from qbmongo_tests.clients.joined import ONE_AT_A_TIME, Joining, coalesced
from qbmongo_tests.clients.joined_replay import Replay, Round, make_round, played, prepare
from qbmongo_tests.clients.sites import Site

WRITES = int(os.environ.get("QBMONGO_JOINED_WRITES", "1500"))
SEED = int(os.environ.get("QBMONGO_JOINED_SEED", "0"))
CALLERS = 250
THREADS = 32
IDS = 40
# One command at a time, so that the server's own answers to writes that race for a unique value
# (see Replay) are few; in the last round of so many inserts race with updates.
ROUNDS = ("insert", "update", "update") * 4 + (None,)


@pytest.fixture
def replay(plain_client: MongoClient[dict[str, Any]], database_name: str) -> Iterator[Replay]:
    names = (database_name, f"{database_name}_p")
    for name in names:
        prepare(plain_client[name])
    made = Replay(plain_client, names)
    yield made
    made.close()
    plain_client.drop_database(names[1])


def test_concurrent_writes_are_explained_by_single_calls(site: Site, replay: Replay) -> None:
    # The reference server may keep a key in a unique index whose document is gone; then it fails
    # the whole of an insert, a plain insert_many as well. Small batches keep that small.
    joining = Joining(site, coalesced(replace(ONE_AT_A_TIME, max_batch_ops=25)))
    site.run(joining.ready())
    rng = random.Random(SEED)
    number = again = 0
    with nullcontext() if site.is_async else ThreadPoolExecutor(THREADS) as pool:
        while number < WRITES:
            only = ROUNDS[number // CALLERS % len(ROUNDS)]
            operations = make_round(rng, number, CALLERS, IDS, only)
            outcomes = site.run(played(site, joining.collection, operations, pool))
            replay.check(Round(operations, outcomes))
            again = joining.stats.alone - again
            _check_wire(joining, operations, again)
            joining.wire.clear()
            again = joining.stats.alone
            number += CALLERS
    checked, stats = replay.checked, joining.stats
    sys.stdout.write(f"\n{site.name}: {checked}\n{stats}\n")
    compared = checked.operations + checked.contended + checked.unknown
    assert compared >= WRITES
    for seen in (checked.changed, checked.failed, checked.unsent):
        assert seen > WRITES / 100
    # What the server itself does to writes that race for a unique value; see Replay.
    assert checked.contended <= max(2, WRITES / 50)
    assert checked.unknown <= WRITES / 10
    assert stats.batches > 0


def _check_wire(joining: Joining, operations: Any, again: int) -> None:
    """Each write is in one statement of one command; in one loop, commands are far fewer.

    again: those whose error in a batch says less than that of the plain call, which was made too.
    """
    statements = [_statements(name, command) for name, command in joining.wire.commands]
    sent = sum(not operation.invalid for operation in operations)
    assert sum(statements) == sent + again
    if joining.site.name == "async":
        # All were called before the first was answered.
        assert len(statements) - again <= len(operations) / 10, joining.wire.counts


def _statements(name: str, command: Any) -> int:
    field = {"insert": "documents", "update": "updates", "delete": "deletes", "bulkWrite": "ops"}
    return len(command[field[name]])


def test_a_result_given_to_another_caller_is_found(
    replay: Replay, plain_client: MongoClient[dict[str, Any]]
) -> None:
    """The replay can fail: two callers' outcomes exchanged, an event that nobody made, and none."""
    collection = plain_client[replay.names[0]].c
    operations = [o for o in make_round(random.Random(1), 0, 400, IDS) if o.kind == "insert_one"]
    outcomes: list[Any] = []
    for operation in operations:
        try:
            outcomes.append(operation.call(collection))
        except Exception as error:
            outcomes.append(error)
    done = next(at for at, o in enumerate(outcomes) if isinstance(o, InsertOneResult))
    refused = next(at for at, o in enumerate(outcomes) if isinstance(o, DuplicateKeyError))
    outcomes[done], outcomes[refused] = outcomes[refused], outcomes[done]
    with pytest.raises((AssertionError, KeyError)):
        replay.check(Round(operations, outcomes))
