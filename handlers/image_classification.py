"""TorchServe handler for image classification: the bytes of an image in, ranked classes out.

`shipway package` puts this file into the archive. To add a step before or after the model, copy it
to handlers/image_classification.py in your own folder and override `preprocess` or `postprocess`.
"""

from shipway.engines.torchserve.handler import Handler


class ImageClassificationHandler(Handler):
    """Serves an artifact of the task image_classification."""

    task = "image_classification"
