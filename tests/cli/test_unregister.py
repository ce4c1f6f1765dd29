"""`shipway unregister`, on a real server."""

from shipway.engines.errors import ServerError, VersionNotFound


def test_a_version_that_is_not_registered_is_named(shipway):
    error = shipway("unregister", "echo", "9", fails=VersionNotFound).exception
    assert "9" in str(error) and "1.0" in str(error)


def test_an_unknown_model_is_an_error(shipway):
    assert "nobody" in str(shipway("unregister", "nobody", "1.0", fails=ServerError).exception)
