"""Original and rewritten reads, both sent to the server, until so many pairs were compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pymongo.database import Database

from qbmongo.core.rewrite import Rewriter, Step
from qbmongo.core.trust import Facts
from qbmongo.records import ReadOp
from qbmongo_tests.rewrite.answers import Answer, ask, difference, is_open
from qbmongo_tests.rewrite.pipelines import PipelineReads
from qbmongo_tests.rewrite.reads import OTHER, Case

__all__ = ["Different", "Tally", "collections", "compare_pairs"]

# Client and server work at the same time.
_AT_ONCE = 4
_DOCUMENTS = 40
_CASES_PER_COLLECTION = 600
_INDEXED = ("a", "b", "a.b")
# What is known of the collections, where something is.
_ORDINARY = Facts(None, True)


class _Pair(NamedTuple):
    case: Case
    rewritten: ReadOp
    steps: tuple[Step, ...]


class Different(AssertionError):
    """A rewritten read has another answer than the one that was written."""


@dataclass
class Tally:
    """What was compared. fired: pairs in which each rule had a part; refused: pairs of errors;
    untold: pairs of which the server cannot answer one, or that may differ although both are right.
    """

    pairs: int = 0
    reads: int = 0
    refused: int = 0
    untold: int = 0
    fired: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        fired = ", ".join(f"{name} {count:,}" for name, count in sorted(self.fired.items()))
        reads = f"{self.pairs:,} pairs of {self.reads:,} reads, {self.refused:,} of them errors"
        return f"{reads}, {self.untold:,} not told; {fired}"


def collections(database: Database[Any], seed: int) -> Iterator[PipelineReads]:
    """Collections one after the other, every second one with indexes; each dropped at the next."""
    while True:
        name = f"c{seed}"
        generate = PipelineReads(seed, f"{database.name}.{name}")
        documents = generate.documents(_DOCUMENTS)
        collection = database[name]
        if seed % 2:
            # secantusd-rs has no index of undefined values; the last documents hold them.
            del documents[_DOCUMENTS - 3 :]
            for path in _INDEXED:
                collection.create_index([(path, 1)])
        collection.insert_many(documents)
        database[OTHER].drop()
        database[OTHER].insert_many(
            [{**generate.document(number), "k": generate.value(1)} for number in range(8)]
        )
        yield generate
        collection.drop()
        seed += 1


def compare_pairs(
    database: Database[Any],
    rewriter: Rewriter,
    pairs: int,
    seed: int,
    *,
    new_case: Callable[[PipelineReads], Case] = PipelineReads.case,
) -> Tally:
    """Compares answers until there were so many pairs.

    Args:
        database: where collections are made.
        rewriter: the rules; every other read is made with the facts of its collection known.
        pairs: how many rewritten reads to compare.
        seed: the first collection's; each next one has the next seed.
        new_case: draws a read; by default one of any kind.

    Returns:
        What was compared.

    Raises:
        Different: two answers are not both right.
    """
    tally = Tally()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for generate in collections(database, seed):
            drawn = _drawn(generate, rewriter, pairs, tally, new_case)
            asked = pool.map(lambda pair: _answers(database, pair), drawn)
            for pair, (answer, other) in zip(drawn, asked, strict=True):
                if answer != other and is_open(database, pair.case, answer, other):
                    tally.untold += 1
                    continue
                tally.refused += answer.code is not None
                found = difference(database, pair.case, answer, other)
                if found is not None:
                    raise Different(_told(generate.collection, pair, found))
            if tally.pairs >= pairs:
                return tally
    raise AssertionError("there is always another collection")


def _drawn(
    generate: PipelineReads,
    rewriter: Rewriter,
    pairs: int,
    tally: Tally,
    new_case: Callable[[PipelineReads], Case],
) -> list[_Pair]:
    """The rewritten reads among those drawn for one collection."""
    drawn = []
    for _ in range(_CASES_PER_COLLECTION):
        if tally.pairs >= pairs:
            break
        case = new_case(generate)
        tally.reads += 1
        rewritten, steps = rewriter.rewrite(case.op, _ORDINARY if tally.reads % 2 else None)
        if steps:
            tally.pairs += 1
            tally.fired.update({step.rule.name for step in steps})
            drawn.append(_Pair(case, rewritten, steps))
    return drawn


def _answers(database: Database[Any], pair: _Pair) -> tuple[Answer, Answer]:
    return ask(database, pair.case.op), ask(database, pair.rewritten)


def _told(collection: str, pair: _Pair, found: str) -> str:
    rules = ", ".join(step.rule.name for step in pair.steps)
    op = pair.case.op
    return (
        f"collection {collection}, {op.kind} by {rules}: {found[:2_000]}\n"
        f"  written:   {_shown(op)}\n  rewritten: {_shown(pair.rewritten)}"
    )


def _shown(op: ReadOp) -> str:
    parts = {name: getattr(op, name) for name in ("pipeline", "key", "sort", "skip", "limit")}
    rest = {name: value for name, value in parts.items() if value}
    return f"{op.filter if op.pipeline is None else ''} {rest} {op.options or ''}"
