"""Runtime backends: what opens and runs programs, one file for each runtime.

Backends also come from installed packages, by an entry point in the group
`shipway.runtime.backends`, and from the plugins of a recipe.
"""

from shipway.registry import Registry
from shipway.runtime.backends.base import Backend

BACKENDS: Registry[Backend] = Registry(
    "runtime backend",
    __name__,
    apart=("base", "errors", "packages", "torch_programs", "torch_cuda"),
)
