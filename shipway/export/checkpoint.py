"""A state_dict from disk into a module, without unpickling anything but tensors."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from shipway.export.errors import CheckpointDoesNotFit, UnreadableCheckpoint

SHOWN = 5
"""How many of the keys that do not fit an error names."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors by name, on the CPU.

    Takes .safetensors, and whatever `torch.load(weights_only=True)` does. Unwraps the
    `{"state_dict": …}` of training frameworks and the `module.` of DistributedDataParallel.
    Raises UnreadableCheckpoint.
    """
    if not path.is_file():
        raise UnreadableCheckpoint(f"There is no checkpoint {path}.")
    content = _load(path)
    for wrapper in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise UnreadableCheckpoint(
            f"{path} holds a {type(content).__name__}, not a state_dict. "
            "Save one with torch.save(model.state_dict(), PATH)."
        )
    strangers = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if strangers:
        raise UnreadableCheckpoint(
            f"{path} holds things that are no tensors: {', '.join(strangers[:SHOWN])}. "
            "Save torch.save(model.state_dict(), PATH) alone."
        )
    if all(key.startswith("module.") for key in content):
        content = {key.removeprefix("module."): value for key, value in content.items()}
    return dict(content)


def _load(path: Path) -> object:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise UnreadableCheckpoint(f"{path} is no whole safetensors file: {error}") from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnreadableCheckpoint(
            f"{path} is not a plain state_dict: it holds Python objects, or is no checkpoint at "
            "all. A pickle can run code when it is read, so it is not. Where you trust it, "
            "convert it: model = torch.load(PATH, weights_only=False); "
            "torch.save(model.state_dict(), NEW_PATH)."
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise UnreadableCheckpoint(f"{path} is no whole checkpoint: {reason}") from error


def load_weights(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Puts `state` into `module`; raises CheckpointDoesNotFit, naming every difference, if any."""
    wanted = module.state_dict()
    differences = {
        "missing": sorted(wanted.keys() - state.keys()),
        "unexpected": sorted(state.keys() - wanted.keys()),
        "of another shape": [
            f"{key} {tuple(state[key].shape)} for {tuple(wanted[key].shape)}"
            for key in wanted
            if key in state and state[key].shape != wanted[key].shape
        ],
    }
    found = [
        f"{len(keys)} {kind} ({', '.join(keys[:SHOWN])}{', …' if len(keys) > SHOWN else ''})"
        for kind, keys in differences.items()
        if keys
    ]
    if found:
        raise CheckpointDoesNotFit(
            f"{path} does not fit {type(module).__name__}: of {len(wanted)} tensors, "
            f"{'; '.join(found)}. Give the checkpoint of this architecture with --weights, "
            "or correct `module` in the recipe."
        )
    module.load_state_dict(dict(state), strict=True)
