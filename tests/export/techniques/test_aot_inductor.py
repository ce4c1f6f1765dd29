"""AOTInductor for the processor, in fp32 and in bf16."""

import shutil

import pytest

from shipway.export.techniques.aot_inductor import compile_package, requires
from shipway.export.techniques.base import Unavailable
from shipway.export.techniques.torch_export import exported
from shipway.runtime.host import cpu_flags
from tests.export.workbench import passes


@pytest.mark.parametrize(
    ("name", "ran"), [("aot_inductor", {}), ("aot_inductor_bf16", {"bf16": 4})]
)
def test_a_convolutional_network_comes_back_from_disk_and_agrees(images, name, ran):
    assert passes(images, name) == ran


def test_a_transformer_comes_back_from_disk_and_agrees(texts):
    assert passes(texts, "aot_inductor_bf16") == {"bf16": 6}


def test_without_a_compiler_it_says_so(images, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Unavailable, match="no C\\+\\+ compiler"):
        compile_package(exported(images.job), tmp_path / "p.pt2")


def test_it_requires_the_vector_instructions_of_this_host():
    required = set(requires().cpu_flags)
    assert required <= cpu_flags()
    assert all(flag.startswith(("avx", "fma")) for flag in required)
