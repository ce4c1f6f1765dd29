"""TorchServe handler for image regression: images in, numbers out.

`shipway package` puts this file into the archive. To add a step before or after the model, copy it
to handlers/image_regression.py in your own folder and override `preprocess` or `postprocess`.
"""

from shipway.engines.torchserve.handler import Handler


class ImageRegressionHandler(Handler):
    """Serves an artifact of the task image_regression."""

    task = "image_regression"
