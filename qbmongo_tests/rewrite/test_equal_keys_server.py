"""Reads of one key have one answer: the canonical forms of core/keys.py against the server.

QBMONGO_KEY_PAIRS sets how many pairs each test compares.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

import bson
import pytest
from bson.codec_options import DEFAULT_CODEC_OPTIONS
from pymongo.database import Database

from qbmongo.core import keys
from qbmongo.core.keys import key_of
from qbmongo.core.match import Matcher
from qbmongo.records import ReadOp
from qbmongo_tests.rewrite.answers import Answer, ask, difference
from qbmongo_tests.rewrite.harness import Different, collections
from qbmongo_tests.rewrite.reads import Case, Reads
from qbmongo_tests.rewrite.writings import another_writing

PAIRS = int(os.environ.get("QBMONGO_KEY_PAIRS", "1500"))
FOUND_OUT_WITHIN = 5_000
SEED = int(os.environ.get("QBMONGO_PAIRS_SEED", "0"))


def _key(op: ReadOp) -> Hashable | None:
    return key_of(op, DEFAULT_CODEC_OPTIONS)


def _compare_equal_keys(database: Database[Any], pairs: int) -> Counter[str]:
    """Writes filters in other ways, and asks the server both where their keys are equal."""
    seen: Counter[str] = Counter()
    for generate in collections(database, SEED):
        first: dict[Hashable, tuple[Case, Answer]] = {}
        for _ in range(400):
            case = generate.keyed()
            for written in (case, another_writing(generate, case)):
                seen["reads"] += 1
                key = _key(written.op)
                if key is None:
                    continue
                known = first.get(key)
                if known is None:
                    first[key] = (written, ask(database, written.op))
                elif not _encoded_alike(known[0].op, written.op):
                    seen["pairs"] += 1
                    other = ask(database, written.op)
                    seen["errors"] += other.code is not None
                    found = difference(database, written, known[1], other)
                    if found is not None:
                        raise Different(f"{known[0].op.filter} and {written.op.filter}: {found}")
        if seen["pairs"] >= pairs:
            return seen
    raise AssertionError("there is always another collection")


def _encoded_alike(one: ReadOp, other: ReadOp) -> bool:
    return bson.encode(one.filter) == bson.encode(other.filter)


@pytest.mark.needs_index_correctness
def test_reads_of_one_key_have_one_answer(
    database: Database[dict[str, Any]], report: Callable[[object], None]
) -> None:
    seen = _compare_equal_keys(database, PAIRS)
    report(dict(seen))


@pytest.mark.needs_index_correctness
@pytest.mark.parametrize("kind", [bool, float])
def test_listing_once_what_python_calls_equal_is_found_out(
    database: Database[dict[str, Any]], kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_SORTED", (*keys._SORTED, kind))
    monkeypatch.setattr(keys, "set", _kinds_alike, raising=False)
    with pytest.raises(Different):
        _compare_equal_keys(database, FOUND_OUT_WITHIN)


@pytest.mark.needs_index_correctness
def test_merging_conditions_of_one_name_is_found_out(
    database: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def merged(filter: dict[str, Any]) -> dict[str, Any]:
        made = {name: value for name, value in filter.items() if name != "$and"}
        for branch in filter.get("$and", []):
            made.update(branch)
        return made

    monkeypatch.setattr(keys, "_unwrapped", merged)
    with pytest.raises(Different):
        _compare_equal_keys(database, FOUND_OUT_WITHIN)


def _kinds_alike(values: Any) -> Any:
    """As if numbers of all types were of one."""
    made = set(values)
    return {int} if made and made <= {int, bool, float} else made


def test_the_matcher_calls_no_canonical_filter_another() -> None:
    """A second judge, which has nothing of the server's."""
    generate = Reads(SEED, "x.c")
    told = changed = 0
    while changed < 1_500:
        documents = [generate.document(number) for number in range(12)]
        for _ in range(50):
            op = generate.keyed().op
            filter: Any = keys._canonical_filter(dict(op.filter), 0)
            if bson.encode(filter) == bson.encode(op.filter):
                continue
            changed += 1
            one, other = Matcher(op.filter), Matcher(filter)
            for document in documents:
                truths = {one.matches(document), other.matches(document)}
                told += None not in truths
                assert truths != {True, False}, (op.filter, filter, document)
    assert told > 1_500 * 6
