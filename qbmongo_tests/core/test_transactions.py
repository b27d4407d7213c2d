"""core/transactions.py: which collections have uncommitted writes of this process."""

from __future__ import annotations

from typing import Any

import pytest

from qbmongo.core.effects import effects_of
from qbmongo.core.transactions import OpenTransactions

SESSION, OTHER = b"s" * 16, b"t" * 16


def send(
    transactions: OpenTransactions,
    command: dict[str, Any],
    key: object = 1,
    session: bytes = SESSION,
    number: int = 1,
    now_s: float = 0.0,
) -> None:
    name = next(iter(command))
    whole = {**command, "lsid": {"id": session}, "txnNumber": number, "autocommit": False}
    effects = effects_of(name, "db", whole, mutable_ok=False)
    transactions.started(key, name, whole, effects, now_s)


UPDATE = {"update": "c", "updates": [{"q": {}, "u": {"$set": {"a": 1}}}]}
COMMIT, ABORT = {"commitTransaction": 1}, {"abortTransaction": 1}


def test_what_was_written_is_open_until_the_commit_is_answered() -> None:
    transactions = OpenTransactions()
    send(transactions, {"find": "c"})
    assert not transactions.wrote_to("db.c", 0.0)
    send(transactions, UPDATE)
    assert transactions.wrote_to("db.c", 0.0)
    assert not transactions.wrote_to("db.d", 0.0)
    send(transactions, COMMIT, key=2)
    assert transactions.wrote_to("db.c", 0.0)
    transactions.succeeded(2, {"ok": 1})
    assert not transactions.wrote_to("db.c", 0.0)


@pytest.mark.parametrize(
    ("end", "failure", "is_open"),
    [
        (COMMIT, {"ok": 0, "code": 251, "errorLabels": ["TransientTransactionError"]}, False),
        (COMMIT, {"ok": 0, "code": 91, "errorLabels": ["UnknownTransactionCommitResult"]}, True),
        (COMMIT, {"errmsg": "connection closed", "errtype": "AutoReconnect"}, True),
        (ABORT, {"ok": 0, "code": 251}, False),
        (ABORT, {"errmsg": "connection closed", "errtype": "AutoReconnect"}, True),
    ],
)
def test_an_end_without_a_definite_answer_leaves_it_open(
    end: dict[str, Any], failure: dict[str, Any], is_open: bool
) -> None:
    transactions = OpenTransactions()
    send(transactions, UPDATE)
    send(transactions, end, key=2)
    transactions.failed(2, failure)
    assert transactions.wrote_to("db.c", 0.0) is is_open


def test_the_sessions_next_transaction_ends_the_last_one() -> None:
    transactions = OpenTransactions()
    send(transactions, UPDATE)
    send(transactions, {"find": "c"}, number=2)
    assert not transactions.wrote_to("db.c", 0.0)


def test_each_session_counts() -> None:
    transactions = OpenTransactions()
    send(transactions, UPDATE)
    send(transactions, UPDATE, session=OTHER)
    send(transactions, ABORT, key=2)
    transactions.succeeded(2, {"ok": 1})
    assert transactions.wrote_to("db.c", 0.0)


def test_a_write_anywhere_is_everywhere() -> None:
    transactions = OpenTransactions()
    send(transactions, {"unheardOf": 1})
    assert transactions.wrote_to("db.c", 0.0)


def test_a_transaction_that_is_silent_for_minutes_is_forgotten() -> None:
    transactions = OpenTransactions()
    send(transactions, UPDATE, now_s=0.0)
    send(transactions, {"find": "c"}, now_s=200.0)
    assert transactions.wrote_to("db.c", 499.0)
    assert not transactions.wrote_to("db.c", 501.0)


def test_there_is_an_end_to_what_is_remembered() -> None:
    transactions = OpenTransactions()
    send(transactions, {"insert": "first", "documents": [{}]}, session=OTHER)
    for n in range(1000):
        send(transactions, UPDATE, session=n.to_bytes(16, "big"))
    assert not transactions.wrote_to("db.first", 0.0)
    assert transactions.wrote_to("db.c", 0.0)
