"""`manifest.json`: everything that both the exporting and the serving side must know.

Axes: B = rows, H and W = pixels, C = channels. The format in prose is README.md in this folder.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from shipway.recipe import (
    Axis,
    Name,
    Positive,
    Preprocessing,
    Record,
    Scores,
    Sha256,
    TensorSpec,
)

FORMAT: Literal[2] = 2

ModuleName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$")]
Precision = Literal["fp32", "bf16", "fp16", "int8"]


class Requirements(Record):
    """What a program needs of a host; empty for one that runs anywhere."""

    machine: str | None = None
    """As `platform.machine()` says it."""
    cpu_flags: tuple[str, ...] = ()
    """Processor features, all needed, as /proc/cpuinfo spells them."""
    packages: dict[str, str] = Field(default_factory=dict)
    """Exact versions, for formats that do not survive another one."""
    compute_capability: str | None = None
    """Of the GPU it was compiled for: "9.0"."""


class Program(Record):
    """One exported form of the model."""

    file: Annotated[str, Field(pattern=r"^programs/[A-Za-z0-9_.-]+$")]
    format: Name
    runtime: Name
    """What runs it: the same ONNX file is one program with ONNX Runtime, another with OpenVINO."""
    precision: Precision
    """What its heavy operations compute in."""
    quantization: str | None = None
    """The scheme in words, None for an unquantized program."""
    device: Literal["cpu", "cuda"] = "cpu"
    requires: Requirements = Requirements()
    bytes: Positive
    sha256: Sha256


class Serving(Record):
    """The settings that did best on the exporting host; registration may override them."""

    batch_size: Positive
    max_batch_delay_ms: Annotated[int, Field(ge=0)] = 0
    workers: Positive = 1
    threads: Positive


class ParetoPoint(Record):
    """A program that no other one beats in both: what it loses, and how long it takes."""

    program: Name
    points_lost: float
    """The value of the candidate's loss in the certificate, which has its unit and its bound."""
    latency_ms: float
    """The geometric mean over the compared shapes, at the best number of threads."""
    bytes: int


class Manifest(Record):
    """The whole of `manifest.json`."""

    format: Literal[2] = FORMAT
    name: Name
    version: Name
    task: Name
    """As it is registered; `plugins` may be what registers it."""
    plugins: tuple[ModuleName, ...] = ()
    """Modules in the artifact's folder plugins/, imported before its programs are opened."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    """The classes' names, in the order of the outputs; none for an embedding."""
    scores: Scores = "logits"
    """What the outputs of a classifier are; of no meaning without labels."""
    top_k: Positive
    """How many classes a reply holds; of no meaning without labels."""
    programs: dict[Name, Program]
    chosen: Name
    chosen_because: str
    objective: Literal["latency", "throughput", "size"]
    pareto: tuple[ParetoPoint, ...]
    """The choice there was, the most faithful first."""
    fallback: Name
    """The program for a host that the chosen one does not fit."""
    serving: Serving
    checkpoint_sha256: Sha256
    packages: dict[str, str]
    """Versions that the programs were made with."""
    created: str
    """ISO 8601, UTC."""

    @model_validator(mode="after")
    def _names_known_programs(self) -> "Manifest":
        for role in ("chosen", "fallback"):
            if getattr(self, role) not in self.programs:
                raise ValueError(
                    f"{role} is {getattr(self, role)!r}, which is not one of the programs: "
                    f"{sorted(self.programs)}"
                )
        if not self.inputs or not self.inputs[0].shape or not self.outputs:
            raise ValueError("at least one input with a shape and at least one output are required")
        if not isinstance(self.inputs[0].shape[0], Axis):
            raise ValueError(
                "the first axis of the first input must be dynamic, because it is the batch axis"
            )
        return self

    @property
    def max_batch(self) -> int:
        """The most rows that one run of a program may hold."""
        axis = self.inputs[0].shape[0]
        assert isinstance(axis, Axis)
        return axis.max
