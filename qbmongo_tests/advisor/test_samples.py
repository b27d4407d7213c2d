"""Samples: documents as they were, each once, bounded, and nothing left behind."""

from __future__ import annotations

from typing import Any

import bson
import pytest

from qbmongo.advisor.samples import Sample

MIB = 1 << 20


def add(sample: Sample, document: dict[str, Any]) -> bool:
    return sample.add(bson.encode(document), bson.encode({"_id": document["_id"]}))


def test_documents_come_back_as_they_were() -> None:
    documents = [{"_id": i, "a": ["x" * i, None, 1.5], "b": {"z": 1, "a": 2}} for i in range(50)]
    with Sample(MIB) as sample:
        assert all(add(sample, document) for document in documents)
        assert list(sample.raws()) == [bson.encode(document) for document in documents]
        assert sample.decoded(1_000) == documents
        assert sample.bytes == sum(len(bson.encode(document)) for document in documents)


def test_a_document_is_taken_once() -> None:
    """Source: MongoDB manual, $sample: it may return a document more than once."""
    with Sample(MIB) as sample:
        assert add(sample, {"_id": 1, "a": 1})
        assert not add(sample, {"_id": 1, "a": 2})
        assert add(sample, {"_id": True})
        assert sample.documents == 2


def test_what_is_large_goes_into_a_file_and_can_be_added_to() -> None:
    with Sample(100 * MIB) as sample:
        for i in range(12):
            add(sample, {"_id": i, "pad": "x" * MIB})
            assert len(list(sample.raws())) == i + 1


def test_there_is_an_end_to_what_it_takes() -> None:
    with Sample(1_000) as sample:
        taken = [add(sample, {"_id": i, "pad": "x" * 300}) for i in range(5)]
        assert taken == [True, True, True, False, False]
        assert sample.is_full


def test_one_document_is_taken_whatever_its_size() -> None:
    with Sample(10) as sample:
        assert add(sample, {"_id": 1, "pad": "x" * 300})


@pytest.mark.parametrize("at_most", [1, 7, 100, 1_000])
def test_some_of_them_are_from_all_over(at_most: int) -> None:
    with Sample(MIB) as sample:
        for i in range(100):
            add(sample, {"_id": i})
        ids = [document["_id"] for document in sample.decoded(at_most)]
    assert 1 <= len(ids) <= at_most
    assert at_most == 1 or max(ids) >= 80
