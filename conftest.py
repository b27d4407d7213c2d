"""The options of the tests, known also where no path stands on the command line."""

from __future__ import annotations

from qbmongo_tests.conftest import pytest_addoption

__all__ = ["pytest_addoption"]
