"""How a version is served: what is asked for comes before what was tuned, and that before the
archive's own."""

from pathlib import Path

import pytest

from shipway.archive.inspect import MarInfo
from shipway.artifact.manifest import Serving
from shipway.artifact.tuned import Tuned, write_tuned
from shipway.releases.settings import version_of
from tests.echo import mar_info


@pytest.fixture
def info(tmp_path: Path) -> MarInfo:
    mar = tmp_path / "echo-1.0.mar"
    mar.write_bytes(b"an archive")
    return mar_info(mar, "echo", "1.0")


def test_an_archive_says_how_it_is_served(info, tmp_path):
    version = version_of(info, tmp_path)
    assert (version.mar, version.digest) == ("echo-1.0.mar", info.digest)
    assert (version.batch_size, version.max_batch_delay_ms, version.workers) == (4, 0, 1)


def test_what_is_given_wins_zero_included(info, tmp_path):
    version = version_of(info, tmp_path, batch_size=2, max_batch_delay_ms=0, workers=3)
    assert (version.batch_size, version.max_batch_delay_ms, version.workers) == (2, 0, 3)


def test_what_was_tuned_comes_before_what_the_archive_says(info, tmp_path):
    serving = Serving(batch_size=8, max_batch_delay_ms=5, workers=2, threads=1)
    write_tuned(tmp_path, "echo", "1.0", Tuned(serving=serving))
    version = version_of(info, tmp_path, workers=1)
    assert (version.batch_size, version.max_batch_delay_ms, version.workers) == (8, 5, 1)
