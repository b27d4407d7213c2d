"""What `qbmongo advise` does, apart from reading its options."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import AdvisorInputError, ServerUnreadableError

if TYPE_CHECKING:
    from rich.console import Console

    from .advisor.advise import Options, Progress
    from .advisor.report import Report, Severity
    from .advisor.sources import Source

__all__ = ["AdviseOptions", "run_advise"]

_CREDENTIALS = re.compile("://[^/]*@")
# Source: https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions
_NO_DATABASE = frozenset('/\\. "$*<>:|?\0')
_SEVERITIES = ("low", "medium", "high")


@dataclass(frozen=True, slots=True)
class AdviseOptions:
    """The options of the command; see `qbmongo advise --help`."""

    uri: str
    profiles: tuple[Path, ...] = ()
    logs: tuple[Path, ...] = ()
    databases: tuple[str, ...] = ()
    form: str = "table"
    output: Path | None = None
    scratch_uri: str | None = None
    verify_here: bool = False
    no_verify: bool = False
    fail_on: str | None = None
    sample_size: int = 2_000
    time_limit_s: float | None = None
    system_profile: bool | None = None


def run_advise(options: AdviseOptions, output: Console, status: Console) -> bool:
    """Advise on a server's indexes and print the report, or write it.

    Args:
        output: where the report goes. status: where progress goes.

    Returns:
        Whether there is something of the severity of `fail_on` or above.

    Raises:
        ServerUnreadableError: the server cannot be reached or read.
        QbError: another option's server or file cannot be used.
    """
    from .advisor.advise import advise
    from .advisor.interruption import Work, ended_by_sigterm
    from .advisor.render import render

    chosen = _chosen(options)
    _check_uri(options.uri)
    sources = _sources(options)
    if options.output is not None:
        _check_output(options.output)
    with ended_by_sigterm(), _progress(status) as progress:
        work = Work(lambda stop: advise(_factory(options.uri), sources, chosen, stop, progress))
        try:
            report = work.wait()
        except ServerUnreadableError as error:
            raise ServerUnreadableError(f"--uri {_shown(options.uri)}: {error}") from error
    to_file = options.output is not None
    text = render(
        report,
        options.form,  # type: ignore[arg-type]
        width=output.width,
        color=output.is_terminal and not to_file,
    )
    # A profile's file may hold names that are no text.
    text = text.encode("utf-8", "backslashreplace").decode()
    if options.output is not None:
        _write(options.output, text)
        status.print(f"written to {options.output}", style="dim", highlight=False)
    else:
        output.file.write(text)
        output.file.flush()
    return _is_reached(report, options.fail_on)


def _chosen(options: AdviseOptions) -> Options:
    from .advisor.advise import Options
    from .advisor.collect import Limits
    from .advisor.places import VerifyOn

    ways = {
        "--scratch-uri": options.scratch_uri is not None,
        "--verify-here": options.verify_here,
        "--no-verify": options.no_verify,
    }
    given = [name for name, is_given in ways.items() if is_given]
    if len(given) > 1:
        raise AdvisorInputError(f"{' and '.join(given)} exclude each other")
    for name in options.databases:
        if not name or not _NO_DATABASE.isdisjoint(name):
            raise AdvisorInputError(f"--db {name!r}: is not the name of a database")
    on = VerifyOn()
    if options.scratch_uri is not None:
        on = VerifyOn("uri", options.scratch_uri)
    elif options.verify_here:
        on = VerifyOn("here")
    elif options.no_verify:
        on = VerifyOn("nowhere")
    return Options(
        databases=options.databases,
        verify_on=on,
        time_limit_s=options.time_limit_s,
        system_profile=options.system_profile,
        limits=Limits(sample_documents=options.sample_size),
    )


def _sources(options: AdviseOptions) -> list[Source]:
    from .advisor.sources import log_source, profile_source

    profiles = [profile_source(path) for path in options.profiles]
    return [*profiles, *(log_source(path) for path in options.logs)]


def _check_uri(uri: str) -> None:
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    try:
        MongoClient[Any](uri, connect=False).close()
    except (PyMongoError, ValueError, TypeError) as error:
        raise AdvisorInputError(f"--uri {_shown(uri)}: {error}") from error


def _shown(uri: str) -> str:
    return _CREDENTIALS.sub("://", uri)


def _factory(uri: str) -> Any:
    from pymongo import MongoClient

    def make(**options: Any) -> MongoClient[Any]:
        return MongoClient(uri, **options)

    return make


@contextmanager
def _progress(status: Console) -> Iterator[Progress]:
    if not status.is_terminal:
        said: set[str] = set()

        def say(step: str, done: int, total: int) -> None:
            if step not in said:
                said.add(step)
                status.print(f"{step} ...", style="dim", highlight=False)

        yield say
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    bars = Progress(*columns, console=status, transient=True)
    tasks: dict[str, Any] = {}

    def show(step: str, done: int, total: int) -> None:
        if step not in tasks:
            tasks[step] = bars.add_task(step, total=total)
        bars.update(tasks[step], completed=done, total=total)

    with bars:
        yield show


def _check_output(path: Path) -> None:
    """Hours of work must not end with a folder that is not there."""
    if path.is_dir():
        raise AdvisorInputError(f"--output {path}: is a folder")
    if not path.absolute().parent.is_dir():
        raise AdvisorInputError(f"--output {path}: the folder is not there")


def _write(path: Path, text: str) -> None:
    """The file whole, or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise AdvisorInputError(
            f"--output {path}: cannot be written: {error.strerror or error}"
        ) from error


def _is_reached(report: Report, fail_on: str | None) -> bool:
    worst: Severity | None = report.worst()
    if fail_on is None or worst is None:
        return False
    return _SEVERITIES.index(worst) >= _SEVERITIES.index(fail_on)
