"""Reads checkpoints from disk: one file, or shards with an index. Nothing is unpickled but tensors
and plain values."""

import argparse
import json
import pathlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shipway.artifact.digests import sha256_of
from shipway.export.errors import UnreadableCheckpoint

INDEX = ".index.json"
"""Ends the name of a file that says which shard holds which tensor."""
IN_A_FOLDER = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.safetensors",
)
"""What a folder of Hugging Face's libraries holds; the first that is there is read."""
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
CONVERT = (
    "If you trust the file, convert it: saved = torch.load(PATH, weights_only=False); "
    "torch.save(saved.state_dict(), NEW_PATH), where `saved` is a module, or "
    'torch.save(saved["state_dict"], NEW_PATH), where it is a dict.'
)

# Values that training scripts put beside the weights. None of them runs anything when it is
# unpickled: an array of objects holds what the unpickler allows, and nothing else.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    np.ndarray,
    *{type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?SU"},
    pathlib.PosixPath,
    (pathlib.PureWindowsPath, "pathlib.WindowsPath"),
    *(
        (example.__reduce__()[0], f"{package}.multiarray.{name}")  # NumPy 1 and 2
        for package in ("numpy.core", "numpy._core")
        for name, example in (("scalar", np.float64(0)), ("_reconstruct", np.zeros(1)))
    ),
]

_NOT_A_CHECKPOINT = (
    (b"version https://git-lfs", "is a pointer of Git LFS, not the file. Get it: git lfs pull."),
    (b"<!DOCTYPE", "is a page of a web site, not a checkpoint. Download the file itself."),
    (b"<!doctype", "is a page of a web site, not a checkpoint. Download the file itself."),
    (b"<html", "is a page of a web site, not a checkpoint. Download the file itself."),
    (b"\x1f\x8b", "is compressed by gzip. Unpack it: gunzip, or tar -xzf for several files."),
    (b"\x89HDF", "is an HDF5 file, as Keras writes it; expected a state_dict of PyTorch."),
    (b"GGUF", "is a GGUF file; expected a state_dict of PyTorch."),
)


def files_of(path: Path) -> list[Path]:
    """The files of a checkpoint: `path`, or the shards of an index or of a folder, and the index.
    Raises UnreadableCheckpoint if one is missing."""
    if path.is_dir():
        path = _in_folder(path)
    if not path.is_file():
        raise UnreadableCheckpoint(
            f"There is no checkpoint {path}. Check the path, or give another one with --weights."
        )
    if not path.name.endswith(INDEX):
        return [path]
    shards = [path.with_name(name) for name in sorted(set(_weight_map(path).values()))]
    missing = [each.name for each in shards if not each.is_file()]
    if missing:
        raise UnreadableCheckpoint(
            f"{len(missing)} of {len(shards)} files that {path} names are missing, the first is "
            f"{missing[0]}. Copy all of them beside it."
        )
    return [path, *shards]


def digest_of(path: Path) -> str:
    """The SHA-256 of a checkpoint of one file, or of the names and digests of several."""
    files = files_of(path)
    if len(files) == 1:
        return sha256_of(files[0])
    listed = "".join(f"{sha256_of(each)}  {each.name}\n" for each in files)
    return sha256(listed.encode()).hexdigest()


def read_checkpoint(path: Path) -> object:
    """What a checkpoint holds, its tensors on the CPU: .safetensors, what
    `torch.load(weights_only=True)` reads, an index with the shards beside it, or a folder with one
    of these. Raises UnreadableCheckpoint."""
    first, *shards = files_of(path)
    if not first.name.endswith(INDEX):
        return _read(first)
    places, found = _weight_map(first), dict[str, object]()
    for shard in shards:
        tensors = _read(shard)
        if not isinstance(tensors, Mapping):
            raise UnreadableCheckpoint(f"The shard {shard} holds no tensors by name.")
        found |= {name: each for name, each in tensors.items() if places.get(name) == shard.name}
    missing = sorted(places.keys() - found.keys())
    if missing:
        raise UnreadableCheckpoint(
            f"{first} names {len(missing)} tensors that no file holds, the first is {missing[0]}. "
            "Copy the files again."
        )
    return found


def _in_folder(folder: Path) -> Path:
    for name in IN_A_FOLDER:
        if (folder / name).is_file():
            return folder / name
    found = sorted(each for each in folder.iterdir() if each.suffix in SUFFIXES)
    if len(found) == 1:
        return found[0]
    if found:
        raise UnreadableCheckpoint(
            f"The folder {folder} holds {len(found)} checkpoints, such as {found[0].name} and "
            f"{found[1].name}. Give the path of one of them."
        )
    raise UnreadableCheckpoint(
        f"The folder {folder} holds no checkpoint: no file ends with {', '.join(SUFFIXES)}."
    )


def _weight_map(index: Path) -> dict[str, str]:
    """The file of each tensor, by an index of Hugging Face's format."""
    try:
        names = json.loads(index.read_text())["weight_map"]
        correct = isinstance(names, dict) and bool(names)
        correct = correct and all(
            isinstance(name, str) and Path(name).name == name for name in names.values()
        )
    except (OSError, ValueError, LookupError, TypeError):
        correct = False
    if not correct:
        raise UnreadableCheckpoint(
            f"{index} is not an index of shards. Expected a JSON object whose `weight_map` has the "
            "file of each tensor, all of them beside it."
        )
    return dict(names)


def _read(path: Path) -> object:
    with path.open("rb") as file:
        start = file.read(64)
    for magic, problem in _NOT_A_CHECKPOINT:
        if start.lstrip().startswith(magic):
            raise UnreadableCheckpoint(f"{path} {problem}")
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def _read_safetensors(path: Path) -> Mapping[str, Tensor]:
    # safetensors belongs to the extra `export`
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise UnreadableCheckpoint(
            f"{path} is not a complete safetensors file: {error}. Copy or save it again."
        ) from error


def _read_torch(path: Path) -> object:
    _refuse_programs(path)
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        objects = f"objects of {named[1]}" if named else "Python objects"
        raise UnreadableCheckpoint(
            f"{path} contains {objects}, or is not a checkpoint; expected a state_dict. "
            f"It was not loaded, because unpickling can run code. {CONVERT}"
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError, LookupError, TypeError) as error:
        reason = re.split(r"[.\n]", str(error))[0] or "it ends too early"
        raise UnreadableCheckpoint(
            f"{path} is not a complete checkpoint: {reason}. Copy or save it again."
        ) from error


def _refuse_programs(path: Path) -> None:
    """Raises UnreadableCheckpoint for a zip file of PyTorch that holds a program."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return  # an older format, or damaged
    inside = {name.partition("/")[2] for name in names}
    if any(name.startswith("code/") for name in inside):
        raise UnreadableCheckpoint(
            f"{path} is a TorchScript program; expected a state_dict. Save its weights: "
            "torch.save(torch.jit.load(PATH).state_dict(), NEW_PATH)."
        )
    if "archive_format" in inside or "archive_format" in names:
        raise UnreadableCheckpoint(
            f"{path} is a program of torch.export; expected a state_dict. Save its weights: "
            "torch.save(dict(torch.export.load(PATH).state_dict), NEW_PATH)."
        )
