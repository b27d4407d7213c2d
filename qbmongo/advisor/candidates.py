"""Access -> indexes that could serve it, by the rules of the manual.

Each proposal is a *bundle*: indexes that help only together (one for each branch of an `$or`).
Nothing is weighed here; `advisor.selection` chooses. docs/advisor.md lists the rules.

Sources: MongoDB manual, "The ESR (Equality, Sort, Range) Guideline"; "Indexing Strategies";
"Compound Indexes"; "Multikey Indexes"; "Partial Indexes"; "Sparse Indexes"; "$or Clauses and
Indexes"; "Use Indexes to Sort Query Results"; "Covered Query".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

from .accesses import Access
from .collations import effective_collation
from .conjunctions import Bound, Conjunction, index_path
from .multikey import Arrays
from .records import CollectionInfo, IndexSpec, Rules
from .selectivity import Selectivity

__all__ = ["Bundle", "Proposer", "equality_paths"]

_MAX_KEYS = 32  # Source: MongoDB manual, "MongoDB Limits and Thresholds"
_MAX_EQUALITIES = 8
_MAX_ORDERS = 12
_MAX_BRANCHES = 10


@dataclass(frozen=True, slots=True)
class Bundle:
    """Indexes that are chosen together. rules: names of docs/advisor.md."""

    specs: tuple[IndexSpec, ...]
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts of an index for one conjunction: equalities in no order yet, then the rest."""

    equalities: tuple[Bound, ...]
    lists: tuple[Bound, ...]
    ranges: tuple[Bound, ...]
    sort: tuple[tuple[str, int], ...]


