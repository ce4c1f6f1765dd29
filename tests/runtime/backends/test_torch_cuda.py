"""What overlaps on a GPU comes out as if it had not. The tests that need a GPU are at the end."""

import dataclasses
import logging
import subprocess
import sys
from collections import deque

import numpy as np
import pytest
import torch
from torch import nn

from shipway.artifact.bundle import open_artifact
from shipway.export.pipeline import export
from shipway.runtime import model as model_module
from shipway.runtime.backends.base import Overlapping
from shipway.runtime.backends.errors import DeviceLost, DeviceUnusable, OutOfMemory, device_error
from shipway.runtime.backends.onnxruntime import OnnxRuntimeProgram
from shipway.runtime.backends.torch_cuda import SLOTS, CudaPipeline, Recordings, in_turns
from shipway.runtime.model import Model
from shipway.runtime.program import open_program
from tests.conftest import TINY_RECIPE, Silent

HERE = torch.cuda.is_available()
on_a_gpu = pytest.mark.skipif(not HERE, reason="needs an NVIDIA GPU, and torch finds none")
on_two = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two NVIDIA GPUs")
without_a_gpu = pytest.mark.skipif(HERE, reason="a GPU is here")


class Journal:
    """A `start` for in_turns that notes what happens when."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def batches(self, count: int):
        for number in range(count):
            self.notes.append(f"asked for {number}")
            yield [np.array([number])]

    def start(self, batch, slot):
        number = int(batch[0][0])
        self.notes.append(f"began {number} in {slot}")

        def wait():
            self.notes.append(f"waited for {number}")
            return [np.array([number])]

        return wait


@pytest.mark.parametrize("count", range(6))
def test_every_batch_comes_out_once_and_in_order(count):
    journal = Journal()
    outputs = [int(each[0][0]) for each in in_turns(journal.batches(count), journal.start)]
    assert outputs == list(range(count))


def test_a_batch_begins_before_the_one_ahead_is_waited_for_and_never_in_its_slot():
    journal = Journal()
    deque(in_turns(journal.batches(4), journal.start), maxlen=0)
    assert SLOTS == 2
    assert journal.notes == [
        "asked for 0",
        "began 0 in 0",
        "asked for 1",
        "began 1 in 1",
        "asked for 2",
        "waited for 0",
        "began 2 in 0",
        "asked for 3",
        "waited for 1",
        "began 3 in 1",
        "waited for 2",
        "waited for 3",
    ]


def test_a_lone_batch_is_not_kept_waiting_for_a_second():
    journal = Journal()
    assert len(list(in_turns(journal.batches(1), journal.start))) == 1
    assert journal.notes == ["asked for 0", "began 0 in 0", "waited for 0"]


def of_rows(*rows: int) -> list[list[torch.Tensor]]:
    return [[torch.zeros(each, 3), torch.zeros(each)] for each in rows]


def test_each_shape_is_recorded_once():
    recorded = []
    recordings = Recordings(lambda tensors: recorded.append(len(tensors[0])) or len(recorded))
    assert [recordings.of(each) for each in of_rows(1, 2, 1, 2, 3)] == [1, 2, 1, 2, 3]
    assert recorded == [1, 2, 3]


def test_shapes_beyond_the_most_that_are_kept_are_not_recorded():
    recordings = Recordings(lambda tensors: len(tensors[0]), most=2)
    assert [recordings.of(each) for each in of_rows(4, 8, 16, 4, 16)] == [4, 8, None, 4, None]


def test_a_shape_that_cannot_be_recorded_is_tried_once_and_said_so(caplog):
    tried = []

    def record(tensors):
        tried.append(len(tensors[0]))
        if len(tensors[0]) == 2:
            raise RuntimeError("operation not permitted when stream is capturing")
        return len(tensors[0])

    recordings = Recordings(record)
    assert [recordings.of(each) for each in of_rows(2, 4, 2)] == [None, 4, None]
    assert tried == [2, 4]
    assert "(2, 3), (2,)] run without a CUDA graph" in caplog.text


class Overlapped:
    """An Overlapping program on the CPU. It reads arrays from `zeros` as late as it may."""

    host_to_device_ms = 0.001

    def __init__(self, program, fails=lambda inputs: None) -> None:
        self.program, self.fails = program, fails
        self.overlapped = 0
        self.alone = 0
        self.pinned: list[np.ndarray] = []

    def run(self, inputs):
        self.alone += 1
        self._maybe_fail(inputs)
        return self.program.run(inputs)

    def run_all(self, batches):
        return in_turns(batches, self._start)

    def zeros(self, shape, dtype):
        self.pinned.append(np.zeros(shape, dtype))
        return self.pinned[-1]

    def _start(self, inputs, slot):
        self.overlapped += 1
        self._maybe_fail(inputs)
        kept = [
            each if any(np.shares_memory(each, pinned) for pinned in self.pinned) else each.copy()
            for each in inputs
        ]
        return lambda: self.program.run(kept)

    def _maybe_fail(self, inputs):
        if failure := self.fails(inputs):
            raise failure


@pytest.fixture
def overlapped(tiny_artifact, monkeypatch):
    """A model of at most four rows a run, and the program that it runs."""
    opened = Overlapped(open_program(tiny_artifact, tiny_artifact.manifest.chosen, threads=1))
    monkeypatch.setattr(model_module, "open_program", lambda *_, **__: opened)
    return Model(tiny_artifact), opened


def images(count: int) -> list[tuple[np.ndarray]]:
    random = np.random.default_rng(count)
    return [(random.integers(0, 256, (64, 64, 3), np.uint8),) for _ in range(count)]


def expected(artifact, rows) -> list[np.ndarray]:
    program = open_program(artifact, artifact.manifest.chosen, threads=1)
    return [program.run([row[0][None]])[0][0] for row in rows]


def same(results, wanted) -> None:
    for found, logits_K in zip(results, wanted, strict=True):
        assert found.error is None
        np.testing.assert_allclose(found.outputs[0], logits_K, atol=1e-5)


@pytest.mark.parametrize("count", [1, 5, 11, 16])
def test_several_runs_are_handed_over_together_and_one_alone(overlapped, tiny_artifact, count):
    model, program = overlapped
    assert isinstance(program, Overlapping)
    rows = images(count)
    same(model.run(rows), expected(tiny_artifact, rows))
    together = count > 1
    assert (program.overlapped > 1) == together
    assert (program.alone > 0) == (not together)


def test_staged_rows_lie_in_the_programs_own_memory_and_others_may_ride_along(
    overlapped, tiny_artifact
):
    model, program = overlapped
    assert model.staging[0] is program.pinned[0]
    rows = images(11)
    given: list = list(rows)
    for place in range(model.most_rows):
        model.staging[0][place] = rows[place + 3][0]
        given[place + 3] = place
    same(model.run(given), expected(tiny_artifact, rows))


@pytest.mark.parametrize(
    "failure", [RuntimeError("CUDA out of memory. Tried to allocate 9.00 GiB"), ValueError("no")]
)
def test_a_run_that_fails_among_others_is_run_again_in_halves(
    overlapped, tiny_artifact, failure, caplog
):
    model, program = overlapped
    rows = images(12)
    bad = rows[6][0]
    program.fails = lambda inputs: failure if (inputs[0] == bad).all((1, 2, 3)).any() else None
    with caplog.at_level(logging.CRITICAL):
        results = model.run(rows)
    assert results[6].error is not None
    assert isinstance(results[6].error, OutOfMemory) == isinstance(failure, RuntimeError)
    good = [each for each in range(12) if each != 6]
    same([results[each] for each in good], expected(tiny_artifact, [rows[each] for each in good]))


def test_too_many_rows_for_the_memory_are_answered_in_smaller_runs(overlapped, tiny_artifact):
    model, program = overlapped
    full = RuntimeError("CUDA out of memory")
    program.fails = lambda inputs: full if len(inputs[0]) > 1 else None
    rows = images(9)
    same(model.run(rows), expected(tiny_artifact, rows))


def test_a_lost_device_among_overlapping_runs_ends_everything_at_once(overlapped):
    model, program = overlapped
    program.fails = lambda inputs: RuntimeError("CUDA error: unspecified launch failure")
    with pytest.raises(DeviceLost):
        model.run(images(9))
    assert program.alone == 0


def test_every_row_of_overlapping_runs_is_told_how_it_travelled(overlapped):
    model, _ = overlapped
    for found in model.run(images(9)):
        assert 1 <= found.batch.rows <= found.batch.size <= model.most_rows
        assert found.batch.preprocess_ms >= 0
        assert found.batch.host_to_device_ms == 0.001
        assert found.batch.padding == 1 - found.batch.rows / found.batch.size
        assert found.batch.inference_ms > 0


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", OutOfMemory),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", OutOfMemory),
        ("CUDA failure 2: out of memory ; GPU=0", OutOfMemory),
        ("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear", RuntimeError),
        ("CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasSgemm`", RuntimeError),
        ("run_func_( container_handle_ ) API call failed at model_container_runner", RuntimeError),
    ],
)
def test_errors_after_which_the_gpu_can_go_on_do_not_end_the_worker(text, kind):
    assert type(device_error(RuntimeError(text))) is kind


@without_a_gpu
def test_onnx_runtime_does_not_take_the_cpu_behind_our_back(tiny_artifact, capfd):
    path = tiny_artifact.program_path("onnx_fp32")
    with pytest.raises(DeviceUnusable, match="cannot use GPU 0.*onnxruntime-gpu"):
        OnnxRuntimeProgram(path, threads=1, device="cuda")


def test_a_worker_that_serves_onnx_on_the_cpu_never_loads_torch(tiny_artifact):
    code = (
        "import sys; from pathlib import Path; from shipway.artifact.bundle import open_artifact; "
        "from shipway.runtime.model import Model; import numpy as np; "
        f"model = Model(open_artifact(Path({str(tiny_artifact.path)!r}))); model.warm_up(); "
        "model.run(list(range(model.most_rows))); print('torch' in sys.modules)"
    )
    assert tiny_artifact.manifest.programs[tiny_artifact.manifest.chosen].format == "onnx"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stderr


class Network(nn.Module):
    """Pixels (B, 32, 32, 3), uint8, to two outputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()
        )
        self.head = nn.Linear(32, 10)

    def forward(self, pixels_BHWC):
        features = self.convolutions(pixels_BHWC.permute(0, 3, 1, 2).float() / 255).mean((2, 3))
        return self.head(features), features


