"""Equality that a program could notice: types, signs of zero, key order, time zones included."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from types import FunctionType
from typing import Any
from uuid import UUID

import bson
from bson.binary import Binary
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.errors import PyMongoError

# Facts about the server and its clock, not about the data: two equal calls differ in them.
SERVER_METADATA = frozenset(
    {
        "$clusterTime",
        "operationTime",
        "opTime",
        "electionId",
        "clusterTime",
        "wallTime",
        "localTime",
        "_data",
        "lsid",
        "txnNumber",
        "connectionId",
        "uploadDate",
    }
)
_HEX_ID = re.compile(r"[0-9a-f]{24}")
_NUMBERED = re.compile(
    r"(cursor id|txnNumber:?|transaction number( is)?) -?\d+|[a-zA-Z_.]* object at 0x[0-9a-f]+"
    r"|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|(?<=RawBSONDocument\()b.*?(?=, codec_options)"
    r"|'?\$clusterTime.*?operationTime[^T]*Timestamp\(\d+, \d+\)"
    # Up to PyMongo 4.13 a document that cannot be encoded is shown with its whole command.
    r"|'lsid': \{'id': Binary\(.*?, 4\)\}|'\$clusterTime': .*?(?=, '\$db')"
    r"|'txnNumber': (Int64\()?\d+"
)


# What a batch leaves out of a server's message (DESIGN, contract 4).
_DURING = re.compile(r"Plan executor error during \w+ :: caused by :: ")
# Where a class is defined: in its repr, and in a TypeError about a call of its method.
_CLASS_PATH = re.compile(r"(?<=<class ')[\w.]*\.(?=\w+'>)|\b[\w.]+\.(?=\w+\(\) )")
_CLASSES = {
    "OptimizedClient": "AsyncIOMotorClient",
    "OptimizedAsyncMongoClient": "AsyncMongoClient",
    "OptimizedMongoClient": "MongoClient",
}


class Mismatch(AssertionError):
    """The two arms differ."""


def is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "qbmongo"


def driver_class(cls: type) -> type:
    """The driver's class behind one of ours; any other class is itself."""
    for base in cls.__mro__:
        if not is_ours(base):
            return base
    return cls


