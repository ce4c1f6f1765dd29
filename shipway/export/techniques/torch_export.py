"""torch.export: the graph as PyTorch itself keeps it, in a `.pt2` file."""

import inspect
from pathlib import Path

import torch
from torch import nn

from shipway.artifact.manifest import Requirements
from shipway.export.techniques import register
from shipway.export.techniques.base import Job, Technique


def exported(
    job: Job, module: nn.Module | None = None, device: str = "cpu"
) -> torch.export.ExportedProgram:
    """The graph of the job's module, or of another one that takes the same inputs."""
    module = job.module if module is None else module
    shapes: object = job.dynamic_shapes
    if shapes is not None and _takes_any_inputs(module):
        shapes = (shapes,)  # to torch.export, *inputs are one argument that is a tuple
    with torch.no_grad():
        return torch.export.export(
            module,
            tuple(each.to(device) for each in job.example_tensors),
            dynamic_shapes=shapes,  # type: ignore[arg-type]
        )


def _takes_any_inputs(module: nn.Module) -> bool:
    parameters = inspect.signature(module.forward).parameters.values()
    return any(each.kind is each.VAR_POSITIONAL for each in parameters)


def build(job: Job, path: Path) -> None:
    torch.export.save(exported(job), path)


def requires() -> Requirements:
    # "Saved files may not be usable in newer versions", says torch.export.save of its format.
    return Requirements(packages={"torch": torch.__version__.partition("+")[0]})


TECHNIQUE = Technique(
    order=20,
    name="torch_export",
    file="torch_export.pt2",
    format="torch_export",
    runtime="torch",
    build=build,
    requires=requires,
)
register(TECHNIQUE)
