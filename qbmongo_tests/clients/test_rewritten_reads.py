"""Rewritten reads through the three clients: what is sent, what comes back, what is counted.

The reference is the plain driver on the same data.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from pymongo.errors import OperationFailure

from qbmongo import ProfileSettings, RewriteSettings, Settings
from qbmongo.core.rewrite import Rewriter
from qbmongo_tests.clients.sites import CACHED, Site, Wire, resolved

LISTED = {"a": {"$in": [1, 2, 1]}}
LOOKUP = {"$lookup": {"from": "users", "localField": "user", "foreignField": "_id", "as": "u"}}
JOINED = [
    {"$match": LISTED},
    LOOKUP,
    {"$unwind": {"path": "$u", "preserveNullAndEmptyArrays": True}},
    {"$sort": {"at": -1}},
    {"$skip": 1},
    {"$limit": 3},
]


async def all_of(cursor: Any) -> Any:
    cursor = await cursor if inspect.iscoroutine(cursor) else cursor
    return await resolved(cursor.to_list(None))


async def one_by_one(cursor: Any) -> list[Any]:
    if hasattr(cursor, "__aiter__"):
        return [document async for document in cursor]
    return list(cursor)


CALLS: dict[str, Callable[[Any], Any]] = {
    "find_one": lambda c: c.find_one(LISTED),
    "find_one sorted": lambda c: c.find_one(LISTED, {"a": 1}, sort=[("at", -1)]),
    "find": lambda c: all_of(c.find(LISTED).sort("at", 1)),
    "find in batches": lambda c: one_by_one(c.find(LISTED).sort("at", 1).batch_size(2)),
    "count_documents": lambda c: c.count_documents(LISTED, skip=1),
    "distinct": lambda c: c.distinct("user", LISTED),
    "distinct of a cursor": lambda c: c.find(LISTED).distinct("user"),
    "aggregate": lambda c: all_of(c.aggregate(JOINED)),
}
SETTINGS = {
    "alone": Settings(cache=None, profile=None),
    "with the profile": Settings(cache=None),
    "with the cache": CACHED,
}


def filled(site: Site) -> Any:
    plain = site.plain()
    database = plain[site.database]

    async def fill() -> None:
        orders = [{"_id": n, "a": n % 4, "user": n % 3, "at": n * 7 % 20} for n in range(20)]
        await resolved(database.c.insert_many(orders))
        await resolved(database.users.insert_many([{"_id": n, "name": str(n)} for n in range(2)]))

    site.run(fill())
    return plain


def opened(site: Site, settings: Settings) -> tuple[Any, Wire]:
    if settings.cache is not None:
        return site.cached("c", "users", settings=settings)
    wire = Wire()
    return site.ours(settings, event_listeners=[wire]), wire


def sent(wire: Wire) -> str:
    (found,) = [
        repr(command)
        for name, command in wire.commands
        if name in ("find", "aggregate", "distinct")
    ]
    return found


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("name", CALLS)
def test_another_form_is_sent_and_the_answer_is_the_same(
    site: Site, name: str, settings: Settings
) -> None:
    plain = filled(site)
    client, wire = opened(site, settings)

    async def call(of: Any) -> Any:
        return await resolved(CALLS[name](of[site.database].c))

    wanted = site.run(call(plain))
    wire.clear()
    assert site.run(call(client)) == wanted
    text = sent(wire)
    assert "[1, 2]" in text
    assert "[1, 2, 1]" not in text
    if name == "aggregate":
        assert text.index("$sort") < text.index("$lookup")
    assert LISTED == {"a": {"$in": [1, 2, 1]}}
    stats = client.qb.stats()
    assert stats.faults == {}
    assert stats.rewrite.calls == 1
    assert stats.rewrite.rules["in-duplicates"] == 1
    if settings.cache is not None:
        assert site.run(call(client)) == wanted
        assert client.qb.stats().cache.hits == stats.cache.hits + 1
        assert client.qb.stats().rewrite.calls == 1  # a hit is not rewritten
    if settings.profile is not None:
        (shape,) = [s for s in client.qb.profile().shapes if s.rewritten]
        assert shape.rewritten == 1
        assert shape.shape["operation"] == name.split()[0]


@pytest.mark.parametrize(
    "settings",
    [
        Settings(rewrite=None),
        Settings(cache=None, rewrite=None),
        Settings(cache=None, rewrite=RewriteSettings(off=("in-duplicates",))),
    ],
    ids=["off", "off without a cache", "the rule off"],
)
def test_what_is_switched_off_is_sent_as_written(site: Site, settings: Settings) -> None:
    filled(site)
    client, wire = opened(site, settings)
    wire.clear()
    site.run(_count(client, site))
    assert "[1, 2, 1]" in sent(wire)
    stats = client.qb.stats()
    assert (stats.rewrite is None) == (settings.rewrite is None)
    assert settings.rewrite is None or stats.rewrite.calls == 0


async def _count(client: Any, site: Site) -> int:
    count: int = await resolved(client[site.database].c.count_documents(LISTED))
    return count


def test_a_namespace_can_be_left_out(site: Site) -> None:
    filled(site)
    client, wire = opened(site, Settings(cache=None))
    client.qb.options(f"{site.database}.c", rewrite=None)
    site.run(_count(client, site))
    assert "[1, 2, 1]" in sent(wire)
    client.qb.options(f"{site.database}.c", rewrite=RewriteSettings())
    wire.clear()
    site.run(_count(client, site))
    assert "[1, 2, 1]" not in sent(wire)


def test_a_cursor_shows_and_clones_what_the_program_asked(site: Site) -> None:
    filled(site)
    client, wire = opened(site, Settings(cache=None))

    async def work() -> Any:
        cursor = client[site.database].c.find(LISTED)
        first = await all_of(cursor)
        clone = cursor.clone()
        spec = getattr(clone, "delegate", clone)._spec
        return first, await all_of(clone), spec

    first, again, spec = site.run(work())
    assert first == again
    assert spec == LISTED
    assert wire.counts["find"] == 2


def test_an_explained_query_and_one_in_a_session(site: Site) -> None:
    """explain tells of the program's own query; in a session another form is sent as well."""
    filled(site)
    client, wire = opened(site, Settings(cache=None))

    async def work() -> None:
        c = client[site.database].c
        await resolved(c.find(LISTED).explain())
        assert "[1, 2, 1]" in repr(wire.commands[-1])
        started = client.start_session()
        session = await started if inspect.isawaitable(started) else started
        try:
            await resolved(c.count_documents(LISTED, session=session))
        finally:
            await resolved(session.end_session())
        assert "[1, 2, 1]" not in repr([c for n, c in wire.commands if n == "aggregate"])

    site.run(work())


