"""What is sent: given files, or examples of the model's task."""

import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shipway.loadtest.errors import NoInput
from shipway.loadtest.load_test import Input
from shipway.tasks import TASKS, demo_inputs
from shipway.tasks.base import Example


def from_files(paths: Sequence[Path]) -> tuple[Input, ...]:
    """Each file, and each in a folder, is the body of a request. Raises NoInput."""
    files = [
        file
        for path in paths
        for file in (sorted(path.iterdir()) if path.is_dir() else [path])
        if not (path.is_dir() and (file.is_dir() or file.name.startswith(".")))
    ]
    if not files:
        raise NoInput(
            f"There is no file in {', '.join(map(str, paths))}. Name others with --input."
        )
    return tuple(map(_from_file, files))


def _from_file(path: Path) -> Input:
    try:
        body = path.read_bytes()
    except OSError as error:
        raise NoInput(f"{path} cannot be read: {error.strerror}. Name another with --input.") from (
            error
        )
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Input(name=path.name, content_type=kind, body=body)


def photos() -> tuple[Input, ...]:
    """Real photos as JPEG files; none where the packages that bring them are not installed."""
    return _as_inputs(demo_inputs.photos())


def texts() -> tuple[Input, ...]:
    """Sentences; none where the package that brings them is not installed."""
    return _as_inputs(demo_inputs.texts())


def for_task(task: str, tensors: Sequence[Mapping[str, Any]]) -> tuple[Input, ...]:
    """What suits a model. `tensors` are its inputs as the Open Inference Protocol describes them.

    Raises NoInput for one that nothing here is for.
    """
    known = task in TASKS.names()
    found = _as_inputs(TASKS.get(task).examples(tensors)) if known else ()
    if not found:
        raise NoInput(
            f"There are no examples for a model of the task {task}. Name files with --input."
        )
    return found


def _as_inputs(examples: Iterable[Example]) -> tuple[Input, ...]:
    return tuple(
        Input(name=each.name, content_type=each.content_type, body=each.body) for each in examples
    )
