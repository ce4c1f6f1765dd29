"""torch.export: the graph as PyTorch itself keeps it, in a `.pt2` file."""

from pathlib import Path

import torch

from export.technique import Job, Technique
from shipway.artifact.manifest import Axis, Requirements


def dynamic_batch(batch: Axis) -> tuple[dict[int, object]] | None:
    """The dynamic shapes of a module with one input whose first axis is the batch.

    DYNAMIC, unlike AUTO, fails the export if the module fixes the axis behind our back.
    """
    if batch.max == 1:
        return None
    return ({0: torch.export.Dim.DYNAMIC(min=batch.min, max=batch.max)},)


def exported(job: Job) -> torch.export.ExportedProgram:
    with torch.no_grad():
        return torch.export.export(
            job.module,
            (torch.from_numpy(job.example),),
            dynamic_shapes=dynamic_batch(job.batch),
        )


def build(job: Job, path: Path) -> None:
    torch.export.save(exported(job), path)


def requires() -> Requirements:
    # "Saved files may not be usable in newer versions", says torch.export.save of its format.
    return Requirements(packages={"torch": torch.__version__.partition("+")[0]})


TECHNIQUE = Technique(
    name="torch_export",
    file="torch_export.pt2",
    format="torch_export",
    build=build,
    requires=requires,
)
