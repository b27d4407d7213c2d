"""What both runners share: the options of the watcher's client, and its answers put in records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)
from pymongo.topology_description import TopologyDescription

from qbmongo.coherence.records import Address, Failure, Limits, Primary

# What an `_id` is on the server, whatever the program's own codec makes of it.
CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    document_class=dict,
    tz_aware=False,
    uuid_representation=UuidRepresentation.UNSPECIFIED,
    datetime_conversion=DatetimeConversion.DATETIME_MS,
)

# What a command may raise that says nothing about our own code. A NotPrimaryError is no command
# error here: whoever answered must be asked anew who it is.
FAILURES = (PyMongoError, BSONError)


class AddressListener(CommandListener):
    """Remembers which server answered last; with one command at a time, the one just sent."""

    def __init__(self) -> None:
        self.address: Address | None = None

    def started(self, event: CommandStartedEvent) -> None:
        self.address = None

    def succeeded(self, event: CommandSucceededEvent) -> None:
        self.address = (event.connection_id[0], event.connection_id[1])

    def failed(self, event: CommandFailedEvent) -> None:
        self.address = (event.connection_id[0], event.connection_id[1])

    def primary(self, topology: TopologyDescription) -> Primary:
        """Who answered last, with the election the driver knows it by."""
        assert self.address is not None
        server = topology.server_descriptions().get(self.address)
        return Primary(self.address, server.election_id if server is not None else None)


def client_options(limits: Limits, listener: AddressListener) -> dict[str, Any]:
    """What the watcher's client has in place of the user's options.

    Everything not named here (hosts, credentials, TLS, appname, compressors, server API) is as the
    user gave it. Every wait is finite, nothing is retried by the driver, nobody listens but us. The
    read preference stays, as it may have parts that "primary" alone would contradict (tags,
    maxStalenessSeconds); each command names its own.

    Args:
        limits: timeout_s bounds each wait.
        listener: the runner's own.

    Returns:
        Keyword arguments for MongoClient or AsyncMongoClient; they outweigh those of a URI.
    """
    timeout_ms = int(limits.timeout_s * 1000)
    return {
        "event_listeners": [listener],
        "maxPoolSize": 1,
        "minPoolSize": 0,
        "socketTimeoutMS": timeout_ms,
        "connectTimeoutMS": timeout_ms,
        "serverSelectionTimeoutMS": timeout_ms,
        "waitQueueTimeoutMS": timeout_ms,
        "timeoutMS": None,
        "retryReads": False,
        "retryWrites": False,
        "auto_encryption_opts": None,
        "connect": False,
    }


def failure_of(error: Exception) -> Failure:
    """Why a command has no reply; error is one of FAILURES."""
    if isinstance(error, OperationFailure):
        details: Mapping[str, Any] = error.details or {}
        message = str(details.get("errmsg") or error)
        labels = frozenset(details.get("errorLabels") or ())
        return Failure("command", message, error.code, labels)
    kind: Literal["network", "undecodable"] = "network"
    if isinstance(error, BSONError):
        kind = "undecodable"
    return Failure(kind, str(error) or type(error).__name__)
