"""Tabular regression: a row of numbers, or a list of rows, in; the predicted numbers out."""

from shipway.artifact.manifest import Manifest
from shipway.payloads.schemas import Schema, an_object, one_or_several
from shipway.tasks import TASKS
from shipway.tasks.tables import TableTask, table_contents
from shipway.tasks.values import RegressionTask, valued_schema


@TASKS.register("tabular_regression")
class TabularRegression(RegressionTask, TableTask):
    """A row of numbers, or a list of rows, in; the numbers that the model predicts for each out.
    Labels, if there are any, name them."""

    @classmethod
    def native_schema(cls, manifest: Manifest) -> tuple[dict[str, Schema], Schema]:
        """A row or a list of rows in JSON; the values of each."""
        return table_contents(manifest), one_or_several(an_object(valued_schema(manifest)))
