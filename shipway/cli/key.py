"""`shipway key`: a group of commands for the named keys with which clients may ask."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from shipway.cli.options import JsonOption, StateOption
from shipway.cli.output import err, lines, out, print_json, warn
from shipway.engines.state import StateDirectory, state_directory
from shipway.engines.torchserve.config import find_config, read_config

if TYPE_CHECKING:
    from shipway.engines.torchserve.config import ServerConfig

KeyArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The name of a key.", show_default=False)
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--requests-per-second",
        metavar="N",
        help="The most requests that the key may send in a second, to all models together. By "
        "default there is no limit.",
        show_default=False,
    ),
]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def key() -> None:
    """Add, list and remove named keys for inference. They need the front (front=on)."""


@app.command()
def add(
    name: KeyArgument,
    requests_per_second: LimitOption = None,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Make a key and print it. It cannot be shown again: only its hash is kept."""
    # filelock and httpx take a moment to import.
    from shipway.front.keys import add_key

    where = state_directory(state)
    reason = _why_no_keys(where)
    made = add_key(where.keys_file, name, requests_per_second)
    if as_json:
        print_json({"name": name, "key": made, "requests_per_second": requests_per_second})
    else:
        print(made)
        err.print(
            f"This is the key {name}. Keep it: it cannot be shown again. Clients send it as "
            "Authorization: Bearer KEY. It counts within a second."
        )
    _warn(reason)


@app.command("list")
def list_keys(as_json: JsonOption = False, state: StateOption = None) -> None:
    """List the names and limits of the keys."""
    # filelock and httpx take a moment to import.
    from shipway.front.keys import read_keys

    where = state_directory(state)
    keys = read_keys(where.keys_file)
    if as_json:
        fields = ("name", "requests_per_second", "created")
        print_json([{field: asdict(each)[field] for field in fields} for each in keys])
    elif keys:
        table = Table("name", "requests per second", "created")
        for each in keys:
            limit = each.requests_per_second
            table.add_row(each.name, "no limit" if limit is None else str(limit), each.created)
        lines.print(table)
    else:
        out.print("There are no keys. Make one with `shipway key add NAME`.")
    if keys:
        _warn(_why_no_keys(where))


@app.command()
def remove(name: KeyArgument, state: StateOption = None) -> None:
    """Remove a key. Within a second its requests are refused."""
    # filelock and httpx take a moment to import.
    from shipway.front.keys import remove_key

    remove_key(state_directory(state).keys_file, name)
    out.print(f"removed the key {name}")


def warn_of_keys(where: StateDirectory, config: "ServerConfig") -> None:
    """Prints whether there is something wrong with the keys of a server that starts."""
    # filelock and httpx take a moment to import.
    from shipway.engines.torchserve.front import why_no_keys
    from shipway.front.keys import KeysError, read_keys

    try:
        keys = read_keys(where.keys_file)
    except KeysError as error:
        warn(f"{error} Until then no named key is accepted.")
        return
    if keys:
        _warn(why_no_keys(config))


def _why_no_keys(where: StateDirectory) -> str | None:
    """Why the server of a state directory does not accept named keys, or would not if it ran."""
    # httpx takes half a second to import.
    from shipway.engines.torchserve.front import why_no_keys

    record = where.running()
    path = Path(record.config) if record else find_config(Path.cwd())
    return why_no_keys(read_config(path))


def _warn(reason: str | None) -> None:
    if reason is not None:
        warn(f"Named keys are not in force: {reason}")
