"""The what-if cost model: what an access would examine with a given set of indexes.

It knows the planner's rules (which index may be used, which bounds it gives, when it gives the
order) and estimates the rest from statistics. Its figures choose what to try; what is recommended
is decided by trying (`advisor.judgement`).

Sources: MongoDB manual, "Query Optimization", "Multikey Index Bounds", "Sort with Indexes",
"Sparse Indexes", "Partial Indexes", "Collation", "Wildcard Indexes", "Hidden Indexes".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .accesses import Access
from .collations import collation_fits
from .conjunctions import Bound, Conjunction
from .multikey import Arrays
from .records import CollectionInfo, CollectionStatistics, IndexSpec, PlanFigures
from .selectivity import Selectivity
from .usability import is_hinted, is_usable, wildcard_holds

__all__ = ["PER_CALL_US", "CostModel", "Estimate", "plan_us"]

# Microseconds on one core with the data in memory. Only their ratios matter for the choice.
PER_CALL_US = 150.0
PER_SCANNED_US = 1.0  # a document of a collection scan
PER_FETCHED_US = 2.5  # a document fetched by an index key
PER_KEY_US = 0.6
PER_SEEK_US = 2.0
PER_COMPARISON_US = 0.15  # of a sort in memory
PER_INDEX_WRITE_US = 6.0  # one key of one index, inserted or removed
MERGED_SCANS = 200  # scans that a sort is merged from at most: internalQueryMaxScansToExplode


@dataclass(frozen=True, slots=True)
class Estimate:
    """One execution of an access. indexes: positions in the given set; () for a collection scan."""

    keys: float
    documents: float
    sorts: float  # documents sorted in memory
    us: float
    indexes: tuple[IndexSpec, ...] = ()

    @property
    def examined(self) -> float:
        return self.keys + self.documents


@dataclass(frozen=True, slots=True)
class _Scan:
    """What one index gives one conjunction, before any limit. Shares are of all documents."""

    spec: IndexSpec
    entries: float  # keys in its bounds
    fetched: float  # documents in all its bounds together
    seeks: int
    ordered: bool
    covered: bool


class CostModel:
    """The model of one collection.

    Args:
        info: its facts.
        statistics: of a sample; None: nothing is known of the values.
    """

    def __init__(self, info: CollectionInfo, statistics: CollectionStatistics | None) -> None:
        self.info = info
        self.count = float(max(1, info.count or 0 if info.count is not None else 10_000))
        self.arrays = Arrays(info, statistics)
        self.selectivity = Selectivity(statistics, self.count)
        self._cache: dict[tuple[int, IndexSpec], Estimate | None] = {}
        self._branch_cache: dict[tuple[int, IndexSpec], _Scan | None] = {}
        self._joined: dict[int, list[list[Conjunction]]] = {}
        self._kept: list[object] = []  # so that an id() in the cache stays that object's

    def estimate(self, access: Access, indexes: Sequence[IndexSpec]) -> Estimate:
        """The cheapest plan as the planner would have it: no collection scan if an index serves."""
        if access.hint is not None:
            indexes = [spec for spec in indexes if is_hinted(spec, access.hint)]
        plans = [plan for spec in indexes if (plan := self._single(access, spec)) is not None]
        plans.extend(self._branches(access, indexes))
        if plans:
            return min(plans, key=lambda plan: (plan.us, len(plan.indexes)))
        return self._collection_scan(access)

    def improved(self, access: Access, now: Estimate, added: Sequence[IndexSpec]) -> Estimate:
        """The estimate with further indexes, for an access without `$or`.

        now: with those that were there before.
        """
        plans = [plan for spec in added if (plan := self._single(access, spec)) is not None]
        if not plans or access.hint is not None:
            return now
        if now.indexes:
            plans.insert(0, now)
        return min(plans, key=lambda plan: (plan.us, len(plan.indexes)))

    def write_us(self, spec: IndexSpec, documents: float) -> float:
        """Time that one index adds to inserting so many documents."""
        elements = math.prod(
            max(1.0, self.selectivity.elements(path))
            for path in {self.arrays.root(path) or path for path, _ in spec.keys}
            if self.arrays.root(path) is not None
        )
        share = self.share(spec)
        return PER_INDEX_WRITE_US * documents * share * min(elements, 1_000.0)

    def share(self, spec: IndexSpec) -> float:
        """Share of the documents that the index has entries for."""
        if spec.partial_filter is not None:
            return self.selectivity.of_partial_filter(spec.partial_filter)
        if spec.sparse:
            return max(self.selectivity.present(path) for path, _ in spec.keys)
        return 1.0

    def _collection_scan(self, access: Access) -> Estimate:
        share = self.selectivity.of(access.where, access.shape)
        documents = self.count
        matched = self._matched(access, share)
        if not access.sorted and access.limit is not None and access.purpose != "distinct":
            wanted = access.limit + access.skip
            documents = min(documents, wanted / max(share, 1 / self.count))
        sorts = matched if access.sorted else 0.0
        us = documents * PER_SCANNED_US + _sort_us(sorts)
        return Estimate(0.0, documents, sorts, us)

    def _matched(self, access: Access, share: float) -> float:
        if access.returned is not None:
            return access.returned
        return share * self.count

    def _single(self, access: Access, spec: IndexSpec) -> Estimate | None:
        key = (id(access), spec)
        if key not in self._cache:
            self._kept.append(access)
            scan = self._scan(access, access.where, spec)
            self._cache[key] = None if scan is None else self._plan(access, scan)
        return self._cache[key]

    def _plan(self, access: Access, scan: _Scan) -> Estimate:
        keys, fetched = scan.entries * self.count, scan.fetched * self.count
        share = self.selectivity.of(access.where, access.shape)
        matched = max(self._matched(access, share), 0.0)
        fetched = max(fetched, min(matched, keys))
        sorts = 0.0
        if access.sorted and not scan.ordered:
            sorts = min(matched, fetched)
        elif access.limit is not None and access.purpose != "distinct":
            # It stops as soon as enough documents were found.
            wanted = float(access.limit + access.skip)
            part = min(1.0, wanted / max(min(matched, fetched), 1e-9))
            keys, fetched = keys * part, fetched * part
            keys += max(0, scan.seeks - 1) if access.sorted else 0
        if access.purpose == "distinct" and scan.covered and access.key is not None:
            keys = min(keys, self.selectivity.distinct(access.key) + 1)
        documents = 0.0 if scan.covered else fetched
        us = (
            keys * PER_KEY_US
            + documents * PER_FETCHED_US
            + scan.seeks * PER_SEEK_US
            + _sort_us(sorts)
        )
        return Estimate(keys, documents, sorts, us, (scan.spec,))

    def _branches(self, access: Access, indexes: Sequence[IndexSpec]) -> Iterable[Estimate]:
        """Plans that use an index for every branch of one `$or`.

        Source: MongoDB manual, $or, "$or Clauses and Indexes".
        """
        for branches in self._branches_of(access):
            plans: list[_Scan] = []
            for where in branches:
                scans = [s for spec in indexes if (s := self._branch(access, where, spec))]
                if not scans:
                    break
                plans.append(min(scans, key=lambda s: _scan_us(s, self.count, access)))
            else:
                if plans:
                    yield self._union(access, plans)

    def _branches_of(self, access: Access) -> list[list[Conjunction]]:
        """For each `$or` its branches, each with what stands around it."""
        found = self._joined.get(id(access))
        if found is None:
            self._kept.append(access)
            outer = Conjunction(access.where.bounds, (), True)
            found = [
                [outer.joined(branch) for branch in branches]
                for branches in access.where.alternatives
            ]
            self._joined[id(access)] = found
        return found

    def _branch(self, access: Access, where: Conjunction, spec: IndexSpec) -> _Scan | None:
        key = (id(where), spec)
        if key not in self._branch_cache:
            self._branch_cache[key] = self._scan(access, where, spec, True)
        return self._branch_cache[key]

    def _union(self, access: Access, scans: Sequence[_Scan]) -> Estimate:
        keys = sum(scan.entries for scan in scans) * self.count
        fetched = min(sum(scan.fetched for scan in scans), 1.0) * self.count
        share = self.selectivity.of(access.where, access.shape)
        matched = self._matched(access, share)
        ordered = all(scan.ordered for scan in scans)
        sorts = 0.0
        if access.sorted and not ordered:
            sorts = min(matched, fetched)
        elif access.limit is not None:
            wanted = float(access.limit + access.skip)
            part = min(1.0, wanted / max(min(matched, fetched), 1e-9))
            keys, fetched = keys * part, fetched * part
        seeks = sum(scan.seeks for scan in scans)
        us = keys * PER_KEY_US + fetched * PER_FETCHED_US + seeks * PER_SEEK_US + _sort_us(sorts)
        specs = tuple(dict.fromkeys(scan.spec for scan in scans))
        return Estimate(keys, fetched, sorts, us, specs)

    def _scan(
        self, access: Access, where: Conjunction, spec: IndexSpec, in_branch: bool = False
    ) -> _Scan | None:
        """What an index gives a conjunction; None where the planner could not use it."""
        if not is_usable(spec, where, access, self.selectivity.values(access.shape)):
            return None
        size = self.share(spec)
        entries = fetched = 1.0
        seeks = 1
        bounded = ranged = False
        applied: set[Bound] = set()
        chosen: dict[str, str | None] = {}  # array path -> the $elemMatch whose bounds it has
        for at, (path, direction) in enumerate(spec.keys):
            bound = self._usable_bound(where, path, access, spec, chosen)
            if bound is None:
                if direction == "hashed" or (at == 0 and not access.sort and access.key is None):
                    return None
                ranged = True
                continue
            if direction == "hashed" and bound.kind not in ("point", "null", "in"):
                return None
            share = self._bound_share(bound, access)
            applied.add(bound)
            bounded = bounded or at == 0
            fetched *= share
            if not ranged:
                entries *= self._entry_share(bound, share)
                if bound.kind == "in":
                    seeks *= max(1, bound.size)
                elif not bound.is_point:
                    ranged = True
        ordered, merged = self._order(access, where, spec)
        if not bounded and not self._serves_unbounded(access, spec, ordered):
            return None
        if in_branch and not bounded:
            return None
        elements = self._elements(spec)
        covered = self._covers(access, where, spec, applied)
        partial = spec.partial_filter is not None
        entries = min(entries, size if not partial else 1.0) * elements
        if partial:
            entries *= size
            fetched = min(fetched * size, size)
        return _Scan(spec, entries, min(fetched, size), seeks, ordered and merged, covered)

    def _serves_unbounded(self, access: Access, spec: IndexSpec, ordered: bool) -> bool:
        """Whether it is read whole: for its order, or for distinct; never if it lacks documents.

        A partial index that the query implies lacks none of those that are asked for.
        """
        if spec.sparse or _has_wildcard(spec):
            return False
        if access.sort and ordered:
            return True
        if spec.partial_filter is not None:
            return False
        return access.purpose == "distinct" and spec.keys[0][0] == access.key

    def _usable_bound(
        self,
        where: Conjunction,
        path: str,
        access: Access,
        spec: IndexSpec,
        chosen: dict[str, str | None],
    ) -> Bound | None:
        candidates = [
            bound
            for bound in where.bounds
            if _serves(path, bound) and wildcard_holds(spec, bound.path)
        ]
        if spec.keys[0][1] != "2dsphere":
            candidates = [bound for bound in candidates if bound.kind != "geo"]
        candidates = [
            bound for bound in candidates if collation_fits(bound, access, spec, self.info)
        ]
        if not candidates:
            return None
        root = self.arrays.root(path)
        best = min(candidates, key=lambda bound: self._bound_share(bound, access))
        if root is None:
            return best
        if root in chosen:
            # Bounds on two paths of one array hold for one element only within an $elemMatch.
            same = [b for b in candidates if b.within is not None and b.within == chosen[root]]
            return same[0] if same else None
        chosen[root] = best.within
        return best

    def _bound_share(self, bound: Bound, access: Access) -> float:
        one_sided = (
            bound.kind == "range" and bound.two_sided and bound.within is None
        ) and self.arrays.root(bound.path) is not None
        return self.selectivity.of_bound(bound, access.shape, one_sided=one_sided)

    def _entry_share(self, bound: Bound, share: float) -> float:
        """Share of the index's keys in a bound; of a scan nearly all, whatever it leaves."""
        return max(share, 0.95) if bound.kind == "scan" else share

    def _order(self, access: Access, where: Conjunction, spec: IndexSpec) -> tuple[bool, bool]:
        """Whether the index gives the access's order, and whether the scans can be merged.

        Sources: MongoDB manual, "Use Indexes to Sort Query Results", "Sort Order", and "Multikey
        Indexes", "Sort operations"; "The ESR Guideline", "$in".
        """
        if not access.sort or _has_special(spec):
            return False, True
        points = {
            bound.path
            for bound in where.bounds
            if bound.is_point and self.arrays.root(bound.path) is None
        }
        wanted = [(path, direction) for path, direction in access.sort if path not in points]
        if any(not collation_fits(path, access, spec, self.info) for path, _ in wanted):
            return False, True
        if any(self._sorts_array(path, where) for path, _ in wanted):
            return False, True
        sign = 0
        scans = 1
        at = 0
        for path, direction in spec.keys:
            if at == len(wanted):
                break
            if wanted[at][0] == path:
                turn = wanted[at][1] * int(direction)
                if sign not in (0, turn):
                    return False, True
                sign = turn
                at += 1
                continue
            bound = where.bound(path)
            if bound is None or not (bound.is_point or bound.kind == "in"):
                return False, True
            if bound.kind == "in":
                scans *= max(1, bound.size)
        return at == len(wanted), scans <= MERGED_SCANS

    def _sorts_array(self, path: str, where: Conjunction) -> bool:
        """Whether a sort by an array cannot come from an index: some bound is on that array."""
        root = self.arrays.root(path)
        return root is not None and any(
            self.arrays.root(bound.path) == root for bound in where.bounds
        )

    def _covers(
        self, access: Access, where: Conjunction, spec: IndexSpec, applied: set[Bound]
    ) -> bool:
        """Whether no document has to be fetched. Source: MongoDB manual, "Covered Query"."""
        if where.residual or where.alternatives or _has_special(spec):
            return False
        paths = [path for path, _ in spec.keys]
        if not set(where.bounds) <= applied or not _key_decides(where):
            return False
        if any(bound.may_hold_strings for bound in where.bounds) and spec.collation is not None:
            return False
        if access.purpose == "count":
            return self.arrays.none(paths) and all(bound.kind != "null" for bound in where.bounds)
        if access.purpose == "distinct":
            return self._distinct_scan(access, where, paths)
        if access.purpose != "read" or access.projection is None or spec.collation is not None:
            return False
        return set(access.projection) <= set(paths) and self.arrays.none(access.projection)

    def _distinct_scan(self, access: Access, where: Conjunction, paths: list[str]) -> bool:
        """Whether distinct reads one key a value: its key comes after equalities alone."""
        if access.key not in paths or not self.arrays.none(paths):
            return False
        before = paths[: paths.index(access.key)]
        return all(
            (bound := where.bound(path)) is not None and bound.is_point for path in before
        ) and all(bound.path in paths[: len(before) + 1] for bound in where.bounds)

    def _elements(self, spec: IndexSpec) -> float:
        roots = {root for path, _ in spec.keys if (root := self.arrays.root(path)) is not None}
        paths = {path for path, _ in spec.keys if self.arrays.root(path) in roots}
        if not roots:
            return 1.0
        return max(1.0, max(self.selectivity.elements(path) for path in paths))


