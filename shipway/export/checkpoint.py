"""Finds the weights of a module in a checkpoint, and loads them.

Training frameworks wrap a state_dict in various ways. What is found must fit the module in every
name and shape, as `load_state_dict(strict=True)` wants it; of several that do, none is chosen.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shipway.export.checkpoint_files import read_checkpoint
from shipway.export.errors import CheckpointDoesNotFit, UnreadableCheckpoint
from shipway.recipe import Checkpoint

SHOWN = 5
"""The most keys that an error lists."""
NEAREST = 3
"""Names that are shown as similar to one that is missing."""
DEEPEST = 4
"""Entries of entries in which weights are looked for."""
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts of names that data parallelism, `torch.compile` and activation checkpointing add."""
OF_AVERAGES = "n_averaged"
"""What `torch.optim.swa_utils.AveragedModel` keeps beside the averaged weights."""

State = dict[str, Any]
"""Tensors by name, and the `_extra_state` of modules that have one."""


@dataclass(frozen=True, slots=True)
class _Fit:
    """Weights that fit."""

    entry: str
    """Empty for the checkpoint itself."""
    state: State
    how: tuple[str, ...]
    """What was done to the names."""


def load_checkpoint(module: nn.Module, path: Path, settings: Checkpoint) -> str:
    """Loads the checkpoint at `path` into `module`. Returns in a few words what had to be done for
    it to fit, empty if nothing.

    Raises UnreadableCheckpoint, or CheckpointDoesNotFit with the differences.
    """
    target = _Target(module, settings)
    found = _entries(read_checkpoint(path), settings.entry, path)
    fits = [fit for entry, state in found.items() if (fit := target.fit(entry, state))]
    if not fits:
        raise CheckpointDoesNotFit(f"{path} {target.differences_from(found)}")
    if any(not _equal(fit.state, fits[0].state) for fit in fits[1:]):
        names = [fit.entry for fit in fits]
        raise CheckpointDoesNotFit(
            f"{path} has several sets of weights that fit {type(module).__name__}, with different "
            f"values: {_listed(names)}. Say in the recipe which one is served, for example "
            f'checkpoint=Checkpoint(entry="{names[0]}").'
        )
    target.load(fits[0].state)
    entry = fits[0].entry
    return ", ".join(([f"from `{entry}`"] if entry else []) + list(fits[0].how))


def _entries(content: object, wanted: str | None, path: Path) -> dict[str, State]:
    """The sets of tensors in a checkpoint by the names of their entries."""
    found = dict(_sets_of_tensors(content, ""))
    if wanted is not None:
        chosen = {name: state for name, state in found.items() if name == wanted}
        if not chosen:
            raise CheckpointDoesNotFit(
                f"{path} has no weights in an entry {wanted!r}. It has some in: "
                f"{_listed([name or '(the checkpoint itself)' for name in found]) or 'none'}. "
                "Correct the recipe's `checkpoint`."
            )
        return chosen
    if found:
        return found
    if isinstance(content, Mapping) and content:
        raise UnreadableCheckpoint(
            f"{path} contains values that are not tensors: {_listed([*map(str, content)])}. Save "
            "the state_dict: torch.save(model.state_dict(), PATH)."
        )
    raise UnreadableCheckpoint(
        f"{path} contains a {type(content).__name__}; expected a state_dict. Save one with "
        "torch.save(model.state_dict(), PATH)."
    )


def _sets_of_tensors(content: object, name: str, depth: int = 0) -> Iterator[tuple[str, State]]:
    """Each mapping with a tensor in it, by the names that lead to it."""
    items: Mapping[Any, Any]
    if isinstance(content, Mapping):
        items = content
    elif isinstance(content, list | tuple):
        items = {str(place): each for place, each in enumerate(content)}
    else:
        return
    if depth > DEEPEST or not all(isinstance(key, str) for key in items):
        return  # an optimizer numbers its parameters
    if isinstance(content, Mapping) and any(isinstance(each, Tensor) for each in items.values()):
        yield name, dict(items)
    for key, each in items.items():
        yield from _sets_of_tensors(each, f"{name}.{key}" if name else key, depth + 1)


