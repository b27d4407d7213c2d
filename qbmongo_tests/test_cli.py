"""The command `qbmongo`: exit codes, one line for each misuse, and what Ctrl-C leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest

from qbmongo import cli
from qbmongo.core.profile import Profile
from qbmongo.demo.errors import DemoError
from qbmongo.records import ReadOp
from qbmongo_tests.airport import FLIGHTS, write_airport

# The command on a small airport instead of the installed data.
SMALL_DEMO = """
import sys
from pathlib import Path
from qbmongo.cli import main
from qbmongo.demo.data import FlightsData
folder = Path(sys.argv.pop(1))
FlightsData.find = classmethod(lambda cls: cls(folder))
main()
"""
END_LIMIT_S = 120


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    out, err = capsys.readouterr()
    code = ended.value.code
    assert isinstance(code, int)
    return code, out, err


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "--version")
    assert (code, err) == (0, "")
    assert out.startswith("qbmongo ")


@pytest.mark.parametrize("arguments", [("--help",), ("demo", "--help"), ("profile", "--help")])
def test_help_is_printed(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    assert "Usage: qbmongo" in out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "command"),
        (("--bogus",), "--bogus"),
        (("nonsense",), "nonsense"),
        (("demo", "--flights", "x"), "--flights"),
        (("demo", "--flights", "5"), "--flights"),
        (("demo", "--seconds", "0"), "--seconds"),
        (("demo", "--client", "asyncpg"), "--client"),
        (("demo", "--bogus"), "--bogus"),
        (("profile",), "FILE"),
        (("profile", "/does/not/exist.json"), "/does/not/exist.json"),
        (("advise", "--uri", "mongodb://127.0.0.1:1/", "--db", ""), "--db"),
        (("advise", "--uri", "mongodb://127.0.0.1:1/", "--db", "shop.orders"), "--db"),
    ],
)
def test_misuse_is_one_line_that_names_it_and_exit_code_2(
    arguments: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("qbmongo: ")
    assert named in err
    assert err.count("\n") == 1
    assert err.endswith("\n")


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("mongodb://127.0.0.1:1/", "no server answered"),
        ("http://127.0.0.1/", "scheme"),
        ("mongodb://127.0.0.1:x/", "ort"),
        ("mongodb://127.0.0.1:1/?w=many&j=perhaps", "no server answered"),
    ],
)
def test_unreachable_server_is_one_line_and_exit_code_2(
    uri: str, reason: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr("qbmongo.demo.sites.REACH_LIMIT_S", 0.05)
    use_small_airport(monkeypatch, tmp_path)
    with pytest.warns() if "perhaps" in uri else contextlib.nullcontext():
        code, out, err = run(capsys, "demo", "--uri", uri)
    *progress, last = err.splitlines()
    assert (code, out) == (2, "")
    assert progress == ["connecting ..."]
    assert last.startswith(f"qbmongo: --uri {uri}: ")
    assert reason in last


def use_small_airport(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    from qbmongo.demo.data import FlightsData

    data = FlightsData(write_airport(folder))
    monkeypatch.setattr(FlightsData, "find", classmethod(lambda cls: data))


def demo_that(outcome: Any) -> Any:
    def run_demo(options: Any, output: Any, status: Any) -> bool:
        if isinstance(outcome, BaseException):
            raise outcome
        return bool(outcome)

    return run_demo


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (True, (0, "", "")),
        (False, (1, "", "")),
        (DemoError("no server:\n  try x"), (2, "", "qbmongo: no server: try x\n")),
        (KeyboardInterrupt(), (130, "", "qbmongo: interrupted\n")),
    ],
)
def test_exit_code_tells_how_the_demo_ended(
    outcome: Any,
    expected: tuple[int, str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("qbmongo.demo.run.run_demo", demo_that(outcome))
    assert run(capsys, "demo") == expected


def test_an_error_of_our_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qbmongo.demo.run.run_demo", demo_that(ZeroDivisionError("bug")))
    with pytest.raises(ZeroDivisionError):
        cli.main(["demo"])


def test_options_reach_the_demo(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from qbmongo.demo.run import DemoOptions

    given = []
    monkeypatch.setattr("qbmongo.demo.run.run_demo", lambda options, *rest: given.append(options))
    arguments = (
        "--uri",
        "mongodb://x",
        "--flights",
        "2000",
        "--seconds",
        "1.5",
        "--client",
        "sync",
    )
    run(capsys, "demo", *arguments)
    run(capsys, "demo")
    assert given == [DemoOptions("mongodb://x", 2000, 1.5, "sync"), DemoOptions()]


def test_saved_profiles_are_shown_and_merged_as_json(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from qbmongo.profiles import ProfileSnapshot

    paths = [str(tmp_path / name) for name in ("one.json", "two.json")]
    for path in paths:
        ProfileSnapshot((), None, 1.0, 2.0).save(path)
    code, out, _ = run(capsys, "profile", "--json", *paths)
    assert code == 0
    assert json.loads(out)["processes"] == 2
    code, out, _ = run(capsys, "profile", *paths)
    assert code == 0
    assert "2 processes" in out


@pytest.mark.parametrize(("encoding", "name"), [("ascii", "größe"), ("utf-8", "\ud800")])
def test_names_that_the_output_cannot_take_are_escaped(
    encoding: str, name: str, tmp_path: Path
) -> None:
    write_profile(tmp_path / "profile.json", name)
    for option in ((), ("--json",)):
        command = [sys.executable, "-c", "from qbmongo.cli import main; main()", "profile"]
        done = subprocess.run(
            [*command, *option, str(tmp_path / "profile.json")],
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert json.dumps(name)[1:-1].encode() in done.stdout
        if option:
            (row,) = json.loads(done.stdout)["shapes"]
            assert row["shape"]["filter"][0]["path"] == name


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
def test_what_cannot_be_printed_is_one_line_or_nothing(tmp_path: Path) -> None:
    file = str(write_profile(tmp_path / "profile.json", "a"))
    command = [sys.executable, "-c", "from qbmongo.cli import main; main()", "profile", file]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert done.stderr == b"qbmongo: what it prints cannot be written: no space left\n"
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        for option in ((), ("--json",)):
            done = subprocess.run(
                [*command, *option], stdout=nobody, stderr=subprocess.PIPE, check=False
            )
            assert (done.returncode, done.stderr) == (1, b"")


def write_profile(path: Path, name: str) -> Path:
    """A profile of one find by a field of this name."""
    from qbmongo.profiles import ProfileSnapshot, sketch_scale

    profile = Profile(
        sketch_scale(), contextlib.nullcontext(), 0.0,
        slow_ms=1, log_every_s=1, max_shapes=9, samples=1, place_every=9,
    )  # fmt: skip
    profile.read_stats(ReadOp("find", "shop.orders", {name: 1})).record(0.1, 1, 0, 0, 1.0)
    ProfileSnapshot.take(profile, 1.0, 1.0).save(path)
    return path


def start_demo(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    airport, temporary = tmp_path / "airport", tmp_path / "tmp"
    airport.mkdir()
    temporary.mkdir()
    write_airport(airport)
    command = [sys.executable, "-c", SMALL_DEMO, str(airport), "demo", "--seconds", "60"]
    command += ["--flights", str(FLIGHTS)]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def interrupt(
    demo: subprocess.Popen[str], at: str, number: signal.Signals = signal.SIGINT
) -> tuple[int, str, str]:
    """Ctrl-C once the demo has said it is there."""
    with demo:
        assert demo.stderr is not None
        for line in demo.stderr:
            if line.startswith(at):
                break
        demo.send_signal(number)
        try:
            out, err = demo.communicate(timeout=END_LIMIT_S)
        except subprocess.TimeoutExpired:
            demo.kill()
            raise
    return demo.returncode, out, err


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT for another process")
@pytest.mark.parametrize(
    ("at", "client"),
    [("loading", "sync"), ("playing", "motor"), ("playing", "async"), ("playing", "sync")],
)
def test_ctrl_c_leaves_neither_process_nor_folder(at: str, client: str, tmp_path: Path) -> None:
    demo = start_demo(tmp_path, "--client", client)
    code, out, err = interrupt(demo, at)
    # On a slow machine it may have gone on before it was interrupted.
    said = [line for line in err.splitlines() if not line.startswith("playing")]
    assert (code, out, said) == (130, "", ["qbmongo: interrupted"])
    assert list((tmp_path / "tmp").iterdir()) == []
    left = [process for process in psutil.process_iter() if str(tmp_path) in _command_of(process)]
    assert left == []


@pytest.mark.skipif(os.name == "nt", reason="no SIGTERM for another process")
def test_sigterm_cleans_up_as_well(tmp_path: Path) -> None:
    demo = start_demo(tmp_path, "--client", "motor")
    assert interrupt(demo, "playing", signal.SIGTERM)[0] == 128 + signal.SIGTERM
    assert list((tmp_path / "tmp").iterdir()) == []


def _command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT for another process")
def test_ctrl_c_leaves_no_database_on_a_given_server(server_uri: str, tmp_path: Path) -> None:
    with pymongo.MongoClient[dict[str, Any]](server_uri) as probe:
        before = set(probe.list_database_names())
        demo = start_demo(tmp_path, "--client", "sync", "--uri", server_uri)
        assert interrupt(demo, "playing")[0] == 130
        assert {name for name in probe.list_database_names() if "qbmongo_demo" in name} <= before
