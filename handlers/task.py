"""What a task adds to the tensors that every model takes: its own form of input and of answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from handlers.requests import Request
from shipway.errors import ShipwayError
from shipway.runtime.model import Row


@dataclass(frozen=True, slots=True)
class Inputs:
    """A request in the task's own form, parsed and not yet decoded."""

    items: Sequence[Any]
    """One for each row: an image's bytes, a text, a row of numbers."""
    many: bool = False
    """Whether the answer is a list of answers, the request having been a list."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One item, ready to be run."""

    row: Row
    note: Mapping[str, Any] | None = None
    """What the answer must say of it: that a text was cut."""
    milliseconds: float = 0.0


class Task(Protocol):
    natural: str
    """The name of a v2 BYTES tensor whose elements are inputs in the task's own form."""

    def parse(self, request: Request) -> Inputs:
        """Raises BadRequest and its like."""
        ...

    def parse_bytes(self, data: bytes) -> Any:
        """The item in an element of a BYTES tensor."""
        ...

    def decode(self, items: Sequence[Any]) -> list[Decoded | ShipwayError]:
        """All items of a batch, each by itself: what one provokes, the others do not feel."""
        ...

    def check(self, arrays: tuple[np.ndarray, ...]) -> None:
        """Raises BadTensor for v2 tensors whose values the program must not be given."""
        ...

    def answers(
        self, outputs: tuple[np.ndarray, ...], notes: Sequence[Mapping[str, Any] | None]
    ) -> list[Any]:
        """One JSON value for each row; each output is (rows, …)."""
        ...
