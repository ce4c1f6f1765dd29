"""How an export reports its progress: a protocol that the command line implements."""

from types import TracebackType
from typing import Protocol, Self


class Step(Protocol):
    """One step, from entering the context to leaving it."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def note(self, outcome: str) -> None:
        """Adds the outcome of the step, in a word or two; nothing if it is empty."""
        ...


class Steps(Protocol):
    """Shows the steps of an export."""

    def step(self, doing: str) -> Step:
        """A step that is described as `doing`, such as "sealing"."""
        ...
