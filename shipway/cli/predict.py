"""`shipway predict`."""

import mimetypes
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from shipway.cli.answers import print_answer
from shipway.cli.options import NameArgument, StateOption
from shipway.cli.output import err, json_text, out
from shipway.engines.errors import PredictionFailed
from shipway.engines.state import state_directory

if TYPE_CHECKING:
    from shipway.engines.torchserve.inference import Predictor

# Enough to fill several batches while others are being answered; far below job_queue_size.
REQUESTS_AT_ONCE = 16
MANY_FILES = 10


def predict(
    name: NameArgument,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            readable=True,
            help="The files to send, one request per file.",
            show_default=False,
        ),
    ],
    version: Annotated[
        str | None,
        typer.Option(
            help="The version to use. The default is the model's default version.",
            show_default=False,
        ),
    ] = None,
    grpc: Annotated[bool, typer.Option("--grpc", help="Send the requests over gRPC.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line, for scripts.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show how long each stage of each request took.")
    ] = False,
    state: StateOption = None,
) -> None:
    """Send files to a model and print the predictions."""
    # httpx takes half a second to import.
    from shipway.engines.torchserve.inference import GrpcPredictor, HttpPredictor

    if grpc and explain:
        raise typer.BadParameter(
            "--explain does not work with --grpc, because the times are in HTTP headers. "
            "Remove one of them.",
            param_hint="--explain",
        )
    where = state_directory(state)
    predictor: Predictor = GrpcPredictor(where) if grpc else HttpPredictor(where)
    failures = 0
    with closing(predictor):
        answers = _send_all(predictor, name, files, version, explain)
        for answer in _with_progress(answers, len(files)):
            failures += "error" in answer
            if as_json:
                print(json_text(answer), flush=True)
            else:
                print_answer(answer)
    if failures:
        raise typer.Exit(1)


def _send_all(
    predictor: "Predictor", name: str, files: list[Path], version: str | None, explain: bool
) -> Iterator[dict[str, Any]]:
    """Yields an answer per file, in order. All are sent together, so the server can batch them."""
    # httpx takes half a second to import.
    from shipway.engines.torchserve.inference import HttpPredictor

    def send(file: Path) -> dict[str, Any]:
        content_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        body = file.read_bytes()
        try:
            if explain and isinstance(predictor, HttpPredictor):
                explained = predictor.explain(
                    name, body, version=version, content_type=content_type
                )
                times = asdict(explained)
                return {"file": str(file), "predictions": times.pop("value"), "explained": times}
            predictions = predictor.predict(name, body, version=version, content_type=content_type)
        except PredictionFailed as error:
            details = {"code": error.code, "type": error.type, "message": str(error)}
            return {"file": str(file), "error": details}
        return {"file": str(file), "predictions": predictions}

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        yield from pool.map(send, files)


def _with_progress(answers: Iterable[dict[str, Any]], total: int) -> Iterator[dict[str, Any]]:
    # On a terminal that shows the answers, they are the progress.
    if total < MANY_FILES or out.is_terminal or not err.is_terminal:
        yield from answers
        return
    with Progress(console=err, transient=True, redirect_stdout=False) as progress:
        yield from progress.track(answers, total=total, description="Predicting")
