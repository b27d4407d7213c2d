"""Every figure of docs/performance.md, as Markdown.

    python -m bench.report                     # all of it, about ten minutes
    python -m bench.report --quick             # a minute or two, to see that it works
    python -m bench.report --only hits misses  # some modules
    python -m bench.report --output FILE
    python -m bench.report --docs              # put it into docs/performance.md, below "## Figures"

Tables appear on standard error as they are measured; the Markdown follows at the end. Measure on a
machine that does nothing else.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pymongo
from motor import version as motor_version
from pymongo import MongoClient
from rich.console import Console

from bench.interleaved import Effort, Table, budgets_markdown, show
from qbmongo.local_server import LocalServer

MODULES = (
    "hits",
    "steps",
    "misses",
    "passthrough",
    "writes",
    "write_steps",
    "reads",
    "read_steps",
    "invalidation",
    "memory",
    "import",
    "watcher",
    "rewrite_gains",
)
DOCS = Path(__file__).parent.parent / "docs" / "performance.md"
_FIGURES = "## Figures\n"


@contextmanager
def _server(uri: str | None) -> Iterator[str]:
    with LocalServer() if uri is None else nullcontext() as server:
        yield uri if server is None else server.uri  # type: ignore[misc]


def report(uri: str, modules: Sequence[ModuleType], effort: Effort, console: Console) -> str:
    """Measures, showing each table as it comes; returns the report as Markdown."""
    tables: list[Table] = []
    for module in modules:
        tables += show(module.tables(uri, effort), console)
    parts = [_where(uri, effort), "### Budgets\n", budgets_markdown(tables), "### Tables\n"]
    return "\n".join([*parts, *(table.markdown() for table in tables)])


def _where(uri: str, effort: Effort) -> str:
    """One paragraph: on what this was measured."""
    with MongoClient[dict[str, Any]](uri) as client:
        server = client.server_info()["version"]
    return (
        f"{platform.python_implementation()} {platform.python_version()},"
        f" PyMongo {pymongo.version}, Motor {motor_version}, server version {server},"
        f" {platform.system()} with {psutil.cpu_count()} cores,"
        f" load average {psutil.getloadavg()[0]:.1f} at the end;"
        f" {effort.rounds} rounds of {effort.slice_s * 1_000:.0f} ms an arm.\n"
    )


def with_figures(page: str, figures: str) -> str:
    """A page whose last section, "Figures", holds these."""
    before, section, _ = page.partition(_FIGURES)
    if not section:
        raise ValueError(f"the page has no section {_FIGURES.strip()!r}")
    return f"{before}{section}\n{figures}"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--mongo-uri", help="a server to read from (default: one of our own)")
    parser.add_argument("--quick", action="store_true", help="few and short rounds")
    parser.add_argument("--only", nargs="+", choices=MODULES, default=MODULES)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--output", type=Path, help="write the Markdown into this file")
    where.add_argument("--docs", action="store_true", help="write it into docs/performance.md")
    given = parser.parse_args(arguments)
    modules = [importlib.import_module(f"bench.bench_{name}") for name in given.only]
    effort = Effort.quick() if given.quick else Effort()
    with _server(given.mongo_uri) as uri:
        text = report(uri, modules, effort, Console(stderr=True, width=120))
    if given.docs:
        DOCS.write_text(with_figures(DOCS.read_text("utf-8"), text), encoding="utf-8")
    elif given.output is not None:
        given.output.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
