"""Random pipelines that the rules on pipelines fire on often, and just do not fire on."""

from __future__ import annotations

from typing import Any

from qbmongo_tests.rewrite.orders import order_of, pages_of
from qbmongo_tests.rewrite.reads import _JOINED, _MADE, _PLAIN_PATHS, _TOP_PATHS, OTHER, Case, Reads

__all__ = ["PipelineReads"]

_PAGING = frozenset({"$limit", "$skip"})


class PipelineReads(Reads):
    """Random documents and reads, pipelines among them."""

    def case(self) -> Case:
        """Any read."""
        return self.filtered() if self.chance(0.4) else self.piped()

    def piped(self) -> Case:
        """An aggregation."""
        form = self.random.choice(
            (
                self._fields_then_sort,
                self._fields_then_sort,
                self._unwound_page,
                self._unwound_page,
                self._sorted_count,
                self._sorted_count,
                self._joined_count,
                self._joined_count,
                self._facets,
                self._any_stages,
            )
        )
        pipeline = form()
        if self.chance(0.1):
            pipeline = [*pipeline, *self.random.choice((self._unwound_page, self._joined_count))()]
        if self.chance(0.25):
            pipeline.insert(0, self._sort() if self.chance(0.5) else self._odd_stage())
        if self.chance(0.5):
            pipeline.insert(
                0, {"$match": self.rewritable() if self.chance(0.5) else self.filter(1)}
            )
        return self._case(pipeline)

    def _case(self, pipeline: list[Any]) -> Case:
        op = self._op("aggregate", {}, pipeline=pipeline)
        pages = pages_of(pipeline)
        whole = None
        if pages.ties:
            rest = [stage for stage in pipeline if _PAGING.isdisjoint(stage)]
            whole = self._op("aggregate", {}, pipeline=rest)
        order = "free" if pages.unordered else order_of(pipeline)
        return Case(op, order, whole, pages.open_ended)

    # Forms

    def _fields_then_sort(self) -> list[Any]:
        pipeline = [self._adder() for _ in range(self.random.choice((1, 1, 2, 3)))]
        if self.chance(0.06):
            pipeline.insert(self.random.randint(0, len(pipeline)), self._odd_stage())
        return [*pipeline, self._sort(), *self._window(), *self._tail()]

    def _unwound_page(self) -> list[Any]:
        join = self._lookup()
        made = join["$lookup"].get("as", "j")
        pipeline = [join]
        if self.chance(0.25):
            pipeline.insert(self.random.randint(0, 1), self._adder())
        if self.chance(0.1):
            pipeline.append(self._lookup())
        path = made if self.chance(0.85) else self.random.choice(_TOP_PATHS)
        if self.chance(0.08):
            pipeline.append(self._dropper())
        pipeline.append({"$unwind": self._unwinding(path)})
        if self.chance(0.2):
            pipeline.append(self._dropper())
        if self.chance(0.15):
            pipeline.append(self._adder())
        if self.chance(0.7):
            pipeline.append(self._sort())
        return [*pipeline, *self._window(), *self._tail()]

    def _unwinding(self, path: str) -> Any:
        draw = self.random.random()
        if draw < 0.7:
            return {"path": f"${path}", "preserveNullAndEmptyArrays": True}
        if draw < 0.78:
            return {"path": f"${path}", "preserveNullAndEmptyArrays": False}
        if draw < 0.86:
            return f"${path}"
        if draw < 0.96:
            return {
                "path": f"${path}",
                "preserveNullAndEmptyArrays": True,
                "includeArrayIndex": self.random.choice(("at", "a", "_id")),
            }
        return self.random.choice(({"path": path}, {}, 5, {"path": "$j", "bogus": 1}))

    def _sorted_count(self) -> list[Any]:
        pipeline: list[Any] = []
        if self.chance(0.25):
            pipeline.append(self._adder() if self.chance(0.6) else self._odd_stage())
        pipeline.append(self._sort())
        if self.chance(0.4):
            pipeline += self._window()
        if self.chance(0.07):
            pipeline.append(self._odd_stage())
        return [*pipeline, self._count(), *self._tail()]

    def _joined_count(self) -> list[Any]:
        pipeline = [self._lookup()]
        for _ in range(self.random.choice((0, 0, 1, 2))):
            pipeline.insert(self.random.randint(0, len(pipeline)), self._adder())
        if self.chance(0.07):
            pipeline.insert(self.random.randint(0, len(pipeline)), self._odd_stage())
        return [*pipeline, self._count(), *self._tail()]

    def _facets(self) -> list[Any]:
        common = {"$match": self.rewritable() if self.chance(0.5) else self.filter(1)}
        branches: dict[str, Any] = {}
        for name in self.random.sample(("x", "y", "z"), self.random.choice((1, 2, 2, 3))):
            branch: list[Any] = [common]
            draw = self.random.random()
            if draw < 0.3:
                branch += [{"$sort": {"_id": self.random.choice((1, -1))}}, {"$limit": 3}]
            elif draw < 0.5:
                branch.append(self._count())
            elif draw < 0.6:
                branch.append({"$match": self.filter(0)})
            if self.chance(0.08):
                branch[0] = {"$match": self.filter(1)}
            elif self.chance(0.04):
                branch = branch[1:]
            elif self.chance(0.04):
                branch.insert(0, self._sort())
            elif self.chance(0.3):
                branch = self._page_of_a_facet()
            branches[name] = branch
        pipeline: list[Any] = [{"$facet": branches}]
        if self.chance(0.1):
            pipeline.insert(0, self._odd_stage())
        return pipeline

    def _page_of_a_facet(self) -> list[Any]:
        """A branch of the other forms; without a page where its order leaves ties."""
        forms = (self._fields_then_sort, self._unwound_page, self._sorted_count, self._joined_count)
        branch = self.random.choice(forms)()
        if pages_of(branch).ties:
            branch = [stage for stage in branch if _PAGING.isdisjoint(stage)]
        return branch or [self._count()]

    def _any_stages(self) -> list[Any]:
        made = (self._adder, self._odd_stage, self._sort, self._count)
        pipeline = [self.random.choice(made)() for _ in range(self.random.randint(1, 3))]
        return [*pipeline, *self._window()]

    # Stages

    def _adder(self) -> dict[str, Any]:
        if self.chance(0.3):
            return self._lookup()
        fields: dict[str, Any] = {}
        for _ in range(self.random.choice((1, 1, 2))):
            path = self.random.choice(("x", "y", "x", *_MADE, *_PLAIN_PATHS))
            fields[path] = self.expression(2)
        if self.chance(0.02):
            fields = self.random.choice(({}, {"a": 1, "a.b": 2}, {"$x": 1}, {"a..b": 1}, {"": 1}))
        return {self.random.choice(("$addFields", "$set")): fields}

    def _dropper(self) -> dict[str, Any]:
        """$project or $unset; one in four may fail, or does."""
        made: dict[str, Any] = self.random.choice(
            (
                {"$project": {"a": 1, "j": 1}}, {"$project": {"j": 0}}, {"$project": {"_id": 0}},
                {"$project": {"j": True, "b.a": 1}}, {"$project": {"j.k": 1}}, {"$unset": "b"},
                {"$unset": ["a", "j"]}, {"$project": {"a": 0, "b.a": 0}}, {"$unset": "j.k"},
                {"$project": {"a": 1, "x": self.expression(1)}}, {"$project": {"j": "$a"}},
                {"$project": {"a": 1, "b": 0}}, {"$project": {"x": {"$divide": [1, "$a"]}}},
                {"$unset": []}, {"$project": {"j": 1, "_id": "$a"}},
                {"$project": {"a": 1, "a.b": 1}},
            )
        )  # fmt: skip
        return made

    def expression(self, depth: int) -> Any:
        """An expression; one in eight may fail, or fails, for some documents or for all."""
        draw = self.random.random()
        if draw < 0.35 or not depth:
            return f"${self.random.choice(_PLAIN_PATHS)}"
        if draw < 0.5:
            return self.random.choice((1, 0, None, True, 2.5, "text", "$$ROOT", [], [1, "$a"], {}))
        if draw < 0.6:
            return {"$cond": [self.expression(depth - 1) for _ in range(3)]}
        if draw < 0.7:
            return {"$ifNull": [self.expression(depth - 1) for _ in range(2)]}
        if draw < 0.8:
            name = self.random.choice(("$eq", "$gt", "$lt", "$ne", "$cmp", "$and", "$or"))
            return {name: [self.expression(depth - 1) for _ in range(2)]}
        if draw < 0.83:
            return {"x": self.expression(depth - 1), "y": self.expression(depth - 1)}
        if draw < 0.88:
            name = self.random.choice(("$size", "$first", "$last", "$arrayElemAt"))
            path = f"${self.random.choice(('j', 'j', 'k', 'a', 'b', 'j.x'))}"
            return {name: [path, 0] if name == "$arrayElemAt" else path}
        return self.random.choice(
            (
                {"$add": ["$a", 1]}, {"$divide": [1, "$a"]}, {"$toInt": "$a"}, {"$size": "$a"},
                {"$arrayElemAt": ["$a", 0]}, {"$concat": ["$a", "x"]}, {"$bogus": 1}, "$$nobody",
                {"$eq": [1]}, {"$cond": [1, 2]}, {"$literal": "$a"}, {"$type": "$a"},
                {"$not": "$a"},
                {"$substr": ["$a", 0, 1]}, {"$eq": ["$a", "$b"], "x": 1}, {"$first": "$a"},
                {"$year": "$a"}, {"$in": [1, "$a"]}, {"$ifNull": ["$a"]}, {"$mod": ["$a", 2]},
            )
        )  # fmt: skip

    def _lookup(self) -> dict[str, Any]:
        made = self.random.choice(_JOINED)
        draw = self.random.random()
        if draw < 0.88:
            source = OTHER if self.chance(0.9) else self.random.choice(("absent", self.collection))
            local = self.random.choice(("a", "b", "a", "c", "a.b", "0", "_id", "a.0"))
            # A fault of secantusd-rs: it refuses to look up by `_id` a value that can be none.
            foreign = "_id" if local == "_id" else self.random.choice(("k", "k", "a", "a.b"))
            return {
                "$lookup": {
                    "from": source, "localField": local, "foreignField": foreign, "as": made
                }
            }  # fmt: skip
        if draw < 0.94:
            inner = [{"$match": {"k": 1}}, {"$limit": self.random.choice((1, 2))}]
            return {"$lookup": {"from": OTHER, "pipeline": inner, "as": made}}
        wrong: dict[str, Any] = {"from": OTHER, "localField": "a", "foreignField": "k", "as": made}
        name, value = self.random.choice(
            (
                ("as", ""),
                ("as", "$x"),
                ("from", ""),
                ("from", 5),
                ("localField", "a..b"),
                ("bogus", 1),
            )
        )
        wrong[name] = value
        return {"$lookup": wrong}

    def _sort(self) -> dict[str, Any]:
        choice = ("a", "b", "c", "a.0", "b.0", *_PLAIN_PATHS, "x", "y")
        paths = self.random.choices(choice, k=self.random.choice((0, 1, 1, 1, 2)))
        made: dict[str, Any] = {path: self.random.choice((1, -1)) for path in paths}
        if not made or self.chance(0.8):
            made.setdefault("_id", self.random.choice((1, -1)))
        if self.chance(0.03):
            made = self.random.choice(({}, {"a": 0}, {"a": 2}, {"a": {"$meta": "x"}}, {"$a": 1}))
        return {"$sort": made}

    def _window(self) -> list[Any]:
        stages: list[Any] = []
        if self.chance(0.35):
            stages.append({"$skip": self.random.choice((0, 1, 2, 5, 100, -1, 1.0))})
        if self.chance(0.7):
            stages.append({"$limit": self.random.choice((1, 2, 3, 5, 10, 100, 0, -1, 2.0))})
        if self.chance(0.05):
            stages.reverse()
        return stages

    def _count(self) -> dict[str, Any]:
        draw = self.random.random()
        if draw < 0.6:
            return {
                "$count": "n" if self.chance(0.9) else self.random.choice(("_id", "a.b", "$n", ""))
            }
        total = self.random.choice((1, 1, 1, 2, 0, 0.1, "$a", "$c", -1, None, {"$add": ["$a", 1]}))
        identity = self.random.choice((None, None, None, None, "$a", 1, "$c"))
        group = {"_id": identity, "n": {"$sum": total}}
        if self.chance(0.2):
            group["m"] = self.random.choice(
                ({"$count": {}}, {"$sum": 1}, {"$min": "$_id"}, {"$max": "$_id"}, {"$avg": "$_id"})
            )
        return {"$group": group}

    def _odd_stage(self) -> dict[str, Any]:
        made: dict[str, Any] = self.random.choice(
            (
                {"$project": {"a": 1, "b": 1}}, {"$project": {"_id": "$a", "b": 1}},
                {"$project": {"_id": 0}}, {"$unwind": "$a"}, {"$unset": "a"},
                {"$match": {"a": {"$gt": 1}}}, {"$replaceRoot": {"newRoot": {"a": "$a"}}},
                {"$replaceRoot": {"newRoot": "$a"}}, {"$limit": 7}, {"$skip": 3},
                {"$addFields": {"_id": "$a"}}, {"$unionWith": OTHER}, {"$bogus": 1},
                {"$group": {"_id": "$a", "a": {"$push": "$b"}}}, {"$project": {"a": 1, "b": 0}},
                {"$group": {"_id": ["$a", 1], "a": {"$push": "$b"}}}, {"$redact": "$$KEEP"},
            )
        )  # fmt: skip
        return made

    def _tail(self) -> list[Any]:
        if self.chance(0.8):
            return []
        return [self._odd_stage() if self.chance(0.6) else self._adder()]
