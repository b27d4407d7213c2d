"""Collections as the cache knows them, and reads on their way whose answers may be kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from typing import Any

import bson
from bson.errors import InvalidBSON

from ..records import Effect, Footprint, ReadOp
from .footprints import footprint_of
from .frozen import EXACT_CODEC
from .index import Group, NamespaceIndex
from .store import Entry
from .trust import Facts, Trust
from .values import canonical

__all__ = ["NOBODY", "Fill", "Namespace", "PointFill", "PointTerms", "give_up", "ids_of"]


# Whom most point reads have to tell; never added to.
NOBODY: Any = ()


class Namespace:
    """One collection, as the cache knows it.

    log: effects closed while fills were open, as (number, effect, event time or 0).
    untrusted: its facts are wanted also where no stream can be trusted.
    until_s: without a trusted stream, until when its facts are believed.
    forgotten: every effect up to this number that is not in the log counts as touching.
    """

    __slots__ = (
        "facts",
        "fills",
        "foreign",
        "forgotten",
        "index",
        "log",
        "name",
        "trust",
        "until_s",
        "untrusted",
    )

    def __init__(self, name: str, trust: Trust, index: NamespaceIndex) -> None:
        self.name = name
        self.trust = trust
        self.index = index
        self.facts: Facts | None = None
        self.untrusted = False
        self.until_s: float | None = None
        self.fills = 0
        self.foreign: set[Entry] = set()
        self.log: deque[tuple[int, Effect, int]] = deque()
        self.forgotten = 0


class Fill:
    """A read on its way whose answer may be kept, and given to those who ask meanwhile: a flight.

    generation: which sending is the current one; an older sending settles nothing.
    started_s: no sending was before it. facts: what the footprint was made with.
    stamp: the sequence number at the sending. seen: the operation time it is sent after.
    leased, epoch, primary: the trust at the sending.
    checked, stale: what is known of later effects, for those who join.
    """

    __slots__ = (
        "address",
        "checked",
        "epoch",
        "facts",
        "filter",
        "footprint",
        "generation",
        "key",
        "leased",
        "max_bytes",
        "namespaces",
        "op",
        "open",
        "primary",
        "seen",
        "shared",
        "stale",
        "stamp",
        "started_s",
        "stats",
        "ttl_s",
        "waiters",
    )

    def __init__(self, key: Hashable, op: ReadOp, footprint: Footprint, started_s: float) -> None:
        self.key = key
        self.op = op
        self.footprint = footprint
        self.started_s = started_s
        self.facts: tuple[Facts | None, ...] = ()
        self.filter: bytes | None = None
        self.generation = 0
        self.namespaces: tuple[Namespace, ...] = ()
        self.waiters: list[Any] = []
        self.shared = False
        self.open = False
        self.stats: Any = None
        self.address: Any = None
        self.ttl_s: float | None = None
        self.max_bytes = 0
        self.stamp = self.checked = 0
        self.stale = False
        self.epoch = 0
        self.leased = False
        self.primary: Any = None
        self.seen = 0

    def is_for_waiters(self, address: Any) -> bool:
        """Whether an answer from this server may be given to those who joined later.

        The stream says nothing of what another primary holds than the one it was on, so that its
        answer, which may have been on its way for long, may be too old for them.
        """
        return self.primary is None or self.primary.address == address


class PointTerms:
    """What all point reads of a namespace have in common, as long as its facts stay the same.

    namespaces, facts, ttl_s, max_bytes: as of a Fill. group: of the last of them that was kept.
    """

    __slots__ = ("facts", "group", "max_bytes", "namespaces", "ttl_s")

    def __init__(
        self, namespace: Namespace, facts: Facts, ttl_s: float | None, max_bytes: int
    ) -> None:
        self.namespaces = (namespace,)
        self.facts = (facts,)
        self.ttl_s = ttl_s
        self.max_bytes = max_bytes
        self.group: Group | None = None


class PointFill(Fill):
    """A find_one by `_id` alone, of a value that is its own canonical form.

    terms: what it has in common with others. form: that value. sending: what it was stamped with,
    together with others; None: by itself. Operation and footprint follow from the form, and are
    made where something asks for them: most point reads are answered without that.
    """

    __slots__ = ("_footprint", "_op", "form", "sending", "terms")

    def __init__(self, terms: PointTerms, key: Hashable, form: Any, started_s: float) -> None:
        self.key = key
        self.form = form
        self.started_s = started_s
        self.terms = terms
        self.namespaces = terms.namespaces
        self.facts = terms.facts
        self.ttl_s = terms.ttl_s
        self.max_bytes = terms.max_bytes
        self._op: ReadOp | None = None
        self._footprint: Footprint | None = None
        self.filter = self.stats = self.address = None
        self.sending: Any = None
        self.generation = 0
        self.waiters = NOBODY
        self.shared = self.open = True

    @property
    def op(self) -> ReadOp:  # type: ignore[override]
        op = self._op
        if op is None:
            name = self.namespaces[0].name
            op = self._op = ReadOp("find_one", name, {"_id": self.form}, None, None, 0, -1)
        return op

    @property
    def footprint(self) -> Footprint:  # type: ignore[override]
        footprint = self._footprint
        if footprint is None:
            footprint = self._footprint = footprint_of(self.op)
        return footprint


def give_up(fill: Fill) -> list[Any]:
    """Closes a flight whose settlement failed; its waiters must not wait for ever."""
    fill.open = False
    waiters, fill.waiters = fill.waiters, []
    return waiters


def _keeps_id(projection: Mapping[str, Any]) -> bool:
    """Whether documents under a projection show their `_id` as it is stored, and whole.

    A value that is no number and no boolean takes its place, and a path below it leaves a part out.

    Source: https://www.mongodb.com/docs/manual/reference/method/db.collection.find/#projection
    """
    for name, kept in projection.items():
        if name.startswith("_id.") or (
            name == "_id" and (not isinstance(kept, (bool, int, float)) or not kept)
        ):
            return False
    return True


def ids_of(fill: Fill, data: bytes) -> list[Hashable] | None:
    """Canonical `_id`s of every document of an answer; None where it does not carry them.

    Only a find's documents carry the `_id` they are computed from, and only where the projection
    leaves it as it is.
    """
    op = fill.op
    if op.kind not in ("find", "find_one"):
        return None
    if op.projection is not None and not _keeps_id(op.projection):
        return None
    try:
        return [canonical(document["_id"]) for document in bson.decode_all(data, EXACT_CODEC)]
    except (KeyError, TypeError, InvalidBSON):
        # A string that is no UTF-8 is the program's own business, by its codec options.
        return None
