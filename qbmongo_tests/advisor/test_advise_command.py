"""`qbmongo advise`: exit codes, one line for each misuse, forms of the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from qbmongo import OptimizedMongoClient, Settings, cli
from qbmongo.advisor.records import IndexSpec
from qbmongo.advisor.report import Finding, Recommendation, Report
from qbmongo_tests.advisor.trial_cases import orders

NOWHERE = "mongodb://127.0.0.1:1/"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(["advise", *arguments])
    out, err = capsys.readouterr()
    code = ended.value.code
    assert isinstance(code, int)
    return code, out, err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "--uri"),
        (("--uri", "http://x"), "scheme"),
        (("--uri", "mongodb://user:secret@127.0.0.1:x/"), "--uri mongodb://127.0.0.1:x/"),
        (("--uri", NOWHERE, "--format", "pdf"), "--format"),
        (("--uri", NOWHERE, "--fail-on", "worst"), "--fail-on"),
        (("--uri", NOWHERE, "--sample-size", "0"), "--sample-size"),
        (("--uri", NOWHERE, "--time-limit", "0"), "--time-limit"),
        (("--uri", NOWHERE, "--verify-here", "--no-verify"), "--verify-here and --no-verify"),
        (("--uri", NOWHERE, "--verify-here", "--scratch-uri", NOWHERE), "--scratch-uri and"),
        (("--uri", NOWHERE, "--profile", "/nope.json"), "/nope.json"),
        (("--uri", NOWHERE, "--log", "/nope.log"), "/nope.log"),
        (("--uri", NOWHERE, "--output", "/nope/report"), "--output /nope/report"),
        (("--uri", NOWHERE, "--output", "/"), "--output /"),
        (("--uri", NOWHERE, "--bogus"), "--bogus"),
    ],
)
def test_misuse_is_one_line_that_names_it_and_exit_code_2(
    arguments: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("qbmongo: ")
    assert named in err
    assert "secret" not in err
    assert err.count("\n") == 1


def test_a_log_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "mongod.log"
    path.write_text("not a log\nat all\n")
    code, out, err = run(capsys, "--uri", NOWHERE, "--log", str(path))
    assert (code, out) == (2, "")
    assert err == f"qbmongo: {path}: is no JSON log of a mongod\n"


def test_an_unreachable_server_is_one_line_and_exit_code_3(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qbmongo.advisor.collect._REACH_MS", 50)
    code, out, err = run(capsys, "--uri", "mongodb://127.0.0.1:1/")
    assert (code, out) == (3, "")
    assert err == "qbmongo: --uri mongodb://127.0.0.1:1/: no server answered within 0.05 s\n"


def test_an_unreachable_scratch_server_is_exit_code_2(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    server_uri: str,
    profile: Path,
) -> None:
    monkeypatch.setattr("qbmongo.advisor.collect._REACH_MS", 50)
    monkeypatch.setattr("qbmongo.advisor.advise.connect", lambda factory: factory())
    arguments = ("--uri", server_uri, "--scratch-uri", NOWHERE, "--profile", str(profile))
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("qbmongo: --scratch-uri: no server answered")


def spec() -> IndexSpec:
    return IndexSpec("shop.orders", (("a", 1),))


def report_of(*severities: Any) -> Report:
    items = tuple(Recommendation("x", "create", spec(), s, True, "why") for s in severities)
    return Report(items, (Finding("skip", "low", "text", "remedy"),))


@pytest.mark.parametrize(
    ("severities", "fail_on", "code"),
    [
        (("high",), None, 0),
        (("high",), "high", 1),
        (("medium",), "high", 0),
        (("medium", "low"), "medium", 1),
        ((), "medium", 0),
        ((), "low", 1),
    ],
)
def test_the_exit_code_tells_whether_the_threshold_was_reached(
    severities: tuple[str, ...],
    fail_on: str | None,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = report_of(*severities)
    monkeypatch.setattr("qbmongo.advisor.advise.advise", lambda *given: report)
    threshold = () if fail_on is None else ("--fail-on", fail_on)
    found, out, _ = run(capsys, "--uri", NOWHERE, "--format", "json", *threshold)
    assert found == code
    assert json.loads(out) == json.loads(json.dumps(report.to_dict()))


@pytest.mark.parametrize(
    ("form", "sign"), [("table", "Index advice"), ("markdown", "# "), ("html", "<!doctype html>")]
)
def test_the_report_has_the_form_asked_for(
    form: str,
    sign: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if form == "html":
        pytest.importorskip("jinja2")
    monkeypatch.setattr("qbmongo.advisor.advise.advise", lambda *given: report_of("high"))
    path = tmp_path / "report"
    code, out, _ = run(capsys, "--uri", NOWHERE, "--format", form)
    assert code == 0
    assert sign.lower() in out.lower()
    code, nothing, err = run(capsys, "--uri", NOWHERE, "--format", form, "--output", str(path))
    assert (code, nothing) == (0, "")
    assert path.read_text() == out
    assert str(path) in err.replace("\n", "")
    assert [each.name for each in tmp_path.iterdir()] == ["report"]


def test_options_reach_the_advisor(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def advise(factory: Any, sources: Any, options: Any, *rest: Any) -> Report:
        given.append(options)
        return Report()

    monkeypatch.setattr("qbmongo.advisor.advise.advise", advise)
    run(capsys, "--uri", NOWHERE)
    arguments = ("--db", "a", "--db", "b", "--time-limit", "9", "--sample-size", "7")
    run(capsys, "--uri", NOWHERE, *arguments, "--no-verify", "--system-profile")
    run(capsys, "--uri", NOWHERE, "--verify-here")
    run(capsys, "--uri", NOWHERE, "--scratch-uri", "mongodb://s/", "--no-system-profile")
    usual, second, third, fourth = given
    assert usual.databases == ()
    assert (usual.verify_on.kind, usual.time_limit_s, usual.system_profile) == ("local", None, None)
    assert usual.limits.sample_documents == 2_000
    assert second.databases == ("a", "b")
    assert (second.verify_on.kind, second.time_limit_s) == ("nowhere", 9.0)
    assert (second.limits.sample_documents, second.system_profile) == (7, True)
    assert third.verify_on.kind == "here"
    assert (fourth.verify_on.kind, fourth.verify_on.uri) == ("uri", "mongodb://s/")
    assert fourth.system_profile is False


@pytest.fixture
def shop(plain_client: MongoClient[Any], database_name: str) -> str:
    plain_client[database_name].orders.insert_many(orders(600))
    return database_name


@pytest.fixture
def profile(server_uri: str, shop: str, tmp_path: Path) -> Path:
    path = tmp_path / "profile.json"
    with OptimizedMongoClient(server_uri, qb=Settings(cache=None)) as client:
        for i in range(5):
            list(client[shop].orders.find({"customer": i}).sort("at", -1).limit(5))
        client.qb.profile().save(path)
    return path


@pytest.mark.needs_explain
def test_advice_of_saved_profiles_is_verified_json(
    capsys: pytest.CaptureFixture[str], server_uri: str, shop: str, profile: Path
) -> None:
    arguments = ("--uri", server_uri, "--format", "json", "--fail-on", "low")
    code, out, err = run(capsys, *arguments, "--profile", str(profile), "--profile", str(profile))
    assert code == 1
    found = json.loads(out)
    assert found["schema"] == 1
    (created,) = (r for r in found["recommendations"] if r["action"] == "create")
    assert created["namespace"] == f"{shop}.orders"
    assert created["keys"] == [["customer", 1], ["at", -1]]
    assert created["verified"] is True
    assert found["inputs"]["calls"] == 10
    assert "trying indexes ..." in err
    assert "Traceback" not in err


def log_line(namespace: str, customer: int) -> str:
    """One slow query. Source: MongoDB manual, "Log Messages", "Logging Slow Operations"."""
    database, _, collection = namespace.partition(".")
    return json.dumps(
        {
            "t": {"$date": "2024-05-01T10:00:00.000+00:00"},
            "s": "I",
            "c": "COMMAND",
            "id": 51803,
            "ctx": "conn7",
            "msg": "Slow query",
            "attr": {
                "type": "command",
                "ns": namespace,
                "command": {
                    "find": collection,
                    "filter": {"customer": customer},
                    "sort": {"at": -1},
                    "limit": 5,
                    "$db": database,
                },
                "planSummary": "COLLSCAN",
                "keysExamined": 0,
                "docsExamined": 600,
                "hasSortStage": True,
                "nreturned": 5,
                "durationMillis": 130,
            },
        }
    )


@pytest.mark.needs_explain
def test_advice_of_a_servers_log(
    capsys: pytest.CaptureFixture[str], server_uri: str, shop: str, tmp_path: Path
) -> None:
    path = tmp_path / "mongod.log"
    path.write_text("\n".join(log_line(f"{shop}.orders", i) for i in range(20)) + "\n")
    code, out, _ = run(capsys, "--uri", server_uri, "--format", "json", "--log", str(path))
    assert code == 0
    found = json.loads(out)
    created = [r["keys"] for r in found["recommendations"] if r["action"] == "create"]
    assert created == [[["customer", 1], ["at", -1]]]
