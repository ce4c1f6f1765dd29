"""What there is to say of a batch of requests once it is answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from shipway.runtime.model import Ride


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One request and its reply."""

    id: str
    """The server's, which the client gets too, as `x-request-id`."""
    traceparent: str
    """As it arrived (w3.org/TR/trace-context), empty where none did."""
    received: float
    """Seconds since 1970."""
    status: int
    """HTTP's, over gRPC too."""
    error: str | None
    """The class of what went wrong."""
    rows: int
    bytes_in: int
    bytes_out: int
    stages_ms: Mapping[str, float]
    """By the names of `declared.STAGES`, and the whole as `total`."""
    rides: "Sequence[Ride]"


class Watcher(Protocol):
    """Is told of every batch, after its replies were made and before they are sent."""

    def batch(self, answered: Sequence[Answered]) -> None: ...
