"""An error of one command for several callers: each raises an object of its own."""

from __future__ import annotations

import copy
from typing import TypeVar

__all__ = ["copy_of"]

_Error = TypeVar("_Error", bound=BaseException)


def copy_of(error: _Error) -> _Error:
    """Another object that is equal to a driver's exception in class, arguments and attributes.

    Labels and details are copied, too: what one caller does to its error, another must not see.
    """
    made = type(error).__new__(type(error), *error.args)
    made.args = error.args
    for name, value in error.__dict__.items():
        own = value
        if isinstance(value, (set, dict, list)):
            try:
                own = copy.deepcopy(value)
            except Exception:
                own = copy.copy(value)
        made.__dict__[name] = own
    made.__cause__ = error.__cause__
    made.__context__ = error.__context__
    made.__suppress_context__ = error.__suppress_context__
    return made.with_traceback(error.__traceback__)
