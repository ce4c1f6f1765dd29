"""`shipway register`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shipway.cli.options import BecauseOption, StateOption
from shipway.cli.output import err, out, warn
from shipway.cli.server import inspector
from shipway.engines.state import StateDirectory, state_directory

if TYPE_CHECKING:
    from shipway.archive.inspect import MarInfo
    from shipway.releases.history import Version


def register(
    context: typer.Context,
    mar: Annotated[
        Path,
        typer.Argument(
            metavar="MAR",
            help="A .mar file written by `shipway package`.",
            show_default=False,
        ),
    ],
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The largest number of rows in a batch. The default is the tuned value, "
            "otherwise the value in the archive.",
            show_default=False,
        ),
    ] = None,
    max_batch_delay: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="The time in milliseconds that a batch waits for more rows. The default is the "
            "tuned value, otherwise the value in the archive.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The number of worker processes. The default is the tuned value, otherwise the "
            "value in the archive.",
            show_default=False,
        ),
    ] = None,
    because: BecauseOption = None,
    state: StateOption = None,
) -> None:
    """Check an archive, register its version and wait until its workers are ready.

    A model's first version becomes its default after its outputs have matched its certificate.
    """
    # httpx and pydantic take a second to import.
    from shipway.releases.history import recorded_version
    from shipway.releases.settings import version_of

    where = state_directory(state)
    inspect = inspector(context)
    with err.status(f"Checking {mar} …"):
        info = inspect(mar)
    store = Path(where.require_running().model_store)
    if batch_size and info.max_batch and batch_size > info.max_batch:
        raise typer.BadParameter(
            f"{info.name} {info.version} accepts batches of at most {info.max_batch} rows. "
            "Give a smaller number.",
            param_hint="--batch-size",
        )
    settings = version_of(
        info,
        store,
        batch_size=batch_size,
        max_batch_delay_ms=max_batch_delay,
        workers=workers,
        recorded=recorded_version(where, info.name, info.version),
    )
    register_archive(where, info, settings, because)


def register_archive(
    state: StateDirectory, info: "MarInfo", settings: "Version", because: str | None = None
) -> None:
    """Copies an archive into the store, registers it and prints how it is served.

    Returns when its workers are ready. Raises ServerError or NotPromoted, and then leaves the store
    unchanged.
    """
    # httpx and pydantic take a second to import.
    from shipway.archive.store import stored
    from shipway.releases.differences import default_of, in_words
    from shipway.releases.rollout import changing

    store = Path(state.require_running().model_store)
    with (
        changing(state, f"registering {info.name} {info.version}", warn=warn) as rollout,
        stored(info.path, store, digest=info.digest),
        err.status(f"Starting the workers of {info.name} {info.version} …") as status,
    ):
        done = rollout.register(info.name, info.version, settings, because, say=status.update)
    [new] = [one for one in done.versions if one.version == info.version]
    default = default_of(done.versions)
    if new.default:
        role = f"it is the default version; {done.compared}"
    elif default:
        role = (
            f"the default version is still {default}; change it with `shipway promote {info.name} "
            f"{info.version}`"
        )
    else:
        role = (
            f"{info.name} has no default version; make this one the default with `shipway promote "
            f"{info.name} {info.version}`"
        )
    out.print(f"registered {info.name} {info.version} ({in_words(new)}): {role}")
