"""TorchServe handler for text embedding: texts in, vectors out.

`shipway package` puts this file into the archive. To add a step before or after the model, copy it
to handlers/text_embedding.py in your own folder and override `preprocess` or `postprocess`.
"""

from shipway.engines.torchserve.handler import Handler


class TextEmbeddingHandler(Handler):
    """Serves an artifact of the task text_embedding."""

    task = "text_embedding"
