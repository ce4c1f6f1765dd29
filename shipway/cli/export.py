"""`shipway export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from shipway.cli.export_progress import ShownSteps
from shipway.cli.export_tables import accuracy_lines, candidates_table
from shipway.cli.output import figures
from shipway.extras import require_extra

if TYPE_CHECKING:
    from shipway.export.pipeline import Exported

Objective = Literal["latency", "throughput", "size"]

RecipeArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RECIPE]", help="The name of a recipe, or the path of one.", show_default=False
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        help="A state_dict as .pth or .safetensors, instead of the recipe's.", show_default=False
    ),
]
OutOption = Annotated[
    Path, typer.Option(file_okay=False, help="The folder to write NAME-VERSION into.")
]
VersionOption = Annotated[
    str | None,
    typer.Option(help="The version, instead of the recipe's.", show_default=False),
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TECHNIQUE", help="Try only this technique. May be repeated.", show_default=False
    ),
]
OverwriteOption = Annotated[bool, typer.Option(help="Replace an artifact of the same version.")]
RechooseOption = Annotated[
    Path | None,
    typer.Option(
        metavar="ARTIFACT",
        help="Measure an artifact's programs on this host and choose again, without its "
        "checkpoint.",
        show_default=False,
    ),
]
ObjectiveOption = Annotated[
    Objective, typer.Option(help="What the chosen program must be best at.")
]
AccuracyBudgetOption = Annotated[
    float,
    typer.Option(
        min=0,
        help="Percentage points that the chosen program may lose: of accuracy where the true "
        "classes are known, else of agreement with eager PyTorch.",
    ),
]


def export(
    recipe: RecipeArgument = None,
    weights: WeightsOption = None,
    out: OutOption = Path("artifacts"),
    version: VersionOption = None,
    only: OnlyOption = None,
    overwrite: OverwriteOption = False,
    rechoose: RechooseOption = None,
    objective: ObjectiveOption = "latency",
    accuracy_budget: AccuracyBudgetOption = 5.0,
) -> None:
    """Build, verify and measure candidate programs, choose one and seal the artifact."""
    if (recipe is None) == (rechoose is None):
        raise typer.BadParameter(
            "Give either a RECIPE or --rechoose ARTIFACT.", param_hint="RECIPE"
        )
    require_extra("export", "Exporting")
    # torch takes seconds to import.
    from shipway.export.pipeline import export as run
    from shipway.export.rechoose import rechoose as run_again

    with ShownSteps(figures) as steps:
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
                only=tuple(only or ()),
                objective=objective,
                budget=accuracy_budget,
            )
    _print_outcome(exported)


def _print_outcome(exported: "Exported") -> None:
    figures.print()
    figures.print(candidates_table(exported))
    figures.print()
    for name, candidate in exported.certificate.candidates.items():
        if not candidate.passed:
            figures.print(Text.assemble((f"{name} is left out:", "red"), f" {candidate.verdict}"))
    for line in accuracy_lines(exported):
        figures.print(line)
    manifest, path = exported.manifest, exported.path
    for word, rest in (
        ("chosen", f"{manifest.chosen}: {manifest.chosen_because}"),
        ("report", str(path / "report.html")),
        ("sealed", f"{path}  →  shipway package {path}"),
    ):
        figures.print(Text.assemble((word, "green"), f" {rest}"))
