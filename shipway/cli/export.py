"""`shipway export`."""

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from shipway.tasks import TASKS

if TYPE_CHECKING:
    from shipway.artifact.certificate import Candidate, Certificate, Share
    from shipway.export.pipeline import Exported

Objective = Literal["latency", "throughput", "size"]

# Into a file or a pipe a table may be as wide as it is; 80 columns would cut its figures.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)


def register(app: typer.Typer) -> None:
    @app.command()
    def export(
        recipe: str | None = typer.Argument(
            None, help="A recipe's name, or the path of your own.", show_default=False
        ),
        weights: Path | None = typer.Option(
            None, help="A state_dict, .pth or .safetensors, instead of the recipe's."
        ),
        out: Path = typer.Option(Path("artifacts"), help="Where NAME-VERSION goes."),
        version: str | None = typer.Option(None, help="Instead of the recipe's."),
        only: list[str] = typer.Option([], help="Try this technique alone; may be repeated."),
        overwrite: bool = typer.Option(False, help="Replace an artifact of that version."),
        rechoose: Path | None = typer.Option(
            None, help="Choose again on this host from an artifact, without its checkpoint."
        ),
        objective: Objective = typer.Option("latency", help="What the chosen program is best in."),
        accuracy_budget: float = typer.Option(
            5.0,
            min=0,
            help="Points the chosen program may lose: of accuracy where the true classes are "
            "known, else of agreement with eager.",
        ),
    ) -> None:
        """Make, verify and measure candidate programs, choose one, seal the artifact."""
        from shipway.export.pipeline import export as run
        from shipway.export.rechoose import rechoose as run_again
        from shipway.export.techniques import TECHNIQUES, in_order

        if (recipe is None) == (rechoose is None):
            raise typer.BadParameter("give a recipe, or --rechoose ARTIFACT", param_hint="RECIPE")

        if unknown := sorted(set(only) - TECHNIQUES.all().keys()):
            raise typer.BadParameter(
                f"{', '.join(unknown)}: there are {', '.join(in_order())}.", param_hint="--only"
            )
        with ShownSteps(console) as steps:
            if rechoose is not None:
                exported = run_again(
                    rechoose,
                    steps,
                    out=out,
                    version=version,
                    objective=objective,
                    budget=accuracy_budget,
                )
            else:
                assert recipe is not None
                exported = run(
                    recipe,
                    steps,
                    weights=weights,
                    out=out,
                    version=version,
                    overwrite=overwrite,
                    only=tuple(only),
                    objective=objective,
                    budget=accuracy_budget,
                )
        console.print()
        console.print(candidates_table(exported))
        console.print()
        for name, candidate in exported.certificate.candidates.items():
            if not candidate.passed:
                console.print(f"[red]{name} is left out:[/] {candidate.verdict}")
        for line in accuracy_lines(exported):
            console.print(line)
        manifest = exported.manifest
        console.print(f"[green]chosen[/] {manifest.chosen}: {manifest.chosen_because}")
        console.print(f"[green]report[/] {exported.path / 'report.html'}")
        console.print(f"[green]sealed[/] {exported.path}  →  shipway package {exported.path}")

    @app.command()
    def new(
        name: str = typer.Argument(help="What clients will ask for; the file is NAME.py."),
        folder: Path = typer.Option(Path(), help="Where it goes."),
    ) -> None:
        """Write a recipe to start from; it exports as it is."""
        from shipway.export.new import new_recipe

        path = new_recipe(name, folder)
        console.print(f"[green]wrote[/] {path}  →  shipway export {path}")


