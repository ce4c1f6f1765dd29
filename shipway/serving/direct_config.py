"""How a worker answers requests that its server does not see. Its server says so in a variable."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

REPLY_VARIABLE = "SHIPWAY_MAX_REPLY_BYTES"
"""An environment variable: the bytes that a reply may have, of all requests of a batch together if
TorchServe sends them."""
DIRECT_VARIABLE = "SHIPWAY_DIRECT"
"""An environment variable: a DirectConfig as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectConfig:
    """The part that is the same for all workers of a server."""

    folder: Path
    """The private folder in which workers listen and announce themselves."""
    most_waiting: int
    """Requests that may wait for a worker."""
    max_body_bytes: int
    """Of a request."""
    answer_within_s: float
    """How long a batch may take, unless its archive says otherwise."""

    def to_json(self) -> str:
        """The value of the variable."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "DirectConfig":
        """The configuration in a variable's value."""
        fields = json.loads(text)
        return cls(**fields | {"folder": Path(fields["folder"])})
