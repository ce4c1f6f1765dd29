"""`shipway releases`, on a real server."""

import json

import pytest

from shipway.cli.releases import _current_state
from shipway.releases.errors import ReleasesError
from shipway.releases.history import Release, Version


def test_a_history_has_a_line_for_each_change_and_says_what_a_rollback_does(shipway, echo_mars):
    assert shipway("register", echo_mars["2.0"], "--because", "for [a] test").exit_code == 0
    assert shipway("promote", "echo", "2.0").exit_code == 0
    shown = shipway("releases", "echo").stdout
    assert "for [a] test" in shown and "promoted" in shown
    assert "return to 1.0 with `shipway rollback echo`." in shown
    history = json.loads(shipway("releases", "echo", "--json").stdout)
    assert history["default"] == "2.0"
    assert shipway("rollback", "echo").exit_code == 0
    assert shipway("unregister", "echo", "2.0").exit_code == 0


def test_a_model_without_a_history_is_named_with_those_that_have_one(shipway):
    error = shipway("releases", "nobody", fails=ReleasesError).exception
    assert "no release history of a model 'nobody'" in str(error)
    assert "Give one of these models: " in str(error)


@pytest.mark.parametrize(
    ("versions", "before", "told"),
    [
        ((), (), "No version of echo is registered."),
        (("1",), (), "no default version; choose one with `shipway promote echo VERSION`."),
        (("1",), ("1",), "no default version; choose one with `shipway rollback echo`."),
    ],
)
def test_a_model_without_a_default_version_is_told_with_the_way_to_one(versions, before, told):
    settings = Version(mar="e.mar", digest="0" * 64, batch_size=1, max_batch_delay_ms=0, workers=1)
    release = Release(versions=dict.fromkeys(versions, settings), before=before)
    assert told in _current_state("echo", release)
