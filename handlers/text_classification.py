"""TorchServe handler for text classification: texts in, ranked classes out.

`shipway package` puts this file into the archive. To add a step before or after the model, copy it
to handlers/text_classification.py in your own folder and override `preprocess` or `postprocess`.
"""

from shipway.engines.torchserve.handler import Handler


class TextClassificationHandler(Handler):
    """Serves an artifact of the task text_classification."""

    task = "text_classification"
