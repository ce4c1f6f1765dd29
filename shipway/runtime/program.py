"""Opens a program of an artifact with the backend that its manifest names."""

from shipway.artifact.bundle import Artifact
from shipway.runtime.backends import BACKENDS
from shipway.runtime.backends.base import Program, ProgramFile
from shipway.runtime.backends.errors import RuntimeProblem
from shipway.runtime.errors import BrokenProgram, UnknownFormat


def open_program(artifact: Artifact, name: str, *, threads: int, device_index: int = 0) -> Program:
    """Opens a program of an artifact, its digest checked first.

    `threads` compute one run; `device_index` is the GPU, for a program on one. Raises
    ArtifactError, UnknownName for a runtime that is not registered, UnknownFormat,
    DeviceUnusable, or BrokenProgram for a file that the runtime refuses.
    """
    program = artifact.manifest.programs[name]
    path = artifact.program_path(name)
    backend = BACKENDS.get(program.runtime)
    if program.format not in backend.formats:
        raise UnknownFormat(path, program.format, program.runtime, backend.formats)
    file = ProgramFile(
        path=path, format=program.format, precision=program.precision, device=program.device
    )
    try:
        if file.format not in backend.formats:
            raise ValueError(f"it opens {', '.join(backend.formats)}, not {file.format}")
        return backend.open(file, threads=threads, device_index=device_index)
    except RuntimeProblem:
        raise
    except Exception as error:  # runtimes share no class of errors
        raise BrokenProgram(path, program.runtime, error) from error
