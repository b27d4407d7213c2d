"""Regular expressions that Python's `re` and the server's PCRE2 surely read alike.

Only a plain subset is accepted: literals, simple classes, anchors, groups without quantifier,
greedy and lazy quantifiers. There, whether a match exists does not depend on the engine. Searching
is bounded, too: a pattern that could backtrack for long is refused instead of run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

# Compiled when first used: together they would take a tenth of what importing qbmongo takes.
_compiled = cache(re.compile)
_LITERAL = r"[A-Za-z0-9 _,:;@#%&=~'\"<>/!`-]|[^\x00-\x7f]"
_ESCAPE = r"(?a)\\(?:[dDwWsSntr]|[^\w\s\x80-\U0010ffff]|_)"
_CLASS = (
    r"""\[\^?(?:\\[dwsntr.\\/\-\]\[^$*+?(){}|]"""
    r"""|[A-Za-z0-9](?:-[A-Za-z0-9])?|[ _.,:;@#%=!/+*?$'"])+-?\]"""
)
_QUANTIFIER = r"(?:(?P<open>[*+])|(?P<maybe>\?)|\{(?P<low>\d{1,3})(?P<to>,\d{0,3})?\})\??"
_LETTERS = r"\\[bdDwWsS]"
_LINE_BREAKS = "[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]"
_MAX_PATTERN_CHARS = 256
_MAX_STEPS = 1_000_000


def compile_search(pattern: str, options: str) -> Callable[[str], bool | None] | None:
    """A function that says whether the server's regex finds a match in a string.

    Args:
        pattern: the pattern as PCRE2 gets it.
        options: option letters as the server gets them.

    Returns:
        A function from a subject to True, False or None ("cannot tell"); None when the pattern or
        an option is outside the subset.

    Source: https://www.mongodb.com/docs/manual/reference/operator/query/regex/
    """
    if len(pattern) > _MAX_PATTERN_CHARS or not pattern.isprintable():
        return None
    if not set(options) <= set("imsu"):
        return None
    shape = _Shape()
    if not shape.read(pattern):
        return None
    caseless = "i" in options
    if caseless and not pattern.isascii():
        return None
    flags = (re.IGNORECASE if caseless else 0) | (re.DOTALL if "s" in options else 0)
    try:
        compiled = re.compile(pattern, flags)
    except (re.error, OverflowError):
        return None

    def search(subject: str) -> bool | None:
        # Beyond ASCII the engines fold case and know letters differently; so it is, by options of
        # their build, with what ends a line.
        if (caseless or shape.reads_letters) and not subject.isascii():
            return None
        if "\0" in subject or (shape.reads_lines and _compiled(_LINE_BREAKS).search(subject)):
            return None
        if shape.steps(len(subject)) > _MAX_STEPS:
            return None
        return compiled.search(subject) is not None

    return search


class _Shape:
    """What a pattern consists of, as far as the price of a search depends on it."""

    __slots__ = ("branches", "optionals", "reads_letters", "reads_lines", "repeats")

    def __init__(self) -> None:
        self.repeats = 0
        self.optionals = 0
        self.branches = 0
        self.reads_letters = False
        self.reads_lines = False

    def steps(self, subject_chars: int) -> int:
        """An upper bound of the order of backtracking steps for a subject of this length."""
        choices = self.optionals + self.branches
        return int(2**choices * (subject_chars + 1) ** (self.repeats + 1))

    def read(self, pattern: str) -> bool:
        """Take the pattern apart; False when it holds anything outside the subset.

        Whether groups and ranges are well-formed is left to the compiler.
        """
        self.reads_letters = _compiled(_LETTERS).search(pattern) is not None
        position = depth = 0
        while position < len(pattern):
            char = pattern[position]
            if char == "(":
                depth += 1
                position += 3 if pattern.startswith("(?:", position) else 1
                continue
            if char == ")":
                depth -= 1
                position += 1
                continue
            if char == "|":
                self.branches += depth > 0
                position += 1
                continue
            if char in "^$":
                self.reads_lines = True
                position += 1
                continue
            if pattern.startswith(r"\b", position):
                position += 2
                continue
            length = self._atom_chars(pattern, position)
            if not length:
                return False
            position += length
            quantifier = _compiled(_QUANTIFIER).match(pattern, position)
            if quantifier is not None:
                self._count(quantifier)
                position = quantifier.end()
        return True

    def _atom_chars(self, pattern: str, position: int) -> int:
        if pattern[position] == ".":
            self.reads_lines = True
            return 1
        for kind in (_LITERAL, _ESCAPE, _CLASS):
            found = _compiled(kind).match(pattern, position)
            if found is not None:
                return found.end() - position
        return 0

    def _count(self, quantifier: re.Match[str]) -> None:
        if quantifier["maybe"]:
            self.optionals += 1
        elif quantifier["open"] or quantifier["to"]:
            self.repeats += 1
