"""Joined writes while replies are lost, connections close and the server is killed.

Each counter's document keeps the tags of the increments that were applied to it, and each insert
has an `_id` of its own. So it shows that nothing was applied twice, nothing acknowledged was lost,
and nothing reported as never sent was applied. QBMONGO_JOINED_FAULTS sets the faults for each
client (334 in the long run), QBMONGO_JOINED_KILLS how often its server is killed.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import (
    ConnectionFailure,
    DuplicateKeyError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from qbmongo import CoalesceSettings
from qbmongo_tests.clients.joined import Joining, coalesced
from qbmongo_tests.clients.sites import Site, settled
from qbmongo_tests.conftest import OwnServer
from qbmongo_tests.faults import (
    Answer,
    CloseAfter,
    CloseBefore,
    Command,
    Delay,
    DropReply,
    Swallow,
)
from qbmongo_tests.parity.drivers import DRIVERS
from qbmongo_tests.waiting import wait_until

FAULTS = int(os.environ.get("QBMONGO_JOINED_FAULTS", "14"))
KILLS = int(os.environ.get("QBMONGO_JOINED_KILLS", "2"))
CALLERS = 60
THREADS = 24
COUNTERS = 20
_WRITES = frozenset({"insert", "update", "delete", "bulkWrite"})
_UNAUTHORIZED = Answer({"ok": 0, "code": 13, "codeName": "Unauthorized", "errmsg": "not allowed"})
# A batch is refused, and some of the plain calls that follow.
_REFUSED_AFTER_IT = 5
_SOCKET_TIMEOUT_S = 0.3
_FAULTS: tuple[Any, ...] = (
    DropReply(),
    CloseBefore(),
    CloseAfter(),
    _UNAUTHORIZED,
    Delay(2 * _SOCKET_TIMEOUT_S),
    DropReply(close=False),
    DropReply(),
    Swallow(),
)
OPTIONS: dict[str, Any] = {
    "serverMonitoringMode": "poll",
    "heartbeatFrequencyMS": 500,
    "socketTimeoutMS": int(_SOCKET_TIMEOUT_S * 1000),
}


@pytest.fixture(autouse=True)
def quick_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a network error the driver looks again at once, not after half a second."""
    monkeypatch.setattr("pymongo.common.MIN_HEARTBEAT_INTERVAL", 0.02)
    # A busy machine may need long for a round; a call that hangs is still found.
    monkeypatch.setattr("qbmongo_tests.parity.drivers.CALL_LIMIT_S", 120.0)


@dataclass
class Account:
    """What callers were told: tags of increments, `_id`s of inserts."""

    acknowledged: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)
    not_applied: set[int] = field(default_factory=set)
    inserts: set[int] = field(default_factory=set)

    def note(self, tag: int, outcome: Any) -> None:
        if not isinstance(outcome, BaseException):
            self.acknowledged.add(tag)
            return
        assert not isinstance(outcome, DuplicateKeyError), f"inserted twice: {outcome}"
        never_sent = (ServerSelectionTimeoutError, WaitQueueTimeoutError)
        if isinstance(outcome, never_sent) or getattr(outcome, "code", None) == 13:
            self.not_applied.add(tag)
        else:
            assert isinstance(outcome, (ConnectionFailure, OperationFailure)), outcome
            self.unknown.add(tag)

    def check(self, database: Any) -> None:
        """Holds it against what is stored."""
        stored: Counter[int] = Counter(document["_id"] for document in database.inserted.find())
        for document in database.c.find():
            assert document["n"] == len(document["tags"])
            stored.update(document["tags"])
        twice = [tag for tag, count in stored.items() if count > 1]
        assert not twice, f"applied twice: {twice}"
        lost = self.acknowledged - set(stored)
        assert not lost, f"acknowledged, and lost: {lost}"
        wrong = self.not_applied & set(stored)
        assert not wrong, f"reported as not applied, and applied: {wrong}"
        assert not set(stored) - self.acknowledged - self.unknown, "nobody's"


def write(database: Any, tag: int) -> Any:
    """One write; two of three increment a counter."""
    if tag % 3 == 0:
        return database.inserted.insert_one({"_id": tag})
    update = {"$inc": {"n": 1}, "$push": {"tags": tag}}
    return database.c.update_one({"_id": tag % COUNTERS}, update)


def fill(database: Any) -> None:
    database.c.insert_many([{"_id": n, "n": 0, "tags": []} for n in range(COUNTERS)])
    database.create_collection("inserted")


async def load(
    site: Site,
    database: Any,
    tags: range,
    account: Account,
    pool: ThreadPoolExecutor | None,
    acknowledged: Callable[[], None] = lambda: None,
) -> None:
    """So many writes at the same time; some tasks are cancelled."""
    if pool is not None:
        list(pool.map(lambda tag: _threaded(database, tag, account, acknowledged), tags))
        return
    tasks = {
        tag: asyncio.ensure_future(_told(database, tag, account, acknowledged)) for tag in tags
    }
    await asyncio.sleep(0)
    # Who gathers. A call of the driver's that is cancelled while it looks for a server may lock
    # PyMongo Async for ever: asyncio.wait_for, in Python up to 3.11, leaves its Condition's lock.
    for tag in random.Random(tags.start).sample(list(tags)[10:], 4):
        tasks[tag].cancel()
        account.unknown.add(tag)
    await asyncio.gather(*tasks.values(), return_exceptions=True)


