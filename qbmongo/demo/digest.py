"""A fingerprint of what a call gave: equal for two arms exactly if they gave the same.

The values are compared as BSON; what BSON does not tell apart (a dict from a SON, an int from an
Int64) as the sequence of the Python types.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import bson
from pymongo.errors import PyMongoError
from pymongo.results import InsertOneResult, UpdateResult

# They tell when and where a command ran, not what it did.
_OF_THE_MOMENT = frozenset(("$clusterTime", "operationTime", "opTime", "electionId"))


def fingerprint(answer: Any, database: str) -> bytes:
    """The fingerprint of an answer.

    Args:
        answer: what the call returned, or the exception it raised.
        database: name of the arm's database; it stands in messages, where it says nothing.

    Returns:
        16 bytes.
    """
    if isinstance(answer, BaseException):
        value: Any = _error(answer, database)
    elif isinstance(answer, UpdateResult):
        value = {
            "acknowledged": answer.acknowledged,
            "matched_count": answer.matched_count,
            "modified_count": answer.modified_count,
            "upserted_id": answer.upserted_id,
        }
    elif isinstance(answer, InsertOneResult):
        value = {"acknowledged": answer.acknowledged, "inserted_id": answer.inserted_id}
    else:
        value = answer
    types: list[str] = [_name(type(answer))]
    _collect_types(value, types)
    state = blake2b(bson.encode({"": value}), digest_size=16)
    state.update("\n".join(types).encode())
    return state.digest()


def _error(error: BaseException, database: str) -> dict[str, Any]:
    if not isinstance(error, PyMongoError):
        return {"message": str(error).replace(database, "DATABASE")}
    details = getattr(error, "details", None)
    return {
        "code": getattr(error, "code", None),
        "labels": sorted(getattr(error, "_error_labels", ())),
        "details": _cleaned(details, database),
    }


def _cleaned(value: Any, database: str) -> Any:
    if isinstance(value, str):
        return value.replace(database, "DATABASE")
    if isinstance(value, Mapping):
        return {
            name: _cleaned(item, database)
            for name, item in value.items()
            if name not in _OF_THE_MOMENT
        }
    if isinstance(value, list):
        return [_cleaned(item, database) for item in value]
    return value


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _collect_types(value: Any, types: list[str]) -> None:
    kind = type(value)
    types.append(kind.__qualname__)
    if isinstance(value, Mapping):
        for item in value.values():
            _collect_types(item, types)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect_types(item, types)
