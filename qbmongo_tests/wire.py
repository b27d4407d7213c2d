"""The messages of MongoDB's wire protocol, as far as the fault proxy reads and writes them.

Source: https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import bson

HEADER = struct.Struct("<iiii")  # length, request id, response to, opcode
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_MORE_TO_COME = 1 << 1
_REPLY_FLAGS_BYTES = 20  # of OP_REPLY: flags, cursor id, starting from, number returned


def has_more_to_come(message: bytes) -> bool:
    """Of a request: no reply is sent. Of a reply: another one follows by itself."""
    opcode = HEADER.unpack_from(message)[3]
    return opcode == _OP_MSG and bool(message[HEADER.size] & _MORE_TO_COME)


def parse_request(message: bytes) -> tuple[str, bytes] | None:
    """A command's name and body; None for a message that is no command."""
    opcode = HEADER.unpack_from(message)[3]
    if opcode == _OP_MSG:
        start = _body_at(message)
    elif opcode == _OP_QUERY:
        start = message.index(b"\0", 20) + 1 + 8
    else:
        return None
    size = struct.unpack_from("<i", message, start)[0]
    body = message[start : start + size]
    return body[5 : body.index(b"\0", 5)].decode(), body


def _body_at(message: bytes) -> int:
    """Where the document of an OP_MSG's kind-0 section begins."""
    at = HEADER.size + 4
    while message[at] != 0:
        at += 1 + int(struct.unpack_from("<i", message, at + 1)[0])
    return at + 1


def build_answer(request: bytes, document: Mapping[str, Any]) -> bytes:
    _, request_id, _, opcode = HEADER.unpack_from(request)
    body = bson.encode(document)
    if opcode == _OP_MSG:
        content = b"\0\0\0\0\0" + body
    else:
        content, opcode = struct.pack("<iqii", 8, 0, 0, 1) + body, _OP_REPLY
    return HEADER.pack(HEADER.size + len(content), 0, request_id, opcode) + content


def rewrite_hello(message: bytes, server: tuple[str, int], address: str) -> bytes:
    length, request_id, response_to, opcode = HEADER.unpack_from(message)
    start = _body_at(message) if opcode == _OP_MSG else HEADER.size + _REPLY_FLAGS_BYTES
    hello = bson.decode(message[start:length])
    own = {"{}:{}".format(*server), hello.get("me")}

    def replaced(host: str) -> str:
        return address if host in own else host

    for name in ("me", "primary"):
        if name in hello:
            hello[name] = replaced(hello[name])
    if "hosts" in hello:
        hello["hosts"] = [replaced(host) for host in hello["hosts"]]
    hello.pop("compression", None)
    content = message[HEADER.size : start] + bson.encode(hello)
    return HEADER.pack(HEADER.size + len(content), request_id, response_to, opcode) + content
