"""`shipway rollback`, on a real server."""

from shipway.releases.errors import NoFallback


def test_a_model_without_a_previous_default_has_nothing_to_roll_back_to(shipway, server):
    error = shipway("rollback", "echo", fails=NoFallback).exception
    assert "echo" in str(error)
    [version] = server.management.describe("echo")
    assert version.version == "1.0" and version.default


def test_a_rollback_makes_the_previous_default_the_default_again(shipway, server, echo_mars):
    assert shipway("register", echo_mars["2.0"]).exit_code == 0
    assert shipway("promote", "echo", "2.0", "--because", "a test").exit_code == 0
    printed = shipway("rollback", "echo").stdout
    assert printed == "rolled back echo from 2.0 to 1.0; 2.0 stays registered\n"
    assert shipway("unregister", "echo", "2.0").exit_code == 0
    [version] = server.management.describe("echo")
    assert version.version == "1.0" and version.default
