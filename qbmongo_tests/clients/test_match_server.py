"""The matcher against the server itself: random filters on random documents.

The reference is find() of the plain driver. QBMONGO_MATCH_FILTERS sets the number of filters and
QBMONGO_MATCH_SEED the seed, for long runs.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from pymongo.collation import Collation
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure

from qbmongo.core.match import Matcher
from qbmongo_tests.random_filters import Generator

FILTERS = int(os.environ.get("QBMONGO_MATCH_FILTERS", "1500"))
SEED = int(os.environ.get("QBMONGO_MATCH_SEED", "20261"))
DOCUMENTS = 60
FILTERS_PER_COLLECTION = 500


class StringGenerator(Generator):
    """Random strings and patterns, of what patterns.py accepts and of what it must refuse."""

    _ATOMS = (
        "a", "b", "B", "1", " ", "_", "-", "é", ".", r"\.", r"\d", r"\w", r"\s", r"\W", r"\D",
        r"\S", "[ab]", "[^a]", "[a-f]", "[A-Z1]", r"[\d_]", r"[^\w]", "(a|b1)", "(?:ab|B)", "^",
        "$", r"\b",
    )  # fmt: skip
    _ODD_ATOMS = (r"\B", r"\Z", "(?=a)", r"\h", "[[:alpha:]]", "{", "]", "(a)*", "a++", "b{,2}")
    _QUANTIFIERS = ("", "", "", "", "", "*", "+", "?", "{2}", "{1,2}", "{1,}", "*?", "+?")
    _CHARS = "aabbB11 _-."
    _ODD_CHARS = "éÉ\u212ak\n\r\u2028\x0b{]"

    def document(self, number: int) -> dict[str, Any]:
        chars = self.random.choices(self._CHARS, k=self.random.randint(0, 7))
        if self.random.random() < 0.3:
            chars.append(self.random.choice(self._ODD_CHARS))
            self.random.shuffle(chars)
        return {"_id": number, "a": "".join(chars)}

    def search(self) -> dict[str, Any]:
        pattern = "".join(
            self.random.choice(self._ATOMS if self.random.random() < 0.97 else self._ODD_ATOMS)
            + self.random.choice(self._QUANTIFIERS)
            for _ in range(self.random.randint(1, 4))
        )
        if self.random.random() < 0.2:
            pattern += "|" + self.random.choice(self._ATOMS)
        return {"a": {"$regex": pattern, "$options": self.random.choice(("", "", "i", "m", "s"))}}


# Faults of the test servers: they refuse $or, $and and $nor as the first of an $elemMatch, which
# https://www.mongodb.com/docs/manual/reference/operator/query/elemMatch/ allows, and secantusd-py
# breaks off where $mod meets Infinity.
_REFUSED_WRONGLY = re.compile(r"unknown operator: \$(or|and|nor)\b|internal server error")

# A fault of secantusd-py: $mod takes whole numbers for doubles, which cannot hold all of 64 bits.
# https://www.mongodb.com/docs/manual/reference/operator/query/mod/
_LARGE = re.compile(r"\d{16}")


def _ask(
    collection: Collection[dict[str, Any]], query: dict[str, Any], collation: Collation | None
) -> tuple[set[int], str | None]:
    try:
        documents = collection.find(query, {"_id": 1}, collation=collation).to_list()
    except OperationFailure as error:
        return set(), str(error)
    return {document["_id"] for document in documents}, None


def _compare(
    database: Database[dict[str, Any]],
    generate: Generator,
    new_filter: Callable[[], dict[str, Any]],
    filters: int,
    collation: Collation | None = None,
) -> Counter[str]:
    """Ask the server and the matcher the same; fails where one contradicts the other."""
    seen: Counter[str] = Counter(filters=filters)
    for number in range(filters):
        if number % FILTERS_PER_COLLECTION == 0:
            documents = [generate.document(number) for number in range(DOCUMENTS)]
            collection = database[f"c{number}"]
            collection.insert_many(documents)
        query = new_filter()
        matcher = Matcher(query, simple=collation is None)
        truths = [matcher.matches(document) for document in documents]
        found, error = _ask(collection, query, collation)
        if error is not None:
            seen["refused"] += 1
            told = any(truth is not None for truth in truths)
            assert not told or _REFUSED_WRONGLY.search(error), query
            continue
        has_remainder = "$mod" in repr(query)
        for document, truth in zip(documents, truths, strict=True):
            if has_remainder and _LARGE.search(repr(document)):
                continue
            seen[{True: "yes", False: "no", None: "cannot tell"}[truth]] += 1
            assert truth in (None, document["_id"] in found), (query, document)
        seen["filters told for every document"] += None not in truths
    return seen


Report = Callable[[Counter[str]], float]


@pytest.fixture
def report(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Report:
    """Show figures on the terminal and in the report; returns the share that was not told."""

    def show(seen: Counter[str]) -> float:
        share = seen["cannot tell"] / (seen["yes"] + seen["no"] + seen["cannot tell"])
        figures = {**seen, "share of cannot tell": f"{share:.2%}"}
        request.node.user_properties.extend(figures.items())
        terminal = request.config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            line = ", ".join(f"{name}: {figure}" for name, figure in figures.items())
            with capsys.disabled():
                terminal.write_line(f"\n{line}")
        return share

    return show


def test_the_matcher_never_contradicts_the_server(
    database: Database[dict[str, Any]], report: Report
) -> None:
    generate = Generator(SEED)
    seen = _compare(database, generate, generate.filter, FILTERS)
    assert seen["refused"] < FILTERS / 10
    assert seen["yes"] > FILTERS
    assert report(seen) < 0.02


def test_under_a_collation_the_matcher_never_contradicts_the_server(
    database: Database[dict[str, Any]], report: Report
) -> None:
    generate = Generator(SEED + 1)
    caseless = Collation("en", strength=1)
    seen = _compare(database, generate, generate.filter, FILTERS // 4, caseless)
    assert report(seen) < 0.1


def test_a_searched_pattern_never_contradicts_the_server(
    database: Database[dict[str, Any]], report: Report
) -> None:
    generate = StringGenerator(SEED + 2)
    seen = _compare(database, generate, generate.search, FILTERS // 4)
    assert seen["yes"] > FILTERS / 4
    assert report(seen) < 0.5
