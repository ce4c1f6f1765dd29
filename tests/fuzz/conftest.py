"""One real server for all tests that fuzz it."""

from collections.abc import Iterator

import pytest

from tests.fuzz.fuzz_server import serving
from tests.servers import RunningServer


@pytest.fixture(scope="package")
def server(tmp_path_factory) -> Iterator[RunningServer]:
    """With the smallest model of each kind; their artifacts lie beside its state directory."""
    with serving(tmp_path_factory.mktemp("fuzz")) as running:
        yield running
