"""`shipway register`, on a real server."""

import pytest

from shipway.engines.errors import ServerError, VersionExists
from shipway.errors import ShipwayError
from tests.cli.conftest import unboxed


def test_an_archive_that_is_refused_never_reaches_the_server_or_the_store(
    shipway, server, tmp_path
):
    before = sorted(server.model_store.iterdir())
    (tmp_path / "echo-4.0.zip").write_bytes(b"PK")
    assert "is not a .mar" in str(shipway("register", tmp_path / "echo-4.0.zip").exception)
    assert sorted(server.model_store.iterdir()) == before


def test_an_archive_whose_workers_fail_is_not_left_in_the_store(shipway, server, echo_mars):
    shipway("register", echo_mars["3.0"], fails=ServerError)
    assert not (server.model_store / "echo-3.0.mar").exists()
    assert [one.version for one in server.management.describe("echo")] == ["1.0"]


def test_register_checks_the_archive_and_then_asks_for_a_server(shipway, echo_mars, tmp_path):
    empty = tmp_path / "empty"
    missing = shipway("register", tmp_path / "m-1.0.mar", "--state", empty, fails=ShipwayError)
    assert "is not a .mar" in str(missing.exception)
    alone = shipway("register", echo_mars["1.0"], "--state", empty, fails=ShipwayError)
    assert "No server is running for" in str(alone.exception)


def test_a_registered_version_cannot_be_registered_again(shipway, echo_mars):
    shipway("register", echo_mars["1.0"], fails=VersionExists)


@pytest.mark.parametrize(
    "option", [("--batch-size", "0"), ("--max-batch-delay", "-1"), ("--workers", "many")]
)
def test_settings_that_make_no_sense_are_refused(shipway, echo_mars, option):
    result = shipway("register", echo_mars["2.0"], *option)
    assert result.exit_code == 2 and option[0] in unboxed(result.output)
