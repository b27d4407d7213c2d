"""Locks that a fork cannot leave held for ever."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

__all__ = ["fork_safe_lock"]

_LOCKS: weakref.WeakSet[Any] = weakref.WeakSet()


def fork_safe_lock() -> Any:
    """A threading.Lock that is free in the child of a fork.

    Another thread of the parent may hold it at the fork; in the child that thread does not exist.

    The interpreter's own lock, and no class around it: a signal's handler that raises in the first
    or last step of such a class's `with` would leave the lock held for ever.
    """
    lock = threading.Lock()
    _LOCKS.add(lock)
    return lock


def _renew() -> None:
    for lock in list(_LOCKS):
        # As threading and logging do it.
        lock._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
