"""The same query again and again from one place within one task: N+1, found by sampling.

When a shape's calling place is due to be noted, its next calls are noted too: if RUN of them come
from the same place and the same task before more than MISSES come from elsewhere, that is a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Run", "instead_of"]

RUN = 8
MISSES = 4


class Run:
    """A run that may be. caller: the task, compared with ==; place: "file:line"."""

    __slots__ = ("caller", "misses", "place", "same")

    def __init__(self, place: str, caller: Any) -> None:
        self.place = place
        self.caller = caller
        self.same = 1
        self.misses = 0

    def go_on(self, place: str | None, caller: Any) -> bool | None:
        """Another call of the shape. True: it is a run; False: it is none; None: not known yet."""
        if place == self.place and caller == self.caller:
            self.same += 1
            return True if self.same >= RUN else None
        self.misses += 1
        return False if self.misses > MISSES else None


_TOGETHER = {
    "insert_one": "insert_many",
    "update_one": "bulk_write",
    "replace_one": "bulk_write",
    "delete_one": "bulk_write",
}
_VALUES = frozenset({"binary", "date", "id", "number", "string", "timestamp"})


def instead_of(form: Mapping[str, Any]) -> str | None:
    """What would do the work of a run of a shape's calls at once; None where nothing is known.

    Args:
        form: the shape's JSON form.
    """
    operation, namespace = form["operation"], form["namespace"]
    together = _TOGETHER.get(operation)
    if together is not None:
        return f"one {together} for all"
    paths = [
        node["path"]
        for node in form["filter"] or ()
        if node["op"] == "$eq" and "path" in node and node["type"] in _VALUES
    ]
    if not paths:
        return None
    # The one that differs from call to call: an id if there is one.
    path = next((path for path in paths if path.endswith("_id")), paths[0])
    if operation in ("find", "find_one"):
        collection = namespace.partition(".")[2]
        return (
            f"one find {{{path}: {{$in: [...]}}}}, or $lookup from {collection} with"
            f" foreignField {path}"
        )
    if operation == "count_documents":
        return f"one aggregate: $match {{{path}: {{$in: [...]}}}}, $group by {path}"
    return None
