"""`shipway export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from shipway.cli.export_progress import ShownSteps
from shipway.cli.export_tables import accuracy_lines, candidates_table, loss_lines
from shipway.cli.output import figures
from shipway.export.intervals import CONFIDENCE
from shipway.extras import require_extra
from shipway.limits import DEFAULT_BUDGET

if TYPE_CHECKING:
    from shipway.export.pipeline import Exported

Objective = Literal["latency", "throughput", "size"]

RecipeArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE",
        help="The path of a recipe, or the name of a recipe in export/recipes/.",
        show_default=False,
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        help="A checkpoint: .pth, .safetensors, an index of shards, or a folder with one. It "
        "overrides the weights of the recipe.",
        show_default=False,
    ),
]
OutOption = Annotated[
    Path,
    typer.Option(
        file_okay=False, help="The output folder. The artifact is the folder NAME-VERSION in it."
    ),
]
VersionOption = Annotated[
    str | None,
    typer.Option(
        help="The version of the artifact. It overrides the version of the recipe.",
        show_default=False,
    ),
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TECHNIQUE", help="Try only this technique. May be repeated.", show_default=False
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option(help="Replace an existing artifact of the same name and version.")
]
RechooseOption = Annotated[
    Path | None,
    typer.Option(
        metavar="ARTIFACT",
        help="Instead of exporting, measure the programs of an existing artifact on this host "
        "and choose again. The recipe and the checkpoint are not needed.",
        show_default=False,
    ),
]
ObjectiveOption = Annotated[
    Objective, typer.Option(help="The criterion by which the program is chosen.")
]
AccuracyBudgetOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="The largest loss that the chosen program may have, in percentage points: of accuracy "
        "if the evaluation inputs have labels, otherwise of eager PyTorch's belief in its answers. "
        f"The upper {CONFIDENCE:.0%} confidence bound of the loss has to keep it. Programs in fp32 "
        "need no budget.",
        show_default=f"the budget of the recipe, or {DEFAULT_BUDGET:g}",
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
    accuracy_budget: AccuracyBudgetOption = None,
) -> None:
    """Build, verify and measure candidate programs, choose one and write a sealed artifact."""
    if (recipe is None) == (rechoose is None):
        raise typer.BadParameter(
            "Give either a RECIPE or --rechoose ARTIFACT.", param_hint="RECIPE"
        )
    if rechoose is not None and overwrite:
        raise typer.BadParameter(
            "--overwrite cannot be combined with --rechoose. Give another folder with --out, or "
            "another version with --version.",
            param_hint="--overwrite",
        )
    require_extra("export", "`shipway export`")
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
    print_outcome(exported)


def print_outcome(exported: "Exported") -> None:
    """Prints what was measured and chosen; first of all that the machine was not quiet, if so."""
    # numpy and pydantic take half a second to import.
    from shipway.export.noise import notice

    manifest, path = exported.manifest, exported.path
    figures.print()
    if disturbed := notice(exported.certificate, manifest.chosen):
        figures.print(Text.assemble(("disturbed", "yellow"), f" {disturbed}"))
        figures.print()
    figures.print(candidates_table(exported))
    figures.print()
    for name, candidate in exported.certificate.candidates.items():
        if not candidate.passed:
            refused = "" if candidate.verdict.startswith("skipped") else "refused: "
            figures.print(Text.assemble((f"{name}:", "red"), f" {refused}{candidate.verdict}"))
    for line in (*loss_lines(exported), *accuracy_lines(exported)):
        figures.print(line)
    for word, rest in (
        ("chosen", f"{manifest.chosen}: {manifest.chosen_because}"),
        ("report", str(path / "report.html")),
        ("sealed", f"{path}; next step: shipway package {path}"),
    ):
        figures.print(Text.assemble((word, "green"), f" {rest}"))
