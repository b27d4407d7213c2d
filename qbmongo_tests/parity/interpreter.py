"""Runs the calls of a step on one arm: a client, a database of its own, and what calls stored."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import bson.objectid
import pymongo
import pytest
from bson import SON, ObjectId

from qbmongo_tests.parity.drivers import Driver, settled
from qbmongo_tests.parity.operations import (
    Call,
    Callback,
    Handle,
    Iterator,
    Namespace,
    Request,
    Slot,
)
from qbmongo_tests.parity.programs import OPTIONS
from qbmongo_tests.parity.values import Document

_RETRY_LIMIT = "_WITH_TRANSACTION_RETRY_TIME_LIMIT"
_SESSION_MODULES = (
    "motor.core",
    "pymongo.client_session_shared",
    "pymongo.synchronous.client_session",
    "pymongo.asynchronous.client_session",
)


@contextmanager
def reproducible() -> Any:
    """Take clock and chance out of the driver.

    Its ObjectIds count from zero, below any the server makes: otherwise their order would depend on
    the second in which an arm made them. with_transaction gives up at its first transient error.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ObjectId, "_random", lambda: bytes(5))
        patch.setattr(ObjectId, "_inc", 0)
        patch.setattr(bson.objectid, "time", SimpleNamespace(time=lambda: 0))
        for name in _SESSION_MODULES:
            if find_spec(name) is not None:
                module = import_module(name)
                if hasattr(module, _RETRY_LIMIT):
                    patch.setattr(module, _RETRY_LIMIT, 0)
        yield


class Missing(Exception):
    """A call cannot be made: it needs what an earlier call failed to store, or would never end."""


@dataclass
class Outcome:
    """What one call did: its value or its exception, and what became of its arguments.

    `answer` is the class of what the method returned before it was awaited. A TypeError has none:
    whether a wrong signature shows before or in the await differs between the drivers themselves.
    """

    value: Any = None
    error: BaseException | None = None
    answer: str = ""
    arguments: Any = None


class Arm:
    """One of the two sides: the plain driver's client or ours."""

    def __init__(self, driver: Driver, client: Any, database_name: str) -> None:
        self.driver = driver
        self.client = client
        self.database_name = database_name
        self.slots: dict[str, Any] = {}
        self.inner: list[Outcome] = []
        self._next_id = 0

    def forget(self) -> None:
        """Begin a new example."""
        self._next_id = 0

    def run(self, call: Call) -> Outcome:
        """Make the call and wait for its end."""
        ObjectId._inc = self._next_id
        self.inner = []
        try:
            return self.driver.run(self._perform(call))
        finally:
            self._next_id = ObjectId._inc

    def release(self) -> None:
        """Close the cursors and sessions of the step."""
        for slot, method in (("cursor", "close"), ("session", "end_session")):
            held = getattr(self.slots.get(slot), method, None)
            if held is not None:
                with suppress(Exception):  # Motor: an aggregation that never started cannot close.
                    self.driver.run(settled(held))
        self.slots.clear()

    async def _perform(self, call: Call) -> Outcome:
        receiver = self._receiver(call)
        if self.driver.never_ends(receiver, call.method, call.args):
            raise Missing(call.method)
        outcome = Outcome()
        try:
            args = tuple([self._arm_value(value) for value in call.args])
            kwargs = {name: self._arm_value(value) for name, value in call.kwargs.items()}
        except Missing:
            raise
        except Exception as error:
            return Outcome(error=error)
        outcome.arguments = [args, kwargs]
        limit = nullcontext() if call.timeout_s is None else pymongo.timeout(call.timeout_s)
        try:
            with limit:
                if call.options is not None:
                    receiver = receiver.with_options(**OPTIONS[call.options])
                if call.method[0] == "@":
                    value = await self.driver.syntax(call.method, receiver, args)
                else:
                    value = getattr(receiver, call.method)(*args, **kwargs)
                    if inspect.isawaitable(value):
                        outcome.answer = type(value).__name__
                        value = await value
        except Exception as error:
            outcome.error = error
            if isinstance(error, TypeError):
                outcome.answer = ""
        else:
            outcome.value = value
            if call.store is not None:
                self.slots[call.store] = value
        return outcome

    def _receiver(self, call: Call) -> Any:
        name = call.receiver
        if name[0] == "$":
            return self._slot(name[1:])
        if name == "client":
            return self.client
        database = self.client[self.database_name]
        if name == "database":
            return database
        if name == "gridfs":
            return self.driver.gridfs_class(database)
        return database[name]

    def _slot(self, name: str) -> Any:
        try:
            return self.slots[name]
        except KeyError:
            raise Missing(name) from None

    def _arm_value(self, value: Any) -> Any:
        """A copy of the value for this arm alone, placeholders replaced."""
        copier = _COPIERS.get(type(value))
        return value if copier is None else copier(self, value)

    def _copied(self, values: Iterable[Any]) -> list[Any]:
        return [self._arm_value(value) for value in values]

    def _mapping(self, value: Any) -> Any:
        return type(value)([(key, self._arm_value(inner)) for key, inner in value.items()])

    def _handle(self, handle: Handle) -> Any:
        if handle.name == "name":
            return self.database_name
        database = self.client[self.database_name]
        return database if handle.name == "database" else database[handle.name]

    def _request(self, request: Request) -> Any:
        args = self._copied(request.args)
        return getattr(pymongo, request.name)(*args, **self._mapping(dict(request.kwargs)))

    def _callback(self, callback: Callback) -> Callable[[Any], Any]:
        async def body(session: Any) -> Any:
            outcome = None
            for call in callback.calls:
                outcome = await self._perform(call)
                self.inner.append(outcome)
                if outcome.error is not None and callback.stops:
                    raise outcome.error
            return outcome and outcome.value

        return self.driver.callback(body)


_COPIERS: dict[type, Callable[[Arm, Any], Any]] = {
    dict: Arm._mapping,
    SON: Arm._mapping,
    Document: Arm._mapping,
    list: lambda arm, value: arm._copied(value),
    tuple: lambda arm, value: tuple(arm._copied(value)),
    Slot: lambda arm, value: arm._slot(value.name),
    Namespace: lambda arm, value: f"{arm.database_name}.{value.collection}",
    Handle: Arm._handle,
    Iterator: lambda arm, value: iter(arm._copied(value.elements)),
    Request: Arm._request,
    Callback: Arm._callback,
}
