"""core/coalesce.settle: what each write of a batch is given, and what is never sent again."""

from __future__ import annotations

from typing import Any

import pytest

from qbmongo.core.coalesce import NOT_APPLIED, REFUSALS, SAME_FORM, STATES, Coalescer, settle
from qbmongo.records import Batch, BatchReply, JoinedWrite, Sending


def batch(*kinds: Any) -> Batch:
    slots = [JoinedWrite(kind) for kind in kinds]
    return Batch(slots, len(slots), Sending(0.0))


def kinds_of(reply: BatchReply, *kinds: Any) -> list[str]:
    return [verdict.kind for verdict in settle(batch(*kinds), reply)]


TWO = ("update_one", "update_one")
DONE = {"ok": 1.0, "idx": 0, "n": 1, "nModified": 1}


def test_results_are_those_of_the_single_commands() -> None:
    results = {
        0: {"ok": 1.0, "idx": 0, "n": 1, "nModified": 1},
        1: {"ok": 1.0, "idx": 1, "n": 1, "nModified": 0, "upserted": {"_id": {"a": 1}}},
        2: {"ok": 1.0, "idx": 2, "n": 0, "nModified": 0},
        3: {"ok": 1.0, "idx": 3, "n": 1},
        4: {"ok": 1.0, "idx": 4, "n": 1, "nModified": 0, "upserted": {"_id": None}},
    }
    kinds = ("update_one", "replace_one", "update_one", "delete_one", "update_one")
    found = [verdict.document for verdict in settle(batch(*kinds), BatchReply(results, {}))]
    assert found == [
        {"n": 1, "nModified": 1, "ok": 1.0, "updatedExisting": True},
        {"n": 1, "upserted": {"a": 1}, "nModified": 0, "ok": 1.0, "updatedExisting": False},
        {"n": 0, "nModified": 0, "ok": 1.0, "updatedExisting": False},
        {"n": 1, "ok": 1.0},
        {"n": 1, "upserted": None, "nModified": 0, "ok": 1.0, "updatedExisting": False},
    ]


def test_an_insert_that_is_not_mentioned_succeeded() -> None:
    error = {"index": 1, "code": 11000, "errmsg": "E11000", "keyValue": {"_id": 1}, "op": {}}
    verdicts = settle(batch("insert_one", "insert_one"), BatchReply(None, {1: error}))
    assert [verdict.kind for verdict in verdicts] == ["done", "failed"]
    assert verdicts[1].document == {
        "index": 0,
        "code": 11000,
        "errmsg": "E11000",
        "keyValue": {"_id": 1},
    }


def test_only_what_was_surely_not_applied_is_sent_again() -> None:
    for code in sorted({*range(500), *STATES, 10334, 11601, 17419, 40353}):
        error = {"ok": 0.0, "idx": 1, "code": code, "errmsg": "no", "n": 0}
        done, failed = settle(batch(*TWO), BatchReply({0: DONE}, {1: error}))
        assert done.kind == "done"
        if code in STATES:
            assert failed.kind == "unknown"
        elif code in NOT_APPLIED or code in {10334, 17419, 40353}:
            assert failed.kind == "alone"
        else:
            assert failed.kind == "failed"
            assert failed.document == {"index": 0, "code": code, "errmsg": "no"}
    assert not SAME_FORM & (NOT_APPLIED | STATES)
    assert not NOT_APPLIED & STATES


def test_a_write_concern_error_is_for_those_without_an_error_of_their_own() -> None:
    error = {"ok": 0.0, "idx": 1, "code": 11000, "errmsg": "no"}
    concern = {"code": 64, "errmsg": "late"}
    assert kinds_of(BatchReply({0: DONE}, {1: error}, concern), *TWO) == ["concern", "failed"]
    insert = BatchReply(None, {}, concern)
    assert kinds_of(insert, "insert_one", "insert_one") == ["concern", "concern"]


def test_a_refused_command_goes_alone_if_it_was_sent_once() -> None:
    for code in range(400):
        for sent in (1, 2):
            reply = BatchReply({}, {}, None, "command", code, sent)
            alone = code in REFUSALS and sent == 1
            assert kinds_of(reply, *TWO) == ["alone" if alone else "unknown"] * 2


def test_after_a_partial_answer_nothing_is_sent_again() -> None:
    reply = BatchReply({0: DONE}, {}, None, "command", 13, 1)
    assert kinds_of(reply, *TWO) == ["done", "unknown"]


@pytest.mark.parametrize(
    ("failure", "sent", "kind"),
    [
        ("other", 0, "alone"),
        ("other", 1, "unknown"),
        ("network", 0, "unknown"),
        ("network", 1, "unknown"),
    ],
)
def test_what_was_never_sent_goes_alone_but_not_without_a_server(
    failure: Any, sent: int, kind: str
) -> None:
    assert kinds_of(BatchReply({}, {}, None, failure, None, sent), *TWO) == [kind] * 2


def test_an_operation_without_a_word_is_unknown() -> None:
    assert kinds_of(BatchReply({0: DONE}, {}), *TWO) == ["done", "unknown"]


@pytest.mark.parametrize(
    ("reply", "asks_again_s"),
    [
        (BatchReply({}, {}, None, "command", 59), 3600.0),
        (BatchReply({}, {}, None, "command", 115), 3600.0),
        (BatchReply({}, {}, None, "other", None, 0), 3600.0),
        (BatchReply({}, {}, None, "command", 13), 60.0),
        (BatchReply({}, {}, None, "command", 9), 0.0),
        (BatchReply({}, {}, None, "network", None), 0.0),
        (BatchReply({0: DONE}, {}), 0.0),
    ],
)
def test_a_server_without_bulk_write_is_asked_again_later(
    reply: BatchReply, asks_again_s: float
) -> None:
    coalescer = Coalescer(1000)
    coalescer.bulk_write_answered(reply, 5.0)
    assert coalescer.can_bulk_write(5.0) is (asks_again_s == 0)
    assert not asks_again_s or not coalescer.can_bulk_write(4.9 + asks_again_s)
    assert coalescer.can_bulk_write(5.0 + asks_again_s)
    coalescer.bulk_write_answered(reply, 5.0)
    coalescer.primary_changed()
    assert coalescer.can_bulk_write(5.0)
