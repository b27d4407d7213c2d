"""One adapter per driver: a blocking way to run one description of operations on any client of it.

The interpreter of the harness is a coroutine; the sync adapter runs it without an event loop (it
never suspends there), the others on a loop of their own. What differs between the drivers beyond
`await` is syntax: loops, context managers, callbacks.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import motor.motor_asyncio
import pymongo
from gridfs import GridFSBucket
from gridfs.asynchronous import AsyncGridFSBucket
from motor.core import AgnosticLatentCommandCursor

T = TypeVar("T")

CLIENT_OPTIONS: dict[str, Any] = {"serverSelectionTimeoutMS": 20_000, "maxPoolSize": 10}


CALL_LIMIT_S = 180.0  # Nothing that a test runs takes so long; a call that hangs must fail.


class Driver:
    """A driver: how to make its clients and how to run coroutines over their methods."""

    name: str
    optimized: str
    client_class: type[Any]
    gridfs_class: type[Any]
    is_async: bool

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        raise NotImplementedError

    def stop(self) -> None:
        """Release what the adapter holds; its clients are closed before."""

    def plain(self, uri: str) -> Any:
        """The driver's own client."""
        return self._made(lambda: self.client_class(uri, **CLIENT_OPTIONS))

    def ours(self, uri: str, settings: Any) -> Any:
        """Our client for this driver. Raises AttributeError where qbmongo has none."""
        import qbmongo

        cls = getattr(qbmongo, self.optimized)
        return self._made(lambda: cls(uri, qb=settings, **CLIENT_OPTIONS))

    def close(self, client: Any) -> None:
        self.run(settled(client.close))

    def callback(self, body: Callable[[Any], Coroutine[Any, Any, Any]]) -> Callable[[Any], Any]:
        """The body as with_transaction of this driver wants it."""
        return body

    def never_ends(self, receiver: Any, method: str, args: Sequence[Any]) -> bool:
        """Whether the driver itself would wait for ever in this call."""
        return False

    def _made(self, make: Callable[[], Any]) -> Any:
        async def made() -> Any:
            return make()

        return self.run(made())

    async def syntax(self, name: str, receiver: Any, args: tuple[Any, ...]) -> Any:
        """Do what an @method stands for; raises what the driver raises."""
        common = _SYNTAX.get(name)
        if common is not None:
            return await resolved(common(receiver, *args))
        if name == "@each":
            return await _each(receiver)
        return await getattr(self, "_" + name[1:])(receiver, *args)

    async def _iterate(self, receiver: Any) -> list[Any]:
        raise NotImplementedError

    async def _next(self, receiver: Any) -> Any:
        raise NotImplementedError

    async def _enter(self, receiver: Any) -> Any:
        raise NotImplementedError

    async def _exit(self, receiver: Any) -> Any:
        raise NotImplementedError

    async def _bound(self, session: Any, body: Callable[[Any], Any]) -> None:
        """Run the body with the session bound to the context."""
        raise NotImplementedError


class Sync(Driver):
    name = "sync"
    optimized = "OptimizedMongoClient"
    client_class = pymongo.MongoClient
    gridfs_class = GridFSBucket
    is_async = False

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            coroutine.send(None)
        except StopIteration as done:
            result: T = done.value
            return result
        coroutine.close()
        raise RuntimeError("a coroutine over the sync driver must not suspend")

    def callback(self, body: Callable[[Any], Coroutine[Any, Any, Any]]) -> Callable[[Any], Any]:
        return lambda session: self.run(body(session))

    async def _iterate(self, receiver: Any) -> list[Any]:
        return [element for element in receiver]  # noqa: C416 (list() would ask for __len__)

    async def _next(self, receiver: Any) -> Any:
        return next(receiver)

    async def _enter(self, receiver: Any) -> Any:
        return type(receiver).__enter__(receiver)

    async def _exit(self, receiver: Any) -> Any:
        return type(receiver).__exit__(receiver, None, None, None)

    async def _bound(self, session: Any, body: Callable[[Any], Any]) -> None:
        with session.bind():
            body(session)


class _Looped(Driver):
    is_async = True

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """As the loop does; raises CancelledError where a call does not end."""
        task = self._loop.create_task(coroutine)
        guard = self._loop.call_later(CALL_LIMIT_S, task.cancel)
        try:
            return self._loop.run_until_complete(task)
        finally:
            guard.cancel()

    def stop(self) -> None:
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _iterate(self, receiver: Any) -> list[Any]:
        return [element async for element in receiver]

    async def _next(self, receiver: Any) -> Any:
        return await anext(receiver)

    async def _enter(self, receiver: Any) -> Any:
        return await type(receiver).__aenter__(receiver)

    async def _exit(self, receiver: Any) -> Any:
        return await type(receiver).__aexit__(receiver, None, None, None)

    async def _bound(self, session: Any, body: Callable[[Any], Any]) -> None:
        async with session.bind():
            await body(session)


class Async(_Looped):
    name = "async"
    optimized = "OptimizedAsyncMongoClient"
    client_class = pymongo.AsyncMongoClient
    gridfs_class = AsyncGridFSBucket


class Motor(_Looped):
    name = "motor"
    optimized = "OptimizedClient"
    client_class = motor.motor_asyncio.AsyncIOMotorClient
    gridfs_class = motor.motor_asyncio.AsyncIOMotorGridFSBucket

    def never_ends(self, receiver: Any, method: str, args: Sequence[Any]) -> bool:
        """Motor's own: each on a closed cursor never reports its end; to_list of an aggregation
        that failed to start, and a command without a name (StopIteration), never resolve their
        futures."""
        if method in ("command", "cursor_command") and args:
            return not args[0] and isinstance(args[0], (dict, list, tuple, bytes))
        if method == "@each":
            return bool(getattr(receiver, "closed", False))
        if method != "to_list" or not isinstance(receiver, AgnosticLatentCommandCursor):
            return False
        latent: Any = receiver
        return bool(latent.started and latent.start is None and latent.delegate.alive)


DRIVERS: dict[str, type[Driver]] = {cls.name: cls for cls in (Sync, Async, Motor)}


async def resolved(value: Any) -> Any:
    """The value, awaited where it is awaitable."""
    return await value if inspect.isawaitable(value) else value


async def settled(method: Callable[[], Any]) -> Any:
    return await resolved(method())


async def caught_up(client: Any) -> None:
    """Wait until our client has seen what other clients wrote before this call."""
    wait: Callable[[float], Awaitable[None] | None] | None = getattr(client.qb, "caught_up", None)
    if wait is not None:
        await resolved(wait(CALL_LIMIT_S))


async def _each(receiver: Any) -> list[Any]:
    """Motor's callback loop, until it reports the end or an error."""
    done = asyncio.get_running_loop().create_future() if hasattr(receiver, "each") else None
    seen: list[Any] = []

    def callback(result: Any, error: Exception | None) -> None:
        assert done is not None
        if error is not None:
            done.set_exception(error)
        elif result is None:
            done.set_result(None)
        else:
            seen.append(result)

    receiver.each(callback)
    assert done is not None
    await done
    return seen


_SYNTAX: dict[str, Callable[..., Any]] = {
    "@get": getattr,
    "@getitem": lambda receiver, key: receiver[key],
    "@bool": bool,
    "@copy": copy.copy,
    "@deepcopy": copy.deepcopy,
}
