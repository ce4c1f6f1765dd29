"""`shipway apply`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from shipway.cli.options import BecauseOption, StateOption
from shipway.cli.output import err, lines, out, warn
from shipway.cli.server import Inspect, engine_of, inspector
from shipway.engines.state import state_directory
from shipway.releases.errors import NotApplicable

if TYPE_CHECKING:
    from shipway.releases.apply import Change, TargetModel
    from shipway.releases.rollout import Rollout

PAST_TENSE = {
    "register": "registered",
    "promote": "promoted",
    "scale": "scaled",
    "unregister": "unregistered",
}
SIGNS = {"register": "+", "promote": "●", "scale": "~", "unregister": "-"}
"""As in `shipway models`, a dot marks the default version."""


def apply(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A models.yaml file with the models and versions to serve.",
            show_default=False,
        ),
    ],
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the changes without making them."),
    ] = False,
    interrupt: Annotated[
        bool,
        typer.Option(
            "--interrupt",
            help="Allow changes that make a default version unavailable for some seconds.",
        ),
    ] = False,
    because: BecauseOption = None,
    state: StateOption = None,
) -> None:
    """Make the server serve exactly the models and versions in FILE.

    The changes are printed first.
    """
    # httpx and pydantic take a second to import.
    from shipway.releases.apply import plan
    from shipway.releases.history import read_releases
    from shipway.releases.rollout import changing

    inspect = inspector(context)
    where = state_directory(state)
    wanted = read_models_file(file, Path(where.require_running().model_store), inspect)
    if dry_run:
        with engine_of(where) as engine:
            _print_plan(plan(wanted, read_releases(where), engine.versions()), file)
        return
    with changing(where, f"applying {file.name}", warn=warn) as rollout:
        changes = plan(wanted, rollout.releases, rollout.models())
        _print_plan(changes, file)
        if (interruptions := [change for change in changes if change.interrupts]) and not interrupt:
            first = interruptions[0]
            raise NotApplicable(
                f"Nothing was changed: the new settings of {first.name} {first.version}, the "
                "default version, need a restart of its workers. Add a new version with "
                "these settings, or accept some seconds without service with --interrupt."
            )
        failures = carry_out_changes(rollout, changes, inspect, because or file.name)
    if failures:
        raise typer.Exit(1)
    where.unapplied_file.unlink(missing_ok=True)


def read_models_file(file: Path, store: Path, inspect: Inspect) -> "list[TargetModel]":
    """Reads a models.yaml and checks the archives in it. Raises ShipwayError."""
    # httpx and pydantic take a second to import.
    from shipway.releases.apply import check_models
    from shipway.releases.models_file import read_models

    with err.status(f"Checking the archives in {file} …"):
        return check_models(read_models(file), store, inspect)


def carry_out_changes(
    rollout: "Rollout", changes: "list[Change]", inspect: Inspect, because: str
) -> list[str]:
    """Makes the changes, prints each outcome, and returns a line for each change that failed."""
    # httpx and pydantic take a second to import.
    from shipway.releases.apply import carry_out

    failures = []
    with err.status("") as status:
        for change, error in carry_out(
            rollout, changes, inspect=inspect, because=because, say=status.update
        ):
            version, verb = f"{change.name} {change.version}", PAST_TENSE[change.what]
            if error is None:
                out.print(f"{verb} {version}")
            else:
                failure = f"{version} was not {verb}"
                failures.append(failure)
                message = str(error)  # some errors begin with the same words
                err.print(
                    message if message.startswith(failure) else f"{failure}: {message}", style="red"
                )
    return failures


def _print_plan(changes: "list[Change]", file: Path) -> None:
    if not changes:
        out.print(f"Nothing to change: the server already matches {file}.")
        return
    table = Table("", "model", "version", "change", box=None)
    for change in changes:
        table.add_row(SIGNS[change.what], change.name, change.version, change.description)
    lines.print(table)
