"""Point reads that travel together: what is sent for them, and whose each document is.

Every read of a batch has one outcome: a document that its filter matches, none where no document
of the whole answer can match it, or to make its own call.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Any

from ..records import Gathered
from .lanes import LaneCounts
from .point_keys import ID_KEY, PLAIN_KEYS, PointKey, form_at

__all__ = [
    "BatchCounts",
    "PlainBatch",
    "PlainRead",
    "PointBatch",
    "PointRead",
    "batch_of",
    "documents_of",
]

_STRING, _DOCUMENT = 0x02, 0x03
# Bytes of a value by its type; strings and binaries begin with their length.
_FIXED = {0x01: 8, 0x07: 12, 0x08: 1, 0x09: 8, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16}
_LENGTH_AND_MORE = {0x02: 4, 0x03: 0, 0x05: 5}
# ObjectId, int32 and int64: as which plain values are encoded.
_PLAIN_TYPES = (0x07, 0x10, 0x12)
_SIZE = struct.Struct("<i")


class BatchCounts(LaneCounts):
    """What point reads did so far, besides what their lanes count.

    joined: reads that were answered by a joined find. refused: reads that could not be joined, by
    reason. fallbacks: reads of a batch that made their own call after all, by reason.
    """

    __slots__ = ("fallbacks", "joined", "refused")

    def __init__(self) -> None:
        super().__init__()
        self.joined = 0
        self.refused: Counter[str] = Counter()
        self.fallbacks: Counter[str] = Counter()


class PointRead(Gathered):
    """One read that waits for its batch; what gathers in a lane is this itself.

    key: what it asks for; several reads may share one that says no more than path and projection.
    form, value, element: of the key's value, see PointKey. plain: a value of one of the types that
    are encoded in one way and can be told apart by that. simple: strings surely compare by simple
    binary comparison. gathering: where it waits. settled: it has an
    outcome.
    scope, started_s, stats, fill: what its ticket is made of, should it be wanted.
    """

    __slots__ = (
        "_ticket",
        "element",
        "fill",
        "form",
        "gathering",
        "key",
        "plain",
        "scope",
        "settled",
        "simple",
        "started_s",
        "stats",
        "value",
    )

    def __init__(self, ticket: Any, key: PointKey, *, simple: bool) -> None:
        self._ticket = ticket
        self.key = key
        self.form: Any = key.form
        self.value = key.value
        self.element = key.element
        self.plain = type(key.value) in PLAIN_KEYS
        self.simple = simple
        self.size = len(key.element)
        self.gathered_s = 0.0
        self.batch: Any = None
        self.left = False
        self.waiter: Any = None
        self.gathering: Any = None
        self.settled = False
        self.scope: Any = None
        self.started_s = 0.0
        self.stats: Any = None
        self.fill: Any = None

    @property
    def ticket(self) -> Any:
        """The engine's ticket of this read."""
        ticket = self._ticket
        if ticket is None:
            ticket = self._ticket = self.scope.ticket_of(self)
        return ticket

    @property
    def has_ticket(self) -> bool:
        """Somebody has asked for the ticket: what becomes of the read is told to it."""
        return self._ticket is not None


class PlainRead(PointRead):
    """A read by an int or an ObjectId as `_id`, shown as it is stored, that has no ticket yet."""

    __slots__ = ()

    key = ID_KEY
    plain = True
    simple = False

    def __init__(
        self,
        scope: Any,
        gathering: Any,
        value: Any,
        element: bytes,
        stats: Any,
        waiter: Any,
        started_s: float,
    ) -> None:
        self._ticket = None
        self.scope = scope
        self.gathering = gathering
        self.form = self.value = value
        self.element = element
        self.size = len(element)
        self.stats = stats
        self.waiter = waiter
        self.gathered_s = self.started_s = started_s
        self.settled = False
        self.fill = None


