"""TorchScript."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shipway.export.techniques import torchscript
from shipway.export.techniques.base import Job, WrongProgram
from shipway.recipe import Axis, Rows, TensorSpec
from tests.export.workbench import passes

BATCH, TIME = Axis(name="batch", min=1, max=8), Axis(name="time", min=2, max=32)


class Rarely(nn.Module):
    """A branch that few inputs take."""

    def forward(self, x: Tensor) -> Tensor:
        if x.max() > 100:
            return x[:, 0] * 0
        return x.sum(dim=1)


class Careful(nn.Module):
    """It asks for a size that is always the same."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] != 3:
            raise ValueError("three channels")
        return x.mean(dim=1)


def job(module: nn.Module, folder, branches: Rows | None = None) -> Job:
    rows = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)).numpy()
    return Job(
        module=module.eval(),
        example=(rows,),
        calibration=Rows((rows,)),
        branches=branches,
        inputs=(TensorSpec(name="x", dtype="float32", shape=(BATCH, TIME, 3)),),
        outputs=("output",),
        programs=folder,
    )


def test_a_convolutional_network_comes_back_from_disk_and_agrees(images):
    assert passes(images, "torchscript") == {}


def test_a_branch_that_tracing_would_fix_is_refused_with_its_line(tmp_path):
    path = tmp_path / "script.pt"
    with pytest.raises(WrongProgram, match=r"tracing fixed what test_torchscript\.py, line \d+"):
        torchscript.build(job(Rarely(), tmp_path), path)
    assert not path.exists()


def test_rows_that_take_each_branch_are_compared_in_place_of_a_refusal(tmp_path):
    large = Rows((np.full((1, 5, 3), 200, np.float32),))
    torchscript.build(job(Rarely(), tmp_path, large), tmp_path / "script.pt")
    assert (tmp_path / "script.pt").exists()


def test_a_check_of_a_fixed_size_is_no_branch(tmp_path):
    torchscript.build(job(Careful(), tmp_path), tmp_path / "script.pt")
    assert (tmp_path / "script.pt").exists()
