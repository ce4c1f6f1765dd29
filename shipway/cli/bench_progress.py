"""The progress display of `shipway bench`."""

from typing import TYPE_CHECKING, Self

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from shipway.cli.bench_tables import milliseconds_in_words, result_in_words, results_table
from shipway.cli.output import err

if TYPE_CHECKING:
    from shipway.loadtest.result import Progress, Result
    from shipway.loadtest.shapes.base import LoadShape


class LoadProgress:
    """On a terminal, a table with a progress bar; otherwise a line for each finished load."""

    def __init__(self, loads: int) -> None:
        self._loads = loads
        self._results: list[Result] = []
        self._load: LoadShape | None = None
        self._latest: Progress | None = None
        self._live = Live(
            console=err, transient=True, refresh_per_second=2, get_renderable=self._render
        )

    def __enter__(self) -> Self:
        if err.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def begin(self, load: "LoadShape") -> None:
        """Shows that a load has started."""
        self._load, self._latest = load, None

    def update(self, progress: "Progress") -> None:
        """Shows the latest measurements of the current load."""
        self._latest = progress

    def end(self, result: "Result") -> None:
        """Adds the result of the current load to the table."""
        self._results.append(result)
        self._load = None
        if not err.is_terminal:
            err.print(result_in_words(result))

    def _render(self) -> Group:
        table = results_table(self._results)
        done = 0.0
        if self._load and (latest := self._latest):
            length_s = latest.load_test.warm_up_s + latest.load_test.seconds
            done = min(1.0, (latest.load_test.warm_up_s + latest.at) / length_s)
            table.add_row(
                f"{self._load}{'' if latest.at > 0 else ', warming up'}",
                f"{latest.rate:.1f}",
                milliseconds_in_words(latest.p50_ms),
                "",
                milliseconds_in_words(latest.p99_ms),
                "",
                "",
                str(latest.failed),
                f"{latest.cpu:.0%}",
                style="bold",
            )
        elif self._load:
            table.add_row(str(self._load), style="dim")
        number = len(self._results) + (self._load is not None)
        total = max(self._loads, number)  # a sweep may go on
        bar = ProgressBar(total=total, completed=len(self._results) + done, width=40)
        return Group(table, Text(f"load {number} of {total}"), bar)
