"""The server's error to a read that was sent with a codec that loses nothing, as the program's own.

The driver puts the server's reply into the exception, decoded with the collection's codec options:
in its details, and in the words of its message.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

__all__ = ["programs_errors"]


@contextmanager
def programs_errors(codec: CodecOptions[Any]) -> Iterator[None]:
    """Within it, the server's errors hold replies decoded with a program's codec options."""
    try:
        yield
    except OperationFailure as error:
        details = error.details
        if not isinstance(details, RawBSONDocument):
            raise
        decoded = bson.decode(details.raw, codec_options=codec)
        restored = type(error)(
            str(decoded.get("errmsg", "")), error.code, decoded, error._max_wire_version
        )
        restored._error_labels |= error._error_labels
        raise restored.with_traceback(error.__traceback__) from None
