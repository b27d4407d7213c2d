"""From proposals and trials to the report: severity, order, commands, findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId, Regex

from qbmongo.advisor.conclusions import conclude
from qbmongo.advisor.index_commands import mongosh_value, write_commands
from qbmongo.advisor.index_documents import index_from_document
from qbmongo.advisor.judgement import gain_of, is_harmless, is_worth, why_not_worth
from qbmongo.advisor.records import (
    Candidate,
    CollectionInfo,
    IndexSpec,
    PlanFigures,
    Proposal,
    Removal,
    Rules,
    ShapeTrial,
    Trial,
    Verification,
    WorkloadShape,
)
from qbmongo.advisor.report import Inputs, Report
from qbmongo.records import ReadOp

from . import recorded
from .test_accesses import shape
from .workloads import listed

NAMESPACE = "d.c"
INFO = CollectionInfo(NAMESPACE, count=5_000_000)


def spec(name: str, **options: Any) -> IndexSpec:
    return index_from_document(NAMESPACE, listed(name, **options)).spec


def plan(keys: int, documents: int, *, sorts: bool = False, **more: Any) -> PlanFigures:
    stages = more.pop("stages", ("FETCH", "IXSCAN") if keys else ("COLLSCAN",))
    return PlanFigures(stages, (), keys, documents, 10, sorts, **more)


def trial(change: str, *runs: tuple[WorkloadShape, PlanFigures, PlanFigures, bool]) -> Trial:
    shapes = tuple(ShapeTrial(s.id, before, after, used) for s, before, after, used in runs)
    return Trial(change, shapes, 100.0, 110.0, 20.0, 1_000)


SLOW = shape(ReadOp("find", NAMESPACE, {"a": 1}), calls=100, total_s=90.0, places=(("x.py:1", 3),))
QUICK = shape(ReadOp("find", NAMESPACE, {"b": 1}), calls=900, total_s=10.0)
CANDIDATE = Candidate("cand", spec("a_1"), (SLOW.id,), ("equality",), "it serves", gain_s=40.0)
HELPED = trial("cand", (SLOW, plan(0, 1_000), plan(10, 10), True))


def concluded(
    proposal: Proposal,
    trials: Sequence[Trial] = (),
    workload: Sequence[WorkloadShape] = (SLOW, QUICK),
    info: CollectionInfo = INFO,
) -> Report:
    where = "a server" if trials else None
    verification = Verification(where, {trial.change: trial for trial in trials})
    return conclude(workload, {NAMESPACE: info}, proposal, verification, Inputs())


def test_the_workload_shows_what_each_shape_examined() -> None:
    other = replace(CANDIDATE, id="other", shapes=(QUICK.id,))
    idle = (SLOW, plan(0, 1_000), plan(0, 1_000), False)
    trials = [trial("other", idle, (QUICK, plan(0, 900), plan(9, 9), True)), HELPED]
    report = concluded(Proposal((CANDIDATE, other)), trials)
    shown = {
        row.id: (row.before and row.before.documents_examined, row.after and row.after.returned)
        for row in report.workload
    }
    assert shown == {SLOW.id: (1_000, 10), QUICK.id: (900, 10)}
    by_id = {row.id: row for row in report.workload}
    assert by_id[SLOW.id].after == plan(10, 10)
    assert concluded(Proposal((CANDIDATE,))).workload[0].before is None


def test_a_candidate_that_helped() -> None:
    report = concluded(Proposal((CANDIDATE,)), [HELPED])
    (item,) = report.recommendations
    assert (item.action, item.verified, item.severity) == ("create", True, "high")
    assert item.before is not None
    assert item.after is not None
    assert (item.before.documents_examined, item.after.documents_examined) == (1_000, 10)
    assert item.before.estimated_s == 90.0
    assert 0 < item.after.estimated_s < 20
    assert 0.7 < item.share < 0.9
    assert item.size_bytes == 20 * 5_000_000
    assert (item.insert_us_before, item.insert_us_after) == (100.0, 110.0)
    assert item.places == (("x.py:1", 3),)
    assert [served.id for served in item.shapes] == [SLOW.id]
    assert item.steps[0].startswith("choose a quiet time")
    assert report.worst() == "high"


def test_without_trying_it_is_marked_unverified() -> None:
    (item,) = concluded(Proposal((CANDIDATE,))).recommendations
    assert (item.verified, item.before, item.after, item.size_bytes) == (False, None, None, None)
    assert (item.saved_s, item.share, item.severity) == (40.0, 0.4, "high")


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (trial("cand", (SLOW, plan(0, 1_000), plan(0, 1_000), False)), "did not choose"),
        (trial("cand", (SLOW, plan(0, 1_000), plan(450, 450), True)), "saves 10%"),
        (
            trial(
                "cand",
                (SLOW, plan(0, 1_000), plan(10, 10), True),
                (QUICK, plan(5, 5), plan(1_000, 1_000), True),
            ),
            "would examine more",
        ),
        (Trial("cand", error="cannot index parallel arrays"), "cannot index parallel arrays"),
    ],
)
def test_a_candidate_that_was_tried_in_vain(found: Trial, reason: str) -> None:
    report = concluded(Proposal((CANDIDATE,)), [found])
    assert report.recommendations == ()
    (rejected,) = report.tried_and_rejected
    assert reason in rejected.reason
    assert rejected.trial is found


def test_an_explain_that_is_no_evidence_neither_proves_nor_refutes() -> None:
    untrusted = plan(0, 0, trusted=False)
    (item,) = concluded(
        Proposal((CANDIDATE,)), [trial("cand", (SLOW, plan(0, 1_000), untrusted, False))]
    ).recommendations
    assert not item.verified


def test_an_alternative_counts_only_if_it_was_tried_and_helped() -> None:
    other = replace(CANDIDATE, id="other")
    failed = trial("cand", (SLOW, plan(0, 1_000), plan(0, 1_000), False))
    proposal = Proposal((CANDIDATE,), (other,))
    assert [r.id for r in concluded(proposal, [failed]).recommendations] == []
    helped = replace(HELPED, change="other")
    assert [r.id for r in concluded(proposal, [failed, helped]).recommendations] == ["other"]


def test_a_sort_saved_is_worth_it_though_as_much_is_examined() -> None:
    run = trial("cand", (SLOW, plan(50, 50, sorts=True), plan(50, 50), True))
    assert gain_of(run) == 0
    assert is_worth(run, Rules())
    assert why_not_worth(trial("cand", (SLOW, plan(50, 50), plan(50, 50), True)), Rules())


@pytest.mark.parametrize(
    ("after", "harmless"),
    [
        (plan(100, 100), True),
        (plan(104, 104), True),
        (plan(150, 100), False),
        (plan(100, 100, sorts=True), False),
    ],
)
def test_harm(after: PlanFigures, harmless: bool) -> None:
    assert is_harmless(trial("r", (SLOW, plan(100, 100), after, False))) is harmless


def _removal(kind: Any = "prefix", **more: Any) -> Removal:
    index = index_from_document(NAMESPACE, listed("b_1", hidden=kind == "hidden"))
    return Removal("rem", index, kind, **more)


def test_an_index_is_hidden_before_it_is_dropped() -> None:
    (item,) = concluded(Proposal(removals=(_removal(),))).recommendations
    assert (item.action, item.verified, item.severity) == ("hide", False, "low")
    assert [step.split()[0] for step in item.steps] == ["hide", "watch", "drop"]
    assert 'hideIndex("b_1")' in item.mongosh
    assert 'unhideIndex("b_1")' in item.rollback_mongosh
    (item,) = concluded(Proposal(removals=(_removal("hidden"),))).recommendations
    assert (item.action, item.mongosh.rpartition(".")[2]) == ("drop", 'dropIndex("b_1")')
    assert "hidden: true" in item.rollback_mongosh


def test_what_is_replaced_waits_for_the_new_index() -> None:
    removal = _removal("replaced", by=spec("b_1_c_1"), candidate="cand")
    proposal = Proposal((CANDIDATE,), (), (removal,))
    first, second = concluded(proposal, [HELPED]).recommendations
    assert (first.action, second.action, second.depends_on) == ("create", "hide", ("cand",))
    assert "hide b_1" in first.steps[-1]
    assert second.steps[0].startswith("first create")
    failed = trial("cand", (SLOW, plan(0, 1_000), plan(0, 1_000), False))
    assert concluded(proposal, [failed]).recommendations == ()


def test_a_removal_that_does_harm_is_not_made() -> None:
    harm = trial("rem", (QUICK, plan(10, 10), plan(0, 5_000), False))
    report = concluded(Proposal(removals=(_removal(),)), [harm])
    assert report.recommendations == ()
    assert [rejected.candidate.id for rejected in report.tried_and_rejected] == ["rem"]


def test_a_hidden_index_that_is_missing() -> None:
    candidate = replace(CANDIDATE, unhides="a_1")
    (item,) = concluded(Proposal((candidate,)), [HELPED]).recommendations
    assert (item.action, item.steps[0]) == ("unhide", "unhide a_1")
    assert item.pymongo == (
        "client['d'].command('collMod', 'c', index={'name': 'a_1', 'hidden': False})"
    )


def test_the_worst_comes_first() -> None:
    low = replace(CANDIDATE, id="low", gain_s=1.0, spec=spec("z_1"))
    medium = replace(CANDIDATE, id="medium", gain_s=5.0, spec=spec("y_1"))
    report = concluded(Proposal((low, CANDIDATE, medium)))
    assert [(r.id, r.severity) for r in report.recommendations] == [
        ("cand", "high"),
        ("medium", "medium"),
        ("low", "low"),
    ]


def test_the_json_form_has_every_field_of_the_documentation() -> None:
    report = concluded(Proposal((CANDIDATE,), (), (_removal(),)), [HELPED]).to_dict()
    assert report["schema"] == 1
    assert [r["action"] for r in report["recommendations"]] == ["create", "hide"]
    first = report["recommendations"][0]
    assert (first["namespace"], first["keys"], first["options"]) == ("d.c", [["a", 1]], {})
    assert first["verified"] is True
    assert first["before"]["documents_examined"] == 1_000


@pytest.mark.parametrize("document", recorded.LISTED_INDEXES[1:-1], ids=lambda d: d["name"])
def test_dropping_can_be_undone_exactly(document: dict[str, Any]) -> None:
    """The rollback of a drop is run on a client that only notes what it is asked for."""
    index = index_from_document("d.c", document).spec
    _, dropped, shell, code = write_commands("drop", index, INFO)
    assert dropped == f"client['d']['c'].drop_index({document['name']!r})"
    asked: dict[str, Any] = {}

    class Noted(dict[str, Any]):
        def __missing__(self, name: str) -> Noted:
            return self

        def create_index(self, keys: Any, **options: Any) -> None:
            asked.update(options, keys=keys)

    exec(code, {"client": Noted()})
    keys = asked.pop("keys")
    if "weights" in document:
        assert sorted(keys) == [("body", "text"), ("title", "text")]
    else:
        assert dict(keys) == document["key"]
    wanted = {k: v for k, v in document.items() if k not in ("v", "key", "name")}
    if "collation" in wanted:
        wanted["collation"] = {k: v for k, v in wanted["collation"].items() if k != "version"}
    if asked.get("name") is not None:
        assert asked.pop("name") == document["name"]
    assert asked == {**wanted, "hidden": True}
    assert shell.startswith('db.getSiblingDB("d").getCollection("c").createIndex({')


def test_simple_comparison_is_asked_for_where_it_is_not_the_default() -> None:
    info = replace(INFO, options={"collation": {"locale": "fr"}})
    _, code, _, _ = write_commands("create", spec("a_1"), info)
    assert code == "client['d']['c'].create_index([('a', 1)], collation={'locale': 'simple'})"


def test_values_in_mongosh() -> None:
    value = {
        "a": True,
        "b.c": [1, 2.5, "x\"'"],
        "d": datetime(2024, 1, 2, 3),
        "e": ObjectId("65a000000000000000000001"),
        "f": Int64(5),
        "g": Decimal128("1.5"),
        "h": None,
        "$i": Regex("^a", "i"),
    }
    assert mongosh_value(value) == (
        '{a: true, "b.c": [1, 2.5, "x\\"\'"], d: ISODate("2024-01-02T03:00:00+00:00"), '
        'e: ObjectId("65a000000000000000000001"), f: NumberLong("5"), g: NumberDecimal("1.5"), '
        'h: null, "$i": EJSON.deserialize({"$regularExpression": '
        '{"pattern": "^a", "options": "i"}})}'
    )


def kinds(*workload: WorkloadShape, trials: Sequence[Trial] = ()) -> list[str]:
    report = concluded(Proposal(), trials, workload)
    return [finding.kind for finding in report.findings]


def found(filter: dict[str, Any], **more: Any) -> WorkloadShape:
    return shape(ReadOp("find", NAMESPACE, filter), **more)


@pytest.mark.parametrize(
    ("filter", "ranged", "hashed"),
    [
        ({"_id": 5}, True, True),
        ({"user": 1, "_id": 5}, False, False),
        ({"user": {"$in": [1, 2]}}, False, False),
        ({"user": {"$gt": 1}}, False, True),
        ({"at": 3}, True, True),
        ({"$or": [{"user": 1}, {"user": 2, "at": 1}]}, False, False),
        ({"$or": [{"user": 1}, {"at": 1}]}, True, True),
    ],
)
def test_queries_that_every_shard_is_asked(
    filter: dict[str, Any], ranged: bool, hashed: bool
) -> None:
    asked = found(filter)
    for direction, expected in ((1, ranged), ("hashed", hashed)):
        info = replace(INFO, shard_key=(("user", direction), ("at", 1)))
        report = concluded(Proposal(), (), [asked], info)
        assert ["broadcast"] * expected == [f.kind for f in report.findings]
    assert kinds(asked) == []


def test_findings_that_rest_on_counts() -> None:
    assert kinds(found({"a": 1}, documents=9_999)) == []
    assert kinds(found({"a": 1}, documents=10_000)) == ["unbounded"]
    limited = shape(ReadOp("find", NAMESPACE, {"a": 1}, limit=5_000), documents=50_000)
    assert kinds(limited) == []
    assert kinds(found({"a": 1}, skips=(5, 999))) == []
    assert kinds(found({"a": 1}, skips=(5, 1_000))) == ["large_skip"]
    assert kinds(found({"a": 1}, repeats=(("x.py:7", 3),))) == ["n_plus_one"]
    assert kinds(found({"a": 1}, documents=10, bytes=200_000)) == ["large_documents"]
    named = shape(ReadOp("find", NAMESPACE, {"a": 1}, {"a": 1}), documents=10, bytes=200_000)
    assert kinds(named) == []


def test_slow_though_its_index_serves_it() -> None:
    slow = replace(SLOW, p95_s=0.5)
    served = trial("r", (slow, plan(10, 10), plan(10, 10), False))
    assert kinds(slow, trials=[served]) == ["slow_but_indexed"]
    assert kinds(SLOW, trials=[served]) == []
    assert kinds(slow) == []
    wasteful = trial("r", (slow, plan(500, 500), plan(500, 500), False))
    assert kinds(slow, trials=[wasteful]) == []


def test_findings_say_what_to_do_and_come_worst_first() -> None:
    small = found({"a": {"$ne": 1}}, total_s=1.0)
    large = found({"$where": "1"}, total_s=99.0)
    report = concluded(Proposal(), (), (small, large))
    assert [(f.kind, f.severity) for f in report.findings] == [
        ("where", "high"),
        ("negation", "low"),
    ]
    assert all(finding.remedy and finding.shapes for finding in report.findings)


def test_a_condition_that_an_index_serves_hides_the_others() -> None:
    assert kinds(found({"a": 1, "b": {"$ne": 2}})) == []
    assert kinds(found({"$or": [{"a": 1}, {"b": {"$ne": 2}}]})) == ["negation"]
    assert kinds(found({"c": 1, "$or": [{"a": 1}, {"b": {"$ne": 2}}]})) == []
