"""What a worker's file says of it, read by another process."""

import subprocess
import sys
import time

from shipway.serving.progress import Progress, ProgressFile, read_progress


def test_a_worker_hangs_if_its_batch_or_its_loop_takes_too_long():
    assert not Progress(beat=100, batch_began=0).hangs(10, now=114)
    assert Progress(beat=100, batch_began=0).hangs(60, now=116)
    assert not Progress(beat=111, batch_began=100).hangs(12, now=111)
    assert Progress(beat=111, batch_began=100).hangs(10, now=111)


def test_another_process_reads_what_is_written(tmp_path):
    path = tmp_path / "1.progress"
    file = ProgressFile(path)
    read = f"from shipway.serving.progress import *; print(read_progress(Path({str(path)!r})))"
    before = time.monotonic()
    file.beat()
    file.begin()
    found = subprocess.run(
        [sys.executable, "-c", read], capture_output=True, text=True, check=True
    ).stdout
    progress = eval(found)
    assert before <= progress.beat <= progress.batch_began <= time.monotonic()
    file.end()
    assert read_progress(path).batch_began == 0


def test_a_file_that_is_not_there_or_too_short_says_nothing(tmp_path):
    assert read_progress(tmp_path / "none") is None
    (tmp_path / "short").write_bytes(b"123")
    assert read_progress(tmp_path / "short") is None


def test_a_worker_whose_progress_cannot_be_written_goes_on(tmp_path):
    file = ProgressFile(tmp_path / "missing" / "1.progress")
    file.beat()
    file.begin()
    file.end()
    assert read_progress(tmp_path / "missing" / "1.progress") is None
