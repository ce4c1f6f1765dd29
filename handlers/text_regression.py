"""TorchServe handler for text regression: texts in, numbers out.

`shipway package` puts this file into the archive. To add a step before or after the model, copy it
to handlers/text_regression.py in your own folder and override `preprocess` or `postprocess`.
"""

from shipway.engines.torchserve.handler import Handler


class TextRegressionHandler(Handler):
    """Serves an artifact of the task text_regression."""

    task = "text_regression"
