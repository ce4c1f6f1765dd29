"""`shipway ready`, on a real server and without one."""

import time


def test_a_model_with_all_its_workers_is_ready(shipway):
    result = shipway("ready", "echo")
    assert result.exit_code == 0 and result.stdout == "ready\n"


def test_a_model_that_is_not_registered_is_not_ready(shipway):
    result = shipway("ready", "nobody")
    assert result.exit_code == 1
    assert "not ready: nobody is not registered" in result.stderr


def test_it_waits_as_long_as_it_may(shipway):
    start = time.monotonic()
    assert shipway("ready", "nobody", "--wait", "1.2").exit_code == 1
    assert time.monotonic() - start >= 1.2


def test_without_a_server_it_says_so(shipway, tmp_path):
    result = shipway("ready", "--state", tmp_path)
    assert result.exit_code == 1 and "not ready: No server is running for" in result.stderr
