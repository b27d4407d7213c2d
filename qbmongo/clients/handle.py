"""`client.qb`: the one attribute that qbmongo adds to a client."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import QbError, QbTimeoutError
from ..settings import PartSettings, Settings, check_namespace
from .parts import UNCACHED, Parts

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..advisor.report import Report
    from ..profiles import ProfileSnapshot
    from .advice import AdviceOptions
    from .rewrite_explained import RewriteExplanation
    from .stats import Stats

__all__ = ["AsyncHandle", "MotorHandle", "SyncHandle"]


class _Handle:
    """What all three clients offer, without waiting for anything."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @property
    def settings(self) -> Settings:
        """The settings in force for the client."""
        return self._parts.settings

    def options(self, namespace: str | None = None, **parts: PartSettings | None) -> Settings:
        """Reads, or changes, what holds for a database ("shop") or a collection ("shop.orders").

        namespace: None for the client's own settings, which can only be read. parts: records to
        use there instead of the client's, or None to switch a part off there. Takes effect at once,
        for collection objects that exist too. Returns the settings then in force.

        Raises SettingsError naming the part, the value and what is allowed.
        """
        if namespace is None:
            if parts:
                raise TypeError("options of the whole client are given when it is made (qb=...)")
            return self._parts.settings
        check_namespace(f"options({namespace!r})", namespace)
        if parts:
            self._parts.configure(self._parts.settings.overridden(namespace, parts))
        return self._parts.settings.for_namespace(namespace)

    def stats(self) -> Stats:
        """What every part has done so far: a frozen snapshot."""
        from .stats import stats_of

        return stats_of(self._parts.engine, self._parts.watcher, time.monotonic())

    def profile(self) -> ProfileSnapshot:
        """Statistics of every query shape so far: a frozen snapshot, `.save(path)` keeps it.

        Raises QbError if the profile is off.
        """
        from ..profiles import ProfileSnapshot

        engine = self._parts.engine
        if engine is None or engine.profile is None:
            raise QbError("the profile is off: Settings(profile=ProfileSettings()) turns it on")
        return ProfileSnapshot.take(engine.profile, time.monotonic(), time.time())

    def explain_rewrite(self, collection: Any, query: Any, **options: Any) -> RewriteExplanation:
        """How a query would be rewritten before it is sent: each step with rule, reason and source.

        Nothing is sent. collection: a collection, or its name as "database.collection". query: a
        filter, or a pipeline (a list). options: what else is given with it (projection, sort, hint,
        collation, ...), under which a query may be left as it is.

        Raises TypeError or ValueError for what is no query or no name.
        """
        from .rewrite_explained import explain_rewrite

        return explain_rewrite(self._parts.settings, collection, query, options)

    def clear(self) -> None:
        """Forgets every kept answer of this client; answers under way are not kept either."""
        if self._parts.engine is not None:
            self._parts.engine.clear()

    @contextmanager
    def uncached(self) -> Iterator[None]:
        """Within it (this task or thread), every read goes to the server and none is kept."""
        token = UNCACHED.set(True)
        try:
            yield
        finally:
            UNCACHED.reset(token)

    def _late(self, timeout_s: float) -> QbTimeoutError:
        stats = self.stats().cache
        state = stats.watcher if stats is not None else None
        return QbTimeoutError(
            f"caught_up() did not finish in timeout_s={timeout_s:g}; the watcher is"
            f" {state.state if state is not None else 'off'}"
            f" ({state.reason if state is not None else 'the cache is off'})"
        )