class ShownSteps:
    """A line with a moving bar and a clock for the step at hand, and a line for each one done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def step(self, doing: str) -> "ShownStep":
        return ShownStep(self._progress, self._console, doing)


class ShownStep:
    def __init__(self, progress: Progress, console: Console, doing: str) -> None:
        self._progress, self._console, self._doing = progress, console, doing
        self._outcome = ""

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        self._task = self._progress.add_task(self._doing, total=None)
        return self

    def note(self, outcome: str) -> None:
        self._outcome = f"  {outcome}"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.remove_task(self._task)
        mark = "[green]✓[/]" if error is None else "[red]✗[/]"
        seconds = time.perf_counter() - self._start
        self._console.print(f"{mark} {self._doing}[dim]{self._outcome}  {seconds:.1f} s[/]")


def candidates_table(exported: "Exported") -> Table:
    """Every candidate with what was found of it, the chosen one marked."""
    certificate, manifest = exported.certificate, exported.manifest
    labelled = certificate.evaluation.labelled
    classes = TASKS.get(manifest.task).classifies
    table = Table(
        title=f"{manifest.name} {manifest.version}: {certificate.evaluation.rows} held-out inputs, "
        f"{certificate.host.cores} cores, latency in ms",
        title_justify="left",
        title_style="bold",
        caption="off by: the distance of its outputs from eager's, relative to eager's length",
        caption_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    table.add_column("format", no_wrap=True)
    table.add_column("precision", no_wrap=True)
    table.add_column("MB", justify="right", no_wrap=True)
    for shape in certificate.shapes:
        title = f"batch {shape}" if shape.isdigit() else shape.replace("x", "×")
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("off by", justify="right", no_wrap=True)
    third = "accuracy" if labelled else "top-1" if classes else "cosine"
    table.add_column(third, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    if certificate.eager:
        eager = (
            f"{min(each.median_ms for each in certificate.eager[shape].values()):.1f}"
            for shape in certificate.shapes
        )
        accuracy = _eager_accuracy(certificate)
        table.add_row("eager", "fp32", "", *eager, "", accuracy, "the reference", style="dim")
    for name, each in certificate.candidates.items():
        worst = max(each.agreement, key=lambda found: found.relative_error, default=None)
        latency = (_number(each.best_ms(shape)) for shape in certificate.shapes)
        verdict = "passed" if each.passed else _refusal(each.verdict)
        chosen = name == manifest.chosen
        table.add_row(
            name,
            each.precision,
            f"{each.bytes / 1e6:.1f}" if each.bytes else "–",
            *latency,
            f"{worst.relative_error:.1e}" if worst else "–",
            _faithfulness(each),
            "chosen" if chosen else verdict,
            style="bold green" if chosen else None if each.passed else "red",
        )
    return table


def accuracy_lines(exported: "Exported") -> list[str]:
    """Where true classes are known: the accuracy of eager, of the chosen program and of all that
    compute in fewer bits, the refused ones too, with intervals."""
    chosen = exported.manifest.chosen
    known = {
        name: each.accuracy
        for name, each in exported.certificate.candidates.items()
        if each.accuracy and (name == chosen or each.precision != "fp32")
    }
    if not known:
        return []
    eager = known[chosen].eager
    width = max(map(len, known))
    return [
        f"accuracy on {eager.rows} labelled inputs and its change, paired by input, "
        "with 95% intervals",
        f"  {'eager':{width}}  {_percent(eager)}",
        *(
            f"  {name:{width}}  {_percent(each.candidate)}  {100 * each.change:+.2f} points "
            f"({100 * each.change_low:+.2f} to {100 * each.change_high:+.2f})"
            for name, each in known.items()
        ),
    ]


def _percent(share: "Share") -> str:
    return f"{100 * share.value:.2f}% ({100 * share.low:.2f} to {100 * share.high:.2f})"


def _number(latency_ms: float | None) -> str:
    return (
        "–"
        if latency_ms is None
        else f"{latency_ms:.1f}"
        if latency_ms >= 1
        else f"{latency_ms:.2g}"
    )


def _eager_accuracy(certificate: "Certificate") -> str:
    known = (each.accuracy for each in certificate.candidates.values() if each.accuracy)
    first = next(known, None)
    return f"{first.eager.value:.1%}" if first else ""


def _faithfulness(candidate: "Candidate") -> str:
    if not candidate.agreement:
        return "–"
    if candidate.accuracy:
        return f"{candidate.accuracy.candidate.value:.1%}"
    if candidate.agreement[0].top1_agreement is None:
        return f"{min(each.cosine for each in candidate.agreement):.4f}"
    return f"{min(each.top1_agreement or 0 for each in candidate.agreement):.0%}"


def _refusal(verdict: str) -> str:
    return "skipped" if verdict.startswith("skipped") else "refused"
