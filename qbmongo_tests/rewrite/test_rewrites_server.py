"""Every rewrite against the server: what was written and what is sent have the same answer.

The reference is the plain driver with the read as it was written. QBMONGO_PAIRS sets how
many pairs are compared and QBMONGO_PAIRS_SEED the first of the seeds, for long runs:

    QBMONGO_PAIRS=1000000 pytest qbmongo_tests/rewrite -k every_rewrite
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from pymongo.database import Database

from qbmongo.core.match import Matcher
from qbmongo.core.rewrite import RULES, Rewriter
from qbmongo_tests.rewrite.harness import Different, compare_pairs
from qbmongo_tests.rewrite.mutants import MUTANTS, mutated
from qbmongo_tests.rewrite.pipelines import PipelineReads

PAIRS = int(os.environ.get("QBMONGO_PAIRS", "20000"))
SEED = int(os.environ.get("QBMONGO_PAIRS_SEED", "0"))
# Pairs of one rule in a run of PAIRS, at least.
SHARE = 30


@pytest.mark.needs_index_correctness
def test_every_rewrite_has_the_answer_of_what_was_written(
    database: Database[dict[str, Any]], report: Callable[[object], None]
) -> None:
    tally = compare_pairs(database, Rewriter(), PAIRS, SEED)
    report(tally)
    fired = {rule.name: tally.fired[rule.name] for rule in RULES}
    assert min(fired.values()) >= min(PAIRS // SHARE, 1_000), fired
    assert tally.refused < PAIRS / 4
    assert tally.untold < PAIRS / 50


@pytest.mark.needs_index_correctness
@pytest.mark.parametrize("name", MUTANTS)
def test_a_rule_without_one_of_its_conditions_is_found_out(
    database: Database[dict[str, Any]], name: str
) -> None:
    """Within as many pairs of the rule as the run above compares."""
    with mutated(name) as rewriter, pytest.raises(Different):
        compare_pairs(database, rewriter, 20_000 // SHARE, 0)


def test_the_matcher_calls_no_rewritten_filter_another() -> None:
    """A second judge, which has nothing of the server's: yes to one is never no to the other."""
    rewriter = Rewriter()
    generate = PipelineReads(SEED, "x.c")
    told = compared = 0
    while compared < 1_500:
        documents = [generate.document(number) for number in range(12)]
        for _ in range(50):
            op = generate.filtered().op
            rewritten, steps = rewriter.rewrite(op, None)
            if op.pipeline is not None or not steps:
                continue
            compared += 1
            one, other = Matcher(op.filter), Matcher(rewritten.filter)
            for document in documents:
                truths = {one.matches(document), other.matches(document)}
                told += None not in truths
                assert truths != {True, False}, (op.filter, rewritten.filter, document)
    assert told > 1_500 * 6
