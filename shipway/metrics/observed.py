"""What observers are told of a batch of requests once each has its reply: plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedProgram:
    """The program that a worker runs: the same for every request."""

    name: str
    version: str
    program: str
    """Its name in the manifest."""
    precision: str
    device: str
    """"cpu" or "cuda"."""
    artifact: str
    """The artifact's digest: SHA-256, in hexadecimal."""
    is_fallback: bool
    """Whether this host does not fit the chosen program, so that the portable one runs."""


class ObservedBatch(Protocol):
    """One run of the program. Several requests may share it."""

    @property
    def rows(self) -> int:
        """How many rows it answered, padding not counted."""
        ...

    @property
    def padding(self) -> float:
        """The share of the run, from 0 to 1, that was padding."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredRequest:
    """One request and its reply."""

    id: str
    """The server's, which the client gets too, as `x-request-id`."""
    traceparent: str
    """As it arrived (w3.org/TR/trace-context); empty if the request had none."""
    received: float
    """Seconds since 1970."""
    status: int
    """The HTTP status, over gRPC too."""
    error: str | None
    """The class of the error; None if the request was answered."""
    rows: int
    bytes_in: int
    bytes_out: int
    stages_ms: Mapping[str, float]
    """Milliseconds by the names of `declared.STAGES`, and the whole request as `total`."""
    batches: Sequence[ObservedBatch]
    """The runs that computed its rows. Requests of one run hold the same object."""
    waited_ms: float = 0.0
    """The part of the stage `queue` after it arrived, between its decoding and its batch."""


class Observer(Protocol):
    """Counts or traces requests."""

    def observe(self, requests: Sequence[AnsweredRequest]) -> None:
        """Called for every batch of requests, after its replies are made; they may have been sent.

        What it raises is logged, and fails no request.
        """
        ...
