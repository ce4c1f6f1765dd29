"""The export's worker at work in this process, where tests can lay a broken program before it."""

from pathlib import Path

from torch import nn

from shipway.artifact.certificate import Candidate
from shipway.export import worker
from shipway.export.checkpoint import load_weights, read_state_dict
from shipway.export.recipe_file import find_recipe
from shipway.export.served_module import as_served, layer_prefix
from shipway.export.techniques.base import Job
from shipway.recipe import Recipe
from shipway.runtime.batches import batches
from shipway.tasks import TASKS


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
        served = as_served(module, self.recipe)
        self.job = Job(
            module=served,
            example=next(batches(self.evaluation.arrays, self.recipe.inputs, 2)),
            calibration=self.recipe.calibration.load(self.recipe),
            inputs=self.recipe.inputs,
            output=TASKS.get(self.recipe.task).output,
            programs=self._assignment.programs,
            layer_prefix=layer_prefix(served),
        )
        self._take_the_worker()
        worker.reference()

    def attempt(self, name: str) -> Candidate:
        """Builds and verifies a candidate as an export does."""
        self._take_the_worker()
        return worker.attempt(name)

    def _take_the_worker(self) -> None:
        worker._assignment, worker._recipe = self._assignment, self.recipe
        worker._job, worker._evaluation = self.job, self.evaluation


def trained(recipe: Recipe) -> nn.Module:
    """The recipe's module with its weights."""
    module = recipe.module()
    weights = Path(str(recipe.weights()))
    load_weights(module, read_state_dict(weights), weights)
    return module
