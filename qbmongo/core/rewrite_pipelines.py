"""Rules on pipelines.

None moves or drops a stage that could fail for a document. A `$sort` that leaves ties lets the
server choose: every choice is an answer to the query as it was written.

Source: https://www.mongodb.com/docs/manual/reference/operator/aggregation/sort/#sort-consistency
"""

from __future__ import annotations

from typing import Any

from ..records import ReadOp
from .paths import FIELD_OPERATORS
from .rewrite_filters import with_pipeline
from .rewrite_rule import Rule
from .rewrite_stages import (
    SCALARS,
    adds_fields,
    counts_only,
    leading_matches,
    sorted_fields,
    stage_of,
    whole,
)
from .trust import Facts

__all__ = ["PIPELINE_RULES"]

_JOINED = "qb_joined"
_GEO = frozenset({"$geoIntersects", "$geoWithin"})


def _window(pipeline: list[Any], at: int) -> tuple[Any, Any, int] | None:
    """$skip and $limit that stand at a place (0 and None: not there), and where they end."""
    skip: Any = 0
    limit: Any = None
    name, value = stage_of(pipeline[at]) if at < len(pipeline) else ("", None)
    if name == "$skip":
        if not whole(value, 0):
            return None
        skip, at = value, at + 1
        name, value = stage_of(pipeline[at]) if at < len(pipeline) else ("", None)
    if name == "$limit":
        if not whole(value, 1):
            return None
        limit, at = value, at + 1
    return skip, limit, at


def _sort_before_fields(op: ReadOp, facts: Facts | None) -> ReadOp | None:
    pipeline = list(op.pipeline or ())
    start = leading_matches(pipeline)
    added: set[str] = set()
    arrays: set[str] = set()
    for at in range(start, len(pipeline)):
        name, specification = stage_of(pipeline[at])
        if name == "$sort":
            break
        fields = adds_fields(name, specification, arrays)
        if fields is None:
            return None
        added |= fields
    else:
        return None
    if at == start:
        return None
    fields = sorted_fields(specification)
    if fields is None or not added.isdisjoint(fields):
        return None
    window = _window(pipeline, at + 1)
    if window is None:
        return None
    end = window[2]
    return with_pipeline(
        op, [*pipeline[:start], *pipeline[at:end], *pipeline[start:at], *pipeline[end:]]
    )


def _page_before_unwind(op: ReadOp, facts: Facts | None) -> ReadOp | None:
    pipeline = list(op.pipeline or ())
    start = leading_matches(pipeline)
    added: set[str] = set()
    arrays: set[str] = set()
    unwinds = False
    at = start
    for at in range(start, len(pipeline)):
        name, specification = stage_of(pipeline[at])
        if name == "$unwind":
            made = _unwound(specification, arrays)
            if made is None:
                return None
            arrays.discard(made)
            unwinds = True
            continue
        fields = adds_fields(name, specification, arrays)
        if fields is None:
            break
        added |= fields
    else:
        return None
    if not unwinds:
        return None
    front: list[Any] = []
    after = at
    if name == "$sort":
        fields = sorted_fields(specification)
        if fields is None or not added.isdisjoint(fields):
            return None
        front.append(pipeline[at])
        after += 1
    window = _window(pipeline, after)
    if window is None:
        return None
    skip, limit, _ = window
    if limit is not None:
        front.append({"$limit": int(skip) + int(limit)})
    if not front:
        return None
    return with_pipeline(op, [*pipeline[:start], *front, *pipeline[start:at], *pipeline[after:]])


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
                # collection's own _id is none.
                own = before == leading_matches(pipeline)
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
    # Who may not read the other collection is still refused. No document of it is looked at, which
    # might be one that a view cannot compute.
    asked = [
        {
            "$lookup": {
                "from": source,
                "pipeline": [{"$match": {field: {"$in": []}}}],
                "as": _JOINED,
            }
        }
        for source, field in sources
    ]
    return with_pipeline(op, [*pipeline[:start], pipeline[last], *asked, {"$unset": _JOINED}])


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
        apply=_join_before_count,
    ),
    Rule(
        name="sort-before-count",
        family="pipelines",
        what="$sort of documents that are only counted is dropped",
        condition="one path, or another with the collection's own _id, so that no document has two"
        " arrays to sort by; sums of whole constants only: those of doubles depend on the order",
        gain="a blocking sort, or an index scan in its order",
        source="https://www.mongodb.com/docs/manual/reference/operator/aggregation/sort/",
        marks=(frozenset({"$sort"}), _COUNTS),
        by_shape=True,
        apply=_sort_before_count,
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
        apply=_sort_before_fields,
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
        apply=_page_before_unwind,
    ),
)
