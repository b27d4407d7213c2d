from __future__ import annotations

from typing import Any

import pytest
from bson.binary import Binary
from bson.int64 import Int64

from qbmongo.core.ledger import NOTHING, Closed, Ledger
from qbmongo.records import EVERYTHING, Effect

OK = {"ok": 1}
NETWORK_ERROR = {"errmsg": "connection closed", "errtype": "AutoReconnect"}
SERVER_ERROR = {"ok": 0, "errmsg": "no", "code": 11000}
NO_SUCH_TRANSACTION = {"ok": 0, "errmsg": "gone", "code": 251}
ONE, TWO = Binary(b"1" * 16, 4), Binary(b"2" * 16, 4)
DELETED = Effect("delete", "db.c", frozenset({7}))
ALSO_DELETED = Effect("delete", "db.c", frozenset({8}))


def delete(identity: int, **more: Any) -> dict[str, Any]:
    return {"delete": "c", "deletes": [{"q": {"_id": identity}, "limit": 1}], **more}


def turn(number: int, session: Binary = ONE) -> dict[str, Any]:
    return {"lsid": {"id": session}, "txnNumber": Int64(number), "autocommit": False}


class Wire:
    """A ledger and the commands that are sent past it, each with a key of its own."""

    def __init__(self, **limits: int) -> None:
        self.ledger = Ledger(**limits)
        self.last = 0

    def start(self, command: dict[str, Any]) -> Closed:
        self.last += 1
        name = next(iter(command))
        return self.ledger.started(("h", self.last), name, "db", command, mutable_ok=True)

    def send(self, command: dict[str, Any], reply: Any = OK) -> Closed:
        self.start(command)
        return self.ledger.succeeded(("h", self.last), reply)

    def fail(self, command: dict[str, Any], failure: Any) -> Closed:
        self.start(command)
        return self.ledger.failed(("h", self.last), failure)

    def abandon(self, command: dict[str, Any]) -> Closed:
        self.start(command)
        return self.ledger.abandoned(("h", self.last))

    def transaction(self, number: int = 1, session: Binary = ONE) -> None:
        assert self.send(delete(7, **turn(number, session))) == NOTHING


def commit(number: int = 1, session: Binary = ONE) -> dict[str, Any]:
    return {"commitTransaction": 1, **turn(number, session)}


def abort(number: int = 1) -> dict[str, Any]:
    return {"abortTransaction": 1, **turn(number)}


def test_effects_close_when_the_command_is_over_and_not_before() -> None:
    wire = Wire()
    assert wire.start(delete(7)) == NOTHING
    assert wire.ledger.open_effects() == (DELETED,)
    assert wire.ledger.succeeded(("h", 1), OK) == Closed((DELETED,))
    assert wire.ledger.open_effects() == ()
    assert wire.ledger.succeeded(("h", 1), OK) == NOTHING


def test_a_failure_closes_as_a_success_does() -> None:
    assert Wire().fail(delete(7), SERVER_ERROR) == Closed((DELETED,))
    write_concern_error = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waited"}
    assert Wire().fail(delete(7), write_concern_error) == Closed((DELETED,))


def test_a_network_error_leaves_the_outcome_unknown() -> None:
    assert Wire().fail(delete(7), NETWORK_ERROR) == Closed((DELETED,), unknown=True)


def test_an_abandoned_command_closes_with_unknown_outcome() -> None:
    assert Wire().abandon(delete(7)) == Closed((DELETED,), unknown=True)


def test_an_unacknowledged_write_has_an_unknown_outcome() -> None:
    command = delete(7, writeConcern={"w": 0})
    assert Wire().send(command) == Closed((DELETED,), unknown=True)
    assert Wire().send(delete(7, writeConcern={"w": 1})) == Closed((DELETED,))


def test_reads_leave_nothing_open() -> None:
    wire = Wire()
    assert wire.send({"find": "c", "filter": {}}) == NOTHING
    wire.start({"find": "c", "filter": {}})
    assert wire.ledger.open_effects() == ()


