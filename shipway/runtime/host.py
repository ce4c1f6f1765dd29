"""What this machine offers: cores, processor features, GPUs."""

import os
import platform
import re
from collections.abc import Mapping
from functools import cache
from itertools import takewhile
from pathlib import Path

import psutil

from shipway.artifact.certificate import Host

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
NAMED_DEVICES = "SHIPWAY_CUDA_VISIBLE_DEVICES"
"""Holds the GPUs' names while TorchServe, which reads nothing but numbers, is given a count."""

_GPU = re.compile(r"\d+|(GPU|MIG)-[\w/-]+")


def available_cores() -> int:
    """The cores this process may use: its affinity, less what a container's quota takes away."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(allowed, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2, or a quota of "max"
        return allowed


def describe_host() -> Host:
    """This machine, for a record of what was measured on it."""

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(
            line.partition(":")[2].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        processor = platform.processor() or "unknown"
    return Host(
        processor=processor,
        machine=platform.machine(),
        cores=available_cores(),
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        python=platform.python_version(),
    )


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


def visible_devices(environment: Mapping[str, str] = os.environ) -> tuple[str, ...] | None:
    """The GPUs that CUDA_VISIBLE_DEVICES names, None if it is not set and all are visible.

    As CUDA reads it, anything else, such as -1, hides itself and all that comes after it.
    """
    value = environment.get(VISIBLE_DEVICES)
    if value is None:
        return None
    return tuple(takewhile(_GPU.fullmatch, (each.strip() for each in value.split(","))))


def own_device(gpu_id: int | None) -> int:
    """The index, among the GPUs this process sees, of the one that TorchServe gave this worker.

    Where `shipway serve` was given names, this process sees its own GPU alone from here on; CUDA
    shows a process one MIG instance at most. To be called before anything uses CUDA.
    """
    named = os.environ.get(NAMED_DEVICES)
    if named is None:
        return gpu_id or 0
    os.environ[VISIBLE_DEVICES] = named if gpu_id is None else named.split(",")[gpu_id]
    return 0


def has_cuda() -> bool:
    """Whether an NVIDIA GPU is here and visible to this process; asked without loading torch."""
    if visible_devices() == ():
        return False
    return Path("/proc/driver/nvidia/gpus").is_dir() or Path("/dev/nvidia0").exists()
