"""The server that tests run on, and a database for each test.

Chosen in this order: --mongo-uri (or QBMONGO_TEST_URI), mongod on PATH, the built secantusd-rs,
secantusd-py; --server-kind takes one of the last three. The header of a run says which one it is.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pymongo.common
import pymongo.network_layer
import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError

from qbmongo.local_server import SERVER_KINDS, LocalServer, LocalServerError, find_server
from qbmongo_tests.disturbances import DISTURBANCES
from qbmongo_tests.faults import FaultProxy

OwnServer = Callable[..., LocalServer]

# What secantusd-py cannot show: marker -> why. See docs/development.md.
MARKERS = {
    "needs_explain": "its explain is not that of MongoDB",
    "needs_bulk_write_retry": "it applies a retried bulkWrite twice",
    "needs_index_correctness": "its answers with an index differ from those without",
}
_SKIP_SIGN = "cannot be shown on secantusd-py"


@dataclass(frozen=True)
class ExternalServer:
    """A server that somebody else runs; it has the attributes of LocalServer that tests use."""

    uri: str
    kind: str
    version: str

    def __str__(self) -> str:
        return f"{self.kind} {self.version}"


AnyServer = LocalServer | ExternalServer


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("qbmongo")
    if group.options:  # bench/conftest.py shares this function.
        return
    group.addoption(
        "--mongo-uri",
        default=os.environ.get("QBMONGO_TEST_URI"),
        help="run on this MongoDB server (default: QBMONGO_TEST_URI, or a server of our own)",
    )
    group.addoption(
        "--server-kind", choices=SERVER_KINDS, help="start this server and no other one"
    )
    group.addoption(
        "--parity-steps",
        type=int,
        default=300,
        metavar="N",
        help="steps of the parity harness for each client (default: 300)",
    )
    group.addoption(
        "--disturb",
        choices=sorted(DISTURBANCES),
        action="append",
        default=[],
        help="an unfriendly schedule for the whole run; may be given several times",
    )


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts its background jobs with SIGINT ignored, and so would be what a test starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _configure_hypothesis()
    for disturbance in config.getoption("--disturb"):
        DISTURBANCES[disturbance]()
    for name, reason in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: skipped on secantusd-py, as {reason}")


def _configure_hypothesis() -> None:
    """No example fails for being slow; with CI=true each run makes the same examples."""
    # Imported here: the benchmarks share this module, and need no hypothesis.
    from hypothesis import HealthCheck, settings

    fixed: dict[str, Any] = {"derandomize": True, "database": None} if _is_ci() else {}
    quiet = [HealthCheck.too_slow]
    settings.register_profile("qbmongo", deadline=None, suppress_health_check=quiet, **fixed)
    settings.load_profile("qbmongo")


def pytest_report_header(config: pytest.Config) -> str:
    uri = config.getoption("--mongo-uri")
    if uri:
        try:
            return f"server: {_describe(uri)}"
        except PyMongoError as error:
            return f"server: none answers at the given URI ({type(error).__name__})"
    program = find_server(config.getoption("--server-kind"))
    return f"server: {program or 'none found'}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    needs = [name for name in MARKERS if item.get_closest_marker(name)]
    if needs and _kind(item.config) == "secantusd-py":
        reason = f"{needs[0]} {_SKIP_SIGN}: {MARKERS[needs[0]]}"
        if _is_ci():
            pytest.fail(f"{reason} (in CI this is an error, not a skip)", pytrace=False)
        pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if _SKIP_SIGN in reason:
            reason = reason.removeprefix("Skipped: ")
            reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"{count} skipped: {reason}", yellow=True)


@pytest.fixture(scope="session", autouse=True)
def _lost_servers_are_looked_for_soon() -> Iterator[None]:
    """The drivers wait half a second before they look at a lost server: faults end sooner here.

    Source: https://github.com/mongodb/specifications/blob/master/source/server-discovery-and-monitoring/server-monitoring.md
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pymongo.common, "MIN_HEARTBEAT_INTERVAL", 0.05)
        # How often a monitor's thread that waits for an answer looks whether it still shall.
        patched.setattr(pymongo.network_layer, "_POLL_TIMEOUT", 0.05, raising=False)
        yield


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[AnyServer]:
    """The server of this run: uri, kind and version. Not to be killed; see own_server."""
    uri = request.config.getoption("--mongo-uri")
    if uri:
        yield _describe(uri)
        return
    with _local_server(request.config) as local:
        yield local


@pytest.fixture(scope="session")
def server_uri(server: AnyServer) -> str:
    """The connection string of the server of this run."""
    return server.uri


@pytest.fixture
def own_server(request: pytest.FixtureRequest) -> Iterator[OwnServer]:
    """Start servers that belong to one test: own_server(auth=True, ...) -> LocalServer, started.

    Takes the options of LocalServer. Skips where only a server at a URI is to be had.
    """
    started: list[LocalServer] = []

    def start(**options: Any) -> LocalServer:
        if request.config.getoption("--mongo-uri") and find_server() is None:
            pytest.skip("needs a server of its own, and no program to start was found")
        local = _local_server(request.config, **options)
        started.append(local)
        return local.start()

    yield start
    for local in started:
        local.stop()


@pytest.fixture(scope="session")
def plain_client(server_uri: str) -> Iterator[MongoClient[dict[str, Any]]]:
    """A plain synchronous driver client, shared by all tests, to prepare and to look."""
    with MongoClient[dict[str, Any]](server_uri, serverSelectionTimeoutMS=10_000) as client:
        yield client


@pytest.fixture
def database_name(plain_client: MongoClient[dict[str, Any]]) -> Iterator[str]:
    """The name of a database that is this test's alone and is dropped after it."""
    name = f"qbmongo_{uuid.uuid4().hex[:12]}"
    yield name
    plain_client.drop_database(name)


@pytest.fixture
def database(
    plain_client: MongoClient[dict[str, Any]], database_name: str
) -> Database[dict[str, Any]]:
    """This test's database, as the plain synchronous driver sees it."""
    return plain_client[database_name]


@pytest.fixture
def fault_proxy(server_uri: str) -> Iterator[FaultProxy]:
    """A proxy of this test's own before the server of this run, without rules yet."""
    with FaultProxy(server_uri) as proxy:
        yield proxy


def _local_server(config: pytest.Config, **options: Any) -> LocalServer:
    kind = config.getoption("--server-kind")
    program = find_server(kind)
    if program is None and kind:
        raise LocalServerError(f"--server-kind={kind}: not found on this machine")
    return LocalServer(program, **options)


def _is_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def _kind(config: pytest.Config) -> str:
    if config.getoption("--mongo-uri"):
        return "external"
    program = find_server(config.getoption("--server-kind"))
    return program.kind if program else "none"


def _describe(uri: str) -> ExternalServer:
    with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=5_000) as client:
        return ExternalServer(uri, "external", str(client.server_info()["version"]))
