"""TorchServe handler for models with tensors as inputs and outputs.

`shipway package` puts this file into the archive. To add a step before or after the model, copy it
to handlers/tensors.py in your own folder and override `preprocess` or `postprocess`.
"""

from shipway.engines.torchserve.handler import Handler


class TensorsHandler(Handler):
    """Serves an artifact of the task tensors."""

    task = "tensors"