def test_a_key_that_is_used_again_loses_nothing() -> None:
    wire = Wire()
    wire.start(delete(7))
    wire.last = 0
    assert wire.send(delete(8)) == Closed((DELETED, ALSO_DELETED))


def test_a_transactions_effects_close_with_its_commit() -> None:
    wire = Wire()
    wire.transaction()
    assert wire.send(delete(8, **turn(1))) == NOTHING
    assert wire.ledger.open_effects() == (DELETED, ALSO_DELETED)
    assert wire.send(commit()) == Closed((DELETED, ALSO_DELETED))
    assert wire.ledger.open_effects() == ()


def test_a_write_that_was_cancelled_in_a_transaction_closes_with_the_commit() -> None:
    wire = Wire()
    assert wire.abandon(delete(7, **turn(1))) == NOTHING
    assert wire.send(commit()) == Closed((DELETED,))


@pytest.mark.parametrize(
    "failure",
    [
        NETWORK_ERROR,
        {"ok": 0, "code": 50, "errmsg": "time limit"},
        {"ok": 0, "code": 13, "errmsg": "unauthorized, may be sent again"},
        {"code": 64, "errmsg": "write concern"},
        {**NO_SUCH_TRANSACTION, "errorLabels": ["UnknownTransactionCommitResult"]},
        {**NO_SUCH_TRANSACTION, "writeConcernError": {"code": 64}},
    ],
)
def test_every_commit_that_is_sent_closes_them_again(failure: dict[str, Any]) -> None:
    wire = Wire()
    wire.transaction()
    assert wire.fail(commit(), failure) == Closed((DELETED,), unknown=True)
    assert wire.abandon(commit()) == Closed((DELETED,), unknown=True)
    assert wire.send(commit(), {"ok": 1, "writeConcernError": {"code": 64}}) == Closed(
        (DELETED,), unknown=True
    )
    assert wire.send(commit()) == Closed((DELETED,))
    assert wire.send(commit()) == NOTHING


def test_a_commit_closes_what_it_was_sent_for_even_if_another_ended_the_transaction() -> None:
    wire = Wire()
    wire.transaction()
    wire.start(commit())
    late = wire.last
    assert wire.send(commit()) == Closed((DELETED,))
    assert wire.ledger.succeeded(("h", late), OK) == Closed((DELETED,))


def test_a_commit_of_a_transaction_that_is_gone_is_definite() -> None:
    wire = Wire()
    wire.transaction()
    assert wire.fail(commit(), NO_SUCH_TRANSACTION) == Closed((DELETED,))
    assert wire.ledger.open_effects() == ()


def test_an_abort_closes_nothing() -> None:
    wire = Wire()
    wire.transaction()
    assert wire.send(abort()) == NOTHING
    assert wire.ledger.open_effects() == ()
    wire.transaction(2)
    assert wire.fail(abort(2), NO_SUCH_TRANSACTION) == NOTHING
    assert wire.ledger.open_effects() == ()


def test_an_abort_of_unknown_outcome_is_no_outcome() -> None:
    wire = Wire()
    wire.transaction()
    assert wire.fail(abort(), NETWORK_ERROR) == Closed((DELETED,), unknown=True)
    assert wire.send(commit()) == Closed((DELETED,))


def test_a_higher_number_on_the_session_leaves_the_transaction_behind() -> None:
    wire = Wire()
    wire.transaction(1)
    wire.transaction(5, TWO)
    retryable = {"lsid": {"id": ONE}, "txnNumber": Int64(2)}
    assert wire.start(delete(8, **retryable)) == Closed((DELETED,))
    assert wire.ledger.open_effects() == (ALSO_DELETED, DELETED)
    wire.fail(commit(5, TWO), NETWORK_ERROR)
    assert wire.start({"find": "c", **turn(6, TWO)}) == Closed((DELETED,), unknown=True)


def test_a_lower_number_than_the_sessions_is_not_kept_for_its_transaction() -> None:
    wire = Wire()
    wire.transaction(5)
    assert wire.send(delete(8, **turn(4))) == Closed((ALSO_DELETED,))
    assert wire.send(commit(5)) == Closed((DELETED,))


