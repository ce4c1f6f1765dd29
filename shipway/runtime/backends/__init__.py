"""What opens programs: one file for each runtime, which a program's manifest names."""

from shipway.registry import Registry
from shipway.runtime.backends.base import Backend

BACKENDS: Registry[Backend] = Registry(
    "runtime backend", __name__, apart=("base", "torch_programs", "torch_cuda")
)
