"""Exports that are killed, hang or run twice, and the choice made again from an artifact alone."""

import random
import subprocess
import time

import psutil
import pytest

from shipway.artifact.bundle import open_artifact
from tests.conftest import REPOSITORY, TINY_RECIPE
from tests.servers import SHIPWAY

QUICK = ("onnx_fp32", "onnx_int8")


def command(out) -> list[str]:
    words = [*SHIPWAY, "export", str(TINY_RECIPE), "--out", str(out)]
    return words + [word for name in QUICK for word in ("--only", name)]


def children_of(process: subprocess.Popen) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@pytest.mark.long
@pytest.mark.timeout(600)
def test_an_export_killed_several_times_leaves_nothing_half_written_and_finishes_when_run_again(
    tmp_path,
):
    dice = random.Random(0)
    whole = tmp_path / "tiny-1.0"
    children: list[psutil.Process] = []
    for kill in range(10):
        process = subprocess.Popen(
            command(tmp_path),
            cwd=REPOSITORY,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            if kill % 2 == 0:  # half of them while candidates are made, however slow the machine is
                while not children_of(process) and process.poll() is None:
                    time.sleep(0.02)
            process.wait(dice.uniform(0.5, 5.0))
        except subprocess.TimeoutExpired:
            children += children_of(process)
            process.kill()  # the parent alone: its children must follow
            process.wait()
        if whole.exists():
            open_artifact(whole)
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert not alive, "a child outlived the export"
    assert gone
    done = subprocess.run(
        [*command(tmp_path), "--overwrite"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    open_artifact(whole)
    assert not list(tmp_path.glob("*.sealing")) and not list(tmp_path.glob(".tiny-*"))
