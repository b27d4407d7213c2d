"""What travels between the clients, the engine and its parts.

Records are slotted and built at most once per call. Nothing here does IO or reads a clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

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


@dataclass(slots=True, unsafe_hash=True)
class Effect:
    """What a write may have changed. None always means "any". Never changed once it is made.

    (Not frozen: that makes it three times as dear, and each write makes one.)

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


class Gathered:
    """One operation that gathers with others, and then travels in a batch.

    size: its bytes. waiter: whom the client tells the outcome. batch: in which it was dispatched,
    None while it gathers. left: its caller took it out.
    """

    __slots__ = ("batch", "gathered_s", "left", "size", "waiter")

    batch: Batch | None
    gathered_s: float
    left: bool
    size: int
    waiter: Any


class JoinedWrite(Gathered):
    """A write of one document that travels in a batch: private, whatever its caller does later.

    One object from the call to its answer, as every further one costs each of many callers.
    filter, document, array_filters: what is sent; document is the inserted document, the update or
    the replacement. identity: the `_id` of what is inserted. started_s: when it was called. stats:
    of the operation's shape, or None where nobody keeps statistics; is_recorded: whether the call
    is in them. scope, collection, lane: for the client; the collection is the driver's own.
    """

    __slots__ = (
        "array_filters",
        "collection",
        "document",
        "filter",
        "identity",
        "is_recorded",
        "kind",
        "lane",
        "scope",
        "started_s",
        "stats",
        "upsert",
    )

    # Set where it gathers.
    collection: Any
    lane: Any
    scope: Any
    started_s: float

    def __init__(
        self,
        kind: WriteKind,
        filter: Any = None,
        document: Any = None,
        upsert: bool = False,
        array_filters: Any = None,
    ) -> None:
        self.kind = kind
        self.filter = filter
        self.document = document
        self.upsert = upsert
        self.array_filters = array_filters
        self.identity: Any = None
        self.stats: Any = None
        self.is_recorded = False
        self.batch = None
        self.left = False


class Sending:
    """A place on the wire: of a lone call, or of a batch. waiting: told when it has landed."""

    __slots__ = ("started_s", "waiting")

    def __init__(self, started_s: float) -> None:
        self.started_s = started_s
        self.waiting: Any = None


class Batch:
    """Operations that travel in one command. slots: in the order in which they came; of writes,
    each is a JoinedWrite."""

    __slots__ = ("sending", "size", "slots")

    def __init__(self, slots: list[Any], size: int, sending: Sending) -> None:
        self.slots = slots
        self.size = size
        self.sending = sending


@dataclass(frozen=True, slots=True)
class BatchReply:
    """What became of a batch's command, as plain data.

    results: by the operation's place, the server's result of each that succeeded; None where the
        command tells only of failures, so that what it does not mention succeeded. errors: by
        place, the server's error of each that failed. concern: the write concern error, with its
        labels, or None.
    failure: why the command as a whole has no full answer: "network" (the connection, or no
        server), "command" (the server's error, `code`), "other" (it could not be made, or its
        answer not be read), or None.
    sent: how often the command was started on the wire; the driver may have sent it twice.
    """

    results: Mapping[int, Mapping[str, Any]] | None
    errors: Mapping[int, Mapping[str, Any]]
    concern: Mapping[str, Any] | None = None
    failure: Literal["network", "command", "other"] | None = None
    code: int | None = None
    sent: int = 1


VerdictKind = Literal["done", "failed", "concern", "alone", "unknown"]


class Verdict(NamedTuple):
    """What one caller of a batch is to be given.

    done: document is what the single command's reply says (less the server's metadata).
    failed: document is the single command's write error. concern: its write concern error.
    alone: surely not applied; to be sent as its plain call.
    unknown: nobody knows whether it was applied; the error of the whole command, a copy of its own.
    """

    kind: VerdictKind
    document: Mapping[str, Any] | None = None
