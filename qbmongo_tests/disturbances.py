"""Unfriendly schedules, to find tests that hold on a quiet machine alone.

Each is chosen by `--disturb NAME` and holds for the whole run, with delays from a fixed seed.
"""

from __future__ import annotations

import asyncio
import asyncio.base_events
import concurrent.futures
import concurrent.futures.thread
import gc
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import pymongo.asynchronous.pool
import pymongo.synchronous.pool

__all__ = ["DISTURBANCES"]


def _after(owner: Any, name: str, delays_s: tuple[float, ...]) -> None:
    """Whoever calls this function goes on later."""
    draw = random.Random(name)
    call = getattr(owner, name)

    def late(*args: Any, **kwargs: Any) -> Any:
        given = call(*args, **kwargs)
        time.sleep(draw.choice(delays_s))
        return given

    setattr(owner, name, late)


def _before(owner: Any, name: str, delays_s: tuple[float, ...]) -> None:
    """What this function does happens later."""
    draw = random.Random(name)
    call = getattr(owner, name)

    def late(*args: Any, **kwargs: Any) -> Any:
        time.sleep(draw.choice(delays_s))
        return call(*args, **kwargs)

    setattr(owner, name, late)


def _slow_starts() -> None:
    """Executor threads begin late, and what they tell an event loop comes late."""
    _before(concurrent.futures.thread._WorkItem, "run", (0, 0, 0.001, 0.01))
    _before(asyncio.base_events.BaseEventLoop, "call_soon_threadsafe", (0, 0, 0.001, 0.005))


def _slow_ends() -> None:
    """Executor threads hold what they worked with for a while after they told their result."""
    for name in ("set_result", "set_exception"):
        _after(concurrent.futures.Future, name, (0, 0, 0.002, 0.02))


def _switching() -> None:
    """Threads take turns all the time, and the garbage collector comes at every corner."""
    sys.setswitchinterval(1e-6)
    gc.set_threshold(50, 5, 5)


def _network() -> None:
    """Replies arrive late, and not in order."""
    delays_s = (0, 0, 0, 0.001, 0.004, 0.03)
    _after(pymongo.synchronous.pool, "receive_message", delays_s)
    draw = random.Random("network")
    receive = pymongo.asynchronous.pool.async_receive_message

    async def late(*args: Any, **kwargs: Any) -> Any:
        reply = await receive(*args, **kwargs)
        await asyncio.sleep(draw.choice(delays_s))
        return reply

    pymongo.asynchronous.pool.async_receive_message = late


DISTURBANCES: dict[str, Callable[[], None]] = {
    "slow-starts": _slow_starts,
    "slow-ends": _slow_ends,
    "switching": _switching,
    "network": _network,
}
