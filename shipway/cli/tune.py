"""`shipway tune`."""

import re
import shutil
import tempfile
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from shipway.cli.server import JsonOption, ModelStoreOption, end_as_by_ctrl_c
from shipway.engines.errors import ConfigError
from shipway.engines.torchserve.config import FILE_NAME, find_config
from shipway.engines.torchserve.management import natural_order
from shipway.loadtest.errors import NoSettingKeeps, NotReady

if TYPE_CHECKING:
    from shipway.archive.mar import MarInfo
    from shipway.artifact.tuned import Tuned
    from shipway.loadtest.tune import At, Setting, Step, Trial

TURNS = 3
"""Of two settings, one beside the other."""

out = Console(highlight=False, soft_wrap=True, markup=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

SloOption = Annotated[
    str,
    typer.Option(
        "--slo-p99",
        help="What 99% of requests are to stay below: 50ms, or 0.05s.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    @app.command()
    def tune(
        name: str,
        slo_p99: SloOption,
        version: Annotated[
            str | None,
            typer.Option(help="The newest in the model store if not given.", show_default=False),
        ] = None,
        seconds: Annotated[float, typer.Option(min=1, help="Of each load.")] = 5.0,
        trials: Annotated[
            int | None,
            typer.Option(
                min=1,
                help="Try at most so many settings; a tenth of all if not given.",
                show_default=False,
            ),
        ] = None,
        exhaustive: Annotated[
            bool,
            typer.Option(
                "--exhaustive",
                help="Try every setting, ten times as many, and the best beside what was found "
                "before, in turns.",
            ),
        ] = False,
        model_store: ModelStoreOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Find the settings that carry the most requests a second below a latency.

        It measures on a server of its own, beside yours: give it an idle machine. `shipway
        register` takes what it found from the model store.
        """
        from shipway.archive.mar import inspect_mar
        from shipway.artifact.tuned import read_tuned, write_tuned
        from shipway.loadtest import servers, tune
        from shipway.loadtest.trials import Trials
        from shipway.runtime.host import available_cores

        slo_ms = milliseconds(slo_p99)
        if exhaustive and trials:
            raise typer.BadParameter("--exhaustive tries every setting.", param_hint="--trials")
        store = model_store or _store_here()
        mar = _archive(store, name, version)
        info = inspect_mar(mar)
        settings = tune.space(available_cores(), info.max_batch or info.batch_size, slo_ms)
        start = _nearest(settings, info)
        known = read_tuned(store, info.name, info.version)
        end_as_by_ctrl_c()
        with tempfile.TemporaryDirectory(prefix="shipway-tune-") as temporary, ExitStack() as stack:
            folder = Path(temporary)
            copy = folder / "model_store" / mar.name
            copy.parent.mkdir()
            shutil.copyfile(mar, copy)
            status = stack.enter_context(err.status("Starting a server to measure on …"))
            state = stack.enter_context(servers.our_server(folder, copy.parent))
            bench = stack.enter_context(
                closing(
                    Trials(state, copy, slo_p99_ms=slo_ms, seconds=seconds, watch=status.update)
                )
            )
            guess = bench.guess(start)
            most = trials or tune.budget(settings)
            if exhaustive:
                steps, most = tune.exhaust(settings, bench.serve, guess), len(settings)
            else:
                steps = tune.search(settings, start, bench.serve, guess, most)
            if not as_json:
                out.print(
                    f"{len(settings)} settings keep to this machine; at most {most} are tried."
                )
            found: list[Step] = []
            for step in steps:
                found.append(step)
                if not as_json:
                    out.print(f"{len(found):3}  {_in_words(step)}", style="green" * step.is_best)
            best = _best(found, slo_ms)
            if exhaustive and known and (before := _setting(known)) != best.setting:
                pair = (before, best.setting)
                rates = tune.in_turns(bench.serve, pair, best.rate, TURNS)
                if not as_json:
                    out.print(f"{TURNS} times in turns, as tuned before and now:")
                    for setting, rate in zip(pair, rates, strict=True):
                        out.print(f"     {setting}: {rate:.0f} a second")
            # Once more: of many loads that were measured, the highest is partly luck.
            proven = tune.proven(bench.serve(best.setting), best)
        tuned = _tuned(best.setting, proven, slo_ms)
        path = write_tuned(store, info.name, info.version, tuned)
        if as_json:
            print(tuned.model_dump_json(indent=1))
            return
        out.print(
            f"\n{info.name} {info.version}: {best.setting} carries {proven.rate:.0f} requests a "
            f"second, p99 {proven.p99_ms:.1f} ms of the {slo_ms:g} that it may have",
            style="bold",
        )
        out.print(f"written {path}; `shipway register {mar}` uses it")


def milliseconds(text: str) -> float:
    """What --slo-p99 says. Raises BadParameter."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s)\s*", text)
    value = float(found[1]) * {"ms": 1.0, "s": 1000.0}[found[2]] if found else 0.0
    if not value:
        raise typer.BadParameter(
            f"{text!r} is no latency. Write 50ms, or 0.05s.", param_hint="--slo-p99"
        )
    return value


def _store_here() -> Path:
    try:
        return find_config(Path.cwd()).parent / "model_store"
    except ConfigError as error:
        raise NotReady(
            f"There is no {FILE_NAME} in {Path.cwd()} or in any folder above, beside which the "
            "model store would be. Go to the project's folder, or name a store with --model-store."
        ) from error


def _archive(store: Path, name: str, version: str | None) -> Path:
    """The archive of that version in the store, of the newest if none is said."""
    pattern = f"{name}-{version or '*'}.mar"
    found = sorted(store.glob(pattern), key=lambda path: natural_order(path.stem))
    if not found:
        there = ", ".join(sorted(path.name for path in store.glob("*.mar"))) or "none"
        raise NotReady(
            f"{store} has no {pattern}; its archives are: {there}. `shipway package ARTIFACT` "
            "makes one, --model-store names another folder."
        )
    return found[-1]


def _nearest(settings: "list[Setting]", info: "MarInfo") -> "Setting":
    """Of what may be tried, what the archive's own settings come to here."""
    layouts = [each for each in settings if each.workers <= info.workers]
    workers = max(each.workers for each in layouts)
    return min(
        (each for each in layouts if each.workers == workers),
        key=lambda each: (
            abs(each.batch_size - info.batch_size),
            abs(each.delay_ms - info.max_batch_delay_ms),
            -each.threads,
        ),
    )


def _setting(tuned: "Tuned") -> "Setting":
    from shipway.loadtest.tune import Setting

    serving = tuned.serving
    return Setting(serving.workers, serving.threads, serving.batch_size, serving.max_batch_delay_ms)


def _in_words(step: "Step") -> str:
    trial = step.trial
    if not trial.best:
        return f"{trial.setting}: {step.because}"
    best = trial.best
    return f"{trial.setting}: {best.rate:.0f} a second, p99 {best.p99_ms:.1f} ms; {step.because}"


def _best(steps: "list[Step]", slo_ms: float) -> "Trial":
    kept = [each.trial for each in steps if each.trial.best]
    if kept:
        return kept[-1]
    nearest, setting = min(
        ((load, step.trial.setting) for step in steps for load in step.trial.loads),
        key=lambda each: each[0].p99_ms,
    )
    raise NoSettingKeeps(
        f"None of {len(steps)} settings keeps 99% of requests below {slo_ms:g} ms, not even at one "
        f"a second. The nearest was {setting}: p99 {nearest.p99_ms:.1f} ms at {nearest.rate:.0f} a "
        "second. Allow more with --slo-p99, or export for speed (`shipway export --objective`)."
    )


def _tuned(setting: "Setting", proven: "At", slo_ms: float) -> "Tuned":
    from shipway.artifact.manifest import Serving
    from shipway.artifact.tuned import Evidence, Tuned
    from shipway.runtime.host import describe_host

    return Tuned(
        serving=Serving(
            batch_size=setting.batch_size,
            max_batch_delay_ms=setting.delay_ms,
            workers=setting.workers,
            threads=setting.threads,
        ),
        evidence=Evidence(
            slo_p99_ms=slo_ms,
            rate=proven.rate,
            p99_ms=proven.p99_ms,
            measured=datetime.now(UTC).isoformat(timespec="seconds"),
            host=describe_host(),
        ),
    )
