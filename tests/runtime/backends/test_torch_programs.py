import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from shipway.runtime.backends.torch_programs import (
    EagerProgram,
    TorchExportProgram,
    TorchScriptProgram,
)


class Twice(nn.Module):
    """Two outputs, one of them in half precision."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 2 * x, x.half()


def test_outputs_are_float32_arrays_however_many_there_are():
    double, half = EagerProgram(Twice(), threads=1).run([np.ones((2, 3), "float32")])
    assert (double.dtype, half.dtype) == (np.float32, np.float32)
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
