"""Fixtures of the command's tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shipway.archive.inspect import MarInfo
from shipway.cli.main import app
from shipway.errors import ShipwayError
from tests.echo import mar_info
from tests.servers import RunningServer
from tests.synthetic import stall, synthetic_server  # noqa: F401 — fixtures of this folder


def inspect(path: Path) -> MarInfo:
    """Accepts a .mar with nothing in it but a handler, which `shipway register` refuses."""
    if path.suffix != ".mar" or not path.exists():
        raise ShipwayError(f"{path} is not a .mar file")
    return mar_info(path, "echo", path.stem.removeprefix("echo-"))


def unboxed(output: str) -> str:
    """An error for wrong arguments without its box and its line breaks."""
    return " ".join(output.replace("│", " ").split())


@pytest.fixture
def shipway(server: RunningServer) -> Callable[..., Any]:
    """The command on the test's server."""

    def run(*arguments: object, fails: type[ShipwayError] | None = None) -> Any:
        result = CliRunner().invoke(
            app,
            [*map(str, arguments)],
            env={"SHIPWAY_STATE": str(server.state.path)},
            obj=inspect,
        )
        if fails:
            assert isinstance(result.exception, fails), result.output
        return result

    return run
