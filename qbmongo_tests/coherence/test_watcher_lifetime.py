"""How both runners of the watcher begin and end, on a real server."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
import warnings
from typing import Any

import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.database import Database

from qbmongo.coherence.records import Limits
from qbmongo.coherence.task import TaskWatcher
from qbmongo.coherence.thread import ThreadWatcher
from qbmongo.core.events import effect_of_event
from qbmongo.core.values import canonical
from qbmongo_tests.coherence.conftest import Start
from qbmongo_tests.coherence.harness import (
    WAIT_S,
    Recorder,
    TaskRunner,
    ThreadRunner,
)
from qbmongo_tests.faults import DropReply, FaultProxy
from qbmongo_tests.waiting import wait_until

Data = Database[dict[str, Any]]


def test_lost_replies_and_closed_connections_lose_no_event(
    start: Start, sink: Recorder, fault_proxy: FaultProxy, database: Data
) -> None:
    watcher = start(fault_proxy.uri)
    watcher.watch(database.name)
    assert watcher.caught_up()
    losses = sink.of("lost")
    for number in range(9):
        if number % 3 == 0:
            fault_proxy.on("getMore", DropReply())
        elif number % 3 == 1:
            fault_proxy.close_connections()
        else:
            fault_proxy.on("find", DropReply())
        database.c.insert_one({"_id": number})
        assert watcher.caught_up()
        assert canonical(number) in sink.ids(database.name)
    assert sink.of("lost") == losses
    stats = watcher.stats()
    assert stats.failures >= 3
    assert stats.databases[0].resumes >= 3


def test_close_is_final_and_may_be_repeated(start: Start, sink: Recorder, database: Data) -> None:
    watcher = start()
    watcher.watch(database.name)
    assert watcher.caught_up()
    watcher.close()
    watcher.close()
    told = len(sink.told)
    database.c.insert_one({"_id": 1})
    watcher.watch(database.name)
    assert not watcher.caught_up(0.2)
    assert len(sink.told) == told
    assert watcher.stats().state == "closed"


def test_close_does_not_wait_for_a_server_that_is_silent(
    start: Start, fault_proxy: FaultProxy, database: Data
) -> None:
    watcher = start(fault_proxy.uri, limits=Limits(timeout_s=300.0))
    watcher.watch(database.name)
    assert watcher.caught_up()
    gate = fault_proxy.hold("getMore", times=None)
    gate.wait()
    before_s = time.monotonic()
    watcher.close()
    assert time.monotonic() - before_s < WAIT_S
    gate.release()


def test_sink_hears_nothing_of_a_command_that_outlives_the_close(
    server_uri: str, fault_proxy: FaultProxy, database: Data
) -> None:
    sink = Recorder()
    runner = TaskRunner(fault_proxy.uri, sink)
    runner.watch(database.name)
    assert runner.caught_up()
    gate = fault_proxy.hold("getMore")
    gate.wait()
    database.c.insert_one({"_id": 1})
    asyncio.run(runner.watcher.close())  # Not its own loop: it can only be told.
    told = len(sink.told)
    gate.release()
    task = runner.watcher._task
    assert task is not None

    async def ended() -> None:
        await asyncio.wait((task,))

    runner.run(ended())
    assert len(sink.told) == told
    runner.stop()


def test_closed_watcher_leaves_no_cursor(
    start: Start, fault_proxy: FaultProxy, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A task that is slow to say goodbye is not cut short.
    monkeypatch.setattr("qbmongo.coherence.task._GRACE_S", WAIT_S)
    watcher = start(fault_proxy.uri)
    watcher.watch(database.name)
    assert watcher.caught_up()
    watcher.close()
    assert wait_until(lambda: fault_proxy.counts()["killCursors"] == 1)


def test_never_started_watcher_is_caught_up_and_closes(start: Start) -> None:
    watcher = start()
    assert watcher.caught_up(0.0)
    assert watcher.stats().state == "idle"
    watcher.close()
    assert not watcher.caught_up(0.0)


def test_fault_of_ours_ends_trust_with_one_log_line(
    start: Start, sink: Recorder, database: Data, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: Any) -> Any:
        raise ZeroDivisionError

    watcher = start(effects_of=broken)
    watcher.watch(database.name)
    assert watcher.caught_up()
    with caplog.at_level(logging.INFO, logger="qbmongo"):
        database.c.insert_one({"_id": 1})
        sink.wait_for(lambda: sink.of("lost", None)[-1][1:] == (None, "fault"))
        assert not watcher.caught_up(1.0)
    assert len(caplog.records) == 1
    watcher.watch(database.name)
    assert watcher.stats().state == "fault"
    assert "ZeroDivisionError" in watcher.stats().reason


def test_thread_ends_when_the_sink_is_gone(server_uri: str, database: Data) -> None:
    sink = Recorder()
    runner = ThreadRunner(server_uri, sink)
    runner.watch(database.name)
    assert runner.caught_up()
    thread = runner.watcher._thread
    assert thread is not None
    assert (thread.name, thread.daemon) == ("qbmongo-watcher", True)
    del sink
    gc.collect()
    thread.join(WAIT_S)
    assert not thread.is_alive()


def test_callback_tells_when_it_is_caught_up(server_uri: str, database: Data) -> None:
    sink = Recorder()
    runner = ThreadRunner(server_uri, sink)
    answers: list[bool] = []
    answered = threading.Event()

    def answer(is_caught_up: bool) -> None:
        answers.append(is_caught_up)
        answered.set()
        raise ValueError("a callback's own problem")

    runner.watch(database.name)
    runner.watcher.when_caught_up(answer)
    assert answered.wait(WAIT_S)
    assert runner.caught_up()
    runner.close()
    runner.watcher.when_caught_up(lambda is_caught_up: answers.append(is_caught_up))
    assert answers == [True, False]


def test_who_waits_when_it_closes_is_told_so(fault_proxy: FaultProxy, database: Data) -> None:
    sink = Recorder()
    runner = ThreadRunner(fault_proxy.uri, sink)
    runner.watch(database.name)
    assert runner.caught_up()
    gate = fault_proxy.hold("getMore")
    gate.wait()
    answers: list[bool] = []
    answered = threading.Event()

    def answer(is_caught_up: bool) -> None:
        answers.append(is_caught_up)
        answered.set()

    runner.watcher.when_caught_up(answer)
    runner.watcher.close(wait_s=0)
    gate.release()
    assert answered.wait(WAIT_S)
    assert answers == [False]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_child_of_a_fork_watches_for_itself(server_uri: str, database: Data) -> None:
    sink = Recorder()
    runner = ThreadRunner(server_uri, sink)
    runner.watch(database.name)
    assert runner.caught_up()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        code = 1
        try:
            runner.watcher.after_fork()
            assert runner.stats().state == "idle"
            sink.told.clear()
            runner.watch(database.name)
            assert runner.caught_up()
            assert sink.of("lost")[0][1:] == (database.name, "opening")
            assert sink.of("lease")
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    database.c.insert_one({"_id": 1})
    assert runner.caught_up()
    assert sink.ids(database.name) == [canonical(1)]
    runner.stop()


def test_next_event_loop_begins_with_a_loss(server_uri: str, database: Data) -> None:
    sink = Recorder()

    def factory(changed: Any) -> AsyncMongoClient[dict[str, Any]]:
        return AsyncMongoClient(server_uri, **changed)

    watcher = TaskWatcher(sink, factory, effect_of_event)

    async def watch() -> bool:
        watcher.watch(database.name)
        return await watcher.caught_up(WAIT_S)

    assert asyncio.run(watch())
    database.c.insert_one({"_id": 1})
    assert asyncio.run(watch())
    told = [entry[0] for entry in sink.told]
    assert told.index("lost", 1) < len(told) - 1 - told[::-1].index("lease")
    asyncio.run(watcher.close())


def test_two_watchers_do_not_disturb_each_other(server_uri: str, database: Data) -> None:
    sinks = [Recorder(), Recorder()]
    watchers = [
        ThreadWatcher(sink, lambda changed: MongoClient(server_uri, **changed), effect_of_event)
        for sink in sinks
    ]
    for watcher in watchers:
        watcher.watch(database.name)
        assert watcher.caught_up(WAIT_S)
    watchers[0].close()
    database.c.insert_one({"_id": 1})
    assert watchers[1].caught_up(WAIT_S)
    assert sinks[1].ids(database.name) == [canonical(1)]
    assert sinks[0].ids(database.name) == []
    watchers[1].close()
