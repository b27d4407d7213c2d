"""qbmongo: a PyMongo or Motor program made faster by changing one import.

OptimizedClient            is-a motor.motor_asyncio.AsyncIOMotorClient
OptimizedAsyncMongoClient  is-a pymongo.AsyncMongoClient
OptimizedMongoClient       is-a pymongo.MongoClient

Everything that is ours is behind `client.qb`; see docs/. With QBMONGO_DISABLE=1 in the environment
the three are the plain driver's classes (clients/disabled.py).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clients.motor import OptimizedClient
    from .clients.pymongo_async import OptimizedAsyncMongoClient
    from .clients.pymongo_sync import OptimizedMongoClient
    from .errors import (
        AdvisorInputError,
        ProfileFileError,
        QbError,
        QbTimeoutError,
        ServerUnreadableError,
        SettingsError,
    )
    from .settings import (
        BatchSettings,
        CacheSettings,
        CoalesceSettings,
        ProfileSettings,
        RewriteSettings,
        Settings,
    )

__version__ = "0.1.0"

__all__ = [
    "AdvisorInputError",
    "BatchSettings",
    "CacheSettings",
    "CoalesceSettings",
    "OptimizedAsyncMongoClient",
    "OptimizedClient",
    "OptimizedMongoClient",
    "ProfileFileError",
    "ProfileSettings",
    "QbError",
    "QbTimeoutError",
    "RewriteSettings",
    "ServerUnreadableError",
    "Settings",
    "SettingsError",
    "__version__",
]

# A program uses one driver: the others are not imported for it.
_WHERE = {
    "OptimizedClient": ".clients.motor",
    "OptimizedAsyncMongoClient": ".clients.pymongo_async",
    "OptimizedMongoClient": ".clients.pymongo_sync",
    "AdvisorInputError": ".errors",
    "ProfileFileError": ".errors",
    "QbError": ".errors",
    "QbTimeoutError": ".errors",
    "ServerUnreadableError": ".errors",
    "SettingsError": ".errors",
    "BatchSettings": ".settings",
    "CacheSettings": ".settings",
    "CoalesceSettings": ".settings",
    "ProfileSettings": ".settings",
    "RewriteSettings": ".settings",
    "Settings": ".settings",
}


def __getattr__(name: str) -> Any:
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if where.startswith(".clients."):
        from .switch import is_disabled

        if is_disabled():
            where = ".clients.disabled"
    value = getattr(importlib.import_module(where, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
