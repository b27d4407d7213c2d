"""Where the two arms work: servers of their own, or databases of their own on a server given."""

from __future__ import annotations

import re
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from pymongo import MongoClient
from pymongo.errors import (
    ConfigurationError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from ..local_server import LocalServer, LocalServerError, find_server
from .errors import DemoError

REACH_LIMIT_S = 5.0
DATABASE = "airport"
_CREDENTIALS = re.compile("://[^/]*@")


@dataclass(slots=True)
class Site:
    """One arm's place.

    uri: the server; database: its name; control: a plain synchronous client for everything around
    the arm's own operations (loading, other writers, counting).
    exclusive: the server is this arm's alone.
    """

    uri: str
    database: str
    control: MongoClient[dict[str, Any]]
    exclusive: bool

    def documents(self) -> Any:
        """The database through the control client."""
        return self.control[self.database]

    def copy(self) -> Site:
        """A further place beside it, on the same server."""
        return replace(self, database=f"{self.database}_copy")


@dataclass(slots=True)
class Sites:
    """Both arms' places and what to call the server."""

    plain: Site
    qbmongo: Site
    server: str

    def copy(self) -> Sites:
        """Further places beside both arms', on the same servers."""
        return Sites(self.plain.copy(), self.qbmongo.copy(), self.server)


@contextmanager
def local_sites() -> Iterator[Sites]:
    """Two servers started on this machine, which end with the block and leave nothing behind.

    Raises:
        DemoError: there is no server program, or it does not start.
    """
    program = find_server()
    try:
        with LocalServer(program) as first, LocalServer(program) as second:
            controls = [MongoClient[dict[str, Any]](server.uri) for server in (first, second)]
            try:
                yield Sites(
                    Site(first.uri, DATABASE, controls[0], exclusive=True),
                    Site(second.uri, DATABASE, controls[1], exclusive=True),
                    f"{program}, a server for each arm",
                )
            finally:
                with uninterrupted():
                    for control in controls:
                        control.close()
                    first.stop()
                    second.stop()
    except LocalServerError as error:
        raise DemoError(str(error)) from error


@contextmanager
def given_sites(uri: str) -> Iterator[Sites]:
    """Two databases with unused names on the server given; dropped at the end of the block, with
    those of their copies.

    Raises:
        DemoError: the server cannot be reached or used.
    """
    shown = _CREDENTIALS.sub("://", uri)
    try:
        control: MongoClient[dict[str, Any]] = MongoClient(
            uri, serverSelectionTimeoutMS=int(REACH_LIMIT_S * 1000)
        )
    except (ConfigurationError, ValueError, TypeError) as error:
        raise DemoError(f"--uri {shown}: {_one_line(error)}") from error
    with control:
        try:
            version = control.server_info()["version"]
            taken = set(control.list_database_names())
        except ServerSelectionTimeoutError as error:
            raise DemoError(
                f"--uri {shown}: no server answered within {REACH_LIMIT_S:g} s"
            ) from error
        except PyMongoError as error:
            raise DemoError(f"--uri {shown}: {_one_line(error)}") from error
        run = secrets.token_hex(4)
        names = [f"qbmongo_demo_{run}_{arm}" for arm in ("plain", "qbmongo")]
        sites = Sites(
            Site(uri, names[0], control, exclusive=False),
            Site(uri, names[1], control, exclusive=False),
            f"MongoDB {version}, a database for each arm",
        )
        copy = sites.copy()
        names += [copy.plain.database, copy.qbmongo.database]
        if taken.intersection(names):
            raise DemoError(f"--uri {shown}: the databases {', '.join(names)} exist already")
        try:
            yield sites
        finally:
            with uninterrupted(), suppress(PyMongoError):
                for name in names:
                    control.drop_database(name)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait for the end of the block: what was started must be cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _one_line(error: Exception) -> str:
    if isinstance(error, OperationFailure) and error.details:
        return str(error.details.get("errmsg", error))
    return " ".join(str(error).split())
