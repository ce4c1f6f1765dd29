"""Finds the weights of a module in a checkpoint, and loads them.

Training frameworks wrap a state_dict in various ways. What is found must fit the module in every
name and shape, as `load_state_dict(strict=True)` wants it; of several that do, none is chosen.
"""

import copy
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from shipway.export.checkpoint_entries import SameName, State, entries_of, listed
from shipway.export.checkpoint_files import read_checkpoint
from shipway.export.errors import CheckpointDoesNotFit
from shipway.recipe import Checkpoint

NEAREST = 3
"""Names that are shown as similar to one that is missing."""
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts of names that data parallelism, `torch.compile` and activation checkpointing add."""
EXTRA_STATE = "_extra_state"
"""What torch calls the state of a module that is no tensor."""
OF_AVERAGES = "n_averaged"
"""What `torch.optim.swa_utils.AveragedModel` keeps beside the averaged weights."""


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
    found = entries_of(read_checkpoint(path), settings.entry, path)
    try:
        fits = [fit for entry, state in found.items() if (fit := target.fit(entry, state))]
    except SameName as error:
        raise CheckpointDoesNotFit(
            f"The recipe's `rename` and `prefix` give two tensors of {path} the name {error}. "
            "Correct its `checkpoint`."
        ) from error
    if not fits:
        raise CheckpointDoesNotFit(f"{path} {target.differences_from(found)}")
    if any(not _equal(fit.state, fits[0].state) for fit in fits[1:]):
        names = [fit.entry for fit in fits]
        raise CheckpointDoesNotFit(
            f"{path} has several sets of weights that fit {type(module).__name__}, with different "
            f"values: {listed(names)}. Say in the recipe which one is served, for example "
            f'checkpoint=Checkpoint(entry="{names[0]}").'
        )
    target.load(fits[0].state)
    entry = fits[0].entry
    return ", ".join(([f"from `{entry}`"] if entry else []) + list(fits[0].how))


class _Target:
    """A module, and what fits it."""

    def __init__(self, module: nn.Module, settings: Checkpoint) -> None:
        """Raises CheckpointDoesNotFit for a module into which nothing can be loaded."""
        self._module = module
        self._settings = settings
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if is_lazy(tensor) or tensor.is_meta:
                what = "has no values" if tensor.is_meta else "has no shape yet"
                raise CheckpointDoesNotFit(
                    f"The module's {name} {what}. Build it on the CPU, without `meta`, and run a "
                    "module with lazy layers once, in the recipe's `module`."
                )
        self._expected: dict[str, Any] = module.state_dict()
        self._twins = _twins_in(self._expected)
        try:
            self._trial = copy.deepcopy(module)
        except Exception:  # some modules cannot be copied
            self._trial = module
        self._refusal = ""

    def fit(self, entry: str, state: State) -> _Fit | None:
        """The weights of an entry under the module's names, if they fit."""
        for named, how in self._readings(self._chosen(state)):
            complete, filled = self._completed(named)
            if self._takes(named, complete):
                return _Fit(entry, complete, (*how, *filled))
        return None

    def load(self, state: State) -> None:
        """Loads what fits."""
        self._module.load_state_dict(state.for_torch(), strict=True)

    def differences_from(self, found: Mapping[str, State]) -> str:
        """Why none of the entries fits: the differences from the nearest, and what would help."""
        entry, nearest = max(
            (
                (entry, reading)
                for entry, state in found.items()
                for reading, _ in self._readings(self._chosen(state))
            ),
            key=lambda each: len(each[1].values.keys() & self._expected.keys()),
        )
        state = self._completed(nearest)[0].values
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
        said = "; ".join(
            f"{len(keys)} {kind} ({listed(keys)})" for kind, keys in differences.items() if keys
        )
        where = f"has weights in {entry!r} that do" if entry else "does"
        return (
            f"{where} not match {type(self._module).__name__}, which has {len(self._expected)} "
            f"tensors: {said or self._refusal}."
            f"{self._nearest(missing, unexpected, state)}"
            f"{self._advice(missing, unexpected, misshapen, state)} Otherwise give a checkpoint "
            "of this architecture with --weights, or change `module` in the recipe."
        )

    def _nearest(
        self, missing: Sequence[str], unexpected: Sequence[str], state: Mapping[str, Any]
    ) -> str:
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
        state: Mapping[str, Any],
    ) -> str:
        """What in the recipe would make it fit."""
        for prefix in sorted({name.partition(".")[0] + "." for name in unexpected}):
            inner = {name.removeprefix(prefix) for name in state if name.startswith(prefix)}
            if inner >= self._expected.keys() and not inner - self._expected.keys():
                return f' It fits with checkpoint=Checkpoint(prefix="{prefix}").'
        if misshapen or not state:
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

    def _chosen(self, state: State) -> State:
        """What the recipe says is loaded, by the names that it gives."""
        settings = self._settings

        def rename(name: str) -> str | None:
            if not name.startswith(settings.prefix):
                return None
            name = name.removeprefix(settings.prefix)
            for pattern, replacement in settings.rename.items():
                name = re.sub(pattern, replacement, name)
            return None if any(fnmatchcase(name, each) for each in settings.ignored) else name

        weights = {  # without such as the number of the epoch
            name: value
            for name, value in state.values.items()
            if isinstance(value, Tensor) or name.rpartition(".")[2] == EXTRA_STATE
        }
        return state.with_values(weights).named(rename)

    def _readings(self, state: State) -> Iterator[tuple[State, tuple[str, ...]]]:
        """The tensors under their own names, then under those without what wraps them."""
        yield state, ()
        if OF_AVERAGES in state.values and OF_AVERAGES not in self._expected:
            state = state.named(lambda name: None if name == OF_AVERAGES else name)
        wrapped = {
            f"`{part}.`" for name in state.values for part in name.split(".") if part in WRAPPERS
        }
        plain = state
        with suppress(SameName):
            plain = state.named(
                lambda name: ".".join(part for part in name.split(".") if part not in WRAPPERS)
            )
            if wrapped:
                yield plain, (f"without {' and '.join(sorted(wrapped))}",)
        for stripped in (state, plain):
            prefix = ""
            while common := _common(stripped.values):
                prefix += common
                stripped = stripped.named(partial(_without, common))
                yield stripped, (f"without `{prefix}`",)
        if added := _common(self._expected):
            yield plain.named(lambda name: added + name), (f"under `{added}`",)

    def _completed(self, state: State) -> tuple[State, tuple[str, ...]]:
        """The tensors with those that are tied to them, and those that may be missing."""
        complete, how = dict(state.values), set[str]()
        for name, value in self._expected.items():
            if name in complete:
                continue
            twins = self._twins.get(name, ())
            twin = next((each for each in twins if each in state.values), None)
            if twin is not None:
                complete[name] = state.values[twin]
                how.add("with tied weights")
            elif any(fnmatchcase(name, pattern) for pattern in self._settings.missing):
                complete[name] = value
                how.add("with the module's own values where it may")
        return state.with_values(complete), tuple(sorted(how))

    def _takes(self, named: State, complete: State) -> bool:
        """Whether `load_state_dict` does: hooks of a module may rename, and torch fills in counters
        that older versions did not save. It is tried on a copy of the module."""
        if not named.values.keys() & self._expected.keys():
            return False
        if reason := self._lossy(complete.values):
            self._refusal = reason
            return False
        try:
            self._trial.load_state_dict(complete.for_torch(), strict=True)
        except Exception as error:  # of hooks, too
            self._refusal = f"load_state_dict refuses it: {str(error).strip()[:200]}"
            return False
        return True

    def _lossy(self, values: Mapping[str, Any]) -> str:
        """What would be lost without a word, if anything."""
        for name, expected in self._expected.items():
            value = values.get(name)
            if not isinstance(value, Tensor) or not isinstance(expected, Tensor):
                continue
            of_bytes = value.dtype in (torch.int8, torch.uint8)
            if (value.is_complex() and not expected.is_complex()) or (
                of_bytes and expected.is_floating_point()
            ):
                return f"{name} is {value.dtype}, and the module's {expected.dtype}"
            whole = value.is_floating_point() and not expected.is_floating_point()
            if whole and not expected.is_complex() and not torch.equal(value, value.round()):
                return f"{name} has fractions, and the module takes whole numbers"
        for name, twins in self._twins.items():
            for other in twins:
                one, two = values.get(name), values.get(other)
                if (
                    isinstance(one, Tensor)
                    and isinstance(two, Tensor)
                    and one.shape == two.shape
                    and not torch.equal(one, two)
                ):
                    return f"{name} and {other} differ, and are one tensor in the module"
        return ""


def _twins_in(state: Mapping[str, Any]) -> dict[str, list[str]]:
    """The names of the same tensor, for each that has several."""
    same: dict[object, list[str]] = {}
    for name, value in state.items():
        if isinstance(value, Tensor) and value.numel():
            key = value.data_ptr(), value.shape, value.stride(), value.dtype
            same.setdefault(key, []).append(name)
    return {name: names for names in same.values() if len(names) > 1 for name in names}


def _without(prefix: str, name: str) -> str | None:
    return name.removeprefix(prefix) if name.startswith(prefix) else None


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
    return one.values.keys() == other.values.keys() and all(
        torch.equal(value, other.values[name])
        if isinstance(value, Tensor)
        else value == other.values[name]
        for name, value in one.values.items()
    )
