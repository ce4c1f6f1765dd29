"""Exports that are killed, hang or run twice, and the choice made again from an artifact alone."""

import random
import subprocess

import psutil
import pytest

from shipway.artifact.bundle import open_artifact
from tests.conftest import REPOSITORY, TINY_RECIPE
from tests.servers import SHIPWAY

QUICK = ("onnx_fp32", "onnx_int8")


def command(out) -> list[str]:
    words = [*SHIPWAY, "export", str(TINY_RECIPE), "--out", str(out)]
    return words + [word for name in QUICK for word in ("--only", name)]


@pytest.mark.timing  # on a busy machine an export may have no child yet when it is killed
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.long)])
def test_an_export_killed_several_times_leaves_nothing_half_written_and_finishes_when_run_again(
    tmp_path, kills
):
    dice = random.Random(0)
    whole = tmp_path / "tiny-1.0"
    children: list[psutil.Process] = []
    for _ in range(kills):
        process = subprocess.Popen(
            command(tmp_path),
            cwd=REPOSITORY,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(dice.uniform(1.0, 6.0))
        except subprocess.TimeoutExpired:
            children += psutil.Process(process.pid).children(recursive=True)
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
