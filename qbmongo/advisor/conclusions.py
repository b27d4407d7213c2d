"""Proposal and trials -> the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from .cost import PER_CALL_US, plan_us
from .findings import find_problems
from .index_commands import write_commands
from .index_documents import keys_text, name_of_index
from .judgement import is_harmless, why_not_worth
from .records import (
    Candidate,
    CollectionInfo,
    IndexSpec,
    PlanFigures,
    Proposal,
    Removal,
    Rules,
    ShapeTrial,
    Trial,
    Verification,
    WorkloadShape,
)
from .report import (
    Figures,
    Finding,
    Inputs,
    Recommendation,
    Rejected,
    Report,
    ServedShape,
    Severity,
)

__all__ = ["conclude"]

MAX_PLACES = 10
_ORDER = {"high": 0, "medium": 1, "low": 2}
_ACTIONS = {"create": 0, "unhide": 1, "hide": 2, "drop": 3}


def conclude(
    workload: Sequence[WorkloadShape],
    collections: Mapping[str, CollectionInfo],
    proposal: Proposal,
    verification: Verification,
    inputs: Inputs,
    rules: Rules | None = None,
) -> Report:
    """The report.

    Args:
        workload, collections: as given to `selection.propose`.
        proposal: what it gave.
        verification: what came of trying it.
        inputs: what was read.
        rules: thresholds, the same as there.

    Returns:
        Recommendations, worst first, each after those it depends on. With a verification a
        candidate that was tried in vain is among `tried_and_rejected` instead.
    """
    return _Conclusion(
        workload, collections, proposal, verification, inputs, rules or Rules()
    ).report()


class _Conclusion:
    def __init__(
        self,
        workload: Sequence[WorkloadShape],
        collections: Mapping[str, CollectionInfo],
        proposal: Proposal,
        verification: Verification,
        inputs: Inputs,
        rules: Rules,
    ) -> None:
        self._workload = {shape.id: shape for shape in workload}
        self._collections = collections
        self._proposal = proposal
        self._verification = verification
        self._inputs = inputs
        self._rules = rules
        # Where nothing was timed, shares are of the time that the cost model sees.
        self._total_s = sum(shape.total_s for shape in workload) or sum(
            candidate.gain_s for candidate in proposal.chosen
        )
        self._rejected: list[Rejected] = []

    def report(self) -> Report:
        created = [
            recommendation
            for candidate, is_chosen in self._candidates()
            if (recommendation := self._creation(candidate, is_chosen)) is not None
        ]
        ids = {recommendation.id for recommendation in created}
        removed = [
            recommendation
            for removal in self._proposal.removals
            if (recommendation := self._removal(removal, ids)) is not None
        ]
        recommendations = _ordered([*self._with_replaced(created, removed), *removed])
        workload = sorted(self._workload.values(), key=lambda s: (-s.total_s, s.id))
        tried = self._tried(ids)
        return Report(
            recommendations=tuple(recommendations),
            findings=tuple(self._findings()),
            tried_and_rejected=tuple(self._rejected),
            inputs=self._inputs,
            workload=tuple(self._described(shape, tried.get(shape.id)) for shape in workload),
        )

    def _tried(self, created: set[str]) -> dict[str, ShapeTrial]:
        """How each shape was executed before and after: in a trial of what is recommended, in one
        of an index that it uses where there is one."""
        tried: dict[str, ShapeTrial] = {}
        for name in sorted(created & self._verification.trials.keys()):
            for run in self._verification.trials[name].shapes:
                known = tried.get(run.shape)
                if _is_trusted(run) and (known is None or (run.used and not known.used)):
                    tried[run.shape] = run
        return tried

    def _candidates(self) -> Iterable[tuple[Candidate, bool]]:
        for candidate in self._proposal.chosen:
            yield candidate, True
        for candidate in self._proposal.alternatives:
            yield candidate, False

    def _creation(self, candidate: Candidate, is_chosen: bool) -> Recommendation | None:
        trial = self._verification.trials.get(candidate.id)
        if trial is None:
            return self._recommended(candidate, None) if is_chosen else None
        reason = why_not_worth(trial, self._rules)
        tells = trial.error is not None or any(map(_is_trusted, trial.shapes))
        if not tells:
            return self._recommended(candidate, None) if is_chosen else None
        if reason is not None:
            self._rejected.append(Rejected(candidate, reason, trial))
            return None
        return self._recommended(candidate, trial)

    def _recommended(self, candidate: Candidate, trial: Trial | None) -> Recommendation:
        used = _by_shape(trial, only_used=True)
        names = dict.fromkeys((*candidate.shapes, *used))
        shapes = [self._workload[name] for name in names if name in self._workload]
        saved_s = self._saved_s(candidate, used)
        share = min(1.0, saved_s / self._total_s) if self._total_s else 0.0
        spec = candidate.spec
        action = "create" if candidate.unhides is None else "unhide"
        info = self._collections.get(spec.namespace)
        mongosh, pymongo, undo_mongosh, undo_pymongo = write_commands(action, spec, info)
        before, after = self._figures(used)
        return Recommendation(
            id=candidate.id,
            action="create" if candidate.unhides is None else "unhide",
            spec=spec,
            severity=self._severity(share),
            verified=trial is not None,
            why=_why(candidate, info),
            saved_s=saved_s,
            share=share,
            before=before,
            after=after,
            sampled_documents=None if trial is None else trial.documents,
            shapes=tuple(self._described(shape, used.get(shape.id)) for shape in shapes),
            places=_places(shapes),
            size_bytes=_size_bytes(trial, info),
            insert_us_before=None if trial is None else trial.insert_us_before,
            insert_us_after=None if trial is None else trial.insert_us_after,
            mongosh=mongosh,
            pymongo=pymongo,
            rollback_mongosh=undo_mongosh,
            rollback_pymongo=undo_pymongo,
            steps=_creation_steps(candidate, info),
            rules=candidate.rules,
        )

    def _removal(self, removal: Removal, created: set[str]) -> Recommendation | None:
        if removal.candidate is not None and removal.candidate not in created:
            return None
        trial = self._verification.trials.get(removal.id)
        spec = removal.index.spec
        if trial is not None and not is_harmless(trial):
            candidate = Candidate(removal.id, spec, removal.shapes, (removal.kind,), removal.reason)
            reason = "without it some queries would examine more or sort in memory"
            self._rejected.append(Rejected(candidate, trial.error or reason, trial))
            return None
        info = self._collections.get(spec.namespace)
        action = "drop" if removal.kind == "hidden" else "hide"
        mongosh, pymongo, undo_mongosh, undo_pymongo = write_commands(action, spec, info)
        runs = _by_shape(trial, only_used=False)
        before, after = self._figures(runs)
        shapes = [self._workload[name] for name in runs if name in self._workload]
        return Recommendation(
            id=removal.id,
            action="drop" if removal.kind == "hidden" else "hide",
            spec=spec,
            severity="low",
            verified=bool(runs),
            why=removal.reason,
            before=before,
            after=after,
            sampled_documents=trial.documents if trial is not None and runs else None,
            shapes=tuple(self._described(shape, runs.get(shape.id)) for shape in shapes),
            size_bytes=removal.index.size_bytes,
            insert_us_before=None if trial is None else trial.insert_us_before,
            insert_us_after=None if trial is None else trial.insert_us_after,
            mongosh=mongosh,
            pymongo=pymongo,
            rollback_mongosh=undo_mongosh,
            rollback_pymongo=undo_pymongo,
            depends_on=() if removal.candidate is None else (removal.candidate,),
            steps=_removal_steps(removal),
            rules=(removal.kind,),
        )

    def _with_replaced(
        self, created: Iterable[Recommendation], removed: Sequence[Recommendation]
    ) -> list[Recommendation]:
        """The new indexes, with the order in which what they replace is to go."""
        found = []
        for recommendation in created:
            names = [
                name_of_index(other.spec)
                for other in removed
                if recommendation.id in other.depends_on
            ]
            if names:
                listed = ", ".join(names)
                more = (
                    f"when it is used, hide {listed}; if nothing gets slower, drop {listed} later"
                )
                recommendation = replace(recommendation, steps=(*recommendation.steps, more))
            found.append(recommendation)
        return found

    def _findings(self) -> list[Finding]:
        plans: dict[str, PlanFigures] = {}
        for trial in self._verification.trials.values():
            for shape in trial.shapes:
                if _is_trusted(shape):
                    known = plans.get(shape.shape)
                    better = known is None or _examined(shape.after) < _examined(known)
                    if better:
                        plans[shape.shape] = shape.after
        return find_problems(
            list(self._workload.values()),
            self._collections,
            plans,
            self._described,
            self._severity,
            self._rules,
        )

    def _described(self, shape: WorkloadShape, trial: ShapeTrial | None = None) -> ServedShape:
        return ServedShape(
            id=shape.id,
            text=shape.text,
            namespace=shape.namespace,
            calls=shape.calls,
            total_s=shape.total_s,
            share=min(1.0, shape.total_s / self._total_s) if self._total_s else 0.0,
            documents=shape.documents,
            p50_s=shape.p50_s,
            p95_s=shape.p95_s,
            p99_s=shape.p99_s,
            bins=shape.bins,
            places=shape.places[:MAX_PLACES],
            before=None if trial is None else trial.before,
            after=None if trial is None else trial.after,
        )

    def _severity(self, share: float) -> Severity:
        if share >= self._rules.high_share:
            return "high"
        return "medium" if share >= self._rules.medium_share else "low"

    def _saved_s(self, candidate: Candidate, used: Mapping[str, ShapeTrial]) -> float:
        """Time of the workload that the index saves: as tried, where it was, else as estimated."""
        if not used:
            return candidate.gain_s
        saved_s = 0.0
        for name, trial in used.items():
            shape = self._workload.get(name)
            if shape is None:
                continue
            if not shape.total_s:
                return candidate.gain_s
            served_s = max(0.0, shape.total_s - shape.calls * PER_CALL_US / 1e6)
            saved_s += served_s * max(0.0, _saved_share(trial))
        return saved_s

    def _figures(self, runs: Mapping[str, ShapeTrial]) -> tuple[Figures | None, Figures | None]:
        pairs = [(self._workload[n], t) for n, t in runs.items() if n in self._workload]
        if not pairs:
            return None, None
        before = _mean([(shape.calls, trial.before) for shape, trial in pairs])
        after = _mean([(shape.calls, trial.after) for shape, trial in pairs])
        before_s = sum(shape.total_s for shape, _ in pairs)
        saved_s = sum(
            max(0.0, shape.total_s - shape.calls * PER_CALL_US / 1e6) * _saved_share(trial)
            for shape, trial in pairs
        )
        return (
            replace(before, estimated_s=before_s),
            replace(after, estimated_s=max(0.0, before_s - saved_s)),
        )


def _mean(weighed: Sequence[tuple[int, PlanFigures]]) -> Figures:
    """Means per call over shapes, weighed by their calls."""
    calls = sum(count for count, _ in weighed) or 1
    heaviest = max(weighed, key=lambda pair: pair[0])[1]

    def mean(total: str) -> float:
        shares = (count * getattr(plan, total) / max(1, plan.value_sets) for count, plan in weighed)
        return float(sum(shares)) / calls

    return Figures(
        keys_examined=mean("keys_examined"),
        documents_examined=mean("documents_examined"),
        returned=mean("returned"),
        sorted_in_memory=any(plan.sorted_in_memory for _, plan in weighed),
        estimated_s=0.0,
        stages=heaviest.stages,
    )


def _saved_share(trial: ShapeTrial) -> float:
    before_us, after_us = plan_us(trial.before), plan_us(trial.after)
    return 1 - after_us / before_us if before_us else 0.0


def _by_shape(trial: Trial | None, only_used: bool) -> dict[str, ShapeTrial]:
    if trial is None:
        return {}
    return {
        run.shape: run for run in trial.shapes if _is_trusted(run) and (run.used or not only_used)
    }


def _is_trusted(run: ShapeTrial) -> bool:
    return run.before.trusted and run.after.trusted


def _examined(plan: PlanFigures) -> float:
    return (plan.keys_examined + plan.documents_examined) / max(1, plan.value_sets)


def _size_bytes(trial: Trial | None, info: CollectionInfo | None) -> int | None:
    if trial is None or trial.index_bytes_per_document is None:
        return None
    if info is None or info.count is None:
        return None
    return round(trial.index_bytes_per_document * info.count)


def _places(shapes: Iterable[WorkloadShape]) -> tuple[tuple[str, int], ...]:
    places: Counter[str] = Counter()
    for shape in shapes:
        places.update(dict(shape.places))
    return tuple(sorted(places.items(), key=lambda p: (-p[1], p[0]))[:MAX_PLACES])


def _why(candidate: Candidate, info: CollectionInfo | None) -> str:
    if candidate.unhides is not None:
        return f"{candidate.reason}. The hidden index {candidate.unhides} is just that"
    return candidate.reason


def _creation_steps(candidate: Candidate, info: CollectionInfo | None) -> tuple[str, ...]:
    spec: IndexSpec = candidate.spec
    if candidate.unhides is not None:
        return (f"unhide {candidate.unhides}", "see with explain that the queries use it")
    steps = [f"create {keys_text(spec.keys)}", "see with explain that the queries use it"]
    if info is not None and info.count is not None and info.count >= 1_000_000:
        steps.insert(0, f"choose a quiet time: building it reads all {info.count:,} documents")
    return tuple(steps)


def _removal_steps(removal: Removal) -> tuple[str, ...]:
    """Source: MongoDB manual, "Hidden Indexes": evaluate the impact before dropping."""
    name = name_of_index(removal.index.spec)
    if removal.kind == "hidden":
        return (f"drop {name}",)
    steps = [f"hide {name}", f"watch for some days; unhide {name} if anything gets slower"]
    steps.append(f"drop {name}")
    if removal.candidate is not None and removal.by is not None:
        steps.insert(0, f"first create {keys_text(removal.by.keys)} and see that it is used")
    return tuple(steps)


def _ordered(recommendations: Sequence[Recommendation]) -> list[Recommendation]:
    """Worst first; what depends on another comes after it."""
    return sorted(
        recommendations,
        key=lambda r: (
            bool(r.depends_on),
            _ORDER[r.severity],
            -r.saved_s,
            _ACTIONS[r.action],
            r.spec.namespace,
            r.id,
        ),
    )
