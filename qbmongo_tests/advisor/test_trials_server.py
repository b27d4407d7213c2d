"""Candidates and removals tried on a copy, with real explains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from bson import Regex
from pymongo import MongoClient
from pymongo.errors import BulkWriteError, OperationFailure

from qbmongo.advisor.interruption import Stop, StoppedError
from qbmongo.advisor.judgement import gain_of, is_harmless, is_worth
from qbmongo.advisor.queries import questions_of
from qbmongo.advisor.records import Candidate, CollectionInfo, Removal, Rules, Trial, WorkloadShape
from qbmongo.advisor.scratch import Scratch
from qbmongo.advisor.trial_collection import TrialCollection, reason_of
from qbmongo.advisor.verify import Effort, TrialJob, try_collection
from qbmongo_tests.advisor.trial_cases import (
    candidate,
    collection,
    index,
    orders,
    reading,
    removal,
    sample_of,
    writing,
)

pytestmark = pytest.mark.needs_explain

EFFORT = Effort(inserts=100, rounds=1)
RULES = Rules()
SORTED = reading("find", {"customer": 1}, sort=[("at", -1)], limit=10)
BY_CUSTOMER = reading("find", {"customer": 1})
BY_STATUS_AND_TOTAL = reading("find", {"status": "new", "total": {"$gt": 5}})


@pytest.fixture(scope="module")
def client(server_uri: str) -> Iterator[MongoClient[Any]]:
    with MongoClient[Any](server_uri) as opened:
        yield opened


@pytest.fixture(scope="module")
def scratch(client: MongoClient[Any]) -> Iterator[Scratch]:
    with Scratch.open(client) as opened:
        yield opened


def tried(
    scratch: Scratch,
    shapes: list[WorkloadShape],
    *,
    info: CollectionInfo | None = None,
    chosen: tuple[Candidate, ...] = (),
    alternatives: tuple[Candidate, ...] = (),
    removals: tuple[Removal, ...] = (),
    documents: Any = None,
    notes: list[str] | None = None,
) -> dict[str, Trial]:
    job = TrialJob(info or collection(), chosen, alternatives, removals, tuple(shapes))
    said: list[str] = [] if notes is None else notes
    with sample_of(documents or orders()) as sample:
        found = try_collection(scratch, "c", job, sample, EFFORT, RULES, Stop(), said.append)
    assert "c" not in scratch.database.list_collection_names()
    return found


def test_an_index_that_serves_its_shapes_is_worth_it(scratch: Scratch) -> None:
    wanted = candidate(index("customer", ("at", -1)), SORTED, BY_CUSTOMER)
    trial = tried(scratch, [SORTED, BY_CUSTOMER], chosen=(wanted,))[wanted.id]
    assert is_worth(trial, RULES)
    assert {shape.shape: shape.used for shape in trial.shapes} == {
        SORTED.id: True,
        BY_CUSTOMER.id: True,
    }
    (sorted_trial,) = (shape for shape in trial.shapes if shape.shape == SORTED.id)
    assert sorted_trial.before.stages == ("SORT", "COLLSCAN")
    assert sorted_trial.before.documents_examined == 600 * sorted_trial.before.value_sets
    assert sorted_trial.before.sorted_in_memory
    assert sorted_trial.after.stages == ("LIMIT", "FETCH", "IXSCAN")
    assert sorted_trial.after.indexes == ("customer_1_at_-1",)
    assert sorted_trial.after.documents_examined == sorted_trial.after.returned
    assert not sorted_trial.after.sorted_in_memory
    assert trial.documents == 600


def test_the_price_of_an_index_is_measured(scratch: Scratch) -> None:
    wanted = candidate(index("customer"), BY_CUSTOMER)
    trial = tried(scratch, [BY_CUSTOMER], chosen=(wanted,))[wanted.id]
    assert trial.insert_us_before is not None
    assert trial.insert_us_after is not None
    assert trial.insert_us_before > 0
    assert trial.insert_us_after > 0
    assert trial.index_bytes_per_document is not None
    assert trial.index_bytes_per_document > 0


def test_an_index_that_the_planner_does_not_choose_is_not_worth_it(scratch: Scratch) -> None:
    useless = candidate(index("total", "customer"), BY_CUSTOMER)
    trial = tried(scratch, [BY_CUSTOMER], chosen=(useless,))[useless.id]
    assert not is_worth(trial, RULES)
    assert not any(shape.used for shape in trial.shapes)


def test_an_index_that_saves_nothing_is_not_worth_it(scratch: Scratch) -> None:
    """Every document has the value: all of the index is read, and all documents."""
    shape = reading("find", {"status": "new"})
    same = [{**order, "status": "new"} for order in orders()]
    useless = candidate(index("status"), shape)
    trial = tried(scratch, [shape], chosen=(useless,), documents=same)[useless.id]
    assert not is_worth(trial, RULES)
    assert gain_of(trial) <= 0


def test_of_two_that_serve_the_same_shapes_one_is_left_out(scratch: Scratch) -> None:
    both = candidate(index("customer", ("at", -1)), SORTED, BY_CUSTOMER, gain_s=2.0)
    less = candidate(index("customer", name="less"), BY_CUSTOMER, gain_s=1.0)
    found = tried(scratch, [SORTED, BY_CUSTOMER], chosen=(both, less))
    assert is_worth(found[both.id], RULES)
    assert not is_worth(found[less.id], RULES)


def test_two_that_serve_different_shapes_are_both_worth_it(scratch: Scratch) -> None:
    first = candidate(index("customer", ("at", -1)), SORTED, gain_s=2.0)
    second = candidate(index("status", "total"), BY_STATUS_AND_TOTAL, gain_s=1.0)
    found = tried(scratch, [SORTED, BY_STATUS_AND_TOTAL], chosen=(first, second))
    assert is_worth(found[first.id], RULES)
    assert is_worth(found[second.id], RULES)
    used = {s.shape: s.used for s in found[second.id].shapes}
    assert used == {SORTED.id: False, BY_STATUS_AND_TOTAL.id: True}


def test_where_one_fails_an_alternative_is_tried(scratch: Scratch) -> None:
    fails = candidate(index("at", "customer"), BY_CUSTOMER, gain_s=2.0)
    helps = candidate(index("customer"), BY_CUSTOMER)
    other = candidate(index("status", "total"), BY_STATUS_AND_TOTAL)
    found = tried(
        scratch,
        [BY_CUSTOMER, BY_STATUS_AND_TOTAL],
        chosen=(fails,),
        alternatives=(other, helps),
    )
    assert not is_worth(found[fails.id], RULES)
    assert is_worth(found[helps.id], RULES)
    assert other.id not in found


def test_an_index_that_the_server_refuses_says_why(scratch: Scratch) -> None:
    wrong = candidate(index("customer", partial_filter={"a": {"$where": "1"}}), BY_CUSTOMER)
    right = candidate(index("customer", ("at", -1)), BY_CUSTOMER)
    found = tried(scratch, [BY_CUSTOMER], chosen=(wrong, right))
    assert found[wrong.id].error
    assert not is_worth(found[wrong.id], RULES)
    assert is_worth(found[right.id], RULES)


def test_an_index_that_existing_ones_make_needless_is_not_worth_it(scratch: Scratch) -> None:
    there = index("customer", ("at", -1), name="there")
    needless = candidate(index("customer"), BY_CUSTOMER)
    found = tried(scratch, [BY_CUSTOMER], info=collection(there), chosen=(needless,))
    assert not is_worth(found[needless.id], RULES)


def test_a_hidden_index_that_is_wanted_is_shown_again(scratch: Scratch) -> None:
    hidden = index("customer", name="mine", hidden=True)
    wanted = candidate(hidden, BY_CUSTOMER, unhides="mine")
    found = tried(scratch, [BY_CUSTOMER], info=collection(hidden), chosen=(wanted,))
    (trial,) = found[wanted.id].shapes
    assert trial.before.stages == ("COLLSCAN",)
    assert trial.after.indexes == ("mine",)
    assert is_worth(found[wanted.id], RULES)


def test_a_redundant_index_can_go_and_a_needed_one_cannot(scratch: Scratch) -> None:
    short = index("customer", name="short")
    long = index("customer", ("at", -1), name="long")
    only = index("status", "total", name="only")
    found = tried(
        scratch,
        [BY_CUSTOMER, SORTED, BY_STATUS_AND_TOTAL],
        info=collection(short, long, only),
        removals=(removal(short), removal(only, "unused")),
    )
    assert is_harmless(found["remove short"])
    assert not is_harmless(found["remove only"])


def test_of_two_duplicates_only_one_can_go(scratch: Scratch) -> None:
    first = index("customer", name="first")
    second = index("customer", name="second", sparse=True)
    found = tried(
        scratch,
        [BY_CUSTOMER],
        info=collection(first, second),
        removals=(removal(first, "duplicate"), removal(second, "duplicate")),
    )
    assert is_harmless(found["remove first"])
    assert not is_harmless(found["remove second"])


def test_an_index_that_a_failed_candidate_would_replace_is_not_tried(scratch: Scratch) -> None:
    there = index("customer", name="there")
    fails = candidate(index("total", "customer"), BY_CUSTOMER)
    found = tried(
        scratch,
        [BY_CUSTOMER],
        info=collection(there),
        chosen=(fails,),
        removals=(removal(there, "replaced", candidate=fails.id),),
    )
    assert "remove there" not in found


def test_documents_that_a_ttl_index_would_delete_stay(scratch: Scratch) -> None:
    import datetime

    old = datetime.datetime(2001, 1, 1)
    documents = [{**order, "created": old} for order in orders(50)]
    info = collection(index("created", name="ttl", expire_after_s=1))
    copy = TrialCollection(scratch.database, "ttl", info, Stop())
    with sample_of(documents) as sample:
        copy.fill(sample)
    built = {i["name"]: i for i in scratch.database["ttl"].list_indexes()}
    assert set(built) == {"_id_", "ttl"}
    assert "expireAfterSeconds" not in built["ttl"]
    assert scratch.database["ttl"].count_documents({}) == 50
    copy.drop()


def test_existing_indexes_are_built_with_their_options(scratch: Scratch) -> None:
    collation = {"locale": "en", "strength": 2}
    info = collection(
        index("customer", name="u", sparse=True),
        index("status", name="p", partial_filter={"total": {"$gt": 5_000}}),
        index("status", name="co", collation=collation),
        index(("status", -1), name="h", hidden=True),
        index("_id", "total", name="un", unique=True),
    )
    copy = TrialCollection(scratch.database, "options", info, Stop())
    with sample_of(orders(50)) as sample:
        copy.fill(sample)
    built = {i["name"]: i for i in scratch.database["options"].list_indexes()}
    copy.drop()
    assert copy.notes == []
    assert built["u"]["sparse"] is True
    assert built["p"]["partialFilterExpression"] == {"total": {"$gt": 5_000}}
    assert built["co"]["collation"]["strength"] == 2
    assert built["h"]["hidden"] is True
    assert built["un"]["unique"] is True


def test_the_collections_own_collation_is_kept_and_simple_indexes_stay_simple(
    scratch: Scratch,
) -> None:
    options = {"collation": {"locale": "en", "strength": 2}, "validator": {"x": {"$exists": True}}}
    info = collection(index("status", name="simple"), options=options)
    copy = TrialCollection(scratch.database, "collated", info, Stop())
    with sample_of(orders(50)) as sample:
        copy.fill(sample)
    (listed,) = scratch.database.list_collections(filter={"name": "collated"})
    built = {i["name"]: i for i in scratch.database["collated"].list_indexes()}
    copy.drop()
    assert listed["options"]["collation"]["strength"] == 2
    assert "validator" not in listed["options"]
    assert built["simple"].get("collation", {}).get("locale") in (None, "simple")


def test_an_existing_index_that_cannot_be_built_is_said(scratch: Scratch) -> None:
    broken = index("x", name="broken", partial_filter={"a": {"$where": "1"}})
    notes: list[str] = []
    wanted = candidate(index("customer"), BY_CUSTOMER)
    found = tried(scratch, [BY_CUSTOMER], info=collection(broken), chosen=(wanted,), notes=notes)
    assert is_worth(found[wanted.id], RULES)
    assert any("broken could not be built" in note for note in notes)


SHAPES: list[WorkloadShape] = [
    BY_CUSTOMER,
    SORTED,
    BY_STATUS_AND_TOTAL,
    reading("find_one", {"customer": 1, "status": "x"}),
    reading("find", {"customer": 1}, projection={"total": 1, "_id": 0}),
    reading("find", {"customer": 1}, sort=[("at", 1)], skip=5, limit=5),
    reading("find", {"tags": "a", "total": {"$gte": 3, "$lt": 9}}),
    reading("find", {"status": Regex("^ne")}),
    reading("find", {"customer": {"$in": [1, 2, 3]}}, sort=[("at", 1)]),
    reading("find", {"$or": [{"customer": 1}, {"total": 3}]}),
    reading("count_documents", {"status": "x"}),
    reading("count_documents", {"status": "x"}, limit=3),
    reading("distinct", {"status": "x"}, key="customer"),
    reading("aggregate", pipeline=[{"$match": {"customer": 1}}, {"$sort": {"at": 1}}]),
    reading("aggregate", pipeline=[{"$sort": {"at": 1}}, {"$limit": 3}]),
    reading(
        "aggregate",
        pipeline=[{"$match": {"customer": 1}}, {"$group": {"_id": "$status", "n": {"$sum": 1}}}],
    ),
    reading(
        "aggregate",
        pipeline=[{"$addFields": {"x": 1}}, {"$match": {"customer": 1}}, {"$match": {"x": 1}}],
    ),
    reading("aggregate", pipeline=[{"$unwind": "$tags"}, {"$match": {"customer": 1}}]),
    writing("update_one", {"customer": 1}, {"$set": {"x": 1}}),
    writing("update_many", {"status": "new"}, {"$inc": {"x": 1}}),
    writing("replace_one", {"customer": 1}, {}),
    writing("delete_one", {"customer": 1, "total": {"$gt": 1}}),
    writing("delete_many", {"customer": 1}),
    writing("find_one_and_update", {"customer": 1}, {"$set": {"x": 1}}),
    writing("find_one_and_delete", {"status": "x"}),
    writing("find_one_and_replace", {"status": "x"}, {}),
]


@pytest.mark.parametrize("indexes", [(), ("customer", "status")], ids=str)
def test_every_kind_of_operation_is_explained_with_its_real_count(
    scratch: Scratch, indexes: tuple[str, ...]
) -> None:
    """Reference: the counts of the plain driver's own answers, where the explain says it is."""
    info = collection(*(index(path, name=path) for path in indexes))
    copy = TrialCollection(scratch.database, "every", info, Stop())
    documents = orders()
    with sample_of(documents) as sample:
        copy.fill(sample)
    before = list(scratch.database["every"].find(sort=[("_id", 1)]))
    for shape in SHAPES:
        questions = questions_of(shape, info, documents, 3)
        assert questions.note is None, shape.text
        assert questions.asked, shape.text
        runs = copy.run({shape.id: questions.asked})[shape.id]
        for run, question in zip(runs, questions.asked, strict=True):
            assert run is not None, (shape.text, question.command)
            assert run.trusted, (shape.text, question.command, run)
    # Explained updates and deletes changed nothing.
    assert list(scratch.database["every"].find(sort=[("_id", 1)])) == before
    copy.drop()


