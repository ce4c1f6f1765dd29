"""The arrays that the processes of an export hand to each other, in the candidate cache's folder.

N = rows.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path

import numpy as np

from shipway.recipe import Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """A folder of the candidate cache, and what it holds beside the records of candidates."""

    folder: Path

    @property
    def programs(self) -> Path:
        """The folder that programs are built in."""
        return self.folder / "programs"

    @property
    def reference(self) -> Path:
        """The folder of eager's outputs for the evaluation rows."""
        return self.folder / "reference"

    def write_reference(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Saves eager's outputs by name, each (N, …)."""
        self.reference.mkdir(exist_ok=True)
        for index, output in enumerate(outputs.values()):
            np.save(self.reference / f"{index}.npy", output)
        (self.reference / "names.json").write_text(json.dumps(list(outputs)))

    def read_reference(self) -> dict[str, np.ndarray]:
        """Eager's outputs for the evaluation rows by name, each (N, …)."""
        names = json.loads((self.reference / "names.json").read_text())
        return {name: np.load(self.reference / f"{index}.npy") for index, name in enumerate(names)}

    def write_rows(self, role: str, rows: Rows) -> None:
        """Saves rows; `role` is "calibration" or "evaluation"."""
        for index, array in enumerate(rows.arrays):
            np.save(self.folder / f"{role}-{index}.npy", array)
        if rows.targets is not None:
            np.save(self.folder / f"{role}-targets.npy", rows.targets)
        if rows.groups is not None:
            np.save(self.folder / f"{role}-groups.npy", rows.groups)

    def read_rows(self, role: str) -> Rows:
        """The rows that `write_rows` saved."""
        paths = (self.folder / f"{role}-{index}.npy" for index in count())
        targets, groups = (self.folder / f"{role}-{part}.npy" for part in ("targets", "groups"))
        return Rows(
            tuple(np.load(path) for path in takewhile(Path.exists, paths)),
            np.load(targets) if targets.exists() else None,
            np.load(groups) if groups.exists() else None,
        )
