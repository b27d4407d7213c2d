"""Each workload of the catalogue gets its known best answer, from figures alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest

from qbmongo.advisor.records import WorkloadShape

from . import workloads
from .catalogue import CASES, Score, differences
from .workloads import Case, Query, advise_purely, shapes_of


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


#: What a profile without values cannot tell, by case.
_NEEDS_VALUES = {
    "a constant that few documents have, among many writes",  # that it is constant
    "a partial index that the query implies",  # that its filter is met
    "pages by skipping",  # how much is skipped
}


def test_a_profile_without_values_is_nearly_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_values(queries: Sequence[Query]) -> list[WorkloadShape]:
        return [replace(shape, commands=(), limits=(), skips=()) for shape in shapes_of(queries)]

    monkeypatch.setattr(workloads, "shapes_of", without_values)
    other = {case.name for case in CASES if differences(case, advise_purely(case))[0]}
    assert other == _NEEDS_VALUES


def test_the_catalogue_is_large_and_told_apart() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
