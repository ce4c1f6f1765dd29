import os
import signal
import subprocess
import sys

import pytest

from shipway.engines.state import StateDirectory
from shipway.releases.errors import ChangeUnderWay, ReleasesError
from shipway.releases.history import (
    Event,
    Release,
    Releases,
    Version,
    exclusively,
    read_releases,
    set_aside,
    whoami,
    write_releases,
)

DIGEST = "0" * 64
RELEASES = Releases(
    models={
        "echo": Release(
            versions={
                "1.0": Version(
                    mar="echo-1.0.mar",
                    digest=DIGEST,
                    batch_size=4,
                    max_batch_delay_ms=0,
                    workers=1,
                )
            },
            default="1.0",
            history=(
                Event(
                    at="2026-01-01T00:00:00+00:00",
                    what="registered",
                    version="1.0",
                    digest=DIGEST,
                    default="1.0",
                    by="ann@host",
                    because="the first [one]",
                ),
            ),
        )
    }
)


@pytest.fixture
def state(tmp_path):
    return StateDirectory(tmp_path)


def test_what_was_written_reads_back(state):
    write_releases(state, RELEASES)
    assert read_releases(state) == RELEASES
    assert [file.name for file in state.path.iterdir()] == ["releases.json"]


def test_where_nothing_was_ever_served_nothing_should_be(state):
    assert read_releases(state) == Releases()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: text[: len(text) // 2], "cannot be read"),
        (lambda text: "", "cannot be read"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "has format 2; .* reads 1"),
        (lambda text: text.replace('"workers"', '"wokers"'), "wokers"),
        (lambda text: text.replace(DIGEST, "abc"), "digest"),
    ],
    ids=["cut short", "empty", "newer", "unknown field", "no digest"],
)
def test_a_damaged_file_is_named_with_a_way_out_and_left_as_it_is(state, damage, told):
    write_releases(state, RELEASES)
    damaged = damage(state.releases_file.read_text())
    state.releases_file.write_text(damaged)
    with pytest.raises(ReleasesError, match=rf"releases\.json.*{told}[\s\S]*--fresh"):
        read_releases(state)
    assert state.releases_file.read_text() == damaged


def test_starting_afresh_keeps_the_file_under_another_name(state):
    assert set_aside(state) is None
    write_releases(state, RELEASES)
    aside = state.path / set_aside(state)
    assert read_releases(state) == Releases()
    aside.rename(state.releases_file)
    assert read_releases(state) == RELEASES


def test_of_two_who_change_something_the_second_is_told_who_is_at_it_since_when(state):
    with (
        exclusively(state, "promoting echo 2.0"),
        pytest.raises(
            ChangeUnderWay, match=rf"{whoami()} has been promoting echo 2\.0 since 20\d\d-"
        ),
        exclusively(state, "promoting echo 3.0"),
    ):
        raise AssertionError("both had the lock")
    with exclusively(state, "promoting echo 3.0"):
        pass


def test_a_change_that_was_killed_keeps_nobody_out(state):
    holds = (
        "import sys; from pathlib import Path; from shipway.releases.history import exclusively;"
        "from shipway.engines.state import StateDirectory\n"
        "with exclusively(StateDirectory(Path(sys.argv[1])), 'x'):\n"
        "    print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holds, state.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(ChangeUnderWay), exclusively(state, "y"):
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with exclusively(state, "y"):
        assert state.releases_lock.read_text().startswith(f"{whoami()} has been y since ")
