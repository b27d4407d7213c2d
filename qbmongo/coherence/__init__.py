"""Other writers: change streams, and leases that say how far they can be believed."""

from __future__ import annotations
