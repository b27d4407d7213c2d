"""A cursor that was made without the driver's constructor is as one that the driver made."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from bson.codec_options import CodecOptions
from bson.son import SON
from pymongo.read_concern import ReadConcern

from qbmongo import Settings
from qbmongo.clients import fresh_cursors
from qbmongo_tests.clients.sites import Site, resolved

AWARE: CodecOptions[Any] = CodecOptions(tz_aware=True)
ROUNDS = 3


def driver_cursor(cursor: Any) -> Any:
    """The driver's own cursor, which Motor's wraps."""
    return vars(cursor).get("delegate", cursor)


def state(cursor: Any) -> dict[str, Any]:
    """What a driver's cursor is made of, without what is ours and without whose it is."""
    found = dict(vars(driver_cursor(cursor)))
    for name in ("_qb", "_qb_turn", "_collection"):
        found.pop(name, None)
    return found


Variant = Callable[[Any], Any]
VARIANTS: dict[str, Variant] = {
    "as it is": lambda c: c,
    "another codec": lambda c: c.with_options(codec_options=AWARE),
    "another read concern": lambda c: c.with_options(read_concern=ReadConcern("majority")),
    "both": lambda c: c.with_options(AWARE, read_concern=ReadConcern("local")),
    "again as it is": lambda c: c,
}
FINDS: dict[str, Callable[[Any], Any]] = {
    "a filter": lambda c: c.find({"a": 1}),
    "a filter by name": lambda c: c.find(filter={"a": 1}),
    "an empty filter": lambda c: c.find({}),
    "no filter": lambda c: c.find(),
    "None": lambda c: c.find(None),
    "another mapping": lambda c: c.find(SON([("a", 1)])),
    "a projection": lambda c: c.find({"a": 1}, {"a": 1}),
    "an option": lambda c: c.find({"a": 1}, limit=3),
    "chained": lambda c: (
        c.find({"a": 1}).sort("a").limit(2).skip(1).hint("a_1").comment("x").max_time_ms(5)
    ),
    "disk": lambda c: c.find({"a": 1}).allow_disk_use(True),
    "cloned": lambda c: c.find({"a": 1}).limit(2).clone(),
}


@pytest.mark.parametrize("timeout_ms", [None, 20_000])
def test_state_is_that_of_the_drivers_constructor(site: Site, timeout_ms: int | None) -> None:
    """With client-wide options, and whichever cursors of the namespace were made before."""
    options = {} if timeout_ms is None else {"timeoutMS": timeout_ms}
    ours, plain = site.ours(**options), site.plain(**options)

    async def work() -> None:
        for _ in range(ROUNDS):
            for variant in VARIANTS.values():
                mine = variant(ours[site.database].c)
                theirs = variant(plain[site.database].c)
                for name, find in FINDS.items():
                    made, expected = find(mine), find(theirs)
                    assert state(made) == state(expected), name
                    assert isinstance(made, type(expected))
                    held = driver_cursor(made)
                    assert type(held) is type(driver_cursor(mine.find()))
                    assert held.collection is (mine.delegate if site.name == "motor" else mine)

    site.run(work())


def test_cursors_share_nothing_that_changes(site: Site) -> None:
    client = site.ours()
    filter = {"a": {"$gte": 1}}

    async def work() -> None:
        c = client[site.database].c
        await resolved(c.insert_many([{"_id": n, "a": n} for n in range(4)]))
        first, second, third = (c.find(filter) for _ in range(3))
        assert state(second)["_spec"] is filter
        assert len({id(state(cursor)["_data"]) for cursor in (first, second, third)}) == 3
        second.limit(1)
        found = [await resolved(cursor.to_list(None)) for cursor in (first, second, third)]
        assert [len(documents) for documents in found] == [3, 1, 3]
        assert not first.alive
        assert c.find(filter).alive
        empty: dict[str, Any] = {}
        held = c.find(empty)
        empty["a"] = 5
        assert len(await resolved(held.to_list(None))) == 4

    site.run(work())


@pytest.mark.parametrize("filter", [[], "a", 1, [("a", 1)], {1, 2}, False])
def test_what_is_no_filter_raises_what_the_driver_raises(site: Site, filter: Any) -> None:
    ours, plain = site.ours(), site.plain()

    def outcome(client: Any) -> Any:
        try:
            return state(client[site.database].c.find(filter))
        except Exception as error:
            return type(error), str(error)

    async def work() -> None:
        ours[site.database].c.find({"a": 1})
        for _ in range(ROUNDS):
            assert outcome(ours) == outcome(plain)

    site.run(work())


def test_a_driver_that_keeps_something_else_makes_each_cursor(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later version may give its cursors what they cannot share: then none is shared."""
    client = site.ours()
    made: list[Any] = []
    cls = type(driver_cursor(site.run(_new(client, site))))
    constructor = cls.__init__

    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        constructor(self, *args, **kwargs)
        self._novelty = {}
        made.append(self)

    monkeypatch.setattr(cls, "__init__", construct)

    async def work() -> None:
        c = client[site.database].other
        cursors = [driver_cursor(c.find({"a": 1})) for _ in range(ROUNDS)]
        assert made == cursors
        assert len({id(cursor._novelty) for cursor in cursors}) == ROUNDS

    site.run(work())


async def _new(client: Any, site: Site) -> Any:
    return client[site.database].c.find({"a": 1})


def test_the_constructor_is_run_once_for_each_kind_of_collection(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = site.ours()
    asked: list[Any] = []
    shared = fresh_cursors._shared_state
    monkeypatch.setattr(
        fresh_cursors, "_shared_state", lambda cursor: (asked.append(cursor), shared(cursor))[1]
    )

    async def work() -> None:
        for _ in range(ROUNDS):
            assert state(client[site.database].c.find({"a": 1}))["_data"] == deque()
        assert len(asked) == 1

    site.run(work())


def test_off_is_the_drivers_constructor(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    client = site.ours(Settings.preset("off"))

    def never(*_: Any) -> Any:
        raise AssertionError("everything is off")

    for module in ("pymongo_async", "pymongo_sync", "motor"):
        monkeypatch.setattr(f"qbmongo.clients.{module}.fresh_cursor", never)
    assert state(site.run(_new(client, site)))["_spec"] == {"a": 1}
