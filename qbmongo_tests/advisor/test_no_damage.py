"""Killed at any point, the advisor has changed nothing of the user's, and leaves what can be found.

`QBMONGO_KILLS=50 pytest -k killed` kills more often; each run tells the step and the delay it was
killed at. CI kills a few times.
"""

from __future__ import annotations

import datetime
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from qbmongo.advisor.scratch import OWNERS, PREFIX, drop_abandoned
from qbmongo_tests.advisor.fingerprints import fingerprint, other_databases, scratch_databases
from qbmongo_tests.advisor.trial_cases import orders

KILLS = int(os.environ.get("QBMONGO_KILLS", "3"))
LIMIT_S = 60

pytestmark = [
    pytest.mark.needs_explain,
    pytest.mark.skipif(os.name == "nt", reason="no signals for another process"),
]

# Advises on a server and on itself; a line on standard output for each step and each command sent.
PROGRAM = """
import sys
from pymongo import monitoring

class Say(monitoring.CommandListener):
    def started(self, event): print(event.command_name, flush=True)
    def succeeded(self, event): pass
    def failed(self, event): pass

monitoring.register(Say())
from qbmongo.cli import main
main(["advise", "--uri", sys.argv[1], "--verify-here", "--format", "json", "--db", sys.argv[2],
      "--profile", sys.argv[3], "--output", sys.argv[4]])
"""


@pytest.fixture
def shop(plain_client: MongoClient[Any], database_name: str) -> str:
    database = plain_client[database_name]
    database.orders.insert_many(orders(1_000))
    database.orders.create_index("tags")
    database.orders.create_index([("tags", 1), ("total", 1)])
    database.command({"profile": 0, "slowms": 123})
    return database_name


@pytest.fixture
def profile(server_uri: str, shop: str, tmp_path: Path) -> Path:
    from qbmongo import OptimizedMongoClient

    path = tmp_path / "profile.json"
    with OptimizedMongoClient(server_uri) as client:
        for i in range(5):
            list(client[shop].orders.find({"customer": i}).sort("at", -1).limit(5))
            list(client[shop].orders.find({"status": "new", "total": {"$gt": i}}))
            client[shop].orders.update_one({"customer": i, "at": 5}, {"$set": {"x": 1}})
        client.qb.profile().save(path)
    return path


class Run:
    """The command in a process of its own, and the commands it has sent."""

    def __init__(self, uri: str, shop: str, profile: Path, folder: Path) -> None:
        self.output = folder / "report.json"
        self.errors = folder / "errors"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, uri, shop, str(profile), str(self.output)],
                cwd=Path(__file__).parent.parent.parent,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def commands(self) -> Iterator[str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield line.strip()

    def signal_after(self, commands: int, delay_s: float, number: signal.Signals) -> list[str]:
        """Sends a signal some moments after so many commands; the commands that were sent."""
        sent: list[str] = []
        timer = threading.Timer(delay_s, self.process.send_signal, (number,))
        for command in self.commands():
            sent.append(command)
            if len(sent) == commands:
                timer.start()
        if timer.is_alive():
            timer.join()
        self.process.wait(LIMIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return sent


def all_commands(uri: str, shop: str, profile: Path, folder: Path) -> list[str]:
    run = Run(uri, shop, profile, folder)
    sent = list(run.commands())
    assert run.process.wait(LIMIT_S) == 0, run.errors.read_text()
    assert run.process.stdout is not None
    run.process.stdout.close()
    return sent


def age_all(client: MongoClient[Any], precious: str) -> None:
    """Lets two hours pass for every scratch database."""
    for name in set(scratch_databases(client)) - {precious}:
        owners = client[name][OWNERS]
        owner = owners.find_one({"_id": "owner"})
        assert owner is not None, f"{name} has no owner: no run would ever drop it"
        old = owner["heartbeat_at"] - datetime.timedelta(hours=2)
        owners.update_one({"_id": "owner"}, {"$set": {"heartbeat_at": old}})


@pytest.fixture
def precious(plain_client: MongoClient[Any]) -> Iterator[str]:
    """Somebody else's database with such a name, without an owner document."""
    name = f"{PREFIX}precious"
    plain_client[name].c.insert_one({"_id": 1})
    yield name
    plain_client.drop_database(name)


def test_killed_at_any_point(
    server_uri: str,
    shop: str,
    profile: Path,
    tmp_path: Path,
    plain_client: MongoClient[Any],
    precious: str,
) -> None:
    known = set(plain_client.list_database_names())
    before = fingerprint(plain_client, [shop, precious])
    total = len(all_commands(server_uri, shop, profile, tmp_path))
    assert fingerprint(plain_client, [shop, precious]) == before
    seed = int(os.environ.get("QBMONGO_KILL_SEED", random.randrange(1_000_000)))
    draw = random.Random(seed)
    for number in range(KILLS):
        # The first kills are spread over the run, whatever the seed.
        part = (number % 3 + draw.random()) / 3
        at, delay_s = 1 + int(part * (total - 1)), draw.choice((0.0, 0.001, 0.01, 0.05))
        run = Run(server_uri, shop, profile, tmp_path)
        sent = run.signal_after(at, delay_s, signal.SIGKILL)
        where = f"seed {seed}: killed {delay_s} s after command {at} of {total}, {sent[-1:]}"
        assert fingerprint(plain_client, [shop, precious]) == before, where
        assert other_databases(plain_client, known) == set(), where
        age_all(plain_client, precious)
        drop_abandoned(plain_client)
        assert scratch_databases(plain_client) == [precious], where
        assert not list(tmp_path.glob(".*.part")), where


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_drops_its_database(
    server_uri: str,
    shop: str,
    profile: Path,
    tmp_path: Path,
    plain_client: MongoClient[Any],
    number: signal.Signals,
) -> None:
    known = set(plain_client.list_database_names())
    before = fingerprint(plain_client, [shop])
    run = Run(server_uri, shop, profile, tmp_path)
    sent: list[str] = []
    for command in run.commands():
        sent.append(command)
        if sent.count("explain") == 3 and command == "explain":
            run.process.send_signal(number)
            run.process.send_signal(number)
    code = run.process.wait(LIMIT_S)
    assert run.process.stdout is not None
    run.process.stdout.close()
    assert code == (130 if number == signal.SIGINT else 128 + signal.SIGTERM)
    assert "Traceback" not in run.errors.read_text()
    assert "dropDatabase" in sent
    assert scratch_databases(plain_client) == []
    assert other_databases(plain_client, known) == set()
    assert fingerprint(plain_client, [shop]) == before
    assert not run.output.exists()
