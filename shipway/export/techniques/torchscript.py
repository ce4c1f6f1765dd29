"""TorchScript, traced and frozen: the legacy format, for servers that load nothing newer."""

import warnings
from pathlib import Path

import torch

from shipway.export.techniques import register
from shipway.export.techniques.base import Job, Technique


def build(job: Job, path: Path) -> None:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and meant all the same
        traced = torch.jit.trace(job.module, job.example_tensors)
        torch.jit.save(torch.jit.freeze(traced.eval()), path)


TECHNIQUE = Technique(
    order=10,
    name="torchscript",
    file="torchscript.pt",
    format="torchscript",
    runtime="torch",
    portable=True,
    build=build,
)
register(TECHNIQUE)
