"""Finished candidates are kept, by everything that they depend on."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from shipway.artifact.certificate import Candidate
from shipway.artifact.digests import sha256_of
from shipway.export.candidate_cache import (
    cache_key,
    candidate_cache,
    digest_of_rows,
    load_candidates,
    package_versions,
    programs_in,
    store_candidate,
    written_since,
)
from shipway.export.errors import AnotherExportRuns
from shipway.export.loaded_code import Provenance
from shipway.export.pipeline import export
from shipway.recipe import Rows
from tests.conftest import DATA, Silent


class Counting(Silent):
    """Notes the steps."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def step(self, doing: str) -> "Silent":
        self.done.append(doing)
        return self


class Exports:
    """Exports one recipe again and again; tells what was built, and what was verified only."""

    def __init__(self, folder: Path, recipe: Path, only: tuple[str, ...] = ("torchscript",)):
        self.recipe, self.only = recipe, only
        self.out = folder / "out"
        self.version = 0

    def __call__(self) -> list[str]:
        """Words such as "built torchscript", in order."""
        self.version += 1
        steps = Counting()
        exported = export(
            str(self.recipe), steps, out=self.out, version=str(self.version), only=self.only
        )
        assert all(exported.certificate.candidates[name].passed for name in self.only)
        told = {"building and verifying ": "built ", "verifying ": "verified "}
        return [
            word + step.removeprefix(start).partition(",")[0]
            for step in steps.done
            for start, word in told.items()
            if step.startswith(start)
        ]

    def cached(self, pattern: str) -> Path:
        (path,) = self.out.glob(f".candidates/*/*/{pattern}")
        return path


NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 3))
"""
LATE = """class Late(__import__("trust_net").Net):
    def forward(self, x):
        import trust_late
        return trust_late.change(super().forward(x))


def late():
    import trust_package.deep
    return trust_package.deep.finish(Late())


recipe ="""


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Exports:
    """The tiny table's recipe, whose module is made of files beside it. It was exported once."""
    folder = tmp_path_factory.mktemp("trust")
    text = (DATA / "tiny_table_recipe.py").read_text()
    recipe = folder / "table_recipe.py"
    recipe.write_text(text.replace("module=Table", "module=late").replace("recipe =", LATE))
    (folder / "trust_net.py").write_text(NET)
    (folder / "trust_package").mkdir()
    (folder / "trust_package" / "deep.py").write_text("from trust_package.parts import finish")
    (folder / "trust_package" / "parts.py").write_text("def finish(module): return module")
    (folder / "trust_late.py").write_text("def change(outputs): return outputs")
    made = Exports(folder, recipe)
    assert made() == ["built torchscript"]
    return made


def test_an_unchanged_candidate_is_verified_and_one_of_changed_modules_is_built(exported):
    assert exported() == ["verified torchscript"]
    edits = {
        "trust_net.py": ("nn.Tanh()", "nn.Hardtanh()"),
        "trust_package/parts.py": ("return module", "module[1] = nn.ReLU(); return module"),
        "trust_late.py": ("return outputs", "return -outputs"),
    }
    for file, (before, after) in edits.items():
        path = exported.recipe.parent / file
        path.write_text("from torch import nn\n" + path.read_text().replace(before, after))
        old = exported.cached("programs/torchscript.pt").read_bytes()
        assert exported() == ["built torchscript"], file
        assert exported.cached("programs/torchscript.pt").read_bytes() != old


