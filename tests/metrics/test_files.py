"""Workers that are started again and again, in real processes: their files, and their sums."""

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shipway.metrics.declared import DIRECTORY_VARIABLE
from shipway.metrics.exporter import WorkersCollector
from shipway.metrics.files import GAUGES_BYTES, LOCK, LOCKED_WITHIN_S, MOST_USED_BYTES, SUMMED
from tests.conftest import REPOSITORY

# Imports everything, then forks a process for each start; each counts itself and one request.
STARTS = """
import os, sys
from pathlib import Path
import prometheus_client.multiprocess
from shipway.metrics.declared import DIRECTORY_VARIABLE
from shipway.metrics.observed import AnsweredRequest, ServedProgram
from shipway.metrics.recorder import Recorder

directory, versions = Path(os.environ[DIRECTORY_VARIABLE]), sys.argv[2].split(",")
for start in range(int(sys.argv[1])):
    if child := os.fork():
        os.waitpid(child, 0)
        continue
    recorder = Recorder(
        ServedProgram(name="cats", version=versions[start % len(versions)], program="onnx_fp32",
                      device="cpu", precision="fp32", artifact="sha256:0", is_fallback=False),
        directory,
    )
    recorder.observe([
        AnsweredRequest(id=f"request-{start}", traceparent="", received=0, status=200, error=None,
                        rows=1, bytes_in=10, bytes_out=20, stages_ms={"total": 12.0}, batches=[])
    ])
    os._exit(0)
"""
OF_ONE = sum(SUMMED.values()) + GAUGES_BYTES
"""The bytes of a worker's files, without its exemplars."""


def start(directory: Path, times: int, *versions: str) -> None:
    """One worker after the other, each of the next version."""
    subprocess.run(
        [sys.executable, "-c", STARTS, str(times), ",".join(versions)],
        cwd=REPOSITORY,
        env=os.environ | {DIRECTORY_VARIABLE: str(directory)},
        check=True,
    )


def total(directory: Path, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in WorkersCollector(directory).collect()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


def test_a_thousand_starts_need_the_room_of_one(tmp_path):
    start(tmp_path, 1000, "1")
    assert OF_ONE < size_of(tmp_path) < 1.2 * OF_ONE
    assert total(tmp_path, "shipway_worker_starts_total") == 1000
    assert total(tmp_path, "shipway_request_seconds_count") == 1000
    assert total(tmp_path, "shipway_request_seconds_bucket", le="0.015") == 1000


def test_workers_of_other_versions_go_on_with_the_same_files(tmp_path):
    versions = [str(each) for each in range(20)]
    start(tmp_path, 40, *versions)
    assert size_of(tmp_path) < 3 * OF_ONE
    for version in versions:
        assert total(tmp_path, "shipway_worker_starts_total", version=version) == 2
        assert total(tmp_path, "shipway_model_info", version=version) == 0  # they are gone
    blocks = [path.stat() for path in tmp_path.glob("*.db")]
    assert all(found.st_blocks * 512 >= found.st_size for found in blocks)


def test_the_exemplars_of_a_worker_that_is_gone_stay_with_its_version(tmp_path):
    start(tmp_path, 1, "1")
    [before] = tmp_path.glob("exemplars_*")
    assert b"request-0" in before.read_bytes()
    start(tmp_path, 1, "2")
    [after] = tmp_path.glob("exemplars_*")
    assert b'"version": "2"' in after.read_bytes()
    start(tmp_path, 2, "2")
    [last] = tmp_path.glob("exemplars_*")
    assert b"request-1" in last.read_bytes()


def test_files_of_a_process_that_runs_are_its_own(tmp_path):
    for kind in (*SUMMED, "gauge_livemax"):
        (tmp_path / f"{kind}_{os.getpid()}.db").write_bytes(bytes(2**16))
    start(tmp_path, 1, "1")
    assert len(list(tmp_path.glob("counter_*.db"))) == 2


def test_a_file_that_has_grown_long_is_left_as_it_is(tmp_path):
    start(tmp_path, 1, "1")
    [counters] = tmp_path.glob("counter_*.db")
    [histograms] = tmp_path.glob("histogram_*.db")
    with histograms.open("r+b") as file:
        file.write((MOST_USED_BYTES + 8).to_bytes(4, sys.byteorder))
        file.truncate(2 * MOST_USED_BYTES)
    start(tmp_path, 1, "1")
    assert histograms.exists() and not counters.exists()


def test_an_empty_file_of_a_killed_worker_stops_no_other(tmp_path):
    start(tmp_path, 1, "1")
    [counters] = tmp_path.glob("counter_*.db")
    counters.write_bytes(b"")
    start(tmp_path, 2, "1")
    assert total(tmp_path, "shipway_worker_starts_total") == 2
    assert size_of(tmp_path) < 1.2 * OF_ONE


@pytest.mark.timing  # which the start may take longer
def test_an_exporter_that_hangs_while_it_reads_holds_up_no_start(tmp_path):
    start(tmp_path, 1, "1")
    with (tmp_path / LOCK).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        began = time.monotonic()
        start(tmp_path, 1, "1")
        assert LOCKED_WITHIN_S < time.monotonic() - began < LOCKED_WITHIN_S + 5
    assert total(tmp_path, "shipway_worker_starts_total") == 2
    assert len(list(tmp_path.glob("counter_*.db"))) == 2
