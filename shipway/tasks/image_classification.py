"""Image classification: the bytes of an image in, the most probable classes out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shipway.artifact.manifest import Manifest
from shipway.payloads.schemas import Schema, one_or_several
from shipway.tasks import TASKS
from shipway.tasks.classes import ranked, ranked_schema
from shipway.tasks.images import ImageTask, image_contents


@TASKS.register("image_classification")
class ImageClassification(ImageTask):
    """The bytes of an image in, the most probable classes out."""

    output = "logits"
    classifies = True

    def answers(
        self, outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
    ) -> list[Any]:
        """The `top_k` classes of each image, from its scores."""
        return list(ranked(outputs, self._manifest))

    @classmethod
    def native_schema(cls, manifest: Manifest) -> tuple[dict[str, Schema], Schema]:
        """The image as a binary body, in a form or in JSON, or several; ranked classes of each."""
        return image_contents(), one_or_several(ranked_schema(manifest))
