"""Which of an artifact's programs runs on this host."""

import platform

from shipway.artifact.manifest import Manifest, Program, Requirements
from shipway.runtime.backends import BACKENDS
from shipway.runtime.errors import NoProgramFits
from shipway.runtime.host import cpu_flags, has_cuda, installed


def unsupported_reason(program: Program, device_index: int = 0) -> str | None:
    """Why this host cannot run a program, or None if it can."""
    requires: Requirements = program.requires
    if requires.machine and requires.machine != platform.machine():
        return f"made for {requires.machine}, this is {platform.machine()}"
    if lacking := [flag for flag in requires.cpu_flags if flag not in cpu_flags()]:
        return f"this processor lacks {', '.join(lacking)}"
    backend = BACKENDS.get(program.runtime)
    if installed(backend.package) is None:
        return f"the package {backend.package} is not installed"
    if program.device == "cuda" and not has_cuda():
        return "there is no CUDA device"
    if reason := backend.unsupported_reason(program):
        return reason
    for package, wanted in requires.packages.items():
        if (found := installed(package)) != wanted:
            return f"made with {package} {wanted}, here is {found or 'none'}"
    # Last, for it loads torch.
    capability = requires.compute_capability
    if capability and (here := _compute_capability(device_index)) != capability:
        return f"made for a GPU of compute capability {capability}, here is {here or 'none'}"
    return None


def _compute_capability(device_index: int) -> str | None:
    import torch

    if device_index >= torch.cuda.device_count():
        return None
    return "{}.{}".format(*torch.cuda.get_device_capability(device_index))


def choose_program(manifest: Manifest, device_index: int = 0) -> tuple[str, str | None]:
    """The program to run here, and, if it is not the chosen one, why not.

    Raises NoProgramFits if the portable one does not run here either.
    """
    reasons: dict[str, str] = {}
    for name in dict.fromkeys((manifest.chosen, manifest.fallback)):
        reason = unsupported_reason(manifest.programs[name], device_index)
        if reason is None:
            return name, reasons.get(manifest.chosen)
        reasons[name] = reason
    raise NoProgramFits(manifest.name, reasons)