class Comparison:
    """Compares what the two arms did.

    The arms differ in their database's name, and in the ids that driver or server made up: `known`
    ids must be equal, any other pair must be used consistently (one to one) in the whole example.
    """

    def __init__(self, databases: tuple[str, str], known: frozenset[Any]) -> None:
        self._databases = databases
        self._known = known
        self._forward: dict[Any, Any] = {}
        self._backward: dict[Any, Any] = {}

    def copy(self) -> Comparison:
        """One that knows what this one knows, and may learn more without telling it."""
        made = Comparison(self._databases, self._known)
        made._forward, made._backward = dict(self._forward), dict(self._backward)
        return made

    def check(self, plain: Any, ours: Any, path: str = "result") -> None:
        """Raise Mismatch unless the two are the same to a program."""
        if plain is ours and not isinstance(plain, (dict, list)):
            return
        cls = type(plain)
        other = type(ours)
        if cls is not other and not (
            driver_class(other) is driver_class(cls) and issubclass(other, cls)
        ):
            raise Mismatch(f"{path}: {cls.__name__} {plain!r} != {other.__name__} {ours!r}")
        compare = _BY_TYPE.get(cls)
        if compare is not None:
            compare(self, plain, ours, path)
        else:
            self._check_object(plain, ours, path)

    def _check_plain(self, plain: Any, ours: Any, path: str) -> None:
        if plain != ours:
            raise Mismatch(f"{path}: {plain!r} != {ours!r}")

    def _check_float(self, plain: float, ours: float, path: str) -> None:
        same = plain == ours and math.copysign(1, plain) == math.copysign(1, ours)
        if not same and not (plain != plain and ours != ours):
            raise Mismatch(f"{path}: {plain!r} != {ours!r}")

    def _check_decimal(self, plain: Decimal, ours: Decimal, path: str) -> None:
        if plain.as_tuple() != ours.as_tuple():
            raise Mismatch(f"{path}: {plain!r} != {ours!r}")

    def _check_datetime(self, plain: datetime, ours: datetime, path: str) -> None:
        if plain.replace(tzinfo=None) != ours.replace(tzinfo=None) or (
            plain.tzinfo is not ours.tzinfo and plain.utcoffset() != ours.utcoffset()
        ):
            raise Mismatch(f"{path}: {plain!r} != {ours!r}")

    def _check_text(self, plain: str, ours: str, path: str) -> None:
        if plain == ours:
            return
        first, second = self._normalised(plain, 0), self._normalised(ours, 1)
        if first != second:
            ids, others = _HEX_ID.findall(first), _HEX_ID.findall(second)
            if len(ids) == len(others) and _HEX_ID.sub("id", first) == _HEX_ID.sub("id", second):
                for one, another in zip(ids, others, strict=True):
                    self._pair(ObjectId(one), ObjectId(another), path)
                return
            raise Mismatch(f"{path}: {plain!r} != {ours!r}")

    def _normalised(self, text: str, arm: int) -> str:
        text = text.replace(self._databases[arm], "<database>")
        text = _DURING.sub("", text)
        for ours, driver in _CLASSES.items():
            text = text.replace(ours, driver)
        return _NUMBERED.sub("<number>", _CLASS_PATH.sub("", text))

    def _check_id(self, plain: Any, ours: Any, path: str) -> None:
        if plain != ours or plain not in self._known:
            self._pair(plain, ours, path)

    def _pair(self, plain: Any, ours: Any, path: str) -> None:
        if plain in self._known or ours in self._known:
            if plain != ours:
                raise Mismatch(f"{path}: {plain!r} != {ours!r}")
        elif (
            self._forward.setdefault(plain, ours) != ours
            or self._backward.setdefault(ours, plain) != plain
        ):
            raise Mismatch(f"{path}: {plain!r} stands for another id than {ours!r}")

    def _check_mapping(self, plain: Mapping[Any, Any], ours: Mapping[Any, Any], path: str) -> None:
        keys, others = list(plain), list(ours)
        if keys != others:
            keys = [key for key in keys if key not in SERVER_METADATA]
            others = [key for key in others if key not in SERVER_METADATA]
            if keys != others:
                self._check_sequence(keys, others, f"{path} keys")
        for key, other in zip(keys, others, strict=True):
            if key is not other:
                self.check(key, other, f"{path} key")
            if key not in SERVER_METADATA:
                self.check(plain[key], ours[other], f"{path}[{key!r}]")

    def _check_sequence(self, plain: Any, ours: Any, path: str) -> None:
        if len(plain) != len(ours):
            raise Mismatch(
                f"{path}: {len(plain)} elements {list(plain)!r} != {len(ours)} {list(ours)!r}"
            )
        for at, (one, another) in enumerate(zip(plain, ours, strict=True)):
            self.check(one, another, f"{path}[{at}]")

    def _check_iterator(self, plain: Iterator[Any], ours: Iterator[Any], path: str) -> None:
        self._check_sequence(list(plain), list(ours), f"what is left of {path}")

    def _check_bytes(self, plain: bytes, ours: bytes, path: str) -> None:
        """Raw batches are documents one after the other."""
        if plain == ours:
            return
        try:
            documents, others = bson.decode_all(plain), bson.decode_all(ours)
        except bson.errors.InvalidBSON:
            raise Mismatch(f"{path}: {plain!r} != {ours!r}") from None
        self._check_sequence(documents, others, path)

    def _check_raw(self, plain: RawBSONDocument, ours: RawBSONDocument, path: str) -> None:
        self._check_mapping(plain, ours, path)

    def _check_object(self, plain: Any, ours: Any, path: str) -> None:
        if isinstance(plain, BaseException):
            self._check_exception(plain, ours, path)
        elif isinstance(plain, Mapping):
            self._check_mapping(plain, ours, path)
        elif isinstance(plain, type):
            raise Mismatch(f"{path}: {plain!r} != {ours!r}")
        elif hasattr(type(plain), "acknowledged"):
            self._check_properties(plain, ours, path)
        elif (state := _state(plain)) is not None:
            other = _state(ours)
            assert other is not None
            self._check_mapping(state, other, path)
        elif (name := _name(plain)) is not None:
            self._check_text(name, _name(ours) or "", f"{path}.name")
        elif not _is_handle(plain):
            self._check_plain(plain, ours, path)

    def _check_exception(self, plain: BaseException, ours: BaseException, path: str) -> None:
        if type(plain) is not type(ours):
            raise Mismatch(f"{path}: raised {plain!r} != raised {ours!r}")
        self._check_text(str(plain), str(ours), f"{path} message")
        if isinstance(plain, PyMongoError):
            for name in ("code", "details", "timeout", "partial_result", "errors"):
                one = getattr(plain, name, None)
                self.check(one, getattr(ours, name, None), f"{path}.{name}")
            labels = sorted(getattr(plain, "_error_labels", ()))
            self._check_plain(labels, sorted(getattr(ours, "_error_labels", ())), f"{path} labels")
        else:
            self.check(plain.args, ours.args, f"{path}.args")

    def _check_properties(self, plain: Any, ours: Any, path: str) -> None:
        """A write's result: every public property, also one that raises."""
        for name in _properties(type(plain)):
            one, another = _read(plain, name), _read(ours, name)
            self.check(one, another, f"{path}.{name}")


