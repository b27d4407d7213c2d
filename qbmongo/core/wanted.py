"""The collections whose facts the cache has been asked for and does not know.

Only a read makes a collection wanted, and known facts end it: what a clear makes unknown is not
read again before somebody reads the collection. The watcher asks at each step, so that what it is
told must cost nothing for collections that are not wanted.
"""

from __future__ import annotations

from itertools import islice

from .fills import Namespace

__all__ = ["WantedFacts"]

# The watcher reads one after another, and asks again after each.
_AT_A_TIME = 8


class WantedFacts:
    """By database, in the order in which they are to be read. Called under the client's lock."""

    __slots__ = ("_databases",)

    def __init__(self) -> None:
        self._databases: dict[str, dict[Namespace, None]] = {}

    def add(self, namespace: Namespace) -> None:
        """A read met a collection without facts."""
        self._databases.setdefault(namespace.trust.database, {})[namespace] = None

    def known(self, namespace: Namespace) -> None:
        """The facts have come."""
        self._databases.get(namespace.trust.database, {}).pop(namespace, None)

    def postpone(self, namespace: Namespace) -> None:
        """The facts could not be had, or not be kept: the others come first."""
        wanted = self._databases.get(namespace.trust.database, {})
        if namespace in wanted:
            del wanted[namespace]
            wanted[namespace] = None

    def first(self, database: str) -> list[str]:
        """The names that are to be read next; none only if there are none.

        Without a trusted stream only what a time to live lets be cached.
        """
        wanted = (n for n in self._databases.get(database, ()) if n.trust.trusted or n.untrusted)
        return [namespace.name for namespace in islice(wanted, _AT_A_TIME)]

    def clear(self) -> None:
        """Nothing is wanted."""
        self._databases.clear()
