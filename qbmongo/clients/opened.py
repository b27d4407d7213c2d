"""Commands whose call ends before their outcome was published: closed as unknown.

A cancelled or interrupted driver call publishes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from contextvars import Token
from typing import Any

from ..core.engine import Engine
from .listener import OPENED

__all__ = ["AsyncCheckout", "Checkout", "Opened"]


class Opened:
    """Within it, what starts and has no outcome when it ends is told to the engine."""

    __slots__ = ("_engine", "_keys", "_token")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keys: set[Hashable] = set()
        self._token: Token[set[Hashable] | None] | None = None

    def __enter__(self) -> None:
        self._token = OPENED.set(self._keys)

    def __exit__(self, *error: object) -> None:
        assert self._token is not None
        OPENED.reset(self._token)
        if self._keys:
            self._engine.abandoned(self._keys, time.monotonic())


class Checkout:
    """A connection that the driver takes for operations beside its retrying ones."""

    __slots__ = ("_checkout", "_opened")

    def __init__(self, engine: Engine, checkout: Any) -> None:
        self._opened = Opened(engine)
        self._checkout = checkout

    def __enter__(self) -> Any:
        connection = self._checkout.__enter__()
        self._opened.__enter__()
        return connection

    def __exit__(self, *error: object) -> Any:
        self._opened.__exit__()
        return self._checkout.__exit__(*error)


class AsyncCheckout:
    """A connection that the driver takes for operations beside its retrying ones."""

    __slots__ = ("_checkout", "_opened")

    def __init__(self, engine: Engine, checkout: Any) -> None:
        self._opened = Opened(engine)
        self._checkout = checkout

    async def __aenter__(self) -> Any:
        connection = await self._checkout.__aenter__()
        self._opened.__enter__()
        return connection

    async def __aexit__(self, *error: object) -> Any:
        self._opened.__exit__()
        return await self._checkout.__aexit__(*error)
