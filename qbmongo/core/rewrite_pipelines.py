"""Rules on pipelines.

None moves or drops a stage that could fail for a document. A `$sort` that leaves ties lets the
server choose: every choice is an answer to the query as it was written.

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/sort/#sort-consistency
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bson.objectid import ObjectId

from ..records import ReadOp
from .paths import FIELD_OPERATORS
from .rewrite_filters import with_pipeline
from .rewrite_rule import Rule
from .rewrite_stages import (
    SCALARS,
    adds_fields,
    counts_only,
    drops_fields,
    leading_matches,
    sorted_fields,
    stage_of,
    whole,
)
from .trust import Facts

__all__ = ["PIPELINE_RULES"]

_JOINED = "qb_joined"
_STORED_NOWHERE = ObjectId("b9f3c1d07e5a4c2286d1f04e")
_OF_RUNS = frozenset({"$addFields", "$lookup", "$project", "$set", "$unset", "$unwind"})
_GEO = frozenset({"$geoIntersects", "$geoWithin"})


def _stage_at(pipeline: list[Any], at: int) -> tuple[str, Any]:
    return stage_of(pipeline[at]) if 0 <= at < len(pipeline) else ("", None)


def _window(pipeline: list[Any], at: int) -> tuple[Any, Any, int] | None:
    """$skip and $limit that stand at a place (0 and None: not there), and where they end."""
    skip: Any = 0
    limit: Any = None
    name, value = _stage_at(pipeline, at)
    if name == "$skip":
        if not whole(value, 0):
            return None
        skip, at = value, at + 1
        name, value = _stage_at(pipeline, at)
    if name == "$limit":
        if not whole(value, 1):
            return None
        limit, at = value, at + 1
    return skip, limit, at


class _Run:
    """Adjacent stages that make one or more documents of each, in order, and cannot fail.

    start, end: where they stand. added: top-level fields they write. joins: a $lookup is among
    them; unwinds: one of them may make several documents of one; drops: one drops fields, so that
    what a $sort behind them holds is smaller than before them.
    """

    __slots__ = ("added", "arrays", "drops", "end", "joins", "start", "unwinds")

    def __init__(self, start: int) -> None:
        self.start = self.end = start
        self.added: set[str] = set()
        self.arrays: set[str] = set()
        self.joins = False
        self.unwinds = False
        self.drops = False

    def takes(self, name: str, specification: Any) -> bool:
        """Takes one more stage in, if it is one for it."""
        if name == "$unwind":
            made = _unwound(specification, self.arrays)
            if made is None:
                return False
            self.arrays.discard(made)
            self.unwinds = True
        elif name in ("$project", "$unset"):
            if not drops_fields(name, specification, self.arrays):
                return False
            self.drops = True
        else:
            fields = adds_fields(name, specification, self.arrays)
            if fields is None:
                return False
            self.added |= fields
            self.joins = self.joins or name == "$lookup"
        self.end += 1
        return True


def _runs(pipeline: list[Any]) -> Iterator[_Run]:
    """The runs of a pipeline that a $sort, $skip or $limit follows."""
    run = _Run(0)
    for at, stage in enumerate(pipeline):
        name, specification = stage_of(stage)
        if name in _OF_RUNS and run.takes(name, specification):
            continue
        if run.end == run.start:
            run.start = run.end = at + 1
            continue
        if name in ("$sort", "$skip", "$limit"):
            yield run
        run = _Run(at + 1)


def _sorted_apart(pipeline: list[Any], run: _Run) -> bool:
    """Whether a $sort by fields that the run does not write follows it, and may go before it."""
    if run.drops:
        return False
    name, specification = stage_of(pipeline[run.end])
    fields = sorted_fields(specification) if name == "$sort" else None
    return fields is not None and run.added.isdisjoint(fields)


def _sort_before_fields(op: ReadOp, facts: Facts | None) -> ReadOp | None:
    pipeline = list(op.pipeline or ())
    for run in _runs(pipeline):
        start, at = run.start, run.end
        if run.unwinds or not _sorted_apart(pipeline, run):
            continue
        window = _window(pipeline, at + 1)
        if window is None:
            continue
        _, limit, end = window
        # Else nothing is spared: neither has an index the order, nor are there fewer lookups.
        if start == leading_matches(pipeline) or (run.joins and limit is not None):
            moved = [*pipeline[at:end], *pipeline[start:at]]
            return with_pipeline(op, [*pipeline[:start], *moved, *pipeline[end:]])
    return None


def _page_before_unwind(op: ReadOp, facts: Facts | None) -> ReadOp | None:
    pipeline = list(op.pipeline or ())
    for run in _runs(pipeline):
        start, at = run.start, run.end
        if not run.unwinds:
            continue
        after = at
        front: list[Any] = []
        if stage_of(pipeline[at])[0] == "$sort":
            if not _sorted_apart(pipeline, run):
                continue
            front.append(pipeline[at])
            after += 1
        window = _window(pipeline, after)
        if window is None:
            continue
        skip, limit, _ = window
        if limit is not None:
            first = int(skip) + int(limit)
            name, value = _stage_at(pipeline, start - 1)
            if front or name != "$limit" or not whole(value, 1) or value > first:
                front.append({"$limit": first})
        if front:
            moved = [*front, *pipeline[start:at]]
            return with_pipeline(op, [*pipeline[:start], *moved, *pipeline[after:]])
    return None


def _unwound(specification: Any, arrays: set[str]) -> str | None:
    """The field of a joined array that an $unwind makes at least one document of."""
    if type(specification) is not dict or specification.keys() != {
        "path",
        "preserveNullAndEmptyArrays",
    }:
        return None
    path = specification["path"]
    if specification["preserveNullAndEmptyArrays"] is not True or type(path) is not str:
        return None
    return path[1:] if path[:1] == "$" and path[1:] in arrays else None


def _sort_before_count(op: ReadOp, facts: Facts | None) -> ReadOp | None:
    pipeline = list(op.pipeline or ())
    for at in range(1, len(pipeline)):
        if counts_only(*stage_of(pipeline[at])) is None:
            continue
        before = at - 1
        while before >= 0:
            name, value = stage_of(pipeline[before])
            if name == "$sort":
                # Two paths may be arrays in one document: the server refuses to sort by both. The
                # own _id of an ordinary collection is none.
                own = facts is not None and facts.refusal is None
                own = own and before == leading_matches(pipeline)
                paths = 0 if sorted_fields(value) is None else len(value)
                if paths != 1 and not (own and paths == 2 and "_id" in value):
                    return None
                return with_pipeline(op, [*pipeline[:before], *pipeline[before + 1 :]])
            if not (name == "$limit" and whole(value, 1)) and not (
                name == "$skip" and whole(value, 0)
            ):
                return None
            before -= 1
        return None
    return None


def _join_before_count(op: ReadOp, facts: Facts | None) -> ReadOp | None:
    pipeline = list(op.pipeline or ())
    if len(pipeline) < 2:
        return None
    last = len(pipeline) - 1
    made = counts_only(*stage_of(pipeline[last]))
    if made is None or _JOINED in made:
        return None
    # The longest run of harmless stages before the count, so that what a first one makes is known.
    start = last
    while start and stage_of(pipeline[start - 1])[0] in ("$addFields", "$set", "$lookup"):
        start -= 1
    arrays: set[str] = set()
    sources: dict[tuple[str, str], None] = {}
    for stage in pipeline[start:last]:
        name, specification = stage_of(stage)
        if adds_fields(name, specification, arrays) is None:
            return None
        if name == "$lookup":
            sources[specification["from"], specification["foreignField"]] = None
    if not sources:
        return None
    # Who may not read the other collection is still refused. It is joined once, the same way, by a
    # value that nobody stores: no document of it is looked at, which a view might fail to compute.
    # $set and $unset would be unknown to servers before 4.2.
    asked: list[Any] = []
    for source, field in sources:
        asked += [
            {"$addFields": {_JOINED: _STORED_NOWHERE}},
            {
                "$lookup": {
                    "from": source,
                    "localField": _JOINED,
                    "foreignField": field,
                    "as": _JOINED,
                }
            },
        ]
    asked.append({"$project": {_JOINED: 0}})
    return with_pipeline(op, [*pipeline[:start], pipeline[last], *asked])


def _facet_common_match(op: ReadOp, facts: Facts | None) -> ReadOp | None:
    pipeline = list(op.pipeline or ())
    start = leading_matches(pipeline)
    if start >= len(pipeline):
        return None
    name, branches = stage_of(pipeline[start])
    if name != "$facet" or type(branches) is not dict or not branches:
        return None
    common: Any = None
    for branch in branches.values():
        if type(branch) is not list or not branch:
            return None
        first, filter = stage_of(branch[0])
        if first != "$match" or not _is_plain(filter):
            return None
        if common is None:
            common = branch[0]
        elif not _same(filter, common["$match"]):
            return None
    # A branch may not be empty.
    left = {name: branch[1:] or branch for name, branch in branches.items()}
    if start and pipeline[start - 1] == common and left == branches:
        return None
    return with_pipeline(op, [*pipeline[:start], common, {"$facet": left}, *pipeline[start + 1 :]])


def _is_plain(filter: Any) -> bool:
    """Whether a filter asks for values of fields only: allowed, and the same, in every place."""
    if type(filter) is not dict or not filter:
        return False
    for name, value in filter.items():
        if name in ("$and", "$or", "$nor"):
            if type(value) is not list or not value or not all(map(_is_plain, value)):
                return False
        elif name[:1] == "$":
            return False
        elif type(value) is dict:
            operators = [key for key in value if key[:1] == "$"]
            if not FIELD_OPERATORS.issuperset(operators) or not _GEO.isdisjoint(operators):
                return False
            if "$not" in value or "$elemMatch" in value:
                return False
    return True


def _same(left: Any, right: Any) -> bool:
    """Whether two values are surely encoded alike."""
    kind = type(left)
    if kind is not type(right):
        return False
    if kind is dict:
        return list(left) == list(right) and all(_same(left[name], right[name]) for name in left)
    if kind is list:
        return len(left) == len(right) and all(map(_same, left, right))
    return (kind is str or kind in SCALARS) and bool(left == right)


def _in_branches(
    apply: Callable[[ReadOp, Facts | None], ReadOp | None],
) -> Callable[[ReadOp, Facts | None], ReadOp | None]:
    """A rule's `apply` that also tries each branch of a $facet, which is a pipeline of its own."""

    def everywhere(op: ReadOp, facts: Facts | None) -> ReadOp | None:
        changed = apply(op, facts)
        if changed is not None:
            return changed
        pipeline = list(op.pipeline or ())
        for at, stage in enumerate(pipeline):
            if "$facet" not in stage:
                continue
            _, branches = stage_of(stage)
            if type(branches) is not dict:
                continue
            for key, branch in branches.items():
                changed = apply(with_pipeline(op, branch), None) if type(branch) is list else None
                if changed is not None:
                    facet = {"$facet": {**branches, key: changed.pipeline}}
                    return with_pipeline(op, [*pipeline[:at], facet, *pipeline[at + 1 :]])
        return None

    return everywhere


