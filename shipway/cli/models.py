"""`shipway models`."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from shipway.cli.options import JsonOption, StateOption
from shipway.cli.output import out, print_json
from shipway.cli.server import engine_of, print_differences
from shipway.engines.state import state_directory

if TYPE_CHECKING:
    from shipway.engines.protocol import ModelVersion


def models(as_json: JsonOption = False, state: StateOption = None) -> None:
    """List the registered versions of every model."""
    where = state_directory(state)
    with engine_of(where) as engine:
        versions = engine.versions()
    if as_json:
        print_json([asdict(version) for version in versions])
        return
    if versions:
        out.print(_models_table(versions))
    else:
        out.print("No model is registered. Register one with `shipway register MAR`.")
    print_differences(where)


def _models_table(versions: "list[ModelVersion]") -> Table:
    table = Table("name", "version", "default", "workers ready", "batch size", "delay")
    for version in versions:
        table.add_row(
            version.name,
            version.version,
            "●" if version.default else "",
            f"{version.workers_ready} of {version.workers}"
            + (", out of service" if version.out_of_service else ""),
            str(version.batch_size),
            f"{version.max_batch_delay_ms} ms",
        )
    return table
