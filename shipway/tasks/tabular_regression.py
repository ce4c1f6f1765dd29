"""Tabular regression: a row of numbers, or a list of rows, in; the predicted numbers out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shipway.artifact.manifest import Manifest
from shipway.payloads.schemas import Schema, an_object, one_or_several
from shipway.tasks import TASKS
from shipway.tasks.tables import TableTask, table_contents
from shipway.tasks.values import valued, valued_schema


@TASKS.register("tabular_regression")
class TabularRegression(TableTask):
    """A row of numbers, or a list of rows, in; the numbers that the model predicts for each out.
    Labels, if there are any, name them."""

    output = "prediction"
    regresses = True

    def answers(
        self, outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
    ) -> list[Any]:
        """The values of each row, from predictions (B, …)."""
        return valued(outputs, self._manifest.labels)

    @classmethod
    def native_schema(cls, manifest: Manifest) -> tuple[dict[str, Schema], Schema]:
        """A row or a list of rows in JSON; the values of each."""
        return table_contents(manifest), one_or_several(an_object(valued_schema(manifest)))
