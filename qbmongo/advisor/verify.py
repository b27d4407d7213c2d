"""Every proposed change is tried on a copy, with the workload's own queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .interruption import Stop
from .judgement import is_harmless, is_worth
from .queries import Question, questions_of
from .records import Candidate, CollectionInfo, Proposal, Removal, Rules, Trial, WorkloadShape
from .samples import Sample
from .scratch import Scratch
from .trial_collection import TrialCollection
from .trial_plans import Run, Runs, shapes_using, trial_shapes

__all__ = ["Effort", "TrialJob", "jobs_of", "try_collection"]

_States = dict[str, list[Run | None]]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is tried.

    value_sets: values asked for each shape. documents_for_values: from how many documents they are
    drawn. inserts: documents inserted to measure the price of an index; rounds: how often.
    """

    value_sets: int = 3
    documents_for_values: int = 500
    inserts: int = 500
    rounds: int = 3


@dataclass(frozen=True, slots=True)
class TrialJob:
    """What is to be tried on one collection, with the shapes that read or write it."""

    info: CollectionInfo
    chosen: tuple[Candidate, ...]
    alternatives: tuple[Candidate, ...]
    removals: tuple[Removal, ...]
    shapes: tuple[WorkloadShape, ...]


def jobs_of(
    workload: Sequence[WorkloadShape],
    collections: Mapping[str, CollectionInfo],
    proposal: Proposal,
    namespaces_of: Callable[[WorkloadShape], Iterable[str]],
) -> list[TrialJob]:
    """The proposal by collection, most gain first.

    Args:
        namespaces_of: the collections that a shape reads or writes, its own first.
    """
    by_namespace: dict[str, list[WorkloadShape]] = {}
    for shape in workload:
        for namespace in dict.fromkeys(namespaces_of(shape)):
            by_namespace.setdefault(namespace, []).append(shape)
    jobs = []
    for namespace, info in collections.items():
        job = TrialJob(
            info,
            tuple(c for c in proposal.chosen if c.spec.namespace == namespace),
            tuple(c for c in proposal.alternatives if c.spec.namespace == namespace),
            tuple(r for r in proposal.removals if r.index.spec.namespace == namespace),
            tuple(by_namespace.get(namespace, ())),
        )
        # Without a query there is nothing that a trial could show.
        if job.shapes and (job.chosen or job.alternatives or job.removals):
            jobs.append(job)
    jobs.sort(key=lambda job: -sum(c.gain_s for c in job.chosen))
    return jobs


def try_collection(
    scratch: Scratch,
    name: str,
    job: TrialJob,
    sample: Sample,
    effort: Effort,
    rules: Rules,
    stop: Stop,
    note: Callable[[str], Any],
) -> dict[str, Trial]:
    """Tries everything proposed for one collection.

    Args:
        scratch: where. name: of the copy there.
        note: told what could not be tried, one line each.

    Returns:
        Trials by the id of candidate or removal.
    """
    copy = TrialCollection(scratch.database, name, job.info, stop)
    try:
        copy.fill(sample)
        trials = _Trials(copy, job, sample, effort, rules, scratch, note).all()
    finally:
        copy.drop()
    for line in copy.notes:
        note(line)
    return trials


