"""Shapes with values -> commands to explain, and what their real answer must agree with.

A question is one command on one collection. Kept commands and filters are asked first; otherwise
values are drawn from documents of the collection. A pipeline is asked up to where its documents
are no longer the collection's own: of later stages a shape has names alone, and no index serves
them. What cannot be asked is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..core.shape_filters import Room, filter_key, size_class
from ..core.shape_forms import shape_form
from .accesses import accesses_of
from .conjunctions import Conjunction
from .observed_values import filters_of
from .records import CollectionInfo, WorkloadShape
from .shape_values import DrawnFilter, draw_filters

__all__ = ["Question", "Questions", "questions_of", "split_namespace"]

DEFAULT_LIMIT = 20
MAX_LIMIT = 1_000
# What no sample can answer: it needs its own kind of index, which a planner never does without.
_UNASKABLE = frozenset({"$text", "$near", "$nearSphere", "$geoNear"})
_FILTERED = frozenset(
    {
        *("find", "find_one", "count_documents", "distinct", "update_one", "update_many"),
        *("replace_one", "delete_one", "delete_many", "find_one_and_update"),
        *("find_one_and_replace", "find_one_and_delete"),
    }
)
_MARK = "qbmongo_probe"  # the field that explained, never executed updates would set

Expects = Literal["documents", "count", "distinct", "one", "many"]


@dataclass(frozen=True, slots=True)
class Question:
    """One command.

    collection: its name. command: as it is given to `explain`. expects: how its real answer is
    counted: "documents" of a find or pipeline, the number that "count" groups, "distinct" values,
    the "one" or "many" documents that a write would match by `filter`.
    """

    collection: str
    command: Mapping[str, Any]
    expects: Expects
    filter: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Questions:
    """What is asked for one shape. note: what could not be asked of it, for the report."""

    asked: tuple[Question, ...]
    note: str | None = None


def split_namespace(namespace: str) -> tuple[str, str]:
    """("database", "collection") of "database.collection"."""
    database, _, collection = namespace.partition(".")
    return database, collection


def questions_of(
    shape: WorkloadShape,
    info: CollectionInfo,
    documents: Sequence[Mapping[str, Any]],
    value_sets: int,
) -> Questions:
    """Commands of one shape on one of the collections it reads or writes.

    Args:
        shape: with commands, filters, limits where they were kept.
        info: of the shape's own collection, or of one that it joins.
        documents: decoded documents of that collection.
        value_sets: how many commands at most for each of its filters.
    """
    asker = _Asker(shape, info, documents, value_sets)
    return asker.questions() if shape.namespace == info.namespace else asker.joined()


class _Asker:
    def __init__(
        self,
        shape: WorkloadShape,
        info: CollectionInfo,
        documents: Sequence[Mapping[str, Any]],
        value_sets: int,
    ) -> None:
        self._shape = shape
        self._form = shape.shape
        self._documents = documents
        self._count = info.count
        self._value_sets = value_sets
        self._namespace = info.namespace
        self._collection = split_namespace(info.namespace)[1]
        self._left_out: list[str] = []

    def questions(self) -> Questions:
        operation = self._shape.operation
        if "requests" in self._form:
            asked = [
                self._write(str(request["kind"]), filter)
                for request in self._form["requests"]
                if request["filter"] is not None
                for filter in self._filters(request["filter"])
            ]
        elif operation == "aggregate":
            asked = list(self._pipelines())
        elif self._form.get("filter") is None or operation not in _FILTERED:
            return Questions(())  # an insert, an estimated count: no plan to choose
        else:
            asked = [self._ask(operation, filter) for filter in self._filters(self._form["filter"])]
        return self._said(asked)

    def joined(self) -> Questions:
        """What a join asks of the other collection, as the find that it amounts to."""
        asked: list[Question] = []
        for access in accesses_of(self._shape):
            if access.namespace != self._namespace or access.purpose != "join":
                continue
            nodes = _nodes_of(access.where)
            for filter in self._filters(nodes) if nodes else ():
                command: dict[str, Any] = {"find": self._collection, "filter": filter}
                if access.sort:
                    command["sort"] = dict(access.sort)
                if access.limit:
                    command["limit"] = access.limit
                command |= self._collation()
                asked.append(self._question(command, "documents", filter))
        return self._said(asked)

    def _said(self, asked: Sequence[Question]) -> Questions:
        unaskable = sorted(_UNASKABLE.intersection(self._left_out))
        if unaskable:
            return Questions((), f"{self._shape.text}: {', '.join(unaskable)} cannot be tried here")
        note = None
        if self._left_out:
            names = ", ".join(dict.fromkeys(self._left_out))
            note = f"{self._shape.text}: tried without {names}, whose arguments are not kept"
        return Questions(tuple(asked), note)

    def _filters(self, nodes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Filters of these nodes with values: kept ones first."""
        # What was cut when it was kept has another form.
        seen = map(dict, filters_of(self._shape))
        chosen = [f for f in seen if _form_of(f) == list(nodes)][-self._value_sets :]
        if len(chosen) < self._value_sets:
            drawn = self._drawn(nodes, self._value_sets - len(chosen))
            for each in drawn:
                self._left_out += each.left_out
            chosen += [each.filter for each in drawn]
        return chosen

    def _drawn(self, nodes: Sequence[Mapping[str, Any]], count: int) -> list[DrawnFilter]:
        return draw_filters(
            nodes, self._documents, count, returned_share=self._returned_share(), seed=len(nodes)
        )

    def _returned_share(self) -> float | None:
        """Share of the collection that one call returns; None where a limit hides it."""
        shape = self._shape
        limited = self._form.get("limit") or shape.operation.startswith("find_one")
        single = shape.operation.endswith("_one")
        if limited or single or not shape.calls or not self._count or "pipeline" in self._form:
            return None
        if shape.operation in ("count_documents", "distinct") or not shape.documents:
            return None
        return min(1.0, shape.documents / shape.calls / self._count)

    def _ask(self, operation: str, filter: dict[str, Any]) -> Question:
        form = self._form
        if operation == "count_documents":
            return self._count_documents(filter)
        if operation == "distinct":
            key = str(form.get("key", "_id"))
            command = {"distinct": self._collection, "key": key, "query": filter}
            return self._question({**command, **self._collation()}, "distinct", filter)
        if operation in ("find", "find_one"):
            return self._question(self._find(filter, operation == "find_one"), "documents", filter)
        return self._write(operation, filter)

    def _find(self, filter: dict[str, Any], single: bool) -> dict[str, Any]:
        form = self._form
        command: dict[str, Any] = {"find": self._collection, "filter": filter}
        if form.get("sort"):
            command["sort"] = _order(form["sort"])
        projection = _projection(form.get("projection"))
        if projection:
            command["projection"] = projection
        if form.get("skip"):
            command["skip"] = self._skip()
        if single:
            command |= {"limit": 1, "singleBatch": True}
        elif form.get("limit"):
            command["limit"] = self._limit()
        return {**command, **self._collation(), **self._hint()}

    def _count_documents(self, filter: dict[str, Any]) -> Question:
        # What the drivers send for count_documents.
        pipeline: list[dict[str, Any]] = [{"$match": filter}]
        if self._form.get("skip"):
            pipeline.append({"$skip": self._skip()})
        if self._form.get("limit"):
            pipeline.append({"$limit": self._limit()})
        pipeline.append({"$group": {"_id": 1, "n": {"$sum": 1}}})
        return self._aggregate(pipeline, "count", filter)

    def _aggregate(
        self, pipeline: list[dict[str, Any]], expects: Expects, filter: Mapping[str, Any] | None
    ) -> Question:
        command = {"aggregate": self._collection, "pipeline": pipeline, "cursor": {}}
        return self._question({**command, **self._collation(), **self._hint()}, expects, filter)

    def _write(self, operation: str, filter: dict[str, Any]) -> Question:
        """An update, delete or findAndModify; explained, never executed."""
        form = self._form
        lowered = operation.lower().replace("_", "")
        options = {**self._collation(), **self._hint()}
        if lowered.startswith("findoneand"):
            command: dict[str, Any] = {"findAndModify": self._collection, "query": filter}
            if form.get("sort"):
                command["sort"] = _order(form["sort"])
            if lowered.endswith("delete"):
                command["remove"] = True
            else:
                command["update"] = {"$set": {_MARK: 1}}
            return self._question({**command, **options}, "one", filter)
        many = lowered.endswith("many")
        expects: Expects = "many" if many else "one"
        if lowered.startswith("delete"):
            delete = {"q": filter, "limit": 0 if many else 1, **options}
            return self._question(
                {"delete": self._collection, "deletes": [delete]}, expects, filter
            )
        update = {"q": filter, "u": {"$set": {_MARK: 1}}, "multi": many, **options}
        return self._question({"update": self._collection, "updates": [update]}, expects, filter)

    def _question(
        self, command: Mapping[str, Any], expects: Expects, filter: Mapping[str, Any] | None
    ) -> Question:
        return Question(self._collection, command, expects, filter)

    def _pipelines(self) -> Iterator[Question]:
        shown = self._form.get("pipeline")
        if shown is None:
            return  # none that could be read: the server refuses it
        stages = shown["stages"][: shown["head"]]
        kept = [stage for stage in _movable(stages) if not self._cannot_stand(stage)]
        matches = [stage for stage in kept if stage["stage"] == "$match"]
        nodes = [node for stage in matches for node in stage["filter"]]
        for filter in self._filters(nodes) if nodes else [{}]:
            pipeline: list[dict[str, Any]] = []
            for stage in kept:
                name = stage["stage"]
                if name == "$match":
                    if filter and {"$match": filter} not in pipeline:
                        pipeline.append({"$match": filter})
                elif name == "$sort":
                    pipeline.append({"$sort": _order(stage["sort"])})
                elif name == "$skip":
                    pipeline.append({"$skip": self._skip()})
                elif name == "$limit":
                    pipeline.append({"$limit": self._limit()})
            yield self._aggregate(pipeline, "documents", filter)

    def _cannot_stand(self, stage: Mapping[str, Any]) -> bool:
        if stage["stage"] == "$geoNear":
            self._left_out.append("$geoNear")
            return True
        return False

    def _limit(self) -> int:
        limits = self._shape.limits
        if limits:
            return max(1, sorted(limits)[len(limits) // 2])
        if self._shape.calls and self._shape.documents:
            return max(1, min(MAX_LIMIT, math.ceil(self._shape.documents / self._shape.calls)))
        return DEFAULT_LIMIT

    def _skip(self) -> int:
        skips = self._shape.skips
        return max(0, sorted(skips)[len(skips) // 2]) if skips else self._limit()

    def _collation(self) -> dict[str, Any]:
        collation = self._form.get("collation")
        return {"collation": _collation(collation)} if collation else {}

    def _hint(self) -> dict[str, Any]:
        hint = self._form.get("hint")
        if hint is None:
            return {}
        return {"hint": hint if isinstance(hint, str) else _order(hint)}


# Stages that give each document another form and leave their number alone.
_RESHAPING = frozenset({"$project", "$addFields", "$set", "$unset", "$lookup", "$graphLookup"})


def _movable(stages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of a pipeline's head what the server can do before everything else, in order.

    A $match moves before stages that do not make its paths, unless a $limit or $skip stands
    between; a $sort and a limit stay where they are, so that they count only before these.

    Source: MongoDB manual, "Aggregation Pipeline Optimization".
    """
    kept: list[Mapping[str, Any]] = []
    made: set[str] = set()  # paths that stages before have made or changed
    reshaped = multiplied = cut = False
    for stage in stages:
        name = str(stage["stage"])
        if name == "$match":
            if cut or any(_touches(node, made) for node in stage["filter"]):
                break
            kept.append(stage)
        elif name == "$sort":
            if reshaped or multiplied or cut or any(s["stage"] == "$sort" for s in kept):
                break
            kept.append(stage)
        elif name in ("$limit", "$skip"):
            if multiplied:
                break
            kept.append(stage)
            cut = True
        elif name in _RESHAPING:
            reshaped = True
            made |= _made_by(stage)
        elif name == "$unwind":
            multiplied = True
            made.add(str(stage.get("path", "")).lstrip("$"))
        elif name == "$geoNear":
            kept.append(stage)
        else:
            break
    return kept


def _made_by(stage: Mapping[str, Any]) -> set[str]:
    if stage["stage"] in ("$project", "$unset"):
        pairs = stage.get("projection", ())
        if any(value == 1 for _, value in pairs):
            # What is not kept is gone; what is kept has its old value.
            return {path for path, value in pairs if value != 1} | {"*"}
        return {path for path, _ in pairs}
    if stage["stage"] in ("$addFields", "$set"):
        return set(stage.get("fields", ("*",)))
    return {"*"} if "as" not in stage else {str(stage["as"])}


def _touches(node: Mapping[str, Any], made: set[str]) -> bool:
    if not made:
        return False
    if "branches" in node and "path" not in node:
        return any(_touches(inner, made) for branch in node["branches"] for inner in branch)
    path = node.get("path")
    if path is None or "*" in made:
        return True
    return any(
        path == other or path.startswith(f"{other}.") or other.startswith(f"{path}.")
        for other in made
    )


def _nodes_of(where: Conjunction) -> list[dict[str, Any]]:
    """Filter nodes that give an index the bounds of a join; the rest of it is left out."""
    nodes: list[dict[str, Any]] = []
    for bound in where.bounds:
        kind = next(iter(sorted(bound.types)), "other")
        if bound.kind == "point":
            nodes.append({"path": bound.path, "op": "$eq", "type": kind})
        elif bound.kind == "null":
            nodes.append({"path": bound.path, "op": "$eq", "type": "null"})
        elif bound.kind == "in":
            size = size_class(bound.size)
            nodes.append({"path": bound.path, "op": "$in", "size": size, "types": [kind]})
        elif bound.kind == "range":
            nodes.append({"path": bound.path, "op": "$gte", "type": kind})
            if bound.two_sided:
                nodes.append({"path": bound.path, "op": "$lt", "type": kind})
    return nodes


def _form_of(filter: Any) -> Any:
    """The JSON form of a filter, to be compared with a shape's."""
    return shape_form(("", "find", filter_key(filter, Room()), None))["filter"]


def _order(pairs: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """A sort or hint document; directions that are no numbers ($meta) sort as ascending."""
    return {path: value if value in (1, -1) or _is_kind(value) else 1 for path, value in pairs}


def _is_kind(value: Any) -> bool:
    return value in ("2d", "2dsphere", "hashed", "text")


def _projection(pairs: Sequence[Sequence[Any]] | None) -> dict[str, Any] | None:
    """A projection of a shape; a computed field is kept as it is, so that nothing seems covered."""
    if not pairs:
        return None
    if any(value == "computed" for _, value in pairs):
        return None
    return dict(map(tuple, pairs))


def _collation(form: Mapping[str, Any]) -> dict[str, Any]:
    flags = ("caseLevel", "numericOrdering", "normalization", "backwards")
    return {name: bool(value) if name in flags else value for name, value in form.items()}
