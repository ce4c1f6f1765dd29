"""Tabular classification: a row of numbers, or a list of rows, in; ranked classes out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shipway.artifact.manifest import Manifest
from shipway.payloads.schemas import Schema, one_or_several
from shipway.tasks import TASKS
from shipway.tasks.classes import ranked, ranked_schema
from shipway.tasks.tables import TableTask, table_contents


@TASKS.register("tabular_classification")
class TabularClassification(TableTask):
    """A row of numbers, or a list of rows, in; the most probable classes of each out."""

    output = "logits"
    classifies = True

    def answers(
        self, outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
    ) -> list[Any]:
        """The `top_k` classes of each row, from its scores."""
        return list(ranked(outputs, self._manifest))

    @classmethod
    def native_schema(cls, manifest: Manifest) -> tuple[dict[str, Schema], Schema]:
        """A row or a list of rows in JSON; ranked classes of each."""
        return table_contents(manifest), one_or_several(ranked_schema(manifest))
