"""listCollections, listIndexes, $collStats and $indexStats -> facts of a collection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from .index_documents import index_from_document
from .records import CollectionInfo, ExistingIndex, IndexSpec, Keys, MemberAccesses

__all__ = ["collection_info"]


def collection_info(
    namespace: str,
    listed: Mapping[str, Any],
    indexes: Iterable[Mapping[str, Any]],
    stats: Sequence[Mapping[str, Any]] = (),
    index_stats: Mapping[str, Iterable[Mapping[str, Any]]] | None = None,
    members: int = 1,
    shard_key: Keys | None = None,
) -> CollectionInfo:
    """The facts of one collection.

    Args:
        namespace: "database.collection".
        listed: its document of listCollections.
        indexes: documents of listIndexes.
        stats: documents of `$collStats` with `storageStats`, one for each shard; or of the command
            collStats.
        index_stats: documents of `$indexStats` by the member that was asked.
        members: members that have data and should have answered.
        shard_key: if known. Documents of `$collStats` from a cluster name their shard.

    Sources: MongoDB manual, listCollections; listIndexes; $collStats, "storageStats Document";
        $indexStats; collStats.
    """
    options = dict(listed.get("options") or {})
    kind = str(listed.get("type") or "collection")
    storages = [_storage(document) for document in stats]
    existing = [index_from_document(namespace, document) for document in indexes]
    if "clusteredIndex" in options and not any(e.spec.clustered for e in existing):
        existing.insert(0, _clustered(namespace, options["clusteredIndex"]))
    sizes: dict[str, int] = {}
    for storage in storages:
        for name, size in (storage.get("indexSizes") or {}).items():
            sizes[name] = sizes.get(name, 0) + int(_number(size))
    accesses = _accesses(index_stats or {})
    building = {
        name for name, found in accesses.items() if any(stat.get("building") for _, stat in found)
    }
    count = _total(storages, "count")
    size = _total(storages, "size")
    return CollectionInfo(
        namespace=namespace,
        kind=kind,
        options=options,
        count=count,
        size_bytes=size,
        average_document_bytes=size / count if count and size is not None else None,
        indexes=tuple(
            replace(
                index,
                size_bytes=sizes.get(index.spec.name or ""),
                accesses=tuple(
                    access
                    for member, stat in accesses.get(index.spec.name or "", ())
                    if (access := _member_accesses(member, stat)) is not None
                ),
                building=index.building or (index.spec.name or "") in building,
            )
            for index in existing
        ),
        members=members,
        sharded=shard_key is not None or any("shard" in document for document in stats),
        shard_key=shard_key,
    )


def _storage(document: Mapping[str, Any]) -> Mapping[str, Any]:
    inner: Mapping[str, Any] = document.get("storageStats", document)
    return inner


def _clustered(namespace: str, option: Any) -> ExistingIndex:
    name = option.get("name") if isinstance(option, Mapping) else None
    return ExistingIndex(
        IndexSpec(namespace, (("_id", 1),), name or "_id_", unique=True, clustered=True)
    )


def _accesses(
    by_member: Mapping[str, Iterable[Mapping[str, Any]]],
) -> dict[str, list[tuple[str, Mapping[str, Any]]]]:
    found: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for member, documents in by_member.items():
        for document in documents:
            found.setdefault(str(document.get("name")), []).append((member, document))
    return found


def _member_accesses(member: str, stat: Mapping[str, Any]) -> MemberAccesses | None:
    accesses = stat.get("accesses")
    if not isinstance(accesses, Mapping) or not isinstance(accesses.get("since"), datetime):
        return None
    since = accesses["since"]
    aware = since if since.tzinfo is not None else since.replace(tzinfo=timezone.utc)
    return MemberAccesses(member, int(_number(accesses.get("ops"))), aware.timestamp())


def _total(storages: Iterable[Mapping[str, Any]], name: str) -> int | None:
    values = [storage[name] for storage in storages if name in storage]
    return sum(int(_number(value)) for value in values) if values else None


def _number(value: Any) -> float:
    try:
        return float(str(value))
    except ValueError:
        return 0.0
