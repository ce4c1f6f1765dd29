"""Text embedding: a text, or a list of texts, in; a vector for each out."""

from shipway.artifact.manifest import Manifest
from shipway.payloads.schemas import Schema, one_or_several
from shipway.tasks import TASKS
from shipway.tasks.texts import TextTask, noted, text_contents
from shipway.tasks.values import VECTOR, EmbeddingTask


@TASKS.register("text_embedding")
class TextEmbedding(EmbeddingTask, TextTask):
    """A text, or a list of texts, in; a vector for each out."""

    @classmethod
    def native_schema(cls, manifest: Manifest) -> tuple[dict[str, Schema], Schema]:
        """A text or a list of texts; a vector for each."""
        return text_contents(), one_or_several(noted(VECTOR))
