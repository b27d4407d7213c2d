"""Both runners behind one blocking face, and a sink that remembers and can be waited for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal, Protocol

from bson.timestamp import Timestamp
from pymongo import AsyncMongoClient, MongoClient

from qbmongo.coherence.records import Limits, Primary, WatcherStats
from qbmongo.coherence.task import TaskWatcher
from qbmongo.coherence.thread import ThreadWatcher
from qbmongo.core.events import effect_of_event
from qbmongo.records import Effect

RunnerKind = Literal["thread", "task"]
WAIT_S = 60.0


class Recorder:
    """A sink: everything it was told, in order, as tuples that begin with the method's name."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.is_used = True
        self._changed = threading.Condition()

    def event(self, database: str, effects: tuple[Effect, ...], time: Timestamp) -> None:
        self._tell("event", database, effects, time)

    def lease(self, database: str, primary: Primary, start_s: float) -> None:
        self._tell("lease", database, primary, start_s)

    def lost(self, database: str | None, reason: str) -> None:
        self._tell("lost", database, reason)

    def unavailable(self, database: str, reason: str) -> None:
        self._tell("unavailable", database, reason)

    def in_use(self, database: str) -> bool:
        return self.is_used

    def verification(self, database: str) -> Any:
        return None

    def verified(self, item: Any, reply: Any, now_s: float) -> None:
        raise AssertionError("nothing was to be verified")

    def wanted_facts(self, database: str) -> Sequence[str]:
        return ()

    def facts_stamp(self, namespace: str) -> Any:
        raise AssertionError("no facts were wanted")

    def facts(self, *arguments: Any) -> None:
        raise AssertionError("no facts were wanted")

    def facts_failed(self, *arguments: Any) -> None:
        raise AssertionError("no facts were wanted")

    def of(self, kind: str, database: str | None = None) -> list[tuple[Any, ...]]:
        with self._changed:
            return [
                told
                for told in self.told
                if told[0] == kind and (database is None or told[1] == database)
            ]

    def effects(self, database: str) -> list[Effect]:
        return [effect for told in self.of("event", database) for effect in told[2]]

    def ids(self, database: str) -> list[Any]:
        """Canonical `_id`s of all events of documents, in order."""
        return [form for effect in self.effects(database) for form in effect.ids or ()]

    def wait_for(self, holds: Callable[[], Any]) -> None:
        """Block until a condition holds, looked at whenever something is told."""
        deadline_s = time.monotonic() + WAIT_S
        with self._changed:
            while not holds():
                if not self._changed.wait(deadline_s - time.monotonic()):
                    raise TimeoutError(f"not told in time; told so far: {self.told}")

    def _tell(self, *told: Any) -> None:
        with self._changed:
            self.told.append(told)
            self._changed.notify_all()


class Watcher(Protocol):
    """What both runners can do, in a blocking form."""

    def watch(self, database: str) -> None: ...
    def caught_up(self, timeout_s: float = WAIT_S) -> bool: ...
    def close(self) -> None: ...
    def stats(self) -> WatcherStats: ...


class ThreadRunner:
    """ThreadWatcher as it is."""

    def __init__(self, uri: str, sink: Recorder, **options: Any) -> None:
        effects_of = options.pop("effects_of", effect_of_event)
        limits = options.pop("limits", None)

        def factory(changed: Mapping[str, Any]) -> MongoClient[dict[str, Any]]:
            return MongoClient(uri, **{**options, **changed})

        self.watcher = ThreadWatcher(sink, factory, effects_of, limits)
        self.watch = self.watcher.watch
        self.close = self.watcher.close
        self.stats = self.watcher.stats

    def caught_up(self, timeout_s: float = WAIT_S) -> bool:
        return self.watcher.caught_up(timeout_s)

    def stop(self) -> None:
        self.watcher.close()


class TaskRunner:
    """TaskWatcher on an event loop in a thread of its own."""

    def __init__(self, uri: str, sink: Recorder, **options: Any) -> None:
        effects_of = options.pop("effects_of", effect_of_event)
        limits = options.pop("limits", None)

        def factory(changed: Mapping[str, Any]) -> AsyncMongoClient[dict[str, Any]]:
            return AsyncMongoClient(uri, **{**options, **changed})

        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.watcher = TaskWatcher(sink, factory, effects_of, limits)
        self.stats = self.watcher.stats

    def watch(self, database: str) -> None:
        async def watch() -> None:
            self.watcher.watch(database)

        self.run(watch())

    def caught_up(self, timeout_s: float = WAIT_S) -> bool:
        is_caught_up: bool = self.run(self.watcher.caught_up(timeout_s))
        return is_caught_up

    def close(self) -> None:
        self.run(self.watcher.close())

    def stop(self) -> None:
        if self._loop.is_closed():
            return
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(2 * WAIT_S)


RUNNERS: dict[RunnerKind, type[ThreadRunner] | type[TaskRunner]] = {
    "thread": ThreadRunner,
    "task": TaskRunner,
}
QUICK = Limits(lease_s=0.8, timeout_s=0.5)
