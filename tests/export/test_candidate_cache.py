"""Finished candidates are kept, by everything that they depend on."""

import numpy as np
import pytest

from shipway.artifact.certificate import Candidate
from shipway.export.candidate_cache import (
    cache_key,
    candidate_cache,
    digest_of_rows,
    load_candidate,
    package_versions,
    store_candidate,
)
from shipway.export.errors import AnotherExportRuns
from shipway.export.pipeline import export
from shipway.recipe import Rows
from tests.conftest import TINY_RECIPE, Silent


def test_finished_candidates_are_taken_up_and_changed_ones_are_made_anew(tmp_path):
    class Counting(Silent):
        def __init__(self) -> None:
            self.done: list[str] = []

        def step(self, doing: str) -> "Silent":
            self.done.append(doing)
            return self

    def built(version: str, recipe: str) -> list[str]:
        steps = Counting()
        export(recipe, steps, out=tmp_path / "out", version=version, only=("onnx_fp32",))
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


def rows(value: int) -> Rows:
    return Rows((np.full((2, 3), value),))


def test_the_key_changes_with_recipe_checkpoint_and_inputs(tmp_path):
    recipe, plugin = tmp_path / "recipe.py", tmp_path / "plugin.py"
    recipe.write_text("1")
    plugin.write_text("1")
    first = cache_key((recipe, plugin), "a" * 64, rows(0), rows(1))
    assert first == cache_key((recipe, plugin), "a" * 64, rows(0), rows(1))
    others = {
        cache_key((recipe, plugin), "b" * 64, rows(0), rows(1)),
        cache_key((recipe, plugin), "a" * 64, rows(2), rows(1)),
        cache_key((recipe, plugin), "a" * 64, rows(0), rows(2)),
        cache_key((recipe,), "a" * 64, rows(0), rows(1)),
    }
    plugin.write_text("2")
    others.add(cache_key((recipe, plugin), "a" * 64, rows(0), rows(1)))
    assert len(others | {first}) == 6


def test_targets_and_groups_are_part_of_the_rows_digest():
    without = rows(0)
    others = (
        Rows(without.arrays, np.array([0, 1])),
        Rows(without.arrays, groups=np.array([0, 0])),
    )
    assert len({digest_of_rows(each) for each in (without, *others)}) == 3


def test_another_key_starts_over_and_the_lock_is_free_again(tmp_path):
    with candidate_cache(tmp_path, "m", "one") as folder:
        (folder / "programs" / "p").write_text("x")
    with candidate_cache(tmp_path, "m", "one") as folder:
        assert (folder / "programs" / "p").exists()
    (tmp_path / ".m-abc.sealing").mkdir()
    with candidate_cache(tmp_path, "m", "two") as other:
        assert not folder.exists() and other.exists()
    assert not (tmp_path / ".m-abc.sealing").exists()


def test_a_candidate_counts_only_with_its_whole_file(tmp_path):
    (tmp_path / "candidates").mkdir()
    program = tmp_path / "p.onnx"
    passed = Candidate(
        verdict="passed",
        passed=True,
        format="onnx",
        runtime="onnxruntime",
        precision="fp32",
        bytes=4,
    )
    assert load_candidate(tmp_path, "p", program) is None
    store_candidate(tmp_path, "p", passed)
    assert load_candidate(tmp_path, "p", program) is None
    program.write_bytes(b"1234")
    assert load_candidate(tmp_path, "p", program) == passed
    program.write_bytes(b"123")
    assert load_candidate(tmp_path, "p", program) is None
    refused = passed.model_copy(update={"passed": False, "verdict": "no", "bytes": None})
    store_candidate(tmp_path, "p", refused)
    assert load_candidate(tmp_path, "p", program) == refused
    (tmp_path / "candidates" / "p.json").write_text("{")
    assert load_candidate(tmp_path, "p", program) is None


def test_versions_name_what_builds_programs():
    assert {"torch", "onnx", "numpy"} <= package_versions().keys()
