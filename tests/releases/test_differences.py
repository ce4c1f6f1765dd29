"""What is said of a server that is not as the file of releases has it."""

from dataclasses import replace

from shipway.releases.differences import default_of, differences, in_words
from shipway.releases.history import Release, Version
from tests.releases.test_apply import there

NOTED = Version(mar="echo.mar", digest="0" * 64, batch_size=4, max_batch_delay_ms=0, workers=1)


def test_a_server_that_is_as_noted_differs_in_nothing():
    release = Release(versions={"1": NOTED, "2": NOTED}, default="1")
    assert differences("echo", release, there("1", "2")) == []


def test_what_is_missing_foreign_or_served_otherwise_is_named():
    release = Release(versions={"1": NOTED, "2": NOTED}, default="2")
    first, third = there("1", "3")
    found = differences("echo", release, [replace(first, batch_size=8), third])
    assert len(found) == 4
    assert [each for each in found if "echo 1" in each and "settings" in each]
    assert [each for each in found if "echo 2" in each and "not" in each]
    assert [each for each in found if "echo 3" in each and "without Shipway" in each]
    assert [each for each in found if "default of echo is 1" in each]


def test_a_model_that_nothing_was_noted_of_was_registered_by_other_means():
    [found] = differences("echo", None, there("1"))
    assert "echo 1" in found


def test_settings_are_told_in_one_line():
    assert in_words(NOTED) == "1 worker, batches of 4, 0 ms delay"
    assert in_words(there("1", workers=2)[0]) == "2 workers, batches of 4, 0 ms delay"


def test_no_version_answers_for_a_model_without_any():
    assert default_of([]) is None
    assert default_of(there("1", "2")) == "1"
