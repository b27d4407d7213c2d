"""The choice of indexes for one collection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from .accesses import Access, accesses_of
from .candidates import Bundle, Proposer, equality_paths
from .conjunctions import Conjunction
from .cost import PER_CALL_US, CostModel, Estimate
from .index_documents import keys_text
from .observed_values import constants, filters_of, observed_values
from .records import (
    Candidate,
    CollectionInfo,
    CollectionStatistics,
    IndexSpec,
    Rules,
    WorkloadShape,
)
from .redundancy import hints_of, is_same_index, why_not_replaced
from .write_load import WriteLoad

__all__ = ["CollectionPlan"]

_ID_KEYS = (("_id", 1),)
# What may be examined more, per execution, for a shorter index.
_NEARLY_SHARE = 1.25
_NEARLY_MORE = 20.0
_MAX_SCALE = 20.0
_ALTERNATIVES = 3  # for each chosen index


class CollectionPlan:
    """Chooses among the bundles of all accesses of one collection.

    Args:
        info: the collection's facts.
        statistics: of a sample, or None.
        shapes: those that read or write it.
        rules: thresholds.
    """

    def __init__(
        self,
        info: CollectionInfo,
        statistics: CollectionStatistics | None,
        shapes: Sequence[WorkloadShape],
        rules: Rules,
    ) -> None:
        self.info = info
        self.rules = rules
        self.model = CostModel(info, statistics)
        self.shapes = {shape.id: shape for shape in shapes}
        self._constants: dict[str, dict[str, object]] = {}
        for shape in shapes:
            values = observed_values(shape)
            self.model.selectivity.learn(shape.id, values)
            self._constants[shape.id] = constants(values, len(filters_of(shape)))
        self.accesses = [
            access
            for shape in shapes
            for access in accesses_of(shape)
            if access.namespace == info.namespace and access.calls
        ]
        self.existing = _with_id_index(info)
        self.writes = WriteLoad(self.model, shapes, info.namespace)
        self._weights = self._weigh()
        self._overhead_s = sum(
            self.shapes[shape].calls * PER_CALL_US * scale / 1e6
            for shape, scale in self._scale.items()
        )
        self._chosen: list[IndexSpec] = []
        self._rules_of: dict[IndexSpec, tuple[str, ...]] = {}
        self._pool: list[Bundle] = []
        self._before = self._estimates(self.existing)
        self._total_s = self._time_s(self._before)

    def choose(self) -> None:
        """Choose the set."""
        self._pool = self._bundles()
        room = max(0, self.rules.max_indexes - len(self.info.indexes))
        while len(self._chosen) < room:
            best = self._best_addition()
            if best is None:
                break
            self._add(best)
        self._drop_dispensable()
        self._shorten()
        self._drop_dispensable()
        # What shortening gave up must not be worth an index of its own, else the next
        # advice would recommend it.
        while len(self._chosen) < room and (best := self._best_addition()) is not None:
            self._add(best)
        self._drop_prefixes()

    def candidates(self, identify: Callable[[IndexSpec], str]) -> list[Candidate]:
        """The chosen indexes as candidates, with the shapes that use each."""
        after = self._estimates((*self.existing, *self._chosen))
        return [
            self._candidate(spec, after, self._without(spec), identify) for spec in self._chosen
        ]

    def alternatives(self, identify: Callable[[IndexSpec], str]) -> list[Candidate]:
        """What else could serve the shapes of the chosen ones, should these fail."""
        found: dict[IndexSpec, Candidate] = {}
        for chosen in self._chosen:
            scored = []
            base = [spec for spec in self._chosen if spec != chosen]
            before = self._estimates((*self.existing, *base))
            for bundle in self._pool:
                if len(bundle.specs) > 1 or bundle.specs[0] in self._chosen:
                    continue
                after = self._extended(before, (*self.existing, *base), bundle.specs)
                gain_s = self._time_s(before) - self._time_s(after)
                if gain_s > 0 and self._is_worth(before, after, bundle.specs):
                    scored.append((gain_s, bundle, after, before))
            scored.sort(key=lambda item: (-item[0], len(item[1].specs[0].keys), repr(item[1])))
            for _, bundle, after, without in scored[:_ALTERNATIVES]:
                spec = bundle.specs[0]
                self._rules_of.setdefault(spec, bundle.rules)
                found.setdefault(spec, self._candidate(spec, after, without, identify))
        return list(found.values())

    def used_existing(self) -> frozenset[IndexSpec]:
        """Existing indexes that the workload uses once the chosen ones are there."""
        after = self._estimates((*self.existing, *self._chosen))
        return frozenset(spec for estimate in after for spec in estimate.indexes) & frozenset(
            self.existing
        )

    def hinted(self) -> frozenset[str]:
        return hints_of(access.hint for access in self.accesses if access.hint is not None)

    def _weigh(self) -> list[float]:
        """Seconds that one estimated microsecond of each access stands for.

        The estimates of a shape are scaled to the time that was measured, where one was; within
        limits, because a profile may be older than the indexes.
        """
        self._scale: dict[str, float] = {}
        us: dict[str, float] = {}
        for access in self.accesses:
            estimate = self.model.estimate(access, self.existing)
            us[access.shape] = us.get(access.shape, 0.0) + estimate.us * access.executions
        for shape_id, own_us in us.items():
            shape = self.shapes[shape_id]
            modelled_s = shape.calls * (PER_CALL_US + own_us) / 1e6
            measured = shape.total_s > 0 and shape.namespace == self.info.namespace
            scale = shape.total_s / modelled_s if measured else 1.0
            self._scale[shape_id] = min(max(scale, 1 / _MAX_SCALE), _MAX_SCALE)
        return [
            access.calls * access.executions * self._scale[access.shape] / 1e6
            for access in self.accesses
        ]

    def _bundles(self) -> list[Bundle]:
        shared: dict[frozenset[str], float] = {}
        for access, weight in zip(self.accesses, self._weights, strict=True):
            for paths in equality_paths(access):
                shared[paths] = shared.get(paths, 0.0) + weight
        orders = sorted(shared, key=lambda paths: (-shared[paths], sorted(paths)))
        proposer = Proposer(
            self.info, self.model.arrays, self.model.selectivity, self.rules, orders[:20]
        )
        by_weight = sorted(
            range(len(self.accesses)), key=lambda i: -self._weights[i] * self._before[i].us
        )
        found: dict[tuple[IndexSpec, ...], Bundle] = {}
        existing = [index for index in self.info.indexes if not index.spec.hidden]
        for i in by_weight:
            access = self.accesses[i]
            if access.hint is not None:
                continue
            if self._before[i].examined < self.rules.min_examined and not self._before[i].sorts:
                continue
            for bundle in proposer.bundles(access, self._constants[access.shape]):
                new = tuple(
                    s for s in bundle.specs if not any(is_same_index(s, e.spec) for e in existing)
                )
                if new and not any(self._is_geo(spec) for spec in new):
                    found.setdefault(new, Bundle(new, bundle.rules))
        return list(found.values())

    def _is_geo(self, spec: IndexSpec) -> bool:
        """A special index is proposed by a finding, never chosen by figures that do not hold."""
        return any(isinstance(direction, str) for _, direction in spec.keys)

    def _estimates(self, indexes: Sequence[IndexSpec]) -> list[Estimate]:
        return [self.model.estimate(access, indexes) for access in self.accesses]

    def _extended(
        self,
        now: Sequence[Estimate],
        indexes: Sequence[IndexSpec],
        added: Sequence[IndexSpec],
    ) -> list[Estimate]:
        """The estimates with further indexes."""
        whole = (*indexes, *added)
        found = []
        for access, estimate in zip(self.accesses, now, strict=True):
            if access.where.alternatives:
                found.append(self.model.estimate(access, whole))
            else:
                found.append(self.model.improved(access, estimate, added))
        return found

    def _time_s(self, estimates: Iterable[Estimate]) -> float:
        return sum(e.us * w for e, w in zip(estimates, self._weights, strict=True))

    def _examined(self, estimates: Iterable[Estimate]) -> float:
        """Documents plus keys of the whole workload."""
        return sum(
            estimate.examined * access.calls * access.executions
            for access, estimate in zip(self.accesses, estimates, strict=True)
        )

    def _is_worth(
        self, before: Sequence[Estimate], after: Sequence[Estimate], added: Sequence[IndexSpec]
    ) -> bool:
        """Whether the shapes that would use new indexes save enough of what they examine."""
        using = [i for i, estimate in enumerate(after) if any(s in added for s in estimate.indexes)]
        if not using or not all(any(s in after[i].indexes for i in using) for s in added):
            return False
        weights = [self._weights[i] for i in using]
        examined = sum(before[i].examined * w for i, w in zip(using, weights, strict=True))
        left = sum(after[i].examined * w for i, w in zip(using, weights, strict=True))
        sorted_before = sum(before[i].sorts * w for i, w in zip(using, weights, strict=True))
        sorted_after = sum(after[i].sorts * w for i, w in zip(using, weights, strict=True))
        total = sum(weights)
        saves_sort = (sorted_before - sorted_after) / total >= self.rules.min_examined
        if left > examined or self._examined(after) > self._examined(before):
            return False
        if saves_sort and self._time_s(after) < (1 - self.rules.min_gain) * self._time_s(before):
            return True
        if examined / total < self.rules.min_examined:
            return False
        return (examined - left) >= self.rules.min_gain * examined

    def _least_s(self, estimates: Sequence[Estimate]) -> float:
        """The time that one more index must save, of what is spent without it."""
        return self.rules.min_saved_share * (self._time_s(estimates) + self._overhead_s)

    def _best_addition(self) -> Bundle | None:
        indexes = (*self.existing, *self._chosen)
        before = self._estimates(indexes)
        time_s = self._time_s(before)
        least_s = self._least_s(before)
        best: tuple[float, Bundle] | None = None
        for bundle in self._pool:
            specs = tuple(s for s in bundle.specs if s not in self._chosen)
            if not specs:
                continue
            after = self._extended(before, indexes, specs)
            net_s = time_s - self._time_s(after) - sum(map(self.writes.seconds, specs))
            if net_s <= least_s * len(specs) or (best and net_s <= best[0] * 1.0001):
                continue
            if self._is_worth(before, after, specs):
                best = (net_s, bundle)
        return best[1] if best else None

    def _add(self, bundle: Bundle) -> None:
        for spec in bundle.specs:
            if spec not in self._chosen:
                self._chosen.append(spec)
                self._rules_of.setdefault(spec, bundle.rules)

    def _without(self, spec: IndexSpec) -> list[Estimate]:
        rest = [other for other in self._chosen if other != spec]
        return self._estimates((*self.existing, *rest))

    def _net_s(self, chosen: Sequence[IndexSpec]) -> float:
        """What a set saves, less what it costs the writes."""
        saved_s = self._total_s - self._time_s(self._estimates((*self.existing, *chosen)))
        return saved_s - sum(map(self.writes.seconds, chosen))

    def _drop_dispensable(self) -> None:
        """Leave out what the others have made unnecessary, the least useful first."""
        while True:
            whole = self._net_s(self._chosen)
            after = self._estimates((*self.existing, *self._chosen))
            losses = []
            for spec in self._chosen:
                rest = [other for other in self._chosen if other != spec]
                loss_s = whole - self._net_s(rest)
                without = self._estimates((*self.existing, *rest))
                if loss_s <= self._least_s(without) or not (
                    self._is_worth(without, after, (spec,))
                ):
                    losses.append((loss_s, repr(spec), spec))
            if not losses:
                return
            self._chosen.remove(min(losses)[2])

    def _drop_prefixes(self) -> None:
        """Leave out what another one makes redundant, by the rules for existing indexes."""
        for spec in list(self._chosen):
            others = (*self.existing, *(other for other in self._chosen if other != spec))
            if any(
                why_not_replaced(spec, other, self.model.arrays) is None for other in others
            ) and self.is_harmless([spec]):
                self._chosen.remove(spec)

    def _is_better(self, chosen: Sequence[IndexSpec], others: Sequence[IndexSpec]) -> bool:
        """Whether one of some others would be recommended beside a set."""
        before = self._estimates((*self.existing, *chosen))
        for spec in others:
            if spec not in chosen:
                after = self._estimates((*self.existing, *chosen, spec))
                net_s = self._time_s(before) - self._time_s(after) - self.writes.seconds(spec)
                if net_s > self._least_s(before) and self._is_worth(before, after, (spec,)):
                    return True
        return False

    def is_harmless(self, removed: Sequence[IndexSpec]) -> bool:
        """Whether without some existing indexes no access examines more, or sorts more."""
        indexes = (*self.existing, *self._chosen)
        left = [spec for spec in indexes if spec not in removed]
        return all(
            after.examined <= 1.05 * before.examined + 2 and after.sorts <= before.sorts + 1
            for before, after in zip(self._estimates(indexes), self._estimates(left), strict=True)
        )

    def _shorten(self) -> None:
        """Leave out keys that save hardly anything."""
        for at, spec in enumerate(self._chosen):
            rest = [other for other in self._chosen if other != spec]
            whole = self._estimates((*self.existing, *self._chosen))
            without = self._estimates((*self.existing, *rest))
            current = spec
            removed = True
            while removed and len(current.keys) > 1:
                removed = False
                for i in reversed(range(len(current.keys))):
                    shorter = _shortened(current, i)
                    after = self._estimates((*self.existing, *rest, shorter))
                    if (
                        _is_nearly(after, whole)
                        and self._is_worth(without, after, (shorter,))
                        and not self._is_better([*rest, shorter], (current,))
                    ):
                        self._rules_of[shorter] = self._rules_of.get(spec, ())
                        current, removed = shorter, True
                        break
            self._chosen[at] = current

    def _candidate(
        self,
        spec: IndexSpec,
        after: Sequence[Estimate],
        without: Sequence[Estimate],
        identify: Callable[[IndexSpec], str],
    ) -> Candidate:
        using = [i for i, estimate in enumerate(after) if spec in estimate.indexes]
        gains: dict[str, float] = {}
        for i in using:
            shape = self.accesses[i].shape
            gain = (without[i].us - after[i].us) * self._weights[i]
            gains[shape] = gains.get(shape, 0.0) + gain
        shapes = sorted(gains, key=lambda shape: (-gains[shape], shape))
        rules = self._rules_of.get(spec, ())
        return Candidate(
            id=identify(spec),
            spec=spec,
            shapes=tuple(shapes),
            rules=rules,
            reason=_reason(spec, [self.accesses[i] for i in using]),
            gain_s=sum(gains.values()),
            write_s=self.writes.seconds(spec),
        )


def _is_nearly(after: Sequence[Estimate], best: Sequence[Estimate]) -> bool:
    """Whether no access examines much more, or sorts more, than with the best set known."""
    return all(
        a.examined <= _NEARLY_SHARE * b.examined + _NEARLY_MORE and a.sorts <= b.sorts + 1
        for a, b in zip(after, best, strict=True)
    )


def _reason(spec: IndexSpec, accesses: Sequence[Access]) -> str:
    """What the keys are for, in one sentence."""
    equal: list[str] = []
    order: list[str] = []
    ranges: list[str] = []
    further: list[str] = []
    for path, _ in spec.keys:
        kinds = {b.kind for a in accesses for w in _conjunctions(a) if (b := w.bound(path))}
        if kinds & {"point", "null", "in"}:
            equal.append(path)
        elif any(path == sorted_path for a in accesses for sorted_path, _ in a.sort):
            order.append(path)
        elif kinds:
            ranges.append(path)
        else:
            further.append(path)
    parts = [
        f"{name} {', '.join(paths)}"
        for name, paths in (
            ("equality on", equal),
            ("order by", order),
            ("range of", ranges),
            ("reads", further),
        )
        if paths
    ]
    text = f"{keys_text(spec.keys)}: {'; '.join(parts)}"
    if spec.partial_filter is not None:
        text += f"; only documents where {', '.join(spec.partial_filter)} has the one value asked"
    return text


def _conjunctions(access: Access) -> list[Conjunction]:
    return [access.where, *(branch for group in access.where.alternatives for branch in group)]


def _with_id_index(info: CollectionInfo) -> list[IndexSpec]:
    specs = [index.spec for index in info.indexes if not index.spec.hidden]
    if not any(spec.keys[0][0] == "_id" and len(spec.keys) == 1 for spec in specs):
        specs.append(IndexSpec(info.namespace, _ID_KEYS, name="_id_", unique=True))
    return specs


def _shortened(spec: IndexSpec, at: int) -> IndexSpec:
    keys = (*spec.keys[:at], *spec.keys[at + 1 :])
    if len(keys) == 1:
        keys = ((keys[0][0], 1),)
    return replace(spec, keys=keys)
