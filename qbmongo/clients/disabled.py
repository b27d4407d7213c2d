"""The three clients under QBMONGO_DISABLE=1: the plain driver's, with nothing of ours in the way.

For finding out whether qbmongo has to do with a problem, and for switching it off in a running
deployment without touching the program. The variable is read when a client class is first taken
from qbmongo. Databases, collections and cursors are the driver's own classes; the client accepts
`qb=` and drops it unseen, and `client.qb` is there and does nothing: stats(), profile() and
advise() are empty, options() says that every part is off, clear() clears nothing, caught_up() and
flush() return at once, explain_rewrite() says that rewriting is off.
No other QBMONGO_* variable is looked at.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..settings import Settings

if TYPE_CHECKING:
    from ..advisor.report import Report
    from ..profiles import ProfileSnapshot
    from .rewrite_explained import RewriteExplanation
    from .stats import Stats

_OFF = Settings.preset("off")


class _Inert:
    """What `client.qb` offers, without anything behind it."""

    __slots__ = ()

    @property
    def settings(self) -> Settings:
        """Every part is off."""
        return _OFF

    def options(self, namespace: str | None = None, **parts: Any) -> Settings:
        """Every part is off everywhere, whatever is given."""
        return _OFF

    def stats(self) -> Stats:
        """Nothing was counted."""
        from .stats import Stats

        return Stats(None, {})

    def profile(self) -> ProfileSnapshot:
        """A snapshot without shapes."""
        from ..profiles import ProfileSnapshot

        now_s = time.time()
        return ProfileSnapshot((), None, now_s, now_s)

    def explain_rewrite(self, collection: Any, query: Any, **options: Any) -> RewriteExplanation:
        """Everything is sent as it was written."""
        from .rewrite_explained import explain_rewrite

        return explain_rewrite(_OFF, collection, query, options)

    def clear(self) -> None:
        """There is nothing to forget."""

    @contextmanager
    def uncached(self) -> Iterator[None]:
        """Every read goes to the server anyway."""
        yield


class _InertSync(_Inert):
    __slots__ = ()

    def advise(self, databases: Any = (), **options: Any) -> Report:
        """No advice: nothing is read."""
        from ..advisor.report import Report

        return Report()

    def caught_up(self, timeout_s: float = 10.0) -> None:
        """Nothing is kept, so nothing can be behind."""

    def flush(self) -> None:
        """Nothing travels together, so nothing is pending."""


class _InertAsync(_Inert):
    __slots__ = ()

    async def advise(self, databases: Any = (), **options: Any) -> Report:
        """No advice: nothing is read."""
        from ..advisor.report import Report

        return Report()

    async def caught_up(self, timeout_s: float = 10.0) -> None:
        """Nothing is kept, so nothing can be behind."""

    async def flush(self) -> None:
        """Nothing travels together, so nothing is pending."""


# Our name -> (where the driver's class is, its name, the handle).
_CLIENTS: dict[str, tuple[str, str, type[_Inert]]] = {
    "OptimizedMongoClient": ("pymongo", "MongoClient", _InertSync),
    "OptimizedAsyncMongoClient": ("pymongo", "AsyncMongoClient", _InertAsync),
    "OptimizedClient": ("motor.motor_asyncio", "AsyncIOMotorClient", _InertAsync),
}


def __getattr__(name: str) -> Any:
    """The client classes, each made when it is first asked for: the other drivers stay unloaded."""
    if name not in _CLIENTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, driver_name, handle = _CLIENTS[name]
    driver_class = getattr(importlib.import_module(module), driver_name)

    def made_without_qb(self: Any, *args: Any, qb: object = None, **kwargs: Any) -> None:
        driver_class.__init__(self, *args, **kwargs)

    members = {
        "__module__": __name__,
        "__doc__": f"{driver_class.__module__}.{driver_name}, as QBMONGO_DISABLE asks.",
        "__init__": made_without_qb,
        "__class_getitem__": classmethod(lambda cls, key: cls),
        "qb": property(lambda self: handle()),
    }
    made = globals()[name] = type(name, (driver_class,), members)
    return made
