"""Typed use of the public names. It is never run: it only has to pass the type checker."""

from __future__ import annotations

from qbmongo.local_server import LocalServer, ServerKind, ServerProgram, find_server


def start_a_server() -> tuple[str, ServerKind]:
    program: ServerProgram | None = find_server("secantusd-rs")
    with LocalServer(program, auth=True) as server:
        return server.uri, server.kind
