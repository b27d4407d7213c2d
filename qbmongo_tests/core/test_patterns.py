"""Regular expressions: accepted where Python and PCRE2 surely agree, refused everywhere else."""

from __future__ import annotations

import time

import pytest

from qbmongo.core.patterns import compile_search


@pytest.mark.parametrize(
    ("pattern", "options", "subject", "found"),
    [
        ("abc", "", "xabcx", True),
        ("abc", "", "ab", False),
        ("^a", "", "ba", False),
        ("b$", "", "ab", True),
        ("^$", "", "", True),
        ("a.c", "", "abc", True),
        ("^ab", "i", "ABC", True),
        ("^ab", "u", "abc", True),
        (r"\d+-\w", "", "see 12-x", True),
        ("é", "", "café", True),
        ("[A-Za-f0-9_.-]{2,3}", "", "x9y", False),
        (r"[^\s,]", "", " , ", False),
        ("(?:foo|ba(r|z))", "", "baz", True),
        (r"\bto\b", "", "go to it", True),
        ("colou?r", "", "color", True),
        ("a{2}", "", "baab", True),
        (r"1\.5\$", "", "1.5$", True),
        ("a.b", "s", "a-b", True),
        ("^.$", "", "𝄞", True),
    ],
)
def test_a_plain_pattern_is_searched(pattern: str, options: str, subject: str, found: bool) -> None:
    search = compile_search(pattern, options)
    assert search is not None
    assert search(subject) is found


@pytest.mark.parametrize(
    ("pattern", "options"),
    [
        ("a", "x"), ("a", "l"), ("a", "q"), ("é", "i"),
        (r"a\Z", ""), (r"\Ba", ""), (r"(a)\1", ""), (r"\p{L}", ""), (r"\Qa.b\E", ""), (r"\x41", ""),
        (r"\h", ""), (r"\R", ""), ("(?i)a", ""), ("(?=a)", ""), ("(?<!a)b", ""), ("(?P<n>a)", ""),
        ("(?#c)a", ""), ("(*UTF8)a", ""), ("a++", ""), ("a*+", ""), ("a{,3}", ""), ("a{x}", ""),
        ("a{1,2}{3}", ""), ("[[:alpha:]]", ""), ("[]a]", ""), ("[a&&b]", ""), ("[z-a]", ""),
        (r"[\D]", ""), ("(a)*", ""), ("(ab)?", ""), ("*a", ""), ("^*", ""), ("a)", ""), ("(a", ""),
        ("[a", ""), ("a\\", ""), ("a\nb", ""), ("a\0b", ""), ("a\\\x01", ""), ("a{2000}", ""),
        ("a" * 300, ""), ("[é]", ""), ("}", ""), ("]", ""),
    ],
)  # fmt: skip
def test_what_engines_may_read_differently_is_refused(pattern: str, options: str) -> None:
    assert compile_search(pattern, options) is None


@pytest.mark.parametrize(
    ("pattern", "options", "subject"),
    [
        ("k", "i", "\u212a"),  # folds to "k" in Unicode
        (r"\d", "", "٣"),
        (r"[\w]", "", "é"),
        (r"\bx", "", "éx"),
        ("a.b", "", "a\nb"),
        ("a$", "", "a\n"),
        ("^b", "m", "a\nb"),
        ("a.b", "", "a\u2028b"),
        ("a.b", "", "a\rb"),
        ("a", "", "b\0a"),
    ],
)
def test_a_subject_that_engines_may_read_differently_is_not_told(
    pattern: str, options: str, subject: str
) -> None:
    search = compile_search(pattern, options)
    assert search is not None
    assert search(subject) is None


@pytest.mark.parametrize(
    ("pattern", "subject"),
    [
        ("a*a*a*a*a*b", "a" * 5000),
        ("a?" * 30 + "a" * 30 + "b", "a" * 60),
        ("(a|a)" * 40 + "b", "a" * 80),
        (".*x.*y", "z" * 100_000),
        ("[ab]*[ab]*c", "ab" * 5000),
    ],
)
def test_a_search_that_could_backtrack_for_long_is_not_begun(pattern: str, subject: str) -> None:
    # Of this thread alone: others may keep the machine busy.
    started_s = time.thread_time()
    search = compile_search(pattern, "")
    assert search is not None
    assert search(subject) is None
    assert time.thread_time() - started_s < 5
