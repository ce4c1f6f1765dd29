"""AOTInductor for a GPU."""

import torch
from torch import nn

from shipway.export.techniques import aot_inductor_cuda
from shipway.export.techniques.aot_inductor import Autocast


def test_weights_for_a_gpu_are_in_its_precision_and_with_channels_last(images):
    job = images.job
    half = aot_inductor_cuda.with_heavy_weights_in(torch.bfloat16, job.module)
    heavy = [each for each in half.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    assert {each.weight.dtype for each in heavy} == {torch.bfloat16}
    assert all(
        each.weight.is_contiguous(memory_format=torch.channels_last)
        for each in heavy
        if isinstance(each, nn.Conv2d)
    )
    assert {each.dtype for each in job.module.parameters()} == {torch.float32}
    with torch.inference_mode():
        by_autocast, cast_before = (
            Autocast(module.eval(), "cpu", torch.bfloat16)(*job.example_tensors)
            for module in (job.module, half)
        )
    assert cast_before.dtype == torch.float32
    assert torch.equal(by_autocast, cast_before)
