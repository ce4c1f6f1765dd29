"""Prometheus' own tools, fetched for the tests where they are not installed."""

import shutil
from pathlib import Path

import pytest

from benchmarks import monitoring


@pytest.fixture(scope="session")
def tools() -> Path:
    """The folder of prometheus and promtool."""
    if not shutil.which("prometheus") and not shutil.which("apt-get"):
        pytest.skip("neither Prometheus nor apt-get, which would fetch it, is on the PATH")
    return monitoring.tools()
