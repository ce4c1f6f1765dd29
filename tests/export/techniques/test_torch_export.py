"""torch.export."""

import torch
from torch import nn

from shipway.export.techniques.torch_export import exported, requires
from tests.export.workbench import passes


def test_a_convolutional_network_comes_back_from_disk_and_agrees(images):
    assert passes(images, "torch_export") == {}


def test_the_program_requires_the_torch_that_made_it():
    assert requires().packages == {"torch": torch.__version__.partition("+")[0]}


def test_a_module_that_takes_any_inputs_keeps_its_dynamic_batch(images):
    class AnyInputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = images.job.module

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return self.module(*inputs)

    program = exported(images.job, AnyInputs().eval()).module()
    (pixels,) = images.job.example_tensors
    for rows in (1, 2, 4):
        assert program(pixels[:1].repeat(rows, 1, 1, 1)).shape == (rows, 10)
