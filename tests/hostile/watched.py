"""Serves artifacts with everything that could unpickle being watched. Prints one JSON object.

Arguments: a folder with an artifact in each of `FORMATS` and `npy`, and a file `photo`. Beside each
artifact of FORMATS lies `FORMAT.evil`, a program in its place that leaves a mark when it is run.
"""

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.export

from shipway.artifact.bundle import open_artifact
from shipway.artifact.digests import sha256_of
from shipway.errors import ShipwayError
from shipway.payloads.request import Request
from shipway.payloads.tensors import DATATYPE_OF
from shipway.recipe import TensorSpec
from shipway.runtime.backends.torch_programs import TorchExportProgram
from shipway.runtime.model import Model
from shipway.serving.service import Service
from tests.hostile import payloads

FORMATS = ("onnx", "torchscript", "torch_export")
events: list[str] = []
"""What pickles asked for by name: without a name, a pickle can run nothing."""
opened: list[tuple[str, str, object]] = []
"""What torch was given to open: the function, the file's SHA-256, `weights_only`."""


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class":
        events.append(f"{arguments[:2]}"[:200])


def listening(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(file: Any, *arguments: Any, **options: Any) -> Any:
        digest = sha256_of(Path(file)) if isinstance(file, str | Path) else ""
        opened.append((name, digest, options.get("weights_only")))
        return real(file, *arguments, **options)

    return call


def answers(folder: Path, requests: Callable[[TensorSpec], Sequence[Request]]) -> list[int]:
    model = Model(open_artifact(folder), workers=1, most_rows=4)
    model.warm_up()
    return [each.status for each in Service(model).answer(requests(model.manifest.inputs[0]))]


def rows_of(spec: TensorSpec) -> np.ndarray:
    return np.zeros((2, *(each for each in spec.shape[1:] if isinstance(each, int))), spec.dtype)


def photo_and_v2(photo: bytes, spec: TensorSpec) -> list[Request]:
    """A photo, and two rows as v2 tensors in JSON and in binary."""
    rows = rows_of(spec)
    tensor = {"name": spec.name, "datatype": DATATYPE_OF[spec.dtype], "shape": list(rows.shape)}
    in_json = json.dumps({"inputs": [tensor | {"data": rows.ravel().tolist()}]})
    header = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": rows.nbytes}}]})
    return [
        Request({"body": photo}),
        Request({"body": in_json.encode()}, {"content-type": "application/json"}),
        Request(
            {"body": header.encode() + rows.tobytes()},
            {"inference-header-content-length": str(len(header))},
        ),
    ]


def npy(array: np.ndarray) -> Request:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return Request({"body": file.getvalue()}, {"content-type": "application/octet-stream"})


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("raise SystemExit('a pickle in a .npy file ran')",)


def swapped_after_opening(folder: Path, evil: Path) -> str:
    """What becomes of a worker whose program is another when it is time to open it."""
    copy = Path(shutil.copytree(folder, folder.with_suffix(".swapped")))
    artifact = open_artifact(copy)
    shutil.copyfile(evil, copy / artifact.manifest.programs[artifact.manifest.chosen].file)
    try:
        Model(artifact)
    except ShipwayError as error:
        return type(error).__name__
    return "it was opened"


def leaves_a_mark(open_it: Callable[[], object]) -> bool:
    """Whether opening a program ran the payload in it."""
    mark = Path(os.environ[payloads.MARK])
    with contextlib.suppress(Exception):
        open_it()
    ran = mark.exists()
    mark.unlink(missing_ok=True)
    return ran


def main(home: Path) -> None:
    photo = (home / "photo").read_bytes()
    objects = npy(np.array([Evil(), Evil()], object))
    events.clear()
    sys.addaudithook(watch)
    torch.load = listening("torch.load", torch.load)
    torch.jit.load = listening("torch.jit.load", torch.jit.load)
    torch.export.load = listening("torch.export.load", torch.export.load)
    said: dict[str, Any] = {}
    for format in FORMATS:
        opened.clear()
        swapped = swapped_after_opening(home / format, home / f"{format}.evil")
        reached = [name for name, *_ in opened]
        statuses = answers(home / format, partial(photo_and_v2, photo))
        said[format] = {
            "swapped": swapped,
            "reached": reached,
            "statuses": statuses,
            "opened": list(opened),
        }
    said["npy"] = answers(home / "npy", lambda spec: [npy(rows_of(spec)), objects])
    said["events"] = list(events)
    evil = home / "torch_export.evil"
    said["ours_ran"] = leaves_a_mark(lambda: TorchExportProgram(evil, threads=1))
    said["torchs_ran"] = leaves_a_mark(lambda: torch.export.load(evil))
    print(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
