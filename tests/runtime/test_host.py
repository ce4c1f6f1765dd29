import os

import pytest

from shipway.artifact.manifest import Requirements
from shipway.runtime import choice, host
from shipway.runtime.backends.packages import installed_exactly
from shipway.runtime.choice import choose_program, unsupported_reason
from shipway.runtime.errors import NoProgramFits
from shipway.runtime.host import available_cores, cpu_flags, has_cuda, own_device, visible_devices


def with_requirements(manifest, name, requires):
    changed = manifest.programs[name].model_copy(update={"requires": requires})
    return manifest.model_copy(update={"programs": manifest.programs | {name: changed}})


def test_the_cores_counted_are_those_this_process_may_use():
    allowed = os.sched_getaffinity(0)
    assert 1 <= available_cores() <= len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_every_program_fits_the_host_that_made_it(tiny):
    assert [unsupported_reason(program) for program in tiny.manifest.programs.values()] == [
        None
    ] * len(tiny.manifest.programs)


@pytest.mark.parametrize(
    ("requires", "reason"),
    [
        (Requirements(cpu_flags=("amx_from_the_future",)), "lacks amx_from_the_future"),
        (Requirements(machine="riscv64"), "made for riscv64"),
        (Requirements(packages={"torch": "1.0"}), "made with torch 1.0"),
    ],
)
def test_a_host_that_does_not_fit_gets_the_portable_program_and_the_reason(tiny, requires, reason):
    manifest = with_requirements(tiny.manifest, "onnx_int8", requires)
    manifest = manifest.model_copy(update={"chosen": "onnx_int8", "fallback": "onnx_fp32"})
    name, why = choose_program(manifest)
    assert name == "onnx_fp32"
    assert reason in why


def test_a_host_that_nothing_fits_is_told_why_for_each(tiny):
    requires = Requirements(cpu_flags=("nothing_has_this",))
    manifest = with_requirements(tiny.manifest, "onnx_int8", requires)
    manifest = with_requirements(manifest, "onnx_fp32", requires)
    manifest = manifest.model_copy(update={"chosen": "onnx_int8", "fallback": "onnx_fp32"})
    with pytest.raises(NoProgramFits, match=r"onnx_int8: .*onnx_fp32: "):
        choose_program(manifest)


def test_this_processor_has_features():
    assert cpu_flags()


UUID = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
MIG = "MIG-a5b3c0d1-4f9e-5d8a-9d8e-0c1f2a3b4c5d"
OLD_MIG = f"MIG-{UUID}/1/0"


@pytest.mark.parametrize(
    ("value", "devices"),
    [
        (None, None),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("0", ("0",)),
        ("2, 3", ("2", "3")),
        ("0,-1,1", ("0",)),
        (f"{UUID},GPU-8932f9", (UUID, "GPU-8932f9")),
        (f"{MIG},{OLD_MIG}", (MIG, OLD_MIG)),
        ("gpu0", ()),
    ],
)
def test_the_visible_gpus_are_read_as_cuda_reads_them(value, devices):
    environment = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    assert visible_devices(environment) == devices


def test_a_gpu_that_is_hidden_is_not_here(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert not has_cuda()


@pytest.mark.parametrize(
    ("named", "gpu_id", "index", "visible"),
    [
        (None, None, 0, "0,1"),
        (None, 1, 1, "0,1"),
        (f"{UUID},{MIG}", 0, 0, UUID),
        (f"{UUID},{MIG}", 1, 0, MIG),
        (f"{UUID},{MIG}", None, 0, f"{UUID},{MIG}"),
    ],
)
def test_a_worker_takes_the_gpu_it_was_given(monkeypatch, named, gpu_id, index, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    if named is None:
        monkeypatch.delenv(host.NAMED_DEVICES, raising=False)
    else:
        monkeypatch.setenv(host.NAMED_DEVICES, named)
    assert own_device(gpu_id) == index
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible


@pytest.mark.parametrize(
    ("here", "reason"),
    [
        ("9.0", None),
        ("8.6", "it was made for a GPU of compute capability 9.0, and this host has 8.6"),
        (None, "it was made for a GPU of compute capability 9.0, and this host has none"),
    ],
)
def test_a_program_compiled_for_a_gpu_wants_one_like_it(tiny, monkeypatch, here, reason):
    monkeypatch.setattr(choice, "has_cuda", lambda: True)
    monkeypatch.setattr(choice, "_compute_capability", lambda index: here)
    program = tiny.manifest.programs["torch_export"].model_copy(
        update={"device": "cuda", "requires": Requirements(compute_capability="9.0")}
    )
    assert unsupported_reason(program) == reason


def test_a_gpu_that_torch_does_not_see_has_no_compute_capability():
    assert choice._compute_capability(99) is None


def test_onnx_runtime_without_cuda_is_told_before_it_is_tried(tiny, monkeypatch):
    if installed_exactly("onnxruntime-gpu"):
        pytest.skip("ONNX Runtime is here with CUDA")
    monkeypatch.setattr(choice, "has_cuda", lambda: True)
    program = tiny.manifest.programs["onnx_fp32"].model_copy(update={"device": "cuda"})
    assert "onnxruntime-gpu" in unsupported_reason(program)