def test_an_explain_that_counts_wrongly_is_no_evidence(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrialCollection, "_count", lambda self, question: (10_000, 10_000))
    wanted = candidate(index("customer"), BY_CUSTOMER)
    notes: list[str] = []
    trial = tried(scratch, [BY_CUSTOMER], chosen=(wanted,), notes=notes)[wanted.id]
    assert notes == [f"{BY_CUSTOMER.text}: not verifiable here, its explain counts wrongly"]
    assert not any(shape.before.trusted or shape.used for shape in trial.shapes)
    assert not is_worth(trial, RULES)


def test_a_query_that_the_server_refuses_to_explain_is_said(scratch: Scratch) -> None:
    """A hint of an index that is not there. Source: MongoDB manual, cursor.hint()."""
    hinted = reading("find", {"customer": 1}, options={"hint": "gone"})
    notes: list[str] = []
    wanted = candidate(index("status", "total"), BY_STATUS_AND_TOTAL)
    found = tried(scratch, [hinted, BY_STATUS_AND_TOTAL], chosen=(wanted,), notes=notes)
    assert notes == [f"{hinted.text}: not verifiable here, explain is refused"]
    assert [shape.shape for shape in found[wanted.id].shapes] == [BY_STATUS_AND_TOTAL.id]
    assert is_worth(found[wanted.id], RULES)


