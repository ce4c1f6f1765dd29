"""TorchScript, traced and frozen: a legacy format, for servers that load nothing newer."""

import warnings
from pathlib import Path

import torch

from shipway.export.techniques import register
from shipway.export.techniques.base import Job, Technique, WrongProgram
from shipway.export.techniques.torch_export import exported


def build(job: Job, path: Path) -> None:
    """Writes the traced and frozen module. Raises WrongProgram if tracing fixed a branch."""
    with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")  # TorchScript is deprecated; it is used on purpose
        warnings.simplefilter("always", torch.jit.TracerWarning)
        traced = torch.jit.trace(job.module, job.example_tensors)
        frozen = torch.jit.freeze(traced.eval())
    branches = [
        warning
        for warning in caught
        if issubclass(warning.category, torch.jit.TracerWarning)
        and "might cause the trace to be incorrect" in str(warning.message)
    ]
    # With rows that take the branches, the comparison decides whether it matters.
    if branches and job.branches is None and (reason := why_not_exported(job)):
        warning = branches[0]
        raise WrongProgram(
            f"tracing fixed what {Path(warning.filename).name}, line {warning.lineno}, decides by "
            f"its inputs, and torch.export cannot follow it either ({reason}); if the recipe has "
            "branch_inputs that take each side, its outputs for them decide"
        )
    with torch.no_grad():
        torch.jit.save(frozen, path)


def why_not_exported(job: Job) -> str | None:
    """Why torch.export refuses the module, in a line; None if it takes it.

    It fails where a branch or a loop depends on data or on the size of a dynamic axis.
    """
    try:
        exported(job)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]
    return None


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
