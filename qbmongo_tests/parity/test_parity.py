"""Our clients act as their drivers do: random operations on both, compared after every call.

`--parity-steps N` sets how many steps each client runs with each of the settings (N >= 20000 also
demands that every method of the description was reached). The steps are the same in each run;
QBMONGO_PARITY_SEED=1, 2, ... chooses others.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from typing import Any

import hypothesis.errors
import pytest
from pymongo import MongoClient

import qbmongo
from qbmongo.clients import coalesced
from qbmongo.core.index import NamespaceIndex
from qbmongo.core.store import Entry
from qbmongo.records import Effect
from qbmongo_tests.parity import together
from qbmongo_tests.parity.drivers import DRIVERS, Driver
from qbmongo_tests.parity.equality import Mismatch
from qbmongo_tests.parity.harness import Pair, Report, run_parity
from qbmongo_tests.parity.interpreter import reproducible
from qbmongo_tests.parity.operations import Call
from qbmongo_tests.parity.programs import Beginning, described_methods
from qbmongo_tests.parity.together import run_groups

# A cursor that an example abandons is collected late, and Motor's own deprecations are compared.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SETTINGS = {
    "off": qbmongo.Settings.preset("off"),
    "default": qbmongo.Settings.preset("default"),
    "rewriting": qbmongo.Settings(profile=None, cache=None),
}
# One sending at a time, so that few calls are enough for some to travel together.
JOINING = {
    "joining": qbmongo.Settings(
        profile=None,
        cache=None,
        coalesce=qbmongo.CoalesceSettings(max_in_flight=1, max_joined_ms=60_000),
        batch=qbmongo.BatchSettings(max_in_flight=1, max_joined_ms=60_000),
    ),
    "joining, cache on": qbmongo.Settings(
        coalesce=qbmongo.CoalesceSettings(max_in_flight=1),
        batch=qbmongo.BatchSettings(max_in_flight=1),
    ),
}
ALL_METHODS_FROM = 20_000
REWRITES_FROM = 300
SEED = int(os.environ.get("QBMONGO_PARITY_SEED", "0"))


@pytest.fixture(params=sorted(DRIVERS))
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    adapter = DRIVERS[request.param]()
    yield adapter
    adapter.stop()
    gc.collect()  # What abandoned cursors left behind is found here, not in another test.


@pytest.fixture
def parity_steps(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--parity-steps"))


@pytest.fixture(params=sorted(SETTINGS))
def pair(request: pytest.FixtureRequest, driver: Driver, server_uri: str) -> Iterator[Pair]:
    """The plain driver's client and ours, with each of the settings."""
    plain = driver.plain(server_uri)
    made = Pair(driver, plain, driver.ours(server_uri, SETTINGS[request.param]), server_uri)
    yield made
    made.close()


@pytest.fixture
def plain_pair(driver: Driver, server_uri: str) -> Iterator[Pair]:
    """Two plain clients: the harness itself must not see differences that are none."""
    clients = [driver.plain(server_uri) for _ in range(2)]
    made = Pair(driver, clients[0], clients[1], server_uri, watched=False)
    yield made
    made.close()


def test_ours_acts_as_the_driver_does(
    pair: Pair, parity_steps: int, parity_report: dict[str, Report], request: pytest.FixtureRequest
) -> None:
    parity_report[request.node.callspec.id] = pair.report
    report = run_parity(pair, parity_steps, seed=SEED, interference=True)
    assert report.steps >= parity_steps
    report.rewritten = pair.ours.client.qb.stats().rewrite
    if parity_steps >= REWRITES_FROM and SETTINGS[request.node.callspec.params["pair"]].rewrite:
        assert report.rewritten is not None
        assert report.rewritten.calls > 0
    if parity_steps >= ALL_METHODS_FROM:
        assert not described_methods() - set(report.calls), "never reached"