def _serves(key: str, bound: Bound) -> bool:
    """Whether a key's path is the bound's; a wildcard key serves every path below it."""
    if key == bound.path:
        return True
    if not key.endswith("$**"):
        return False
    return bound.path.startswith(key[:-3]) and bound.kind not in ("null", "geo")


def _has_wildcard(spec: IndexSpec) -> bool:
    return any(path.endswith("$**") for path, _ in spec.keys)


def _has_special(spec: IndexSpec) -> bool:
    return _has_wildcard(spec) or any(isinstance(direction, str) for _, direction in spec.keys)


def _key_decides(where: Conjunction) -> bool:
    """Whether each bound is decided by the key alone; null and $exists need the document."""
    return all(bound.kind not in ("null", "exists", "geo", "type") for bound in where.bounds)


def _sort_us(documents: float) -> float:
    return documents * math.log2(documents + 2) * PER_COMPARISON_US if documents else 0.0


def _scan_us(scan: _Scan, count: float, access: Access) -> float:
    us = scan.entries * PER_KEY_US + scan.fetched * PER_FETCHED_US
    if access.sorted and not scan.ordered:
        us *= 2
    return us * count + scan.seeks * PER_SEEK_US


def plan_us(plan: PlanFigures) -> float:
    """Time of a plan that was run, by what it examined; never by what it took on a busy machine."""
    per_document = PER_SCANNED_US if "COLLSCAN" in plan.stages else PER_FETCHED_US
    sorts = plan.returned / max(1, plan.value_sets) if plan.sorted_in_memory else 0.0
    return (
        plan.documents_examined * per_document
        + plan.keys_examined * PER_KEY_US
        + _sort_us(sorts) * plan.value_sets
    )
