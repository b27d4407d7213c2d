"""Import time: each of our clients beside the driver's client it stands in for.

Budget (DESIGN section 9): at most 1.3 times the driver's. Each import runs in a new interpreter,
which times itself; the arms take turns. Bytecode is compiled before anything is measured.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console

from bench.interleaved import Budget, Effort, Measured, Table, compared, ratios, show

IMPORTS = {
    "sync": ("from pymongo import MongoClient", "from qbmongo import OptimizedMongoClient"),
    "async": (
        "from pymongo import AsyncMongoClient",
        "from qbmongo import OptimizedAsyncMongoClient",
    ),
    "motor": (
        "from motor.motor_asyncio import AsyncIOMotorClient",
        "from qbmongo import OptimizedClient",
    ),
}
_TIMED = """
import sys, time
wall_s, cpu_s = time.perf_counter(), time.process_time()
{}
print(time.perf_counter() - wall_s, time.process_time() - cpu_s)
"""


def tables(uri: str, effort: Effort) -> Iterator[Table]:
    """Every table of this module."""
    for kind in IMPORTS:
        yield import_time(kind, effort.rounds)


def import_time(kind: str, rounds: int) -> Table:
    """One client's import."""
    driver, ours = IMPORTS[kind]
    arms = {name: Measured(name) for name in (driver, ours)}
    for statement in arms:
        _import(statement)
    for round_ in range(rounds):
        for statement in (driver, ours) if round_ % 2 else (ours, driver):
            wall_us, cpu_us = _import(statement)
            arm = arms[statement]
            arm.wall_us.append(wall_us)
            arm.cpu_us.append(cpu_us)
            arm.process_us.append(cpu_us)
    by_cpu = arms[ours].cpu.median / arms[driver].cpu.median
    return compared(
        f"import ({kind})",
        arms,
        driver,
        note=f"Median of the rounds' wall ratios {ratios(arms[ours], arms[driver]).median:.2f},"
        f" CPU {by_cpu:.2f}.",
        budgets=(Budget(f"import ({kind}), CPU", 1.3, by_cpu, "x"),),
    )


def _import(statement: str) -> tuple[float, float]:
    """Wall and CPU microseconds of an import in an interpreter of its own."""
    ran = subprocess.run(
        [sys.executable, "-c", _TIMED.format(statement)], capture_output=True, text=True, check=True
    )
    wall_s, cpu_s = map(float, ran.stdout.split())
    return wall_s * 1e6, cpu_s * 1e6


def test_import(capsys: Any) -> None:
    shown = [import_time(kind, 5) for kind in IMPORTS]
    with capsys.disabled():
        show(shown, Console())
