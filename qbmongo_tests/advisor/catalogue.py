"""All workloads with known best answers, and how an advice is compared with them."""

from __future__ import annotations

from dataclasses import dataclass, field

from qbmongo.advisor.index_documents import keys_text, name_of_index
from qbmongo.advisor.records import IndexSpec
from qbmongo.advisor.report import Recommendation, Report

from . import catalogue_order, catalogue_sets, catalogue_shapes
from .workloads import Case, same_index

CASES: tuple[Case, ...] = (
    *catalogue_order.CASES,
    *catalogue_shapes.CASES,
    *catalogue_sets.CASES,
)


@dataclass
class Score:
    """Precision and recall over recommended and expected things."""

    cases: int = 0
    right: int = 0
    recommended: int = 0
    expected: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, case: Case, differences: list[str], right: int, recommended: int) -> None:
        self.cases += 1
        self.right += right
        self.recommended += recommended
        self.expected += len(case.create) + len(case.removals)
        self.wrong.extend(f"{case.name}: {difference}" for difference in differences)

    def __str__(self) -> str:
        precision = self.right / self.recommended if self.recommended else 1.0
        recall = self.right / self.expected if self.expected else 1.0
        return (
            f"{self.cases} workloads, precision {precision:.3f}, recall {recall:.3f}: "
            f"{self.right} right of {self.recommended} recommended and {self.expected} expected"
        )


def _is_wanted(item: Recommendation, spec: IndexSpec) -> bool:
    """A hidden one is to be unhidden, any other to be created."""
    action = "unhide" if spec.hidden else "create"
    return item.action == action and same_index(item.spec, spec)


def differences(case: Case, report: Report) -> tuple[list[str], int, int]:
    """What differs from the known answer, how many recommendations are right, and how many are."""
    found: list[str] = []
    created = [r for r in report.recommendations if r.action in ("create", "unhide")]
    removed = [r for r in report.recommendations if r.action in ("hide", "drop")]
    left = list(created)
    right = 0
    for wanted in case.create:
        match = next((r for r in left if any(_is_wanted(r, spec) for spec in wanted.any_of)), None)
        if match is None:
            found.append(f"missing {keys_text(wanted.any_of[0].keys)}")
        else:
            left.remove(match)
            right += 1
    found.extend(
        f"not wanted: {keys_text(r.spec.keys)} {r.spec.partial_filter or ''} {r.why}" for r in left
    )
    names = [(r.action, name_of_index(r.spec)) for r in removed]
    found.extend(f"missing {pair}" for pair in case.removals if pair not in names)
    found.extend(f"not wanted: {pair}" for pair in names if pair not in case.removals)
    right += sum(pair in case.removals for pair in names)
    kinds = {finding.kind for finding in report.findings}
    found.extend(f"missing finding {kind}" for kind in sorted(set(case.findings) - kinds))
    found.extend(f"finding not wanted: {kind}" for kind in sorted(kinds - set(case.findings)))
    return found, right, len(created) + len(removed)
