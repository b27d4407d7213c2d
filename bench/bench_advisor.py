"""What advice costs: time and memory of the advisor, and its share on the server advised on.

    python -m bench.bench_advisor                                      # small
    python -m bench.bench_advisor --collections 50 --documents 200000 --shapes 1000

It needs Linux (/proc). The advisor runs in a process of its own, with two servers beside it: the
one advised on and the one that things are tried on. CPU time of each is counted apart.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bson
import psutil
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from rich.console import Console

from bench.interleaved import Effort, Table, number, show
from qbmongo.core.shape_forms import shape_form
from qbmongo.core.shape_profiles import Latency, ShapeProfile
from qbmongo.core.shapes import read_shape, write_shape
from qbmongo.local_server import LocalServer
from qbmongo.profiles import ProfileSnapshot, sketch_scale
from qbmongo.records import ReadOp, WriteOp

DATABASE = "shop"
_BATCH = 5_000
_MEAN_S = 0.05

# Advises, and says when each step began; at the end how long all took and what came of it.
_PROGRAM = """
import json, sys, time
from pymongo import MongoClient
from qbmongo.advisor.advise import Options, advise
from qbmongo.advisor.interruption import Work
from qbmongo.advisor.places import VerifyOn
from qbmongo.advisor.sources import profile_source
uri, scratch_uri, profile = sys.argv[1:4]
began = {}
def progress(step, done, total):
    began.setdefault(step, time.perf_counter() - start)
start = time.perf_counter()
source = profile_source(profile)
options = Options(verify_on=VerifyOn("uri", scratch_uri))
make = lambda **options: MongoClient(uri, **options)
report = Work(lambda stop: advise(make, [source], options, stop, progress)).wait()
took = time.perf_counter() - start
# Of this program alone; getrusage would count the greatest of what it was started from.
peak_kib = int(next(line for line in open("/proc/self/status") if "VmHWM" in line).split()[1])
verified = sum(item.verified for item in report.recommendations)
print(json.dumps({"took": took, "peak_mib": peak_kib / 1024, "began": began,
    "recommended": len(report.recommendations), "verified": verified,
    "rejected": len(report.tried_and_rejected),
    "sampled": report.inputs.sampled_documents, "notes": report.inputs.notes}))
