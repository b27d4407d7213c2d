"""What stops the demo before it can play: one readable line each."""

from __future__ import annotations


class DemoError(RuntimeError):
    """The demo cannot run here (data missing, server missing or unreachable)."""
