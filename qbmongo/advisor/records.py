"""What travels inside the advisor: indexes, collections, statistics, workload, candidates, trials.

Records are frozen. Mappings in them are never changed after the record was built. `advisor.report`
holds what comes out at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "Candidate",
    "CollectionInfo",
    "CollectionStatistics",
    "Direction",
    "ExistingIndex",
    "FieldStatistics",
    "IndexSpec",
    "Keys",
    "MemberAccesses",
    "PlanFigures",
    "Proposal",
    "Removal",
    "Rules",
    "ShapeTrial",
    "Trial",
    "Verification",
    "WorkloadShape",
]

#: 1, -1, or the kind of a special index: "hashed", "text", "2dsphere", "2d".
Direction = int | str
Keys = tuple[tuple[str, Direction], ...]


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """One index, there or proposed, with all its options.

    namespace: "database.collection". keys: in order; of a text index as listIndexes shows them
    (`_fts`, `_ftsx`), with the fields in `weights`. name: None where the server may choose it.
    collation: as listIndexes shows it, None for simple comparison. clustered: the index is the
    clustered collection's own. other: every further option, by the server's own names.
    """

    namespace: str
    keys: Keys
    name: str | None = None
    unique: bool = False
    sparse: bool = False
    partial_filter: Mapping[str, Any] | None = field(default=None, hash=False)
    collation: Mapping[str, Any] | None = field(default=None, hash=False)
    expire_after_s: float | None = None
    hidden: bool = False
    wildcard_projection: Mapping[str, Any] | None = field(default=None, hash=False)
    weights: Mapping[str, Any] | None = field(default=None, hash=False)
    clustered: bool = False
    other: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class MemberAccesses:
    """What `$indexStats` of one member says. member: "host:port". since_s: wall clock."""

    member: str
    operations: int
    since_s: float


@dataclass(frozen=True, slots=True)
class ExistingIndex:
    """An index that a collection has.

    accesses: one for each member that could be read; empty: unknown. size_bytes: None: unknown.
    multikey_paths: paths of its keys known to go through arrays; None: unknown.
    """

    spec: IndexSpec
    size_bytes: int | None = None
    accesses: tuple[MemberAccesses, ...] = ()
    building: bool = False
    multikey_paths: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A collection as the server shows it.

    kind: "collection", "view" or "timeseries". options: of listCollections (capped, collation,
    clusteredIndex, timeseries, validator, ...). count, size_bytes: None: unknown. members: members
    of the replica set or shards that should have answered `$indexStats`; an index is called unused
    only if as many did. sharded: its documents are on shards. shard_key: None: not known.
    """

    namespace: str
    kind: str = "collection"
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    count: int | None = None
    size_bytes: int | None = None
    average_document_bytes: float | None = None
    indexes: tuple[ExistingIndex, ...] = ()
    members: int = 1
    sharded: bool = False
    shard_key: Keys | None = None


@dataclass(frozen=True, slots=True)
class FieldStatistics:
    """What a sample says of one dotted path (numeric parts removed).

    present: share of documents with the path, 0 to 1. null: share of documents where it is null.
    array: share of documents where the path goes through or ends in an array. elements: mean number
    of index keys of a document that has it (1 without arrays). distinct: estimated number of
    distinct values in the collection. types: share of documents by type class (docs/profile.md).
    common: the most common scalar values with their share of documents, most common first.
    ascending: up to 100 values at equal ranks, for ranges; empty where types are mixed.
    """

    path: str
    present: float = 1.0
    null: float = 0.0
    array: float = 0.0
    elements: float = 1.0
    distinct: float = 1.0
    types: Mapping[str, float] = field(default_factory=dict, hash=False)
    common: tuple[tuple[Any, float], ...] = field(default=(), hash=False)
    ascending: tuple[Any, ...] = field(default=(), hash=False)


@dataclass(frozen=True, slots=True)
class CollectionStatistics:
    """What a sample says of a collection.

    sampled: documents in the sample. array_paths: every path at which some document had an array,
    also those in front of a field ("items" for "items.price").
    """

    namespace: str
    sampled: int
    fields: Mapping[str, FieldStatistics] = field(default_factory=dict, hash=False)
    array_paths: frozenset[str] = frozenset()
    average_document_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class WorkloadShape:
    """One query shape with what is known of it, from all sources together.

    id, shape, text: as in docs/profile.md. Seconds and counts are totals over `calls`; documents
    are those returned by reads or changed by writes.
    examined_calls: those calls of which a log or the server's profiler told what was examined;
    keys_examined, documents_examined, sorted_in_memory, examined_returned are totals over these.
    commands: some whole commands with their values, oldest first, where a source had them; each
    names its collection ({"find": "orders", "filter": ...}).
    filters: some filters (pipelines as lists) with values, from slow samples.
    limits, skips: values seen. bins: (bin, count) of the latency histogram, in docs/profile.md's
    scale. places: (file:line, sampled). sources: "profile", "system.profile", "log".
    repeats: (file:line, sampled runs): places from which one task asked again and again.
    """

    id: str
    shape: Mapping[str, Any] = field(hash=False)
    text: str
    calls: int
    errors: int = 0
    total_s: float = 0.0
    max_s: float = 0.0
    p50_s: float = 0.0
    p95_s: float = 0.0
    p99_s: float = 0.0
    bins: tuple[tuple[int, int], ...] = ()
    documents: int = 0
    bytes: int = 0
    getmores: int = 0
    slow_calls: int = 0
    examined_calls: int = 0
    keys_examined: int = 0
    documents_examined: int = 0
    examined_returned: int = 0
    sorted_in_memory: int = 0
    plan_summaries: tuple[str, ...] = ()
    commands: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    filters: tuple[Any, ...] = field(default=(), hash=False)
    limits: tuple[int, ...] = ()
    skips: tuple[int, ...] = ()
    places: tuple[tuple[str, int], ...] = ()
    first_seen_s: float = 0.0
    last_seen_s: float = 0.0
    sources: tuple[str, ...] = ()
    repeats: tuple[tuple[str, int], ...] = ()

    @property
    def namespace(self) -> str:
        return str(self.shape["namespace"])

    @property
    def operation(self) -> str:
        return str(self.shape["operation"])


