"""What the plan has sent and waits for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bson.timestamp import Timestamp

from qbmongo.coherence.records import Primary
from qbmongo.coherence.stream import Stream


@dataclass(slots=True)
class Probe:
    """A probe under way; time and primary are unknown until hello returns."""

    round: int
    start_s: float
    time: Timestamp | None = None
    primary: Primary | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """The request in flight. stream is None for hello."""

    kind: Literal["hello", "majority", "open", "more", "kill", "facts", "verify"]
    stream: Stream | None = None
