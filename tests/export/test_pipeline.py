"""The export as a whole, on the tiny network, and what it says when something is wrong."""

import shutil

import numpy as np
import onnx
import pytest
import torch

from shipway.artifact.errors import AlreadySealed
from shipway.export import worker
from shipway.export.choice import Choice
from shipway.export.errors import BadInputs, CheckpointDoesNotFit, NothingPassed
from shipway.export.pipeline import export
from shipway.export.recipe_file import find_recipe
from shipway.export.served_module import as_served
from shipway.export.speed import serving_settings
from shipway.export.techniques.onnx_int8 import feed_pixels_directly
from shipway.export.verify import compare, run_in_batches, why_mixed, why_off
from shipway.recipe import InvalidRecipe, Tolerance
from shipway.runtime.backends.torch_programs import EagerProgram
from shipway.runtime.program import open_program
from tests.conftest import TINY_RECIPE, Silent

RECIPE = TINY_RECIPE.read_text()


def edited(tmp_path, **replacements: tuple[str, str]):
    """The tiny recipe with lines changed: `edited(tmp_path, before="after")` by text."""
    text = RECIPE
    for before, after in replacements.values():
        assert before in text
        text = text.replace(before, after)
    path = tmp_path / "edited_recipe.py"
    path.write_text(text)
    return str(path)


def test_every_program_was_opened_from_disk_and_agrees_with_eager(tiny):
    assert set(tiny.certificate.candidates) == {
        "torchscript",
        "torch_export",
        "onnx_fp32",
        "onnx_int8",
    }
    for candidate in tiny.certificate.candidates.values():
        assert candidate.passed, candidate.verdict
        assert [each.batch_size for each in candidate.agreement] == [1, 2, 4]
        assert set(candidate.latency) >= {"1", "4"}


def test_each_sealed_program_gives_what_eager_gives_at_every_batch_size(tiny, tiny_artifact):
    recipe, _ = find_recipe(str(TINY_RECIPE))
    module = recipe.module()
    module.load_state_dict(torch.load(recipe.weights()))
    rows = recipe.evaluation.load(recipe).arrays
    eager = EagerProgram(as_served(module, recipe), threads=1)
    expected = run_in_batches(eager, rows, recipe.inputs, 4)
    for name in tiny.manifest.programs:
        program = open_program(tiny_artifact, name, threads=1)
        for size in (1, 2, 3, 4):
            found = run_in_batches(program, rows, recipe.inputs, size)
            limit = 0.25 if "int8" in name else 1e-4
            error = compare(expected, found, size, classes=True).relative_error
            assert error < limit, (name, size)


def test_int8_ran_in_int8(tiny):
    kernels = tiny.certificate.candidates["onnx_int8"].kernels
    assert kernels.source == "ONNX Runtime's profile"
    assert kernels.operators["QLinearConv"] == 3
    assert set(kernels.ran) == {"int8"}


def test_the_winner_is_the_fastest_and_the_fallback_runs_anywhere(tiny):
    manifest, candidates = tiny.manifest, tiny.certificate.candidates
    speed = {
        name: each.best_ms("1") * each.best_ms("4")
        for name, each in candidates.items()
        if each.passed
    }
    assert manifest.chosen == min(speed, key=speed.get)
    assert manifest.fallback == "onnx_fp32"
    assert manifest.programs[manifest.fallback].requires.cpu_flags == ()


def test_pixels_are_fed_to_int8_as_they_are_and_nothing_changes(tiny_artifact):
    """The quantizer of the pixels is gone, and the outputs are the same to the last bit."""
    model = onnx.load(tiny_artifact.program_path("onnx_int8"))
    before_first_layer = [node.op_type for node in model.graph.node[:6]]
    assert "Cast" not in before_first_layer and "Sub" not in before_first_layer
    assert not feed_pixels_directly(model), "nothing is left to take out"


def test_means_that_differ_between_channels_keep_their_normalisation(tmp_path):
    path = edited(tmp_path, mean=("mean=(127.0, 127.0, 127.0)", "mean=(123.7, 116.3, 103.5)"))
    exported = export(path, Silent(), out=tmp_path, only=("onnx_fp32", "onnx_int8"))
    assert exported.certificate.candidates["onnx_int8"].passed
    model = onnx.load(exported.path / "programs" / "onnx_int8.onnx")
    assert "Cast" in [node.op_type for node in model.graph.node]


def test_a_batch_bound_of_one_exports(tmp_path):
    path = edited(tmp_path, batch=("max=4", "max=1"))
    exported = export(path, Silent(), out=tmp_path, only=("onnx_fp32",))
    assert exported.manifest.serving.batch_size == 1