async def _told(
    database: Any, tag: int, account: Account, acknowledged: Callable[[], None]
) -> None:
    try:
        outcome: Any = await write(database, tag)
        acknowledged()
    except Exception as error:
        outcome = error
    account.note(tag, outcome)


def _threaded(database: Any, tag: int, account: Account, acknowledged: Callable[[], None]) -> None:
    try:
        outcome: Any = write(database, tag)
        acknowledged()
    except Exception as error:
        outcome = error
    account.note(tag, outcome)


class Faults:
    """The proxy's hook: now and then a write command meets the next fault.

    What the driver sends a second time is not refused: the first sending may have been applied, so
    that a refusal would say nothing, to a single call either.
    """

    def __init__(self, seed: int) -> None:
        self.met: Counter[str] = Counter()
        self._rng = random.Random(seed)
        self._sent: set[Any] = set()
        self._refusing = 0

    def __call__(self, command: Command) -> Any:
        if command.name not in _WRITES:
            return None
        document = command.document()
        sent = bytes(document["lsid"]["id"]), document.get("txnNumber")
        is_second = sent[1] is not None and sent in self._sent
        self._sent.add(sent)
        # After a refused bulkWrite there would be none for a minute.
        may_refuse = not is_second and command.name != "bulkWrite"
        if self._refusing and may_refuse:
            self._refusing -= 1
            return _UNAUTHORIZED
        if self._rng.random() > 0.3:
            return None
        action = _FAULTS[self.met.total() % len(_FAULTS)]
        if action is _UNAUTHORIZED:
            if not may_refuse:
                return None
            self._refusing = _REFUSED_AFTER_IT
        self.met[type(action).__name__] += 1
        return action


# Motor: a thread's socket is left to the collector when its caller was cancelled.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_nothing_is_applied_twice_lost_or_applied_unsaid(
    site: Site, plain_client: MongoClient[dict[str, Any]]
) -> None:
    fill(plain_client[site.database])
    settings = coalesced(CoalesceSettings(max_in_flight=1, max_batch_ops=10, max_joined_ms=60_000))
    joining = Joining(site, settings, maxPoolSize=50, **OPTIONS)
    database = joining.client[site.database]
    account, faults = Account(), Faults(7)
    site.run(joining.ready())
    site.proxy.hook = faults
    first = 0
    with nullcontext() if site.is_async else ThreadPoolExecutor(THREADS) as pool:
        while faults.met.total() < FAULTS:
            tags = range(first, first + CALLERS)
            site.run(load(site, database, tags, account, pool))
            first += CALLERS
    stats = joining.stats
    site.run(settled(joining.client.close))
    # What is late is executed after its sender has given up.
    assert wait_until(lambda: site.proxy.connections == 0)
    site.proxy.clear()
    _report(site.name, faults.met, account, stats)
    account.check(plain_client[site.database])
    assert stats.batches > 0
    assert len(account.acknowledged) > first / 4
    assert account.not_applied
    assert account.unknown


def _report(name: str, met: Any, account: Account, stats: Any) -> None:
    told = (len(account.acknowledged), len(account.unknown), len(account.not_applied))
    sys.stdout.write(
        f"\n{name}: {dict(met)}; acknowledged, unknown, not applied: {told}; {stats}\n"
    )


@pytest.fixture(params=sorted(DRIVERS))
def killed(request: pytest.FixtureRequest, own_server: OwnServer) -> Iterator[tuple[Site, Any]]:
    """A driver on a server that may be killed, and the server."""
    server = own_server(sync_on_commit=True)
    place = Site(request.param, server.uri, "killed")
    yield place, server
    place.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_nothing_acknowledged_is_lost_when_the_server_is_killed(killed: tuple[Site, Any]) -> None:
    site, server = killed
    with MongoClient[dict[str, Any]](server.uri) as plain:
        fill(plain["killed"])
        options = {**OPTIONS, "socketTimeoutMS": 20_000, "retryWrites": False}
        joining = Joining(site, coalesced(CoalesceSettings(max_in_flight=1)), **options)
        database = joining.client["killed"]
        account = Account()
        site.run(joining.ready())
        first = 0
        with nullcontext() if site.is_async else ThreadPoolExecutor(THREADS) as pool:
            for _ in range(KILLS):
                _killed_in_the_middle(site, server, database, first, account, pool)
                first += CALLERS
            site.run(load(site, database, range(first, first + CALLERS), account, pool))
        _report(site.name, Counter(kills=KILLS), account, joining.stats)
        account.check(plain["killed"])
        assert len(account.acknowledged) >= CALLERS / 2
        assert joining.stats.batches > 0


def _killed_in_the_middle(
    site: Site, server: Any, database: Any, first: int, account: Account, pool: Any
) -> None:
    """The server is killed as soon as the first of these writes is acknowledged, and comes back."""
    begun = threading.Event()

    def kill() -> None:
        begun.wait(60)
        server.kill()
        server.start()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        tags = range(first, first + CALLERS)
        site.run(load(site, database, tags, account, pool, begun.set))
    finally:
        begun.set()
        killer.join()


def test_an_operation_applied_twice_is_found(
    database: Any, plain_client: MongoClient[dict[str, Any]]
) -> None:
    """The account can fail."""
    fill(database)
    account = Account()
    for tag in range(1, 3):
        account.note(tag, write(database, tag))
    account.check(database)
    write(database, 1)
    with pytest.raises(AssertionError, match="twice"):
        account.check(database)
    database.c.delete_many({})
    with pytest.raises(AssertionError, match="lost"):
        account.check(database)
