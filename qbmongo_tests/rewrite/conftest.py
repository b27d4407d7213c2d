from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def report(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Callable[[object], None]:
    """Shows figures on the terminal and in the report."""

    def show(figures: object) -> None:
        request.node.user_properties.append(("figures", str(figures)))
        terminal = request.config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            with capsys.disabled():
                terminal.write_line(f"\n{figures}")

    return show
