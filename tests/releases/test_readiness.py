"""When a server counts as ready, worked out from what it says of its versions."""

from dataclasses import replace
from pathlib import Path

import pytest

from shipway.engines.state import StateDirectory
from shipway.releases.history import Release, Releases, Version, write_releases
from shipway.releases.readiness import ask_why_not_ready, why_not_ready
from shipway.releases.without_default import note_unrestored
from tests.releases.test_apply import there

NOTED = Version(mar="echo.mar", digest="0" * 64, batch_size=4, max_batch_delay_ms=0, workers=1)


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    state = StateDirectory(tmp_path)
    release = Release(versions={"1": NOTED, "2": NOTED}, default="1")
    write_releases(state, Releases(models={"echo": release}))
    return state


def test_a_server_whose_defaults_are_warm_is_ready_whatever_other_versions_do(state):
    first, second = there("1", "2")
    assert why_not_ready(state, [first, replace(second, workers_ready=0)]) == []


def test_workers_that_are_not_ready_are_counted(state):
    [one] = there("1", workers=2)
    assert why_not_ready(state, [replace(one, workers=0, workers_ready=0)]) == [
        "echo 1 (the default version) is scaled to 0 workers"
    ]
    [reason] = why_not_ready(state, [replace(one, workers_ready=1)])
    assert "echo 1" in reason and "1 of 2 workers" in reason


def test_a_default_that_should_be_registered_and_is_not_keeps_a_server_from_being_ready(state):
    [reason] = why_not_ready(state, there("2"))
    assert "echo 1" in reason and "not registered" in reason
    assert why_not_ready(state, []) == ["echo is not registered"]


def test_a_model_without_a_default_version_is_not_ready_and_why_is_told_if_it_is_known(state):
    others = there("2", default=None)
    [reason] = why_not_ready(state, others)
    assert reason == "echo 1 (the default version) is not registered"
    note_unrestored(state, "echo", "Its archive is missing.")
    [reason] = why_not_ready(state, others)
    assert reason == "echo 1 (the default version) is not registered: Its archive is missing."
    assert why_not_ready(state, []) == [reason]
    [reason] = why_not_ready(state, there("1", "2", default=None))
    assert reason.startswith("echo has no default version.")
    assert "`shipway promote echo 1`" in reason


def test_of_one_model_the_others_do_not_matter(state):
    assert why_not_ready(state, there("1"), "echo") == []
    assert why_not_ready(state, there("1"), "other") == ["other is not registered"]


def test_a_server_that_stops_or_has_not_all_that_it_was_started_for_is_not_ready(state):
    state.unapplied_file.write_text("models.yaml is being applied\n")
    assert why_not_ready(state, there("1")) == ["models.yaml is being applied"]
    state.stopping_file.touch()
    [reason] = why_not_ready(state, there("1"))
    assert "stopping" in reason


def test_without_a_server_nothing_is_ready(tmp_path):
    [reason] = ask_why_not_ready(StateDirectory(tmp_path))
    assert "No server is running for" in reason