@pytest.mark.parametrize(
    "query",
    [
        {"a": {"$in": [1, 1]}, "b": {"$unknown": 1}},
        {"a": {"$in": [1, 1]}, "$unknown": 1},
        [{"$sort": {"a": 1}}, {"$unknown": 1}, {"$count": "n"}],
        [LOOKUP, {"$addFields": {"x": {"$unknown": 1}}}, {"$count": "n"}],
    ],
)
def test_an_invalid_query_stays_the_same_error(site: Site, query: Any) -> None:
    plain = filled(site)
    client, _ = opened(site, Settings(cache=None))

    async def failure(of: Any) -> tuple[Any, ...]:
        c = of[site.database].c
        with pytest.raises(OperationFailure) as caught:
            await all_of(c.aggregate(query) if isinstance(query, list) else c.find(query))
        return caught.value.code, str(caught.value).partition(",")[0]

    assert site.run(failure(client)) == site.run(failure(plain))


def test_a_fault_of_a_rule_sends_the_query_as_it_was(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = filled(site)
    client, wire = opened(site, Settings(cache=None))

    def broken(self: Any, op: Any, facts: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(Rewriter, "rewrite", broken)
    assert site.run(_count(client, site)) == site.run(_count(plain, site))
    assert "[1, 2, 1]" in sent(wire)
    assert client.qb.stats().faults == {"rewrite": 1}


def test_explain_rewrite_says_what_and_why_and_sends_nothing(site: Site) -> None:
    client, wire = opened(site, Settings(cache=None))
    c = client[site.database].c
    explained = client.qb.explain_rewrite(c, JOINED)
    assert [step.rule for step in explained.steps] == ["in-duplicates", "page-before-unwind"]
    assert explained.steps[-1].query == explained.sent
    assert explained.query == JOINED
    for step in explained.steps:
        assert step.rule in str(explained)
        assert step.source in str(explained)
    untouched = client.qb.explain_rewrite(f"{site.database}.c", {"a": 1})
    assert (untouched.steps, untouched.sent, untouched.off) == ((), {"a": 1}, ())
    assert "no rule fires" in str(untouched)
    assert client.qb.explain_rewrite(c, LISTED, hint="a_1").steps == ()
    client.qb.options(f"{site.database}.c", rewrite=None)
    assert client.qb.explain_rewrite(c, LISTED).off is None
    assert "off" in str(client.qb.explain_rewrite(c, LISTED))
    with pytest.raises(ValueError, match=r"database\.collection"):
        client.qb.explain_rewrite("c", {})
    with pytest.raises(TypeError, match="a filter or a pipeline"):
        client.qb.explain_rewrite(c, 5)
    with pytest.raises(ValueError, match=r"collection is 5; allowed is 'database\.collection'"):
        client.qb.explain_rewrite(5, {})
    assert wire.commands == []


@pytest.mark.parametrize(
    "options",
    [
        {"projection": {"a": 1}},
        {"projection": {"a.$": 1}},
        {"sort": [("at", 1)]},
        {"skip": 1},
        {"limit": 2},
        {"batch_size": 2},
        {"max_time_ms": 60_000},
        {"allow_disk_use": True},
        {"collation": {"locale": "en"}},
        {"hint": None},
        {"hint": [("_id", 1)]},
        {"comment": "x"},
        {"let": {"x": 1}},
        {"session": None},
    ],
    ids=str,
)
def test_explain_rewrite_tells_what_a_call_with_these_options_does(
    site: Site, options: dict[str, Any]
) -> None:
    """Reference: the call itself."""
    filled(site)
    client, _ = opened(site, Settings(cache=None, profile=None))
    c = client[site.database].c
    explained = client.qb.explain_rewrite(c, LISTED, **options)

    async def call() -> None:
        await all_of(c.find(LISTED, **options))

    site.run(call())
    assert client.qb.stats().rewrite.calls == len(explained.steps)


async def _loop(c: Any, count: int) -> None:
    for n in range(count):
        await resolved(c.find_one({"user": n}))


def test_the_same_query_again_and_again_in_one_task_is_found(site: Site) -> None:
    profile = ProfileSettings(place_every=1)
    client, _ = opened(site, Settings(cache=None, profile=profile))
    site.run(_loop(client[site.database].c, 40))
    (shape,) = client.qb.profile().shapes
    ((place, runs),) = shape.repeats
    assert "qbmongo_tests" in place
    assert runs >= 1
    (row,) = client.qb.profile().as_dict()["shapes"]
    assert row["instead"].startswith("one find {user: {$in: [...]}}, or $lookup from c")


def test_the_same_query_of_many_tasks_is_none(site: Site) -> None:
    if not site.is_async:
        pytest.skip("one thread is one task")
    client, _ = opened(site, Settings(cache=None, profile=ProfileSettings(place_every=1)))
    c = client[site.database].c

    async def work() -> None:
        for n in range(40):
            await asyncio.create_task(_loop(c, n))

    async def _loop(c: Any, n: int) -> None:
        await c.find_one({"user": n})

    site.run(work())
    (shape,) = client.qb.profile().shapes
    assert shape.places
    assert shape.repeats == ()
