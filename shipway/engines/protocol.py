"""What `shipway.releases` needs of a server, and the data that pass between the two.

An engine is a folder of `shipway/engines/` whose module `engine` registers a way to connect:

    @ENGINES.register("torchserve")
    class TorchServeEngine: ...

One that comes from another package announces itself in the entry-point group `shipway.engines`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from prometheus_client.core import Metric as Family


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One registered version, as the server describes it now."""

    name: str
    version: str
    default: bool
    """Answers requests that name no version. A model may have no such version."""
    mar: str
    """Its archive, a file in the model store; for an engine without archives, its artifact."""
    batch_size: int
    max_batch_delay_ms: int
    workers: int
    """How many it should have."""
    workers_ready: int
    worker_pids: tuple[int, ...]
    worker_states: tuple[str, ...]
    """In the same order: READY for one that answers, otherwise the engine's own word."""
    worker_ids: tuple[str, ...]
    """In the same order; a worker that is started again keeps its own."""
    memory_bytes: int
    """Of all its workers; 0 before it was measured."""
    device: str
    requests_waiting: int | None
    """None if the engine does not say."""
    queue_limit: int
    """How many may wait."""
    response_timeout_s: int
    startup_timeout_s: int
    out_of_service: bool = False
    """Gets no requests for a while, since its workers died too often."""

    @property
    def warm(self) -> bool:
        """Each worker has loaded the model, so has run it: handlers do before they are ready."""
        return 0 < self.workers <= self.workers_ready


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployable:
    """A version to register, and how it is served."""

    name: str
    version: str
    archive: Path | None = None
    """Its .mar in the model store, for engines that serve archives."""
    artifact: Path | None = None
    """The folder it was packaged from, for engines that open artifacts."""
    batch_size: int
    """Rows in a batch, at most."""
    max_batch_delay_ms: int
    """How long a batch waits for more rows."""
    workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """A model's outputs for some rows, and what gave them."""

    outputs: "dict[str, np.ndarray]"
    """By name, each (rows, …)."""
    program: str
    """The program that ran; empty if the server does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignaturePolicy:
    """What the server's configuration demands of an archive before it is registered."""

    required: bool = False
    trusted_keys: tuple[Path, ...] = ()
    """Public keys in PEM; a signature by one of them counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMetrics:
    """What the server itself counts."""

    families: "Sequence[Family]" = ()
    """Under the server's own names, to be passed on as they are."""
    queue_waits: Mapping[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    """By model and version: how many requests waited in its queue, and the sum of their seconds."""
    workers_queue: bool = False
    """Whether requests wait in the workers instead, which record how long as the stage `queue`."""
    responses: Mapping[str, float] = field(default_factory=dict)
    """By class of their status, such as 5xx: all responses to clients over HTTP. Empty if the
    server does not say."""


class Engine(Protocol):
    """A running server, as `shipway.releases` changes it.

    Every method raises Unreachable if the server does not answer, and UnsupportedByEngine if this
    kind of server cannot do what is asked; nothing is changed then.
    """

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        """Every version of every model, or of one, oldest first. Raises ModelNotFound if `name` is
        given and not registered."""

    def register(self, deployable: Deployable) -> None:
        """Registers a version; returns when its workers are ready.

        It does not become the default, not even as a model's first version: requests that name no
        version get 503 until `set_default`. Raises VersionExists, WorkersFailed if its workers do
        not start, or Refused. It is then not registered, and leaves nothing behind.
        """

    def scale(self, name: str, version: str, workers: int) -> None:
        """Adds workers to a version until it has `workers`; returns when they are ready.

        Raises WorkersFailed if they do not start; it then has the workers it had.
        """

    def set_default(self, name: str, version: str) -> None:
        """Makes `version` answer the requests that name none. Raises ModelNotFound or
        VersionNotFound."""

    def withhold_default(self, name: str, reason: str | None) -> None:
        """Leaves a model without a default, also one without any version: requests that name no
        version get 503 with `reason`, until `set_default` or until its last version is
        unregistered. None ends this for a model without versions, and changes no other."""

    def unregister(self, name: str, version: str, *, drain_within_s: float = 0.0) -> bool:
        """Takes a version out of service once it has answered the requests it has.

        Returns False if it still had some after `drain_within_s`; they are lost. Raises
        DefaultVersionInUse for a default beside other versions, ModelNotFound or VersionNotFound.
        """

    def infer(
        self, name: str, inputs: "Mapping[str, np.ndarray]", *, version: str | None = None
    ) -> Inferred:
        """The model's outputs for its own inputs, each (rows, …). Raises PredictionFailed,
        ModelNotFound or VersionNotFound."""

    def describe(self, name: str, version: str) -> dict[str, Any]:
        """What a handler says of itself: task, program, digest, metadata of the Open Inference
        Protocol and more. Empty for handlers that say nothing."""

    def metrics(self) -> EngineMetrics:
        """What the server itself counts, for the exporter to pass on."""

    def why_unreachable(self) -> str | None:
        """Why no request reaches the server's models although it runs, or None."""

    def signature_policy(self) -> SignaturePolicy:
        """What its configuration demands of an archive. Raises ConfigError."""

    def close(self) -> None:
        """Ends the connection, not the server."""


def natural_order(version: str) -> list[tuple[int, str]]:
    """A sort key that puts 1.9 before 1.10."""
    return [(int(part or 0), text) for text, part in re.findall(r"(\D*)(\d*)", version)]
