"""A report with everything in it, and with texts that are markup in one form or another."""

from __future__ import annotations

from typing import Any

from qbmongo.advisor.records import Candidate, IndexSpec, PlanFigures, ShapeTrial, Trial
from qbmongo.advisor.report import (
    Figures,
    Finding,
    Inputs,
    Recommendation,
    Rejected,
    Report,
    ServedShape,
)

NASTY = "<script>alert('x')</script> [bold]|`tick` & *stars* {{ braces }}"

SCANNED = PlanFigures(("SORT", "COLLSCAN"), (), 0, 60_000, 60, True, 40.0, 3)
INDEXED = PlanFigures(("FETCH", "IXSCAN"), ("origin_1_hour_1",), 60, 60, 60, False, 0.5, 3)


def served(number: int, **changes: Any) -> ServedShape:
    """A shape of the workload; every further one takes less time."""
    values: dict[str, Any] = {
        "id": f"s{number}",
        "text": f"find airport.flights {{origin: string, hour: date, f{number}: {NASTY}}}",
        "namespace": "airport.flights",
        "calls": 1_000 * (number + 1),
        "total_s": 40.0 / (number + 1),
        "share": 0.4 / (number + 1),
        "documents": 20_000,
        "p50_s": 0.0004,
        "p95_s": 0.01,
        "p99_s": 0.04,
        "bins": ((-400, 10 * number), (-391, 700), (-230, 290)),
        "places": (("app/boards.py:31", 12),),
        "before": SCANNED,
        "after": INDEXED,
    }
    return ServedShape(**{**values, **changes})


def sample_report() -> Report:
    """Every action, severity and optional part once."""
    spec = IndexSpec(
        "airport.flights",
        (("origin", 1), ("hour", -1)),
        partial_filter={"status": "late", "note": NASTY},
        collation={"locale": "de", "strength": 1},
    )
    create = Recommendation(
        id="create-1",
        action="create",
        spec=spec,
        severity="high",
        verified=True,
        why=f"Equality on origin, then the order of hour. {NASTY}",
        saved_s=38.5,
        share=0.385,
        before=Figures(0, 20_000, 20, True, 40.0, ("SORT", "COLLSCAN")),
        after=Figures(20, 20, 20, False, 1.5, ("FETCH", "IXSCAN")),
        shapes=tuple(served(number) for number in range(7)),
        places=(("app/boards.py:31", 12), (NASTY, 1)),
        size_bytes=3_500_000,
        insert_us_before=40.0,
        insert_us_after=49.0,
        mongosh='db.getSiblingDB("airport").flights.createIndex({origin: 1, hour: -1})',
        pymongo='client["airport"]["flights"].create_index([("origin", 1), ("hour", -1)])',
        rollback_mongosh='db.getSiblingDB("airport").flights.dropIndex("origin_1_hour_-1")',
        rollback_pymongo='client["airport"]["flights"].drop_index("origin_1_hour_-1")',
        steps=("create it", "check that it is used"),
    )
    hide = Recommendation(
        id="hide-1",
        action="hide",
        spec=IndexSpec("airport.flights", (("origin", 1),), name="origin_1"),
        severity="low",
        verified=False,
        why="The new index does all that it does.",
        depends_on=("create-1",),
        mongosh='db.getSiblingDB("airport").flights.hideIndex("origin_1")',
    )
    finding = Finding(
        "large_skip",
        "medium",
        f"Calls skip 40,000 documents. {NASTY}",
        "Ask for what comes after the last one seen.",
        (served(1),),
        (("app/pages.py:8", 3),),
    )
    rejected = Rejected(
        Candidate("c9", IndexSpec("airport.flights", (("carrier", 1),)), ("s2",)),
        f"the planner did not choose it {NASTY}",
        Trial("c9", (ShapeTrial("s2", SCANNED, SCANNED, False),), documents=1_000),
    )
    inputs = Inputs(
        sources=("profile of 2 processes", NASTY),
        namespaces=("airport.flights",),
        shapes=9,
        calls=45_000,
        total_s=100.0,
        started_s=1_700_000_000.0,
        ended_s=1_700_003_600.0,
        sampled_documents=1_000,
        members=("db1:27017",),
        where="a server started on this machine",
        elapsed_s=2.5,
        notes=("system.profile: off",),
    )
    workload = (*(served(number) for number in range(15)), served(15, before=None, bins=()))
    return Report((create, hide), (finding,), (rejected,), inputs, workload)
