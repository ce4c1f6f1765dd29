"""Exports that are killed, hang or run twice, and the choice made again from an artifact alone."""

import json
import os
import random
import subprocess
import time

import psutil
import pytest

from shipway.artifact.bundle import open_artifact
from shipway.artifact.errors import DigestMismatch
from shipway.export import worker
from shipway.export.candidate_cache import candidate_cache
from shipway.export.child_process import Child
from shipway.export.errors import AnotherExportRuns, ChildLost, NothingFitsBudget
from shipway.export.pipeline import export
from shipway.export.rechoose import rechoose
from tests.conftest import REPOSITORY, TINY_RECIPE, Silent
from tests.servers import SHIPWAY

QUICK = ("onnx_fp32", "onnx_int8")


def command(out) -> list[str]:
    words = [*SHIPWAY, "export", str(TINY_RECIPE), "--out", str(out)]
    return words + [word for name in QUICK for word in ("--only", name)]


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


def timeless(manifest: dict) -> dict:
    """A manifest without what was measured."""
    measured = ("created", "chosen_because", "pareto", "serving", "chosen")
    return {key: value for key, value in manifest.items() if key not in measured}


def test_the_same_export_twice_gives_the_same_bytes_times_aside(tiny, tmp_path):
    again = export(str(TINY_RECIPE), Silent(), out=tmp_path, only=QUICK)
    for name in QUICK:
        file = tiny.manifest.programs[name].file
        assert (again.path / file).read_bytes() == (tiny.path / file).read_bytes(), name
    first, second = (
        timeless(json.loads((each.path / "manifest.json").read_text())) for each in (tiny, again)
    )
    first["programs"] = {name: first["programs"][name] for name in QUICK}
    assert first == second


def test_finished_candidates_are_taken_up_and_changed_ones_are_made_anew(tmp_path):
    class Counting(Silent):
        def __init__(self) -> None:
            self.done: list[str] = []

        def step(self, doing: str) -> "Silent":
            self.done.append(doing)
            return self

    def built(version: str, recipe: str) -> list[str]:
        steps = Counting()
        export(recipe, steps, out=tmp_path / "out", version=version, only=QUICK[:1])
        return [each for each in steps.done if each.startswith("building")]

    recipe = tmp_path / "tiny_recipe.py"
    recipe.write_text(TINY_RECIPE.read_text())
    assert len(built("1.0", str(recipe))) == 1
    assert built("2.0", str(recipe)) == []
    recipe.write_text(TINY_RECIPE.read_text().replace("max=4", "max=3"))
    assert len(built("3.0", str(recipe))) == 1


def test_two_exports_of_one_recipe_into_one_folder_do_not_mix(tmp_path):
    with (
        candidate_cache(tmp_path, "tiny", "key"),
        pytest.raises(AnotherExportRuns, match="--out"),
        candidate_cache(tmp_path, "tiny", "key"),
    ):
        pass


@pytest.fixture
def child(tiny, tmp_path):
    made = Child(Nothing(log=tmp_path / "log"), call_seconds=60)
    yield made
    made.kill()


class Nothing:
    """An assignment that needs no preparation."""

    def __init__(self, log) -> None:
        self.log = log

    def begin(self) -> None:
        pass


def test_a_child_that_hangs_is_ended_and_replaced(child):
    pid = child.run(os.getpid)
    child._call_seconds = 1.5  # it has begun: what follows takes no time, or hangs
    with pytest.raises(ChildLost, match=r"longer than 1\.5 seconds"):
        child.run(time.sleep, 60)
    assert not psutil.pid_exists(pid)
    child._call_seconds = 60
    assert child.run(os.getpid) != pid


def test_a_child_that_dies_is_replaced(child):
    with pytest.raises(ChildLost, match="crashed"):
        child.run(os._exit, 9)
    assert child.run(os.getpid) > 0


def test_a_budget_that_nothing_meets_seals_nothing_and_shows_how_far_each_was(tmp_path):
    with pytest.raises(NothingFitsBudget, match=r"onnx_int8 loses \d"):
        export(str(TINY_RECIPE), Silent(), out=tmp_path, only=("onnx_fp32", "onnx_int8"), budget=-1)
    assert not (tmp_path / "tiny-1.0").exists()


def test_the_choice_is_made_again_without_the_checkpoint(tiny, tmp_path):
    again = rechoose(tiny.path, Silent(), out=tmp_path, objective="size")
    manifest = open_artifact(again.path).manifest
    assert manifest.chosen == "onnx_int8"
    assert manifest.objective == "size"
    assert manifest.programs == tiny.manifest.programs
    assert manifest.checkpoint_sha256 == tiny.manifest.checkpoint_sha256


def test_an_artifact_that_was_changed_is_not_chosen_from(tiny, tmp_path):
    import shutil

    copy = shutil.copytree(tiny.path, tmp_path / "copy")
    (copy / "samples" / "pixels.npy").write_bytes(b"")
    with pytest.raises(DigestMismatch, match=r"pixels\.npy"):
        rechoose(copy, Silent(), out=tmp_path / "out")


def test_reasons_are_one_line_without_colours():
    wrapped = RuntimeError("\x1b[96mThis is step 1/3\x1b[0m of exporting")
    wrapped.__cause__ = ValueError("line 7 of model.py\nmore")
    assert worker._reason(wrapped) == "ValueError: line 7 of model.py"
