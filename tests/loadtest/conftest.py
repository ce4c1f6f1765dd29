"""Fixtures of the load tests."""

from collections.abc import Callable
from typing import Any

import pytest

from shipway.loadtest.load_test import Input, LoadTest, Target
from shipway.loadtest.shapes.base import LoadShape
from tests.servers import RunningServer
from tests.synthetic import stall, synthetic_server  # noqa: F401 — fixtures of this folder


@pytest.fixture(scope="session")
def server(synthetic_server: RunningServer) -> RunningServer:  # noqa: F811 — the fixture
    """The server of all load tests."""
    return synthetic_server


Planned = Callable[..., LoadTest]


@pytest.fixture
def planned(server: RunningServer) -> Planned:
    """A plan for the model `synthetic` with bodies given as text."""

    def make(
        load: LoadShape, *bodies: str, protocol: str = "http", url: str = "", **changes: object
    ) -> LoadTest:
        times: dict[str, Any] = {"warm_up_s": 0.3, "seconds": 1.0, "timeout_s": 10.0}
        addresses = server.record.addresses
        there = {
            "http": f"{addresses.inference}/predictions/synthetic",
            "grpc": f"grpc://{addresses.grpc_inference}/synthetic",
        }
        return LoadTest(
            target=Target(url=url or there[protocol]),
            headers={"authorization": f"Bearer {server.tokens.get('inference')}"},
            inputs=tuple(
                Input(name=each, content_type="application/octet-stream", body=each.encode())
                for each in bodies or ("hello",)
            ),
            load=load,
            **times | changes,
        )

    return make
