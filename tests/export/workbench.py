"""The export's worker at work in this process, where tests can lay a broken program before it."""

import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from shipway.artifact.certificate import Candidate
from shipway.export import worker
from shipway.export.checkpoint import load_checkpoint
from shipway.export.clean_process import CleanProcess
from shipway.export.recipe_file import find_recipe
from shipway.export.served_module import as_served, layer_prefix, unwrapped
from shipway.export.techniques import TECHNIQUES
from shipway.export.techniques.base import Job
from shipway.recipe import Recipe
from shipway.runtime.batches import batches
from shipway.runtime.host import cpu_flags
from tests.conftest import TINY_RECIPE


class Workbench:
    """What worker.begin sets up for one recipe, without taking stdout and stderr."""

    def __init__(self, folder: Path, recipe_file: Path) -> None:
        self.recipe, _ = find_recipe(str(recipe_file))
        module = trained(self.recipe)
        self._assignment = worker.Assignment(
            recipe=str(recipe_file),
            weights=Path(str(self.recipe.weights())),
            folder=folder,
            threads=2,
            log=folder / "log",
        )
        self._assignment.programs.mkdir(parents=True)
        self.evaluation = self.recipe.evaluation.load(self.recipe)
        example = next(batches(self.evaluation.arrays, self.recipe.inputs, 2))
        served = unwrapped(
            as_served(module, self.recipe),
            self.recipe,
            [torch.from_numpy(each) for each in example],
        )
        self.job = Job(
            module=served.module,
            example=example,
            calibration=self.recipe.calibration.load(self.recipe),
            inputs=self.recipe.inputs,
            outputs=served.outputs,
            programs=self._assignment.programs,
            layer_prefix=layer_prefix(served.module),
        )
        self._take_the_worker()
        worker.reference()

    def attempt(self, name: str) -> Candidate:
        """Builds and verifies a candidate as an export does."""
        self._take_the_worker()
        return worker.attempt(name)

    def _take_the_worker(self) -> None:
        worker._elsewhere.cache_clear()  # another workbench's
        worker._assignment, worker._recipe = self._assignment, self.recipe
        worker._job, worker._evaluation = self.job, self.evaluation
        worker._clean = clean_process()


@cache
def clean_process() -> CleanProcess:
    """One for all workbenches: it takes seconds to start, and keeps nothing of a program."""
    return CleanProcess(Path(tempfile.mkdtemp(prefix="shipway-clean-")) / "log")


def trained(recipe: Recipe) -> nn.Module:
    """The recipe's module with its weights."""
    module = recipe.module()
    weights = Path(str(recipe.weights()))
    load_checkpoint(module, weights, recipe.checkpoint)
    return module


def passes(bench: Workbench, name: str) -> dict[str, int]:
    """Builds a candidate that must pass. Returns the heavy operations that ran, by precision.

    Empty for fp32 on torch, which does not log all of them.
    """
    technique = TECHNIQUES.get(name)
    on_cpu = technique.device == "cpu"
    if technique.precision == "bf16" and on_cpu and "avx512_bf16" not in cpu_flags():
        pytest.skip("this processor has no bf16 arithmetic")
    candidate = bench.attempt(name)
    assert candidate.passed, candidate.verdict
    return candidate.kernels.ran if candidate.kernels else {}


def edited(tmp_path: Path, **replacements: tuple[str, str]) -> str:
    """The tiny recipe with lines changed: `edited(tmp_path, any_name=("before", "after"))`."""
    text = TINY_RECIPE.read_text()
    for before, after in replacements.values():
        assert before in text
        text = text.replace(before, after)
    path = tmp_path / "edited_recipe.py"
    path.write_text(text)
    return str(path)
