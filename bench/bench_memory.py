"""What kept answers take, by tracemalloc, and whether the store counts as much.

Budget (DESIGN section 9): at most the BSON's size, 600 bytes an entry and 150 for each result
`_id`, everything counted. core/store.py counts ENTRY_BYTES and ID_BYTES for an entry beside its
bytes: the last column says what they would have to be.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import bson
from bson import ObjectId
from rich.console import Console

from bench.interleaved import Budget, Effort, Table, number, show
from bench.kept import NAMESPACE, Kept
from bench.subjects import document
from qbmongo.core.store import ENTRY_BYTES, ID_BYTES
from qbmongo.records import ReadOp

ENTRIES = 100_000
BLOCK = 20


class _Weight(NamedTuple):
    """Bytes of one entry: what tracemalloc saw, and what the store counted."""

    traced: float
    counted: float
    bson: int
    ids: int

    @property
    def beside(self) -> float:
        """What it takes beside its documents' BSON."""
        return self.traced - self.bson


def tables(uri: str, effort: Effort) -> Iterator[Table]:
    """Every table of this module."""
    yield memory(ENTRIES)


def _point(_: int) -> tuple[ReadOp, bytes]:
    identity = ObjectId()
    op = ReadOp("find_one", NAMESPACE, {"_id": identity}, None, None, 0, -1)
    return op, bson.encode(document(identity))


def _by_number(number: int) -> tuple[ReadOp, bytes]:
    op = ReadOp("find_one", NAMESPACE, {"_id": number}, None, None, 0, -1)
    return op, bson.encode(document(number))


def _block(number: int) -> tuple[ReadOp, bytes]:
    op = ReadOp("find", NAMESPACE, {"group": number})
    return op, b"".join(bson.encode(document(ObjectId(), number)) for _ in range(BLOCK))


def _count(number: int) -> tuple[ReadOp, bytes]:
    return ReadOp("count_documents", NAMESPACE, {"group": number}), bson.encode({"v": number})


def memory(entries: int) -> Table:
    """Point reads, finds of 20 documents, and counts."""
    weights = {
        "find_one by ObjectId": _weigh(_point, entries, 1),
        "find_one by number": _weigh(_by_number, entries, 1),
        f"find of {BLOCK} documents": _weigh(_block, max(entries // 10, 100), BLOCK),
        "count_documents": _weigh(_count, entries, 0),
    }
    rows = []
    budgets = []
    for name, weight in weights.items():
        limit = weight.bson + 600 + 150 * weight.ids
        rows.append(
            (
                name,
                number(weight.bson),
                number(weight.traced),
                number(weight.counted),
                f"{weight.counted / weight.traced:.2f}x",
                number(weight.beside),
            )
        )
        budgets.append(Budget(f"memory, {name}", limit, weight.traced, "bytes"))
    # Two equations: an entry with BLOCK `_id`s and one with a single one.
    one, many = weights["find_one by ObjectId"], weights[f"find of {BLOCK} documents"]
    key_bytes = one.counted - one.bson - ENTRY_BYTES - ID_BYTES
    per_id = (many.beside - one.beside) / (BLOCK - 1)
    return Table(
        f"memory of an entry, {entries:,} entries",
        ("answer", "BSON", "traced", "counted", "counted / traced", "beside the BSON"),
        rows,
        note=f"A further result _id takes {per_id:.0f} bytes (ID_BYTES is {ID_BYTES}); a point read"
        f" beside BSON, key and one _id {one.beside - key_bytes - per_id:.0f}"
        f" (ENTRY_BYTES is {ENTRY_BYTES}).",
        budgets=tuple(budgets),
    )


def _weigh(make: Callable[[int], tuple[ReadOp, bytes]], entries: int, ids: int) -> _Weight:
    """Keeps so many entries; what the first thousand leave behind once is not theirs."""
    kept = Kept()
    for i in range(1_000):
        kept.keep_data(*make(-1 - i))
    size = len(make(0)[1])
    gc.collect()
    tracemalloc.start()
    try:
        counted_before = kept.cache.store.bytes
        before = tracemalloc.get_traced_memory()[0]
        for i in range(entries):
            kept.keep_data(*make(i))
        gc.collect()
        traced = tracemalloc.get_traced_memory()[0] - before
        counted = kept.cache.store.bytes - counted_before
    finally:
        tracemalloc.stop()
    if len(kept) != entries + 1_000:
        raise RuntimeError(f"{len(kept)} entries are kept")
    return _Weight(traced / entries, counted / entries, size, ids)


def test_memory(capsys: Any) -> None:
    table = memory(10_000)
    with capsys.disabled():
        show([table], Console())
