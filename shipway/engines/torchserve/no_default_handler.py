"""The handler of a model without a default version. `no_default.py` copies it to the placeholder.

It imports nothing of this package, because a worker may not find it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

REASON = "reason.txt"
"""The file in the placeholder's folder that says why there is no default version."""


class NoDefaultHandler:
    """Answers every request with 503 and the reason."""

    def initialize(self, context: Any) -> None:
        """Called by TorchServe at the start of a worker."""
        self._reason = Path(context.system_properties["model_dir"]) / REASON

    def handle(self, requests: Sequence[Any], context: Any) -> list[dict[str, Any]]:
        """Returns one error for each request. The reason is read anew: it may have changed."""
        message = self._reason.read_text()
        for index in range(len(requests)):
            context.set_response_status(503, "Service Unavailable", index)
        return [{"code": 503, "type": "NoDefaultVersion", "message": message} for _ in requests]
