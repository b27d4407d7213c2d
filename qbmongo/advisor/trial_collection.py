"""A copy of one collection in the scratch database: indexes to try, questions to explain."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import PyMongoError

from .explains import Explained, ExplainError, read_explain
from .index_commands import creation_options
from .index_documents import default_name
from .interruption import Stop
from .queries import Question
from .records import CollectionInfo, IndexSpec
from .samples import RAW, READING, Sample
from .trial_plans import Run

__all__ = ["TrialCollection", "reason_of"]

MAX_TIME_MS = 20_000
_BATCH_DOCUMENTS = 500
_BATCH_BYTES = 8 << 20
# Options of a collection that decide how it is indexed or compared; others would refuse or remove
# documents of the sample (validators, caps) or mean nothing here.
_KEPT_OPTIONS = ("collation", "clusteredIndex")
# Where a server's message goes on with a command, or with a key or a document.
_COMMAND = re.compile(r"(to execute command) \{ *\"?(\w+).*")
_DOCUMENT = re.compile(r"(dup key|extract geo keys): ?\{.*")


class TrialCollection:
    """One collection's copy. Every method asks `stop` before a step that takes time.

    database: the scratch database. name: of the copy. info: the collection copied.
    notes: what of it could not be copied.
    """

    def __init__(
        self, database: Database[Any], name: str, info: CollectionInfo, stop: Stop
    ) -> None:
        self.name = name
        self.info = info
        self.notes: list[str] = []
        self._database = database
        self._collection: Collection[Any] = database[name]
        self._stop = stop
        self._expected: dict[int, tuple[Question, tuple[int, int]]] = {}

    def fill(self, sample: Sample) -> None:
        """Makes the copy, with the sample's documents and the indexes that the collection has."""
        self._create(self.name)
        for batch in _batches(sample.raws()):
            self._stop.check()
            self._collection.insert_many(batch, ordered=False)
        self._build_existing(self._collection, note=True)

    def drop(self) -> None:
        """Removes the copy."""
        self._database.drop_collection(self.name)

    def _command(self, command: dict[str, Any]) -> Mapping[str, Any]:
        """The server's answer, whatever values it shows."""
        answer: Mapping[str, Any] = self._database.command(command, codec_options=READING)
        return answer

    def _create(self, name: str) -> None:
        options = {k: v for k, v in self.info.options.items() if k in _KEPT_OPTIONS}
        if "clusteredIndex" in options:
            clustered = options["clusteredIndex"]
            options["clusteredIndex"] = {
                "key": {"_id": 1},
                "unique": True,
                **({"name": clustered["name"]} if "name" in clustered else {}),
            }
        self._command({"create": name, **options})

    def _build_existing(self, collection: Collection[Any], *, note: bool) -> None:
        for index in self.info.indexes:
            spec = index.spec
            if spec.clustered or [path for path, _ in spec.keys] == ["_id"]:
                continue
            error = self._build(collection, spec, spec.name or default_name(spec.keys))
            if error is not None and note:
                self.notes.append(
                    f"{self.info.namespace}: its index {spec.name} could not be built for trying:"
                    f" {error}"
                )

    def build(self, spec: IndexSpec) -> tuple[str, str | None]:
        """Builds one more index.

        Returns:
            (its name here, None), or (its name, why the server refused it).
        """
        name = spec.name or default_name(spec.keys)
        return name, self._build(self._collection, spec, name)

    def _build(self, collection: Collection[Any], spec: IndexSpec, name: str) -> str | None:
        self._stop.check()
        options = creation_options(spec, self.info)
        # Nothing must remove documents of the sample while they are needed.
        options.pop("expireAfterSeconds", None)
        keys = dict(spec.keys)
        if "_fts" in keys:
            # listIndexes shows a text index by what it is made of inside.
            fields = [(path, "text") for path in spec.weights or {}]
            keys = dict(
                pair
                for path, value in spec.keys
                for pair in (
                    fields if path == "_fts" else [] if path == "_ftsx" else [(path, value)]
                )
            )
            options.pop("textIndexVersion", None)
        try:
            self._command(
                {
                    "createIndexes": collection.name,
                    "indexes": [{"key": keys, "name": name, **options}],
                }
            )
        except PyMongoError as error:
            return reason_of(error)
        return None

    def drop_index(self, name: str) -> None:
        """Removes an index."""
        self._collection.drop_index(name)

    def hide(self, name: str, hidden: bool) -> None:
        """Hides an index from the planner, or shows it again."""
        self._stop.check()
        self._command({"collMod": self.name, "index": {"name": name, "hidden": hidden}})

    def run(self, shapes: Mapping[str, Sequence[Question]]) -> dict[str, list[Run | None]]:
        """Explains every question with the indexes there are now."""
        return {
            shape: [self._explain(question) for question in questions]
            for shape, questions in shapes.items()
        }

    def _explain(self, question: Question) -> Run | None:
        self._stop.check()
        operation = next(iter(question.command))
        command = {**question.command, operation: self.name}
        try:
            answer = self._command(
                {"explain": command, "verbosity": "executionStats", "maxTimeMS": MAX_TIME_MS}
            )
            explained = read_explain(answer)
            low, high = self._real(question)
        except (PyMongoError, ExplainError):
            return None
        return Run(explained, low <= _answered(question, explained) <= high)

    def _real(self, question: Question) -> tuple[int, int]:
        """Between which numbers the question's real answer lies; it does not depend on indexes."""
        known = self._expected.get(id(question))
        if known is None or known[0] is not question:
            known = self._expected[id(question)] = (question, self._count(question))
        return known[1]

    def _count(self, question: Question) -> tuple[int, int]:
        command = question.command
        collation = command.get("collation")
        filter = dict(question.filter or {})
        if question.expects in ("one", "many"):
            for statement in (*command.get("updates", ()), *command.get("deletes", ())):
                collation = statement.get("collation", collation)
            count = self._matching([{"$match": filter}], collation)
            return (min(count, 1),) * 2 if question.expects == "one" else (count, count)
        if question.expects == "distinct":
            distinct = self._command({**command, "distinct": self.name})
            # Plans return each value once, or each key or document.
            return len(distinct["values"]), 1 << 60
        if "pipeline" in command:
            pipeline = list(command["pipeline"])
            if question.expects == "count":
                pipeline = pipeline[:-1]
            count = self._matching(pipeline, collation)
        else:
            pipeline = [{"$match": filter}]
            if command.get("skip"):
                pipeline.append({"$skip": command["skip"]})
            if command.get("limit"):
                pipeline.append({"$limit": command["limit"]})
            count = self._matching(pipeline, collation)
        return count, count

    def _matching(self, pipeline: list[dict[str, Any]], collation: Any) -> int:
        counted = self._collection.aggregate(
            [*pipeline, {"$count": "n"}], collation=collation, maxTimeMS=MAX_TIME_MS
        )
        return next((int(answer["n"]) for answer in counted), 0)

    def index_sizes(self) -> dict[str, int]:
        """Bytes of each index by its name, as far as the server says."""
        try:
            stats = self._command({"collStats": self.name})
        except PyMongoError:
            return {}
        return {str(name): int(size) for name, size in stats.get("indexSizes", {}).items()}

    def insert_times(
        self, sample: Sample, specs: Sequence[IndexSpec], documents: int, rounds: int
    ) -> list[float]:
        """Microseconds per inserted document: with the existing indexes, then with one more each.

        Args:
            sample: its documents are inserted, into collections made for it.
            specs: indexes, each added alone to the existing ones.
            documents: how many to insert.
            rounds: how often; the arms take turns and the least of each is its time.
        """
        batches = list(_batches(islice(sample.raws(), documents)))
        count = sum(map(len, batches))
        least = [float("inf")] * (len(specs) + 1)
        name = f"{self.name}_inserts"
        for _ in range(rounds if count else 0):
            for arm in range(len(specs) + 1):
                self._stop.check()
                self._create(name)
                collection = self._database[name]
                try:
                    self._build_existing(collection, note=False)
                    if arm:
                        spec = specs[arm - 1]
                        self._build(collection, spec, spec.name or default_name(spec.keys))
                    began = time.perf_counter()
                    for batch in batches:
                        collection.insert_many(batch, ordered=False)
                    took = time.perf_counter() - began
                finally:
                    self._database.drop_collection(name)
                least[arm] = min(least[arm], took / count * 1e6)
        return least if count else []


def _answered(question: Question, explained: Explained) -> int:
    """What the explained plan says of its own answer, to be compared with the real one."""
    if question.expects == "documents":
        return explained.final
    # A grouped count ends in one document; what it counted is what its plan returned.
    return explained.returned


def _batches(raws: Iterable[bytes]) -> Iterable[list[RawBSONDocument]]:
    batch: list[RawBSONDocument] = []
    size = 0
    for raw in raws:
        if batch and (len(batch) == _BATCH_DOCUMENTS or size + len(raw) > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(RawBSONDocument(raw, RAW))
        size += len(raw)
    if batch:
        yield batch


def reason_of(error: Exception) -> str:
    """A driver's or server's error as one line, without values of documents and of commands."""
    details = getattr(error, "details", None)
    if isinstance(details, Mapping):
        # That of a bulk write would show the whole document.
        first = next(iter(details.get("writeErrors") or ()), details)
        text = first.get("errmsg") or type(error).__name__
    else:
        text = str(error)
    line = " ".join(str(text).split())
    return _COMMAND.sub(r"\1 \2", _DOCUMENT.sub(r"\1", line))[:300]