_ADDERS = frozenset({"$addFields", "$set", "$lookup"})
_COUNTS = frozenset({"$count", "$group"})

PIPELINE_RULES: tuple[Rule, ...] = (
    Rule(
        name="join-before-count",
        family="pipelines",
        what="$lookup (and $addFields) whose result is only counted is not made",
        condition="the stages let every document pass once and cannot fail; nothing reads what they"
        " add; that the joined collection may be read is still asked",
        gain="one lookup for each document that is counted",
        source="https://www.mongodb.com/docs/manual/reference/operator/aggregation/lookup/",
        marks=(frozenset({"$lookup"}), _COUNTS),
        by_shape=True,
        apply=_in_branches(_join_before_count),
    ),
    Rule(
        name="sort-before-count",
        family="pipelines",
        what="$sort of documents that are only counted is dropped",
        condition="one path, or another with the own _id of what is known to be an ordinary"
        " collection, so that no document has two arrays to sort by; sums of whole constants only:"
        " those of doubles depend on the order",
        gain="a blocking sort, or an index scan in its order",
        source="https://www.mongodb.com/docs/manual/reference/operator/aggregation/sort/",
        marks=(frozenset({"$sort"}), _COUNTS),
        by_shape=True,
        apply=_in_branches(_sort_before_count),
    ),
    Rule(
        name="facet-common-match",
        family="pipelines",
        what="a $match that every branch of $facet begins with stands before the $facet",
        condition="the same filter in every branch, of operators on fields alone",
        gain="$facet cannot use an index, a $match before it can",
        source="https://www.mongodb.com/docs/manual/reference/operator/aggregation/facet/#index-use",
        marks=(frozenset({"$facet"}),),
        by_shape=False,
        apply=_facet_common_match,
    ),
    Rule(
        name="sort-before-fields",
        family="pipelines",
        what="$sort, with its $skip and $limit, before $addFields, $set and $lookup",
        condition="the stages let every document pass once, in order, cannot fail, and write no"
        " field that is sorted by",
        gain="an index can give the order; fields are added, and lookups made, for one page only",
        source="https://www.mongodb.com/docs/manual/core/aggregation-pipeline-optimization/ (the"
        " server swaps $sort with an adjacent $lookup alone: sort_reorder_helpers.cpp)",
        marks=(frozenset({"$sort"}), _ADDERS),
        by_shape=True,
        apply=_in_branches(_sort_before_fields),
    ),
    Rule(
        name="page-before-unwind",
        family="pipelines",
        what="$sort and a $limit before $lookup and an $unwind that keeps empty arrays",
        condition="every document becomes one or more, in order, so that the first n come from the"
        " first n; the unwound array is the joined one; no field that is sorted by is written",
        gain="an index can give the order; lookups are made for one page only",
        source="https://www.mongodb.com/docs/manual/core/aggregation-pipeline-optimization/ (the"
        " server joins $lookup and $unwind, and moves neither $sort nor $limit before the pair)",
        marks=(frozenset({"$unwind"}), frozenset({"$lookup"}), frozenset({"$sort", "$limit"})),
        by_shape=True,
        apply=_in_branches(_page_before_unwind),
    ),
)
