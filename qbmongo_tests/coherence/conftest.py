"""Watchers of both kinds, ended with their test."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qbmongo_tests.coherence.harness import RUNNERS, Recorder, TaskRunner, ThreadRunner
from qbmongo_tests.conftest import OwnServer
from qbmongo_tests.faults import FaultProxy

Runner = ThreadRunner | TaskRunner
Start = Callable[..., Runner]


@pytest.fixture
def sink() -> Recorder:
    return Recorder()


@pytest.fixture(params=["thread", "task"])
def start(
    request: pytest.FixtureRequest,
    server_uri: str,
    sink: Recorder,
    fault_proxy: FaultProxy,
    own_server: OwnServer,
) -> Iterator[Start]:
    """Start a watcher of either kind: start(uri, limits=..., **client_options).

    Watchers end before proxy and servers do (hence the arguments): none has to wait for them then.
    """
    runners: list[Runner] = []

    def begin(uri: str = server_uri, **options: Any) -> Runner:
        runner = RUNNERS[request.param](uri, sink, **options)
        runners.append(runner)
        return runner

    yield begin
    for runner in runners:
        runner.stop()
    gc.collect()