class Proposer:
    """Proposes indexes for the accesses of one collection.

    Args:
        info: its facts.
        arrays, selectivity: what is known of its values.
        rules: thresholds.
        orders: sets of equality paths that other accesses have, most important first; an index
            whose equalities begin with such a set serves both.
    """

    def __init__(
        self,
        info: CollectionInfo,
        arrays: Arrays,
        selectivity: Selectivity,
        rules: Rules,
        orders: Sequence[frozenset[str]] = (),
    ) -> None:
        self.info = info
        self.arrays = arrays
        self.selectivity = selectivity
        self.rules = rules
        self.orders = orders

    def bundles(self, access: Access, constants: Mapping[str, Any]) -> list[Bundle]:
        """Every bundle that could serve an access.

        Args:
            access: of this collection.
            constants: equalities that the shape was always seen with, by path.
        """
        if access.where.text or any(bound.kind == "geo" for bound in access.where.bounds):
            return self._geo(access)
        found = [Bundle((spec,), rules) for spec, rules in self._indexes(access, access.where)]
        found.extend(self._partial(access, constants))
        for branches in access.where.alternatives:
            found.extend(self._for_branches(access, branches))
        return list(dict.fromkeys(found))

    def _for_branches(self, access: Access, branches: Sequence[Conjunction]) -> Iterable[Bundle]:
        """One index for each branch, of the branch alone and with what stands around the `$or`."""
        if not branches or len(branches) > _MAX_BRANCHES:
            return
        outer = Conjunction(access.where.bounds)
        for joined, sort in ((True, True), (False, True), (True, False), (False, False)):
            if sort and not access.sort:
                continue
            chosen: list[IndexSpec] = []
            for branch in branches:
                where = outer.joined(branch) if joined else branch
                asked = access if sort else replace(access, sort=(), sorted=False)
                options = [spec for spec, _ in self._indexes(asked, where) if _leads(spec, branch)]
                if not options:
                    break
                chosen.append(options[0])
            else:
                rules = ("or_branch", "sort") if sort else ("or_branch",)
                yield Bundle(tuple(dict.fromkeys(chosen)), rules)

    def _indexes(
        self, access: Access, where: Conjunction
    ) -> Iterable[tuple[IndexSpec, tuple[str, ...]]]:
        """Indexes for one conjunction, the fullest first."""
        parts = self._parts(access, where)
        collation = self._collation(access, where)
        for keys, rules in self._key_lists(access, parts):
            for kept, extra in self._variants(access, where, keys):
                spec = IndexSpec(access.namespace, _forward(kept), collation=collation)
                yield spec, (*rules, *extra)
        yield from self._sparse(access, where, collation)

    def _parts(self, access: Access, where: Conjunction) -> _Parts:
        by_path = {bound.path: where.bound(bound.path) for bound in where.bounds}
        bounds = [bound for bound in by_path.values() if bound is not None]
        bounds.sort(key=lambda b: (self.selectivity.of_bound(b, access.shape), b.path))
        points = [b for b in bounds if b.is_point and b.path != "_id" and b.size]
        lists = [b for b in bounds if b.kind == "in"]
        ranges = [b for b in bounds if b.kind in ("range", "prefix")]
        constant = {b.path for b in points if self.arrays.root(b.path) is None}
        sort = tuple(pair for pair in access.sort if pair[0] not in constant)
        if any(self._sort_on_bounded_array(path, where) for path, _ in sort):
            sort = ()
        return _Parts(tuple(points[:_MAX_EQUALITIES]), tuple(lists), tuple(ranges), sort)

    def _sort_on_bounded_array(self, path: str, where: Conjunction) -> bool:
        root = self.arrays.root(path)
        return root is not None and any(self.arrays.root(b.path) == root for b in where.bounds)

    def _key_lists(
        self, access: Access, parts: _Parts
    ) -> Iterable[tuple[tuple[tuple[str, int], ...], tuple[str, ...]]]:
        sort = parts.sort
        sorted_paths = {path for path, _ in sort}
        ranges = [(b.path, 1) for b in parts.ranges if b.path not in sorted_paths]
        lists = [(b.path, 1) for b in parts.lists if b.path not in sorted_paths]
        scans = 1
        for bound in parts.lists:
            scans *= max(1, bound.size)
        small = scans <= self.rules.merge_sort_values
        after = [[*lists, *sort, *ranges], [*sort, *lists, *ranges]]
        if not small:
            after.reverse()
        if not sort:
            after = [[*lists, *ranges]]
        for head in self._orders(parts.equalities):
            equal = [(path, 1) for path in head]
            names = ("equality",) if equal else ()
            if sort:
                for rest in after:
                    yield _once([*equal, *rest]), (*names, "sort", *(("range",) if ranges else ()))
                yield _once([*equal, *sort]), (*names, "sort")
            if access.key is not None and index_path(access.key):
                yield _once([*equal, (access.key, 1), *lists, *ranges]), (*names, "distinct")
            rest = [*lists, *ranges]
            yield _once([*equal, *rest]), (*names, *(("range",) if rest else ()))
            yield _once(equal), names
            if len(rest) > 1:
                yield _once([*equal, rest[0]]), (*names, "range")
        if sort and not parts.equalities:
            yield _once(list(sort)), ("sort",)
        if sort and (parts.equalities or lists or ranges):
            equal = [(bound.path, 1) for bound in parts.equalities]
            yield _once([*sort, *equal, *lists, *ranges]), ("sort", "filter_in_index")
        for bound in parts.equalities:
            yield ((bound.path, 1),), ("equality",)

    def _orders(self, equalities: Sequence[Bound]) -> list[tuple[str, ...]]:
        """Orders of the equalities: most selective first, and those that begin as others need."""
        paths = [bound.path for bound in equalities]
        if len(paths) <= 1:
            return [tuple(paths)]
        orders = [tuple(paths)]
        for shared in self.orders:
            if shared < frozenset(paths):
                first = [path for path in paths if path in shared]
                rest = [path for path in paths if path not in shared]
                chain = [*first, *rest]
                for smaller in self.orders:
                    if smaller < shared:
                        chain.sort(key=lambda path: path not in smaller)
                        chain.sort(key=lambda path: path not in shared)
                orders.append(tuple(chain))
        if len(paths) <= 3:
            orders.extend(permutations(paths))
        return list(dict.fromkeys(orders))[:_MAX_ORDERS]

    def _variants(
        self, access: Access, where: Conjunction, keys: tuple[tuple[str, int], ...]
    ) -> Iterable[tuple[tuple[tuple[str, int], ...], tuple[str, ...]]]:
        """The keys without what cannot stand together, and with what would cover the query."""
        allowed = self._allowed(keys, where)
        if not allowed:
            return
        covering = self._covering(access, where, allowed)
        if covering is not None:
            yield covering, ("covered",)
        yield allowed, ()

    def _allowed(
        self, keys: tuple[tuple[str, int], ...], where: Conjunction
    ) -> tuple[tuple[str, int], ...]:
        """Keys without parallel arrays, and without further paths of one array that give nothing.

        Source: MongoDB manual, "Multikey Indexes", "Compound Multikey Indexes", and "Multikey Index
        Bounds": bounds on two paths of one array are compounded within one `$elemMatch` only.
        """
        kept: list[tuple[str, int]] = []
        within: dict[str, str | None] = {}
        for path, direction in keys:
            if not index_path(path) or self.arrays.parallel([p for p, _ in kept] + [path]):
                continue
            root = self.arrays.root(path)
            if root is not None:
                bound = where.bound(path)
                own = bound.within if bound is not None else None
                if root in within and (own is None or within[root] != own):
                    continue
                within[root] = own
            kept.append((path, direction))
        if kept and kept[0][0] == "_id":
            return ()
        return tuple(kept[:_MAX_KEYS])

    def _covering(
        self, access: Access, where: Conjunction, keys: tuple[tuple[str, int], ...]
    ) -> tuple[tuple[str, int], ...] | None:
        """The keys followed by the few projected paths that they lack.

        Source: MongoDB manual, "Covered Query".
        """
        if access.purpose != "read" or access.projection is None or where.residual:
            return None
        if where.alternatives or not self.arrays.none(access.projection):
            return None
        have = {path for path, _ in keys}
        if not {bound.path for bound in where.bounds} <= have | set(access.projection):
            return None
        extra = [path for path in access.projection if path not in have]
        if not extra or len(extra) > self.rules.covered_fields:
            return None
        if not all(map(index_path, extra)):
            return None
        if any(a != b and a.startswith(f"{b}.") for a in extra for b in (*have, *extra)):
            return None
        return (*keys, *((path, 1) for path in extra))

    def _partial(self, access: Access, constants: Mapping[str, Any]) -> Iterable[Bundle]:
        """Without the equalities that always have one selective value, for those documents alone.

        Source: MongoDB manual, "Partial Indexes".
        """
        for path, value in constants.items():
            bound = access.where.bound(path)
            if bound is None or bound.kind != "point" or bound.within is not None:
                continue
            if not index_path(path) or self.arrays.root(path) is not None:
                continue
            share = self.selectivity.of_partial_filter({path: value})
            if share > self.rules.partial_share:
                continue
            if isinstance(value, str) and effective_collation(access, self.info) is not None:
                continue
            rest = Conjunction(
                tuple(b for b in access.where.bounds if b.path != path),
                (),
                access.where.residual,
            )
            wanted = [spec for spec, _ in self._indexes(access, rest)][:4]
            plain = IndexSpec(access.namespace, ((path, 1),))
            for spec in wanted or [plain]:
                if all(key == path for key, _ in spec.keys) and wanted:
                    continue
                yield Bundle((replace(spec, partial_filter={path: value}),), ("partial",))

    def _sparse(
        self, access: Access, where: Conjunction, collation: Mapping[str, Any] | None
    ) -> Iterable[tuple[IndexSpec, tuple[str, ...]]]:
        """`$exists: true` of a rare path. Source: MongoDB manual, $exists, "Use a Sparse Index"."""
        for bound in where.bounds:
            if bound.kind == "exists" and index_path(bound.path) and bound.path != "_id":
                if self.selectivity.present(bound.path) <= self.rules.partial_share:
                    keys = ((bound.path, 1),)
                    spec = IndexSpec(access.namespace, keys, sparse=True, collation=collation)
                    yield spec, ("sparse",)

    def _geo(self, access: Access) -> list[Bundle]:
        """A query on a place needs a special index; equalities may stand in front of it.

        Source: MongoDB manual, "2dsphere Indexes", "Compound 2dsphere indexes".
        """
        places = [b.path for b in access.where.bounds if b.kind == "geo" and b.path]
        if access.where.text or len(places) != 1 or not index_path(places[0]):
            return []
        return [Bundle((IndexSpec(access.namespace, ((places[0], "2dsphere"),)),), ("2dsphere",))]

    def _collation(self, access: Access, where: Conjunction) -> Mapping[str, Any] | None:
        """The query's collation where strings may be compared or sorted; else the collection's."""
        return effective_collation(access, self.info)


def _forward(keys: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    """An index is read both ways, so one that descends in all its keys is as good ascending.

    Source: MongoDB manual, "Single Field Indexes", "Sort Order".
    """
    if all(direction == -1 for _, direction in keys):
        return tuple((path, 1) for path, _ in keys)
    return keys


def equality_paths(access: Access) -> list[frozenset[str]]:
    """The sets of paths that an access has equalities on, one for each branch."""
    found = [_points(access.where)]
    for branches in access.where.alternatives:
        found.extend(_points(branch) for branch in branches)
    return [paths for paths in found if paths]


def _points(where: Conjunction) -> frozenset[str]:
    return frozenset(bound.path for bound in where.bounds if bound.is_point)


def _leads(spec: IndexSpec, branch: Conjunction) -> bool:
    """Whether the index bounds a path of the branch, so that the branch is told from the rest."""
    own = {bound.path for bound in branch.bounds}
    return any(path in own for path, _ in spec.keys)


def _once(pairs: Sequence[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    kept: dict[str, int] = {}
    for path, direction in pairs:
        kept.setdefault(path, direction)
    return tuple(kept.items())
