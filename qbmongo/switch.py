"""QBMONGO_DISABLE: whether qbmongo is to stay out of the way altogether."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .errors import SettingsError

__all__ = ["is_disabled"]

_VARIABLE = "QBMONGO_DISABLE"
_YES = frozenset({"1", "true", "on", "yes"})
_NO = frozenset({"", "0", "false", "off", "no"})


def is_disabled(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the three clients are to be the plain driver's (see clients/disabled.py).

    environment: os.environ if None. Raises SettingsError for a value that is neither yes nor no.
    """
    value = (os.environ if environment is None else environment).get(_VARIABLE, "")
    if value.lower() in _YES:
        return True
    if value.lower() in _NO:
        return False
    raise SettingsError(f"{_VARIABLE} is {value!r}; allowed is 1 or 0")