class _Target:
    """A module, and what fits it."""

    def __init__(self, module: nn.Module, settings: Checkpoint) -> None:
        self._module = module
        self._settings = settings
        self._expected: State = module.state_dict()
        self._begins_with = {
            name: value.detach().clone() if isinstance(value, Tensor) else value
            for name, value in self._expected.items()
        }

    def fit(self, entry: str, state: State) -> _Fit | None:
        """The weights of an entry under the module's names, if they fit."""
        for named, how in self._readings(self._renamed(state)):
            complete, filled = self._completed(named)
            if self._takes(complete):
                return _Fit(entry, complete, (*how, *filled))
        return None

    def load(self, state: State) -> None:
        """Loads what fits."""
        self._module.load_state_dict(state, strict=True)

    def differences_from(self, found: Mapping[str, State]) -> str:
        """Why none of the entries fits: the differences from the nearest, and what would help."""
        entry, state = max(
            (
                (entry, reading)
                for entry, state in found.items()
                for reading, _ in self._readings(self._renamed(state))
            ),
            key=lambda each: len(each[1].keys() & self._expected.keys()),
        )
        state = self._completed(state)[0]
        missing = sorted(self._expected.keys() - state.keys())
        unexpected = sorted(state.keys() - self._expected.keys())
        misshapen = [
            f"{name} {tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
            for name, tensor in self._expected.items()
            if isinstance(tensor, Tensor)
            and isinstance(state.get(name), Tensor)
            and state[name].shape != tensor.shape
        ]
        differences = {
            "missing": missing,
            "unexpected": unexpected,
            "with another shape": misshapen,
        }
        listed = "; ".join(
            f"{len(keys)} {kind} ({_listed(keys)})" for kind, keys in differences.items() if keys
        )
        where = f"has weights in {entry!r} that do" if entry else "does"
        return (
            f"{where} not match {type(self._module).__name__}, which has {len(self._expected)} "
            f"tensors: {listed or 'load_state_dict refuses it'}."
            f"{self._nearest(missing, unexpected, state)}"
            f"{self._advice(missing, unexpected, misshapen, state)} Otherwise give a checkpoint "
            "of this architecture with --weights, or change `module` in the recipe."
        )

    def _nearest(self, missing: Sequence[str], unexpected: Sequence[str], state: State) -> str:
        """The names that are most like the first that is missing, or else unexpected."""
        if not (missing or unexpected):
            return ""
        name, others, where = (
            (missing[0], unexpected or sorted(state), "in the file")
            if missing
            else (unexpected[0], sorted(self._expected), "in the module")
        )
        near = difflib.get_close_matches(name, others, NEAREST, cutoff=0.0)
        return f" Nearest to {name} {where}: {', '.join(near)}." if near else ""

    def _advice(
        self,
        missing: Sequence[str],
        unexpected: Sequence[str],
        misshapen: Sequence[str],
        state: State,
    ) -> str:
        """What in the recipe would make it fit."""
        for prefix in sorted({name.partition(".")[0] + "." for name in unexpected}):
            inner = {name.removeprefix(prefix) for name in state if name.startswith(prefix)}
            if inner >= self._expected.keys() and not inner - self._expected.keys():
                return f' It fits with checkpoint=Checkpoint(prefix="{prefix}").'
        if misshapen:
            return ""
        if unexpected and not missing:
            patterns = ", ".join(f'"{each}"' for each in _patterns(unexpected, self._expected))
            return (
                " To leave those out that are unexpected, give "
                f"checkpoint=Checkpoint(ignored=({patterns},))."
            )
        if missing and not unexpected:
            patterns = ", ".join(f'"{each}"' for each in _patterns(missing, state))
            return (
                " To keep the values that the module begins with, give "
                f"checkpoint=Checkpoint(missing=({patterns},))."
            )
        return ""

    def _renamed(self, state: State) -> State:
        """What the recipe says is loaded, by the names that it gives."""
        settings, renamed = self._settings, State()
        for name, value in state.items():
            if not isinstance(value, Tensor) and name not in self._expected:
                continue  # such as the number of the epoch
            if not name.startswith(settings.prefix):
                continue
            name = name.removeprefix(settings.prefix)
            for pattern, replacement in settings.rename.items():
                name = re.sub(pattern, replacement, name)
            if not any(fnmatchcase(name, pattern) for pattern in settings.ignored):
                renamed[name] = value
        return renamed

    def _readings(self, state: State) -> Iterator[tuple[State, tuple[str, ...]]]:
        """The tensors under their own names, then under those without what wraps them."""
        yield state, ()
        if OF_AVERAGES in state and OF_AVERAGES not in self._expected:
            state = {name: value for name, value in state.items() if name != OF_AVERAGES}
        plain: State = {}
        removed: set[str] = set()
        for name, value in state.items():
            parts = name.split(".")
            kept = [part for part in parts if part not in WRAPPERS]
            removed.update(f"`{part}.`" for part in parts if part in WRAPPERS)
            plain[".".join(kept)] = value
        if removed and len(plain) == len(state):
            yield plain, (f"without {' and '.join(sorted(removed))}",)
        prefix = ""
        while common := _common(state):
            prefix += common
            state = {name.removeprefix(common): value for name, value in state.items()}
            yield state, (f"without `{prefix}`",)
        if added := _common(self._expected):
            yield {added + name: value for name, value in state.items()}, (f"under `{added}`",)

    def _completed(self, state: State) -> tuple[State, tuple[str, ...]]:
        """The tensors with those that are tied to them, and those that may be missing."""
        complete, how = dict(state), set[str]()
        shared: dict[int, str] = {}
        for name, tensor in self._expected.items():
            if name in state and isinstance(tensor, Tensor) and tensor.data_ptr():
                shared.setdefault(tensor.data_ptr(), name)
        for name, tensor in self._expected.items():
            if name in complete:
                continue
            twin = shared.get(tensor.data_ptr()) if isinstance(tensor, Tensor) else None
            if twin is not None and self._expected[twin].shape == tensor.shape:
                complete[name] = state[twin]
                how.add("with tied weights")
            elif any(fnmatchcase(name, pattern) for pattern in self._settings.missing):
                complete[name] = self._begins_with[name]
                how.add("with the module's own values where it may")
        return complete, tuple(sorted(how))

    def _takes(self, state: State) -> bool:
        """Whether `load_state_dict` does: hooks of a module may rename, and torch fills in counters
        that older versions did not save. The module has its own values again afterwards."""
        unlike = len(state.keys() ^ self._expected.keys())
        if not state or unlike >= len(state.keys() | self._expected.keys()):
            return False
        try:
            self._module.load_state_dict(state, strict=True)
        except Exception:  # of hooks, too
            return False
        finally:
            with torch.no_grad():
                for name, value in self._module.state_dict().items():
                    if isinstance(value, Tensor):
                        value.copy_(self._begins_with[name])
        return True


def _common(state: Mapping[str, object]) -> str:
    """The part before the first dot, and the dot, if all names have the same."""
    first = {name.partition(".")[0] if "." in name else "" for name in state}
    return f"{first.pop()}." if len(first) == 1 and "" not in first else ""


def _patterns(names: Sequence[str], others: Mapping[str, object]) -> list[str]:
    """Few patterns that match all names and none of the others."""
    found = dict[str, None]()
    for name in names:
        parts = name.split(".")
        starts = (".".join(parts[:count]) + ".*" for count in range(1, len(parts)))
        free = (each for each in starts if not any(fnmatchcase(other, each) for other in others))
        found[next(free, name)] = None
    return list(found)


def _equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) if isinstance(value, Tensor) else value == other[name]
        for name, value in one.items()
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
