"""TorchServe handler for image segmentation: images in, masks out.

`shipway package` puts this file into the archive. To add a step before or after the model, copy it
to handlers/image_segmentation.py in your own folder and override `preprocess` or `postprocess`.
"""

from shipway.engines.torchserve.handler import Handler


class ImageSegmentationHandler(Handler):
    """Serves an artifact of the task image_segmentation."""

    task = "image_segmentation"
