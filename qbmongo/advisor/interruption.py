"""Work that cleans up after itself even if its caller is interrupted.

An exception that a signal throws into a driver's call leaves the command with the server: an
insert that goes on there would bring a dropped database back. So the work runs in a thread of its
own, which no signal interrupts. A signal to whoever waits for it asks it to stop, and does what it
does when the work has cleaned up.
"""

from __future__ import annotations

import contextvars
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from typing import Any, Generic, TypeVar

__all__ = ["Deadline", "Stop", "StoppedError", "TimeUpError", "Work", "ended_by_sigterm"]

_Result = TypeVar("_Result")

# On some systems a wait without an end lets no signal through.
_JOIN_S = 0.5


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


class TimeUpError(Exception):
    """The time that the work was given is over."""


class Deadline(Stop):
    """A stop that also stops when a time is over.

    stop: the one that may be asked. ends_s: on time.monotonic's clock; None: never.
    """

    __slots__ = ("_ends_s", "_stop")

    def __init__(self, stop: Stop, ends_s: float | None) -> None:
        self._stop = stop
        self._ends_s = ends_s

    def ask(self) -> None:
        self._stop.ask()

    def check(self) -> None:
        """Raises StoppedError if it was asked, TimeUpError if the time is over."""
        self._stop.check()
        if self._ends_s is not None and monotonic() > self._ends_s:
            raise TimeUpError


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

        Ctrl-C and SIGTERM meanwhile stop the work, and take effect when it has ended.
        """
        with _noted_signals(self.stop.ask):
            self.start()
            return self.join()

    def join(self) -> _Result:
        """Waits for work that was started, whatever arrives."""
        while self._thread.is_alive():
            self._thread.join(_JOIN_S)
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
def _noted_signals(note: Callable[[], Any]) -> Iterator[None]:
    """Within the block Ctrl-C and SIGTERM call `note`; after it the first does what it always does.

    A handler that raised could raise anywhere, also while the first one is dealt with.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []

    def noted(number: int, frame: FrameType | None) -> None:
        arrived.append(number)
        note()

    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
    }
    for number in before:
        signal.signal(number, noted)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])


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
