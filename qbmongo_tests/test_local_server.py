"""Servers of one's own: started, restarted, and never left behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from qbmongo import local_server
from qbmongo.local_server import LocalServer, LocalServerError, ServerProgram, find_server
from qbmongo_tests.conftest import OwnServer
from qbmongo_tests.waiting import wait_until

Client = MongoClient[dict[str, Any]]


def executable(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_mongod_comes_before_the_built_server_and_that_before_the_one_from_pypi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QBMONGO_SERVER_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert find_server() is None

    executable(tmp_path / "venv" / "secantusd-py", "")
    found = find_server()
    assert found is not None
    assert found.kind == "secantusd-py"

    executable(local_server.built_server_root() / "bin" / "secantusd-rs", "echo secantusd-rs 9.8")
    assert str(find_server()) == "secantusd-rs 9.8"

    executable(tmp_path / "path" / "mongod", "echo db version v8.0.4; echo Build Info: more")
    assert str(find_server()) == "mongod 8.0.4"
    assert str(find_server("secantusd-rs")) == "secantusd-rs 9.8"


def test_without_any_server_the_error_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_server, "find_server", lambda: None)
    with pytest.raises(LocalServerError, match=r"nox -s server.*qbmongo\[server\]"):
        LocalServer()


def test_a_server_is_a_replica_set_primary_and_leaves_nothing_behind(own_server: OwnServer) -> None:
    server = own_server()
    folder, pid = server.folder, server.pid
    assert folder is not None
    assert pid is not None
    with Client(server.uri) as client:
        hello = client.admin.command("hello")
        assert hello["isWritablePrimary"]
        assert hello["setName"]
    server.stop()
    server.stop()
    assert not folder.exists()
    assert not psutil.pid_exists(pid)
    assert server.pid is None


def test_a_standalone_server_names_no_replica_set(own_server: OwnServer) -> None:
    with Client(own_server(standalone=True).uri) as client:
        assert "setName" not in client.admin.command("hello")


def test_auth_lets_in_the_root_user_of_the_uri_and_nobody_else(own_server: OwnServer) -> None:
    server = own_server(auth=True)
    with Client(server.uri) as client:
        client.db.c.insert_one({"_id": 1})
    with Client(server.host, server.port) as client, pytest.raises(OperationFailure) as refused:
        client.db.c.find_one()
    assert refused.value.code in {13, 18}


def test_a_killed_server_starts_again_on_its_port_with_acknowledged_writes(
    own_server: OwnServer,
) -> None:
    server = own_server(sync_on_commit=True)
    uri, pid = server.uri, server.pid
    with Client(uri, retryWrites=False) as client:
        client.db.c.insert_one({"_id": 1})
    server.kill()
    assert not server.is_running
    server.start()
    assert server.uri == uri
    assert server.pid != pid
    with Client(uri) as client:
        assert client.db.c.find_one() == {"_id": 1}


def test_a_server_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    path = executable(tmp_path / "broken", "echo 'cannot open the storage'; exit 3")
    server = LocalServer(ServerProgram("secantusd-rs", path, "0"))
    with pytest.raises(LocalServerError, match="ended\ncannot open the storage"):
        server.start()
    assert server.folder is None


def test_a_server_that_never_listens_is_given_up_after_the_limit(tmp_path: Path) -> None:
    path = executable(tmp_path / "silent", "echo starting; exec sleep 60")
    server = LocalServer(ServerProgram("secantusd-rs", path, "0"), start_limit_s=0.2)
    with pytest.raises(LocalServerError, match=r"did not listen within 0.2 s(\nstarting)?$"):
        server.start()
    assert not server.is_running


PROGRAM = """
import sys, time
from qbmongo.local_server import LocalServer, find_server
with LocalServer(find_server(sys.argv[1])) as server:
    print(server.pid, server.folder, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(os.name != "posix", reason="the watching shell is POSIX only")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_neither_process_nor_folder_outlives_the_program(
    own_server: OwnServer, sign: signal.Signals
) -> None:
    kind = own_server().kind
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as program:
        assert program.stdout is not None
        pid, folder = program.stdout.readline().split()
        assert psutil.pid_exists(int(pid))
        program.send_signal(sign)
    assert wait_until(lambda: not psutil.pid_exists(int(pid)))
    assert wait_until(lambda: not Path(folder).exists())


@pytest.mark.skipif(os.name != "posix", reason="sessions of processes are POSIX only")
def test_a_terminals_ctrl_c_reaches_the_program_alone(own_server: OwnServer) -> None:
    server = own_server()
    assert server.pid is not None
    assert os.getsid(server.pid) != os.getsid(0)


@pytest.mark.parametrize(
    ("log", "port"),
    [
        (b"source: crates.io\nsecantusd-rs listening on 127.0.0.1:35287\n", 35287),
        (b"2026-11-23 INFO secantus.server: secantus listening on 127.0.0.1:34933\n", 34933),
        (b'{"s":"I","msg":"Waiting for connections","attr":{"port":27018,"ssl":"off"}}\n', 27018),
        (b"secantusd-rs listening on 127.0.0.1:352", None),
        (b"starting\n", None),
    ],
)
def test_the_port_is_read_from_the_complete_listening_line(log: bytes, port: int | None) -> None:
    assert local_server._listening_port(log) == port


def test_the_module_itself_imports_no_driver() -> None:
    script = "import runpy, sys; runpy.run_path(sys.argv[1]); print('pymongo' in sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script, local_server.__file__],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.strip() == "False"


def test_options_of_the_tests_are_known_without_a_path_on_the_command_line() -> None:
    command = [sys.executable, "-m", "pytest", "--parity-steps", "7", "--markers"]
    asked = subprocess.run(
        command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    assert asked.returncode == 0, asked.stderr
