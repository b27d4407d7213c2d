"""The report as a table, as Markdown and as a page: everything is said, and nothing is markup."""

from __future__ import annotations

import builtins
import html.parser
import itertools
import re
from dataclasses import replace
from typing import Any

import pytest

from qbmongo.advisor import charts, render_html, render_markdown, render_table, wording
from qbmongo.advisor.report import Inputs, Report
from qbmongo.errors import QbError
from qbmongo_tests.advisor.sample_report import NASTY, sample_report, served

EMPTY = Report(inputs=Inputs(sources=("profile",), why_not="no server to try on"))
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(html.parser.HTMLParser):
    """What a browser would make of a page: text, tags, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        for name, value in attrs:
            if name in ("src", "href"):
                self.links.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] not in ("script", "style"):
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def test_the_page_says_everything_and_needs_nothing_else() -> None:
    source = render_html.render(sample_report())
    page = Page(source)
    for text in (
        "Create index {origin: 1, hour: -1}",
        "saves about 38.5 s",
        "SORT",
        "COLLSCAN > SORT",
        "IXSCAN > FETCH",
        "createIndex({origin: 1, hour: -1})",
        'dropIndex("origin_1_hour_-1")',
        "Hide index {origin: 1} (origin_1) on airport.flights",
        "not verified",
        "Calls skip 40,000 documents.",
        "the planner did not choose it",
        "app/boards.py:31",
        "2023-11-14 22:13:20 to 2023-11-14 23:13:20 UTC",
        "about 3.3 MiB, an insert takes 40 us without it and 49 us with it",
    ):
        assert text in page.words, text
    assert page.links == []
    assert "http:" not in source
    assert "https:" not in source
    assert "prefers-color-scheme: dark" in source
    assert 'name="viewport"' in source


def test_texts_of_the_program_are_no_markup_in_the_page() -> None:
    page = Page(render_html.render(sample_report()))
    assert page.tags.count("script") == 1
    assert page.handlers == []
    assert " ".join(NASTY.split()) in page.words


def test_an_empty_report_has_no_empty_parts() -> None:
    page = Page(render_html.render(EMPTY))
    assert "Nothing to do" in page.words
    assert "not verified: no server to try on" in page.words
    assert page.tags.count("h2") == 1
    assert render_markdown.render(EMPTY).count("##") == 1
    assert "Nothing to do" in render_table.render(EMPTY)


def test_the_page_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any) -> Any:
        if name == "jinja2":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(QbError, match=r"qbmongo\[advisor\]"):
        render_html.render(EMPTY)


def test_markdown_says_everything_and_its_tables_stay_tables() -> None:
    text = render_markdown.render(sample_report())
    for part in (
        "createIndex({origin: 1, hour: -1})",
        "| documents examined | 20,000 | 20 |",
        "| sorted in memory | yes | no |",
        "| plan | COLLSCAN > SORT | IXSCAN > FETCH |",
        "**medium**: Calls skip 40,000 documents.",
        "1. create it",
        "## What was read",
    ):
        assert part in text, part
    width = 0
    for line in text.splitlines():
        bars = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (width and bars) or bars == width, line
        width = bars
    fences = [line for line in text.splitlines() if line.startswith("```")]
    assert len(fences) % 2 == 0


def test_markdown_escapes_what_is_running_text() -> None:
    text = render_markdown.render(sample_report())
    assert r"\<script\>" in text
    for line in text.splitlines():
        if "<script>" in line:  # only inside of code spans
            assert "`" in line


def test_the_table_says_everything_in_the_width_given() -> None:
    for width in (80, 120):
        text = render_table.render(sample_report(), width)
        assert max(map(len, text.splitlines())) <= width
        folded = " ".join(text.split())
        for part in ("38.5 s", "createIndex({origin: 1, hour: -1})", "and 2 more shapes", "[bold]"):
            assert part in folded, part
        assert "\x1b" not in text
    assert "\x1b[" in render_table.render(sample_report(), color=True)


def test_names_steer_no_terminal_and_end_no_line() -> None:
    report = sample_report()
    first, *others = report.recommendations
    spec = replace(
        first.spec,
        namespace="shop.\x1b[2J\n# all is well",
        keys=(("a\x1b[31m", 1),),
        partial_filter={"\x1b[m": "\u202e"},
    )
    hostile = replace(
        first, spec=spec, why="\x1b[31m", mongosh="one\x1b\ntwo", places=(("\x1b", 1),)
    )
    inputs = replace(report.inputs, notes=("\x1b[31m",))
    report = replace(report, recommendations=(hostile, *others), inputs=inputs)
    text = render_table.render(report, 300)
    assert "\x1b" not in text
    assert r"on shop.\x1b[2J\n# all is well" in text
    assert "one\\x1b\n" in text
    assert "\n# all is well" not in render_markdown.render(report)


def test_figures_of_a_sample_are_called_so() -> None:
    for text in (
        render_table.render(sample_report()),
        render_markdown.render(sample_report()),
        Page(render_html.render(sample_report())).words,
    ):
        assert "those on the sample that was tried" in " ".join(text.split())
    assert wording.sample_note(EMPTY) is None


def test_the_summary_counts_what_is_to_do() -> None:
    report = sample_report()
    assert wording.summary(report) == (
        "Indexes: 1 to create, 1 to hide. Estimated to save 38.5 s of 100 s waited for the server"
        " (38 %). 1 other finding."
    )
    assert wording.summary(EMPTY).startswith("Nothing to do")


def test_time_bars_add_up_to_all_the_time() -> None:
    shapes = sample_report().workload
    bars = charts.time_bars(shapes)
    assert len(bars) == 13
    assert bars[0].width == 100.0
    assert bars[-1].label == "4 more shapes"
    assert charts.time_bars([]) == []


def test_spans_lie_on_a_logarithmic_axis() -> None:
    spans, ticks = charts.examined_spans(sample_report().workload)
    places = [place for place, _ in ticks]
    steps = {round(high - low, 6) for low, high in itertools.pairwise(places)}
    assert len(steps) == 1
    assert places[0] == 0.0
    assert places[-1] == 100.0
    assert [label for _, label in ticks] == ["0", "1", "10", "100", "1k", "10k", "100k"]
    first = spans[0]
    assert 0 < first.returned == first.after < first.examined <= 100  # type: ignore[operator]
    assert first.text == "20,000 examined for 20 returned, 20 with the advice"
    assert charts.examined_spans([served(0, before=None)]) == ([], [])


def test_the_histogram_counts_every_call() -> None:
    histogram = charts.latency([served(0)])
    assert histogram is not None
    counted = [
        int(n.replace(",", ""))
        for c in histogram.columns
        for n in re.findall(r": ([\d,]+) calls", c.title)
    ]
    assert sum(counted) == 990
    assert max(column.height for column in histogram.columns) == 100.0
    assert histogram.text.startswith("990 calls: p50 below")
    assert charts.latency([served(0, bins=())]) is None
