"""Which existing index may replace which, and which no server has used for long.

The table of what may replace what, with the page of the manual for each line, is in docs/advisor.md
("What may replace what"); each line has a test. In doubt an index stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .collations import same_collation
from .index_documents import default_name, keys_text, name_of_index
from .multikey import Arrays
from .records import Candidate, CollectionInfo, ExistingIndex, IndexSpec, Keys, Removal, Rules

__all__ = ["hints_of", "is_same_index", "removals", "why_not_replaced"]

DAY_S = 86_400.0


def why_not_replaced(
    index: IndexSpec, by: IndexSpec, arrays: Arrays, shard_key: Keys | None = None
) -> str | None:
    """Why an index may not be given up for another one; None: it may.

    Args:
        index: the one to give up.
        by: the one that stays, or is to be created.
        arrays: which paths are arrays.
        shard_key: of the collection, if known.
    """
    refusals = (
        (_is_id_index(index), "every collection needs its index on _id"),
        (index.clustered, "it is the collection itself"),
        (index.unique, "it enforces uniqueness"),
        (bool(index.other.get("prepareUnique")), "it is being made unique"),
        (index.expire_after_s is not None, "it expires documents (TTL)"),
        (not _is_plain(index), "it is of a special type"),
        (not _is_plain(by), "the other one is of a special type"),
        (by.hidden and not index.hidden, "the other one is hidden"),
        (index.sparse != by.sparse, "one of the two is sparse"),
        (not _same_partial(index, by), "their partial filters differ"),
        (not same_collation(index.collation, by.collation), "their collations differ"),
        (_other(index) != _other(by), "their options differ"),
        (_serves_shard_key(index, shard_key), "the shard key needs an index"),
        (not _is_prefix(index.keys, by.keys), "its keys are no prefix of the other's"),
    )
    for refused, reason in refusals:
        if refused:
            return reason
    if len(by.keys) > len(index.keys):
        if index.sparse:
            return "a sparse index of more keys holds other documents"
        extra = [path for path, _ in by.keys[len(index.keys) :]]
        own = [path for path, _ in index.keys]
        if not arrays.known:
            return "it is not known whether the other one is multikey"
        if not arrays.none(extra) and arrays.none(own):
            return "the other one has a key for every element of an array"
    return None


def removals(
    info: CollectionInfo,
    chosen: Sequence[Candidate],
    arrays: Arrays,
    used: frozenset[IndexSpec],
    hinted: frozenset[str],
    is_harmless: Callable[[Sequence[IndexSpec]], bool],
    rules: Rules,
    now_s: float,
) -> list[Removal]:
    """Existing indexes of a collection that could go.

    Args:
        info: its facts.
        chosen: indexes that are proposed for it.
        used: existing indexes that the workload uses once the chosen ones are there.
        hinted: names and key patterns that the workload gives as hints.
        is_harmless: whether the workload would be served as well without some of them.
        now_s: wall clock.

    Source: MongoDB manual, "Remove Unnecessary Indexes", "Hidden Indexes", $indexStats.
    """
    if info.sharded and info.shard_key is None:
        return []  # any of them may be the one that the shard key needs
    found: list[Removal] = []
    gone: set[str] = set()
    removed: list[IndexSpec] = []
    wanted = {candidate.unhides for candidate in chosen} - {None}
    candidates = [
        index
        for index in info.indexes
        if not _is_kept(index, hinted, info.shard_key) and index.spec.name not in wanted
    ]
    for index in sorted(candidates, key=_least_wanted_first):
        removal = _replaced(index, info, chosen, arrays, gone)
        if removal is None and index.spec not in used:
            removal = _unused(index, info, rules, now_s)
        if removal is not None and is_harmless([*removed, index.spec]):
            gone.add(name_of_index(index.spec))
            removed.append(index.spec)
            found.append(removal)
    return found


def _replaced(
    index: ExistingIndex,
    info: CollectionInfo,
    chosen: Sequence[Candidate],
    arrays: Arrays,
    gone: set[str],
) -> Removal | None:
    spec = index.spec
    if spec.hidden:
        return None
    for other in info.indexes:
        by = other.spec
        if by is spec or other.building or name_of_index(by) in gone:
            continue
        if why_not_replaced(spec, by, arrays, info.shard_key) is None:
            same = len(by.keys) == len(spec.keys)
            reason = (
                f"{name_of_index(by)} has the same keys"
                if same
                else f"{name_of_index(by)} begins with the same keys"
            )
            return _removal(index, "duplicate" if same else "prefix", reason, by=by)
    for candidate in chosen:
        if why_not_replaced(spec, candidate.spec, arrays, info.shard_key) is None:
            reason = f"the new index {keys_text(candidate.spec.keys)} begins with its keys"
            return _removal(index, "replaced", reason, by=candidate.spec, candidate=candidate.id)
    return None


def _unused(
    index: ExistingIndex, info: CollectionInfo, rules: Rules, now_s: float
) -> Removal | None:
    """Unused on every member for long enough, or hidden for long enough.

    Hiding an index begins its counts anew, so that a hidden one's `since` is when it was hidden or
    its server started. Source: MongoDB manual, "Hidden Indexes", db.collection.hideIndex().
    """
    if not index.accesses or len(index.accesses) < info.members:
        return None
    if any(access.operations for access in index.accesses):
        return None
    since_s = max(access.since_s for access in index.accesses)
    days = (now_s - since_s) / DAY_S
    if index.spec.hidden:
        if days < rules.hidden_days:
            return None
        reason = f"hidden for {days:.0f} days, and nobody missed it"
        return _removal(index, "hidden", reason, since_s=since_s)
    if days < rules.unused_days:
        return None
    members = len(index.accesses)
    where = "the server" if members == 1 else f"any of {members} members"
    reason = f"not used for {days:.0f} days on {where}"
    return _removal(index, "unused", reason, since_s=since_s)


def _removal(
    index: ExistingIndex,
    kind: str,
    reason: str,
    by: IndexSpec | None = None,
    candidate: str | None = None,
    since_s: float | None = None,
) -> Removal:
    return Removal(
        id=f"{kind}:{index.spec.namespace}:{name_of_index(index.spec)}",
        index=index,
        kind=kind,  # type: ignore[arg-type]
        by=by,
        candidate=candidate,
        since_s=since_s,
        reason=reason,
    )


def _is_kept(index: ExistingIndex, hinted: frozenset[str], shard_key: Keys | None) -> bool:
    """Whether it stays whatever the counts say."""
    spec = index.spec
    return (
        _is_id_index(spec)
        or spec.clustered
        or spec.unique
        or bool(spec.other.get("prepareUnique"))
        or spec.expire_after_s is not None
        or index.building
        or _serves_shard_key(spec, shard_key)
        or name_of_index(spec) in hinted
        or default_name(spec.keys) in hinted
    )


def is_same_index(spec: IndexSpec, there: IndexSpec) -> bool:
    """Whether a proposed index is there already; one that is unique or hidden as well.

    Source: MongoDB manual, createIndexes: keys, sparse, partialFilterExpression and collation tell
    indexes apart.
    """
    return (
        spec.keys == there.keys
        and spec.sparse == there.sparse
        and _same_partial(spec, there)
        and same_collation(spec.collation, there.collation)
    )


def _is_id_index(spec: IndexSpec) -> bool:
    return len(spec.keys) == 1 and spec.keys[0][0] == "_id" and spec.keys[0][1] != "hashed"


def _least_wanted_first(index: ExistingIndex) -> tuple[int, int, str]:
    operations = sum(access.operations for access in index.accesses)
    return (len(index.spec.keys), operations, name_of_index(index.spec))


def _is_plain(spec: IndexSpec) -> bool:
    return spec.wildcard_projection is None and all(
        isinstance(direction, int) and not path.endswith("$**") for path, direction in spec.keys
    )


def _other(spec: IndexSpec) -> dict[str, object]:
    return {name: value for name, value in spec.other.items() if name != "prepareUnique"}


def _same_partial(one: IndexSpec, other: IndexSpec) -> bool:
    return one.partial_filter == other.partial_filter and repr(one.partial_filter) == repr(
        other.partial_filter
    )


def _is_reversed(one: Keys, other: Keys) -> bool:
    """Whether the second has the same paths, each in the other direction."""
    return [p for p, _ in one] == [p for p, _ in other] and all(
        isinstance(a, int) and isinstance(b, int) and a == -b
        for (_, a), (_, b) in zip(one, other, strict=True)
    )


def _is_prefix(keys: Keys, longer: Keys) -> bool:
    """The same paths in the same order, all directions equal or all turned round.

    Source: MongoDB manual, "Compound Indexes", "Index Prefixes" and "Sort Order".
    """
    head = longer[: len(keys)]
    return len(longer) >= len(keys) and (keys == head or _is_reversed(keys, head))


def _serves_shard_key(index: IndexSpec, shard_key: Keys | None) -> bool:
    return bool(shard_key) and index.keys[: len(shard_key or ())] == shard_key


def hints_of(hints: Iterable[object]) -> frozenset[str]:
    """Names of hinted indexes; of a key pattern the default name of such an index."""
    found = set()
    for hint in hints:
        if isinstance(hint, str):
            found.add(hint)
        elif isinstance(hint, tuple):
            found.add(default_name(hint))
    return frozenset(found)
