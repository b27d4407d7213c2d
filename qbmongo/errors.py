"""Errors of our own misuse. Driver and server errors pass through untouched, same object.

QbError
├── SettingsError (ValueError)      a setting that cannot be; names field, value, what is allowed
├── ProfileFileError (ValueError)   a profile file that cannot be read; names the file and the field
├── QbTimeoutError (TimeoutError)   caught_up() or flush() did not finish in the time given
├── AdvisorInputError (ValueError)  what advice should rest on, or be tried on, cannot be used
└── ServerUnreadableError           the server to be advised on cannot be reached or read
"""

from __future__ import annotations

__all__ = [
    "AdvisorInputError",
    "ProfileFileError",
    "QbError",
    "QbTimeoutError",
    "ServerUnreadableError",
    "SettingsError",
]


class QbError(Exception):
    """Base of every error raised by qbmongo itself."""


class SettingsError(QbError, ValueError):
    """A setting that cannot be. The message names the field, the value and what is allowed."""


class ProfileFileError(QbError, ValueError):
    """A profile file that cannot be read. The message names the file and the field."""


class QbTimeoutError(QbError, TimeoutError):
    """Something that was waited for did not happen in the time given."""


class AdvisorInputError(QbError, ValueError):
    """What advice should rest on, or be tried on, cannot be used. The message names it."""


class ServerUnreadableError(QbError):
    """The server to be advised on could not be reached or read."""
