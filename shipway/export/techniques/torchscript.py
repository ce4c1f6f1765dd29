"""TorchScript, traced and frozen: a legacy format, for servers that load nothing newer."""

import warnings
from pathlib import Path

import torch

from shipway.export.techniques import register
from shipway.export.techniques.base import Job, Technique


def build(job: Job, path: Path) -> None:
    """Writes the traced and frozen module."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; it is used on purpose
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
