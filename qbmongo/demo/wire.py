"""How many commands an arm sends.

On a server of its own the server is asked: its count has no price for the arm, and includes what
qbmongo sends in the background. On a shared server a command listener counts, in both arms alike.
"""

from __future__ import annotations

from typing import Any, Protocol

from pymongo.errors import PyMongoError
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from .sites import Site, Sites


class WireCount(Protocol):
    """Counts the commands between begin() and end(), summed up in `commands`."""

    commands: int

    def begin(self) -> None:
        """The arm is about to play."""

    def end(self) -> None:
        """The arm has played."""


class ServerCount:
    """The server's own count of requests; the two questions themselves are taken out."""

    def __init__(self, site: Site) -> None:
        self.commands = 0
        self._site = site
        self._before = 0

    def begin(self) -> None:
        """The arm is about to play."""
        self._before = requests_served(self._site)

    def end(self) -> None:
        """The arm has played."""
        self.commands += requests_served(self._site) - self._before - 1


class ListenerCount(CommandListener):
    """A command listener that does nothing but count."""

    def __init__(self) -> None:
        self.commands = 0
        self._started = 0
        self._before = 0

    def begin(self) -> None:
        """The arm is about to play."""
        self._before = self._started

    def end(self) -> None:
        """The arm has played."""
        self.commands += self._started - self._before

    def started(self, event: CommandStartedEvent) -> None:
        """Count it."""
        self._started += 1

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Counted when it started."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Counted when it started."""


def requests_served(site: Site) -> int:
    """Requests the server has served since it started.

    Raises:
        PyMongoError: it does not say, or not to this user.
        KeyError: its status has no such count.
    """
    status: dict[str, Any] = site.control.admin.command("serverStatus")
    return int(status["network"]["numRequests"])


def wire_counts(sites: Sites) -> tuple[WireCount, WireCount]:
    """A count for the plain arm and one for ours, both of the same kind."""
    both = (sites.plain, sites.qbmongo)
    if all(site.exclusive for site in both) and all(_counts(site) for site in both):
        return ServerCount(sites.plain), ServerCount(sites.qbmongo)
    return ListenerCount(), ListenerCount()


def _counts(site: Site) -> bool:
    """Whether the server tells its count and counts each request (a heartbeat may come between)."""
    try:
        before = requests_served(site)
        site.control.admin.command("ping")
        return requests_served(site) - before >= 2
    except (PyMongoError, KeyError):
        return False
