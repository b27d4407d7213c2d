"""Waiting for what happens in another thread or process, with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable

_POLL_S = 0.005


def wait_until(condition: Callable[[], object], limit_s: float = 60.0) -> bool:
    """Whether the condition held within limit_s seconds; returns as soon as it does."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
