"""Import time: each of our clients beside the driver's client it stands in for.

Budget (DESIGN section 9): at most 1.3 times the driver's. Each import runs in a new interpreter,
which times itself; the arms take turns. Bytecode is compiled before anything is measured, into a
folder of its own: where PYTHONDONTWRITEBYTECODE is set, ours would otherwise be compiled at every
import, and the driver's, which its installer compiled, would not.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from rich.console import Console

from bench.interleaved import Budget, Effort, Measured, Table, number, ratios, show

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
    arms = {statement: Measured(statement) for statement in IMPORTS[kind]}
    with tempfile.TemporaryDirectory() as bytecode:
        for statement in arms:
            _import(statement, bytecode)
        for round_ in range(rounds):
            for statement in sorted(arms, reverse=bool(round_ % 2)):
                wall_us, cpu_us = _import(statement, bytecode)
                arms[statement].wall_us.append(wall_us)
                arms[statement].cpu_us.append(cpu_us)
    driver, ours = arms.values()
    rows = [
        (
            arm.name,
            number(arm.wall.median / 1_000),
            number(arm.cpu.median / 1_000),
            number(min(arm.cpu_us) / 1_000),
        )
        for arm in (driver, ours)
    ]
    by_cpu = ours.cpu.median / driver.cpu.median
    by_wall = ratios(ours, driver).median
    return Table(
        f"import ({kind})",
        ("statement", "ms", "CPU ms", "least CPU ms"),
        rows,
        note=f"{by_wall:.2f}x by wall time, {by_cpu:.2f}x by CPU time,"
        f" {min(ours.cpu_us) / min(driver.cpu_us):.2f}x by the least of each.",
        budgets=(Budget(f"import ({kind}), CPU", 1.3, by_cpu, "x"),),
    )


def _import(statement: str, bytecode: str) -> tuple[float, float]:
    """Wall and CPU microseconds of an import in an interpreter of its own.

    bytecode: the folder for compiled modules.
    """
    environment = os.environ | {"PYTHONPYCACHEPREFIX": bytecode}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    ran = subprocess.run(
        [sys.executable, "-c", _TIMED.format(statement)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    wall_s, cpu_s = map(float, ran.stdout.split())
    return wall_s * 1e6, cpu_s * 1e6


def test_import(capsys: Any) -> None:
    shown = [import_time(kind, 5) for kind in IMPORTS]
    with capsys.disabled():
        show(shown, Console())
