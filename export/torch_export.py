"""torch.export: the graph as PyTorch itself keeps it, in a `.pt2` file."""

from pathlib import Path

import torch

from export.technique import Job, Technique
from shipway.artifact.manifest import Requirements


def exported(job: Job) -> torch.export.ExportedProgram:
    with torch.no_grad():
        return torch.export.export(
            job.module, job.example_tensors, dynamic_shapes=job.dynamic_shapes
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
    runtime="torch",
    build=build,
    requires=requires,
)
TECHNIQUES = (TECHNIQUE,)
