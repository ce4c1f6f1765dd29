"""What a worker is before TorchServe's own script: a start that those who answer hardly notice.

    python -P worker.py …/ts/model_service_worker.py ARGUMENTS

Importing torch is two seconds of a core, most of a worker's start, and 500 MB. TorchServe's script
does it for a question that is hardly ever asked, so here that waits for torch's first use. For an
archive that will use it, it is imported first of all, in a thread that runs only where nobody else
wants the core.
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

PATIENCE_S = 15.0
"""With the import. At 70% load it takes four; where the cores are never free, for ever."""
IN_A_HURRY = "SHIPWAY_WORKER_IN_A_HURRY"


class Later(ModuleType):
    """In place of a module until something of it is used, which imports it."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def main() -> None:
    """Runs the script of TorchServe that is the first argument."""
    # TorchServe starts a worker in the folder of its unpacked archive.
    archive = Path.cwd()
    if will_use_torch(archive) and IN_A_HURRY not in os.environ:
        import_torch_at_leisure(archive)
    sys.modules.setdefault("torch", Later("torch"))
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")


def will_use_torch(archive: Path) -> bool:
    """As far as its manifest tells: for its program, or for images, which torch resizes.

    If this is wrong, the start takes other cores' time or more memory, and nothing fails.
    """
    try:
        manifest = json.loads((archive / "artifact/manifest.json").read_bytes())
        runtime = manifest["programs"][manifest["chosen"]]["runtime"]
        return runtime == "torch" or manifest["preprocessing"]["kind"] == "image"
    except (OSError, ValueError, LookupError, TypeError):
        return True  # somebody else's archive


def import_torch_at_leisure(archive: Path) -> None:
    """Starts this process anew, in a hurry, if there is no leisure for it."""
    # NumPy comes along, and its threads would keep the priority of the one that made them. None of
    # this project's code multiplies matrices with it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    path = sys.path[:]
    # Nothing of the archive is to run before it was checked.
    sys.path[:] = [each for each in path if Path(each) != archive]
    # A thread of its own: without privileges none gets its priority back.
    thread = threading.Thread(target=_import_torch_when_idle, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    if thread.is_alive():
        os.environ[IN_A_HURRY] = "1"
        os.execv(sys.executable, sys.orig_argv)
    sys.path[:] = path


def _import_torch_when_idle() -> None:
    with suppress(AttributeError, OSError):  # not on Linux, or not permitted
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # Linux: of this thread
    with suppress(ImportError):  # whoever needs it will say so
        # torch takes seconds to import, which is what this thread is for.
        importlib.import_module("torch")


if __name__ == "__main__":
    main()
