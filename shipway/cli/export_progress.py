"""The progress display of `shipway export`."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text


class ShownSteps:
    """A progress bar and a clock for the current step, and a line for each finished step."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._console.is_terminal:  # otherwise it would print an empty line
            self._progress.stop()

    def step(self, doing: str) -> "ShownStep":
        """Returns a step, described by `doing`. Use it in a `with` statement."""
        return ShownStep(self._progress, self._console, doing)


class ShownStep:
    """A step: it is shown as running until the `with` statement ends."""

    def __init__(self, progress: Progress, console: Console, doing: str) -> None:
        self._progress, self._console, self._doing = progress, console, doing
        self._outcome = ""

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        self._task = self._progress.add_task(self._doing, total=None)
        return self

    def note(self, outcome: str) -> None:
        """Adds the outcome of the step to its line; nothing if it is empty."""
        self._outcome = f"  {outcome}" if outcome else ""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.remove_task(self._task)
        mark = ("✓", "green") if error is None else ("✗", "red")
        seconds = time.perf_counter() - self._start
        end = (f"{self._outcome}  {seconds:.1f} s", "dim")
        self._console.print(Text.assemble(mark, f" {self._doing}", end))
