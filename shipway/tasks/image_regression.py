"""Image regression: an image, or several, in; the predicted numbers out."""

from shipway.artifact.manifest import Manifest
from shipway.payloads.schemas import Schema, an_object, one_or_several
from shipway.tasks import TASKS
from shipway.tasks.images import ImageTask, image_contents
from shipway.tasks.values import RegressionTask, valued_schema


@TASKS.register("image_regression")
class ImageRegression(RegressionTask, ImageTask):
    """The bytes of an image, or of several, in; the numbers that the model predicts for each out.
    Labels, if there are any, name them."""

    @classmethod
    def native_schema(cls, manifest: Manifest) -> tuple[dict[str, Schema], Schema]:
        """The image as a binary body, in a form or in JSON, or several; the values of each."""
        return image_contents(), one_or_several(an_object(valued_schema(manifest)))
