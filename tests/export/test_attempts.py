"""Candidates that fail are rows of the table; the others go on."""

import pytest

from shipway.artifact.certificate import Candidate
from shipway.export.attempts import check_portable, rank_layers
from shipway.export.errors import ChildLost, NothingPassed
from shipway.export.pipeline import export
from tests.conftest import DATA, Silent
from tests.export.workbench import edited


def test_a_module_that_cannot_be_traced_fails_its_rows_and_seals_nothing(tmp_path):
    branch = "if x.min() < -1e9: x = -x\n        return self.classifier("
    path = edited(tmp_path, branch=("return self.classifier(", branch))
    with pytest.raises(NothingPassed) as caught:
        export(
            path, Silent(), out=tmp_path / "out", only=("torch_export", "onnx_fp32", "onnx_int8")
        )
    assert "torch_export: " in str(caught.value)
    assert "onnx_int8: skipped: it is made from onnx_fp32" in str(caught.value)
    assert not list((tmp_path / "out").glob("tiny*/manifest.json"))
    assert not list((tmp_path / "out").glob(".tiny*")), "nothing half-made is left"


def test_a_candidate_whose_process_dies_is_a_failed_row_and_the_others_go_on(tmp_path):
    # In the child alone: only there is the module called with gradients off by the exporter.
    crash = (
        "if torch.compiler.is_exporting(): import os; os._exit(1)\n        return self.classifier("
    )
    path = edited(tmp_path, crash=("return self.classifier(", crash))
    with pytest.raises(NothingPassed, match="torch_export: its process crashed"):
        export(path, Silent(), out=tmp_path / "out", only=("torch_export",))


CRASHING = """
import os
import shutil

import torch

from shipway.export.techniques import register
from shipway.export.techniques.base import Technique
from shipway.runtime.backends import BACKENDS
from shipway.runtime.backends.torch import Torch


class Crashing(Torch):
    def open(self, program, *, threads, device_index=0):
        os._exit(9)


def build(job, path):
    shutil.copyfile(job.programs / "torchscript.pt", path)


BACKENDS.register("crashing")(Crashing())
register(
    Technique(
        order=15, name="crashes", file="crashes.pt", format="torchscript", runtime="crashing",
        build=build,
    )
)
"""


def test_a_program_that_crashes_where_it_is_opened_is_a_failed_row_and_the_others_go_on(tmp_path):
    text = (DATA / "tiny_table_recipe.py").read_text()
    recipe = tmp_path / "table_recipe.py"
    recipe.write_text(text.replace("    top_k=3,", '    plugins=["crashing_plugin"],'))
    (tmp_path / "crashing_plugin.py").write_text(CRASHING)
    only = ("torchscript", "crashes", "onnx_fp32")
    exported = export(str(recipe), Silent(), out=tmp_path / "out", only=only)
    candidates = exported.certificate.candidates
    assert candidates["crashes"].verdict == "it crashed the process that opened it"
    assert [name for name in only if candidates[name].passed] == ["torchscript", "onnx_fp32"]
    kept = {path.stem for path in (tmp_path / "out").glob(".candidates/*/*/candidates/*.json")}
    assert kept == {"torchscript", "onnx_fp32"}, "a crash is tried again"


def candidate(verdict: str) -> Candidate:
    return Candidate(
        verdict=verdict,
        passed=verdict == "passed",
        format="onnx",
        runtime="onnxruntime",
        precision="fp32",
    )


def test_one_portable_candidate_is_enough_and_none_is_too_few(tmp_path):
    check_portable({"onnx_fp32": candidate("passed")}, tmp_path / "log")
    with pytest.raises(NothingPassed, match=r"onnx_fp32: no\n.*onnx_int8: passed\n.*log"):
        check_portable(
            {"onnx_fp32": candidate("no"), "onnx_int8": candidate("passed")}, tmp_path / "log"
        )


def test_layers_are_ranked_only_where_a_technique_ranks_them_and_a_crash_costs_only_that(tmp_path):
    class Crashing:
        def run(self, call, *arguments):
            raise ChildLost("its process crashed", tmp_path / "log")

    class Unused:
        def run(self, call, *arguments):
            raise AssertionError("nothing is to be ranked")

    assert rank_layers(Unused(), Silent(), {"onnx_fp32": candidate("passed")}) == ()
    assert rank_layers(Crashing(), Silent(), {"onnx_int8_average": candidate("no")}) == ()
