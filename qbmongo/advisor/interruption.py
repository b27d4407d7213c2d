"""Work that cleans up after itself even if its caller is interrupted.

An exception that a signal throws into a driver's call leaves the command with the server: an
insert that goes on there would bring a dropped database back. So the work runs in a thread of its
own, which no signal interrupts; whoever waits for it asks it to stop and waits until it has cleaned
up.
"""

from __future__ import annotations

import contextvars
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Generic, TypeVar

__all__ = ["Stop", "StoppedError", "Work", "ended_by_sigterm"]

_Result = TypeVar("_Result")


class StoppedError(Exception):
    """The work was asked to stop, and did."""


class Stop:
    """Asked by one thread, obeyed by another at its next step."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def ask(self) -> None:
        """From now on `check` raises."""
        self._event.set()

    def check(self) -> None:
        """Raises StoppedError if it was asked."""
        if self._event.is_set():
            raise StoppedError


class Work(Generic[_Result]):
    """A function's run in a thread, with an empty context.

    function: is given the Stop that it has to check between its steps.
    when_ended: called in the thread when the run is over, whatever its outcome.
    """

    def __init__(
        self,
        function: Callable[[Stop], _Result],
        when_ended: Callable[[], Any] | None = None,
    ) -> None:
        self.stop = Stop()
        self._function = function
        self._when_ended = when_ended
        self._result: list[_Result] = []
        self._error: BaseException | None = None
        # Not a daemon: a program that ends waits until nothing is left behind.
        self._thread = threading.Thread(
            target=contextvars.Context().run, args=(self._run,), name="qbmongo-advise"
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait(self) -> _Result:
        """Start, wait, and give what the function returns or raises.

        What interrupts the caller (Ctrl-C, an exit) stops the work and is raised when it has ended.
        """
        interruption: BaseException | None = None
        self.start()
        while self._thread.is_alive():
            try:
                self._thread.join()
            except BaseException as error:
                interruption = interruption or error
                self.stop.ask()
        if interruption is not None:
            raise interruption
        return self.result()

    def result(self) -> _Result:
        """What the ended function returned; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._result[0]

    def _run(self) -> None:
        try:
            self._result.append(self._function(self.stop))
        except BaseException as error:
            self._error = error
        finally:
            if self._when_ended is not None:
                self._when_ended()


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Within the block SIGTERM raises SystemExit(128 + SIGTERM), so that work is cleaned up."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