def test_a_checkpoint_of_another_architecture_is_refused_before_any_work(tmp_path):
    state = {"features.0.weight": torch.zeros(8, 3, 5, 5), "surprise": torch.zeros(1)}
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(CheckpointDoesNotFit, match=r"missing .*unexpected \(surprise\)"):
        export(str(TINY_RECIPE), Silent(), weights=tmp_path / "other.pth", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("coarse.repeat(16, axis=1)", "coarse.repeat(8, axis=1)"), "of shape"),
        (("np.uint8)", "np.int64)"), "int64"),
        (("(24, 4, 4, 3)", "(1, 4, 4, 3)"), "at least 2"),
        (("evaluation=noise(1)", "evaluation=noise(0)"), "did not see"),
        (("range(10)", "range(9)"), "9 labels; the module has 10"),
    ],
)
def test_inputs_that_do_not_fit_the_recipe_are_refused(tmp_path, change, complaint):
    with pytest.raises(BadInputs, match=complaint):
        export(edited(tmp_path, it=change), Silent(), out=tmp_path / "out")


def test_a_module_that_cannot_be_traced_fails_its_rows_and_seals_nothing(tmp_path):
    branch = "if x.sum() > 0: x = -x\n        return self.classifier("
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


def test_an_artifact_that_exists_is_not_replaced(tiny, tmp_path):
    with pytest.raises(AlreadySealed, match="--version"):
        export(str(TINY_RECIPE), Silent(), out=tiny.path.parent)


def test_the_log_beside_the_artifact_keeps_what_the_compilers_said(tiny):
    assert tiny.path.with_name("tiny-1.0.log").exists()


def test_an_unknown_recipe_is_told_which_there_are():
    with pytest.raises(InvalidRecipe, match="There are .*efficientnet_lite0"):
        find_recipe("efficientnet_lite00")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = 1", "defines no `recipe"),
        ("import nothing_like_it", "ModuleNotFoundError"),
        ("(", "Syn"),
    ],
)
def test_a_file_that_is_no_recipe_is_told_why(tmp_path, text, complaint):
    (tmp_path / "r.py").write_text(text)
    with pytest.raises(InvalidRecipe, match=complaint):
        find_recipe(str(tmp_path / "r.py"))


TOLERANCE = Tolerance(relative_error=0.01, top1_agreement=0.99)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda outputs: outputs, None),
        (lambda outputs: outputs * np.nan, "not finite"),
        (lambda outputs: outputs * 1.5, "a relative error of 0.5"),
        (lambda outputs: -outputs, "a relative error of 2"),
    ],
)
def test_the_verdict_names_what_is_out_of_tolerance(spoil, reason):
    reference = np.random.default_rng(0).normal(size=(50, 10))
    agreement = compare(reference, spoil(reference), 1, classes=True)
    found = why_off((agreement,), TOLERANCE)
    assert found is None if reason is None else reason in found


def test_one_row_that_points_elsewhere_is_refused_by_its_number():
    reference = np.random.default_rng(0).normal(size=(400, 10))
    spoiled = reference.copy()
    spoiled[123, :9] = 0
    agreement = compare(reference, spoiled, 1, classes=False)
    tolerance = Tolerance(relative_error=0.1, cosine=0.9)
    assert "evaluation row 123" in why_off((agreement,), tolerance)


def test_a_program_that_ranks_otherwise_is_refused_however_close_it_is():
    reference = np.zeros((10, 3)) + [1.0, 0.999, 0.0]
    swapped = np.zeros((10, 3)) + [0.999, 1.0, 0.0]
    found = why_off((compare(reference, swapped, 1, classes=True),), TOLERANCE)
    assert "agrees with eager on 0.0%" in found


def test_rows_that_depend_on_their_batch_are_refused():
    assert why_mixed(1e-5, 1e-4) is None
    assert "change by 0.5 with the batch" in why_mixed(0.5, 1e-4)


@pytest.mark.parametrize(
    ("latency", "best", "delay_ms"),
    [
        ({1: 3.0, 2: 4.0, 4: 6.0, 8: 11.9}, 4, 1),
        ({1: 3.0, 2: 6.1}, 1, 0),
        ({1: 3.0, 2: 4.0, 4: 7.9}, 2, 0),
        ({1: 3.0, 8: 8.0}, 8, 1),
    ],
)
def test_batches_are_as_small_and_wait_as_briefly_as_wins_most(latency, best, delay_ms):
    choice = Choice(name="any", threads=1, workers=2, because="", pareto=())
    settings = serving_settings(choice, latency)
    assert (settings.batch_size, settings.max_batch_delay_ms) == (best, delay_ms)
    assert (settings.workers, settings.threads) == (2, 1)


def test_a_skipped_technique_says_why_without_a_traceback():
    from shipway.export.techniques.base import Unavailable

    assert worker._reason(Unavailable("no compiler")) == "skipped: no compiler"
    assert shutil.which("g++"), "the compiled format is tried in these tests"
