"""What travels between the clients, the engine and its parts.

Records are slotted and built at most once per call. Nothing here does IO or reads a clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

ReadKind = Literal[
    "find", "find_one", "count_documents", "estimated_document_count", "distinct", "aggregate"
]
WriteKind = Literal[
    "insert_one",
    "insert_many",
    "update_one",
    "update_many",
    "replace_one",
    "delete_one",
    "delete_many",
    "find_one_and_update",
    "find_one_and_replace",
    "find_one_and_delete",
    "bulk_write",
]


class ReadOp:
    """One read as the program asked for it.

    namespace is "database.collection". sort is a mapping of path to direction (as the driver
    normalised it), pipeline and key belong to aggregate and distinct. options holds everything
    else the command depends on, under the names of the command's own fields (collation, hint, let,
    maxTimeMS, comment, min, max, returnKey, showRecordId, allowDiskUse, ...), or is None.
    """

    __slots__ = (
        "filter",
        "key",
        "kind",
        "limit",
        "namespace",
        "options",
        "pipeline",
        "projection",
        "skip",
        "sort",
    )

    def __init__(
        self,
        kind: ReadKind,
        namespace: str,
        filter: Mapping[str, Any],
        projection: Mapping[str, Any] | None = None,
        sort: Mapping[str, Any] | None = None,
        skip: int = 0,
        limit: int = 0,
        options: Mapping[str, Any] | None = None,
        pipeline: Sequence[Mapping[str, Any]] | None = None,
        key: str | None = None,
    ) -> None:
        self.kind = kind
        self.namespace = namespace
        self.filter = filter
        self.projection = projection
        self.sort = sort
        self.skip = skip
        self.limit = limit
        self.options = options
        self.pipeline = pipeline
        self.key = key


class WriteOp:
    """One write as the program asked for it.

    document is the inserted document, the replacement or the update (a mapping of operators, or a
    list: a pipeline); for insert_many and bulk_write it is the list of documents or requests.
    """

    __slots__ = ("document", "filter", "kind", "namespace", "options", "sort")

    def __init__(
        self,
        kind: WriteKind,
        namespace: str,
        filter: Mapping[str, Any] | None = None,
        document: Any = None,
        sort: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind = kind
        self.namespace = namespace
        self.filter = filter
        self.document = document
        self.sort = sort
        self.options = options


EffectKind = Literal["insert", "update", "delete", "namespace", "database", "everything"]


@dataclass(frozen=True, slots=True)
class Effect:
    """What a write may have changed. None always means "any".

    namespace: "database.collection"; for kind "database" the database's name; for "everything" "".
    ids: canonical values (core.values.canonical) of the `_id`s touched.
    paths: dotted paths touched by an update, numeric components removed.
    documents: for inserts, the new documents; None when they are not known for certain.
    kind "namespace": anything in that namespace, its facts (type, collation, indexes) included.
    """

    kind: EffectKind
    namespace: str
    ids: frozenset[Any] | None = None
    paths: frozenset[str] | None = None
    documents: tuple[Mapping[str, Any], ...] | None = None


EVERYTHING = Effect("everything", "")


@dataclass(slots=True)
class Footprint:
    """What a read's answer depends on. None always means "any".

    namespace: the collection read; foreign: further namespaces an aggregation reads.
    filter: the filter as sent (a pipeline's leading $match), None where it cannot be matched here.
    filter_paths, sort_paths, projected_paths: dotted paths, numeric components removed;
        projected_paths None means the whole document.
    ids: canonical `_id`s of every document the answer was computed from; known after the reply.
    bound_ids: canonical `_id`s the filter confines the read to, whatever the data is.
    window: the answer skips documents, so that those before it matter.
    equality: (path, canonical value) of one scalar equality every matching document must meet, used
        only to find candidates quickly; None where there is none.
    simple: the read compares strings by simple binary comparison (no collation).
    """

    namespace: str
    filter: Mapping[str, Any] | None
    filter_paths: frozenset[str] | None
    sort_paths: frozenset[str] | None
    projected_paths: frozenset[str] | None
    foreign: frozenset[str] = frozenset()
    ids: frozenset[Any] | None = None
    bound_ids: frozenset[Any] | None = None
    window: bool = False
    equality: tuple[str, Any] | None = None
    simple: bool = True
