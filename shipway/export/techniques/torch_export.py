"""torch.export: PyTorch's own graph, in a `.pt2` file."""

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
    """The graph of the job's module, or of another module that takes the same inputs."""
    module = job.module if module is None else module
    shapes: object = job.dynamic_shapes
    if shapes is not None and _takes_any_inputs(module):
        shapes = (shapes,)  # torch.export sees *inputs as one argument, a tuple
    with torch.no_grad():
        return torch.export.export(
            module,
            tuple(tensor.to(device) for tensor in job.example_tensors),
            dynamic_shapes=shapes,  # type: ignore[arg-type]
        )


def _takes_any_inputs(module: nn.Module) -> bool:
    parameters = inspect.signature(module.forward).parameters.values()
    return any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)


def build(job: Job, path: Path) -> None:
    """Writes the exported graph with its weights."""
    torch.export.save(exported(job), path)


def requires() -> Requirements:
    """The torch version of this host."""
    # The documentation of torch.export.save: "saved files may not be usable in newer versions".
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
