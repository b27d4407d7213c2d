"""The catalogue on a real server: every recommendation tried with real explains.

The cases are collections of one database, advised on together. What this server's explain cannot
show is left out, each with its reason (`Case.unshown`). Each run takes every seventh of the others;
with QBMONGO_CATALOGUE=all in the environment it takes all.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.operations import IndexModel

from qbmongo.advisor.advise import Options, Source, advise
from qbmongo.advisor.interruption import Stop
from qbmongo.advisor.places import VerifyOn
from qbmongo.advisor.report import Report
from qbmongo.advisor.verify import Effort

from .catalogue import CASES, Score, differences
from .workloads import Case, customers, shapes_of

pytestmark = pytest.mark.needs_explain

_ALL = os.environ.get("QBMONGO_CATALOGUE") == "all"
SHOWN = tuple(case for case in CASES if case.unshown is None)[:: 1 if _ALL else 7]
# Prices of indexes are measured elsewhere.
EFFORT = Effort(inserts=100, rounds=1, value_sets=2)


def _suffix(case: Case) -> str:
    return f"_{SHOWN.index(case)}"


def _fill(database: Database[Any], case: Case) -> None:
    suffix = _suffix(case)
    options: dict[str, Any] = dict(case.options)
    collection = database.create_collection(f"orders{suffix}", **options)
    collection.insert_many(case.documents())
    models = [_model(index) for index in case.existing]
    if models:
        collection.create_indexes(models)
    if case.foreign:
        database[f"customers{suffix}"].insert_many(customers())


def _model(index: Mapping[str, Any]) -> IndexModel:
    options = {name: value for name, value in index.items() if name not in ("v", "key")}
    return IndexModel(list(index["key"].items()), **options)


@pytest.fixture(scope="module")
def report(server_uri: str) -> Iterator[Report]:
    """The advice on all cases together."""
    name = f"qbmongo_{secrets.token_hex(6)}"
    with MongoClient[Any](server_uri) as client:
        try:
            sources = []
            for case in SHOWN:
                _fill(client[name], case)
                shapes = shapes_of(case.queries, name, _suffix(case))
                sources.append(Source(case.name, shapes))
            options = Options(databases=(name,), verify_on=VerifyOn("here"), effort=EFFORT)
            yield advise(
                lambda **more: MongoClient[Any](server_uri, **more), sources, options, Stop()
            )
        finally:
            client.drop_database(name)


def _own(report: Report, case: Case) -> Report:
    """The part of the report on one case, as if its collections had the catalogue's names."""
    suffix = _suffix(case)

    def renamed(namespace: str) -> str | None:
        _, _, collection = namespace.partition(".")
        base, _, number = collection.rpartition("_")
        return f"shop.{base}" if f"_{number}" == suffix else None

    recommendations = []
    for item in report.recommendations:
        namespace = renamed(item.spec.namespace)
        if namespace is not None:
            spec = replace(item.spec, namespace=namespace)
            recommendations.append(replace(item, spec=spec))
    findings = [f for f in report.findings if renamed(f.shapes[0].namespace) is not None]
    return replace(report, recommendations=tuple(recommendations), findings=tuple(findings))


@pytest.mark.parametrize("case", SHOWN, ids=lambda case: case.name)
def test_the_advice_is_the_known_answer(report: Report, case: Case) -> None:
    found, _, _ = differences(case, _own(report, case))
    assert found == []


def test_every_recommendation_was_verified(report: Report) -> None:
    assert len(report.recommendations) >= len(SHOWN) / 2
    assert [r.spec.keys for r in report.recommendations if not r.verified] == []


def test_precision_and_recall(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    score = Score()
    for case in SHOWN:
        score.add(case, *differences(case, _own(report, case)))
    with capsys.disabled():
        sys.stdout.write(f"\ncatalogue, verified: {score}\n")
    assert score.wrong == []
