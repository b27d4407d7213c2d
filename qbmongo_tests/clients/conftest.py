"""Fixtures for tests that hold for each of the three drivers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qbmongo_tests.clients.sites import Site
from qbmongo_tests.parity.drivers import DRIVERS


@pytest.fixture(params=sorted(DRIVERS))
def site(request: pytest.FixtureRequest, server_uri: str, database_name: str) -> Iterator[Site]:
    """A driver on the server of this run, in a database of this test's own."""
    place = Site(request.param, server_uri, database_name)
    yield place
    place.close()
