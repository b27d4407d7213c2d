"""The one command listener that every part shares, and the watch on who is primary."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Any

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
    ServerClosedEvent,
    ServerDescriptionChangedEvent,
    ServerListener,
    ServerOpeningEvent,
)

from ..core.effects import READ_COMMANDS
from ..core.engine import Engine, Ticket

__all__ = ["CURRENT", "EffectListener", "PrimaryListener"]

# The ticket whose driver call is running in this context: told which server answered, and which of
# its commands had no event when the call ended.
CURRENT: ContextVar[Ticket | None] = ContextVar("qbmongo_current", default=None)


class EffectListener(CommandListener):
    """Tells the engine of every command on the wire, in the thread that sends it.

    The event holds the caller's own dict, so it is read at once. Nothing raised here reaches the
    driver, which would swallow it: the engine handles its own faults.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def started(self, event: CommandStartedEvent) -> None:
        name = event.command_name
        if name not in READ_COMMANDS:
            self._engine.command_started(
                (event.connection_id, event.request_id), name, event.database_name, event.command
            )

    def succeeded(self, event: CommandSucceededEvent) -> None:
        address = event.connection_id
        ticket = CURRENT.get()
        if ticket is not None:
            ticket.address = address
        self._engine.command_succeeded(
            (address, event.request_id), event.command_name, event.reply, address, time.monotonic()
        )

    def failed(self, event: CommandFailedEvent) -> None:
        name = event.command_name
        if name not in READ_COMMANDS:
            self._engine.command_failed(
                (event.connection_id, event.request_id), name, event.failure, time.monotonic()
            )


class PrimaryListener(ServerListener):
    """Tells the engine when another server, or the same in another term, is the primary."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._primary: Any = None

    def opened(self, event: ServerOpeningEvent) -> None:
        pass

    def description_changed(self, event: ServerDescriptionChangedEvent) -> None:
        new = event.new_description
        if new.server_type_name != "RSPrimary":
            return
        primary = (event.server_address, new.election_id)
        before, self._primary = self._primary, primary
        if before is not None and before != primary:
            self._engine.primary_changed()

    def closed(self, event: ServerClosedEvent) -> None:
        pass
