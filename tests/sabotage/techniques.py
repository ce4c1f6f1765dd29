"""A technique whose program is not the module: something is done to its outputs."""

import warnings
from pathlib import Path

import torch

from shipway.export.techniques import register
from shipway.export.techniques.base import Job, Technique
from tests.sabotage.broken import CHANGES, After


def register_change(name: str, change: str) -> None:
    """Registers the technique `name`, which does `change` to the outputs."""

    def build(job: Job, path: Path) -> None:
        changed = After(job.module, CHANGES[change][0]).eval()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            script = torch.jit.trace(changed, job.example_tensors, check_trace=False)
            torch.jit.save(script, path)

    register(
        Technique(
            name=name,
            file=f"{name}.pt",
            format="torchscript",
            runtime="torch",
            portable=True,
            build=build,
        )
    )
