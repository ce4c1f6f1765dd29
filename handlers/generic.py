"""TorchServe handler for an artifact of any task, such as one that a plugin registers.

`shipway package` puts this file into the archive of a task that has no handler file of its own.
"""

from shipway.engines.torchserve.handler import Handler


class GenericHandler(Handler):
    """Serves the task that the artifact's manifest names."""
