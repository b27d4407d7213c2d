"""What a workload of the catalogue is made of, and how it becomes the advisor's input."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from qbmongo.advisor.accesses import paths_of
from qbmongo.advisor.collations import same_collation
from qbmongo.advisor.collection_documents import collection_info
from qbmongo.advisor.conclusions import conclude
from qbmongo.advisor.gathering import Gathering, ToldOperation
from qbmongo.advisor.inputs import merge_workloads
from qbmongo.advisor.records import (
    CollectionInfo,
    CollectionStatistics,
    IndexSpec,
    Verification,
    WorkloadShape,
)
from qbmongo.advisor.report import Inputs, Report
from qbmongo.advisor.sampling import SampleCounts
from qbmongo.advisor.selection import propose
from qbmongo.profiles import sketch_scale

DATABASE = "shop"
COUNT = 2_000
NOW_S = 1_700_000_000.0
DAY_S = 86_400.0

Document = dict[str, Any]
Command = Mapping[str, Any]

_BASE = datetime(2024, 1, 1)
_WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "knoll")


@cache
def orders(count: int = COUNT) -> list[Document]:
    """The documents of most workloads: independent fields of known selectivity."""
    draw = random.Random(7)
    return [
        {
            "_id": i,
            "customer": draw.randrange(200),
            "kind": draw.randrange(20),
            "rank": draw.randrange(1_000),
            "total": draw.randrange(10_000),
            "region": draw.randrange(5),
            "at": _BASE + timedelta(minutes=i),
            "email": f"user{i}@example.org",
            "flag": draw.random() < 0.5,
            "urgent": draw.random() < 0.01,
            "status": draw.choices(("open", "paid", "sent"), (3, 27, 70))[0],
            "name": f"{draw.choice(_WORDS)} {draw.randrange(2_000)}",
            "city": f"city{draw.randrange(60)}",
            "address": {"city": f"town{draw.randrange(80)}", "zip": draw.randrange(500)},
            "tags": [f"t{draw.randrange(40)}", f"t{draw.randrange(40)}"],
            "sizes": [draw.randrange(100), draw.randrange(100)],
            "items": [
                {"sku": draw.randrange(200), "qty": draw.randrange(10), "lot": draw.randrange(10)}
                for _ in range(2)
            ],
            "parent": draw.randrange(400),
            "closed": None if draw.random() < 0.05 else _BASE,
            **({"note": f"n{i}"} if draw.random() < 0.02 else {}),
        }
        for i in range(count)
    ]


def few_orders() -> list[Document]:
    return orders(80)


@cache
def customers(count: int = COUNT) -> list[Document]:
    """The joined collection."""
    return [{"_id": i, "ref": i, "level": i % 3, "owner": i % 200} for i in range(count)]


@dataclass(frozen=True)
class Query:
    """One query of a workload. ask: number of the call -> command; its values differ."""

    ask: Callable[[int], Command]
    calls: int = 1_000
    returned: int | None = None  # documents by each call; None: told by nobody


@dataclass(frozen=True)
class Wanted:
    """One index that is expected; any of several equally good ones."""

    any_of: tuple[IndexSpec, ...]


@dataclass(frozen=True)
class Case:
    """One workload with its known best answer.

    source: why this is the answer. existing: documents of listIndexes, without _id. create: what is
    to be created. removals: (action, name). findings: kinds. unshown: why a server's explain
    cannot show it; then it is run without. stats: documents of `$indexStats` by member.
    """

    name: str
    source: str
    queries: tuple[Query, ...]
    create: tuple[Wanted, ...] = ()
    removals: tuple[tuple[str, str], ...] = ()
    findings: tuple[str, ...] = ()
    existing: tuple[Mapping[str, Any], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "collection"
    documents: Callable[[], list[Document]] = orders
    foreign: bool = False
    stats: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    members: int = 1
    unshown: str | None = None


def asked(ask: Callable[[int], Command], calls: int = 1_000, returned: int | None = None) -> Query:
    return Query(ask, calls, returned)


def find(filter: Callable[[int], Mapping[str, Any]], calls: int = 1_000, **parts: Any) -> Query:
    """A find of the collection `orders`; filter: number of the call -> filter."""
    return Query(lambda i: {"find": "orders", "filter": filter(i), **parts}, calls)


def wanted(*keys: Any, collection: str = "orders", **options: Any) -> Wanted:
    """An index; each key a path (ascending) or a pair. Options by IndexSpec's names."""
    return Wanted((_spec(keys, collection, options),))


def one_of(*choices: Sequence[Any], **options: Any) -> Wanted:
    """Any of several lists of keys."""
    return Wanted(tuple(_spec(keys, "orders", options) for keys in choices))


def _spec(keys: Sequence[Any], collection: str, options: Mapping[str, Any]) -> IndexSpec:
    pairs = tuple((key, 1) if isinstance(key, str) else (key[0], key[1]) for key in keys)
    return IndexSpec(f"{DATABASE}.{collection}", pairs, **options)


