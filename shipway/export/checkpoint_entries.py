"""The sets of tensors in a checkpoint, and their names."""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from shipway.export.errors import CheckpointDoesNotFit, UnreadableCheckpoint

SHOWN = 5
"""The most keys that an error lists."""
DEEPEST = 4
"""Entries of entries in which weights are looked for."""
_NOT_WEIGHTS = re.compile(r"optim|grad|exp_avg|momentum_buffer|scheduler|scaler")
"""In the names of entries with tensors that may fit a module, and are no weights of it."""
_IN_A_MODULE = "\0"
"""A name in a module, to find what the module itself would be called."""


@dataclass(frozen=True, slots=True)
class State:
    """Tensors by name, the `_extra_state` of modules that have one, and what torch notes of each
    module beside them: the version of its layout."""

    values: dict[str, Any]
    versions: Mapping[str, Any] = field(default_factory=dict)

    def named(self, rename: Callable[[str], str | None]) -> "State":
        """With other names; without those that become None. Raises SameName."""
        values: dict[str, Any] = {}
        for name, value in self.values.items():
            if (new := rename(name)) is None:
                continue
            if new in values:
                raise SameName(new)
            values[new] = value
        versions = {}
        for module, version in self.versions.items():
            inside = rename(f"{module}.{_IN_A_MODULE}" if module else _IN_A_MODULE)
            if inside is not None and inside.endswith(_IN_A_MODULE):
                versions[inside.removesuffix(_IN_A_MODULE).removesuffix(".")] = version
        return State(values, versions)

    def with_values(self, values: dict[str, Any]) -> "State":
        """With other values."""
        return State(values, self.versions)

    def for_torch(self) -> OrderedDict[str, Any]:
        """What `load_state_dict` takes."""
        found = OrderedDict(self.values)
        if self.versions:
            found._metadata = OrderedDict(self.versions)  # type: ignore[attr-defined]
        return found


class SameName(Exception):
    """Two tensors would have the same name."""


def entries_of(content: object, wanted: str | None, path: Path) -> dict[str, State]:
    """The sets of tensors in a checkpoint by the names of their entries."""
    found: dict[str, State] = {}
    for name, state in _sets_of_tensors(content, ""):
        if name in found:  # one has a dot in its name, another is inside of an entry
            raise CheckpointDoesNotFit(
                f"{path} has two entries {name!r}. Save the one that is served by itself: "
                "torch.save(model.state_dict(), PATH)."
            )
        found[name] = state
    if wanted is not None:
        if wanted not in found:
            raise CheckpointDoesNotFit(
                f"{path} has no weights in an entry {wanted!r}. It has some in: "
                f"{listed([name or '(the checkpoint itself)' for name in found]) or 'none'}. "
                "Correct the recipe's `checkpoint`."
            )
        return {wanted: found[wanted]}
    weights = {name: each for name, each in found.items() if not _NOT_WEIGHTS.search(name.lower())}
    if weights:
        return weights
    if isinstance(content, Mapping) and content:
        raise UnreadableCheckpoint(
            f"{path} contains values that are not tensors: {listed([*map(str, content)])}. Save "
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
        yield name, State(dict(items), getattr(content, "_metadata", None) or {})
    for key, each in items.items():
        yield from _sets_of_tensors(each, f"{name}.{key}" if name else key, depth + 1)


def listed(names: Sequence[str]) -> str:
    """The first of the names, for an error."""
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
