"""Random small documents, reads and write commands, to compare answers before and after."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from qbmongo.records import ReadOp

NAMESPACE = "db.c"

ids = st.integers(0, 4)
numbers = st.integers(0, 2)
scalars = st.one_of(numbers, st.none(), st.sampled_from(["x", "y"]))
items = st.one_of(scalars, st.fixed_dictionaries({}, optional={"x": scalars, "y": scalars}))
values = st.one_of(
    scalars,
    st.lists(items, max_size=3),
    st.fixed_dictionaries({}, optional={"x": scalars, "y": scalars}),
)
bodies = st.fixed_dictionaries({}, optional={"a": values, "b": values, "n": numbers})
paths = st.sampled_from(["a", "b", "n", "a.x", "a.y", "b.x", "a.0", "b.1.x"])
read_paths = st.one_of(paths, st.just("_id"))
written_paths = st.sampled_from(["a", "b", "n", "a.x", "a.y", "b.y", "a.0", "a.2.y", "b.1.x"])


def documents() -> st.SearchStrategy[list[dict[str, Any]]]:
    """A collection's content: at most five documents with different `_id`s."""
    return st.dictionaries(ids, bodies, max_size=5).map(
        lambda content: [{"_id": key, **body} for key, body in content.items()]
    )


conditions = st.one_of(
    scalars,
    st.builds(lambda operand: {"$gt": operand}, numbers),
    st.builds(lambda operand: {"$lte": operand}, numbers),
    st.builds(lambda operand: {"$ne": operand}, scalars),
    st.builds(lambda operand: {"$exists": operand}, st.booleans()),
    st.builds(lambda operands: {"$in": operands}, st.lists(scalars, min_size=1, max_size=3)),
    st.builds(lambda operands: {"$nin": operands}, st.lists(scalars, min_size=1, max_size=2)),
    st.builds(lambda size: {"$size": size}, st.integers(0, 3)),
    st.builds(lambda operand: {"$elemMatch": {"x": operand}}, scalars),
)
id_conditions = st.one_of(
    ids,
    ids.map(float),
    st.builds(lambda operands: {"$in": operands}, st.lists(ids, min_size=1, max_size=3)),
    st.builds(lambda operand: {"$gt": operand}, ids),
)
plain_filters = st.one_of(
    st.just({}),
    st.builds(lambda condition: {"_id": condition}, id_conditions),
    st.dictionaries(paths, conditions, min_size=1, max_size=2),
    st.builds(
        lambda identity, path, condition: {"_id": identity, path: condition},
        id_conditions,
        paths,
        conditions,
    ),
)
filters = st.one_of(
    plain_filters,
    st.builds(
        lambda operator, branches: {operator: branches},
        st.sampled_from(["$or", "$and"]),
        st.lists(plain_filters, min_size=1, max_size=2),
    ),
)

# Where a sort leaves ties the server may choose; a test that compares needs one right answer.
sorts = st.one_of(
    st.just({"_id": 1}),
    st.builds(lambda path, way: {path: way, "_id": 1}, paths, st.sampled_from([1, -1])),
)
projections = st.one_of(
    st.none(),
    st.dictionaries(paths, st.just(1), min_size=1, max_size=1),
    st.just({"a": 0}),
    st.just({"_id": 1}),
)


def finds() -> st.SearchStrategy[ReadOp]:
    return st.builds(
        lambda filter, projection, sort, skip, limit: ReadOp(
            "find", NAMESPACE, filter, projection, sort, skip, limit
        ),
        filters,
        projections,
        sorts,
        st.sampled_from([0, 0, 1, 2]),
        st.sampled_from([0, 0, 1, 2]),
    )


def find_ones() -> st.SearchStrategy[ReadOp]:
    return st.builds(
        lambda filter: ReadOp("find_one", NAMESPACE, filter, None, {"_id": 1}, limit=-1), filters
    )


def counts() -> st.SearchStrategy[ReadOp]:
    return st.builds(lambda filter: ReadOp("count_documents", NAMESPACE, filter), filters)


def distincts() -> st.SearchStrategy[ReadOp]:
    return st.builds(
        lambda filter, key: ReadOp("distinct", NAMESPACE, filter, key=key), filters, read_paths
    )


def reads() -> st.SearchStrategy[ReadOp]:
    return st.one_of(finds(), find_ones(), counts(), distincts())


changes = st.one_of(
    st.builds(lambda path, value: {"$set": {path: value}}, written_paths, values),
    st.builds(lambda path: {"$unset": {path: 1}}, written_paths),
    st.builds(lambda path: {"$inc": {path: 1}}, written_paths),
    st.builds(lambda path, value: {"$push": {path: value}}, written_paths, items),
    st.builds(lambda path, value: {"$max": {path: value}}, written_paths, numbers),
    st.builds(lambda value: {"$set": {"n": value}, "$unset": {"a.x": 1}}, numbers),
    st.just({"$rename": {"a": "b"}}),
    bodies,
)


def update_commands() -> st.SearchStrategy[dict[str, Any]]:
    def command(filter: Any, change: Any, multi: bool, upsert: bool) -> dict[str, Any]:
        operators = next(iter(change), "").startswith("$")
        statement = {"q": filter, "u": change, "multi": multi and operators, "upsert": upsert}
        return {"update": "c", "updates": [statement]}

    return st.builds(
        command, filters, changes, st.booleans(), st.sampled_from([False, False, True])
    )


def delete_commands() -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda filter, limit: {"delete": "c", "deletes": [{"q": filter, "limit": limit}]},
        filters,
        st.sampled_from([0, 1]),
    )


def insert_commands() -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda identity, body: {"insert": "c", "documents": [{"_id": identity, **body}]},
        st.integers(0, 7),
        bodies,
    )


def write_commands() -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(update_commands(), delete_commands(), insert_commands())
