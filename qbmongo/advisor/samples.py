"""A sample of a collection: its documents' BSON, in memory while small, else in a file."""

from __future__ import annotations

import tempfile
from collections.abc import Hashable, Iterator
from types import TracebackType
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument

__all__ = ["RAW", "READING", "Sample"]

_IN_MEMORY_BYTES = 4 << 20
_LENGTH_BYTES = 4

#: Decodes whatever a collection may hold; nothing decoded by it is ever sent back.
READING: CodecOptions[Any] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    unicode_decode_error_handler="replace",
)

#: The same for documents that are passed on as they came.
RAW: CodecOptions[RawBSONDocument] = READING.with_options(document_class=RawBSONDocument)


class Sample:
    """Documents as the server sent them, each `_id` once.

    Nothing of it is left when it is closed or the process ends, however it ends (the temporary
    file has no name where the system allows that).

    Args:
        max_bytes: of all documents together; further ones are not taken.
    """

    def __init__(self, max_bytes: int) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115
        self._max_bytes = max_bytes
        self._ids: set[Hashable] = set()
        self.documents = 0
        self.bytes = 0
        self.is_full = False

    def add(self, raw: bytes, identity: bytes) -> bool:
        """Takes one document, if there is room and its `_id` is new.

        Args:
            raw: its BSON.
            identity: the BSON of `{_id: its _id}`.
        """
        if self.bytes + len(raw) > self._max_bytes and self.documents:
            self.is_full = True
            return False
        key = hash(identity)  # a collision costs one document of the sample
        if key in self._ids:
            return False
        self._ids.add(key)
        self._file.seek(0, 2)
        self._file.write(raw)
        self.documents += 1
        self.bytes += len(raw)
        return True

    def raws(self) -> Iterator[bytes]:
        """Each document's BSON, in the order of their coming. Nothing may be added meanwhile."""
        self._file.seek(0)
        while head := self._file.read(_LENGTH_BYTES):
            yield head + self._file.read(int.from_bytes(head, "little") - _LENGTH_BYTES)

    def decoded(self, at_most: int) -> list[dict[str, Any]]:
        """So many documents, from all over the sample."""
        step = max(1, -(-self.documents // at_most))
        return [bson.decode(raw, READING) for i, raw in enumerate(self.raws()) if i % step == 0]

    def close(self) -> None:
        """Forgets the documents."""
        self._file.close()
        self._ids.clear()

    def __enter__(self) -> Sample:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
