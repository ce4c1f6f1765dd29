"""TorchServe handler for image embedding: images in, vectors out.

`shipway package` puts this file into the archive. To add a step before or after the model, copy it
to handlers/image_embedding.py in your own folder and override `preprocess` or `postprocess`.
"""

from shipway.engines.torchserve.handler import Handler


class ImageEmbeddingHandler(Handler):
    """Serves an artifact of the task image_embedding."""

    task = "image_embedding"
