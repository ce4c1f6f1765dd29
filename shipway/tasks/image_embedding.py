"""Image embedding: the bytes of an image, or of several, in; a vector for each out."""

from shipway.artifact.manifest import Manifest
from shipway.payloads.schemas import Schema, an_object, one_or_several
from shipway.tasks import TASKS
from shipway.tasks.images import ImageTask, image_contents
from shipway.tasks.values import VECTOR, EmbeddingTask


@TASKS.register("image_embedding")
class ImageEmbedding(EmbeddingTask, ImageTask):
    """The bytes of an image, or of several, in; a vector for each out."""

    @classmethod
    def native_schema(cls, manifest: Manifest) -> tuple[dict[str, Schema], Schema]:
        """The image as a binary body, in a form or in JSON, or several; a vector for each."""
        return image_contents(), one_or_several(an_object(VECTOR))
