"""`certificate.json`: what was measured of every candidate, the refused ones included."""

from typing import Annotated, Literal

from pydantic import Field

from shipway.artifact.measures import OutputKind
from shipway.limits import DEFAULT_BUDGET
from shipway.recipe import Record, Scores, Tolerance

Shape = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}(x[1-9][0-9]{0,8})?$")]
"""Rows of a batch, for texts with tokens: "8" or "8x128"."""


class Share(Record):
    """A proportion of rows and its 95% confidence interval (Wilson, 1927)."""

    value: float
    low: float
    high: float
    rows: int


class OutputMeasure(Record):
    """How one output is compared with eager's."""

    name: str
    kind: OutputKind
    scores: Scores | None = None
    """What scores of classes are; None for other kinds."""
    spread: tuple[float, ...]
    """How far eager's outputs are from the best constant answer, see measures.spread_of. Errors are
    relative to it."""


class Agreement(Record):
    """One output of a candidate beside eager fp32's, on the same held-out inputs at one batch
    size."""

    output: str
    batch_size: int
    max_abs_diff: float
    mean_abs_diff: float
    relative_error: float
    """Relative to the spread of eager's outputs: a constant answer has 1. For values with few
    columns, that of the worst column; for labels, the share of wrong ones by that spread."""
    sqnr_db: float
    """Signal to quantization noise, 20 log10 of one over the relative error; 999 for no noise."""
    row_error: float
    """The same of the row that is furthest off."""
    worst_row: int
    """The evaluation row with that error."""
    cosine: float | None = None
    """Of the row whose outputs point furthest away from eager's, among rows that are long enough to
    have a direction; for embeddings and scores of at least two classes."""
    least_cosine_row: int | None = None
    """The evaluation row with that cosine."""
    top1_agreement: float | None = None
    """The share of rows with the same class; of equal decisions, for independent labels; of equal
    entries, for integers and booleans."""
    top5_agreement: float | None = None
    """The share of rows whose five largest outputs are the same set; for classifiers."""
    similarity_change: float | None = None
    """The most that the cosine of a pair of rows moved; for embeddings."""


class Accuracy(Record):
    """On rows whose true class is known."""

    eager: Share
    candidate: Share
    change: float
    """Candidate minus eager."""
    change_low: float
    change_high: float
    """The 95% interval of the change, paired by row (bootstrap, seeded)."""


LossUnit = Literal["accuracy", "belief", "cosine", "variance", "agreement"]
"""Of a loss: the accuracy, on rows whose true class is known; eager's belief, p(its first class) −
p(the candidate's first class); 1 − cosine; mean squared error by the variance of eager's outputs;
the share of rows that differ, for integers and booleans."""


class Loss(Record):
    """What a candidate loses compared with eager, in points: 100 × the mean over the rows."""

    unit: LossUnit
    value: float
    bound: float
    """The upper bound with a one-sided confidence of 95% for all compared candidates together."""
    compared: int = 1
    """The number of candidates for which the bound is corrected (Bonferroni)."""
    rows: int
    clusters: int
    """Rows of one photo, patient or document are one group, and one observation."""
    agreement: float | None = None
    """The share of rows with eager's class, or of labels with eager's decision."""
    one_row: float
    """What a typical row that changes costs, divided by no number of rows. The bound counts such a
    row even if none was seen."""
    centre: float
    """The mean with that row."""
    standard_error: float
    """Of the mean with that row; from one group to another."""


class Kernels(Record):
    """In which precision the heavy operations, convolutions and matrix products, really ran."""

    source: str
    """What told: "ONNX Runtime's profile", "oneDNN's log", "OpenVINO's execution graph"."""
    ran: dict[str, int]
    """By precision: how many of them in one run."""
    operators: dict[str, int] = Field(default_factory=dict)
    """All operators that ran, and how often, where the source tells."""


Basis = Literal["quiet runs", "processor time", "all runs"]
"""What a time is taken from: runs that nothing disturbed; where there were too few, the processor
time of runs on one thread; where that says nothing either, all runs."""


class Speedup(Record):
    """How many times as fast as eager PyTorch, in the turns in which both ran."""

    value: float
    low: float | None = None
    high: float | None = None
    """The 95% interval of the median of the turns' ratios; None for too few turns."""
    turns: int
    basis: Basis


class Latency(Record):
    """Milliseconds of one run, measured in turns with the other candidates'."""

    median_ms: float
    low_ms: float
    high_ms: float
    """The middle half of the runs that count lies between these."""
    runs: int
    """All runs that were timed."""
    quiet_runs: int | None = None
    """Those that nothing disturbed; None in older certificates."""
    basis: Basis | None = None
    """What the times above are taken from; None in older certificates."""
    median_low_ms: float | None = None
    median_high_ms: float | None = None
    """The 95% interval of the median (order statistics; Hahn and Meeker, 1991)."""
    speedup: Speedup | None = None
    """Over eager PyTorch with as many threads; None for eager, or if it was not measured."""

    @property
    def sound(self) -> bool:
        """Whether other programs on the machine are kept out of it."""
        return self.basis != "all runs"


class Candidate(Record):
    """One program that was built or tried, and what was measured of it."""

    verdict: str
    """"passed", or the reason why it was left out."""
    passed: bool
    format: str
    runtime: str
    precision: str
    bytes: int | None = None
    tolerance: Tolerance | None = None
    agreement: tuple[Agreement, ...] = ()
    accuracy: Accuracy | None = None
    loss: Loss | None = None
    """None if it was not compared, or its outputs are not finite."""
    batching_max_abs_diff: float | None = None
    """The most that a row's outputs changed with the size of the batch it rode in."""
    kernels: Kernels | None = None
    latency: dict[Shape, dict[int, Latency]] = Field(default_factory=dict)
    """By shape, then by threads."""
    build_seconds: float | None = None

    def best_ms(self, shape: str) -> float | None:
        """The lowest median over thread counts, None if that shape was not measured."""
        found = [each.median_ms for each in self.latency.get(shape, {}).values()]
        return min(found, default=None)


class LayerSensitivity(Record):
    """What quantizing one layer alone does to the outputs."""

    layer: str
    operator: str
    relative_error: float
    sqnr_db: float


class Host(Record):
    """The machine on which something was measured."""

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
    labelled: bool
    sha256: str
    """Of the arrays' bytes, in C order, one after the other."""


class Certificate(Record):
    """The whole record of an export: `certificate.json`."""

    format: int = 1
    host: Host
    calibration: Inputs
    evaluation: Inputs
    branches: Inputs | None = None
    """Rows that take other branches than the evaluation rows; each was compared alone."""
    shapes: tuple[str, ...]
    """The shapes at which candidates were compared."""
    outputs: tuple[OutputMeasure, ...]
    """How each output was compared, in the manifest's order."""
    budget: float = DEFAULT_BUDGET
    """The accuracy budget of the choice, in points. Programs of lower precision than fp32 have a
    bound of their loss below it."""
    eager: dict[str, dict[int, Latency]]
    """By shape, then by threads."""
    candidates: dict[str, Candidate]
    sensitivity: tuple[LayerSensitivity, ...] = ()
    """Layer by layer, the most sensitive first; none where no static int8 program was made."""
