"""Any rows in any company get what the bare program gives each of them alone."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shipway.artifact.bundle import Artifact, open_artifact, write_record
from shipway.artifact.certificate import Latency
from shipway.artifact.digests import sha256_of, write_sums
from shipway.runtime import model as model_module
from shipway.runtime.backends.errors import DeviceLost, OutOfMemory
from shipway.runtime.errors import WrongRows
from shipway.runtime.measured import measured_ms
from shipway.runtime.model import Model
from shipway.runtime.program import open_program

TOKENS = 30_522


class Recorded:
    """A program that notes the shapes it was given."""

    def __init__(self, program) -> None:
        self.program = program
        self.shapes: list[tuple[int, ...]] = []

    def run(self, inputs):
        self.shapes.append(inputs[0].shape)
        return self.program.run(inputs)


class Failing(Recorded):
    """Fails as `failure` says for runs that `fails(inputs)` picks."""

    def __init__(self, program, failure, fails) -> None:
        super().__init__(program)
        self.failure, self.fails = failure, fails

    def run(self, inputs):
        if self.fails(inputs):
            self.shapes.append(inputs[0].shape)
            raise self.failure
        return super().run(inputs)


def alone(artifact):
    """The bare program's outputs for one row, without padding or company."""
    program = open_program(artifact, artifact.manifest.chosen, threads=1)
    return lambda row: [each[0] for each in program.run([each[None] for each in row])]


def same(results, rows, program) -> None:
    assert len(results) == len(rows)
    for found, row in zip(results, rows, strict=True):
        assert found.error is None
        for output, expected in zip(found.outputs, program(row), strict=True):
            np.testing.assert_allclose(output, expected, atol=1e-5)


def images(count: int, seed: int = 0):
    random = np.random.default_rng(seed)
    return [(random.integers(0, 256, (64, 64, 3), np.uint8),) for _ in range(count)]


def texts(lengths, seed: int = 0):
    random = np.random.default_rng(seed)
    return [(random.integers(1, TOKENS, length), np.ones(length, np.int64)) for length in lengths]


@pytest.fixture
def model(tiny_artifact) -> Model:
    return Model(tiny_artifact)


@pytest.fixture
def text_model(tiny_classifier) -> Model:
    return Model(tiny_classifier)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 23])
@pytest.mark.parametrize("staged", ["none", "all", "some", "backwards", "with gaps", "twice"])
def test_staged_places_and_arrays_in_any_mixture_get_their_own_outputs(
    model, tiny_artifact, count, staged
):
    rows = images(count, seed=count)
    given: list = list(rows)
    if staged != "none":
        places = {
            "all": range(count),
            "some": range(0, count, 2),
            "backwards": range(count - 1, -1, -1),
            "with gaps": range(1, count),
            "twice": range(count),
        }[staged]
        for row, place in zip(places, range(model.most_rows), strict=False):
            model.staging[0][place] = rows[row][0]
            given[row] = place
    if staged == "twice":
        given, rows = given + given, rows + rows
    same(model.run(given), rows, alone(tiny_artifact))


def test_rows_in_their_places_are_not_copied(model):
    model._program = Recorded(model._program)
    model.staging[0][:] = np.concatenate([row[0][None] for row in images(4)])
    before = model.staging[0].copy()
    seen = []
    run = model._program.program.run
    model._program.program = type(
        "Looking", (), {"run": lambda self, inputs: seen.append(inputs[0]) or run(inputs)}
    )()
    model.run([0, 1, 2, 3])
    assert all(np.shares_memory(each, model.staging[0]) for each in seen)
    assert np.array_equal(model.staging[0], before)


@pytest.mark.parametrize("most_rows", [1, 2, 3, None])
def test_no_run_is_larger_than_the_bound(tiny_artifact, most_rows):
    model = Model(tiny_artifact, most_rows=most_rows)
    model._program = program = Recorded(model._program)
    rows = images(11)
    same(model.run(rows), rows, alone(tiny_artifact))
    assert model.most_rows == len(model.staging[0]) == (most_rows or 4)
    assert max(shape[0] for shape in program.shapes) <= model.most_rows


def test_a_registered_batch_larger_than_the_programs_bound_is_cut(tiny_artifact):
    assert Model(tiny_artifact, most_rows=64).most_rows == 4


@pytest.mark.parametrize("seed", range(6))
def test_texts_of_any_lengths_get_their_own_outputs(text_model, tiny_classifier, seed):
    random = np.random.default_rng(seed)
    rows = texts(random.integers(1, 65, random.integers(1, 40)), seed)
    same(text_model.run(rows), rows, alone(tiny_classifier))


