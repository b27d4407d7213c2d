"""Documents of a joined find are decoded together where nobody can see the difference."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from datetime import tzinfo
from types import SimpleNamespace
from typing import Any

import bson
import pytest
from bson import SON
from bson.codec_options import DEFAULT_CODEC_OPTIONS, CodecOptions, TypeDecoder, TypeRegistry
from bson.raw_bson import RawBSONDocument

from qbmongo.clients.point_reads import decoded_together
from qbmongo.core.tickets import ALONE
from qbmongo_tests.clients.joined_reads import JoinedReads
from qbmongo_tests.clients.sites import Site

NUMBERED = [{"_id": n, "v": f"value {n}"} for n in range(5)]


def by_id(collection: Any, *values: Any) -> list[Callable[[], Any]]:
    return [lambda v=v: collection.find_one({"_id": v}) for v in values]


_CALLER: ContextVar[str] = ContextVar("caller", default="nobody")


class _Signed(TypeDecoder):
    """A decoder of the program's that looks at who is calling."""

    bson_type = str

    def transform_bson(self, value: Any) -> Any:
        return f"{value} for {_CALLER.get()}"


def _as_caller(name: str, call: Callable[[], Any]) -> Callable[[], Any]:
    def start() -> Any:
        context = copy_context()
        context.run(_CALLER.set, name)
        made = context.run(call)
        if not asyncio.iscoroutine(made):
            return made

        async def wait() -> Any:
            return await asyncio.get_running_loop().create_task(made, context=context)

        return wait()

    return start


@pytest.mark.skipif(sys.version_info < (3, 11), reason="a task is given no context before 3.11")
def test_what_a_programs_decoder_looks_at_is_its_callers(site: Site) -> None:
    reads = JoinedReads(site, NUMBERED)
    codec: CodecOptions[Any] = CodecOptions(type_registry=TypeRegistry([_Signed()]))
    ours = reads.collection.with_options(codec_options=codec)

    async def work() -> None:
        calls = [_as_caller(f"{n}", call) for n, call in enumerate(by_id(ours, 1, 2, 3))]
        results = await reads.together(calls, collection=ours)
        assert [r["v"] for r in results] == [f"value {n + 1} for {n}" for n in range(3)]

    site.run(work())


def test_who_asks_for_the_same_is_given_an_object_of_its_own(site: Site) -> None:
    reads = JoinedReads(site, NUMBERED)

    async def work() -> None:
        first, second, third = await reads.together(by_id(reads.collection, 1, 1, 2))
        assert first == second == NUMBERED[1]
        assert third == NUMBERED[2]
        first["v"] = "changed"
        assert second == NUMBERED[1]

    site.run(work())


class _Zone(tzinfo):
    """A time zone of the program's."""


@pytest.mark.parametrize(
    "codec",
    [
        CodecOptions(document_class=SON),
        CodecOptions(document_class=RawBSONDocument),
        CodecOptions(tz_aware=True, tzinfo=_Zone()),
        CodecOptions(type_registry=TypeRegistry([_Signed()])),
        CodecOptions(unicode_decode_error_handler="replace"),
    ],
    ids=["SON", "raw", "zone", "decoder", "handler"],
)
def test_what_the_program_takes_part_in_is_decoded_by_each(codec: Any) -> None:
    find: Any = SimpleNamespace(gathering=SimpleNamespace(codec=codec))
    outcomes: Any = [(None, bson.encode({"_id": 1})), (None, bson.encode({"_id": 2}))]
    assert decoded_together(find, outcomes) is None
    find.gathering.codec = DEFAULT_CODEC_OPTIONS
    assert decoded_together(find, outcomes) == [{"_id": 1}, {"_id": 2}]
    assert decoded_together(find, [*outcomes, (None, b"")]) is None
    assert decoded_together(find, [*outcomes, (None, ALONE)]) is None
    assert decoded_together(find, [(None, ValueError())]) is None
    assert decoded_together(find, []) is None
