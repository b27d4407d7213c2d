"""What is read from explain documents. Those of MongoDB are written after its manual."""

from __future__ import annotations

from typing import Any

import pytest

from qbmongo.advisor.explains import ExplainError, read_explain

INDEX_SCAN = {"stage": "IXSCAN", "indexName": "a_1", "keyPattern": {"a": 1}}


def executed(plan: dict[str, Any], root: dict[str, Any] | None = None, **totals: int) -> Any:
    """One execution. Source: MongoDB manual, "Explain Results", executionStats."""
    counts = {"nReturned": 0, "totalKeysExamined": 0, "totalDocsExamined": 0, **totals}
    return {
        "queryPlanner": {"winningPlan": plan, "rejectedPlans": []},
        "executionStats": {
            "executionSuccess": True,
            "executionTimeMillis": 3,
            **counts,
            "executionStages": root or {"stage": plan.get("stage", "x")},
        },
    }


def test_a_find_by_an_index_with_a_sort_in_memory() -> None:
    plan = {"stage": "SORT", "inputStage": {"stage": "FETCH", "inputStage": INDEX_SCAN}}
    found = read_explain(executed(plan, nReturned=5, totalKeysExamined=50, totalDocsExamined=49))
    assert found.stages == ("SORT", "FETCH", "IXSCAN")
    assert found.indexes == ("a_1",)
    assert (found.keys_examined, found.documents_examined, found.returned) == (50, 49, 5)
    assert found.sorted_in_memory
    assert not found.scans_collection
    assert found.time_ms == 3


def test_branches_of_an_or_name_each_index_once() -> None:
    plan = {
        "stage": "FETCH",
        "inputStage": {
            "stage": "OR",
            "inputStages": [INDEX_SCAN, {**INDEX_SCAN, "indexName": "b_1"}, INDEX_SCAN],
        },
    }
    found = read_explain(executed(plan))
    assert found.indexes == ("a_1", "b_1")
    assert found.stages == ("FETCH", "OR", "IXSCAN", "IXSCAN", "IXSCAN")


@pytest.mark.parametrize(
    ("root", "returned"),
    [
        ({"stage": "COUNT", "nCounted": 50, "nReturned": 0}, 50),
        ({"stage": "UPDATE", "nMatched": 3, "nWouldModify": 1}, 3),
        ({"stage": "DELETE", "nWouldDelete": 1}, 1),
        ({"stage": "BATCHED_DELETE", "nWouldDelete": 7}, 7),
        ({"stage": "PROJECTION_DEFAULT", "inputStage": {"stage": "COUNT", "nCounted": 4}}, 4),
    ],
)
def test_counts_and_writes_return_nothing_and_say_what_they_dealt_with(
    root: dict[str, Any], returned: int
) -> None:
    found = read_explain(executed({"stage": root["stage"]}, root))
    assert (found.returned, found.final) == (returned, returned)


def test_the_slot_based_engine_shows_its_plan_one_level_deeper() -> None:
    """Source: MongoDB manual, "Explain Results", explainVersion 2: winningPlan.queryPlan."""
    plan = {
        "queryPlan": {"stage": "FETCH", "planNodeId": 2, "inputStage": INDEX_SCAN},
        "slotBasedPlan": {"slots": "", "stages": "[2] nlj inner [] [s4] ..."},
    }
    root = {"stage": "nlj", "outerStage": {"stage": "ixseek", "indexName": "not a plan's"}}
    found = read_explain(executed(plan, root, nReturned=9, totalKeysExamined=9))
    assert found.stages == ("FETCH", "IXSCAN")
    assert found.indexes == ("a_1",)
    assert found.returned == 9


def test_a_pipeline_ends_with_other_documents_than_its_head_returned() -> None:
    head = executed({"stage": "FETCH", "inputStage": INDEX_SCAN}, nReturned=50)
    document = {
        "stages": [
            {"$cursor": head, "nReturned": 50},
            {"$unwind": {"path": "$items"}, "nReturned": 120},
            {"$sort": {"sortKey": {"items.price": 1}}, "nReturned": 120},
            {"$group": {"_id": "$items.kind"}, "nReturned": 4},
        ]
    }
    found = read_explain(document)
    assert (found.returned, found.final) == (50, 4)
    assert found.sorted_in_memory
    assert found.stages == ("FETCH", "IXSCAN", "$unwind", "$sort", "$group")


def test_a_sort_of_groups_is_no_sort_that_an_index_could_save() -> None:
    document = {
        "stages": [
            {"$cursor": executed({"stage": "COLLSCAN"}, nReturned=50), "nReturned": 50},
            {"$group": {"_id": "$a"}, "nReturned": 4},
            {"$sort": {"sortKey": {"_id": 1}}, "nReturned": 4},
        ]
    }
    assert not read_explain(document).sorted_in_memory


def test_what_a_lookup_examines_is_added() -> None:
    """Source: MongoDB manual, "Explain Results", $lookup: totalDocsExamined, collectionScans."""
    lookup = {
        "$lookup": {"from": "orders"},
        "totalDocsExamined": 300,
        "totalKeysExamined": 310,
        "collectionScans": 0,
        "indexesUsed": ["customer_1"],
        "nReturned": 3,
    }
    head = executed({"stage": "COLLSCAN"}, nReturned=3, totalDocsExamined=3)
    found = read_explain({"stages": [{"$cursor": head}, lookup]})
    assert (found.keys_examined, found.documents_examined) == (310, 303)
    assert found.indexes == ("customer_1",)
    assert found.scans_collection


def test_shards_are_added_up() -> None:
    """Source: MongoDB manual, "Explain Results", sharded collections."""
    plan = {"stage": "FETCH", "inputStage": INDEX_SCAN}
    document = {
        "queryPlanner": {
            "winningPlan": {
                "stage": "SHARD_MERGE",
                "shards": [
                    {"shardName": "s0", "winningPlan": plan},
                    {"shardName": "s1", "winningPlan": {"stage": "COLLSCAN"}},
                ],
            }
        },
        "executionStats": {
            "nReturned": 12,
            "executionTimeMillis": 9,
            "totalKeysExamined": 10,
            "totalDocsExamined": 110,
            "executionStages": {
                "stage": "SHARD_MERGE",
                "shards": [
                    {
                        "shardName": name,
                        "nReturned": returned,
                        "totalKeysExamined": keys,
                        "totalDocsExamined": documents,
                        "executionStages": {"stage": "FETCH"},
                    }
                    for name, returned, keys, documents in (("s1", 2, 0, 100), ("s0", 10, 10, 10))
                ],
            },
        },
    }
    found = read_explain(document)
    assert (found.keys_examined, found.documents_examined, found.returned) == (10, 110, 12)
    assert found.stages == ("FETCH", "IXSCAN")
    assert found.scans_collection


def test_shards_of_a_pipeline_are_added_up() -> None:
    part = executed({"stage": "COLLSCAN"}, nReturned=2, totalDocsExamined=10)
    found = read_explain({"shards": {"s0": part, "s1": {"stages": [{"$cursor": part}]}}})
    assert (found.documents_examined, found.returned, found.final) == (20, 4, 4)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"queryPlanner": {"winningPlan": {"stage": "EOF"}}},
        {"stages": [{"$collStats": {}}]},
        {"shards": {}},
        {"queryPlanner": {"winningPlan": {}}, "executionStats": {"executionSuccess": False}},
    ],
)
def test_a_document_without_an_execution_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ExplainError):
        read_explain(document)
