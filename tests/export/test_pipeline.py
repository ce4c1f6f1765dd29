"""The export as a whole, on the tiny network, and what it says when something is wrong."""

import onnx
import torch

from shipway.export.choice import interval
from shipway.export.pipeline import export
from shipway.export.recipe_file import find_recipe
from shipway.export.served_module import as_served
from shipway.export.techniques.onnx_int8 import feed_pixels_directly
from shipway.export.verify import compare, run_in_batches
from shipway.runtime.backends.torch_programs import EagerProgram
from shipway.runtime.program import open_program
from tests.conftest import TINY_RECIPE, Silent
from tests.export.workbench import edited


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
    (expected,) = run_in_batches(eager, rows, recipe.inputs, 4)
    (measure,) = tiny.certificate.outputs
    for name in tiny.manifest.programs:
        program = open_program(tiny_artifact, name, threads=1)
        for size in (1, 2, 3, 4):
            (found,) = run_in_batches(program, rows, recipe.inputs, size)
            limit = 0.3 if "int8" in name else 1e-4
            error = compare(expected, found, size, measure).relative_error
            assert error < limit, (name, size)


def test_int8_ran_in_int8(tiny):
    kernels = tiny.certificate.candidates["onnx_int8"].kernels
    assert kernels.source == "ONNX Runtime's profile"
    assert kernels.operators["QLinearConv"] == 3
    assert set(kernels.ran) == {"int8"}


def test_the_winner_is_the_fastest_as_far_as_was_measured_and_the_fallback_runs_anywhere(tiny):
    manifest, candidates = tiny.manifest, tiny.certificate.candidates
    costs = {
        name: interval(each, ("1", "4"), "latency", 1)
        for name, each in candidates.items()
        if each.passed
    }
    fastest = min(costs.values(), key=lambda each: each.value)
    assert costs[manifest.chosen].low <= fastest.high
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


def test_the_log_beside_the_artifact_keeps_what_the_compilers_said(tiny):
    assert tiny.path.with_name("tiny-1.0.log").exists()
