"""`client.qb.advise()`: the advisor with a client's own options and profile.

The advisor works in a thread of its own with plain synchronous clients, whatever the client is:
nothing of it passes through our cache or profile, and no event loop waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from pymongo import MongoClient

from ..errors import AdvisorInputError
from .parts import Parts, merged_options

if TYPE_CHECKING:
    from ..advisor.advise import Progress
    from ..advisor.interruption import Work
    from ..advisor.records import Rules
    from ..advisor.report import Report

    class AdviceOptions(TypedDict, total=False):
        """The keyword arguments of `client.qb.advise()`; see `SyncHandle.advise`."""

        verify: bool
        verify_here: bool
        scratch_uri: str | None
        profiles: Sequence[str | os.PathLike[str]]
        logs: Sequence[str | os.PathLike[str]]
        system_profile: bool | None
        sample_size: int
        time_limit_s: float | None
        rules: Rules | None
        progress: Progress | None


__all__ = ["advice_of", "awaited"]

# Of the client's options what a plain synchronous client of the advisor's own does without.
_NOT_THE_ADVISORS = frozenset(
    {
        *("io_loop", "auto_encryption_opts", "document_class", "type_registry"),
        *("event_listeners", "connect", "server_selector"),
    }
)


def advice_of(
    parts: Parts,
    databases: Iterable[str],
    when_ended: Callable[[], Any] | None = None,
    *,
    verify: bool = True,
    verify_here: bool = False,
    scratch_uri: str | None = None,
    profiles: Sequence[str | os.PathLike[str]] = (),
    logs: Sequence[str | os.PathLike[str]] = (),
    system_profile: bool | None = None,
    sample_size: int = 2_000,
    time_limit_s: float | None = None,
    rules: Rules | None = None,
    progress: Progress | None = None,
) -> Work[Report]:
    """The work that ends in a report; not started yet. See `SyncHandle.advise`."""
    from ..advisor.advise import Options, advise
    from ..advisor.collect import Limits
    from ..advisor.interruption import Work
    from ..advisor.places import VerifyOn
    from ..advisor.records import Rules
    from ..advisor.sources import log_source, profile_source, snapshot_source
    from ..profiles import ProfileSnapshot

    if isinstance(databases, str):
        raise AdvisorInputError(f"databases is {databases!r}; expected names, as [{databases!r}]")
    if verify_here and (scratch_uri is not None or not verify):
        raise AdvisorInputError("verify_here, scratch_uri and verify=False exclude each other")
    if scratch_uri is not None and not verify:
        raise AdvisorInputError("scratch_uri and verify=False exclude each other")
    if sample_size < 1:
        raise AdvisorInputError(f"sample_size is {sample_size}; allowed is 1 and more")
    on = VerifyOn()
    if not verify:
        on = VerifyOn("nowhere")
    elif verify_here:
        on = VerifyOn("here")
    elif scratch_uri is not None:
        on = VerifyOn("uri", scratch_uri)
    engine = parts.engine
    sources = []
    if engine is not None and engine.profile is not None:
        snapshot = ProfileSnapshot.take(engine.profile, time.monotonic(), time.time())
        sources.append(snapshot_source(snapshot, "this client's profile"))
    options = Options(
        databases=tuple(databases),
        verify_on=on,
        time_limit_s=time_limit_s,
        system_profile=system_profile,
        limits=Limits(sample_documents=sample_size),
        rules=Rules() if rules is None else rules,
    )
    own = {k: v for k, v in parts.client_options.items() if k.lower() not in _NOT_THE_ADVISORS}

    def make_client(**changed: Any) -> MongoClient[Any]:
        return MongoClient(**merged_options(own, changed))

    def work(stop: Any) -> Report:
        files = [*map(profile_source, profiles), *map(log_source, logs)]
        return advise(make_client, [*sources, *files], options, stop, progress)

    return Work(work, when_ended)


async def awaited(parts: Parts, databases: Iterable[str], options: AdviceOptions) -> Report:
    """The report, while the running loop goes on.

    Cancelling asks the work to stop; it cleans up in its own thread.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def resolve() -> None:
        if not ended.done():
            ended.set_result(None)

    def tell() -> None:
        with contextlib.suppress(RuntimeError):  # a closed loop: nobody waits any more
            loop.call_soon_threadsafe(resolve)

    work = advice_of(parts, databases, tell, **options)
    work.start()
    try:
        await ended
    except BaseException:
        work.stop.ask()
        raise
    return work.result()
