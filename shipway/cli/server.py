"""The verbs of a running server: serve, stop, apply, register, promote, rollback, models, …"""

import json
import mimetypes
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from shipway.engines.errors import PredictionFailed
from shipway.engines.state import ServerRecord, StateDirectory, state_directory
from shipway.engines.torchserve.config import FILE_NAME, find_config, read_config
from shipway.errors import ShipwayError

if TYPE_CHECKING:
    from shipway.archive.mar import MarInfo
    from shipway.engines.torchserve.inference import Predictor
    from shipway.engines.torchserve.management import ManagementClient, ModelVersion
    from shipway.releases.apply import Change, WantedModel
    from shipway.releases.history import Event, Release, Version
    from shipway.releases.rollout import Rollout

# Enough to fill several batches while others are being answered; far below job_queue_size.
REQUESTS_AT_ONCE = 16
MANY_FILES = 10
BAR_WIDTH = 20

CHANGED = {
    **{"register": "registered", "promote": "promoted"},
    **{"scale": "scaled", "unregister": "unregistered"},
}
SIGNS = {"register": "+", "promote": "●", "scale": "~", "unregister": "-"}
"""As in `shipway models`, a dot is for the default."""

# Without markup: a file or a model may have [brackets] in its name.
out = Console(highlight=False, soft_wrap=True, markup=False)
lines = Console(highlight=False, markup=False, width=1000)  # a table's lines stay whole
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state",
        envvar="SHIPWAY_STATE",
        help="The server's state directory; the nearest .shipway upward if not given.",
        show_default=False,
    ),
]
ModelStoreOption = Annotated[
    Path | None,
    typer.Option(help="model_store beside the configuration if not given.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
BecauseOption = Annotated[
    str | None,
    typer.Option("--because", metavar="TEXT", help="Why, for the history.", show_default=False),
]


def end_as_by_ctrl_c() -> None:
    """SIGTERM and SIGHUP stop this process as Ctrl-C does: in order, nothing left running."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, signal.default_int_handler)


def register(app: typer.Typer, *, inspect: "Callable[[Path], MarInfo] | None" = None) -> None:
    """Adds this room's verbs to `app`. `inspect` checks a .mar, as shipway.archive.mar does."""
    check = inspect or _inspect_mar

    @app.command()
    def serve(
        background: Annotated[
            bool, typer.Option("--background", help="Return when it is ready.")
        ] = False,
        config: Annotated[
            Path | None,
            typer.Option(help=f"The nearest {FILE_NAME} upward if not given.", show_default=False),
        ] = None,
        model_store: ModelStoreOption = None,
        register: Annotated[
            list[Path] | None,
            typer.Option(
                metavar="MAR",
                help="Register this archive too, unless its version was restored.",
                show_default=False,
            ),
        ] = None,
        models: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE",
                help="Serve what this models.yaml says, and nothing else.",
                show_default=False,
            ),
        ] = None,
        fresh: Annotated[
            bool, typer.Option("--fresh", help="Restore nothing; set the history aside.")
        ] = False,
        expose_management: Annotated[
            bool,
            typer.Option(
                "--expose-management",
                help="Let others reach more than inference, if the configuration allows it too.",
            ),
        ] = False,
        state: StateOption = None,
    ) -> None:
        """Start TorchServe and bring back what was served. Ctrl-C stops it."""
        from shipway.engines.torchserve import launch
        from shipway.engines.torchserve.java import find_java
        from shipway.releases.apply import plan
        from shipway.releases.history import read_releases, set_aside

        if models and register:
            raise typer.BadParameter("--models says all that is served; --register adds to that.")

        end_as_by_ctrl_c()
        where = state_directory(state)
        settings = read_config(config or find_config(Path.cwd()))
        store = model_store or settings.path.parent / "model_store"
        java = find_java()
        inspected = [check(each) for each in register or ()]
        wanted = _read_wanted(models, store, check) if models else []
        if fresh and not where.running() and (aside := set_aside(where)):
            err.print(f"What was served, and its history, are in {aside} now.", style="yellow")
        # Before the server starts: is that file whole, and can the one fit the other?
        noted = read_releases(where)
        if models:
            plan(wanted, noted, [])
        if java.remark:
            err.print(java.remark, style="yellow")
        launched = None
        try:
            with err.status(f"Starting TorchServe on Java {java.major} …"):
                launched = launch.start(
                    settings,
                    java=java,
                    model_store=store,
                    state=where,
                    dies_with_us=not background,
                    expose_management=expose_management,
                )
            _print_addresses(launched.record, where)
            try:
                if models:
                    whole = _serve_models(where, wanted, models, check)
                else:
                    whole = _restore(where, inspected)
            except ShipwayError:
                if not background:
                    launch.end(launched, where)
                raise
            if background:
                out.print("`shipway stop` ends it.")
                if not whole:
                    raise typer.Exit(1)
                return
            out.print("Ctrl-C ends it.")
            launch.wait(launched, where)
        except KeyboardInterrupt:
            if not launched:
                err.print("stopped before it was ready")
                raise typer.Exit(130) from None
            with err.status("Stopping TorchServe and its workers … (Ctrl-C again: at once)"):
                launch.end(launched, where)
        out.print("stopped")

    @app.command()
    def stop(state: StateOption = None) -> None:
        """Stop the server, its workers included."""
        from shipway.engines.torchserve import launch

        with err.status("Stopping TorchServe and its workers …"):
            record = launch.stop(state_directory(state))
        out.print(f"stopped the server at {record.addresses.inference}")

    @app.command()
    def apply(
        file: Annotated[Path, typer.Argument(help="A models.yaml, changed or new.")],
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Show what would be changed, change nothing.")
        ] = False,
        interrupt: Annotated[
            bool,
            typer.Option(
                "--interrupt",
                help="Make changes for which a default version must be out of service for seconds.",
            ),
        ] = False,
        because: BecauseOption = None,
        state: StateOption = None,
    ) -> None:
        """Bring the server to what FILE says, and show before what that changes."""
        from shipway.engines.errors import NotApplicable
        from shipway.releases.apply import plan
        from shipway.releases.history import read_releases
        from shipway.releases.rollout import changing

        where = state_directory(state)
        wanted = _read_wanted(file, Path(where.require_running().model_store), check)
        if dry_run:
            with _management(where) as management:
                _print_plan(plan(wanted, read_releases(where), management.models()), file)
            return
        with changing(where, f"applying {file.name}", warn=_warn) as rollout:
            changes = plan(wanted, rollout.releases, rollout.models())
            _print_plan(changes, file)
            if (stuck := [each for each in changes if each.interrupts]) and not interrupt:
                raise NotApplicable(
                    f"Nothing was changed: {stuck[0].name} {stuck[0].version} is the default, and "
                    "TorchServe takes these settings only when a version starts. Give them to a "
                    "new version, or let it be out of service for its start with --interrupt."
                )
            failures = _carry_out(rollout, changes, check, because or file.name)
        if failures:
            raise typer.Exit(1)
        where.unapplied_file.unlink(missing_ok=True)

    @app.command("register")
    def register_(
        mar: Annotated[Path, typer.Argument(help="A .mar, as `shipway package` writes it.")],
        batch_size: Annotated[
            int | None,
            typer.Option(
                min=1,
                help="Rows at once. [as tuned, or the .mar's]",
                show_default=False,
            ),
        ] = None,
        max_batch_delay: Annotated[
            int | None,
            typer.Option(
                min=0,
                help="Milliseconds that a batch waits for rows. [as tuned, or the .mar's]",
                show_default=False,
            ),
        ] = None,
        workers: Annotated[
            int | None,
            typer.Option(min=1, help="Processes. [as tuned, or the .mar's]", show_default=False),
        ] = None,
        because: BecauseOption = None,
        state: StateOption = None,
    ) -> None:
        """Register a version, checked first; wait until its workers are ready."""
        from shipway.releases.rollout import version_of

        where = state_directory(state)
        info = check(mar)
        store = Path(where.require_running().model_store)
        if batch_size and info.max_batch and batch_size > info.max_batch:
            raise typer.BadParameter(
                f"{info.name} {info.version} takes at most {info.max_batch} rows at once.",
                param_hint="--batch-size",
            )
        settings = version_of(
            info,
            store,
            batch_size=batch_size,
            max_batch_delay_ms=max_batch_delay,
            workers=workers,
        )
        _register(where, info, settings, because)

    @app.command()
    def promote(
        name: str, version: str, because: BecauseOption = None, state: StateOption = None
    ) -> None:
        """Make VERSION the default, once it answers as its certificate says.

        It is taken from the model store if it is not registered. The version before stays, for
        `shipway rollback`.
        """
        from shipway.releases.rollout import changing

        with (
            changing(state_directory(state), f"promoting {name} {version}", warn=_warn) as rollout,
            err.status(f"Promoting {name} {version} …") as status,
        ):
            done = rollout.promote(name, version, inspect=check, because=because, say=status.update)
        if done.previous == version:
            out.print(f"promoted {name} {version}: it was the default")
        elif done.previous:
            out.print(f"promoted {name} {version}, from {done.previous}: {done.compared}")
        else:
            out.print(f"promoted {name} {version}: {done.compared}")

    @app.command()
    def rollback(name: str, because: BecauseOption = None, state: StateOption = None) -> None:
        """Make the default before this one the default again. It is still there."""
        from shipway.releases.rollout import changing

        with changing(state_directory(state), f"rolling back {name}", warn=_warn) as rollout:
            version, previous = rollout.rollback(name, because)
        out.print(f"rolled back {name} to {version}, from {previous}, which stays registered")

    @app.command()
    def unregister(
        name: str, version: str, because: BecauseOption = None, state: StateOption = None
    ) -> None:
        """Take VERSION out of service when it has answered. Its archive stays in the store."""
        from shipway.releases.rollout import changing

        with (
            changing(
                state_directory(state), f"unregistering {name} {version}", warn=_warn
            ) as rollout,
            err.status(f"Waiting for the requests of {name} {version} …"),
        ):
            rollout.unregister(name, version, because)
        with _management(state_directory(state)) as management:
            gone = name not in management.names()
        out.print(
            f"unregistered {name} {version}" + (f"; no version of {name} is left" if gone else "")
        )

    @app.command()
    def releases(name: str, as_json: JsonOption = False, state: StateOption = None) -> None:
        """Show the history of a model: what was the default when, by whom and why."""
        from shipway.engines.errors import ReleasesError
        from shipway.releases.history import read_releases

        where = state_directory(state)
        release = read_releases(where).models.get(name)
        if release is None:
            raise ReleasesError(f"{where.releases_file} has no history of {name}.")
        if as_json:
            _print_json(release.model_dump(mode="json"))
            return
        lines.print(_table_of_events(release.history))
        out.print(_now_in_words(name, release))
        if where.running():
            _print_differences(where, [name])

    @app.command()
    def ready(
        name: Annotated[
            str | None, typer.Argument(help="Every model if not given.", show_default=False)
        ] = None,
        wait: Annotated[
            float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for it.")
        ] = 0,
        state: StateOption = None,
    ) -> None:
        """Succeed if the default version of every model has all its workers warm."""
        from shipway.releases.rollout import ask_why_not_ready

        where = state_directory(state)
        deadline = time.monotonic() + wait
        while (reasons := ask_why_not_ready(where, name)) and time.monotonic() < deadline:
            time.sleep(0.5)
        for reason in reasons:
            err.print(f"not ready: {reason}", style="red")
        if reasons:
            raise typer.Exit(1)
        out.print("ready")

    @app.command()
    def models(as_json: JsonOption = False, state: StateOption = None) -> None:
        """List what is registered."""
        where = state_directory(state)
        with _management(where) as management:
            versions = management.models()
        if as_json:
            _print_json([asdict(one) for one in versions])
            return
        if versions:
            out.print(_table_of_models(versions))
        else:
            out.print("No model is registered. `shipway register MAR` does that.")
        _print_differences(where)

    @app.command()
    def describe(name: str, as_json: JsonOption = False, state: StateOption = None) -> None:
        """Show every version of a model, its workers and what runs in them."""
        with _management(state_directory(state)) as management:
            versions = management.describe(name)
            handlers = [
                management.what_runs(name, one.version) if one.workers_ready else {}
                for one in versions
            ]
        if as_json:
            both = zip(versions, handlers, strict=True)
            _print_json([asdict(one) | {"handler": handler} for one, handler in both])
        else:
            out.print(_table_of_versions(versions, handlers))

    @app.command()
    def predict(
        name: str,
        files: Annotated[
            list[Path], typer.Argument(metavar="FILE…", exists=True, dir_okay=False, readable=True)
        ],
        version: Annotated[
            str | None,
            typer.Option(help="The promoted one if not given.", show_default=False),
        ] = None,
        grpc: Annotated[bool, typer.Option("--grpc", help="Ask over gRPC.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
        explain: Annotated[
            bool, typer.Option("--explain", help="Show where each answer's time went.")
        ] = False,
        state: StateOption = None,
    ) -> None:
        """Ask a model about files."""
        from shipway.engines.torchserve.inference import GrpcPredictor, HttpPredictor

        if grpc and explain:
            raise typer.BadParameter("TorchServe's gRPC carries no headers, which tell the times.")
        where = state_directory(state)
        predictor: Predictor = GrpcPredictor(where) if grpc else HttpPredictor(where)
        failures = 0
        with closing(predictor):
            answers = _ask_all(predictor, name, files, version, explain)
            for answer in _progress(answers, len(files)):
                failures += "error" in answer
                if as_json:
                    print(json.dumps(answer, ensure_ascii=False), flush=True)
                else:
                    _print_answer(answer)
        if failures:
            raise typer.Exit(1)


def _register(
    where: StateDirectory, info: "MarInfo", settings: "Version", because: str | None = None
) -> None:
    from shipway.archive.store import stored
    from shipway.releases.rollout import changing, in_words

    store = Path(where.require_running().model_store)
    with (
        changing(where, f"registering {info.name} {info.version}", warn=_warn) as rollout,
        stored(info.path, store, digest=info.digest),
        err.status(f"Starting the workers of {info.name} {info.version} …"),
    ):
        versions = rollout.register(info.name, info.version, settings, because)
    [new] = [one for one in versions if one.version == info.version]
    [default] = [one for one in versions if one.default]
    role = (
        "it answers all requests that name no version"
        if new is default
        else f"the default is still {default.version}; "
        f"`shipway promote {info.name} {info.version}` changes that"
    )
    out.print(f"registered {info.name} {info.version} ({in_words(new)}): {role}")


def _restore(where: StateDirectory, archives: "list[MarInfo]") -> bool:
    """Brings back what was served, and registers the archives that are not among it.

    False if something could not be restored, which is then said.
    """
    from shipway.releases.history import read_releases
    from shipway.releases.rollout import changing, version_of

    whole = True
    if read_releases(where).models:
        with (
            changing(where, "restoring what was served", warn=_warn) as rollout,
            err.status("") as status,
        ):
            for name, version, error in rollout.restore(status.update):
                if error is None:
                    out.print(f"restored {name} {version}")
                else:
                    err.print(f"{name} {version} is not restored: {error}", style="red")
                    whole = False
    store = Path(where.require_running().model_store)
    with _management(where) as management:
        there = {(one.name, one.version) for one in management.models()}
    for info in archives:
        if (info.name, info.version) not in there:
            _register(where, info, version_of(info, store))
    return whole


def _read_wanted(
    file: Path, store: Path, inspect: "Callable[[Path], MarInfo]"
) -> "list[WantedModel]":
    from shipway.releases.apply import check_models
    from shipway.releases.models_file import read_models

    with err.status(f"Checking the archives that {file} names …"):
        return check_models(read_models(file), store, inspect)


def _serve_models(
    where: StateDirectory,
    wanted: "list[WantedModel]",
    file: Path,
    inspect: "Callable[[Path], MarInfo]",
) -> bool:
    """Brings a server that has just started to what the file says; it is not ready before.

    False if something of it could not be served, which is then said.
    """
    from shipway.releases.apply import plan
    from shipway.releases.rollout import changing

    where.unapplied_file.write_text(f"{file} is being applied\n")
    with changing(where, f"applying {file.name}", warn=_warn) as rollout:
        changes = plan(wanted, rollout.releases, rollout.models())
        failures = _carry_out(rollout, changes, inspect, file.name)
    if failures:
        where.unapplied_file.write_text("".join(f"{each}\n" for each in failures))
    else:
        where.unapplied_file.unlink()
    return not failures


def _carry_out(
    rollout: "Rollout",
    changes: "list[Change]",
    inspect: "Callable[[Path], MarInfo]",
    because: str,
) -> list[str]:
    """Makes the changes, says of each that it is made, and returns what failed."""
    from shipway.releases.apply import carry_out

    failures = []
    with err.status("") as status:
        for change, error in carry_out(
            rollout, changes, inspect=inspect, because=because, say=status.update
        ):
            which = f"{CHANGED[change.what]} {change.name} {change.version}"
            if error is None:
                out.print(which)
            else:
                err.print(f"not {which}: {error}", style="red")
                failures.append(f"not {which}")
    return failures


def _print_plan(changes: "list[Change]", file: Path) -> None:
    if not changes:
        out.print(f"{file}: the server is as it says")
        return
    table = Table("", "model", "version", "what will be done", box=None)
    for each in changes:
        table.add_row(SIGNS[each.what], each.name, each.version, each.told)
    lines.print(table)


def _warn(remark: str) -> None:
    err.print(remark, style="yellow")


def _ask_all(
    predictor: "Predictor", name: str, files: list[Path], version: str | None, explain: bool
) -> Iterator[dict[str, Any]]:
    """One answer per file, in order. They are sent together, so that the server can batch them."""
    from shipway.engines.torchserve.inference import HttpPredictor

    def ask(file: Path) -> dict[str, Any]:
        content_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        body = file.read_bytes()
        try:
            if explain and isinstance(predictor, HttpPredictor):
                found = predictor.explain(name, body, version=version, content_type=content_type)
                times = asdict(found)
                return {"file": str(file), "predictions": times.pop("value"), "explained": times}
            predictions = predictor.predict(name, body, version=version, content_type=content_type)
        except PredictionFailed as error:
            details = {"code": error.code, "type": error.type, "message": str(error)}
            return {"file": str(file), "error": details}
        return {"file": str(file), "predictions": predictions}

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        yield from pool.map(ask, files)


def _progress(answers: Iterable[dict[str, Any]], total: int) -> Iterator[dict[str, Any]]:
    # On a terminal that shows the answers, they are the progress.
    if total < MANY_FILES or out.is_terminal or not err.is_terminal:
        yield from answers
        return
    with Progress(console=err, transient=True, redirect_stdout=False) as progress:
        yield from progress.track(answers, total=total, description="Asking")


def _print_answer(answer: dict[str, Any]) -> None:
    out.print(answer["file"], style="bold")
    match answer:
        case {"error": {"code": code, "type": kind, "message": message}}:
            out.print(f"  {code} {kind}: {message}", style="red")
        case {"predictions": [{"class_id": _, "label": _, "probability": _}, *_] as ranked}:
            out.print(_table_of_predictions(ranked))
        case {"predictions": {"embedding": _} as one}:
            out.print(_embedding_in_words(one))
        case {"predictions": [{"embedding": _}, *_] as several}:
            for one in several:
                out.print(_embedding_in_words(one))
        case {"predictions": anything}:
            out.print_json(data=anything)
    if "explained" in answer:
        _print_times(answer["explained"])


def _embedding_in_words(one: dict[str, Any]) -> str:
    numbers = one["embedding"]
    start = ", ".join(f"{each:.4f}" for each in numbers[:4])
    cut = ", cut at the model's length" if one.get("truncated") else ""
    return f"  {len(numbers)} numbers: {start}, …  ({one.get('tokens')} tokens{cut})"


def _print_times(explained: dict[str, Any]) -> None:
    took, stages = explained["took_ms"], dict(explained["stages_ms"])
    if not stages:
        out.print(f"  {took:.1f} ms; this handler says nothing of its own time")
        return
    handler = stages.pop("total", sum(stages.values()))
    queue = stages.pop("queue", 0.0)
    rows = {"network, server and waiting": max(0.0, took - handler), **stages}
    if queue:
        rows = {"waiting": queue, "network and server": max(0.0, took - handler - queue), **stages}
    table = Table("", "ms", "", box=None, pad_edge=True)
    table.columns[1].justify = "right"
    start = 0.0
    for name, each in rows.items():
        before, width = round(BAR_WIDTH * start / took), round(BAR_WIDTH * each / took)
        table.add_row(name, f"{each:.2f}", " " * before + ("█" * width or "▏"))
        start += each
    table.add_row("in all", f"{took:.2f}", "", style="bold")
    out.print(table)
    out.print(
        f"  {explained['program']} of version {explained['version']}, artifact "
        f"{explained['artifact'][:12]}…, in a run of {explained['batch']} "
        f"row{'s' if explained['batch'] != '1' else ''}",
        style="dim",
    )


def _table_of_predictions(ranked: list[dict[str, Any]]) -> Table:
    table = Table("", "label", "class", "probability", "", box=None, pad_edge=True)
    for column in (0, 2, 3):
        table.columns[column].justify = "right"
    for rank, one in enumerate(ranked, start=1):
        probability = float(one["probability"])
        table.add_row(
            str(rank),
            str(one["label"]),
            str(one["class_id"]),
            f"{probability:.1%}",
            "█" * round(probability * BAR_WIDTH),
        )
    return table


def _table_of_models(versions: "list[ModelVersion]") -> Table:
    table = Table("name", "version", "default", "workers ready", "batch size", "delay")
    for one in versions:
        table.add_row(
            one.name,
            one.version,
            "●" if one.default else "",
            f"{one.workers_ready} of {one.workers}",
            str(one.batch_size),
            f"{one.max_batch_delay_ms} ms",
        )
    return table


def _table_of_events(history: "Iterable[Event]") -> Table:
    table = Table("when", "what", "version", "default", "by", "archive", "because", box=None)
    for each in history:
        table.add_row(
            each.at,
            each.what,
            each.version,
            each.default or "–",
            each.by,
            each.digest[:12],
            each.because or "",
        )
    return table


def _now_in_words(name: str, release: "Release") -> str:
    if release.default is None:
        return f"No version of {name} is registered."
    if release.fallback is None:
        return f"The default of {name} is {release.default}; there is none to roll back to."
    return (
        f"The default of {name} is {release.default}; `shipway rollback {name}` leads to "
        f"{release.fallback}."
    )


def _print_differences(where: StateDirectory, names: list[str] | None = None) -> None:
    """Says what of the server, or of some models, is other than the file of releases has it."""
    from shipway.releases.history import read_releases
    from shipway.releases.rollout import differences, versions_on

    noted = read_releases(where).models
    with _management(where) as management:
        for name in names or sorted(noted.keys() | set(management.names())):
            for each in differences(name, noted.get(name), versions_on(management, name)):
                err.print(f"note: {each}", style="yellow")


def _table_of_versions(versions: "list[ModelVersion]", handlers: list[dict[str, Any]]) -> Table:
    """One column a version, as there are more facts than versions."""
    table = Table("", *(one.version for one in versions), title=versions[0].name)
    rows: dict[str, Callable[[ModelVersion], object]] = {
        "default": lambda one: "●" if one.default else "",
        "archive": lambda one: one.mar,
        "workers ready": lambda one: f"{one.workers_ready} of {one.workers}",
        "worker processes": lambda one: ", ".join(map(str, one.worker_pids)),
        "memory": lambda one: f"{one.memory_bytes / 2**20:.0f} MiB" if one.memory_bytes else "–",
        "device": lambda one: one.device,
        "batch size": lambda one: one.batch_size,
        "batch delay": lambda one: f"{one.max_batch_delay_ms} ms",
        "requests waiting": lambda one: one.requests_waiting,
        "response timeout": lambda one: f"{one.response_timeout_s} s",
        "startup timeout": lambda one: f"{one.startup_timeout_s} s",
    }
    for fact, of in rows.items():
        table.add_row(fact, *(str(of(one)) for one in versions))
    if not any(handlers):
        return table
    table.add_section()
    for fact in ("task", "program", "precision", "device", "threads", "fell_back_because"):
        if any(handler.get(fact) for handler in handlers):
            table.add_row(
                fact.replace("_", " "), *(str(each.get(fact) or "–") for each in handlers)
            )
    table.add_row("artifact", *(str(each.get("artifact", "–"))[:12] for each in handlers))
    for direction in ("inputs", "outputs"):
        tensors = (each.get("metadata", {}).get(direction, []) for each in handlers)
        table.add_row(direction, *("\n".join(map(_tensor_in_words, each)) for each in tensors))
    return table


def _tensor_in_words(tensor: dict[str, Any]) -> str:
    axes = ", ".join("any" if axis == -1 else str(axis) for axis in tensor["shape"])
    return f"{tensor['name']} {tensor['datatype']} ({axes})"


def _print_addresses(record: ServerRecord, state: StateDirectory) -> None:
    addresses = record.addresses
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("inference", addresses.inference, f"gRPC {addresses.grpc_inference}")
    table.add_row("management", addresses.management, f"gRPC {addresses.grpc_management}")
    table.add_row("metrics", f"{addresses.exporter or addresses.metrics}/metrics")
    table.add_row("tokens", str(state.key_file))
    table.add_row("logs", str(state.logs))
    out.print("TorchServe is ready.", style="green")
    out.print(table)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


@contextmanager
def _management(state: StateDirectory) -> "Iterator[ManagementClient]":
    from shipway.engines.torchserve.management import ManagementClient

    with closing(ManagementClient(state)) as client:
        yield client


def _inspect_mar(path: Path) -> "MarInfo":
    from shipway.archive.mar import inspect_mar

    return inspect_mar(path)
