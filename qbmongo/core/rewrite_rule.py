"""What a rule of rewriting is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..records import ReadOp
from .trust import Facts

__all__ = ["Rule", "Step"]

Family = Literal["filters", "pipelines"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One equivalence: a pure function from a read to another read with the same answer.

    name: as it is switched off and counted by. family: the module it is in. what: what it does.
    condition: when the two forms have the same answer, whatever documents there are. gain: what the
    server is spared. source: the manual page or server source it rests on.
    marks: names of operators and stages; the rule can only fire where of each set at least one
        occurs. Whether it may fire is decided once for each set of names.
    by_shape: whether it fires does not depend on the values in filters and windows.
    apply: the read and the namespace's facts (None: not known) -> another read, or None where the
        rule does not fire. Never changes what it was given, shares parts with it. Whatever is not
        surely valid it leaves alone.
    """

    name: str
    family: Family
    what: str
    condition: str
    gain: str
    source: str
    marks: tuple[frozenset[str], ...]
    by_shape: bool
    apply: Callable[[ReadOp, Facts | None], ReadOp | None]

    def may_fire(self, names: frozenset[str]) -> bool:
        """Whether a read with these operators and stages may be one for this rule."""
        return all(not marks.isdisjoint(names) for marks in self.marks)


@dataclass(frozen=True, slots=True)
class Step:
    """One firing of a rule. op: the read after it."""

    rule: Rule
    op: ReadOp
