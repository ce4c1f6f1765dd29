"""`shipway describe`."""

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from shipway.cli.options import JsonOption, NameArgument, StateOption
from shipway.cli.output import out, print_json
from shipway.cli.server import engine_of
from shipway.engines.state import state_directory

if TYPE_CHECKING:
    from shipway.engines.protocol import ModelVersion

HANDLER_FACTS = ("task", "program", "precision", "device", "threads", "fell_back_because")


def describe(name: NameArgument, as_json: JsonOption = False, state: StateOption = None) -> None:
    """Show every version of a model, its workers and the program that they run."""
    with engine_of(state_directory(state)) as engine:
        versions = engine.versions(name)
        handlers = [
            engine.describe(name, version.version) if version.workers_ready else {}
            for version in versions
        ]
    if as_json:
        pairs = zip(versions, handlers, strict=True)
        print_json([asdict(version) | {"handler": handler} for version, handler in pairs])
    else:
        out.print(_versions_table(versions, handlers))


def _versions_table(versions: "list[ModelVersion]", handlers: list[dict[str, Any]]) -> Table:
    """A table with one column per version, since there are more facts than versions."""
    table = Table("", *(version.version for version in versions), title=versions[0].name)
    rows: dict[str, Callable[[ModelVersion], object]] = {
        "default": lambda it: "●" if it.default else "",
        "archive": lambda it: it.mar,
        "workers ready": lambda it: f"{it.workers_ready} of {it.workers}",
        "worker processes": lambda it: ", ".join(map(str, it.worker_pids)),
        "memory": lambda it: f"{it.memory_bytes / 2**20:.0f} MiB" if it.memory_bytes else "–",
        "device": lambda it: it.device,
        "batch size": lambda it: it.batch_size,
        "batch delay": lambda it: f"{it.max_batch_delay_ms} ms",
        "requests waiting": lambda it: "–" if it.requests_waiting is None else it.requests_waiting,
        "response timeout": lambda it: f"{it.response_timeout_s} s",
        "startup timeout": lambda it: f"{it.startup_timeout_s} s",
    }
    for fact, value_of in rows.items():
        table.add_row(fact, *(str(value_of(version)) for version in versions))
    if any(handlers):
        _add_handler_rows(table, handlers)
    return table


def _add_handler_rows(table: Table, handlers: list[dict[str, Any]]) -> None:
    table.add_section()
    for fact in HANDLER_FACTS:
        if any(handler.get(fact) for handler in handlers):
            values = (str(handler.get(fact) or "–") for handler in handlers)
            table.add_row(fact.replace("_", " "), *values)
    table.add_row("artifact", *(str(handler.get("artifact", "–"))[:12] for handler in handlers))
    for direction in ("inputs", "outputs"):
        tensors = (handler.get("metadata", {}).get(direction, []) for handler in handlers)
        table.add_row(direction, *("\n".join(map(_tensor_in_words, each)) for each in tensors))


def _tensor_in_words(tensor: dict[str, Any]) -> str:
    axes = ", ".join("any" if axis == -1 else str(axis) for axis in tensor["shape"])
    return f"{tensor['name']} {tensor['datatype']} ({axes})"