def pixels(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).integers(0, 256, (rows, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def network():
    """The network on the GPU and, for the outputs that are right, on the CPU."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return Network().eval().cuda(), Network().eval()


def check(outputs, network_on_cpu, given) -> None:
    with torch.inference_mode():
        right = network_on_cpu(torch.from_numpy(given))
    for found, wanted in zip(outputs, right, strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4)


@on_a_gpu
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_a_batch_is_what_the_cpu_makes_of_it_recorded_and_replayed(network, rows):
    pipeline = CudaPipeline(network[0])
    for seed in range(3):
        given = np.roll(pixels(rows), seed)
        check(pipeline.run([given]), network[1], given)


@on_a_gpu
def test_batches_of_several_shapes_overlap_and_keep_their_order(network):
    pipeline = CudaPipeline(network[0])
    given = [np.roll(pixels(rows), rows) for rows in [4, 4, 1, 4, 2, 2, 2, 1, 4] * 4]
    for outputs, batch in zip(pipeline.run_all([each] for each in given), given, strict=True):
        check(outputs, network[1], batch)


@on_a_gpu
def test_one_array_may_carry_batch_after_batch(network):
    pipeline = CudaPipeline(network[0])
    array = np.zeros((4, 32, 32, 3), np.uint8)
    wanted = [np.roll(pixels(4), seed) for seed in range(12)]

    def batches():
        for each in wanted:
            array[:] = each
            yield [array]

    for outputs, batch in zip(pipeline.run_all(batches()), wanted, strict=True):
        check(outputs, network[1], batch)


@on_a_gpu
def test_arrays_of_its_own_are_pinned_and_slices_of_them_too(network):
    pipeline = CudaPipeline(network[0])
    array = pipeline.zeros((8, 32, 32, 3), "uint8")
    array[:] = pixels(8)
    assert torch.from_numpy(array[2:6]).is_pinned()
    check(pipeline.run([array[2:6]]), network[1], array[2:6])


@on_a_gpu
def test_outputs_stay_as_they_are_when_the_next_come(network):
    pipeline = CudaPipeline(network[0])
    first = pipeline.run([pixels(2)])
    before = [each.copy() for each in first]
    list(pipeline.run_all([[np.roll(pixels(2), seed)] for seed in range(5)]))
    assert all(np.array_equal(a, b) for a, b in zip(first, before, strict=True))


@on_a_gpu
def test_what_no_graph_takes_runs_all_the_same(caplog):
    def call(values):
        return values * values.sum().item()  # waits for the GPU, which a graph cannot

    pipeline = CudaPipeline(call)
    given = np.arange(4, dtype=np.float32)
    for outputs in pipeline.run_all([[given + each] for each in range(5)]):
        assert outputs[0].shape == (4,)
    np.testing.assert_allclose(pipeline.run([given])[0], given * given.sum())
    assert caplog.text.count("run without a CUDA graph") == 1
    # What failed there must not have spoilt the recording of others.
    np.testing.assert_allclose(CudaPipeline(lambda each: each + 1).run([given])[0], given + 1)


@on_a_gpu
def test_memory_that_runs_out_is_an_error_and_the_next_batch_runs():
    def call(values):
        return values + torch.empty(len(values), 1 << 40, device=values.device)[:, :1]

    pipeline = CudaPipeline(lambda each: call(each) if len(each) > 1 else each * 2)
    with pytest.raises(RuntimeError) as caught:
        pipeline.run([np.ones((2, 1), np.float32)])
    assert isinstance(device_error(caught.value), OutOfMemory)
    assert pipeline.run([np.ones((1, 1), np.float32)])[0].tolist() == [[2.0]]


@on_a_gpu
def test_a_gpu_lost_to_the_process_is_told_apart():
    """In a process of its own, whose GPU is lost by an index out of range."""
    code = """
import numpy as np, torch
from shipway.runtime.backends.torch_cuda import CudaPipeline
from shipway.runtime.backends.errors import DeviceLost, device_error

table = torch.zeros(4, 2, device="cuda")
pipeline = CudaPipeline(lambda ids: table[ids])
pipeline.run([np.zeros(3, np.int64)])
try:
    pipeline.run([np.full(3, 1_000_000)])
except Exception as error:
    try:
        device_error(error)
    except DeviceLost:
        print("lost")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1:] == ["lost"], done.stderr


@on_two
def test_a_program_runs_on_the_gpu_of_its_index():
    pipeline = CudaPipeline(lambda each: each + each.device.index, device_index=1)
    assert pipeline.run([np.zeros(2, np.float32)])[0].tolist() == [1.0, 1.0]
    assert torch.from_numpy(pipeline.zeros((2,), "float32")).is_pinned()


@pytest.fixture(scope="module")
def on_gpu(tmp_path_factory):
    """The tiny network with a program for this GPU, and that one chosen."""
    only = ("onnx_fp32", "aot_inductor_cuda_fp16")
    path = export(str(TINY_RECIPE), Silent(), out=tmp_path_factory.mktemp("gpu"), only=only).path
    artifact = open_artifact(path)
    refused = artifact.certificate.candidates["aot_inductor_cuda_fp16"].verdict
    assert "aot_inductor_cuda_fp16" in artifact.manifest.programs, refused
    manifest = artifact.manifest.model_copy(update={"chosen": "aot_inductor_cuda_fp16"})
    return dataclasses.replace(artifact, manifest=manifest)


@on_a_gpu
def test_an_exported_program_serves_any_rows_in_any_company(on_gpu):
    model = Model(on_gpu)
    assert model.fell_back_because is None
    model.warm_up()
    rows = images(23)
    portable = open_program(on_gpu, "onnx_fp32", threads=1)
    for found, row in zip(model.run(rows), rows, strict=True):
        assert found.error is None
        wanted = portable.run([row[0][None]])[0][0]
        assert np.linalg.norm(found.outputs[0] - wanted) < 0.03 * np.linalg.norm(wanted)


@on_a_gpu
def test_after_warming_up_no_shape_is_left_to_be_recorded(on_gpu, monkeypatch):
    model = Model(on_gpu)
    model.warm_up()
    monkeypatch.setattr(model._program._recordings, "_record", None)
    for count in (1, 2, 3, 4, 7, 23):
        assert all(each.error is None for each in model.run(images(count)))