def test_what_needs_its_own_kind_of_index_is_not_tried_and_said(scratch: Scratch) -> None:
    text = reading("find", {"$text": {"$search": "x"}})
    notes: list[str] = []
    wanted = candidate(index("customer"), BY_CUSTOMER)
    found = tried(scratch, [text, BY_CUSTOMER], chosen=(wanted,), notes=notes)
    assert [shape.shape for shape in found[wanted.id].shapes] == [BY_CUSTOMER.id]
    assert any("$text" in note for note in notes)


def test_kept_values_are_asked_first(scratch: Scratch) -> None:
    from dataclasses import replace

    kept = replace(
        BY_CUSTOMER,
        filters=({"customer": 41}, {"other": 1}),
        commands=({"find": "orders", "filter": {"customer": 42}},),
    )
    asked = questions_of(kept, collection(), orders(), 3).asked
    values = [question.command["filter"]["customer"] for question in asked]
    assert set(values[:2]) == {41, 42}
    assert len(values) == 3


def test_asked_to_stop_it_stops_and_removes_the_copy(scratch: Scratch) -> None:
    stop = Stop()
    stop.ask()
    job = TrialJob(collection(), (candidate(index("customer")),), (), (), (BY_CUSTOMER,))
    with sample_of(orders()) as sample, pytest.raises(StoppedError):
        try_collection(scratch, "c", job, sample, EFFORT, RULES, stop, lambda line: None)
    assert "c" not in scratch.database.list_collection_names()


