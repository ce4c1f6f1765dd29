"""TorchServe handler for token classification: texts in, entities out.

`shipway package` puts this file into the archive. To add a step before or after the model, copy it
to handlers/token_classification.py in your own folder and override `preprocess` or `postprocess`.
"""

from shipway.engines.torchserve.handler import Handler


class TokenClassificationHandler(Handler):
    """Serves an artifact of the task token_classification."""

    task = "token_classification"
