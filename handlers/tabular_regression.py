"""TorchServe handler for tabular regression: rows in, numbers out.

`shipway package` puts this file into the archive. To add a step before or after the model, copy it
to handlers/tabular_regression.py in your own folder and override `preprocess` or `postprocess`.
"""

from shipway.engines.torchserve.handler import Handler


class TabularRegressionHandler(Handler):
    """Serves an artifact of the task tabular_regression."""

    task = "tabular_regression"
