"""Work in a thread: stopped and waited for whatever interrupts its caller."""

from __future__ import annotations

import contextvars
import os
import signal
import threading

import pytest

from qbmongo.advisor.interruption import Stop, StoppedError, Work, ended_by_sigterm

LIMIT_S = 20.0


def test_the_result_is_given() -> None:
    assert Work(lambda stop: 42).wait() == 42


def test_an_error_is_raised_in_the_caller() -> None:
    def fail(stop: Stop) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Work(fail).wait()


def until_stopped(started: threading.Event, cleaned: list[str]) -> Work[None]:
    def go_on(stop: Stop) -> None:
        try:
            started.set()
            while True:
                stop.check()
                threading.Event().wait(0.001)
        finally:
            cleaned.append("cleaned")

    return Work(go_on)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_is_raised_after_the_work_has_cleaned_up(
    number: signal.Signals, expected: type[BaseException]
) -> None:
    started, cleaned = threading.Event(), list[str]()

    def send() -> None:
        started.wait(LIMIT_S)
        os.kill(os.getpid(), number)

    def wait() -> None:
        sender.start()
        try:
            until_stopped(started, cleaned).wait()
        finally:
            cleaned.append("raised")

    sender = threading.Thread(target=send)
    before = signal.getsignal(signal.SIGTERM)
    with ended_by_sigterm(), pytest.raises(expected) as ended:
        wait()
    sender.join()
    assert cleaned == ["cleaned", "raised"]
    if number == signal.SIGTERM:
        assert ended.value.args == (128 + signal.SIGTERM,)
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_asked_to_stop_it_stops() -> None:
    started, cleaned = threading.Event(), list[str]()
    work = until_stopped(started, cleaned)
    work.start()
    assert started.wait(LIMIT_S)
    work.stop.ask()
    with pytest.raises(StoppedError):
        work.join()
    assert cleaned == ["cleaned"]


def test_it_runs_in_an_empty_context() -> None:
    inherited: contextvars.ContextVar[int] = contextvars.ContextVar("inherited", default=0)
    inherited.set(1)
    assert Work(lambda stop: inherited.get()).wait() == 0


def test_sigterm_is_left_alone_in_other_threads() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def look(stop: Stop) -> None:
        with ended_by_sigterm():
            assert signal.getsignal(signal.SIGTERM) is before

    work = Work(look)
    work.start()
    work.join()
