"""Starts workers as TorchServe does, one for each folder named on the command line.

All of them are forks of this process, which has imported what is slow to import and nothing of the
project: a worker's own code comes from its folder. Prints a JSON object for each folder: why the
worker did not start, null if it did.
"""

import importlib
import json
import os
import sys
from pathlib import Path

import numpy
import onnxruntime
import orjson
import PIL.Image
import psutil
import pydantic
import tokenizers
import torch.export
from ts.model_loader import TsModelLoader

SLOW = (numpy, onnxruntime, orjson, PIL.Image, psutil, pydantic, tokenizers, torch.export)


def start(folder: Path) -> str | None:
    """What TorchServe's worker does on its first message, with `folder` on PYTHONPATH as there."""
    sys.path.insert(1, str(folder))
    importlib.invalidate_caches()
    try:
        service = TsModelLoader().load("tiny", str(folder), "entry.py", None, 1, None)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    assert service is not None
    return None


def in_a_fork(folder: Path) -> str | None:
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.close(read)
        with os.fdopen(write, "w") as file:
            json.dump(start(folder), file)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        said = file.read()
    _, status = os.waitpid(child, 0)
    return json.loads(said) if status == 0 else f"it ended with status {status}"


def main() -> None:
    assert not {"shipway", "handler"} & set(sys.modules)
    for folder in map(Path, sys.argv[1:]):
        print(json.dumps({folder.name: in_a_fork(folder)}), flush=True)


if __name__ == "__main__":
    main()
