"""Runs TorchServe's worker script so that its start takes little time from running workers.

    python -P worker.py …/ts/model_service_worker.py ARGUMENTS

Importing torch takes two seconds of a core, most of a worker's start, and 500 MB. TorchServe's
script imports it for a check that is rarely needed, so this script delays the import until torch is
used. For an archive that uses torch, it imports torch first, in a thread that runs only on idle
cores.
"""

import importlib
import json
import os
import runpy
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

IDLE_IMPORT_WITHIN_S = 15.0
"""For the import on idle cores. It takes 4 s at 70% load, and never ends if no core gets idle."""
RESTARTED = "SHIPWAY_WORKER_IN_A_HURRY"
"""Set in a worker that was restarted: it imports torch at normal priority."""


class LazyModule(ModuleType):
    """Stands for a module, which is imported when one of its attributes is first used."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def main() -> None:
    """Runs TorchServe's script, the first argument."""
    # TorchServe starts a worker in the folder of its unpacked archive.
    archive = Path.cwd()
    if will_use_torch(archive) and RESTARTED not in os.environ:
        import_torch_when_idle(archive)
    sys.modules.setdefault("torch", LazyModule("torch"))
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")


def will_use_torch(archive: Path) -> bool:
    """Whether the manifest names a torch program, or images, which torch resizes.

    A wrong answer costs time or memory at the start, but nothing fails.
    """
    try:
        manifest = json.loads((archive / "artifact/manifest.json").read_bytes())
        runtime = manifest["programs"][manifest["chosen"]]["runtime"]
        return runtime == "torch" or manifest["preprocessing"]["kind"] == "image"
    except (OSError, ValueError, LookupError, TypeError):
        return True  # not an archive of this project


def import_torch_when_idle(archive: Path) -> None:
    """Imports torch on idle cores. If that takes too long, restarts this process without it."""
    # torch imports NumPy, whose threads would keep the priority of the thread that starts them.
    # This project's code multiplies no matrices with NumPy.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    path = sys.path[:]
    # No code of the archive may run before the archive is checked.
    sys.path[:] = [entry for entry in path if Path(entry) != archive]
    # In a separate thread: an unprivileged thread cannot raise its priority again.
    thread = threading.Thread(target=_import_torch, daemon=True)
    thread.start()
    thread.join(IDLE_IMPORT_WITHIN_S)
    if thread.is_alive():
        os.environ[RESTARTED] = "1"
        os.execv(sys.executable, sys.orig_argv)
    sys.path[:] = path


def _import_torch() -> None:
    with suppress(AttributeError, OSError):  # not on Linux, or not permitted
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # on Linux, for this thread only
    with suppress(ImportError):  # code that needs torch will report it
        # torch takes seconds to import, which is what this thread is for.
        importlib.import_module("torch")


if __name__ == "__main__":
    main()
