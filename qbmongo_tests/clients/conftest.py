"""Fixtures for tests that hold for each of the three drivers."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from qbmongo.coherence import records
from qbmongo_tests.clients.sites import Site
from qbmongo_tests.parity.drivers import DRIVERS


@pytest.fixture(scope="package", autouse=True)
def _streams_are_asked_often() -> Iterator[None]:
    """Closing a client waits for its stream's last answer: here none waits long for an event."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(records, "Limits", functools.partial(records.Limits, await_s=0.01))
        yield


@pytest.fixture(params=sorted(DRIVERS))
def site(request: pytest.FixtureRequest, server_uri: str, database_name: str) -> Iterator[Site]:
    """A driver on the server of this run, in a database of this test's own."""
    place = Site(request.param, server_uri, database_name)
    yield place
    place.close()
