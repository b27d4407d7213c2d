"""Point reads that travel together: what is sent for them, and whose each document is.

Every read of a batch has one outcome: a document that its filter matches, none where no document
of the whole answer can match it, or to make its own call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

from .lanes import LaneCounts
from .point_keys import PointKey, form_at

__all__ = ["BatchCounts", "PointBatch", "PointRead", "documents_of"]

_STRING, _DOCUMENT = 0x02, 0x03
# Bytes of a value by its type; strings and binaries begin with their length.
_FIXED = {0x01: 8, 0x07: 12, 0x08: 1, 0x09: 8, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16}
_LENGTH_AND_MORE = {0x02: 4, 0x03: 0, 0x05: 5}


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


class PointRead:
    """One read that waits for its batch.

    ticket: the engine's. simple: strings surely compare by simple binary comparison. gathering,
    slot: where it waits.
    """

    __slots__ = ("gathering", "key", "simple", "slot", "ticket")

    def __init__(self, ticket: Any, key: PointKey, *, simple: bool) -> None:
        self.ticket = ticket
        self.key = key
        self.simple = simple
        self.gathering: Any = None
        self.slot: Any = None


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
            key = read.key
            asking = self._by_form.get(key.form)
            if asking is None:
                self._by_form[key.form] = [read]
                self.values.append(key.value)
            else:
                asking.append(read)
            self._by_element[key.element] = key.form
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


def documents_of(data: bytes) -> Iterator[bytes]:
    """The documents of a batch, which follow one another."""
    at, end = 0, len(data)
    while at < end:
        size = int.from_bytes(data[at : at + 4], "little")
        if size < 5:
            raise ValueError("a document is at least five bytes long")
        yield data[at : at + size]
        at += size


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
