"""The engine against contracts 1 and 2, in interleavings that a fake world explores.

QBMONGO_MACHINE_READS sets how many reads are checked (1,000,000 in the long run; 50,000 with
CI=true; 8,000 otherwise), QBMONGO_MACHINE_SEED where the runs begin.
"""

from __future__ import annotations

import os
import sys

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qbmongo_tests.core.machine.choices import Choices
from qbmongo_tests.core.machine.explorer import Report, explore, run_once

_ORDINARY = 50_000 if os.environ.get("CI") == "true" else 8_000
READS = int(os.environ.get("QBMONGO_MACHINE_READS", _ORDINARY))
SEED = int(os.environ.get("QBMONGO_MACHINE_SEED", "0"))
OFTEN = (
    *("hits", "joins", "fills", "spared", "refused overtaken", "dropped event", "joined reads"),
    *("joins without a ticket", "lone reads without a ticket"),
)
RARELY = ("fallbacks",)


def test_no_read_is_older_than_the_contracts_allow() -> None:
    report = explore(READS, SEED, Report())
    sys.stdout.write(
        f"\n{report.reads} reads in {report.runs} runs of {report.steps} steps:"
        f" {dict(report.counts)}\n"
    )
    assert report.reads >= READS
    # What is never exercised is not shown.
    for what in OFTEN if READS < 50_000 else (*OFTEN, *RARELY):
        assert report.counts[what] > 0, what


@given(st.binary(min_size=4_000, max_size=8_000))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_read_is_older_on_any_tape_of_decisions(tape: bytes) -> None:
    run_once(Choices(tape=tape), Report())