def test_the_end_of_a_session_ends_its_transaction() -> None:
    wire = Wire()
    wire.transaction(1, ONE)
    wire.transaction(1, TWO)
    assert wire.send({"endSessions": [{"id": ONE}]}) == Closed((DELETED,))
    assert wire.ledger.open_effects() == (DELETED,)
    wire.abandon(commit(1, TWO))
    assert wire.send({"endSessions": [{"id": TWO}]}) == Closed((DELETED,), unknown=True)
    assert wire.send({"endSessions": [{"id": TWO}]}) == NOTHING


def test_sessions_do_not_share_transactions() -> None:
    wire = Wire()
    wire.transaction(1, ONE)
    assert wire.send(commit(1, TWO)) == NOTHING
    assert wire.send(commit(1, ONE)) == Closed((DELETED,))


def test_an_unknown_command_in_a_transaction_closes_at_once_and_at_the_commit() -> None:
    wire = Wire()
    assert wire.send({"reticulate": 1, **turn(1)}) == Closed((EVERYTHING,))
    assert wire.send(commit()) == Closed((EVERYTHING,))


def test_a_commit_that_names_no_session_may_commit_anything() -> None:
    assert Wire().send({"commitTransaction": 1}) == Closed((EVERYTHING,))


def test_too_many_open_commands_make_every_unknown_end_an_end_of_everything() -> None:
    wire = Wire(max_open=2)
    for _ in range(3):
        wire.start(delete(7))
    assert wire.ledger.overflowed
    assert wire.ledger.open_effects() == (EVERYTHING,)
    assert wire.ledger.succeeded(("h", 3), OK) == Closed((EVERYTHING,), unknown=True)
    assert wire.ledger.succeeded(("h", 1), OK) == Closed((DELETED,))


def test_a_transaction_that_was_forgotten_commits_everything() -> None:
    wire = Wire(max_transactions=1)
    wire.transaction(1, ONE)
    wire.transaction(1, TWO)
    assert wire.send(commit(1, ONE)) == Closed((EVERYTHING,))
    assert wire.send(commit(1, TWO)) == Closed((DELETED,))


def test_a_transaction_that_goes_on_after_it_was_forgotten_commits_everything() -> None:
    wire = Wire(max_transactions=1)
    wire.transaction(1, ONE)
    wire.transaction(1, TWO)
    assert wire.send(delete(8, **turn(1, ONE))) == NOTHING
    assert wire.send(commit(1, ONE)) == Closed((EVERYTHING, ALSO_DELETED))
    # One that begins is known from its first command on.
    assert wire.send(delete(7, startTransaction=True, **turn(2, TWO))) == NOTHING
    assert wire.send(commit(2, TWO)) == Closed((DELETED,))


def test_a_transaction_keeps_a_bounded_number_of_new_documents() -> None:
    wire = Wire()
    for identity in range(1_000):
        wire.send({"insert": "c", "documents": [{"_id": identity}], **turn(1)})
    effects = wire.send(commit()).effects
    assert sum(len(effect.ids or ()) for effect in effects) == 1_000
    assert 0 < sum(len(effect.documents or ()) for effect in effects) < 500


def test_a_large_transaction_is_kept_as_whole_collections() -> None:
    wire = Wire()
    for first in range(0, 20_000, 100):
        documents = [{"_id": identity} for identity in range(first, first + 100)]
        assert wire.send({"insert": "c", "documents": documents, **turn(1)}) == NOTHING
    wire.send({"create": "d", **turn(1)})
    closed = wire.send(commit())
    assert Effect("insert", "db.c") in closed.effects
    assert Effect("namespace", "db.d") in closed.effects
    assert sum(len(effect.ids or ()) for effect in closed.effects) < 10_000


def test_a_large_transaction_over_many_collections_is_everything() -> None:
    wire = Wire()
    for number in range(11_000):
        wire.send({"delete": f"c{number}", "deletes": [{"q": {}, "limit": 0}], **turn(1)})
    assert EVERYTHING in wire.send(commit()).effects