@pytest.mark.parametrize("settings", sorted(JOINING))
def test_calls_at_the_same_time_are_explained_by_some_order(
    driver: Driver, server_uri: str, parity_steps: int, settings: str
) -> None:
    ours = driver.ours(server_uri, JOINING[settings])
    pair = Pair(driver, driver.plain(server_uri), ours, server_uri)
    try:
        with reproducible():
            done = run_groups(pair, max(20, parity_steps // 8), SEED)
        stats = ours.qb.stats()
        sys.stdout.write(f"\n{driver.name}, {settings}: {done}\n{stats.coalesce}\n{stats.batch}\n")
        assert stats.coalesce.batches > 0
        assert stats.batch.batches > 0
        assert stats.faults == {}
    finally:
        pair.close()


def test_ours_acts_as_the_driver_does_where_calls_may_travel_together(
    driver: Driver, server_uri: str, parity_steps: int
) -> None:
    """One after the other, without a cache that would answer first."""
    ours = driver.ours(server_uri, JOINING["joining"])
    pair = Pair(driver, driver.plain(server_uri), ours, server_uri)
    try:
        steps = max(60, parity_steps // 3)
        assert run_parity(pair, steps, seed=SEED, interference=True).steps >= steps
    finally:
        pair.close()


@pytest.mark.parametrize("kind", ["update_one", "insert_one"])
def test_outcomes_that_are_handed_to_the_wrong_callers_are_found(
    kind: str, server_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison of groups can fail."""
    answers = coalesced.answers

    def exchanged(batch: Any, verdicts: Any, error: Any) -> Any:
        given = answers(batch, verdicts, error)
        return given[::-1] if batch.slots[0].kind == kind else given

    monkeypatch.setattr(coalesced, "answers", exchanged)
    # Few orders to try: none of them explains it.
    monkeypatch.setattr(together, "GROUP", (3,))
    driver = DRIVERS["async"]()
    pair = Pair(
        driver, driver.plain(server_uri), driver.ours(server_uri, JOINING["joining"]), server_uri
    )
    try:
        with reproducible(), pytest.raises(Mismatch, match="no order explains"):
            run_groups(pair, 2_000, SEED)
    finally:
        pair.close()
        driver.stop()


def test_the_driver_acts_as_itself(plain_pair: Pair, parity_steps: int) -> None:
    report = run_parity(plain_pair, min(parity_steps, 300), interference=True)
    assert report.steps >= min(parity_steps, 300)


# Each found within some hundred steps from there; without that, within some thousand.
@pytest.mark.parametrize(("kind", "seed"), [("insert", 2000), ("update", 1000), ("delete", 2000)])
def test_a_cache_that_overlooks_writes_is_found(
    kind: str, seed: int, server_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The harness can fail: answers kept over the program's own writes."""
    affected = NamespaceIndex.affected

    def overlooking(self: NamespaceIndex, effect: Effect) -> set[Entry]:
        return set() if effect.kind == kind else affected(self, effect)

    monkeypatch.setattr(NamespaceIndex, "affected", overlooking)
    driver = DRIVERS["sync"]()
    ours = driver.ours(server_uri, SETTINGS["default"])
    pair = Pair(driver, driver.plain(server_uri), ours, server_uri)
    try:
        # Flaky: the stale answer was dropped by its event when hypothesis asked again.
        with pytest.raises((Mismatch, hypothesis.errors.Flaky)):
            run_parity(pair, 20_000, seed=seed, shrink=False)
    finally:
        pair.close()


def test_a_difference_in_one_document_is_found(plain_pair: Pair, server_uri: str) -> None:
    """The harness can fail: a document changed in one arm only."""
    plain_pair.begin(Beginning(None, (Call("c0", "insert_one", ({"_id": 1, "a": 1},)),)))
    other: MongoClient[dict[str, Any]]
    with MongoClient(server_uri) as other:
        collection: Any = other[plain_pair.ours.database_name]["c0"]
        collection.update_one({"_id": 1}, {"$set": {"a": 1.0}})
    with pytest.raises(Mismatch, match=r"int 1 != float 1\.0"):
        plain_pair.step((Call("c0", "find_one", ({"_id": 1},)),))
    with pytest.raises(Mismatch, match="documents"):
        plain_pair.compare_databases()
