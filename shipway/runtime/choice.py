"""The choice of the program of an artifact that runs on this host."""

import platform

from shipway.artifact.manifest import Manifest, Program, Requirements
from shipway.runtime.backends import BACKENDS
from shipway.runtime.backends.packages import installed
from shipway.runtime.errors import NoProgramFits
from shipway.runtime.host import cpu_flags, has_cuda


def unsupported_reason(program: Program, device_index: int = 0) -> str | None:
    """Why this host cannot run a program, or None if it can.

    `device_index` is the GPU, for a program compiled for one. Raises UnknownName for a runtime that
    is not registered.
    """
    requires: Requirements = program.requires
    if requires.machine and requires.machine != platform.machine():
        return f"it was made for {requires.machine}, and this host is {platform.machine()}"
    if missing := [flag for flag in requires.cpu_flags if flag not in cpu_flags()]:
        return f"this processor lacks {', '.join(missing)}"
    backend = BACKENDS.get(program.runtime)
    if installed(backend.package) is None:
        return f"the package {backend.package} is not installed"
    if program.device == "cuda" and not has_cuda():
        return "there is no CUDA device"
    if reason := backend.unsupported_reason(program):
        return reason
    for package, version in requires.packages.items():
        if (here := installed(package)) != version:
            return f"it was made with {package} {version}, and this host has {here or 'none'}"
    # Last, because it loads torch.
    capability = requires.compute_capability
    if capability and (here := _compute_capability(device_index)) != capability:
        return (
            f"it was made for a GPU of compute capability {capability}, and this host has "
            f"{here or 'none'}"
        )
    return None


def _compute_capability(device_index: int) -> str | None:
    import torch  # torch takes seconds to import

    if device_index >= torch.cuda.device_count():
        return None
    return "{}.{}".format(*torch.cuda.get_device_capability(device_index))


def choose_program(manifest: Manifest, device_index: int = 0) -> tuple[str, str | None]:
    """The name of the program to run on this host, and why it is not the chosen one, or None if it
    is.

    Raises NoProgramFits if the fallback does not run here either, and UnknownName for a runtime
    that is not registered.
    """
    reasons: dict[str, str] = {}
    for name in dict.fromkeys((manifest.chosen, manifest.fallback)):
        reason = unsupported_reason(manifest.programs[name], device_index)
        if reason is None:
            return name, reasons.get(manifest.chosen)
        reasons[name] = reason
    raise NoProgramFits(manifest.name, reasons)
