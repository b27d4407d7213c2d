"""The command `qbmongo`.

Exit codes: 0 success, 1 the demo found a difference or the advisor something at or above --fail-on,
2 a wrong option, file or server (with one line on stderr that says which), 3 the server to be
advised on could not be read, 130 ended by Ctrl-C. What a command needs is imported when it runs.
"""

from __future__ import annotations

import codecs
import errno
import io
import json
import os
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import QbError, ServerUnreadableError

__all__ = ["main"]

EXIT_DIFFERENT = 1
EXIT_ADVICE = 1
EXIT_MISUSE = 2
EXIT_UNREADABLE = 3
EXIT_INTERRUPTED = 130
EXIT_PIPE = 1  # as rich ends a program whose reader has gone

_WIDTH_OF_NO_TERMINAL = 120
# Where the parser's errors live differs between versions of typer; the tree is the same.
_ParserError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


class _Client(str, Enum):
    motor = "motor"
    pymongo_async = "async"
    pymongo_sync = "sync"


class _Format(str, Enum):
    table = "table"
    json = "json"
    markdown = "markdown"
    html = "html"


class _Severity(str, Enum):
    high = "high"
    medium = "medium"
    low = "low"


_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        arguments: without the program's name; None takes those of the process.

    Raises:
        SystemExit: always, with the exit code.
    """
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    from .demo.errors import DemoError

    _escape_what_cannot_be_printed()
    try:
        command = typer.main.get_command(_app)
        code = command.main(arguments, prog_name="qbmongo", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        _print_no_more()
        if error.errno == errno.EPIPE:
            return EXIT_PIPE  # who reads has seen enough
        return _complain("what it prints cannot be written: no space left")
    except ServerUnreadableError as error:
        _complain(str(error))
        return EXIT_UNREADABLE
    except (DemoError, QbError) as error:
        return _complain(str(error))
    except _ParserError as error:
        said: str = getattr(error, "format_message", error.__str__)()
        return _complain(f"{said.rstrip('.')} (see qbmongo --help)")
    if code == EXIT_INTERRUPTED:
        sys.stderr.write("qbmongo: interrupted\n")
    return code if isinstance(code, int) else 0


def _print_no_more() -> None:
    """What is still to be printed goes nowhere, and raises nothing when Python ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _complain(message: str) -> int:
    sys.stderr.write(f"qbmongo: {' '.join(message.split())}\n")
    return EXIT_MISUSE


def _escape_what_cannot_be_printed() -> None:
    """Names may hold anything: what a terminal or a pipe cannot take is written as in JSON."""
    codecs.register_error("qbmongo.escape", _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="qbmongo.escape")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        typer.echo(f"qbmongo {version('qbmongo')}")
    except PackageNotFoundError:
        typer.echo("qbmongo (not installed)")
    raise typer.Exit


def _console() -> Any:
    from rich.console import Console

    chosen = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if chosen else _WIDTH_OF_NO_TERMINAL)


@_app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Faster PyMongo and Motor by one import, and what every query costs."""


@_app.command("demo")
def _demo(
    uri: Annotated[
        str | None,
        typer.Option(
            help="Use this running server, in databases of its own that are dropped at the end; "
            "without it two servers are started for the time of the demo.",
        ),
    ] = None,
    flights: Annotated[
        int, typer.Option(min=1_000, help="How many flights to load; 336776 is all of them.")
    ] = 60_000,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="How long to play, both arms together.")
    ] = 30.0,
    client: Annotated[_Client, typer.Option(help="Which driver to play on.")] = _Client.motor,
    folder: Annotated[
        Path,
        typer.Option(
            exists=True, file_okay=False, help="Where the advisor's report is written as a page."
        ),
    ] = Path(),
) -> None:
    """Play an airport service on real flights, by the plain driver and by qbmongo, and compare."""
    from rich.console import Console

    from .demo.run import DemoOptions, run_demo

    options = DemoOptions(uri, flights, seconds, client.value, folder)
    if not run_demo(options, _console(), Console(stderr=True)):
        raise typer.Exit(EXIT_DIFFERENT)


@_app.command("profile")
def _profile(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Saved by client.qb.profile().save().")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show saved profiles, those of several processes as one, by total time."""
    from .profile_table import show

    show(files, as_json, _console())


@_app.command("advise")
def _advise(
    uri: Annotated[
        str, typer.Option(metavar="URI", help="The server to advise on. It is only read.")
    ],
    profile: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Saved by client.qb.profile().save(); several times."),
    ] = None,
    log: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A mongod's JSON log with slow queries; several times."),
    ] = None,
    db: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only this database; several times. Else those of the workload, or all.",
        ),
    ] = None,
    form: Annotated[_Format, typer.Option("--format", help="Form of the report.")] = _Format.table,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report into a file.")
    ] = None,
    scratch_uri: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            help="Try indexes on this server, in a database that is dropped at the end.",
        ),
    ] = None,
    verify_here: Annotated[
        bool, typer.Option("--verify-here", help="Try indexes on the server advised on, likewise.")
    ] = False,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Try nothing.")] = False,
    fail_on: Annotated[
        _Severity | None, typer.Option(help="Exit code 1 from this severity on.")
    ] = None,
    sample_size: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Documents read of each collection.")
    ] = 2_000,
    time_limit: Annotated[
        float | None, typer.Option(min=1, help="Seconds after which nothing more is tried.")
    ] = None,
    system_profile: Annotated[
        bool | None,
        typer.Option(help="Read system.profile; by default only without --profile and --log."),
    ] = None,
) -> None:
    """Say which indexes to create and to drop, each tried on a copy with the real queries.

    Tried on a mongod or secantusd-rs found on this machine, unless another place is given.
    """
    from rich.console import Console

    from .advise_command import AdviseOptions, run_advise

    options = AdviseOptions(
        uri=uri,
        profiles=tuple(profile or ()),
        logs=tuple(log or ()),
        databases=tuple(db or ()),
        form=form.value,
        output=output,
        scratch_uri=scratch_uri,
        verify_here=verify_here,
        no_verify=no_verify,
        fail_on=None if fail_on is None else fail_on.value,
        sample_size=sample_size,
        time_limit_s=time_limit,
        system_profile=system_profile,
    )
    if run_advise(options, _console(), Console(stderr=True)):
        raise typer.Exit(EXIT_ADVICE)