class PointBatch:
    """Reads sent as one find, and whose each document of its answer is.

    Why an answer is right, whatever the collection holds (also if it is a view, or has a collation
    or an array there that nobody told us of):

    - A document whose value equals the one asked for matches that caller's filter.
    - Every document that any caller's filter matches is in the whole answer. So if all documents
      of the answer belong to other values, exactly compared, nothing matches. A document that
      belongs to nobody (an array; another string that a collation calls equal) may match any of
      those still without one: these ask again, alone. Where a collation may be at work, a document
      with a string may also match two of the strings asked for: who asked for a string and has
      nothing asks again, alone.
    """

    __slots__ = (
        "_asked",
        "_by_element",
        "_by_form",
        "_saw_string",
        "_simple",
        "_strays",
        "reads",
        "values",
    )

    def __init__(self, reads: list[PointRead]) -> None:
        self.reads = reads
        self._simple = all(read.simple for read in reads)
        self._saw_string = False
        self._strays = False
        self._by_form: dict[Hashable, list[PointRead]] = {}
        self._by_element: dict[bytes, Hashable] = {}
        self.values: list[Any] = []
        for read in reads:
            form = read.form
            asking = self._by_form.get(form)
            if asking is None:
                self._by_form[form] = [read]
                self.values.append(read.value)
            else:
                asking.append(read)
            self._by_element[read.element] = form
        self._asked = frozenset(self._by_form)

    @property
    def filter(self) -> dict[str, Any]:
        """The filter to send."""
        return {self.reads[0].key.path: {"$in": self.values}}

    @property
    def projection(self) -> Any:
        """The projection to send, or None."""
        return self.reads[0].key.projection

    def arrived(self, documents: Iterable[bytes]) -> list[tuple[PointRead, bytes]]:
        """Documents of the answer came. Returns the reads that have theirs now."""
        settled: list[tuple[PointRead, bytes]] = []
        for document in documents:
            form = self._form(document)
            if form is None:
                self._strays = True
                continue
            # A second document of one value adds nothing: either is an answer.
            settled += [(read, document) for read in self._by_form.pop(form, ())]
        return settled

    def ended(self) -> tuple[list[PointRead], list[PointRead]]:
        """The whole answer has come. Returns the reads that no document matches, and those of
        which that is not certain."""
        missing: list[PointRead] = []
        doubtful: list[PointRead] = []
        for read in (read for asking in self._by_form.values() for read in asking):
            collated = not self._simple and self._saw_string and read.key.has_string
            (doubtful if self._strays or collated else missing).append(read)
        return missing, doubtful

    def _form(self, document: bytes) -> Hashable | None:
        """Which of the values asked for a document shows; None if none of them."""
        element = _first_element(document)
        if element is not None:
            form = self._by_element.get(element)
            if form is not None:
                if element[0] == _STRING or element[0] == _DOCUMENT:
                    self._saw_string = True
                return form
        found = form_at(document, self.reads[0].key.path)
        if found is None:
            return None
        form, has_string = found
        self._saw_string |= has_string
        return form if form in self._asked else None


class PlainBatch(PointBatch):
    """Reads by plain values alone: what a document's first field holds is looked up as bytes.

    Values of these types are equal if and only if they are encoded alike, and no collation has a
    say. A document whose bytes nobody asked for may still hold an equal value of another type
    (5.0), so it is then looked at as in any batch.
    """

    __slots__ = ("_ends", "_more", "_of_element", "_of_form")

    def __init__(self, reads: list[PointRead]) -> None:
        self.reads = reads
        self._strays = False
        self.values = []
        # Who asked first, by the encoded field; and who asked for the same later.
        self._of_element: dict[bytes, PointRead] = {}
        self._more: dict[bytes, list[PointRead]] = {}
        self._of_form: dict[Hashable, bytes] | None = None
        of_element, values = self._of_element, self.values
        for read in reads:
            element = read.element
            if of_element.setdefault(element, read) is read:
                values.append(read.value)
            else:
                self._more.setdefault(element, []).append(read)
        # Where the first field ends: after its type, its name, and a value of known size.
        name = 4 + 1 + len(reads[0].key.path.encode()) + 1
        self._ends = {kind: name + _FIXED[kind] for kind in _PLAIN_TYPES}

    def arrived(self, documents: Iterable[bytes]) -> list[tuple[PointRead, bytes]]:
        settled: list[tuple[PointRead, bytes]] = []
        of_element, ends, more = self._of_element, self._ends, self._more
        for document in documents:
            element = document[4 : ends.get(document[4], 4)]
            read = of_element.pop(element, None)
            if read is None:
                known = self._equal(document)
                if known is None:
                    self._strays = True
                    continue
                element = known
                read = of_element.pop(element, None)
                if read is None:
                    continue  # A second document of one value adds nothing.
            settled.append((read, document))
            if more:
                settled += [(other, document) for other in more.pop(element, ())]
        return settled

    def ended(self) -> tuple[list[PointRead], list[PointRead]]:
        left = list(self._of_element.values())
        left += [read for reads in self._more.values() for read in reads]
        return ([], left) if self._strays else (left, [])

    def _equal(self, document: bytes) -> bytes | None:
        """The field that was asked for and equals a document's; None if there is none."""
        found = form_at(document, self.reads[0].key.path)
        if found is None:
            return None
        if self._of_form is None:
            self._of_form = {read.form: read.element for read in self.reads}
        return self._of_form.get(found[0])


def batch_of(reads: list[PointRead]) -> PointBatch:
    """The batch that these reads, of one key path, projection and codec, travel in."""
    for read in reads:
        if not read.plain:
            return PointBatch(reads)
    return PlainBatch(reads)


def documents_of(data: bytes) -> list[bytes]:
    """The documents of a batch, which follow one another."""
    documents = []
    at, end = 0, len(data)
    size_at = _SIZE.unpack_from
    while at < end:
        (size,) = size_at(data, at)
        if size < 5:
            raise ValueError("a document is at least five bytes long")
        stop = at + size
        documents.append(data[at:stop])
        at = stop
    return documents


def _first_element(document: bytes) -> bytes | None:
    """A document's first field, encoded; None for types that are looked at otherwise."""
    kind = document[4]
    value = document.find(0, 5) + 1
    size = _FIXED.get(kind)
    if size is None:
        more = _LENGTH_AND_MORE.get(kind)
        if more is None:
            return None
        size = int.from_bytes(document[value : value + 4], "little") + more
    return document[4 : value + size]
