"""What a workload's writes would pay for an index."""

from __future__ import annotations

from collections.abc import Sequence

from .cost import CostModel
from .records import IndexSpec, WorkloadShape

__all__ = ["WriteLoad"]

_INSERTS = frozenset({"insert_one", "insert_many"})
_DELETES = frozenset({"delete_one", "delete_many", "find_one_and_delete"})
_REPLACES = frozenset({"replace_one", "find_one_and_replace"})
_UPDATES = frozenset({"update_one", "update_many", "find_one_and_update"})


class WriteLoad:
    """The documents written to one collection, by what is touched.

    Args:
        model: of the collection.
        shapes: of the workload; reads are passed over.
        namespace: of the collection.
    """

    def __init__(self, model: CostModel, shapes: Sequence[WorkloadShape], namespace: str) -> None:
        self._model = model
        self._whole = 0.0  # keys written once for each document inserted or deleted
        self._updated: list[tuple[frozenset[str] | None, float]] = []
        for shape in shapes:
            if shape.namespace == namespace:
                self._add(shape)

    def _add(self, shape: WorkloadShape) -> None:
        operation = shape.operation
        documents = float(shape.documents or shape.calls)
        if operation in _INSERTS or operation in _DELETES:
            self._whole += documents
        elif operation in _REPLACES:
            self._updated.append((None, documents))
        elif operation in _UPDATES:
            fields = shape.shape.get("update") or {}
            touched = frozenset(name for names in fields.values() for name in names)
            self._updated.append((touched, documents))
        elif operation == "bulk_write":
            kinds = {request["kind"] for request in shape.shape.get("requests", ())}
            inserts = any("nsert" in kind or "elete" in kind for kind in kinds)
            if inserts:
                self._whole += documents
            else:
                self._updated.append((None, documents))

    def documents(self, spec: IndexSpec) -> float:
        """Entries of the index that would be written. An update of a key writes two.

        What a bulk write or a replacement changes is not known; half of them count.
        """
        written = self._whole
        roots = {path.partition(".")[0] for path, _ in spec.keys}
        roots.update(path.partition(".")[0] for path in spec.partial_filter or ())
        for touched, documents in self._updated:
            if touched is None:
                written += documents
            elif touched & roots:
                written += 2 * documents
        return written

    def seconds(self, spec: IndexSpec) -> float:
        return self._model.write_us(spec, self.documents(spec)) / 1e6
