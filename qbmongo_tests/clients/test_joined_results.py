"""What a joined write gives its caller is what the plain driver's single call gives.

Each case is made alone on the plain driver and, at the same time as all others, on ours, which
sends them as one bulkWrite and one insert. Results, exceptions and the collections are compared.
"""

from __future__ import annotations

import datetime
from typing import Any

import bson
import pytest
from bson import ObjectId
from bson.codec_options import TypeDecoder, TypeRegistry
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import DuplicateKeyError

from qbmongo_tests.clients.joined import HELD, Joining, outcome_of
from qbmongo_tests.clients.joined_cases import CASES, DOCUMENTS, INDEXES, OID, VALIDATOR, Case
from qbmongo_tests.clients.sites import Site, Wire
from qbmongo_tests.parity.equality import Comparison, Mismatch


class Shout(str):
    """Strings as a class of the program's own."""

    __slots__ = ()


class _Shouting(TypeDecoder):
    bson_type = str

    def transform_bson(self, value: Any) -> Any:
        return Shout(value)


_REGISTRY = TypeRegistry([_Shouting()])
# Clients whose bulk results the driver would decode otherwise: nothing joins.
APART: dict[str, dict[str, Any]] = {
    "raw": {"document_class": RawBSONDocument},
    "son": {"document_class": bson.SON},
}
# Options of both clients, so that writes join whatever their results hold.
CLIENTS: dict[str, dict[str, Any]] = {
    "tz_aware": {"tz_aware": True, "tzinfo": datetime.timezone.utc},
    "registry": {"type_registry": _REGISTRY},
    "uuid": {"uuidRepresentation": "standard"},
    "no retries": {"retryWrites": False},
    "majority": {"w": "majority"},
}


def _prepared(client: MongoClient[dict[str, Any]], name: str) -> Any:
    """A database as every arm finds it."""
    database = client[name]
    database.create_collection("c", validator=VALIDATOR)
    for field, unique in INDEXES:
        database.c.create_index(field, unique=unique, sparse=unique)
    database.c.insert_many([dict(document) for document in DOCUMENTS])
    return database


def _contents(database: Any) -> list[Any]:
    """Documents in an order that does not depend on ids that driver and server made up."""
    documents = [d for d in database.c.find() if d["_id"] != HELD["_id"]]
    return sorted(documents, key=lambda d: str({**d, "_id": 0 if _is_new(d) else d["_id"]}))


def _is_new(document: Any) -> bool:
    identity = document["_id"]
    return isinstance(identity, ObjectId) and identity != OID


def _compared(
    site: Site,
    client: MongoClient[dict[str, Any]],
    cases: tuple[Case, ...],
    *,
    joins: bool = True,
    **options: Any,
) -> tuple[int, int]:
    """Both arms make the calls; every outcome and the collections must be equal.

    Args:
        client: a plain synchronous client, to prepare and to look.
        joins: whether anything joins with these options.
        options: of both clients.

    Returns:
        How many calls joined: updates and deletes, inserts.
    """
    names = (f"{site.database}_p", site.database)
    databases = [_prepared(client, name) for name in names]
    wire = Wire()
    plain = site.plain(event_listeners=[wire], **options)[names[0]].c
    joining = Joining(site, **options)
    expected, joined = [], [0, 0]

    async def work() -> list[Any]:
        for case in cases:
            wire.clear()
            outcome = await outcome_of(case.call, plain)
            expected.append(outcome)
            if not options:
                assert isinstance(outcome, Exception) is case.fails, (case.name, outcome)
            if joins and case.joins and wire.commands:
                joined[case.insert] += 1
        if joins:
            await joining.ready("k", "u")
        return await joining.together([case.call for case in cases], expected=sum(joined))

    given = site.run(work())
    comparison = Comparison(names, frozenset())
    wrong = []
    for case, one, other in zip(cases, expected, given, strict=True):
        try:
            comparison.check(one, other, case.name)
        except Mismatch as mismatch:
            wrong.append(str(mismatch))
    both = [_contents(database) for database in databases]
    client.drop_database(names[0])
    try:
        # Equal documents without an id of their own are not told apart.
        Comparison(names, frozenset()).check(*both, "documents")
    except Mismatch as mismatch:
        wrong.append(str(mismatch))
    assert not wrong, "\n".join(wrong)
    batched = [len(command["ops"]) for command in joining.commands("bulkWrite")]
    inserted = [n for n in map(_documents, joining.commands("insert")) if n > 1]
    assert (sum(batched), sum(inserted)) == (joined[0], joined[1]), joining.wire.counts
    assert len(batched) == bool(joined[0])
    assert len(inserted) == bool(joined[1])
    return joined[0], joined[1]


def _documents(insert: Any) -> int:
    return len(insert["documents"])


def test_each_outcome_is_that_of_the_single_call(
    site: Site, plain_client: MongoClient[dict[str, Any]]
) -> None:
    _compared(site, plain_client, CASES)


@pytest.mark.parametrize("options", CLIENTS)
@pytest.mark.parametrize("site", ["async"], indirect=True)
def test_each_outcome_is_that_of_the_single_call_whatever_the_client(
    site: Site, plain_client: MongoClient[dict[str, Any]], options: str
) -> None:
    _compared(site, plain_client, CASES, **CLIENTS[options])


@pytest.mark.parametrize("options", APART)
@pytest.mark.parametrize("site", ["async"], indirect=True)
def test_what_the_driver_would_decode_otherwise_goes_alone(
    site: Site, plain_client: MongoClient[dict[str, Any]], options: str
) -> None:
    _compared(site, plain_client, CASES, joins=False, **APART[options])


def test_a_key_under_a_collation_is_told_as_by_the_single_call(
    site: Site, plain_client: MongoClient[dict[str, Any]]
) -> None:
    """A bulkWrite may say less of it than an update does."""
    names = (f"{site.database}_p", site.database)
    for name in names:
        ignoring_case = {"locale": "en", "strength": 2}
        collection = plain_client[name].create_collection("c", collation=ignoring_case)
        collection.create_index("u", unique=True)
        collection.insert_many([{"_id": n, "u": f"value {n}"} for n in range(3)])
    plain = site.plain()[names[0]].c
    joining = Joining(site)
    calls: list[Any] = [
        lambda c: c.update_one({"_id": 0}, {"$set": {"u": "VALUE 1"}}),
        lambda c: c.replace_one({"_id": 1}, {"u": "Value 2"}),
        lambda c: c.update_one({"_id": 7}, {"$set": {"u": "VALUE 0"}}, upsert=True),
        lambda c: c.insert_one({"_id": 8, "u": "VALUE 1"}),
        lambda c: c.insert_one({"_id": 9, "u": "VALUE 2"}),
    ]

    async def work() -> tuple[list[Any], list[Any]]:
        alone = [await outcome_of(call, plain) for call in calls]
        return alone, await joining.together(calls)

    alone, given = site.run(work())
    plain_client.drop_database(names[0])
    assert {type(outcome) for outcome in alone} == {DuplicateKeyError}
    Comparison(names, frozenset()).check(alone, given)
    assert joining.stats.batches == 2


@pytest.mark.parametrize("which", ["successes", "failures"])
def test_batches_without_a_failure_and_without_a_success(
    site: Site, plain_client: MongoClient[dict[str, Any]], which: str
) -> None:
    failures = which == "failures"
    cases = tuple(case for case in CASES if case.fails is failures)
    updates, inserts = _compared(site, plain_client, cases)
    assert updates > 5
    assert inserts > 2
