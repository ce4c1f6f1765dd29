"""Text regression: a text, or a list of texts, in; the predicted numbers out."""

from shipway.artifact.manifest import Manifest
from shipway.payloads.schemas import Schema, one_or_several
from shipway.tasks import TASKS
from shipway.tasks.texts import TextTask, noted, text_contents
from shipway.tasks.values import RegressionTask, valued_schema


@TASKS.register("text_regression")
class TextRegression(RegressionTask, TextTask):
    """A text, or a list of texts, in; the numbers that the model predicts for each out.
    Labels, if there are any, name them."""

    @classmethod
    def native_schema(cls, manifest: Manifest) -> tuple[dict[str, Schema], Schema]:
        """A text or a list of texts; the values of each."""
        return text_contents(), one_or_several(noted(valued_schema(manifest)))
