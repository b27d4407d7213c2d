"""Lanes, batches and settlement, in interleavings that a fake driver and a fake server explore.

Every operation is applied at most once; what its caller is told is what its single call would have
given at that place of the server's order, or that nobody knows. QBMONGO_JOINED_OPERATIONS sets
how many operations are made (200,000 in the long run), QBMONGO_JOINED_OPERATIONS_SEED where the
runs begin.
"""

from __future__ import annotations

import os
import sys

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qbmongo_tests.core.joining.explorer import Report, explore, run_once
from qbmongo_tests.core.machine.choices import Choices

OPERATIONS = int(os.environ.get("QBMONGO_JOINED_OPERATIONS", "8000"))
SEED = int(os.environ.get("QBMONGO_JOINED_OPERATIONS_SEED", "0"))


def test_every_caller_is_told_what_its_single_call_would_have_given() -> None:
    report = explore(OPERATIONS, SEED, Report())
    sys.stdout.write(
        f"\n{report.operations} operations in {report.runs} runs: {dict(report.counts)}\n"
    )
    assert report.operations >= OPERATIONS
    # What is never exercised is not shown.
    for what in (
        *("done", "failed", "concern", "alone", "unknown", "cancelled in time"),
        *("cancelled too late", "retried", "failovers", "overdue", "no space", "flushes"),
    ):
        assert report.counts[what] > 0, what
    assert report.counts["joined"] > OPERATIONS / 4


@given(st.binary(min_size=2_000, max_size=4_000))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_on_any_tape_of_decisions(tape: bytes) -> None:
    run_once(Choices(tape=tape), Report(), operations=40)
