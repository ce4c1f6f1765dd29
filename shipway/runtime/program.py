"""One interface over every exported format; the same code runs in verification and in serving."""

from shipway.artifact.bundle import Artifact
from shipway.runtime.backends import BACKENDS
from shipway.runtime.backends.base import Program, ProgramFile
from shipway.runtime.errors import BrokenProgram, RuntimeProblem


def open_program(artifact: Artifact, name: str, *, threads: int, device_index: int = 0) -> Program:
    """Opens a program of an artifact, its digest checked first.

    Raises ArtifactError, UnknownName for a runtime that is not known here, DeviceUnusable, or
    BrokenProgram for what its runtime refuses.
    """
    program = artifact.manifest.programs[name]
    path = artifact.program_path(name)
    backend = BACKENDS.get(program.runtime)
    file = ProgramFile(
        path=path, format=program.format, precision=program.precision, device=program.device
    )
    try:
        if file.format not in backend.formats:
            raise ValueError(f"it opens {', '.join(backend.formats)}, not {file.format}")
        return backend.open(file, threads=threads, device_index=device_index)
    except RuntimeProblem:
        raise
    except Exception as error:  # runtimes share no classes
        raise BrokenProgram(path, program.runtime, error) from error
