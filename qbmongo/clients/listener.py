"""The one command listener that every part shares."""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Callable, Hashable, Mapping
from contextvars import ContextVar
from typing import Any

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from ..core.effects import READ_COMMANDS, effects_of
from ..core.engine import Engine, Ticket
from ..core.transactions import OpenTransactions
from .frozen_writes import evident

__all__ = ["CURRENT", "OPENED", "TRANSACTIONS", "WIRE", "EffectListener", "Wire"]

# The ticket whose driver call is running in this context: told which server answered.
CURRENT: ContextVar[Ticket | None] = ContextVar("qbmongo_current", default=None)

# Commands of the driver call running in this context that were started and had no outcome yet. A
# cancelled or interrupted call publishes none: what is left here when it ends is closed as unknown.
OPENED: ContextVar[set[Hashable] | None] = ContextVar("qbmongo_opened", default=None)


class Wire:
    """What was seen of the commands of one driver call. started: how often one was sent."""

    __slots__ = ("reply", "started")

    def __init__(self) -> None:
        self.started = 0
        self.reply: Mapping[str, Any] | None = None


# Set around the driver call that sends a batch.
WIRE: ContextVar[Wire | None] = ContextVar("qbmongo_wire", default=None)

# Transactions of all clients of the process.
TRANSACTIONS = OpenTransactions()

# What a server says that is no primary any more, or is about to stop being one.
# Source: https://github.com/mongodb/specifications, server discovery and monitoring, "not writable
# primary" and "node is recovering"
NOT_PRIMARY = frozenset({91, 189, 10058, 10107, 11600, 11602, 13435, 13436})


class EffectListener(CommandListener):
    """Tells the engine of every command on the wire, in the thread that sends it.

    The event holds the caller's own dict, so it is read at once. Nothing raised here reaches the
    driver, which would swallow it: the engine handles its own faults. The driver's monitors hold
    their listeners for some seconds after a client was dropped; so the engine is held weakly.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = weakref.ref(engine)
        self._client: Callable[[], Any] = _nobody
        self._watcher: Callable[[], Any] = _nobody
        self._topology: Any = None
        self._primary: Any = None

    def attach(self, client: Any) -> None:
        """Whose topology to look at, from now on. client: the driver's own, held weakly."""
        self._client = weakref.ref(client)

    def renew_by(self, watcher: Any) -> None:
        """Who is asked for a new lease when another primary has ended the old one; held weakly."""
        self._watcher = weakref.ref(watcher)

    def started(self, event: CommandStartedEvent) -> None:
        name = event.command_name
        if name in READ_COMMANDS:
            return
        key = (event.connection_id, event.request_id)
        wire = WIRE.get()
        if wire is not None:
            wire.started += 1
        opened = OPENED.get()
        if opened is not None:
            opened.add(key)
        command: Mapping[str, Any] = event.command
        if "autocommit" in command:
            self._in_transaction(key, event)
        engine = self._engine()
        if engine is not None and engine.cache is not None:
            try:
                command = evident(name, command)
            except Exception:
                # A raw command of any form is no evidence, and counts as "any".
                command = event.command
            engine.command_started(key, name, event.database_name, command, time.monotonic())

    def succeeded(self, event: CommandSucceededEvent) -> None:
        name = event.command_name
        ticket = CURRENT.get()
        if ticket is None and name in READ_COMMANDS:
            # Nothing is kept of it, so that it does not matter who answered, and when.
            return
        address = event.connection_id
        if ticket is not None:
            ticket.address = address
        key = (address, event.request_id)
        if name not in READ_COMMANDS:
            wire = WIRE.get()
            if wire is not None:
                wire.reply = event.reply
            TRANSACTIONS.succeeded(key, event.reply)
            opened = OPENED.get()
            if opened:
                opened.discard(key)
        engine = self._engine()
        if engine is not None:
            self._look(engine)
            engine.command_succeeded(key, name, event.reply, address, time.monotonic())

    def failed(self, event: CommandFailedEvent) -> None:
        name = event.command_name
        engine = self._engine()
        if engine is not None and event.failure.get("code") in NOT_PRIMARY:
            engine.primary_changed()
        if name in READ_COMMANDS:
            return
        key = (event.connection_id, event.request_id)
        TRANSACTIONS.failed(key, event.failure)
        opened = OPENED.get()
        if opened:
            opened.discard(key)
        if engine is not None:
            engine.command_failed(key, name, event.failure, time.monotonic())

    @staticmethod
    def _in_transaction(key: Hashable, event: CommandStartedEvent) -> None:
        command = event.command
        effects = effects_of(event.command_name, event.database_name, command, mutable_ok=False)
        with contextlib.suppress(LookupError, TypeError, ValueError):  # a raw command of any form
            TRANSACTIONS.started(key, event.command_name, command, effects, time.monotonic())

    def _look(self, engine: Engine) -> None:
        """Tells the engine when another server, or the same in another term, is the primary.

        Looked at with every answer, before what it brings can be kept. A ServerListener would cost
        a thread, which polls, hears of it later, and holds up closing for half a second.
        """
        client = self._client()
        if client is None:
            return
        try:
            topology = client.topology_description
            if topology is self._topology:
                return
            self._topology = topology
            for server in topology.server_descriptions().values():
                if engine.coalescer is not None and server.round_trip_time is not None:
                    engine.coalescer.paces.way_s = server.round_trip_time
                if server.server_type_name == "RSPrimary":
                    primary = (server.address, server.election_id)
                    before, self._primary = self._primary, primary
                    if before is not None and before != primary:
                        engine.primary_changed()
                        self._renew()
        except Exception as error:
            engine.cache_fault("topology", error)

    def _renew(self) -> None:
        """The watcher may have heard of the primary before us: then it sees no need of a proof."""
        watcher = self._watcher()
        if watcher is not None:
            watcher._work.inbox.catch_up(_heard)


def _heard(is_caught_up: bool) -> None:
    """Nobody waits for it: the lease itself is told to the engine."""


def _nobody() -> None:
    """A client, or its watcher, that is still being made."""
