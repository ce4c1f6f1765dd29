"""Loads a state_dict into a module, without unpickling anything but tensors."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from shipway.export.errors import CheckpointDoesNotFit, UnreadableCheckpoint

SHOWN = 5
"""The most keys that an error lists."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads the tensors of a checkpoint by name, on the CPU.

    Reads .safetensors, and what `torch.load(weights_only=True)` reads. Unwraps the
    `{"state_dict": …}` of training frameworks and the `module.` of DistributedDataParallel.
    Raises UnreadableCheckpoint.
    """
    if not path.is_file():
        raise UnreadableCheckpoint(
            f"There is no checkpoint {path}. Check the path, or give another one with --weights."
        )
    content = _load(path)
    for wrapper in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise UnreadableCheckpoint(
            f"{path} contains a {type(content).__name__}; expected a state_dict. Save one with "
            "torch.save(model.state_dict(), PATH)."
        )
    others = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise UnreadableCheckpoint(
            f"{path} contains values that are not tensors: {', '.join(others[:SHOWN])}. Save "
            "the state_dict only: torch.save(model.state_dict(), PATH)."
        )
    if all(key.startswith("module.") for key in content):
        content = {key.removeprefix("module."): value for key, value in content.items()}
    return dict(content)


def _load(path: Path) -> object:
    if path.suffix == ".safetensors":
        # safetensors belongs to the extra `export`
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise UnreadableCheckpoint(
                f"{path} is not a complete safetensors file: {error}. Copy or save it again."
            ) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnreadableCheckpoint(
            f"{path} contains Python objects, or is not a checkpoint; expected a state_dict. "
            "It was not loaded, because unpickling can run code. If you trust the file, "
            "convert it: model = torch.load(PATH, weights_only=False); "
            "torch.save(model.state_dict(), NEW_PATH)."
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UnreadableCheckpoint(
            f"{path} is not a complete checkpoint: {reason}. Copy or save it again."
        ) from error


def load_weights(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Loads `state` into `module`. Raises CheckpointDoesNotFit, which lists the differences."""
    expected = module.state_dict()
    differences = {
        "missing": sorted(expected.keys() - state.keys()),
        "unexpected": sorted(state.keys() - expected.keys()),
        "with another shape": [
            f"{key} {tuple(state[key].shape)}, expected {tuple(expected[key].shape)}"
            for key in expected
            if key in state and state[key].shape != expected[key].shape
        ],
    }
    listed = [
        f"{len(keys)} {kind} ({', '.join(keys[:SHOWN])}{', …' if len(keys) > SHOWN else ''})"
        for kind, keys in differences.items()
        if keys
    ]
    if listed:
        raise CheckpointDoesNotFit(
            f"{path} does not match {type(module).__name__}, which has {len(expected)} "
            f"tensors: {'; '.join(listed)}. Give a checkpoint of this architecture with "
            "--weights, or change `module` in the recipe."
        )
    module.load_state_dict(dict(state), strict=True)
