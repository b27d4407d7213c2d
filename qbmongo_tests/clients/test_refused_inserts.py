"""An insert whose arguments the driver refuses leaves the caller's document as it was."""

from __future__ import annotations

from typing import Any

import pytest

from qbmongo import OptimizedMongoClient


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {"unknown": None}), ((None, None, None, None), {}), ((None,), {"document": {}})],
)
def test_a_refused_insert_adds_no_id(
    server_uri: str, database_name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    document = {"a": 0}
    with OptimizedMongoClient(server_uri) as client:
        collection = client[database_name].c
        collection.find_one({"_id": 0})
        with pytest.raises(TypeError):
            collection.insert_one(document, *args, **kwargs)
        assert document == {"a": 0}
        collection.insert_one(document)
        assert "_id" in document