def test_a_damaged_program_is_built_and_a_record_that_says_passed_is_not_believed(exported):
    program = exported.cached("programs/torchscript.pt")
    content = program.read_bytes()
    half = len(content) // 2
    program.write_bytes(content[:half] + bytes(len(content) - half))
    assert exported() == ["built torchscript"]

    # A program of other weights, with a record that calls it whole and passed.
    other = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 3)).eval()
    torch.jit.save(torch.jit.freeze(torch.jit.trace(other, torch.zeros(2, 5))), program)
    record = exported.cached("candidates/torchscript.json")
    text = json.loads(record.read_text())
    assert text["candidate"]["passed"]
    text["files"] = {"torchscript.pt": sha256_of(program)}
    record.write_text(json.dumps(text))
    assert exported() == ["verified torchscript", "built torchscript"]


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
    first = cache_key((recipe, plugin), "a" * 64, [rows(0), rows(1)])
    assert first == cache_key((recipe, plugin), "a" * 64, [rows(0), rows(1)])
    others = {
        cache_key((recipe, plugin), "b" * 64, [rows(0), rows(1)]),
        cache_key((recipe, plugin), "a" * 64, [rows(2), rows(1)]),
        cache_key((recipe, plugin), "a" * 64, [rows(0), rows(2)]),
        cache_key((recipe,), "a" * 64, [rows(0), rows(1)]),
        cache_key((recipe, plugin), "a" * 64, [rows(0), rows(1), rows(2)]),
    }
    plugin.write_text("2")
    others.add(cache_key((recipe, plugin), "a" * 64, [rows(0), rows(1)]))
    assert len(others | {first}) == 7


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


PARTS = Provenance(code={}, packages={"numpy": np.__version__}, module="a" * 64)
PASSED = Candidate(
    verdict="passed", passed=True, format="onnx", runtime="onnxruntime", precision="fp32", bytes=4
)


def test_a_candidate_counts_only_with_all_files_that_its_build_wrote(tmp_path):
    with candidate_cache(tmp_path, "m", "key") as folder:
        programs = folder / "programs"
        before = programs_in(folder)
        (programs / "p.onnx").write_bytes(b"1234")
        (programs / "beside.onnx").write_bytes(b"56")
        files = written_since(before, folder, "p.onnx")
        assert files.keys() == {"p.onnx", "beside.onnx"}
        store_candidate(folder, "p", PASSED, PARTS, files)
        refused = PASSED.model_copy(update={"passed": False, "verdict": "no", "bytes": None})
        store_candidate(folder, "q", refused, PARTS, {})
        (programs / "unknown.onnx").write_bytes(b"of a build that was killed")
        assert load_candidates(folder, PARTS) == {"p": PASSED, "q": refused}
        assert programs_in(folder).keys() == {"p.onnx", "beside.onnx"}

        (programs / "beside.onnx").write_bytes(b"57")
        assert load_candidates(folder, PARTS) == {"q": refused}
        assert not programs_in(folder), "another technique could have started from them"
        (folder / "candidates" / "q.json").write_text("{")
        assert load_candidates(folder, PARTS) == {}


def test_a_program_that_was_there_before_is_recorded_with_the_technique_that_runs_it(tmp_path):
    with candidate_cache(tmp_path, "m", "key") as folder:
        (folder / "programs" / "p.onnx").write_bytes(b"1234")
        before = programs_in(folder)
        assert written_since(before, folder, None) == {}
        assert written_since(before, folder, "p.onnx").keys() == {"p.onnx"}


@pytest.mark.parametrize(
    "changes",
    [
        {"module": "b" * 64},
        {"packages": {"numpy": "1.0"}},
        {"packages": {"numpy": np.__version__, "torch": "1.0"}},
        {"code": {__file__: "c" * 64}},
    ],
)
def test_a_candidate_of_other_parts_is_removed(tmp_path, changes):
    with candidate_cache(tmp_path, "m", "key") as folder:
        store_candidate(folder, "p", PASSED, PARTS, {})
        assert load_candidates(folder, PARTS) == {"p": PASSED}
        assert load_candidates(folder, PARTS.model_copy(update=changes)) == {}
        assert load_candidates(folder, PARTS) == {}


def test_versions_name_what_builds_programs():
    assert {"torch", "onnx", "numpy"} <= package_versions().keys()
