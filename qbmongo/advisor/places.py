"""Where changes may be tried: a server named by the user, one of our own, or nowhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from ..errors import AdvisorInputError, ServerUnreadableError
from ..local_server import LocalServer, LocalServerError, ServerKind, find_server
from .collect import connect
from .scratch import Scratch, drop_abandoned, left_behind
from .trial_collection import reason_of

__all__ = ["HOW_TO_VERIFY", "Place", "VerifyOn", "note_left_behind", "open_place"]

#: Programs whose explain tells what MongoDB would do, best first.
_PROGRAMS: tuple[ServerKind, ...] = ("mongod", "secantusd-rs")
HOW_TO_VERIFY = (
    "put mongod on PATH, give a server to try on (--scratch-uri URI, scratch_uri=...), or allow"
    " it in a database of its own on the same server (--verify-here, verify_here=True)"
)

Kind = Literal["local", "uri", "here", "nowhere"]


@dataclass(frozen=True, slots=True)
class VerifyOn:
    """Where to try. local: on a server program found on this machine, if there is one."""

    kind: Kind = "local"
    uri: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where things are tried. scratch: None: nowhere, and why_not says why."""

    scratch: Scratch | None = None
    where: str | None = None
    why_not: str | None = None


@contextmanager
def open_place(
    on: VerifyOn, user_client: MongoClient[Any], note: Callable[[str], Any]
) -> Iterator[Place]:
    """A scratch database for the time of the block, or the reason why there is none.

    Args:
        on: where.
        user_client: a plain client of the server advised on.
        note: told of what was found on the way, one line each.

    Raises:
        AdvisorInputError: the server named for it cannot be used.
    """
    if on.kind == "nowhere":
        yield Place(why_not=f"it was not asked for; to have it: {HOW_TO_VERIFY}")
        return
    if on.kind == "local":
        program = next(filter(None, map(find_server, _PROGRAMS)), None)
        if program is None:
            why = f"no mongod or secantusd-rs on this machine; to have it: {HOW_TO_VERIFY}"
            yield Place(why_not=why)
            return
        server = LocalServer(program)
        try:
            server.start()
        except (LocalServerError, OSError) as error:
            why = f"{program} did not start: {reason_of(error)}; to have it: {HOW_TO_VERIFY}"
            yield Place(why_not=why)
            return
        try:
            with (
                MongoClient[Any](server.uri) as client,
                Scratch.open(client) as scratch,
            ):
                yield Place(scratch, f"{program} started on this machine")
        finally:
            server.stop()
        return
    option = "--scratch-uri" if on.kind == "uri" else "--verify-here"
    shown = "the scratch server" if on.kind == "uri" else "the same server"
    with _client_of(on, user_client) as client, ExitStack() as stack:
        try:
            version = client.server_info()["version"]
            for name in drop_abandoned(client):
                note(f"dropped {name}, which an earlier run that was killed had left behind")
            scratch = stack.enter_context(Scratch.open(client))
        except PyMongoError as error:
            raise AdvisorInputError(f"{option}: {reason_of(error)}") from error
        yield Place(scratch, f"MongoDB {version}, {shown}")


@contextmanager
def _client_of(on: VerifyOn, user_client: MongoClient[Any]) -> Iterator[MongoClient[Any]]:
    if on.kind == "here":
        yield user_client
        return
    uri = str(on.uri)
    try:
        client = connect(lambda **options: MongoClient[Any](uri, **options))
    except ServerUnreadableError as error:
        raise AdvisorInputError(f"--scratch-uri: {error}") from error
    with client:
        yield client


def note_left_behind(user_client: MongoClient[Any], note: Callable[[str], Any]) -> None:
    """Says which scratch databases are on the user's server, where nothing may be written."""
    try:
        names = left_behind(user_client)
    except PyMongoError:
        return
    for name in names:
        note(
            f"{name} is on the server, of a run that goes on or was killed; --verify-here drops it"
            " once it is an hour old"
        )