class _Trials:
    def __init__(
        self,
        copy: TrialCollection,
        job: TrialJob,
        sample: Sample,
        effort: Effort,
        rules: Rules,
        scratch: Scratch,
        note: Callable[[str], Any],
    ) -> None:
        self._copy = copy
        self._job = job
        self._sample = sample
        self._effort = effort
        self._rules = rules
        self._scratch = scratch
        self._note = note
        self._questions: dict[str, tuple[Question, ...]] = {}
        self._base: _States = {}
        self._now: _States = {}
        self._trials: dict[str, Trial] = {}
        self._built: dict[str, Candidate] = {}  # by the index's name

    def all(self) -> dict[str, Trial]:
        """Everything, in the order in which one rests on the other."""
        self._ask()
        self._base = self._now = self._run()
        self._note_what_is_no_evidence()
        self._try_chosen()
        self._try_alternatives()
        self._measure()
        for removal in self._job.removals:
            self._try_removal(removal)
        return self._trials

    def _ask(self) -> None:
        documents = self._sample.decoded(self._effort.documents_for_values)
        for shape in self._job.shapes:
            questions = questions_of(shape, self._job.info, documents, self._effort.value_sets)
            if questions.note is not None:
                self._note(questions.note)
            if questions.asked:
                self._questions[shape.id] = questions.asked

    def _note_what_is_no_evidence(self) -> None:
        texts = {shape.id: shape.text for shape in self._job.shapes}
        for shape, runs in self._base.items():
            answered = [run for run in runs if run is not None]
            if not answered:
                self._note(f"{texts[shape]}: not verifiable here, explain is refused")
            elif not any(run.trusted for run in answered):
                self._note(f"{texts[shape]}: not verifiable here, its explain counts wrongly")

    def _run(self, shapes: Iterable[str] | None = None) -> _States:
        self._scratch.check()
        wanted = self._questions
        if shapes is not None:
            wanted = {shape: wanted[shape] for shape in shapes}
        return self._copy.run(wanted)

    def _trial(self, change: str, before: Runs, after: Runs, index: str | None) -> Trial:
        return Trial(
            change=change,
            shapes=trial_shapes(before, after, index),
            documents=self._sample.documents,
        )

    def _try_chosen(self) -> None:
        """All of them beside each other, as they would be; then each is left out once."""
        for candidate in self._job.chosen:
            self._build(candidate)
        if not self._built:
            return
        self._now = self._run()
        for name, candidate in list(self._built.items()):
            if not shapes_using(self._now, name):
                self._trials[candidate.id] = self._trial(candidate.id, self._base, self._now, name)
                self._unbuild(name)
        if len(self._built) > 1:
            self._leave_out_each()
        for name, candidate in list(self._built.items()):
            trial = self._trial(candidate.id, self._base, self._now, name)
            self._trials[candidate.id] = trial
            if not is_worth(trial, self._rules):
                self._unbuild(name)
                self._now = {**self._now, **self._run(shapes_using(self._now, name))}

    def _leave_out_each(self) -> None:
        """An index whose shapes are served as well by the others is not worth its price."""
        for name, candidate in sorted(self._built.items(), key=lambda item: item[1].gain_s):
            shapes = shapes_using(self._now, name)
            self._copy.hide(name, True)
            without = {**self._now, **self._run(shapes)}
            trial = self._trial(candidate.id, without, self._now, name)
            if is_worth(trial, self._rules):
                self._copy.hide(name, False)
                continue
            self._trials[candidate.id] = trial
            self._unbuild(name)
            self._now = without

    def _try_alternatives(self) -> None:
        """Further candidates for the shapes of those that failed, one by one, best first."""
        built = {candidate.id for candidate in self._built.values()}
        served = {shape for c in self._built.values() for shape in c.shapes}
        open_shapes = {
            shape for c in self._job.chosen if c.id not in built for shape in c.shapes
        } - served
        for candidate in self._job.alternatives:
            if not open_shapes.intersection(candidate.shapes):
                continue
            name = self._build(candidate)
            if name is None:
                continue
            after = self._run()
            trial = self._trial(candidate.id, self._now, after, name)
            self._trials[candidate.id] = trial
            if is_worth(trial, self._rules):
                self._now = after
                open_shapes.difference_update(candidate.shapes)
            else:
                self._unbuild(name)

    def _build(self, candidate: Candidate) -> str | None:
        if candidate.unhides is not None:
            self._copy.hide(candidate.unhides, False)
            self._built[candidate.unhides] = candidate
            return candidate.unhides
        name, error = self._copy.build(candidate.spec)
        if error is not None:
            self._trials[candidate.id] = Trial(
                candidate.id, documents=self._sample.documents, error=error
            )
            return None
        self._built[name] = candidate
        return name

    def _unbuild(self, name: str) -> None:
        candidate = self._built.pop(name)
        if candidate.unhides is not None:
            self._copy.hide(name, True)
        else:
            self._copy.drop_index(name)

    def _measure(self) -> None:
        """The price of each index that stays: bytes per document, time per insert."""
        if not self._built:
            return
        sizes = self._copy.index_sizes()
        specs = [candidate.spec for candidate in self._built.values()]
        times = self._copy.insert_times(
            self._sample, specs, self._effort.inserts, self._effort.rounds
        )
        documents = self._sample.documents
        for number, (name, candidate) in enumerate(self._built.items(), 1):
            self._trials[candidate.id] = replace(
                self._trials[candidate.id],
                insert_us_before=times[0] if times else None,
                insert_us_after=times[number] if times else None,
                index_bytes_per_document=(
                    sizes[name] / documents if name in sizes and documents else None
                ),
            )

    def _try_removal(self, removal: Removal) -> None:
        """Without it, beside what stays. One that does no harm stays away from then on."""
        candidates = {candidate.id for candidate in self._built.values()}
        if not self._questions:
            return
        if removal.candidate is not None and removal.candidate not in candidates:
            return
        name = removal.index.spec.name
        if name is None or removal.index.spec.hidden:
            # A hidden index already serves nobody.
            self._trials[removal.id] = self._trial(removal.id, self._now, self._now, None)
            return
        self._copy.hide(name, True)
        # A plan that does not use an index is the same without it.
        after = {**self._now, **self._run(shapes_using(self._now, name))}
        trial = self._trial(removal.id, self._now, after, None)
        self._trials[removal.id] = trial
        if is_harmless(trial):
            self._now = after
        else:
            self._copy.hide(name, False)
