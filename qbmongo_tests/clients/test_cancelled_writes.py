"""Writes whose call ended before their outcome was known: cancelled, interrupted, answer lost.

They may have happened. What they may touch is dropped when the call ends, and they are another
writer's from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymongo import InsertOne, UpdateOne
from pymongo.errors import AutoReconnect, ClientBulkWriteException

from qbmongo.clients import retried
from qbmongo_tests.clients.callers import until
from qbmongo_tests.clients.sites import Site, Wire, resolved
from qbmongo_tests.faults import DropReply

WRITES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "update_one": ("update", lambda c: c.update_one({"_id": 1}, {"$set": {"n": 1}})),
    "update_many": ("update", lambda c: c.update_many({}, {"$set": {"n": 1}})),
    "find_one_and_update": (
        "findAndModify",
        lambda c: c.find_one_and_update({"_id": 1}, {"$set": {"n": 1}}),
    ),
    "bulk_write": (
        "update",
        lambda c: c.bulk_write([UpdateOne({"_id": 1}, {"$set": {"n": 1}}), InsertOne({"a": 1})]),
    ),
    "client bulk_write": (
        "bulkWrite",
        lambda c: c.database.client.bulk_write(
            [UpdateOne({"_id": 1}, {"$set": {"n": 1}}, namespace=c.full_name)]
        ),
    ),
    "raw command": (
        "update",
        lambda c: c.database.command(
            {"update": c.name, "updates": [{"q": {"_id": 1}, "u": {"$set": {"n": 1}}}]}
        ),
    ),
    "drop": ("drop", lambda c: c.drop()),
    "create_index": ("createIndexes", lambda c: c.create_index("n")),
}


@pytest.fixture(params=["async", "motor"])
def cancellable(
    request: pytest.FixtureRequest, server_uri: str, database_name: str
) -> Iterator[Site]:
    """A site of a driver whose calls can be cancelled."""
    place = Site(request.param, server_uri, database_name)
    yield place
    place.close()


def filled(site: Site, **options: Any) -> Any:
    plain = site.plain()

    async def fill() -> None:
        await resolved(plain[site.database].c.insert_many([{"_id": n, "n": 0} for n in range(3)]))

    site.run(fill())
    return site.cached("c", uri=site.proxy.uri, **options)[0]


async def read(c: Any) -> Any:
    return await resolved(c.find_one({"_id": 1})), await resolved(c.count_documents({}))


@pytest.fixture(params=["named", "general"])
def _parameters(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's parameters as they are, and as those of a version that nobody knows yet."""
    if request.param == "general":
        monkeypatch.setattr(retried, "_is_known", lambda method: False)


@pytest.mark.usefixtures("_parameters")
@pytest.mark.parametrize("name", WRITES)
def test_a_cancelled_write_that_was_executed_is_seen_by_the_next_read(
    cancellable: Site, name: str
) -> None:
    site = cancellable
    command, write = WRITES[name]
    client = filled(site)
    c, other = client[site.database].c, site.plain()[site.database].c

    async def work() -> None:
        before = await read(c)
        assert await read(c) == before
        gate = site.proxy.hold_reply(command)
        call: Any = asyncio.ensure_future(write(c))
        await gate.reached()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        if site.name == "motor":
            # The thread outlives its cancelled caller, and closes the write when it is answered.
            gate.release()
            await until(lambda: not client._qb.engine.ledger._open, site)
        assert await read(c) == await read(other)
        assert client._qb.engine.ledger._open == {}
        gate.release()

    site.run(work())


def test_a_cancelled_write_in_a_transaction_is_closed_with_it(cancellable: Site) -> None:
    site = cancellable
    client = filled(site)
    c = client[site.database].c

    async def work() -> None:
        session = await resolved(client.start_session())
        started = session.start_transaction()
        if asyncio.iscoroutine(started):
            await started
        await c.update_one({"_id": 1}, {"$set": {"n": 1}}, session=session)
        assert (await c.find_one({"_id": 1}))["n"] == 0
        gate = site.proxy.hold_reply("commitTransaction")
        commit: Any = asyncio.ensure_future(session.commit_transaction())
        await gate.reached()
        commit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await commit
        gate.release()
        if site.name == "motor":
            await until(lambda: not client._qb.engine.ledger._open, site)
        assert (await c.find_one({"_id": 1}))["n"] == 1
        await resolved(session.end_session())

    site.run(work())


@pytest.mark.parametrize("name", WRITES)
def test_a_write_whose_answer_was_lost_is_seen_by_the_next_read(site: Site, name: str) -> None:
    command, write = WRITES[name]
    client = filled(site, retryWrites=False)
    c, other = client[site.database].c, site.plain()[site.database].c

    async def work() -> None:
        before = await read(c)
        assert await read(c) == before
        site.proxy.on(command, DropReply())
        with pytest.raises((AutoReconnect, ClientBulkWriteException)):
            await resolved(write(c))
        assert await read(c) == await read(other)

    site.run(work())


def test_a_write_that_the_driver_retried_is_seen_by_the_next_read(site: Site) -> None:
    client = filled(site)
    c = client[site.database].c

    async def work() -> None:
        assert (await resolved(c.find_one({"_id": 1})))["n"] == 0
        rule = site.proxy.on("update", DropReply())
        await resolved(c.update_one({"_id": 1}, {"$inc": {"n": 1}}))
        assert rule.hits == 1
        assert (await resolved(c.find_one({"_id": 1})))["n"] == 1

    site.run(work())


class Interrupting(Wire):
    """Ctrl-C between the server's answer to an update and our hearing of it."""

    armed = False

    def succeeded(self, event: Any) -> None:
        if self.armed and event.command_name == "update":
            self.armed = False
            raise KeyboardInterrupt


@pytest.mark.usefixtures("_parameters")
@pytest.mark.parametrize("name", ["update_one", "raw command", "bulk_write"])
def test_a_write_that_ctrl_c_interrupted_is_seen_by_the_next_read(
    name: str, server_uri: str, database_name: str
) -> None:
    site = Site("sync", server_uri, database_name)
    try:
        interrupting = Interrupting()
        client = filled(site, event_listeners=[interrupting])
        c, other = client[database_name].c, site.plain()[database_name].c
        assert c.find_one({"_id": 1})["n"] == 0
        interrupting.armed = True
        with pytest.raises(KeyboardInterrupt):
            WRITES[name][1](c)
        assert c.find_one({"_id": 1}) == other.find_one({"_id": 1})
        assert other.find_one({"_id": 1})["n"] == 1
        assert client._qb.engine.ledger._open == {}
    finally:
        site.close()
