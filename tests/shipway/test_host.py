import os

import pytest

from shipway.artifact.manifest import Requirements
from shipway.runtime.errors import NoProgramFits
from shipway.runtime.host import available_cores, choose_program, cpu_flags, why_unfit


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
    assert [why_unfit(program) for program in tiny.manifest.programs.values()] == [None] * len(
        tiny.manifest.programs
    )


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