class SyncHandle(_Handle):
    """`OptimizedMongoClient.qb`."""

    __slots__ = ()

    def advise(self, databases: Iterable[str] = (), **options: Unpack[AdviceOptions]) -> Report:
        """Which indexes to create, hide and drop, each tried with the profile's queries.

        The server is only read; changes are tried on a mongod or secantusd-rs that is found on this
        machine and started for it, in a database that is dropped at the end. docs/advisor.md.

        databases: names; none: those of the profile. Options:
        verify: False: try nothing. verify_here: try on the client's own server. scratch_uri: on
        this one.
        profiles, logs: files to take in besides the client's own profile. system_profile: read the
        profiler's collections; None: only where there is no other workload.
        sample_size: documents read of each collection (2,000). time_limit_s: after it nothing more
        is tried. rules: thresholds. progress: called with (step, done, total) in another thread.

        Raises ServerUnreadableError where the server cannot be read, and QbError where an option's
        server or file cannot be used. Ctrl-C is raised when everything has been cleaned up.
        """
        from .advice import advice_of

        return advice_of(self._parts, databases, **options).wait()

    def caught_up(self, timeout_s: float = 10.0) -> None:
        """Returns when the change stream has shown everything up to the server's present time.

        Whatever other clients wrote before this call is seen by every read after it. Returns at
        once where nothing is cached. Raises QbTimeoutError after timeout_s seconds.
        """
        watcher = self._parts.watcher
        if watcher is not None and not watcher.caught_up(timeout_s):
            raise self._late(timeout_s)

    def flush(self) -> None:
        """Returns when the writes begun before are over, as far as they may travel together.

        Sends what gathers at once. Writes that go straight to the driver are not waited for.
        """
        if self._parts.sender is not None:
            from .coalesced_sync import flush

            flush(self._parts.sender)


class _AwaitedHandle(_Handle):
    """What the two asynchronous clients have in common."""

    __slots__ = ()

    async def advise(
        self, databases: Iterable[str] = (), **options: Unpack[AdviceOptions]
    ) -> Report:
        """Which indexes to create, hide and drop, each tried with the profile's queries.

        The server is only read; changes are tried on a mongod or secantusd-rs that is found on this
        machine and started for it, in a database that is dropped at the end. docs/advisor.md.

        databases: names; none: those of the profile. Options:
        verify: False: try nothing. verify_here: try on the client's own server. scratch_uri: on
        this one.
        profiles, logs: files to take in besides the client's own profile. system_profile: read the
        profiler's collections; None: only where there is no other workload.
        sample_size: documents read of each collection (2,000). time_limit_s: after it nothing more
        is tried. rules: thresholds. progress: called with (step, done, total) in another thread.

        Raises ServerUnreadableError where the server cannot be read, and QbError where an option's
        server or file cannot be used. The work is done in a thread; if the call is cancelled, it
        stops there and cleans up.
        """
        from .advice import awaited

        return await awaited(self._parts, databases, options)


class AsyncHandle(_AwaitedHandle):
    """`OptimizedAsyncMongoClient.qb`."""

    __slots__ = ()

    async def caught_up(self, timeout_s: float = 10.0) -> None:
        """Returns when the change stream has shown everything up to the server's present time.

        Whatever other clients wrote before this call is seen by every read after it. Returns at
        once where nothing is cached. Raises QbTimeoutError after timeout_s seconds.
        """
        watcher = self._parts.watcher
        if watcher is not None and not await watcher.caught_up(timeout_s):
            raise self._late(timeout_s)

    async def flush(self) -> None:
        """Returns when the writes begun before are over, as far as they may travel together.

        Sends what gathers at once. Writes that go straight to the driver are not waited for.
        """
        if self._parts.sender is not None:
            from .coalesced_async import flush

            await flush(self._parts.sender)


class MotorHandle(_AwaitedHandle):
    """`OptimizedClient.qb`."""

    __slots__ = ("_loop",)

    def __init__(self, parts: Parts, loop: Callable[[], Any]) -> None:
        super().__init__(parts)
        self._loop = loop

    async def caught_up(self, timeout_s: float = 10.0) -> None:
        """Returns when the change stream has shown everything up to the server's present time.

        Whatever other clients wrote before this call is seen by every read after it. Returns at
        once where nothing is cached. Raises QbTimeoutError after timeout_s seconds.
        """
        watcher = self._parts.watcher
        if watcher is None:
            return
        loop = self._loop()
        done = loop.create_future()

        def finish(is_caught_up: bool) -> None:
            def resolve() -> None:
                if not done.done():
                    done.set_result(is_caught_up)

            with contextlib.suppress(RuntimeError):  # a closed loop: nobody waits any more
                loop.call_soon_threadsafe(resolve)

        watcher.when_caught_up(finish)
        try:
            reached = await asyncio.wait_for(done, timeout_s)
        except asyncio.TimeoutError:
            reached = False
        if not reached:
            raise self._late(timeout_s)

    async def flush(self) -> None:
        """Returns when the writes begun before are over, as far as they may travel together.

        Sends what gathers at once. Writes that go straight to the driver are not waited for.
        """
        if self._parts.sender is not None:
            from .coalesced_motor import flush

            await flush(self._parts.sender, self._loop())
