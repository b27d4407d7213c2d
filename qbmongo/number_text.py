"""Numbers as people read them: durations, sizes, shares, moments."""

from __future__ import annotations

from datetime import datetime, timezone

__all__ = ["bytes_text", "count_text", "duration_text", "moment_text", "share_text"]


def duration_text(seconds: float) -> str:
    """A duration with three digits and the unit that suits it."""
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= unit:
            value = seconds / unit
            digits = 0 if value >= 100 else 1 if value >= 10 else 2
            return f"{value:,.{digits}f} {name}"
    return f"{seconds * 1e6:.2f} us" if seconds else "0"


def bytes_text(size: float) -> str:
    """A size with the binary unit that suits it."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size:,.0f} B"


def count_text(count: float) -> str:
    """A count, or a mean of counts: whole from ten on, with one digit below."""
    if count >= 10 or float(count).is_integer():
        return f"{count:,.0f}"
    return f"{count:,.1f}"


def share_text(share: float) -> str:
    """A share from 0 to 1 in per cent; never "0 %" for something that is there."""
    percent = share * 100
    if percent >= 10 or percent == 0:
        return f"{percent:.0f} %"
    return f"{percent:.1f} %" if percent >= 0.1 else "< 0.1 %"


def moment_text(seconds: float) -> str:
    """A wall clock instant (seconds since 1970) in UTC; "?" for what is no such instant."""
    try:
        moment = datetime.fromtimestamp(seconds, tz=timezone.utc)
    except (OverflowError, OSError, ValueError):
        return "?"
    return moment.strftime("%Y-%m-%d %H:%M:%S")
