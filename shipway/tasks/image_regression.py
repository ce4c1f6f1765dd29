"""Image regression: an image, or several, in; the predicted numbers out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shipway.artifact.manifest import Manifest
from shipway.payloads.schemas import Schema, an_object, one_or_several
from shipway.tasks import TASKS
from shipway.tasks.images import ImageTask, image_contents
from shipway.tasks.values import valued, valued_schema


@TASKS.register("image_regression")
class ImageRegression(ImageTask):
    """The bytes of an image, or of several, in; the numbers that the model predicts for each out.
    Labels, if there are any, name them."""

    output = "prediction"
    regresses = True

    def answers(
        self, outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
    ) -> list[Any]:
        """The values of each image, from predictions (B, …)."""
        return valued(outputs, self._manifest.labels)

    @classmethod
    def native_schema(cls, manifest: Manifest) -> tuple[dict[str, Schema], Schema]:
        """The image as a binary body, in a form or in JSON, or several; the values of each."""
        return image_contents(), one_or_several(an_object(valued_schema(manifest)))
