"""The driver's method through which nearly every operation passes: what one leaves open is closed
when it ends.

It is put into a client's own attributes, and only where there is a cache. Parameters are named as
the driver names them, because passing them on as they come costs four times as much; a driver
with others gets the general form.
"""

from __future__ import annotations

import inspect
import time
from typing import Any

from ..core.engine import Engine
from .listener import OPENED

__all__ = ["retried", "retried_async"]

monotonic = time.monotonic

# Operations, as the driver names them, that send no command with an effect.
_ONLY_READS = ("find", "getMore")

_PARAMETERS = (
    *("self", "func", "session", "bulk", "operation", "is_read", "address", "read_pref"),
    *("retryable", "operation_id", "is_run_command", "is_aggregate_write", "conn_mgr"),
)


def _is_known(method: Any) -> bool:
    return tuple(inspect.signature(method).parameters) == _PARAMETERS


def retried(driver_client: Any, engine: Engine, client: Any) -> Any:
    """What takes the place of a client's `_retry_internal`.

    driver_client: the plain client class. client: a weak reference to the client.
    """
    driver: Any = driver_client._retry_internal

    def general(*args: Any, **kwargs: Any) -> Any:
        keys: set[Any] = set()
        token = OPENED.set(keys)
        try:
            return driver(client(), *args, **kwargs)
        finally:
            OPENED.reset(token)
            if keys:
                engine.abandoned(keys, monotonic())

    if not _is_known(driver):
        return general

    def retry_internal(
        func: Any,
        session: Any,
        bulk: Any,
        operation: Any,
        is_read: Any = False,
        address: Any = None,
        read_pref: Any = None,
        retryable: Any = False,
        operation_id: Any = None,
        is_run_command: Any = False,
        is_aggregate_write: Any = False,
        conn_mgr: Any = None,
    ) -> Any:
        if operation in _ONLY_READS:
            return driver(
                client(), func, session, bulk, operation, is_read, address, read_pref, retryable,
                operation_id, is_run_command, is_aggregate_write, conn_mgr,
            )  # fmt: skip
        keys: set[Any] = set()
        token = OPENED.set(keys)
        try:
            return driver(
                client(), func, session, bulk, operation, is_read, address, read_pref, retryable,
                operation_id, is_run_command, is_aggregate_write, conn_mgr,
            )  # fmt: skip
        finally:
            OPENED.reset(token)
            if keys:
                engine.abandoned(keys, monotonic())

    return retry_internal


def retried_async(driver_client: Any, engine: Engine, client: Any) -> Any:
    """As `retried`, for PyMongo Async."""
    driver: Any = driver_client._retry_internal

    async def closing(*args: Any, **kwargs: Any) -> Any:
        keys: set[Any] = set()
        token = OPENED.set(keys)
        try:
            return await driver(client(), *args, **kwargs)
        finally:
            OPENED.reset(token)
            if keys:
                engine.abandoned(keys, monotonic())

    if not _is_known(driver):
        return closing

    def retry_internal(
        func: Any,
        session: Any,
        bulk: Any,
        operation: Any,
        is_read: Any = False,
        address: Any = None,
        read_pref: Any = None,
        retryable: Any = False,
        operation_id: Any = None,
        is_run_command: Any = False,
        is_aggregate_write: Any = False,
        conn_mgr: Any = None,
    ) -> Any:
        # No coroutine of its own: each turn of the loop would go through it.
        if operation in _ONLY_READS:
            return driver(
                client(), func, session, bulk, operation, is_read, address, read_pref, retryable,
                operation_id, is_run_command, is_aggregate_write, conn_mgr,
            )  # fmt: skip
        return closing(
            func, session, bulk, operation, is_read, address, read_pref, retryable,
            operation_id, is_run_command, is_aggregate_write, conn_mgr,
        )  # fmt: skip

    return retry_internal
