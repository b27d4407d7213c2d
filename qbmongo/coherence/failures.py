"""What a failed command means for the watcher, and which servers it cannot watch.

Source: the change streams specification, "Resumable Error", and MongoDB's error_codes.yml.
https://github.com/mongodb/specifications/blob/master/source/change-streams/change-streams.md
"""

from __future__ import annotations

from typing import Literal

from qbmongo.coherence.records import Failure, Reply

Meaning = Literal["disconnected", "unauthorized", "no_replica_set", "resumable", "final"]

NO_REPLICA_SET = "change streams need a replica set"

# Events of index builds and collMod came with MongoDB 6.0; facts of a namespace depend on them.
_WIRE_VERSION_6_0 = 17
_UNAUTHORIZED = 13
_ONLY_ON_REPLICA_SETS = 40573
# The server is no primary, or is about to stop: whoever answers next must be asked who it is.
_NOT_PRIMARY = frozenset((91, 189, 10058, 10107, 11600, 11602, 13435, 13436))
# The stream goes on from its token. 50 (a getMore's own time limit) stands beside 262.
_RESUMABLE = frozenset((6, 7, 43, 50, 63, 89, 133, 150, 234, 262, 9001, 13388))
_RESUMABLE_LABEL = "ResumableChangeStreamError"


def meaning_of(failure: Failure) -> Meaning:
    """What follows from a failure.

    Returns:
        "disconnected": nobody we know answered. "unauthorized": a privilege is missing.
        "no_replica_set": no change streams here. "resumable": the same again, from the last token.
        "final": neither the command nor its token is worth another try.
    """
    if failure.kind == "network" or failure.code in _NOT_PRIMARY:
        return "disconnected"
    if failure.code == _UNAUTHORIZED:
        return "unauthorized"
    if failure.code == _ONLY_ON_REPLICA_SETS:
        return "no_replica_set"
    if failure.code in _RESUMABLE or _RESUMABLE_LABEL in failure.labels:
        return "resumable"
    return "final"


def why_unsupported(hello: Reply) -> str | None:
    """Why the server that sent this hello cannot be watched, or None.

    Source: https://www.mongodb.com/docs/manual/reference/command/hello/
    """
    if hello.get("msg") == "isdbgrid":
        return "a sharded cluster is not watched"
    if "setName" not in hello or "operationTime" not in hello:
        return NO_REPLICA_SET
    if int(hello.get("maxWireVersion", 0)) < _WIRE_VERSION_6_0:
        return "change streams with index and collection events need MongoDB 6.0"
    return None
