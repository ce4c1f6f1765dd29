import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from shipway.runtime.backends.torch_programs import (
    AotInductorProgram,
    EagerProgram,
    TorchExportProgram,
    TorchScriptProgram,
    open_aot_inductor,
)


class Twice(nn.Module):
    """Two outputs, one of them in half precision."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 2 * x, x.half()


def test_outputs_keep_their_dtypes_however_many_there_are():
    double, half = EagerProgram(Twice(), threads=1).run([np.ones((2, 3), "float32")])
    assert (double.dtype, half.dtype) == (np.float32, np.float16)
    assert np.array_equal(double, 2 * half)


def test_the_module_runs_in_eval_mode_and_records_no_gradients():
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.99))
    program = EagerProgram(module.train(), threads=1)
    batch = [np.ones((2, 3), "float32")]
    assert np.array_equal(program.run(batch)[0], program.run(batch)[0])
    assert not module.training


def test_a_script_gives_what_the_module_gives(tmp_path: Path):
    path = tmp_path / "m.pt"
    module = nn.Linear(3, 2).eval()
    torch.jit.save(torch.jit.trace(module, torch.zeros(1, 3)), path)
    batch = [np.ones((4, 3), "float32")]
    expected = EagerProgram(module, threads=1).run(batch)[0]
    assert TorchScriptProgram(path, threads=1).run(batch)[0] == pytest.approx(expected)


def test_an_exported_program_is_opened_and_the_environment_is_as_before(tmp_path: Path):
    path = tmp_path / "m.pt2"
    torch.export.save(torch.export.export(nn.Linear(3, 2).eval(), (torch.zeros(2, 3),)), path)
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    assert TorchExportProgram(path, threads=1).run([np.zeros((2, 3), "float32")])[0].shape == (2, 2)
    assert os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD") == before


class Nested(nn.Module):
    """A dictionary with a tuple in it, one of its tensors a view of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, object]:
        return {"b": self.layer(x) + y, "a": (x[:, :2], (10 * x).to(torch.int64))}


def test_a_package_gives_what_torchs_own_loader_gives_and_opens_without_the_compiler(tmp_path):
    path = tmp_path / "m.pt2"
    given = torch.randn(3, 5), torch.randn(3, 3)
    rows = {0: torch.export.Dim.DYNAMIC(min=1, max=8)}
    program = torch.export.export(Nested().eval(), given, dynamic_shapes=(rows, rows))
    torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    with torch.inference_mode():
        expected = tree_leaves(torch._inductor.aoti_load_package(str(path))(*given))
    assert len(expected) == 3
    outputs = open_aot_inductor(path)(*given)
    assert [each.dtype for each in outputs] == [each.dtype for each in expected]
    assert all(map(torch.equal, outputs, expected))
    batch = [each.numpy() for each in given]
    for output, tensor in zip(
        AotInductorProgram(path, threads=1).run(batch), expected, strict=True
    ):
        assert np.array_equal(output, tensor.numpy())
    looks = (
        "import sys; from pathlib import Path; "
        "from shipway.runtime.backends.torch_programs import AotInductorProgram; "
        f"AotInductorProgram(Path({str(path)!r}), threads=1); "
        "print('torch._inductor.cpu_vec_isa' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", looks], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False", "the compiler was imported, which takes seconds"


def test_a_file_that_is_no_package_is_refused(tmp_path):
    path = tmp_path / "m.pt2"
    path.write_bytes(b"no package")
    with pytest.raises(RuntimeError):
        open_aot_inductor(path)
