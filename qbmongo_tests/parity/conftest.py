"""Reports of the parity runs, printed at the end: steps, calls, and calls by method."""

from __future__ import annotations

from typing import Any

import pytest

from qbmongo_tests.parity.harness import Report

_REPORTS = pytest.StashKey[dict[str, Report]]()


@pytest.fixture(scope="session")
def parity_report(request: pytest.FixtureRequest) -> dict[str, Report]:
    """Reports by the name of the run; what is put here is printed at the end."""
    return request.config.stash.setdefault(_REPORTS, {})


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    reports = config.stash.get(_REPORTS, {})
    if not reports:
        return
    terminalreporter.section("parity")
    for name, report in reports.items():
        calls, errors = report.calls.total(), report.errors.total()
        terminalreporter.write_line(
            f"{name}: {report.steps} steps, {report.examples} examples, {calls} calls compared"
            f" ({errors} of them exceptions){_rewritten(report)}"
        )
        if config.getoption("verbose") > 0:
            for method, count in sorted(report.calls.items()):
                terminalreporter.write_line(f"    {method:45} {count:7}")


def _rewritten(report: Report) -> str:
    return f", {report.rewritten.calls} of them rewritten" if report.rewritten else ""
