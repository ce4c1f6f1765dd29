"""`shipway tune`."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shipway.cli.options import JsonOption, ModelStoreOption, NameArgument, SloOption, milliseconds
from shipway.cli.output import err, out
from shipway.cli.signals import end_as_by_ctrl_c
from shipway.cli.tune_settings import (
    best_trial,
    find_archive,
    find_model_store,
    nearest_setting,
    setting_of,
    step_in_words,
    tuned_record,
)
from shipway.extras import require_extra
from shipway.loadtest.tune import Step, budget, exhaust, in_turns, proven, search, space

if TYPE_CHECKING:
    from shipway.loadtest.trials import Trials

TURNS = 3
"""How many times each of two settings is measured, in alternation."""

VersionOption = Annotated[
    str | None,
    typer.Option(
        help="The version to tune. The default is the newest version in the model store.",
        show_default=False,
    ),
]
SecondsOption = Annotated[
    float, typer.Option(min=1, help="Seconds for which each load is measured.")
]
TrialsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="The largest number of settings to try. The default is a tenth of all possible "
        "settings.",
        show_default=False,
    ),
]
ExhaustiveOption = Annotated[
    bool,
    typer.Option(
        "--exhaustive",
        help="Try every setting, which takes about ten times as long. Then compare the best one "
        "with the previously tuned one, in alternating measurements.",
    ),
]


def tune(
    name: NameArgument,
    slo_p99: SloOption,
    version: VersionOption = None,
    seconds: SecondsOption = 5.0,
    trials: TrialsOption = None,
    exhaustive: ExhaustiveOption = False,
    model_store: ModelStoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the settings with the highest throughput that meet a p99 latency target.

    The command starts its own server and needs an otherwise idle machine. It writes the best
    settings into the model store, and `shipway register` applies them.
    """
    # numpy and pydantic take half a second to import.
    from shipway.archive.inspect import inspect_mar
    from shipway.artifact.tuned import read_tuned, write_tuned
    from shipway.runtime.host import available_cores

    slo_ms = milliseconds(slo_p99)
    if exhaustive and trials:
        raise typer.BadParameter(
            "--trials cannot be combined with --exhaustive, which tries every setting. "
            "Remove one of them.",
            param_hint="--trials",
        )
    require_extra("bench", "`shipway tune`")
    store = model_store or find_model_store()
    mar = find_archive(store, name, version)
    info = inspect_mar(mar)
    settings = space(available_cores(), info.max_batch or info.batch_size, slo_ms)
    start = nearest_setting(settings, info)
    known = read_tuned(store, info.name, info.version)
    end_as_by_ctrl_c()
    with ExitStack() as stack:
        bench = _start_trials(stack, mar, slo_ms, seconds)
        guess = bench.guess(start)
        if exhaustive:
            most, steps = len(settings), exhaust(settings, bench.serve, guess)
        else:
            most = trials or budget(settings)
            steps = search(settings, start, bench.serve, guess, most)
        if not as_json:
            out.print(
                f"{len(settings)} settings are possible on this machine; at most {most} will be "
                "tried."
            )
        best = best_trial(list(steps if as_json else _printed(steps)), slo_ms)
        if exhaustive and known and (before := setting_of(known)) != best.setting:
            rates = in_turns(bench.serve, (before, best.setting), best.rate, TURNS)
            if not as_json:
                out.print(
                    f"previously tuned and new settings, {TURNS} alternating measurements each:"
                )
                for setting, rate in zip((before, best.setting), rates, strict=True):
                    out.print(f"     {setting}: {rate:.0f} requests/s")
        # Measured again: the highest of many measurements is too high, because of noise.
        load = proven(bench.serve(best.setting), best)
    tuned = tuned_record(best.setting, load, slo_ms)
    path = write_tuned(store, info.name, info.version, tuned)
    if as_json:
        print(tuned.model_dump_json(indent=1))
        return
    out.print(
        f"\n{info.name} {info.version}: {best.setting}: {load.rate:.0f} requests/s with a "
        f"p99 of {load.p99_ms:.1f} ms (target: {slo_ms:g} ms)",
        style="bold",
    )
    out.print(f"wrote {path}; apply it with `shipway register {mar}`")


def _start_trials(stack: ExitStack, mar: Path, slo_ms: float, seconds: float) -> "Trials":
    """Starts a server with a copy of the archive; `stack` stops it and removes its folder."""
    # httpx, numpy and pydantic take a second to import.
    from shipway.engines.torchserve.temporary import temporary_server
    from shipway.loadtest.trials import Trials
    from shipway.releases.exporter_process import exporter_command

    temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="shipway-tune-"))
    copy = Path(temporary) / "model_store" / mar.name
    copy.parent.mkdir()
    shutil.copyfile(mar, copy)
    status = stack.enter_context(err.status("Starting a server to measure on …"))
    state = stack.enter_context(
        temporary_server(Path(temporary), copy.parent, exporter_command=exporter_command)
    )
    trials = Trials(state, copy, slo_p99_ms=slo_ms, seconds=seconds, observe=status.update)
    return stack.enter_context(closing(trials))


def _printed(steps: Iterable[Step]) -> Iterator[Step]:
    for number, step in enumerate(steps, start=1):
        out.print(f"{number:3}  {step_in_words(step)}", style="green" * step.is_best)
        yield step
