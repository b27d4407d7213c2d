"""The servers of the tests, for the benchmarks: `own_server` for each arm that writes."""

from __future__ import annotations

from qbmongo_tests.conftest import (
    database,
    database_name,
    own_server,
    plain_client,
    pytest_addoption,
    pytest_report_header,
    server,
    server_uri,
)

__all__ = [
    "database",
    "database_name",
    "own_server",
    "plain_client",
    "pytest_addoption",
    "pytest_report_header",
    "server",
    "server_uri",
]
