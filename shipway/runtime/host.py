"""What this machine offers, and whether a program can run on it."""

import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from shipway.artifact.manifest import Manifest, Program, Requirements
from shipway.runtime.errors import NoProgramFits


def available_cores() -> int:
    """The cores this process may use: its affinity, less what a container's quota takes away."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(allowed, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2, or a quota of "max"
        return allowed


@cache
def cpu_flags() -> frozenset[str]:
    """The processor's features as /proc/cpuinfo spells them; empty where there is no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def installed(package: str) -> str | None:
    """The version of a package, None if it is not installed."""
    # onnxruntime-gpu is the same library, made with other execution providers.
    for name in (package, f"{package}-gpu"):
        try:
            return version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
    return None


@cache
def has_cuda() -> bool:
    """Whether the driver of an NVIDIA GPU is at work here; asked without loading torch."""
    return Path("/proc/driver/nvidia/gpus").is_dir() or Path("/dev/nvidia0").exists()


def why_unfit(program: Program) -> str | None:
    """Why this host cannot run a program, or None if it can."""
    requires: Requirements = program.requires
    if requires.machine and requires.machine != platform.machine():
        return f"made for {requires.machine}, this is {platform.machine()}"
    if lacking := [flag for flag in requires.cpu_flags if flag not in cpu_flags()]:
        return f"this processor lacks {', '.join(lacking)}"
    if installed(program.runtime) is None:
        return f"the package {program.runtime} is not installed"
    if program.device == "cuda" and not has_cuda():
        return "there is no CUDA device"
    for package, wanted in requires.packages.items():
        if (found := installed(package)) != wanted:
            return f"made with {package} {wanted}, here is {found or 'none'}"
    return None


def choose_program(manifest: Manifest) -> tuple[str, str | None]:
    """The program to run here, and, if it is not the chosen one, why not.

    Raises NoProgramFits if the portable one does not run here either.
    """
    reasons: dict[str, str] = {}
    for name in dict.fromkeys((manifest.chosen, manifest.fallback)):
        reason = why_unfit(manifest.programs[name])
        if reason is None:
            return name, reasons.get(manifest.chosen)
        reasons[name] = reason
    raise NoProgramFits(manifest.name, reasons)
