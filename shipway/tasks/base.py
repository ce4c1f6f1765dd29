"""What a task is: one kind of request and answer, beside the tensors that every model takes.

B = rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from shipway.artifact.manifest import Manifest
from shipway.errors import ShipwayError
from shipway.payloads.request import Request
from shipway.payloads.schemas import Schema
from shipway.runtime.model import Model, Row


@dataclass(frozen=True, slots=True)
class Inputs:
    """A request in the task's native payload, parsed and not yet decoded."""

    items: Sequence[Any]
    """One for each row: an image's bytes, a text, a row of numbers."""
    many: bool = False
    """Whether the answer is a list of answers, the request having been a list."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One item, ready to be run."""

    row: Row
    note: Mapping[str, Any] | None = None
    """What the answer must say of it: that a text was truncated."""
    milliseconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A request that a load test sends."""

    name: str
    content_type: str
    body: bytes


class Task(ABC):
    """One kind of request and answer. A class is registered; an instance serves one model."""

    output: ClassVar[str] = "output"
    """The name that export gives to the program's output."""
    classifies: ClassVar[bool] = False
    """Whether the outputs are logits, one for each label: they are compared by their order too."""
    bytes_tensor: ClassVar[str]
    """The name of a v2 BYTES tensor whose elements are native payloads."""

    @abstractmethod
    def __init__(self, model: Model) -> None: ...

    @abstractmethod
    def parse(self, request: Request) -> Inputs:
        """The inputs in a native payload. Raises BadRequest, TooManyRows or another error of
        `shipway.payloads.errors`."""

    @abstractmethod
    def parse_bytes(self, data: bytes) -> Any:
        """The item in an element of a BYTES tensor."""

    @abstractmethod
    def decode(self, items: Sequence[Any]) -> list[Decoded | ShipwayError]:
        """All items of a batch. An item that cannot be decoded becomes its error; the others are
        decoded all the same."""

    def check(self, arrays: tuple[np.ndarray, ...]) -> None:  # noqa: B027
        """Raises BadTensor for v2 tensors whose values the program must not be given."""

    @abstractmethod
    def answers(
        self, outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
    ) -> list[Any]:
        """One JSON value for each row; each output is (B, …)."""

    @classmethod
    @abstractmethod
    def native_schema(cls, manifest: Manifest) -> tuple[dict[str, Schema], Schema]:
        """For OpenAPI: the schema of each content type, and that of the answer."""

    @classmethod
    def examples(cls, tensors: Sequence[Mapping[str, Any]]) -> Sequence[Example]:
        """Requests for a load test, none if there are none to give. `tensors` are the model's
        inputs as the Open Inference Protocol describes them."""
        return ()
