"""TorchServe handler for tabular classification: rows of numbers in, ranked classes out.

`shipway package` puts this file into the archive. To add a step before or after the model, copy it
to handlers/tabular_classification.py in your own folder and override `preprocess` or `postprocess`.
"""

from shipway.engines.torchserve.handler import Handler


class TabularClassificationHandler(Handler):
    """Serves an artifact of the task tabular_classification."""

    task = "tabular_classification"