def _read(value: Any, name: str) -> Any:
    try:
        return getattr(value, name)
    except Exception as error:
        return error


_PROPERTIES: dict[type, tuple[str, ...]] = {}


def _properties(cls: type) -> tuple[str, ...]:
    names = _PROPERTIES.get(cls)
    if names is None:
        names = tuple(
            name
            for name in dir(cls)
            if not name.startswith("_") and isinstance(getattr(cls, name), property)
        )
        _PROPERTIES[cls] = names
    return names


_REQUESTS = frozenset(
    {"InsertOne", "UpdateOne", "UpdateMany", "ReplaceOne", "DeleteOne", "DeleteMany", "IndexModel"}
)


def _state(value: Any) -> dict[str, Any] | None:
    """What a request of a bulk write (or an index model) holds."""
    if type(value).__name__ not in _REQUESTS:
        return None
    names = {
        name
        for cls in type(value).__mro__
        for name in (*getattr(cls, "__slots__", ()), *getattr(value, "__dict__", ()))
    }
    return {name: getattr(value, name, None) for name in sorted(names) if "__" not in name}


def _name(value: Any) -> str | None:
    """A database's or collection's name; None for what has none."""
    kind = type(value).__mro__
    if any(cls.__name__.endswith("Collection") for cls in kind):
        return str(value.full_name)
    if any(cls.__name__.endswith("Database") for cls in kind):
        return str(value.name)
    return None


_HANDLES = (
    "Cursor",
    "ClientSession",
    "ChangeStream",
    "MongoClient",
    "MotorClient",
    "Context",
    "GridOut",
)


def _is_handle(value: Any) -> bool:
    """Cursors, sessions and the like: equal when their classes are."""
    return any(word in cls.__name__ for cls in type(value).__mro__ for word in _HANDLES)


_BY_TYPE: dict[type, Any] = {
    int: Comparison._check_plain,
    bool: Comparison._check_plain,
    float: Comparison._check_float,
    Decimal: Comparison._check_decimal,
    str: Comparison._check_text,
    datetime: Comparison._check_datetime,
    ObjectId: Comparison._check_id,
    UUID: Comparison._check_id,
    Binary: Comparison._check_id,
    bytes: Comparison._check_bytes,
    dict: Comparison._check_mapping,
    bson.SON: Comparison._check_mapping,
    list: Comparison._check_sequence,
    tuple: Comparison._check_sequence,
    deque: Comparison._check_sequence,
    FunctionType: lambda comparison, plain, ours, path: None,  # The harness's own callbacks.
    type(iter([])): Comparison._check_iterator,
    RawBSONDocument: Comparison._check_raw,
}