def test_texts_at_the_ends_of_the_programs_range_are_run(text_model, tiny_classifier):
    rows = texts([1, 2, 8, 9, 63, 64])
    same(text_model.run(rows), rows, alone(tiny_classifier))


def test_a_mask_with_holes_is_kept_as_it_is(text_model, tiny_classifier):
    rows = texts([9, 5, 30])
    for row in rows:
        row[1][1::3] = 0
    same(text_model.run(rows), rows, alone(tiny_classifier))


def test_tensors_of_several_shapes_are_run_in_order(tiny_tensors):
    random = np.random.default_rng(0)
    rows = [
        (random.normal(size=(6, t)).astype(np.float32), random.integers(0, 10, (1, t)))
        for t in random.integers(2, 17, 30)
    ]
    same(Model(tiny_tensors).run(rows), rows, alone(tiny_tensors))


@pytest.mark.parametrize("place", [0, 4, 8])
def test_a_row_that_the_program_cannot_take_fails_alone(text_model, tiny_classifier, place, caplog):
    rows = texts([6] * 9)
    rows[place] = (np.full(6, TOKENS + 7), rows[place][1])
    with caplog.at_level(logging.CRITICAL):
        results = text_model.run(rows)
    assert results[place].error is not None
    assert not isinstance(results[place].error, OutOfMemory)
    good = [each for each in range(9) if each != place]
    same([results[each] for each in good], [rows[each] for each in good], alone(tiny_classifier))


def test_a_row_whose_arrays_do_not_fit_together_fails_alone(text_model, tiny_classifier):
    rows = texts([6] * 5)
    rows[2] = (rows[2][0], np.ones(40, np.int64))
    results = text_model.run(rows)
    assert results[2].error is not None
    good = [0, 1, 3, 4]
    same([results[each] for each in good], [rows[each] for each in good], alone(tiny_classifier))


def test_a_row_of_another_shape_than_the_models_fails_alone(model, tiny_artifact):
    rows = images(4)
    rows[1] = (np.zeros((5, 5, 3), np.uint8),)
    results = model.run(rows)
    assert results[1].error is not None
    good = [0, 2, 3]
    same([results[each] for each in good], [rows[each] for each in good], alone(tiny_artifact))


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total …"),
        RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("std::bad_alloc"),
        MemoryError(),
    ],
    ids=str,
)
def test_a_run_too_large_for_the_memory_is_run_in_halves(model, tiny_artifact, failure):
    model._program = program = Failing(model._program, failure, lambda inputs: len(inputs[0]) > 1)
    rows = images(4)
    same(model.run(rows), rows, alone(tiny_artifact))
    assert program.shapes[-1][0] == 1


@pytest.mark.parametrize(
    "change", [lambda each: each[:-1], lambda each: np.repeat(each, 2, axis=0)]
)
def test_outputs_of_too_few_or_too_many_rows_are_nobodys(model, tiny_artifact, change):
    program = model._program
    rows = images(4)
    marked = rows[2][0]

    class Miscounting:
        def run(self, inputs):
            outputs = program.run(inputs)
            there = any(np.array_equal(each, marked) for each in inputs[0])
            return [change(each) for each in outputs] if there else outputs

    model._program = Miscounting()
    results = model.run(rows)
    assert isinstance(results[2].error, WrongRows)
    whole = [place for place in range(4) if place != 2]
    same(
        [results[place] for place in whole], [rows[place] for place in whole], alone(tiny_artifact)
    )


def test_a_row_that_is_too_large_alone_is_told_so(model):
    failure = RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
    model._program = Failing(model._program, failure, lambda inputs: True)
    for each in model.run(images(3)):
        assert isinstance(each.error, OutOfMemory)
        assert each.outputs == ()


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: device-side assert triggered",
        "CUDNN_STATUS_EXECUTION_FAILED",
        "CUBLAS_STATUS_EXECUTION_FAILED when calling cublasSgemm",
        "CUDA failure 719: unspecified launch failure ; GPU=0",
    ],
)
def test_a_lost_device_ends_everything_at_once(model, text):
    model._program = program = Failing(model._program, RuntimeError(text), lambda inputs: True)
    with pytest.raises(DeviceLost, match="cannot use the GPU any more"):
        model.run(images(4))
    assert len(program.shapes) == 1


def test_every_row_is_told_how_it_travelled(text_model):
    results = text_model.run(texts([3, 64, 4, 60]))
    for found in results:
        assert 1 <= found.batch.rows <= found.batch.size <= text_model.most_rows
        assert found.batch.length in (8, 64)
        assert found.batch.inference_ms > 0


def test_a_failed_row_is_told_how_it_travelled_too(model):
    model._program = Failing(model._program, RuntimeError("no"), lambda inputs: True)
    assert [each.batch.rows for each in model.run(images(2))] == [1, 1]


