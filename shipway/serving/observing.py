"""An opened model, described for those who count and trace its requests."""

from shipway.metrics.observed import ServedProgram
from shipway.runtime.model import Model


def served_program(model: Model) -> ServedProgram:
    """What observers are told of the program that `model` runs on this host."""
    manifest, program = model.manifest, model.described
    return ServedProgram(
        name=manifest.name,
        version=manifest.version,
        program=model.program_name,
        precision=program.precision,
        device=program.device,
        artifact=model.artifact.digest,
        is_fallback=model.fell_back_because is not None,
    )
