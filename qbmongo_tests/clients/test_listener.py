"""Who the primary is: looked at with every answer, without a thread, and never wrongly kept."""

from __future__ import annotations

import threading
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
from bson import ObjectId

from qbmongo.clients.listener import CURRENT, EffectListener
from qbmongo_tests.clients.sites import Site, resolved


class Engine:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.changes = 0
        self.answers = 0
        self.faults: list[str] = []
        self.coalescer = None

    def primary_changed(self) -> None:
        self.changes += 1

    def command_succeeded(self, *args: Any) -> None:
        self.answers += 1

    def cache_fault(self, where: str, error: BaseException) -> None:
        self.faults.append(where)


class Client:
    """A client with the topology that a test wants."""

    def __init__(self) -> None:
        self.topology_description: Any = topology()


def topology(*servers: tuple[str, str, ObjectId | None]) -> Any:
    described = {
        (name, 1): SimpleNamespace(address=(name, 1), server_type_name=kind, election_id=election)
        for name, kind, election in servers
    }
    return SimpleNamespace(server_descriptions=lambda: described)


EVENT: Any = SimpleNamespace(
    connection_id=("a", 1), request_id=1, command_name="insert", reply={}, failure={}, command={}
)
READ: Any = SimpleNamespace(**{**vars(EVENT), "command_name": "find"})
FIRST, SECOND = ObjectId(), ObjectId()


@pytest.fixture
def parts() -> tuple[EffectListener, Engine, Client]:
    engine, client = Engine(), Client()
    listener = EffectListener(engine)  # type: ignore[arg-type]
    listener.attach(client)
    return listener, engine, client


def test_another_primary_or_the_same_in_another_term_is_told_before_its_answer(
    parts: tuple[EffectListener, Engine, Client],
) -> None:
    listener, engine, client = parts
    steps: list[tuple[Any, int]] = [
        (topology(("a", "Unknown", None)), 0),
        (topology(("a", "RSPrimary", FIRST)), 0),
        (topology(("a", "RSPrimary", FIRST), ("b", "RSSecondary", None)), 0),
        (topology(("a", "Unknown", None), ("b", "RSSecondary", None)), 0),
        (topology(("a", "RSPrimary", FIRST)), 0),
        (topology(("a", "RSPrimary", SECOND)), 1),
        (topology(("a", "RSSecondary", None), ("b", "RSPrimary", SECOND)), 2),
        (topology(("b", "RSPrimary", SECOND)), 2),
    ]
    for answers, (description, changes) in enumerate(steps):
        client.topology_description = description
        told = engine.answers
        listener.succeeded(EVENT)
        listener.succeeded(EVENT)
        assert engine.changes == changes, answers
        assert engine.answers == told + 2


def test_who_answered_a_read_matters_where_its_answer_may_be_kept(
    parts: tuple[EffectListener, Engine, Client],
) -> None:
    listener, engine, client = parts
    client.topology_description = topology(("a", "RSPrimary", FIRST))
    listener.succeeded(EVENT)
    client.topology_description = topology(("a", "RSPrimary", SECOND))
    listener.succeeded(READ)
    assert (engine.changes, engine.answers) == (0, 1)
    ticket: Any = SimpleNamespace(address=None)
    token = CURRENT.set(ticket)
    try:
        listener.succeeded(READ)
    finally:
        CURRENT.reset(token)
    assert (engine.changes, engine.answers) == (1, 2)
    assert ticket.address == ("a", 1)


def test_a_new_lease_is_asked_for_when_another_primary_ended_the_old_one(
    parts: tuple[EffectListener, Engine, Client],
) -> None:
    listener, _, client = parts
    asked: list[Any] = []
    watcher = Client()
    watcher._work = SimpleNamespace(inbox=SimpleNamespace(catch_up=asked.append))  # type: ignore[attr-defined]
    listener.renew_by(watcher)
    for election, times in ((FIRST, 0), (FIRST, 0), (SECOND, 1), (SECOND, 1)):
        client.topology_description = topology(("a", "RSPrimary", election))
        listener.succeeded(EVENT)
        assert len(asked) == times


def test_a_topology_that_cannot_be_read_switches_the_cache_off(
    parts: tuple[EffectListener, Engine, Client],
) -> None:
    listener, engine, client = parts
    client.topology_description = None
    listener.succeeded(EVENT)
    assert engine.faults == []  # nothing new to look at
    client.topology_description = object()
    listener.succeeded(EVENT)
    assert engine.faults == ["topology"]
    assert engine.answers == 2


def test_a_client_that_is_gone_is_not_looked_at(
    parts: tuple[EffectListener, Engine, Client],
) -> None:
    listener, engine, client = parts
    del client, parts
    listener.attach(Client())
    listener.succeeded(EVENT)
    assert engine.answers == 1
    assert engine.faults == []


def test_an_engine_that_is_gone_is_not_told() -> None:
    engine = Engine()
    gone = weakref.ref(engine)
    listener = EffectListener(engine)  # type: ignore[arg-type]
    del engine
    assert gone() is None  # the listener keeps none alive
    listener.succeeded(EVENT)
    listener.failed(EVENT)
    listener.started(EVENT)


def test_the_driver_runs_no_thread_more_for_our_listener(site: Site) -> None:
    client, _ = site.cached("c")

    async def use() -> None:
        await resolved(client[site.database].c.insert_one({}))

    site.run(use())
    assert "pymongo_events_thread" not in {thread.name for thread in threading.enumerate()}