@dataclass(frozen=True, slots=True)
class Candidate:
    """An index that may help.

    id: the same for the same index in every run. shapes: ids of the shapes it is meant for.
    rules: names of the rules that led to it (docs/advisor.md). reason: one sentence. gain_s: time
    the cost model says it saves over the workload; write_s: time it costs the workload's writes.
    replaces: names of existing indexes that it makes unnecessary. unhides: name of the hidden index
    that it is: nothing has to be built.
    """

    id: str
    spec: IndexSpec
    shapes: tuple[str, ...]
    rules: tuple[str, ...] = ()
    reason: str = ""
    gain_s: float = 0.0
    write_s: float = 0.0
    replaces: tuple[str, ...] = ()
    unhides: str | None = None


RemovalKind = Literal["duplicate", "prefix", "replaced", "unused", "hidden"]


@dataclass(frozen=True, slots=True)
class Removal:
    """An existing index that could go.

    kind: "duplicate" and "prefix": `by` does all that it does; "replaced": the same, but `by` is a
    proposed index (`candidate`); "unused": no member has used it since `since_s`; "hidden": it has
    been hidden since `since_s`. shapes: ids of shapes that use it by the cost model.
    """

    id: str
    index: ExistingIndex
    kind: RemovalKind
    by: IndexSpec | None = None
    candidate: str | None = None
    since_s: float | None = None
    reason: str = ""
    shapes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is to be verified.

    chosen: the set for the whole workload, most gain first. alternatives: further candidates worth
    trying where a chosen one fails, best first; each names no shape that `chosen` serves well
    by itself. removals: existing indexes that could go.
    """

    chosen: tuple[Candidate, ...] = ()
    alternatives: tuple[Candidate, ...] = ()
    removals: tuple[Removal, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanFigures:
    """Execution of one shape with all its value sets, totals.

    stages: the winning plan's chain, outermost first (of the first value set). indexes: names of
    the indexes it used. value_sets: how many were run. time_ms: executionTimeMillis, for showing
    only. trusted: the explain's own `nReturned` was the real count.
    """

    stages: tuple[str, ...]
    indexes: tuple[str, ...]
    keys_examined: int
    documents_examined: int
    returned: int
    sorted_in_memory: bool
    time_ms: float = 0.0
    value_sets: int = 1
    trusted: bool = True


@dataclass(frozen=True, slots=True)
class ShapeTrial:
    """One shape before and after a change. used: the plan after it used the changed index."""

    shape: str
    before: PlanFigures
    after: PlanFigures
    used: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """A change tried on a sample. change: id of the Candidate or Removal.

    shapes: every shape of the collection that was run, also those that got worse.
    insert_us_before, insert_us_after: microseconds per inserted document. index_bytes_per_document:
    size of the new index divided by the documents of the sample. documents: of the sample.
    error: the server refused to build it, with its message; then the rest is empty.
    """

    change: str
    shapes: tuple[ShapeTrial, ...] = ()
    insert_us_before: float | None = None
    insert_us_after: float | None = None
    index_bytes_per_document: float | None = None
    documents: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """What was tried. where: "mongod 8.2 started on this machine", ...; None: nothing could be.

    trials by id of candidate or removal; what has none was not tried. why_not: why nothing was
    tried, and how to have it tried.
    """

    where: str | None = None
    trials: Mapping[str, Trial] = field(default_factory=dict, hash=False)
    why_not: str | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """Thresholds of the advice.

    min_gain: share of documents plus keys examined that an index must save. min_examined: documents
    plus keys that a call must examine before an index is thought of. min_saved_share: share of its
    collection's time that an index must save.
    max_indexes: indexes of a collection beyond which none is proposed. unused_days: age that
    `$indexStats` must have; hidden_days: likewise for hidden ones. merge_sort_values: `$in` values
    up to which an index may still give the order. partial_share: share of documents from which
    a constant equality is no longer selective. covered_fields: projected fields up to which
    a covering index is considered. large_skip, unbounded_documents, large_document_bytes, slow_s:
    limits of the findings. high_share, medium_share: share of the workload's time from which
    something is severe.
    """

    min_gain: float = 0.2
    min_examined: float = 100.0
    min_saved_share: float = 0.005
    max_indexes: int = 32
    unused_days: float = 14.0
    hidden_days: float = 14.0
    merge_sort_values: int = 200
    partial_share: float = 0.1
    covered_fields: int = 3
    large_skip: int = 1_000
    unbounded_documents: int = 1_000
    large_document_bytes: float = 16_384.0
    slow_s: float = 0.1
    high_share: float = 0.1
    medium_share: float = 0.02
