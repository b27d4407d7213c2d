"""Each workload of the catalogue gets its known best answer, from figures alone."""

from __future__ import annotations

import sys

import pytest

from .catalogue import CASES, Score, differences
from .workloads import Case, advise_purely


@pytest.fixture(scope="module")
def score() -> Score:
    """Everything that the tests of this module compare."""
    return Score()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_advice_is_the_known_answer(case: Case, score: Score) -> None:
    found, right, recommended = differences(case, advise_purely(case))
    score.add(case, found, right, recommended)
    assert found == []


def test_precision_and_recall(score: Score, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs after the others, and prints what they found."""
    if score.cases < len(CASES):  # run alone
        score = Score()
        for case in CASES:
            score.add(case, *differences(case, advise_purely(case)))
    with capsys.disabled():
        sys.stdout.write(f"\ncatalogue, nothing tried: {score}\n")
    assert score.wrong == []


def test_the_catalogue_is_large_and_told_apart() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
