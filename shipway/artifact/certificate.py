"""`certificate.json`: what was measured of every candidate, the refused ones included."""

from pydantic import Field

from shipway.artifact.manifest import Record


class Agreement(Record):
    """A candidate's outputs beside eager fp32's, on the same held-out inputs at one batch size."""

    batch_size: int
    max_abs_diff: float
    relative_error: float
    """||candidate - eager|| / ||eager||, over all outputs together."""
    top1_agreement: float
    """The share of inputs whose largest output is the same."""


class Tolerance(Record):
    """How far from eager a candidate may be and still be served."""

    relative_error: float
    top1_agreement: float


class Candidate(Record):
    verdict: str
    """"passed", or the reason why it was left out."""
    passed: bool
    format: str
    precision: str
    bytes: int | None = None
    tolerance: Tolerance | None = None
    agreement: tuple[Agreement, ...] = ()
    batching_max_abs_diff: float | None = None
    """The most that a row's outputs changed with the size of the batch it rode in."""
    operators: dict[str, int] = Field(default_factory=dict)
    """Which kernels ran, and how often in one run, where the runtime tells."""
    latency_ms: dict[int, float] = Field(default_factory=dict)
    """Median milliseconds for one run, by batch size."""
    build_seconds: float | None = None


class Host(Record):
    processor: str
    machine: str
    cores: int
    """Those this process may use."""
    memory_gb: float
    python: str


class Inputs(Record):
    """What the candidates were compared on."""

    description: str
    rows: int
    sha256: str
    """Of the array's bytes, in C order."""


class Certificate(Record):
    format: int = 1
    host: Host
    calibration: Inputs
    evaluation: Inputs
    threads: int
    eager_latency_ms: dict[int, float]
    candidates: dict[str, Candidate]