def same_index(one: IndexSpec, other: IndexSpec) -> bool:
    """Equal but for the name and for being read from the other end."""
    turned = tuple((path, -d if isinstance(d, int) else d) for path, d in other.keys)
    return (
        one.namespace == other.namespace
        and one.keys in (other.keys, turned)
        and (one.unique, one.sparse, one.partial_filter)
        == (other.unique, other.sparse, other.partial_filter)
        and same_collation(one.collation, other.collation)
    )


CALLS_SEEN = 6


def shapes_of(
    queries: Sequence[Query], database: str = DATABASE, suffix: str = ""
) -> list[WorkloadShape]:
    """The workload, as if a profile had counted the calls and a log had shown some of them.

    suffix: of the names of the collections.
    """
    found = []
    for query in queries:
        gathering = Gathering("log", sketch_scale())
        for i in range(CALLS_SEEN):
            command = _renamed(query.ask(i), suffix)
            kind = "update" if "u" in command else "remove" if "q" in command else "command"
            told = ToldOperation(
                f"{database}.orders{suffix}", command, kind, returned=query.returned or 0
            )
            assert gathering.add(told), command
        (shape,) = gathering.shapes()
        found.append(
            replace(
                shape,
                calls=query.calls,
                documents=(query.returned or 0) * query.calls,
                total_s=0.0,
                max_s=0.0,
                sources=("profile", "log"),
            )
        )
    return merge_workloads(*([shape] for shape in found))


def _renamed(part: Any, suffix: str) -> Any:
    """The same command for collections with other names."""
    if isinstance(part, Mapping):
        return (
            {
                name: f"{value}{suffix}"
                if isinstance(value, str) and value in ("orders", "customers")
                else _renamed(value, suffix)
                for name, value in part.items()
            }
            if suffix
            else part
        )
    if isinstance(part, list):
        return [_renamed(item, suffix) for item in part]
    return part


def listed(name: str, **options: Any) -> dict[str, Any]:
    """A document of listIndexes, its keys read from the name: "a_1_b_-1"."""
    if "key" in options:
        return {"v": 2, "name": name, **options}
    parts = name.split("_")
    key: dict[str, Any] = {}
    for path, direction in zip(parts[::2], parts[1::2], strict=True):
        key[path] = int(direction) if direction.lstrip("-").isdigit() else direction
    return {"v": 2, "key": key, "name": name, **options}


def facts_of(case: Case, count: int) -> CollectionInfo:
    own_id = [] if "clusteredIndex" in case.options else [listed("_id_", key={"_id": 1})]
    return collection_info(
        f"{DATABASE}.orders",
        {"name": "orders", "type": case.kind, "options": dict(case.options)},
        [*own_id, *case.existing],
        [{"storageStats": {"count": count, "size": count * 400}}],
        case.stats,
        case.members,
    )


@cache
def _of_one_path(
    make: Callable[[], list[Document]], namespace: str, path: str
) -> CollectionStatistics:
    documents = make()
    counts = SampleCounts(namespace, [path])
    for document in documents:
        counts.add(document, 400)
    return counts.statistics(len(documents))


def statistics_of(
    namespace: str, make: Callable[[], list[Document]], paths: Iterable[str]
) -> CollectionStatistics:
    """Statistics of all documents, counted once for each path."""
    parts = [_of_one_path(make, namespace, path) for path in sorted(paths)]
    return CollectionStatistics(
        namespace,
        len(make()),
        {path: found for part in parts for path, found in part.fields.items()},
        frozenset(path for part in parts for path in part.array_paths),
        400.0,
    )


def advise_purely(case: Case) -> Report:
    """The advice for a case without trying anything."""
    workload = shapes_of(case.queries)
    documents = {f"{DATABASE}.orders": case.documents}
    collections = {f"{DATABASE}.orders": facts_of(case, len(case.documents()))}
    if case.foreign:
        namespace = f"{DATABASE}.customers"
        documents[namespace] = customers
        collections[namespace] = collection_info(
            namespace,
            {"name": "customers", "type": "collection"},
            [listed("_id_", key={"_id": 1})],
            [{"storageStats": {"count": COUNT, "size": COUNT * 60}}],
        )
    paths = dict(paths_of(workload))
    for index in collections[f"{DATABASE}.orders"].indexes:
        extra = frozenset(path for path, _ in index.spec.keys if not path.endswith("$**"))
        known = paths.get(f"{DATABASE}.orders", frozenset())
        paths[f"{DATABASE}.orders"] = known | extra
    statistics = {
        namespace: statistics_of(namespace, make, paths.get(namespace, ()))
        for namespace, make in documents.items()
    }
    proposal = propose(workload, collections, statistics, now_s=NOW_S)
    return conclude(workload, collections, proposal, Verification(), Inputs())


def ages(name: str, days: float, operations: int = 0) -> dict[str, Any]:
    """A document of $indexStats. Source: MongoDB manual, $indexStats, "Output"."""
    since = datetime.fromtimestamp(0) + timedelta(seconds=NOW_S - days * DAY_S)
    return {"name": name, "accesses": {"ops": operations, "since": since}}
