"""`shipway promote`, on a real server: a version from its registration to its end."""

from shipway.engines.errors import ServerError, VersionExists
from tests.cli.conftest import unboxed


def test_a_version_goes_through_its_life_and_every_step_prints_one_line(shipway, server, echo_mars):
    def says(*arguments: object) -> str:
        result = shipway(*arguments)
        assert result.exit_code == 0, result.output
        assert len(result.stdout.splitlines()) == 1
        return result.stdout

    printed = says("register", echo_mars["2.0"], "--batch-size", 3, "--max-batch-delay", 7)
    assert "registered echo 2.0 (1 worker, batches of 3, 7 ms delay)" in printed
    assert "the default version is still 1.0; change it with `shipway promote echo 2.0`" in printed
    assert (server.model_store / "echo-2.0.mar").exists()

    shipway("register", echo_mars["2.0"], fails=VersionExists)

    assert "promoted echo 2.0 (previous default: 1.0)" in says("promote", "echo", "2.0")
    table = shipway("models").stdout
    assert all(word in table for word in ("echo", "1.0", "2.0", "●", "1 of 1", "7 ms"))

    assert "promoted echo 1.0 (previous default: 2.0)" in says("promote", "echo", "1.0")
    assert says("unregister", "echo", "2.0") == "unregistered echo 2.0\n"


def test_a_version_that_is_nowhere_is_named(shipway):
    error = shipway("promote", "echo", "9.9", fails=ServerError).exception
    assert "echo" in str(error) and "9.9" in str(error)


def test_a_version_is_needed(shipway):
    result = shipway("promote", "echo")
    assert result.exit_code == 2 and "Missing argument 'VERSION'" in unboxed(result.output)