"""


@dataclass(frozen=True)
class Size:
    """How large the database and its workload are."""

    collections: int = 4
    documents: int = 6_000
    shapes: int = 60


def tables(uri: str, effort: Effort) -> Iterator[Table]:
    """Every table of this module. It starts servers of its own, whatever uri is."""
    yield advice(Size())


def advice(size: Size) -> Table:
    """One run of the advisor."""
    with _server() as advised, _server() as scratch, tempfile.TemporaryDirectory() as folder:
        loaded_s = _load(advised.uri, size)
        profile = Path(folder) / "profile.json"
        _profile(size).save(profile)
        pids = {"server advised on": advised.pid, "scratch server": scratch.pid}
        before = {name: _cpu_s(pid) for name, pid in pids.items()}
        said, usage = _run(advised.uri, scratch.uri, str(profile))
        cpu = {name: _cpu_s(pid) - before[name] for name, pid in pids.items()}
    took = said["took"]
    began = [*said["began"].items(), ("", took)]
    rows = [("all", number(took), "100 %")]
    rows += [
        (f"  {step}", number(end - start), f"{(end - start) / took:.0%}")
        for (step, start), (_, end) in itertools.pairwise(began)
    ]
    advisor_s = usage.ru_utime + usage.ru_stime
    rows += [
        (f"CPU time, {name}", number(spent), f"{spent / took:.0%} of one core")
        for name, spent in (("advisor", advisor_s), *cpu.items())
    ]
    rows.append(("greatest memory of the advisor, MiB", number(said["peak_mib"]), ""))
    return Table(
        f"advice on {size.shapes:,} shapes, {size.collections} collections of"
        f" {size.documents:,} documents",
        ("what", "seconds", "share"),
        rows,
        note=f"{said['sampled']:,} documents sampled; {said['recommended']} recommendations,"
        f" {said['verified']} of them verified, {said['rejected']} candidates rejected."
        f" Loading took {number(loaded_s)} s. {'; '.join(said['notes'])}",
    )


@contextmanager
def _server() -> Iterator[LocalServer]:
    with LocalServer(cache_size="512M") as server:
        yield server


def _cpu_s(pid: int | None) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _load(uri: str, size: Size) -> float:
    """The same documents into every collection, and two indexes of which one is too many."""
    draw = random.Random(1)
    raws = [
        RawBSONDocument(
            bson.encode(
                {
                    "_id": i,
                    "customer": draw.randrange(max(size.documents // 20, 2)),
                    "status": draw.choice(["new", "paid", "sent", "closed"]),
                    "total": draw.randrange(100_000),
                    "at": i,
                    "region": draw.randrange(50),
                    "code": f"{draw.randrange(1 << 40):011x}",
                    "tags": [f"t{draw.randrange(100)}" for _ in range(3)],
                    "items": [{"sku": draw.randrange(5_000), "count": draw.randrange(9)}],
                    "note": "x" * 60,
                }
            )
        )
        for i in range(size.documents)
    ]
    began = time.perf_counter()
    with MongoClient[Any](uri) as client:
        for number_ in range(size.collections):
            collection = client[DATABASE][f"c{number_}"]
            for start in range(0, len(raws), _BATCH):
                collection.insert_many(raws[start : start + _BATCH], ordered=False)
            collection.create_index("region")
            collection.create_index([("region", 1), ("total", 1)])
    return time.perf_counter() - began


def _profile(size: Size) -> ProfileSnapshot:
    """So many shapes, some called far more often than most."""
    scale = sketch_scale()
    (bin_,) = scale.bins_of([_MEAN_S])
    rows = []
    for number_ in range(size.shapes):
        namespace = f"{DATABASE}.c{number_ % size.collections}"
        form = _form(namespace, number_ // size.collections)
        calls = max(10, 20_000 // (number_ + 1))
        latency = Latency(
            calls, calls * _MEAN_S, _MEAN_S, _MEAN_S, _MEAN_S, _MEAN_S, ((bin_, calls),)
        )
        rows.append(
            ShapeProfile(form, calls, 0, calls * 5, 0, 0, 0, 0, 1.0, 2.0, latency, Latency())
        )
    return ProfileSnapshot(tuple(rows), None, 1.0, 2.0)


_FIELDS = ("customer", "status", "total", "region", "code", "tags", "items.sku")


def _form(namespace: str, number_: int) -> dict[str, Any]:
    """The number-th kind of query: fields, operators, sort and operation differ."""
    draw = random.Random(number_)
    fields = draw.sample(_FIELDS, draw.randint(1, 3))
    filter: dict[str, Any] = {}
    for field in fields:
        value: Any = "x" if field in ("status", "code", "tags") else 1
        filter[field] = draw.choice([value, value, {"$gt": value}, {"$in": [value] * 5}])
    kind = draw.choice(["find", "find", "find", "find_one", "count_documents", "update_one"])
    if kind == "update_one":
        op = WriteOp(kind="update_one", namespace=namespace, filter=filter, document={"$set": {}})
        return shape_form(write_shape(op))
    parts: dict[str, Any] = {}
    if kind == "find" and draw.random() < 0.5:
        parts = {"sort": [(draw.choice(["at", "total"]), draw.choice([1, -1]))], "limit": 20}
    return shape_form(read_shape(ReadOp(kind, namespace, filter, **parts)))  # type: ignore[arg-type]


def _run(*arguments: str) -> tuple[dict[str, Any], Any]:
    """The program's last words, and what the system says it used."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as out:
        said = out.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the advisor ended with {process.returncode}")
    return json.loads(said), usage


def test_advice(capsys: Any) -> None:
    table = advice(Size(2, 1_000, 10))
    with capsys.disabled():
        show([table], Console())


def main() -> None:
    """The command."""
    usual = Size()
    parser = argparse.ArgumentParser(prog="python -m bench.bench_advisor", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--collections", type=int, default=usual.collections)
    parser.add_argument("--documents", type=int, default=usual.documents)
    parser.add_argument("--shapes", type=int, default=usual.shapes)
    given = parser.parse_args()
    table = advice(Size(given.collections, given.documents, given.shapes))
    show([table], Console(width=120))


if __name__ == "__main__":
    main()