def test_outputs_of_one_run_are_not_overwritten_by_the_next(model, tiny_artifact):
    first, second = images(4, seed=1), images(4, seed=2)
    before = model.run(first)
    model.run(second)
    same(before, first, alone(tiny_artifact))


class View(nn.Module):
    """Returns its input itself, and three columns of it in the same memory."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return features, features[:, 1:4]


def viewing(artifact: Artifact, folder: Path, format: str) -> Artifact:
    """The artifact with a program that returns views of its input."""
    example = torch.zeros(2, 5)
    path = folder / "programs" / f"view.{'pt2' if format == 'torch_export' else format}"
    path.parent.mkdir(parents=True)
    rows = ({0: torch.export.Dim.DYNAMIC(min=1, max=4)},)
    program = torch.export.export(View(), (example,), dynamic_shapes=rows)
    if format == "torchscript":
        torch.jit.save(torch.jit.trace(View(), example), path)
    elif format == "torch_export":
        torch.export.save(program, path)
    else:
        converted = torch.onnx.export(program, dynamo=True, verbose=False)
        assert converted is not None
        converted.save(path)
    manifest = artifact.manifest
    described = manifest.programs[manifest.chosen].model_copy(
        update={
            "file": f"programs/{path.name}",
            "format": format,
            "runtime": "onnxruntime" if format == "onnx" else "torch",
            "bytes": path.stat().st_size,
            "sha256": sha256_of(path),
        }
    )
    kept = shutil.ignore_patterns(Path(manifest.programs[manifest.chosen].file).name)
    shutil.copytree(artifact.path, folder, dirs_exist_ok=True, ignore=kept)
    write_record(
        folder / "manifest.json",
        manifest.model_copy(update={"programs": {manifest.chosen: described}}),
    )
    (folder / "SHA256SUMS").unlink()
    write_sums(folder)
    return open_artifact(folder)


@pytest.mark.parametrize("format", ["torchscript", "torch_export", "onnx"])
@pytest.mark.parametrize("places", [[0, 1, 2], [2, 0, 1]], ids=["in order", "gathered"])
def test_outputs_that_are_views_of_inputs_stay_as_they_are_when_the_next_rows_come(
    tiny_table, tmp_path, format, places
):
    model = Model(viewing(tiny_table, tmp_path / "artifact", format))
    first, second = np.random.default_rng(0).normal(size=(2, 3, 5)).astype("float32")
    model.staging[0][places] = first
    before = model.run(places)
    model.staging[0][places] = second
    model.run(places)
    for result, row in zip(before, first, strict=True):
        assert np.array_equal(result.outputs[0], row)
        assert np.array_equal(result.outputs[1], row[1:4])


def test_outputs_in_memory_of_their_own_are_not_copied(model):
    returned = []
    run = model._program.run
    model._program = type(
        "Noting", (), {"run": lambda self, inputs: returned.append(run(inputs)) or returned[-1]}
    )()
    (result,) = model.run(images(1))
    assert np.shares_memory(result.outputs[0], returned[0][0])


def test_warming_up_runs_every_size_that_is_prepared_for(model, text_model):
    for each in (model, text_model):
        each._program = Recorded(each._program)
        each.warm_up()
    assert [shape[0] for shape in model._program.shapes] == [model.most_rows]
    assert {shape[0] for shape in text_model._program.shapes} >= set(text_model._costs.sizes)
    model.described = model.described.model_copy(update={"runtime": "torch"})
    model.warm_up()
    assert {shape[0] for shape in model._program.shapes} == set(model._costs.sizes)


def test_what_was_measured_beside_the_grid_does_not_hide_the_grid(tiny_classifier):
    """Programs are compared at shapes such as 8x64, which the sweep over all sizes passes over."""
    measured = {"1x16": 1.0, "1x64": 4.0, "4x16": 4.0, "4x64": 16.0, "8x64": 99.0}
    latency = {
        shape: {1: Latency(median_ms=ms, low_ms=ms, high_ms=ms, runs=9)}
        for shape, ms in measured.items()
    }
    certificate = tiny_classifier.certificate
    name = tiny_classifier.manifest.chosen
    candidate = certificate.candidates[name].model_copy(update={"latency": latency})
    shapes = measured_ms(candidate, threads=1)
    assert shapes == {(1, 16): 1.0, (1, 64): 4.0, (4, 16): 4.0, (4, 64): 16.0}


def test_an_artifact_of_which_nothing_was_measured_is_run_too(tiny_classifier, monkeypatch):
    monkeypatch.setattr(model_module, "measured_ms", lambda candidate, threads: {})
    rows = texts([5, 60, 7, 2, 33])
    same(Model(tiny_classifier).run(rows), rows, alone(tiny_classifier))
