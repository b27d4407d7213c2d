"""The advisor from end to end: read, propose, try, conclude."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from .accesses import accesses_of, paths_of
from .collect import ClientFactory, DatabaseRefusedError, Limits, ServerReader, connect
from .conclusions import conclude
from .inputs import merge_workloads
from .interruption import Deadline, Stop, TimeUpError
from .observed_values import filters_of
from .places import Place, VerifyOn, note_left_behind, open_place
from .profiler_documents import from_profiler
from .queries import split_namespace
from .records import (
    CollectionInfo,
    CollectionStatistics,
    Proposal,
    Rules,
    Trial,
    Verification,
    WorkloadShape,
)
from .report import Inputs, Report
from .samples import Sample
from .scratch import ScratchLostError
from .selection import propose
from .sources import Source, seen_between
from .trial_collection import reason_of
from .verify import Effort, TrialJob, jobs_of, try_collection

__all__ = ["Options", "Progress", "advise"]

_MAX_STRATA = 20  # kept filters of one collection whose documents are looked for


class Progress(Protocol):
    """Told how far the work is; called in the thread that works."""

    def __call__(self, step: str, done: int, total: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """What to advise on and how.

    databases: names; none: those of the workload, or all. time_limit_s: after it nothing more is
    tried, and the report says so. system_profile: read the profiler's collections of the
    databases; None: only where there is no other workload.
    """

    databases: tuple[str, ...] = ()
    verify_on: VerifyOn = field(default_factory=VerifyOn)
    time_limit_s: float | None = None
    system_profile: bool | None = None
    limits: Limits = field(default_factory=Limits)
    effort: Effort = field(default_factory=Effort)
    rules: Rules = field(default_factory=Rules)


def advise(
    factory: ClientFactory,
    sources: Sequence[Source],
    options: Options,
    stop: Stop,
    progress: Progress | None = None,
) -> Report:
    """Advice for a deployment.

    Reads only, and tries in a scratch database that is dropped at the end; see
    `qbmongo.advisor.scratch`. To be run by `interruption.Work`, so that no signal cuts it short.

    Args:
        factory: makes plain synchronous clients with the user's options and the given ones added.
        sources: the workload; none: only what the server itself can tell.
        options: see Options.
        stop: asked to stop, it cleans up and raises StoppedError.
        progress: told of each step.

    Raises:
        ServerUnreadableError: the server cannot be reached or read.
        AdvisorInputError: the server named for trying cannot be used.
        StoppedError: it was asked to stop.
    """
    return _Advice(factory, sources, options, stop, progress).report()


class _Advice:
    def __init__(
        self,
        factory: ClientFactory,
        sources: Sequence[Source],
        options: Options,
        stop: Stop,
        progress: Progress | None,
    ) -> None:
        self._factory = factory
        self._sources = list(sources)
        self._options = options
        self._stop = stop
        self._progress = progress
        self._began_s = monotonic()
        self._notes: list[str] = []
        self._collections: dict[str, CollectionInfo] = {}
        self._statistics: dict[str, CollectionStatistics] = {}
        self._samples: dict[str, Sample] = {}
        self._refused: dict[str, DatabaseRefusedError] = {}

    def report(self) -> Report:
        with ExitStack() as stack:
            client = stack.enter_context(connect(self._factory))
            reader = ServerReader(
                client, self._factory, self._options.limits, self._stop, self._note
            )
            stack.callback(reader.close)
            stack.callback(self._forget_samples)
            workload = self._read_workload(reader)
            self._read_collections(reader, workload)
            # A shape of a collection that is gone can be served by nothing.
            self._read_samples(reader, workload)
            rules = self._options.rules
            proposal = propose(
                workload, self._collections, self._statistics, rules, now_s=time.time()
            )
            verification = self._verify(client, workload, proposal)
            inputs = self._inputs(workload, reader, verification)
            return conclude(
                workload,
                self._collections,
                proposal,
                verification,
                inputs,
                rules,
            )

    def _note(self, line: str) -> None:
        if line not in self._notes:
            self._notes.append(line)

    def _step(self, step: str, done: int, total: int) -> None:
        self._stop.check()
        if self._progress is not None:
            self._progress(step, done, total)

    def _forget_samples(self) -> None:
        for sample in self._samples.values():
            sample.close()
        self._samples.clear()

    def _read_workload(self, reader: ServerReader) -> list[WorkloadShape]:
        wanted = self._options.system_profile
        if wanted or (wanted is None and not self._sources):
            for database in reader.databases(self._options.databases):
                self._step("reading the profiler", 0, 1)
                try:
                    has_profiler = reader.has_profiler(database)
                except DatabaseRefusedError:
                    continue  # as its collections: noted there
                if has_profiler:
                    documents = reader.profiler_documents(database)
                    shapes = from_profiler(documents)
                    name = f"{database}.system.profile, {len(documents):,} operations"
                    self._sources.append(Source(name, shapes, *seen_between(shapes)))
        workload = merge_workloads(*(source.shapes for source in self._sources))
        databases = self._options.databases
        return [
            shape
            for shape in workload
            if "." in shape.namespace
            and (not databases or split_namespace(shape.namespace)[0] in databases)
            and not split_namespace(shape.namespace)[1].startswith("system.")
        ]

    def _read_collections(self, reader: ServerReader, workload: Sequence[WorkloadShape]) -> None:
        databases = list(self._options.databases)
        if not databases:
            databases = list(dict.fromkeys(split_namespace(s.namespace)[0] for s in workload))
        names = reader.databases(databases)
        for number, database in enumerate(names):
            self._step("reading indexes", number, len(names))
            try:
                infos = reader.collections(database)
            except DatabaseRefusedError as error:
                self._refused[database] = error
                self._note(f"the collections of {database} could not be read: {error}")
                continue
            for info in infos:
                self._collections[info.namespace] = info
        if names and len(self._refused) == len(names):
            raise self._refused[names[0]]
        self._step("reading indexes", len(names), len(names))

    def _read_samples(self, reader: ServerReader, workload: Sequence[WorkloadShape]) -> None:
        paths = self._paths(workload)
        filters: dict[str, list[Mapping[str, Any]]] = {}
        for shape in workload:
            filters.setdefault(shape.namespace, []).extend(filters_of(shape)[-2:])
        wanted = [n for n in paths if n in self._collections]
        for number, namespace in enumerate(wanted):
            self._step("sampling documents", number, len(wanted))
            info = self._collections[namespace]
            if info.kind != "collection":
                continue
            if self._is_late():
                self._note(f"{namespace}: no documents were sampled, the time limit was reached")
                continue
            sample, statistics = reader.sample(
                info, paths[namespace], filters.get(namespace, [])[:_MAX_STRATA]
            )
            self._samples[namespace] = sample
            self._statistics[namespace] = statistics
        self._step("sampling documents", len(wanted), len(wanted))

    def _paths(self, workload: Sequence[WorkloadShape]) -> dict[str, frozenset[str]]:
        """By namespace, what the sample is asked for: paths of queries and of indexes."""
        paths = paths_of(workload)
        for namespace, info in self._collections.items():
            specs = [index.spec for index in info.indexes]
            keys = {path for spec in specs for path, _ in spec.keys if not path.startswith("$")}
            # Two indexes beside that of _id may make each other redundant.
            if namespace in paths or len(specs) > 2:
                paths[namespace] = paths.get(namespace, frozenset()) | keys
        return paths

    def _verify(
        self, client: MongoClient[Any], workload: Sequence[WorkloadShape], proposal: Proposal
    ) -> Verification:
        jobs = jobs_of(workload, self._collections, proposal, _namespaces_of)
        jobs = [job for job in jobs if job.info.namespace in self._samples]
        on = self._options.verify_on
        if on.kind != "here":
            note_left_behind(client, self._note)
        if not jobs:
            return Verification(why_not="there was nothing to try")
        with open_place(on, client, self._note) as place:
            if place.scratch is None:
                return Verification(why_not=place.why_not)
            return self._try_all(place, jobs)

    def _try_all(self, place: Place, jobs: Sequence[TrialJob]) -> Verification:
        assert place.scratch is not None
        trials: dict[str, Trial] = {}
        why_not = None
        limit_s = self._options.time_limit_s
        deadline = Deadline(self._stop, None if limit_s is None else self._began_s + limit_s)
        for number, job in enumerate(jobs):
            self._step("trying indexes", number, len(jobs))
            sample = self._samples[job.info.namespace]
            try:
                trials.update(
                    try_collection(
                        place.scratch,
                        f"c{number}",
                        job,
                        sample,
                        self._options.effort,
                        self._options.rules,
                        deadline,
                        self._note,
                    )
                )
            except TimeUpError:
                why_not = (
                    f"the time limit of {limit_s:g} s was reached:"
                    f" {len(jobs) - number} of {len(jobs)} collections were not tried"
                )
                break
            except ScratchLostError as error:
                why_not = str(error)
                break
            except PyMongoError as error:
                self._note(f"{job.info.namespace}: nothing could be tried: {reason_of(error)}")
            sample.close()
            del self._samples[job.info.namespace]
        self._step("trying indexes", len(jobs), len(jobs))
        return Verification(place.where, trials, why_not)

    def _is_late(self) -> bool:
        limit_s = self._options.time_limit_s
        return limit_s is not None and monotonic() - self._began_s > limit_s

    def _inputs(
        self,
        workload: Sequence[WorkloadShape],
        reader: ServerReader,
        verification: Verification,
    ) -> Inputs:
        known = set(self._collections)
        gone = sorted({s.namespace for s in workload} - known)
        for namespace in gone:
            if namespace in reader.views:
                self._note(f"{namespace} is a view: it is left alone")
            elif split_namespace(namespace)[0] not in self._refused:
                self._note(f"{namespace} is in the workload and not on the server")
        starts = [s.started_s for s in self._sources if s.started_s is not None]
        ends = [s.ended_s for s in self._sources if s.ended_s is not None]
        return Inputs(
            sources=tuple(source.name for source in self._sources),
            namespaces=tuple(sorted(known)),
            shapes=len(workload),
            calls=sum(shape.calls for shape in workload),
            total_s=sum(shape.total_s for shape in workload),
            started_s=min(starts, default=0.0),
            ended_s=max(ends, default=0.0),
            sampled_documents=sum(s.sampled for s in self._statistics.values()),
            members=tuple(reader.members),
            where=verification.where,
            why_not=verification.why_not,
            elapsed_s=monotonic() - self._began_s,
            notes=tuple(self._notes),
        )


def _namespaces_of(shape: WorkloadShape) -> Iterable[str]:
    """The collections that a shape reads or writes, its own first."""
    return dict.fromkeys((shape.namespace, *(a.namespace for a in accesses_of(shape))))
