"""Calls at the same time, and waiting until they are where a test wants them."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from typing import Any

from qbmongo_tests.clients.sites import Site

__all__ = ["Callers", "awaited", "just", "ours", "until", "waiting"]


class Callers:
    """Calls at the same time: threads for the sync driver, tasks on the running loop otherwise."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.tasks: list[Any] = []
        self._results: list[Any] = []

    def start(self, call: Callable[[], Any]) -> None:
        site = self.site
        if site.is_async:
            self.tasks.append(asyncio.ensure_future(awaited(call)))
            return
        position = len(self._results)
        self._results.append(None)

        def work() -> None:
            try:
                value = call()
                self._results[position] = site.run(value) if inspect.iscoroutine(value) else value
            except BaseException as error:
                self._results[position] = error

        thread = threading.Thread(target=work)
        thread.start()
        self.tasks.append(thread)

    async def start_in_turn(self, call: Callable[[], Any], pending: Callable[[], int]) -> None:
        """Starts a call, and returns when it waits, or is over, or has had a second to do either.

        pending: how many wait. Tasks begin in the order in which they are started; threads do not.
        """
        before = pending()
        self.start(call)
        if self.site.is_async:
            return
        thread = self.tasks[-1]
        for _ in range(1_000):
            if pending() > before or not thread.is_alive():
                return
            thread.join(0.001)

    async def results(self) -> list[Any]:
        if self.site.is_async:
            return list(await asyncio.gather(*self.tasks, return_exceptions=True))
        for thread in self.tasks:
            thread.join(120)
        return self._results


async def awaited(call: Callable[[], Any]) -> Any:
    return await call()


async def until(condition: Callable[[], bool], site: Site) -> None:
    """Returns when a condition holds that another thread or task brings about."""
    turned = threading.Event()
    for _ in range(60_000):
        if condition():
            return
        if site.is_async:
            await asyncio.sleep(0.001)
        else:
            turned.wait(0.001)
    raise TimeoutError("the condition did not come about")


def waiting(client: Any) -> int:
    """How many wait for somebody else's flight."""
    flights = client._qb.engine.cache._flights
    return sum(len(fill.waiters) for fill in list(flights.values()))


async def just(value: Any) -> Any:
    return value


def ours(command: Any) -> bool:
    """Whether a command is about the tests' collection: the watcher sends some, too."""
    document = command.document()
    return bool(document[command.name] == "c")
