"""`shipway serve`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from shipway.cli.apply import carry_out_changes, read_models_file
from shipway.cli.key import warn_of_keys
from shipway.cli.options import ModelStoreOption, StateOption
from shipway.cli.output import err, out, warn
from shipway.cli.register import register_archive
from shipway.cli.server import Inspect, engine_of, inspector
from shipway.cli.signals import end_as_by_ctrl_c
from shipway.engines.state import CONFIG_NAME, ServerRecord, StateDirectory, state_directory
from shipway.engines.torchserve.config import default_model_store, find_config, read_config
from shipway.errors import ShipwayError
from shipway.files import keep_others_out
from shipway.releases.exporter_process import exporter_command

if TYPE_CHECKING:
    from shipway.archive.inspect import MarInfo
    from shipway.engines.torchserve.config import ServerConfig
    from shipway.engines.torchserve.launch import Launched
    from shipway.releases.apply import TargetModel

BackgroundOption = Annotated[
    bool,
    typer.Option(
        "--background", help="Run the server in the background, and return when it is ready."
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        help=f"The server configuration. The default is {CONFIG_NAME} in the current folder or in "
        "the nearest parent folder that has one, otherwise the file that comes with Shipway.",
        show_default=False,
    ),
]
RegisterOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="MAR",
        help="An archive to register, unless its version is restored anyway. May be repeated.",
        show_default=False,
    ),
]
ModelsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Serve exactly the models and versions in this models.yaml file.",
        show_default=False,
    ),
]
FreshOption = Annotated[
    bool,
    typer.Option(
        "--fresh",
        help="Start without restoring any model. The old release history is renamed, not deleted.",
    ),
]
ExposeManagementOption = Annotated[
    bool,
    typer.Option(
        "--expose-management",
        help="Allow other machines to reach management and metrics. The configuration must also "
        "contain allow_management_beyond_loopback=true.",
    ),
]


def serve(
    context: typer.Context,
    background: BackgroundOption = False,
    config: ConfigOption = None,
    model_store: ModelStoreOption = None,
    register: RegisterOption = None,
    models: ModelsOption = None,
    fresh: FreshOption = False,
    expose_management: ExposeManagementOption = False,
    state: StateOption = None,
) -> None:
    """Start TorchServe and restore the models that it served before. Press Ctrl-C to stop it."""
    # httpx and pydantic take a second to import.
    from shipway.engines.torchserve import launch
    from shipway.engines.torchserve.java import find_java
    from shipway.releases.apply import plan
    from shipway.releases.history import read_releases, set_aside

    if models and register:
        raise typer.BadParameter(
            "--register cannot be combined with --models. Add the archive to the models.yaml file.",
            param_hint="--register",
        )

    end_as_by_ctrl_c()
    inspect = inspector(context)
    where = state_directory(state)
    settings = read_config(config or find_config(Path.cwd()))
    store = model_store or default_model_store(settings.path, Path.cwd())
    java = find_java()
    with err.status("Checking the archives …"):
        archives = [inspect(path) for path in register or ()]
    wanted = read_models_file(models, store, inspect) if models else []
    if fresh and not where.running() and (aside := set_aside(where)):
        err.print(f"The old release history was moved to {aside}.", style="yellow")
    # Fails before the server starts if the history cannot be read or does not fit models.yaml.
    noted = read_releases(where)
    if models:
        plan(wanted, noted, [])
    for remark in (java.remark, keep_others_out(where.path), keep_others_out(store)):
        if remark:
            warn(remark)
    launched: Launched | None = None
    try:
        with err.status(f"Starting TorchServe on Java {java.major} …"):
            launched = launch.start(
                settings,
                java=java,
                model_store=store,
                state=where,
                dies_with_us=not background,
                exporter_command=exporter_command,
                expose_management=expose_management,
            )
        _print_addresses(launched.record, where, settings)
        try:
            if models:
                complete = _serve_models(where, wanted, models, inspect)
            else:
                complete = _restore(where, archives)
        except ShipwayError:
            if not background:
                launch.end(launched, where)
            raise
        if background:
            out.print("Stop the server with `shipway stop`.")
            if not complete:
                raise typer.Exit(1)
            return
        out.print("Press Ctrl-C to stop the server.")
        launch.wait(launched, where)
    except KeyboardInterrupt:
        if not launched:
            err.print("stopped before the server was ready")
            raise typer.Exit(130) from None
        with err.status(
            "Stopping TorchServe and its workers … (press Ctrl-C again to stop at once)"
        ):
            launch.end(launched, where)
    out.print("stopped")


def _restore(state: StateDirectory, archives: "list[MarInfo]") -> bool:
    """Restores the served models, and registers the archives whose versions are not among them.

    Prints each version that was not restored. Returns whether all of them were.
    """
    # httpx and pydantic take a second to import.
    from shipway.releases.history import read_releases, recorded_version
    from shipway.releases.rollout import changing
    from shipway.releases.settings import version_of

    complete = True
    if read_releases(state).models:
        with (
            changing(state, "restoring the served models", warn=warn) as rollout,
            err.status("") as status,
        ):
            for name, version, error in rollout.restore(status.update):
                if error is None:
                    out.print(f"restored {name} {version}")
                else:
                    err.print(f"{name} {version} was not restored: {error}", style="red")
                    complete = False
    store = Path(state.require_running().model_store)
    with engine_of(state) as engine:
        registered = {(version.name, version.version) for version in engine.versions()}
    for info in archives:
        if (info.name, info.version) in registered:
            continue
        recorded = recorded_version(state, info.name, info.version)
        try:
            register_archive(state, info, version_of(info, store, recorded=recorded))
        except ShipwayError as error:
            if recorded is None:
                raise
            err.print(f"{info.name} {info.version} was not registered: {error}", style="red")
            complete = False
    return complete


def _serve_models(
    state: StateDirectory, wanted: "list[TargetModel]", file: Path, inspect: Inspect
) -> bool:
    """Makes a server that has just started serve the models of the file.

    The server is not ready before that. Prints each failure. Returns whether there was none.
    """
    # httpx and pydantic take a second to import.
    from shipway.releases.apply import plan
    from shipway.releases.rollout import changing

    state.unapplied_file.write_text(f"{file} is being applied\n")
    with changing(state, f"applying {file.name}", warn=warn) as rollout:
        changes = plan(wanted, rollout.releases, rollout.models())
        failures = carry_out_changes(rollout, changes, inspect, file.name)
    if failures:
        state.unapplied_file.write_text("".join(f"{failure}\n" for failure in failures))
    else:
        state.unapplied_file.unlink()
    return not failures


def _print_addresses(record: ServerRecord, state: StateDirectory, config: "ServerConfig") -> None:
    addresses = record.addresses
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("inference", addresses.inference, f"gRPC {addresses.grpc_inference}")
    table.add_row("management", addresses.management, f"gRPC {addresses.grpc_management}")
    table.add_row("metrics", f"{addresses.exporter or addresses.metrics}/metrics")
    # httpx takes half a second to import.
    from shipway.engines.torchserve.front import why_no_front
    from shipway.engines.torchserve.tokens import key_file

    table.add_row("tokens", str(key_file(state)))
    reason = why_no_front(config)
    if reason is None:
        table.add_row("front", f"Envoy; its log is {state.front_log}")
    table.add_row("logs", str(state.logs))
    out.print("TorchServe is ready.", style="green")
    out.print(table)
    if config.front and reason:
        warn(f"Requests go through TorchServe: {reason}.")
    warn_of_keys(state, config)
