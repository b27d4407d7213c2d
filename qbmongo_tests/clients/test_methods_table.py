"""The table of methods is complete, and our classes do what it says and nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pymongo
import pytest
from pymongo import MongoClient

from qbmongo import Settings
from qbmongo_tests.clients.methods_table import TABLE, Handling
from qbmongo_tests.parity.drivers import DRIVERS, Driver, resolved
from qbmongo_tests.parity.equality import driver_class, is_ours
from qbmongo_tests.parity.programs import described_methods

KINDS = tuple(TABLE)
_CHANGED = (Handling.OBSERVED, Handling.CACHED, Handling.LATER)


@dataclass
class Site:
    """An object of each kind, made in the same way from the plain client and from ours."""

    driver: Driver
    plain: dict[str, Any]
    ours: dict[str, Any]

    def classes(self, kind: str) -> tuple[type, type]:
        return type(self.plain[kind]), type(self.ours[kind])


async def _objects(client: Any, database_name: str) -> dict[str, Any]:
    database = client[database_name]
    collection = database["c"]
    return {
        "client": client,
        "database": database,
        "collection": collection,
        "cursor": collection.find(),
        "raw_cursor": collection.find_raw_batches(),
        "command_cursor": await resolved(collection.aggregate([])),
        "raw_command_cursor": await resolved(collection.aggregate_raw_batches([])),
        "session": await resolved(client.start_session()),
        "change_stream": await resolved(collection.watch()),
    }


@pytest.fixture(scope="module", params=sorted(DRIVERS))
def site(request: pytest.FixtureRequest, server_uri: str) -> Iterator[Site]:
    driver = DRIVERS[request.param]()
    name = f"qbmongo_methods_{driver.name}"
    plain = driver.plain(server_uri)
    ours = driver.ours(server_uri, Settings.preset("default"))
    made = Site(driver, driver.run(_objects(plain, name)), driver.run(_objects(ours, name)))
    yield made
    for objects in (made.plain, made.ours):
        for kind in ("change_stream", "command_cursor", "raw_command_cursor", "cursor"):
            driver.run(_closed(objects[kind]))
        driver.run(_ended(objects["session"]))
    driver.close(plain)
    driver.close(ours)
    driver.stop()
    client: MongoClient[Any]
    with MongoClient(server_uri) as client:
        client.drop_database(name)


async def _closed(held: Any) -> None:
    delegate = getattr(type(held), "_async_close", None)
    if delegate is None or held.started:
        await resolved(held.close())


async def _ended(session: Any) -> None:
    await resolved(session.end_session())


def _public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def _overridden(cls: type) -> set[str]:
    """Public names that one of our classes defines."""
    return {
        name
        for base in cls.__mro__
        if is_ours(base)
        for name in vars(base)
        if not name.startswith("_")
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_public_name_of_the_driver_is_classified(site: Site, kind: str) -> None:
    cls, _ = site.classes(kind)
    listed = {
        name
        for name, entry in TABLE[kind].items()
        if site.driver.name in entry.drivers
        and (entry.since is None or pymongo.version_tuple[:2] >= entry.since)
    }
    known_to_be_newer = {
        name for name, entry in TABLE[kind].items() if site.driver.name in entry.drivers
    } - listed
    assert _public(cls) - listed - known_to_be_newer == set(), "classify them in methods_table.py"
    assert listed - _public(cls) == set(), "no supported version has them: remove them"


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_table_calls_untouched_is_not_overridden(site: Site, kind: str) -> None:
    _, cls = site.classes(kind)
    overridden = _overridden(cls) - {"qb"}
    assert overridden <= set(TABLE[kind]), "overrides a name that the driver does not have"
    untouched = {name for name in overridden if TABLE[kind][name].handling is Handling.UNTOUCHED}
    assert untouched == set()


@pytest.mark.parametrize("kind", ["client", "collection"])
def test_what_the_table_calls_observed_is_overridden(site: Site, kind: str) -> None:
    _, cls = site.classes(kind)
    promised = {
        name
        for name, entry in TABLE[kind].items()
        if entry.handling in _CHANGED and site.driver.name in entry.drivers
    }
    assert promised - _overridden(cls) == set()


@pytest.mark.parametrize("kind", KINDS)
def test_our_objects_are_the_drivers(site: Site, kind: str) -> None:
    cls, ours = site.classes(kind)
    assert issubclass(ours, cls)
    assert driver_class(ours) is cls


@pytest.mark.parametrize("kind", KINDS)
def test_overridden_methods_have_the_drivers_signatures(site: Site, kind: str) -> None:
    _, ours = site.classes(kind)
    for name in sorted(_overridden(ours) - {"qb"}):
        # Bound: what Motor hands on from PyMongo is a property of its class.
        expected, found = getattr(site.plain[kind], name), getattr(site.ours[kind], name)
        assert callable(found) == callable(expected), name
        if callable(found):
            assert _parameters(found) == _parameters(expected), name
            _assert_takes(found, expected)


def _parameters(method: Any) -> list[tuple[str, Any, Any]]:
    parameters = inspect.signature(method).parameters.values()
    return [(parameter.name, parameter.kind, parameter.default) for parameter in parameters]


def _assert_takes(found: Any, expected: Any) -> None:
    """The function itself (wraps() lends it the driver's signature) takes the same arguments."""
    assert found.__func__.__name__ == expected.__name__
    real = inspect.signature(found, follow_wrapped=False)
    given = list(inspect.signature(expected).parameters.values())
    positional = [p.name for p in given if p.kind is p.POSITIONAL_OR_KEYWORD]
    real.bind(*positional)
    real.bind(**dict.fromkeys(positional))
    if any(p.kind is p.VAR_KEYWORD for p in given):
        real.bind(*positional, further_option=1)
    if any(p.kind is p.VAR_POSITIONAL for p in given):
        real.bind(*positional, 1, 2, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_only_qb_is_added_and_only_to_clients(site: Site, kind: str) -> None:
    added = {name for name in dir(site.ours[kind]) if not name.startswith("_")}
    added -= {name for name in dir(site.plain[kind]) if not name.startswith("_")}
    assert added == ({"qb"} if kind == "client" else set())


@pytest.mark.parametrize("kind", ["collection", "cursor", "session"])
def test_every_method_is_in_the_parity_description(kind: str) -> None:
    """What is not described there is never compared with the driver."""
    read_by_name = {"address", "cursor_id", "alive", "next_object", "fetch_next", "each"}
    described = {name.partition(".")[2] for name in described_methods()} | read_by_name
    described |= {"full_name", "name", "database", "codec_options", "read_concern"}
    described |= {"read_preference", "write_concern", "collection", "retrieved", "session"}
    described |= {"client", "has_ended", "in_transaction", "options", "bind"}
    missing = {
        name
        for name, entry in TABLE[kind].items()
        if name not in described and not {"motor"} >= entry.drivers
    }
    # Clocks and ids of the server, and what names no operation.
    assert missing <= {"next", "cluster_time", "operation_time", "session_id",
                       "advance_cluster_time", "advance_operation_time"}  # fmt: skip