def test_a_join_is_asked_as_the_find_that_it_amounts_to(scratch: Scratch) -> None:
    joining = reading(
        "aggregate",
        pipeline=[
            {
                "$lookup": {
                    "from": "orders",
                    "localField": "a",
                    "foreignField": "customer",
                    "as": "found",
                }
            }
        ],
    )
    from dataclasses import replace

    joining = replace(joining, shape={**joining.shape, "namespace": "shop.customers"})
    wanted = candidate(index("customer"), joining)
    trial = tried(scratch, [joining], chosen=(wanted,))[wanted.id]
    assert is_worth(trial, RULES)
    (shape,) = trial.shapes
    assert shape.used
    assert shape.before.stages == ("COLLSCAN",)


@pytest.mark.parametrize(
    "message",
    [
        'E11000 duplicate key error collection: x.c index: mail_1 dup key: { mail: "secret" }',
        'not authorized on x to execute command { find: "c", filter: { mail: "secret" } }',
        'not authorized on x to execute command { "find": "c", "filter": {"mail": "secret"} }',
        'Can\'t extract geo keys: { _id: 1, mail: "secret" }  Point must be an array or object',
    ],
)
def test_a_reason_shows_no_values_of_documents_and_commands(message: str) -> None:
    single = OperationFailure(message, 1, {"errmsg": message, "keyValue": {"mail": "secret"}})
    write = {"index": 0, "code": 1, "errmsg": message, "op": {"mail": "secret"}}
    for error in (single, BulkWriteError({"writeErrors": [write], "writeConcernErrors": []})):
        assert reason_of(error)
        assert "secret" not in reason_of(error)
    if "find" in message:
        assert reason_of(single) == "not authorized on x to execute command find"
