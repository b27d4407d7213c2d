"""A collection, shapes and candidates to try, without a profile or a proposal in between."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import bson

from qbmongo.advisor.records import (
    Candidate,
    CollectionInfo,
    ExistingIndex,
    IndexSpec,
    Keys,
    Removal,
    RemovalKind,
    WorkloadShape,
)
from qbmongo.advisor.samples import Sample
from qbmongo.core.shape_forms import shape_form, shape_id, shape_text
from qbmongo.core.shapes import read_shape, write_shape
from qbmongo.records import ReadOp, WriteOp

NAMESPACE = "shop.orders"
_MIB = 1 << 20


def orders(count: int = 600) -> list[dict[str, Any]]:
    draw = random.Random(11)
    return [
        {
            "_id": i,
            "customer": draw.randrange(100),
            "status": draw.choice(["new", "paid", "sent"]),
            "total": draw.randrange(10_000),
            "at": i,
            "tags": [draw.choice("abcdef") for _ in range(2)],
        }
        for i in range(count)
    ]


def sample_of(documents: Iterable[Mapping[str, Any]]) -> Sample:
    sample = Sample(32 * _MIB)
    for document in documents:
        sample.add(bson.encode(document), bson.encode({"_id": document["_id"]}))
    return sample


def reading(kind: str, filter: Any = None, calls: int = 10, **parts: Any) -> WorkloadShape:
    """A shape of reads that had these values; none is kept."""
    op = ReadOp(kind=kind, namespace=NAMESPACE, filter=filter, **parts)  # type: ignore[arg-type]
    form = shape_form(read_shape(op))
    return WorkloadShape(shape_id(form), form, shape_text(form), calls, total_s=calls * 0.01)


def writing(kind: str, filter: Any, document: Any = None, calls: int = 10) -> WorkloadShape:
    op = WriteOp(kind=kind, namespace=NAMESPACE, filter=filter, document=document)  # type: ignore[arg-type]
    form = shape_form(write_shape(op))
    return WorkloadShape(shape_id(form), form, shape_text(form), calls, total_s=calls * 0.01)


def index(*keys: Any, namespace: str = NAMESPACE, **options: Any) -> IndexSpec:
    pairs: Keys = tuple(key if isinstance(key, tuple) else (key, 1) for key in keys)
    return IndexSpec(namespace, pairs, **options)


def candidate(
    spec: IndexSpec, *shapes: WorkloadShape, gain_s: float = 1.0, **more: Any
) -> Candidate:
    keys = "_".join(f"{path}_{way}" for path, way in spec.keys)
    return Candidate(keys, spec, tuple(s.id for s in shapes), gain_s=gain_s, **more)


def removal(spec: IndexSpec, kind: RemovalKind = "prefix", **more: Any) -> Removal:
    return Removal(f"remove {spec.name}", ExistingIndex(spec), kind, **more)


def collection(
    *specs: IndexSpec, options: Mapping[str, Any] | None = None, count: int = 600
) -> CollectionInfo:
    """Facts of a collection with these indexes, named as given."""
    own = IndexSpec(NAMESPACE, (("_id", 1),), name="_id_")
    return CollectionInfo(
        NAMESPACE,
        options=options or {},
        count=count,
        indexes=tuple(ExistingIndex(spec) for spec in (own, *specs)),
    )


def ids(shapes: Sequence[WorkloadShape]) -> set[str]:
    return {shape.id for shape in shapes}
